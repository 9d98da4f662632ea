//! What exporters record: outcomes, attempts, and how full the queue is.

use super::{Flow, ItemCounters, Outcome, counter, gauge, histogram, labels, with};
use crate::{
    otlp::Signal,
    telemetry::names::{self, Metric},
};
use metrics::{Counter, Gauge, Histogram, Label};
use std::sync::{Arc, OnceLock};

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
    signals: Vec<Signal>,
    labels: Vec<Label>,
}

impl ExporterMetrics {
    /// For an exporter's id and what its pipelines carry.
    pub fn new(exporter: &str, signals: &[Signal]) -> Self {
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
    pub fn sent(&self, signal: Signal, count: u64) {
        self.sent.add(signal, count);
    }

    /// Items given up after a permanent error or the last attempt.
    pub fn send_failed(&self, signal: Signal, count: u64) {
        self.send_failed.add(signal, count);
    }

    /// Items for which the queue had no room.
    pub fn enqueue_failed(&self, signal: Signal, count: u64) {
        self.enqueue_failed.add(signal, count);
        self.consumed.add(signal, Outcome::Refused, count);
    }

    /// Items the destination rejected in an otherwise successful answer.
    pub fn rejected(&self, signal: Signal, count: u64) {
        self.rejected.add(signal, count);
    }

    /// Items still queued when the drain deadline passed.
    pub fn dropped(&self, signal: Signal, count: u64) {
        self.dropped.add(signal, count);
    }

    /// An attempt to send that failed and will be repeated.
    pub fn retried(&self) {
        self.retries.increment(1);
    }

    /// A request of so many items and bytes entered the queue.
    #[allow(clippy::cast_precision_loss)]
    pub fn enqueued(&self, signal: Signal, count: u64, bytes: usize) {
        self.consumed.add(signal, Outcome::Success, count);
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
            let register = |signal: &Signal| {
                let labels = with(&self.labels, "data_type", signal.name());
                (gauge(Metric::ExporterQueueSize, &labels), gauge(Metric::ExporterQueueCapacity, &labels))
            };
            self.signals.iter().map(register).collect()
        })
    }
}
