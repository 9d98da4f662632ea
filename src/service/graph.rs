//! From checked configuration to what runs: exporters, stages, and the pipelines between them.

use super::{
    Blueprint, StartError,
    batch::Batches,
    observe::{Measured, MeasuredStage, Sampler, Watcher, sample_queue},
    registry::{Exporter, Processor},
};
use crate::{
    config::{self, ComponentId, ConfigError},
    exporter::{Surroundings, debug, file, nop, otlp_grpc, otlp_http},
    otlp::{Bounds, Signal},
    pipeline::{Destination, Gateway, Pipeline, Stage},
    processor::{identity::Identity, mask::Mask, memory_limiter::MemoryLimiter},
    telemetry::{ExporterMetrics, Health, PipelineMetrics},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// An exporter that runs, and what shows its queue to the metrics.
#[derive(Clone)]
pub struct RunningExporter {
    pub destination: Arc<dyn Destination>,
    _sampler: Arc<Sampler>,
}

impl RunningExporter {
    /// Starts `exporters::<id>`. Must be called within a Tokio runtime.
    pub fn start(
        id: &ComponentId,
        config: &Exporter,
        blueprint: &Blueprint,
        health: &Health,
    ) -> Result<RunningExporter, ConfigError> {
        let name = id.to_string();
        let carrying = blueprint.layout.pipelines.iter().filter(|pipeline| pipeline.exporters.contains(id));
        let signals: BTreeSet<Signal> = carrying.map(|pipeline| pipeline.id.signal).collect();
        let metrics = ExporterMetrics::new(&name, &signals.into_iter().collect::<Vec<_>>());
        let watcher = Arc::new(Watcher { metrics: metrics.clone(), health: health.clone(), id: name.clone() });
        let authenticators = blueprint.authenticators.clone();
        let surroundings = || Surroundings { authenticators, ..Surroundings::of_process() };
        let destination: Arc<dyn Destination> = match config {
            Exporter::Debug(config) => debug::start(&name, config, watcher),
            Exporter::File(config) => file::start(&name, config, watcher),
            Exporter::Nop(config) => Ok(nop::start(&name, config, watcher)),
            Exporter::OtlpGrpc(config) => otlp_grpc::start_within(&name, config, &surroundings(), watcher),
            Exporter::OtlpHttp(config) => otlp_http::start_within(&name, config, &surroundings(), watcher),
        }
        .map_err(|error| error.under(&["exporters", &name]))?;
        let measured = Arc::new(Measured { destination, metrics: metrics.clone() });
        let sampler = Sampler::start(sample_queue(measured.clone(), metrics));
        Ok(RunningExporter { destination: measured, _sampler: Arc::new(sampler) })
    }
}

/// The processors of a configuration, shared by the pipelines that name them.
pub struct Processors {
    stages: BTreeMap<ComponentId, Arc<dyn Stage>>,
    batches: Batches,
}

/// One stage per configured processor.
pub fn processors(blueprint: &Blueprint) -> Result<Processors, StartError> {
    let batches = Batches::new(blueprint)?;
    let mut stages: BTreeMap<ComponentId, Arc<dyn Stage>> = BTreeMap::new();
    for (id, config) in &blueprint.processors {
        let name = id.to_string();
        let stage: Arc<dyn Stage> = match config {
            Processor::Batch(_) => match batches.stage(id) {
                Some(stage) => stage,
                None => continue,
            },
            Processor::MemoryLimiter(config) => Arc::new(
                MemoryLimiter::new(&name, config)
                    .map_err(|error| ConfigError::at(&["processors", &name], error.to_string()))?,
            ),
            Processor::Identity(config) => Arc::new(Identity::new(&name, config.clone())),
            Processor::Mask(config) => Arc::new(Mask::new(&name, *config)),
        };
        stages.insert(id.clone(), stage);
    }
    Ok(Processors { stages, batches })
}

/// The pipelines, each with its configuration.
pub struct Pipelines(Vec<(config::Pipeline, Arc<Pipeline>)>);

impl Pipelines {
    /// Connects stages and exporters as the blueprint says.
    pub fn connect(
        blueprint: &Blueprint,
        processors: &Processors,
        exporters: &BTreeMap<ComponentId, RunningExporter>,
    ) -> Pipelines {
        let destination = |id| exporters.get(id).map(|exporter| exporter.destination.clone());
        let connected = blueprint.layout.pipelines.iter().map(|pipeline| {
            let (id, signal) = (pipeline.id.to_string(), pipeline.id.signal);
            let stages = pipeline.processors.iter().filter_map(|id| processors.stages.get(id).cloned());
            let stages = stages.map(|stage| MeasuredStage::around(stage, &id, signal)).collect();
            let destinations = pipeline.exporters.iter().filter_map(destination);
            let destinations = processors.batches.in_front_of(pipeline, destinations);
            (pipeline.clone(), Arc::new(Pipeline { id, stages, destinations }))
        });
        Pipelines(connected.collect())
    }

    /// Whether a pipeline names the receiver with this id.
    pub fn feeds(&self, receiver: &ComponentId) -> bool {
        self.0.iter().any(|(layout, _)| layout.receivers.contains(receiver))
    }

    /// What the receiver with this id hands its requests to; `None` if no pipeline names it.
    pub fn fed_by(&self, receiver: &ComponentId) -> Option<Gateway> {
        let fed: Vec<_> = self.0.iter().filter(|(layout, _)| layout.receivers.contains(receiver)).collect();
        let by_signal = fed.iter().map(|(layout, pipeline)| (layout.id.signal, pipeline.clone()));
        (!fed.is_empty()).then(|| Gateway::new(&receiver.to_string(), by_signal, Bounds::default()))
    }
}

/// Shows which pipelines mask, as long as what is returned is held.
#[must_use = "series that nobody holds are forgotten at the next reload"]
pub fn record_enforcement(blueprint: &Blueprint) -> Vec<PipelineMetrics> {
    let record = |pipeline: &config::Pipeline| {
        let metrics = PipelineMetrics::new(&pipeline.id.to_string());
        metrics.enforced(blueprint.enforces(pipeline));
        metrics
    };
    blueprint.layout.pipelines.iter().map(record).collect()
}
