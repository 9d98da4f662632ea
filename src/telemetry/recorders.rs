//! Handles to record metrics with: made once per component, so that recording is an atomic addition.
//!
//! Labels are ids from the configuration and rule ids, never anything from a payload. A handle made before the
//! recorder is installed records nowhere; install [`super::Prometheus`] first.

use super::names::{self, Items, Kind, Metric, PerItems, Unit};
use metrics::{Counter, Gauge, Histogram, Label};
use std::sync::{Arc, OnceLock};

/// Counters for each kind of item.
#[derive(Clone, Debug)]
struct ItemCounters([Counter; 3]);

impl ItemCounters {
    fn new(table: PerItems, labels: &[Label]) -> Self {
        Self(table.map(|metric| counter(metric, labels)))
    }

    fn add(&self, items: Items, count: u64) {
        self.0[items as usize].increment(count);
    }
}

fn labels<const N: usize>(pairs: [(&'static str, &str); N]) -> Vec<Label> {
    pairs.into_iter().map(|(key, value)| Label::new(key, value.to_owned())).collect()
}

fn counter(metric: Metric, labels: &[Label]) -> Counter {
    metrics::counter!(metric.name(), labels.to_vec())
}

fn gauge(metric: Metric, labels: &[Label]) -> Gauge {
    metrics::gauge!(metric.name(), labels.to_vec())
}

fn histogram(metric: Metric, labels: &[Label]) -> Histogram {
    metrics::histogram!(metric.name(), labels.to_vec())
}

/// Tells the recorder the help text and unit of every metric.
pub(super) fn describe() {
    for metric in Metric::ALL {
        let unit = match metric.unit() {
            Unit::Count => metrics::Unit::Count,
            Unit::Bytes => metrics::Unit::Bytes,
            Unit::Seconds => metrics::Unit::Seconds,
        };
        match metric.kind() {
            Kind::Counter => metrics::describe_counter!(metric.name(), unit, metric.help()),
            Kind::Gauge => metrics::describe_gauge!(metric.name(), unit, metric.help()),
            Kind::Histogram => metrics::describe_histogram!(metric.name(), unit, metric.help()),
        }
    }
}

/// What a receiver records, per transport.
#[derive(Clone, Debug)]
pub struct ReceiverMetrics {
    accepted: ItemCounters,
    refused: ItemCounters,
    failed: ItemCounters,
    request_bytes: Histogram,
}

impl ReceiverMetrics {
    /// For a receiver's id and transport (`grpc`, `http`).
    pub fn new(receiver: &str, transport: &str) -> Self {
        let labels = labels([("receiver", receiver), ("transport", transport)]);
        Self {
            accepted: ItemCounters::new(names::RECEIVER_ACCEPTED, &labels),
            refused: ItemCounters::new(names::RECEIVER_REFUSED, &labels),
            failed: ItemCounters::new(names::RECEIVER_FAILED, &labels),
            request_bytes: histogram(Metric::ReceiverRequestBytes, &labels),
        }
    }

    /// Items the pipeline took.
    pub fn accepted(&self, items: Items, count: u64) {
        self.accepted.add(items, count);
    }

    /// Items the pipeline refused.
    pub fn refused(&self, items: Items, count: u64) {
        self.refused.add(items, count);
    }

    /// Items lost to a defect of the receiver itself.
    pub fn failed(&self, items: Items, count: u64) {
        self.failed.add(items, count);
    }

    /// A request's size after decompression.
    pub fn request_bytes(&self, bytes: usize) {
        #[allow(clippy::cast_precision_loss)] // exact below 8 PiB
        self.request_bytes.record(bytes as f64);
    }
}

/// What an exporter records.
#[derive(Clone, Debug)]
pub struct ExporterMetrics {
    sent: ItemCounters,
    send_failed: ItemCounters,
    enqueue_failed: ItemCounters,
    rejected: ItemCounters,
    dropped: ItemCounters,
    /// Size and capacity; there is nothing to show of an exporter without a bounded queue.
    queue: Arc<OnceLock<(Gauge, Gauge)>>,
    labels: Vec<Label>,
}

impl ExporterMetrics {
    /// For an exporter's id.
    pub fn new(exporter: &str) -> Self {
        let labels = labels([("exporter", exporter)]);
        Self {
            sent: ItemCounters::new(names::EXPORTER_SENT, &labels),
            send_failed: ItemCounters::new(names::EXPORTER_SEND_FAILED, &labels),
            enqueue_failed: ItemCounters::new(names::EXPORTER_ENQUEUE_FAILED, &labels),
            rejected: ItemCounters::new(names::EXPORTER_REJECTED, &labels),
            dropped: ItemCounters::new(names::EXPORTER_DROPPED, &labels),
            queue: Arc::default(),
            labels,
        }
    }

    /// Items the destination took.
    pub fn sent(&self, items: Items, count: u64) {
        self.sent.add(items, count);
    }

    /// Items given up after a permanent error or the last attempt.
    pub fn send_failed(&self, items: Items, count: u64) {
        self.send_failed.add(items, count);
    }

    /// Items for which the queue had no room.
    pub fn enqueue_failed(&self, items: Items, count: u64) {
        self.enqueue_failed.add(items, count);
    }

    /// Items the destination rejected in an otherwise successful answer.
    pub fn rejected(&self, items: Items, count: u64) {
        self.rejected.add(items, count);
    }

    /// Items still queued when the drain deadline passed.
    pub fn dropped(&self, items: Items, count: u64) {
        self.dropped.add(items, count);
    }

    /// What the queue can hold, in the unit of its sizer; [`u64::MAX`] is no bound, and is not shown.
    #[allow(clippy::cast_precision_loss)]
    pub fn queue_capacity(&self, capacity: u64) {
        if capacity < u64::MAX {
            let register =
                || (gauge(Metric::ExporterQueueSize, &self.labels), gauge(Metric::ExporterQueueCapacity, &self.labels));
            self.queue.get_or_init(register).1.set(capacity as f64);
        }
    }

    /// What the queue holds now, in the unit of its sizer. Has no effect before its capacity is known.
    #[allow(clippy::cast_precision_loss)]
    pub fn queue_size(&self, size: u64) {
        if let Some((gauge, _)) = self.queue.get() {
            gauge.set(size as f64);
        }
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
    pub fn accepted(&self, items: Items, count: u64) {
        self.accepted.add(items, count);
    }

    /// Items refused.
    pub fn refused(&self, items: Items, count: u64) {
        self.refused.add(items, count);
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
        let finding = |(rule, class)| counter(Metric::MaskFindings, &labels([("rule", rule), ("class", class)]));
        Self {
            rules: rules.into_iter().map(finding).collect(),
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

/// What is recorded of a pipeline.
#[derive(Clone, Debug)]
pub struct PipelineMetrics {
    enforced: Gauge,
}

impl PipelineMetrics {
    /// For a pipeline's id.
    pub fn new(pipeline: &str) -> Self {
        Self { enforced: gauge(Metric::PipelineEnforced, &labels([("pipeline", pipeline)])) }
    }

    /// Whether the pipeline masks what passes.
    pub fn enforced(&self, enforced: bool) {
        self.enforced.set(if enforced { 1.0 } else { 0.0 });
    }
}

/// Counts a reload of the configuration.
pub fn config_reloaded(succeeded: bool) {
    let outcome = if succeeded { "success" } else { "failure" };
    counter(Metric::ConfigReloads, &labels([("outcome", outcome)])).increment(1);
}
