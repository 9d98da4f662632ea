//! Running pipelines: started exporters first and receivers last, stopped the other way round.

use super::{
    Blueprint,
    observe::{Measured, Watcher, sample_queue},
    registry::{Exporter, Processor},
};
use crate::{
    config::{self, ComponentId, ConfigError},
    detect::Engine,
    exporter::{debug, file, nop, otlp_grpc, otlp_http},
    otlp::{Bounds, Signal},
    pipeline::{Destination, Gateway, Pipeline, Stage, Transport},
    processor::{identity::Identity, mask::Mask, memory_limiter::MemoryLimiter},
    receiver::{self, Receiver},
    telemetry::{
        ExporterMetrics, Health, PipelineMetrics, Prometheus, Telemetry, health, prometheus, settings::MetricsLevel,
    },
};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

/// Of the time to stop, the receivers' share: what is in hand is answered before the queues are emptied.
const RECEIVERS_SHARE: f64 = 0.5;

/// Why a checked configuration did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A component cannot be made from its configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A receiver cannot listen.
    #[error(transparent)]
    Receiver(#[from] receiver::StartError),
    /// Metrics cannot be recorded.
    #[error(transparent)]
    Metrics(#[from] prometheus::InstallError),
    /// An address of tracegate's own cannot be listened on.
    #[error("{path}: cannot listen on {endpoint}: {cause}; {advice}")]
    Bind {
        /// Where it is configured.
        path: String,
        /// The address.
        endpoint: String,
        /// What the system says.
        cause: std::io::Error,
        /// What to do.
        advice: &'static str,
    },
}

/// Where a running service listens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// OTLP over gRPC, of the first receiver that has it.
    pub grpc: Option<SocketAddr>,
    /// OTLP over HTTP, of the first receiver that has it.
    pub http: Option<SocketAddr>,
    /// Prometheus metrics.
    pub metrics: Option<SocketAddr>,
    /// Health.
    pub health: Option<SocketAddr>,
}

/// Running pipelines.
pub struct Service {
    receivers: Vec<Receiver>,
    destinations: BTreeMap<ComponentId, Arc<dyn Destination>>,
    health: Health,
    addresses: Addresses,
    /// Servers and samplers of tracegate's own; they end when the sender goes.
    background: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Service {
    /// Starts everything a blueprint asks for. When this returns, every address is bound.
    ///
    /// # Errors
    /// [`StartError`]; what was started by then ends.
    pub async fn start(blueprint: Blueprint) -> Result<Service, StartError> {
        let mut service = Service {
            receivers: Vec::new(),
            destinations: BTreeMap::new(),
            health: Health::new(),
            addresses: Addresses::default(),
            background: JoinSet::new(),
            stop: watch::Sender::new(false),
        };
        blueprint.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        service.serve_metrics(&blueprint).await?;
        service.serve_health(&blueprint).await?;
        service.start_exporters(&blueprint)?;
        let stages = stages(&blueprint)?;
        let pipelines = service.pipelines(&blueprint, &stages);
        service.start_receivers(&blueprint, &pipelines).await?;
        service.health.ready();
        service.announce(&blueprint);
        Ok(service)
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Stops: not ready, no new requests, requests in hand answered, queues emptied. Takes at most `patience`; answers
    /// how many items were given up.
    pub async fn drain(mut self, patience: Duration) -> u64 {
        let deadline = Instant::now() + patience;
        let receivers_deadline = Instant::now() + patience.mul_f64(RECEIVERS_SHARE);
        self.health.draining();
        let mut receivers = JoinSet::new();
        for receiver in std::mem::take(&mut self.receivers) {
            receivers.spawn(receiver.drain(receivers_deadline.into()));
        }
        while receivers.join_next().await.is_some() {}
        let mut exporters = JoinSet::new();
        for destination in std::mem::take(&mut self.destinations).into_values() {
            exporters.spawn(async move { (destination.drain(deadline).await, destination.id().to_owned()) });
        }
        let mut given_up = 0;
        while let Some(drained) = exporters.join_next().await {
            let Ok((items, exporter)) = drained else { continue };
            if items > 0 {
                tracing::error!(%exporter, items, "not delivered before the deadline and lost");
            }
            given_up += items;
        }
        self.stop.send_replace(true);
        self.background.shutdown().await;
        given_up
    }

    async fn serve_metrics(&mut self, blueprint: &Blueprint) -> Result<(), StartError> {
        let Telemetry { metrics, resource, .. } = &blueprint.telemetry;
        if metrics.level == MetricsLevel::None {
            return Ok(());
        }
        let recorded = Prometheus::install(&resource.over([
            ("service.name", env!("CARGO_PKG_NAME").to_owned()),
            ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
            ("service.instance.id", instance_id()),
        ]))?;
        for reader in &metrics.readers {
            let (listener, address) = listen("service::telemetry::metrics::readers", &reader.endpoint()).await?;
            self.addresses.metrics.get_or_insert(address);
            let (recorded, stopped, guard) = (recorded.clone(), self.stopped(), self.health.guard("metrics"));
            self.background.spawn(async move {
                recorded.serve(listener, stopped).await;
                guard.finished();
            });
        }
        Ok(())
    }

    async fn serve_health(&mut self, blueprint: &Blueprint) -> Result<(), StartError> {
        let Some(config) = blueprint.health.clone() else { return Ok(()) };
        let (listener, address) = listen("extensions::health_check::endpoint", &config.endpoint).await?;
        self.addresses.health = Some(address);
        let (health, stopped) = (self.health.clone(), self.stopped());
        let guard = self.health.guard("health_check");
        self.background.spawn(async move {
            health::serve(listener, &config, health, stopped).await;
            guard.finished();
        });
        Ok(())
    }

    /// Exporters that a pipeline uses; what is only configured does not run.
    fn start_exporters(&mut self, blueprint: &Blueprint) -> Result<(), StartError> {
        let used = blueprint.layout.pipelines.iter().flat_map(|pipeline| &pipeline.exporters);
        for id in used {
            let (false, Some(config)) = (self.destinations.contains_key(id), blueprint.exporters.get(id)) else {
                continue;
            };
            let name = id.to_string();
            let metrics = ExporterMetrics::new(&name);
            let watcher = Arc::new(Watcher { metrics: metrics.clone(), health: self.health.clone(), id: name.clone() });
            let path = ["exporters", &name];
            let destination: Arc<dyn Destination> = match config {
                Exporter::Debug(config) => debug::start(&name, config, watcher),
                Exporter::File(config) => file::start(&name, config, watcher),
                Exporter::Nop(config) => Ok(nop::start(&name, config, watcher)),
                Exporter::OtlpGrpc(config) => otlp_grpc::start(&name, config, watcher),
                Exporter::OtlpHttp(config) => otlp_http::start(&name, config, watcher),
            }
            .map_err(|error| error.under(&path))?;
            let measured = Measured { destination, metrics };
            self.background.spawn(sample_queue(measured.destination.clone(), measured.metrics.clone(), self.stopped()));
            self.destinations.insert(id.clone(), Arc::new(measured));
        }
        Ok(())
    }

    fn pipelines(
        &self,
        blueprint: &Blueprint,
        stages: &BTreeMap<ComponentId, Arc<dyn Stage>>,
    ) -> Vec<(config::Pipeline, Arc<Pipeline>)> {
        let pipelines = blueprint.layout.pipelines.iter();
        let built = pipelines.map(|pipeline| {
            let stages = pipeline.processors.iter().filter_map(|id| stages.get(id).cloned()).collect();
            let destinations = pipeline.exporters.iter().filter_map(|id| self.destinations.get(id).cloned()).collect();
            let id = pipeline.id.to_string();
            PipelineMetrics::new(&id).enforced(blueprint.enforces(pipeline));
            (pipeline.clone(), Arc::new(Pipeline { id, stages, destinations }))
        });
        built.collect()
    }

    async fn start_receivers(
        &mut self,
        blueprint: &Blueprint,
        pipelines: &[(config::Pipeline, Arc<Pipeline>)],
    ) -> Result<(), StartError> {
        for (id, settings) in &blueprint.receivers {
            let fed = pipelines.iter().filter(|(layout, _)| layout.receivers.contains(id));
            let fed: Vec<_> = fed.map(|(layout, pipeline)| (signal(layout.id.signal), pipeline.clone())).collect();
            if fed.is_empty() {
                continue;
            }
            let name = id.to_string();
            let gateway = Arc::new(Gateway::new(&name, fed, Bounds::default()));
            let observer = Arc::new(move |signal: Signal, transport: Transport, why: receiver::Rejected| {
                tracing::debug!(
                    signal = signal.name(),
                    transport = transport.name(),
                    why = why.name(),
                    "request rejected"
                );
            });
            let receiver = Receiver::start(&name, settings, gateway, observer).await?;
            self.addresses.grpc = self.addresses.grpc.or(receiver.grpc_address());
            self.addresses.http = self.addresses.http.or(receiver.http_address());
            self.receivers.push(receiver);
        }
        Ok(())
    }

    /// Says what is in force, and then the line that scripts wait for.
    fn announce(&self, blueprint: &Blueprint) {
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
        tracing::info!(
            grpc = address(self.addresses.grpc),
            http = address(self.addresses.http),
            metrics = address(self.addresses.metrics),
            health = address(self.addresses.health),
            masked = masked.join(", "),
            unmasked = if unmasked.is_empty() { "none".to_owned() } else { unmasked.join(", ") },
            rules = Engine::builtin().rules().len(),
            "Everything is ready. Begin running and processing data."
        );
    }

    /// Resolves when the service stops.
    fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stop = self.stop.subscribe();
        async move {
            // An error means the service itself is gone, which is a stop as well.
            let _ = stop.wait_for(|stopped| *stopped).await;
        }
    }
}

/// One stage per configured processor, shared by the pipelines that name it.
fn stages(blueprint: &Blueprint) -> Result<BTreeMap<ComponentId, Arc<dyn Stage>>, StartError> {
    let mut stages: BTreeMap<ComponentId, Arc<dyn Stage>> = BTreeMap::new();
    for (id, config) in &blueprint.processors {
        let name = id.to_string();
        let stage: Arc<dyn Stage> = match config {
            Processor::MemoryLimiter(config) => Arc::new(
                MemoryLimiter::new(&name, config)
                    .map_err(|error| ConfigError::at(&["processors", &name], error.to_string()))?,
            ),
            Processor::Identity(config) => Arc::new(Identity::new(&name, config.clone())),
            Processor::Mask(config) => Arc::new(Mask::new(&name, *config)),
        };
        stages.insert(id.clone(), stage);
    }
    Ok(stages)
}

fn signal(signal: config::Signal) -> Signal {
    match signal {
        config::Signal::Traces => Signal::Traces,
        config::Signal::Logs => Signal::Logs,
        config::Signal::Metrics => Signal::Metrics,
    }
}

/// Tells this process from its siblings in metrics; new at every start, as in the Collector.
fn instance_id() -> String {
    let id: u128 = rand::random();
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        (id >> 96) as u32,
        (id >> 80) as u16,
        (id >> 64) as u16 & 0xfff,
        (id >> 48) as u16 & 0x3fff | 0x8000,
        id as u64 & 0xffff_ffff_ffff
    )
}

async fn listen(path: &str, endpoint: &str) -> Result<(TcpListener, SocketAddr), StartError> {
    let bound = async {
        let listener = TcpListener::bind(endpoint).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound.await.map_err(|cause: std::io::Error| StartError::Bind {
        path: path.to_owned(),
        endpoint: endpoint.to_owned(),
        advice: match cause.kind() {
            std::io::ErrorKind::AddrInUse => "stop the program that uses the port, or set another one",
            _ => "set it to host:port, such as 127.0.0.1:8888",
        },
        cause,
    })
}
