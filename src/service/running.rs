//! A running service: started exporters first and receivers last, reloaded without losing a listener or a request,
//! stopped the other way round.

use super::{
    Blueprint, StartError,
    graph::{self, Pipelines, RunningExporter},
    observe::{Sampler, rejections, sample_intake},
    ports::{self, Listening, Port, Readers},
    registry::Extension,
    retire::{Retired, drain_exporters, drain_receivers},
    switch::Switch,
};
use crate::{
    config::{self, ComponentId, Section},
    detect::Engine,
    net::Address,
    pipeline::{Destination, Gateway},
    receiver::{self, Receiver},
    telemetry::{Health, PipelineMetrics, prometheus, recorders, zpages},
};
use arc_swap::ArcSwap;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// Of the time to stop, the receivers' share: what is in hand is answered before the queues are emptied.
const RECEIVERS_SHARE: f64 = 0.5;

/// Reloads whose replaced parts may empty their queues at one time: each keeps its memory that long.
const MAX_RETIRING: usize = 2;

/// Where a running service listens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// OTLP over gRPC, of the first receiver that has it.
    pub grpc: Option<SocketAddr>,
    /// OTLP over HTTP, of the first receiver that has it.
    pub http: Option<SocketAddr>,
    /// Prometheus metrics.
    pub metrics: Option<SocketAddr>,
    /// Health, of the first such extension.
    pub health: Option<SocketAddr>,
    /// The pages of `zpages`, of the first such extension.
    pub zpages: Option<SocketAddr>,
}

/// Running pipelines.
pub struct Service {
    /// The configuration in force.
    blueprint: Option<Blueprint>,
    receivers: BTreeMap<ComponentId, RunningReceiver>,
    exporters: BTreeMap<ComponentId, RunningExporter>,
    extensions: BTreeMap<ComponentId, Port>,
    metrics: Readers,
    health: Health,
    /// What `zpages` shows.
    shown: Arc<ArcSwap<zpages::Running>>,
    /// Held, so that the metrics go on showing which pipelines mask.
    enforcement: Vec<PipelineMetrics>,
    /// What reloads replaced, until it has sent what it had; each answers the items it gave up.
    retiring: JoinSet<u64>,
    /// Items that those of them gave up that have ended.
    given_up: u64,
}

/// A receiver, and what it hands its requests to.
struct RunningReceiver {
    receiver: Receiver,
    switch: Arc<Switch>,
    _sampler: Sampler,
}

/// What a new configuration needs beyond what runs: started or bound, not in use yet. Dropping it undoes it.
struct Prepared {
    exporters: BTreeMap<ComponentId, RunningExporter>,
    pipelines: Pipelines,
    receivers: Vec<(ComponentId, receiver::Bound)>,
    extensions: Vec<(ComponentId, Listening, Extension)>,
}

impl Service {
    /// Starts everything a blueprint asks for. When this returns, every address is bound.
    ///
    /// # Errors
    /// [`StartError`]; what was started by then ends.
    pub async fn start(blueprint: Blueprint) -> Result<Service, StartError> {
        let health = Health::new();
        let mut service = Service {
            metrics: ports::metrics(&blueprint.telemetry, &health).await?,
            blueprint: None,
            receivers: BTreeMap::new(),
            exporters: BTreeMap::new(),
            extensions: BTreeMap::new(),
            health,
            shown: Arc::default(),
            enforcement: Vec::new(),
            retiring: JoinSet::new(),
            given_up: 0,
        };
        service.put_in_force(blueprint).await?;
        service.health.ready();
        service.announce("Everything is ready. Begin running and processing data.");
        Ok(service)
    }

    /// Puts another configuration in force. Ports, queues and connections whose configuration is the same stay; what
    /// is new is started before anything changes; what goes answers its requests and sends its queue in the
    /// background. On an error everything runs on as it did.
    ///
    /// # Errors
    /// [`StartError`] if something of the new configuration cannot start.
    pub async fn reload(&mut self, next: Blueprint) -> Result<(), StartError> {
        if self.blueprint.as_ref().is_some_and(|now| now.telemetry != next.telemetry) {
            tracing::warn!("service::telemetry: what changed there takes effect at the next start");
        }
        self.retire_some().await;
        self.put_in_force(next).await?;
        recorders::config_reloaded(true);
        self.announce("The new configuration is in force.");
        Ok(())
    }

    /// Waits until few enough of what earlier reloads replaced is left: queues full for a backend that is away would
    /// otherwise add up.
    async fn retire_some(&mut self) {
        while let Some(ended) = self.retiring.try_join_next() {
            self.given_up += ended.unwrap_or_default();
        }
        while self.retiring.len() >= MAX_RETIRING {
            tracing::info!("the new configuration waits until what earlier ones replaced has sent what it has");
            let ended = self.retiring.join_next().await.and_then(Result::ok);
            self.given_up += ended.unwrap_or_default();
        }
    }

    async fn put_in_force(&mut self, next: Blueprint) -> Result<(), StartError> {
        next.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let prepared = self.prepare(&next).await?;
        self.enforcement = graph::record_enforcement(&next);
        self.shown.store(Arc::new(running(&next)));
        let retired = self.exchange(&next, prepared).await;
        self.blueprint = Some(next);
        self.retiring.spawn(async move {
            let given_up = retired.drain().await;
            prometheus::forget_unused();
            given_up
        });
        Ok(())
    }

    /// Starts and binds what `next` has and the running configuration has not, or has otherwise.
    async fn prepare(&self, next: &Blueprint) -> Result<Prepared, StartError> {
        let stays = |section: Section, id: &ComponentId| {
            self.blueprint.as_ref().is_some_and(|now| now.has_same(next, section, id))
        };
        next.authenticators.start()?;
        let mut exporters = BTreeMap::new();
        // Exporters that a pipeline uses; what is only configured does not run.
        for id in next.layout.pipelines.iter().flat_map(|pipeline| &pipeline.exporters) {
            let running = self.exporters.get(id).filter(|_| stays(Section::Exporters, id)).cloned();
            let exporter = match (running, next.exporters.get(id)) {
                (Some(running), _) => running,
                (None, Some(config)) if !exporters.contains_key(id) => {
                    RunningExporter::start(id, config, next, &self.health)?
                }
                _ => continue,
            };
            exporters.insert(id.clone(), exporter);
        }
        let pipelines = Pipelines::connect(next, &graph::processors(next)?, &exporters);
        let running: Vec<&Receiver> = self.receivers.values().map(|running| &running.receiver).collect();
        let mut receivers = Vec::new();
        for (id, settings) in &next.receivers {
            let kept = self.receivers.contains_key(id) && stays(Section::Receivers, id);
            if !kept && pipelines.feeds(id) {
                receivers.push((id.clone(), Receiver::bind(&id.to_string(), settings, &running).await?));
            }
        }
        let mut extensions = Vec::new();
        for (id, extension) in &next.extensions {
            if !(self.extensions.contains_key(id) && stays(Section::Extensions, id)) {
                let path = format!("extensions::{id}::endpoint");
                let listening = Listening::bind(&path, extension.endpoint(), self.extensions.values()).await?;
                let listening = listening.speaking(extension.tls(), &["extensions", &id.to_string()])?;
                extensions.push((id.clone(), listening, extension.clone()));
            }
        }
        Ok(Prepared { exporters, pipelines, receivers, extensions })
    }

    /// Puts what was prepared to use, and answers what is in use no more.
    async fn exchange(&mut self, next: &Blueprint, prepared: Prepared) -> Retired {
        let Prepared { exporters, pipelines, receivers, extensions } = prepared;
        let mut retired = Retired::default();

        let mut bound: BTreeMap<_, _> = receivers.into_iter().collect();
        let mut before = std::mem::take(&mut self.receivers);
        for id in next.receivers.keys() {
            let Some(gateway) = pipelines.fed_by(id) else { continue };
            let running = match (bound.remove(id), before.remove(id)) {
                (Some(bound), replaced) => {
                    retired.receivers.extend(replaced.map(|running| running.receiver));
                    RunningReceiver::serve(bound, gateway)
                }
                (None, Some(running)) => {
                    retired.gateways.push(running.switch.to(gateway));
                    running
                }
                // Every receiver that a pipeline names was bound or ran before.
                (None, None) => continue,
            };
            self.receivers.insert(id.clone(), running);
        }
        retired.receivers.extend(before.into_values().map(|running| running.receiver));

        let in_use = |old: &RunningExporter| {
            exporters.values().any(|exporter| Arc::ptr_eq(&exporter.destination, &old.destination))
        };
        let replaced = self.exporters.values().filter(|old| !in_use(old));
        retired.exporters.extend(replaced.map(|old| old.destination.clone()));
        self.exporters = exporters;

        let gone: Vec<_> = self.extensions.keys().filter(|id| !next.extensions.contains_key(id)).cloned().collect();
        retired.ports.extend(gone.iter().filter_map(|id| self.extensions.remove(id)));
        for (id, listening, extension) in extensions {
            let port = extension.serve(listening, &self.health, &self.shown);
            retired.ports.extend(self.extensions.insert(id, port));
        }
        retired
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        let receivers = || self.receivers.values().map(|running| &running.receiver);
        Addresses {
            grpc: receivers().find_map(Receiver::grpc_address),
            http: receivers().find_map(Receiver::http_address),
            metrics: self.metrics.ports.first().map(Port::address),
            health: self.address_of(|extension| matches!(extension, Extension::HealthCheck(_))),
            zpages: self.address_of(|extension| matches!(extension, Extension::Zpages(_))),
        }
    }

    /// Where the first extension of a kind listens.
    fn address_of(&self, kind: impl Fn(&Extension) -> bool) -> Option<SocketAddr> {
        let extensions = &self.blueprint.as_ref()?.extensions;
        let (id, _) = extensions.iter().find(|(_, extension)| kind(extension))?;
        self.extensions.get(id).map(Port::address)
    }

    /// What waits in the queues; keeps telling while the service drains.
    pub fn backlog(&self) -> Backlog {
        Backlog(self.exporters.values().map(|exporter| exporter.destination.clone()).collect())
    }

    /// Stops: not ready, no new requests, requests in hand answered, queues emptied. Takes at most `patience`; answers
    /// how many items were given up.
    pub async fn drain(mut self, patience: Duration) -> u64 {
        let deadline = Instant::now() + patience;
        self.health.draining();
        // What waits for room or for others to be batched with would hold up its answer, and so its receiver.
        self.exporters.values().for_each(|exporter| exporter.destination.stop_waiting());
        let receivers = self.receivers.into_values().map(|running| running.receiver);
        drain_receivers(receivers, Instant::now() + patience.mul_f64(RECEIVERS_SHARE)).await;
        let exporters = self.exporters.into_values().map(|exporter| exporter.destination);
        let mut given_up = self.given_up + drain_exporters(exporters, deadline).await;
        let retired = async {
            while let Some(more) = self.retiring.join_next().await {
                given_up += more.unwrap_or_default();
            }
        };
        let _too_slow = tokio::time::timeout_at(deadline.into(), retired).await;
        for port in self.extensions.into_values() {
            port.close().await;
        }
        self.metrics.close().await;
        given_up
    }

    /// Says what is in force, and then `line`, which scripts wait for.
    fn announce(&self, line: &str) {
        let Some(blueprint) = &self.blueprint else { return };
        let names = |ids: &[ComponentId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let (mut masked, mut unmasked) = (Vec::new(), Vec::new());
        for pipeline in &blueprint.layout.pipelines {
            let id = pipeline.id.to_string();
            let (receivers, processors, exporters) =
                (names(&pipeline.receivers), names(&pipeline.processors), names(&pipeline.exporters));
            if blueprint.enforces(pipeline) {
                tracing::info!(receivers, processors, exporters, "pipeline {id}");
                masked.push(id);
            } else {
                tracing::warn!(receivers, processors, exporters, "pipeline {id} does not mask: secrets pass unchanged");
                unmasked.push(id);
            }
        }
        let address = |address: Option<SocketAddr>| address.map_or("off".to_owned(), |address| address.to_string());
        let Addresses { metrics, health, zpages, .. } = self.addresses();
        let receivers = || self.receivers.values().map(|running| &running.receiver);
        let listens = |found: Option<&Address>| found.map_or("off".to_owned(), ToString::to_string);
        tracing::info!(
            grpc = listens(receivers().find_map(Receiver::grpc)),
            http = listens(receivers().find_map(Receiver::http)),
            metrics = address(metrics),
            health = address(health),
            zpages = address(zpages),
            masked = masked.join(", "),
            unmasked = if unmasked.is_empty() { "none".to_owned() } else { unmasked.join(", ") },
            rules = Engine::builtin().rules().len(),
            "{line}"
        );
    }
}

impl RunningReceiver {
    fn serve(bound: receiver::Bound, gateway: Gateway) -> RunningReceiver {
        let switch = Arc::new(Switch::new(gateway));
        let id = bound.id().to_owned();
        let receiver = bound.serve(switch.clone(), rejections(&id));
        let sampler = Sampler::start(sample_intake(id, receiver.budget().clone()));
        RunningReceiver { receiver, switch, _sampler: sampler }
    }
}

/// What `zpages` shows.
fn running(blueprint: &Blueprint) -> zpages::Running {
    let names = |ids: &[ComponentId]| ids.iter().map(ToString::to_string).collect();
    let row = |pipeline: &config::Pipeline| zpages::PipelineRow {
        id: pipeline.id.to_string(),
        masks: blueprint.enforces(pipeline),
        receivers: names(&pipeline.receivers),
        processors: names(&pipeline.processors),
        exporters: names(&pipeline.exporters),
    };
    zpages::Running {
        facts: vec![
            ("Version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("Rules".to_owned(), Engine::builtin().rules().len().to_string()),
        ],
        pipelines: blueprint.layout.pipelines.iter().map(row).collect(),
        extensions: names(&blueprint.layout.service_extensions),
    }
}

/// What waits in the queues of a service.
pub struct Backlog(Vec<Arc<dyn Destination>>);

impl Backlog {
    /// Spans, log records and metric data points that wait, are being sent or will be sent again, over all exporters.
    pub fn items(&self) -> u64 {
        self.0.iter().map(|destination| destination.left()).sum()
    }
}
