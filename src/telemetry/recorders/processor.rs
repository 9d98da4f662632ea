//! What processors record: every stage alike, and the memory limiter, batches and masking what only they know.

use super::{Flow, ItemCounters, Outcome, counter, gauge, histogram, labels};
use crate::{
    otlp::Signal,
    telemetry::{
        names::{self, Metric},
        registry::OTHER,
    },
};
use metrics::{Counter, Gauge, Histogram};
use std::time::Duration;

/// Rules that are counted one by one; further ones, of a rule set of somebody's own, are added up per class.
const MAX_RULES: usize = 1000;

/// What is recorded of a processor in one pipeline.
#[derive(Clone, Debug)]
pub struct StageMetrics {
    signal: Signal,
    incoming: Counter,
    outgoing: Counter,
    consumed: Flow,
    produced: Counter,
    duration: Histogram,
    internal_duration: Histogram,
}

impl StageMetrics {
    /// For a processor's id in the pipeline with this id, which carries these items.
    pub fn new(processor: &str, pipeline: &str, signal: Signal) -> Self {
        let own = labels([("processor", processor), ("otel_signal", signal.name())]);
        let component = labels([
            ("otelcol_component_id", processor),
            ("otelcol_component_kind", "processor"),
            ("otelcol_pipeline_id", pipeline),
            ("otelcol_signal", signal.name()),
        ]);
        Self {
            signal,
            incoming: counter(Metric::ProcessorIncomingItems, &own),
            outgoing: counter(Metric::ProcessorOutgoingItems, &own),
            consumed: Flow::new(Metric::ProcessorConsumedItems, "processor", processor, Some(pipeline), &[signal]),
            produced: counter(Metric::ProcessorProducedItems, &component),
            duration: histogram(Metric::StageDuration, &own),
            internal_duration: histogram(Metric::ProcessorInternalDuration, &own),
        }
    }

    /// A request of so many items that the processor worked on for so long, and whether it let the request go on.
    pub fn applied(&self, items: u64, took: Duration, goes_on: bool) {
        let seconds = took.as_secs_f64();
        self.duration.record(seconds);
        self.internal_duration.record(seconds);
        self.incoming.increment(items);
        if goes_on {
            self.outgoing.increment(items);
            self.produced.increment(items);
        }
        self.consumed.add(self.signal, if goes_on { Outcome::Success } else { Outcome::Refused }, items);
    }
}

/// What a memory limiter records.
#[derive(Clone, Debug)]
pub struct MemoryLimiterMetrics {
    accepted: ItemCounters,
    refused: ItemCounters,
}

impl MemoryLimiterMetrics {
    /// For a processor's id.
    pub fn new(processor: &str) -> Self {
        let labels = labels([("processor", processor)]);
        Self {
            accepted: ItemCounters::new(names::MEMORY_LIMITER_ACCEPTED, &labels),
            refused: ItemCounters::new(names::MEMORY_LIMITER_REFUSED, &labels),
        }
    }

    /// Items let through.
    pub fn accepted(&self, signal: Signal, count: u64) {
        self.accepted.add(signal, count);
    }

    /// Items refused.
    pub fn refused(&self, signal: Signal, count: u64) {
        self.refused.add(signal, count);
    }
}

/// What a batch processor records.
#[derive(Clone, Debug)]
pub struct BatchMetrics {
    items: Histogram,
    bytes: Histogram,
    by_size: Counter,
    by_time: Counter,
    cardinality: Gauge,
}

impl BatchMetrics {
    /// For a processor's id.
    pub fn new(processor: &str) -> Self {
        let labels = labels([("processor", processor)]);
        Self {
            items: histogram(Metric::BatchSendSize, &labels),
            bytes: histogram(Metric::BatchSendSizeBytes, &labels),
            by_size: counter(Metric::BatchSizeTriggerSend, &labels),
            by_time: counter(Metric::BatchTimeoutTriggerSend, &labels),
            cardinality: gauge(Metric::BatchMetadataCardinality, &labels),
        }
    }

    /// A batch was handed on, because its time was up or because it was large enough.
    #[allow(clippy::cast_precision_loss)] // exact below 8 Pi
    pub fn sent(&self, items: u64, bytes: u64, in_time: bool) {
        self.items.record(items as f64);
        self.bytes.record(bytes as f64);
        if in_time { &self.by_time } else { &self.by_size }.increment(1);
    }

    /// Combinations of metadata values so far.
    #[allow(clippy::cast_precision_loss)]
    pub fn metadata_cardinality(&self, combinations: usize) {
        self.cardinality.set(combinations as f64);
    }
}

/// What masking records. Findings are counted per rule through handles the rule set keeps.
#[derive(Clone, Debug)]
pub struct MaskMetrics {
    rules: Vec<Counter>,
    masked_bytes: Counter,
    unscanned: Counter,
    incoming_markers: Counter,
}

impl MaskMetrics {
    /// For the rules of a rule set, each with its class. Findings name a rule by its position here.
    pub fn new<'a>(rules: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let finding = |(position, (rule, class))| {
            let rule = if position < MAX_RULES { rule } else { OTHER };
            counter(Metric::MaskFindings, &labels([("rule", rule), ("class", class)]))
        };
        Self {
            rules: rules.into_iter().enumerate().map(finding).collect(),
            masked_bytes: counter(Metric::MaskMaskedBytes, &[]),
            unscanned: counter(Metric::MaskUnscanned, &[]),
            incoming_markers: counter(Metric::MaskIncomingMarkers, &[]),
        }
    }

    /// Values masked by a rule; a position beyond the rule set is ignored.
    pub fn findings(&self, rule: usize, count: u64) {
        if let Some(counter) = self.rules.get(rule) {
            counter.increment(count);
        }
    }

    /// Bytes of payload replaced.
    pub fn masked_bytes(&self, bytes: u64) {
        self.masked_bytes.increment(bytes);
    }

    /// Values masked whole, over their scan budget.
    pub fn unscanned(&self, count: u64) {
        self.unscanned.increment(count);
    }

    /// Markers that came in with the data.
    pub fn incoming_markers(&self, count: u64) {
        self.incoming_markers.increment(count);
    }
}
