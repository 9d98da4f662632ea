//! The `batch` processors of a configuration, and their places in front of exporters.

use super::{Blueprint, StartError, registry::Processor};
use crate::{
    config::{ComponentId, ConfigError, Pipeline},
    pipeline::{Destination, Stage},
    processor::batch::Batch,
};
use std::{collections::BTreeMap, sync::Arc};

/// Every `batch` processor, by its id.
pub struct Batches(BTreeMap<ComponentId, Arc<Batch>>);

impl Batches {
    /// Makes those the blueprint configures.
    ///
    /// # Errors
    /// [`StartError::Config`] for one that cannot be made.
    pub fn new(blueprint: &Blueprint) -> Result<Batches, StartError> {
        let mut batches = BTreeMap::new();
        for (id, config) in &blueprint.processors {
            if let Processor::Batch(config) = config {
                let name = id.to_string();
                let batch = Batch::new(&name, config)
                    .map_err(|error| ConfigError::at(&["processors", &name], error.to_string()))?;
                batches.insert(id.clone(), Arc::new(batch));
            }
        }
        Ok(Batches(batches))
    }

    /// What a pipeline that names it runs as a stage.
    pub fn stage(&self, id: &ComponentId) -> Option<Arc<dyn Stage>> {
        self.0.get(id).map(|batch| batch.clone() as Arc<dyn Stage>)
    }

    /// The exporters of a pipeline behind its `batch` processors, of which the first named stands in front.
    pub fn in_front_of(
        &self,
        pipeline: &Pipeline,
        exporters: impl Iterator<Item = Arc<dyn Destination>>,
    ) -> Vec<Arc<dyn Destination>> {
        let named: Vec<&Arc<Batch>> = pipeline.processors.iter().filter_map(|id| self.0.get(id)).collect();
        let behind = |(position, exporter): (usize, Arc<dyn Destination>)| {
            named.iter().rev().fold(exporter, |exporter, batch| batch.in_front_of(exporter, position == 0))
        };
        exporters.enumerate().map(behind).collect()
    }
}
