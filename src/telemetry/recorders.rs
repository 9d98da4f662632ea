//! Handles to record metrics with: made once per component, so that recording is an atomic addition.
//!
//! Labels are ids from the configuration and rule ids, never anything from a payload. A handle made before the
//! recorder is installed records nowhere; install [`super::Prometheus`] first.

use super::{
    names::{self, Items, Metric, PerItems},
    registry::OTHER,
};
use metrics::{Counter, Gauge, Histogram, Label};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

/// Rules that are counted one by one; further ones, of a rule set of somebody's own, are added up per class.
const MAX_RULES: usize = 1000;

/// What became of a request or of its items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Success,
    Refused,
    Failure,
}

impl Outcome {
    const ALL: [Outcome; 3] = [Outcome::Success, Outcome::Refused, Outcome::Failure];

    const fn name(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::Refused => "refused",
            Outcome::Failure => "failure",
        }
    }
}

/// Counters for each kind of item and outcome, of the pipeline telemetry: labels say which component, in the names of
/// the Collector's pipeline component telemetry.
#[derive(Clone, Debug)]
struct Flow([[Counter; 3]; 3]);

impl Flow {
    /// For the items a component has to do with; others are not counted.
    fn new(metric: Metric, kind: &str, id: &str, pipeline: Option<&str>, of: &[Items]) -> Self {
        Self(Items::ALL.map(|items| {
            Outcome::ALL.map(|outcome| {
                if !of.contains(&items) {
                    return Counter::noop();
                }
                let mut all = labels([
                    ("otelcol_component_id", id),
                    ("otelcol_component_kind", kind),
                    ("otelcol_signal", items.signal()),
                    ("outcome", outcome.name()),
                ]);
                all.extend(pipeline.map(|pipeline| Label::new("otelcol_pipeline_id", pipeline.to_owned())));
                counter(metric, &all)
            })
        }))
    }

    fn add(&self, items: Items, outcome: Outcome, count: u64) {
        self.0[items as usize][outcome as usize].increment(count);
    }
}

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

/// One counter for each kind of item, told apart by the label `otel_signal`.
#[derive(Clone, Debug)]
struct ItemCounter([Counter; 3]);

impl ItemCounter {
    fn new(metric: Metric, labels: &[Label]) -> Self {
        Self(Items::ALL.map(|items| counter(metric, &with(labels, "otel_signal", items.signal()))))
    }

    fn add(&self, items: Items, count: u64) {
        self.0[items as usize].increment(count);
    }
}

fn with(labels: &[Label], key: &'static str, value: &str) -> Vec<Label> {
    let mut labels = labels.to_vec();
    labels.push(Label::new(key, value.to_owned()));
    labels
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

/// What a receiver records, per transport.
#[derive(Clone, Debug)]
pub struct ReceiverMetrics {
    accepted: ItemCounters,
    refused: ItemCounters,
    failed: ItemCounters,
    blocked: ItemCounter,
    produced: Flow,
    requests: [Counter; 3],
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
            blocked: ItemCounter::new(Metric::ReceiverBlockedItems, &labels),
            produced: Flow::new(Metric::ReceiverProducedItems, "receiver", receiver, None, &Items::ALL),
            requests: Outcome::ALL
                .map(|outcome| counter(Metric::ReceiverRequests, &with(&labels, "outcome", outcome.name()))),
            request_bytes: histogram(Metric::ReceiverRequestBytes, &labels),
        }
    }

    /// A request of which the pipeline took this many items.
    pub fn accepted(&self, items: Items, count: u64) {
        self.accepted.add(items, count);
        self.ended(Outcome::Success, items, count);
    }

    /// Items that a decision of the pipeline took out of an accepted request.
    pub fn blocked(&self, items: Items, count: u64) {
        self.refused.add(items, count);
        self.blocked.add(items, count);
        self.produced.add(items, Outcome::Refused, count);
    }

    /// A request of so many items that the pipeline refused.
    pub fn refused(&self, items: Items, count: u64) {
        self.refused.add(items, count);
        self.ended(Outcome::Refused, items, count);
    }

    /// A request of so many items lost to a defect of the receiver itself.
    pub fn failed(&self, items: Items, count: u64) {
        self.failed.add(items, count);
        self.ended(Outcome::Failure, items, count);
    }

    fn ended(&self, outcome: Outcome, items: Items, count: u64) {
        self.requests[outcome as usize].increment(1);
        self.produced.add(items, outcome, count);
    }

    /// A request's size after decompression.
    pub fn request_bytes(&self, bytes: usize) {
        #[allow(clippy::cast_precision_loss)] // exact below 8 PiB
        self.request_bytes.record(bytes as f64);
    }
}

/// What is recorded of requests that never reach the pipeline, for one reason.
#[derive(Clone, Debug)]
pub struct RejectedMetrics(Counter);

impl RejectedMetrics {
    /// For a receiver's id, its transport and the reason.
    pub fn new(receiver: &str, transport: &str, reason: &str) -> Self {
        let labels = labels([("receiver", receiver), ("transport", transport), ("reason", reason)]);
        Self(counter(Metric::ReceiverRejectedRequests, &labels))
    }

    /// One more request.
    pub fn count(&self) {
        self.0.increment(1);
    }
}

/// Open connections of a receiver's transport.
#[derive(Clone, Debug)]
pub struct ConnectionMetrics(Gauge);

impl ConnectionMetrics {
    /// For a receiver's id and transport (`grpc`, `http`).
    pub fn new(receiver: &str, transport: &str) -> Self {
        Self(gauge(Metric::ReceiverConnections, &labels([("receiver", receiver), ("transport", transport)])))
    }

    /// A connection that counts as open until what is returned is dropped.
    #[must_use = "dropping it counts the connection as closed"]
    pub fn open(&self) -> OpenConnection {
        self.0.increment(1.0);
        OpenConnection(self.0.clone())
    }
}

/// See [`ConnectionMetrics::open`].
#[derive(Debug)]
pub struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Room for requests in hand of a receiver.
#[derive(Clone, Debug)]
pub struct InHandMetrics {
    bytes: Gauge,
    limit: Gauge,
}

impl InHandMetrics {
    /// For a receiver's id.
    pub fn new(receiver: &str) -> Self {
        let labels = labels([("receiver", receiver)]);
        Self { bytes: gauge(Metric::ReceiverInHandBytes, &labels), limit: gauge(Metric::ReceiverInHandLimit, &labels) }
    }

    /// Bytes in hand now, and the most there may be.
    #[allow(clippy::cast_precision_loss)] // exact below 8 PiB
    pub fn bytes(&self, in_hand: u64, limit: u64) {
        self.bytes.set(in_hand as f64);
        self.limit.set(limit as f64);
    }
}

/// What is recorded of a processor in one pipeline.
#[derive(Clone, Debug)]
pub struct StageMetrics {
    items: Items,
    incoming: Counter,
    outgoing: Counter,
    consumed: Flow,
    produced: Counter,
    duration: Histogram,
    internal_duration: Histogram,
}

impl StageMetrics {
    /// For a processor's id in the pipeline with this id, which carries these items.
    pub fn new(processor: &str, pipeline: &str, items: Items) -> Self {
        let own = labels([("processor", processor), ("otel_signal", items.signal())]);
        let component = labels([
            ("otelcol_component_id", processor),
            ("otelcol_component_kind", "processor"),
            ("otelcol_pipeline_id", pipeline),
            ("otelcol_signal", items.signal()),
        ]);
        Self {
            items,
            incoming: counter(Metric::ProcessorIncomingItems, &own),
            outgoing: counter(Metric::ProcessorOutgoingItems, &own),
            consumed: Flow::new(Metric::ProcessorConsumedItems, "processor", processor, Some(pipeline), &[items]),
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
        self.consumed.add(self.items, if goes_on { Outcome::Success } else { Outcome::Refused }, items);
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
    consumed: Flow,
    retries: Counter,
    in_flight: Gauge,
    enqueued: (Histogram, Histogram),
    batch: (Histogram, Histogram),
    /// Size and capacity for each signal; there is nothing to show of an exporter without a bounded queue.
    queue: Arc<OnceLock<Vec<(Gauge, Gauge)>>>,
    signals: Vec<Items>,
    labels: Vec<Label>,
}

impl ExporterMetrics {
    /// For an exporter's id and what its pipelines carry.
    pub fn new(exporter: &str, signals: &[Items]) -> Self {
        let labels = labels([("exporter", exporter)]);
        Self {
            sent: ItemCounters::new(names::EXPORTER_SENT, &labels),
            send_failed: ItemCounters::new(names::EXPORTER_SEND_FAILED, &labels),
            enqueue_failed: ItemCounters::new(names::EXPORTER_ENQUEUE_FAILED, &labels),
            rejected: ItemCounters::new(names::EXPORTER_REJECTED, &labels),
            dropped: ItemCounters::new(names::EXPORTER_DROPPED, &labels),
            consumed: Flow::new(Metric::ExporterConsumedItems, "exporter", exporter, None, signals),
            retries: counter(Metric::ExporterRetries, &labels),
            in_flight: gauge(Metric::ExporterInFlight, &labels),
            enqueued: (
                histogram(Metric::ExporterEnqueueSize, &labels),
                histogram(Metric::ExporterEnqueueBytes, &labels),
            ),
            batch: (
                histogram(Metric::ExporterBatchSendSize, &labels),
                histogram(Metric::ExporterBatchSendBytes, &labels),
            ),
            queue: Arc::default(),
            signals: signals.to_vec(),
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
        self.consumed.add(items, Outcome::Refused, count);
    }

    /// Items the destination rejected in an otherwise successful answer.
    pub fn rejected(&self, items: Items, count: u64) {
        self.rejected.add(items, count);
    }

    /// Items still queued when the drain deadline passed.
    pub fn dropped(&self, items: Items, count: u64) {
        self.dropped.add(items, count);
    }

    /// An attempt to send that failed and will be repeated.
    pub fn retried(&self) {
        self.retries.increment(1);
    }

    /// A request of so many items and bytes entered the queue.
    #[allow(clippy::cast_precision_loss)]
    pub fn enqueued(&self, items: Items, count: u64, bytes: usize) {
        self.consumed.add(items, Outcome::Success, count);
        self.enqueued.0.record(count as f64);
        self.enqueued.1.record(bytes as f64);
    }

    /// A request of so many items and bytes is sent.
    #[allow(clippy::cast_precision_loss)]
    pub fn sending(&self, count: u64, bytes: usize) {
        self.in_flight.increment(1.0);
        self.batch.0.record(count as f64);
        self.batch.1.record(bytes as f64);
    }

    /// The attempt that [`sending`](Self::sending) began is over.
    pub fn answered(&self) {
        self.in_flight.decrement(1.0);
    }

    /// What the queue can hold, in the unit of its sizer; [`u64::MAX`] is no bound, and is not shown.
    #[allow(clippy::cast_precision_loss)]
    pub fn queue_capacity(&self, capacity: u64) {
        if capacity < u64::MAX {
            self.queue_gauges().iter().for_each(|(_, gauge)| gauge.set(capacity as f64));
        }
    }

    /// What the queue holds now, in the unit of its sizer. Has no effect before its capacity is known.
    #[allow(clippy::cast_precision_loss)]
    pub fn queue_size(&self, size: u64) {
        if let Some(gauges) = self.queue.get() {
            gauges.iter().for_each(|(gauge, _)| gauge.set(size as f64));
        }
    }

    fn queue_gauges(&self) -> &[(Gauge, Gauge)] {
        self.queue.get_or_init(|| {
            let register = |items: &Items| {
                let labels = with(&self.labels, "data_type", items.signal());
                (gauge(Metric::ExporterQueueSize, &labels), gauge(Metric::ExporterQueueCapacity, &labels))
            };
            self.signals.iter().map(register).collect()
        })
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
