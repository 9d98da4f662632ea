//! What the metrics and health see of an exporter: outcomes, what found no room, and how full its queue is.

use crate::{
    exporter::{self, Outcome},
    otlp::Signal,
    pipeline::{Budget, Destination, OnFull, Payload, Permit, Queued},
    telemetry::{ExporterMetrics, Health},
};
use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

/// How often queue sizes are shown to the metrics.
const QUEUE_SAMPLE: Duration = Duration::from_secs(1);

/// Connects an exporter to metrics and health.
pub struct Watcher {
    /// Where outcomes are counted.
    pub metrics: ExporterMetrics,
    /// Where a dead worker is reported.
    pub health: Health,
    /// The exporter's id.
    pub id: String,
}

impl exporter::Observer for Watcher {
    fn items(&self, outcome: Outcome, signal: Signal, items: u64) {
        let kind = signal.items();
        match outcome {
            Outcome::Sent => self.metrics.sent(kind, items),
            Outcome::Rejected => self.metrics.rejected(kind, items),
            Outcome::SendFailed => self.metrics.send_failed(kind, items),
            Outcome::Dropped => self.metrics.dropped(kind, items),
        }
    }

    fn worker_panicked(&self) {
        // A guard that goes without its worker having finished is what reports it.
        drop(self.health.guard(format!("exporter {}", self.id)));
    }
}

/// A destination that counts what it has no room for.
pub struct Measured {
    /// The exporter's queue.
    pub destination: Arc<dyn Destination>,
    /// Where it is counted.
    pub metrics: ExporterMetrics,
}

impl Destination for Measured {
    fn id(&self) -> &str {
        self.destination.id()
    }

    fn budget(&self) -> &Budget {
        self.destination.budget()
    }

    fn on_full(&self) -> OnFull {
        self.destination.on_full()
    }

    fn max_request_bytes(&self) -> usize {
        self.destination.max_request_bytes()
    }

    fn waits_for_result(&self) -> bool {
        self.destination.waits_for_result()
    }

    fn refused(&self, payload: &Payload) {
        self.metrics.enqueue_failed(payload.signal.items(), payload.count);
        self.destination.refused(payload);
    }

    fn enqueue_all(&self, batch: Vec<Queued>) {
        self.destination.enqueue_all(batch);
    }

    fn enqueue(&self, permit: Permit, payload: Payload) {
        self.destination.enqueue(permit, payload);
    }

    fn drain(&self, deadline: Instant) -> Pin<Box<dyn Future<Output = u64> + Send + '_>> {
        self.destination.drain(deadline)
    }
}

/// Shows the queue's size to the metrics, in the unit of its sizer as the Collector does.
pub async fn sample_queue(destination: Arc<dyn Destination>, metrics: ExporterMetrics) {
    metrics.queue_capacity(destination.budget().capacity());
    let mut ticks = tokio::time::interval(QUEUE_SAMPLE);
    loop {
        ticks.tick().await;
        metrics.queue_size(destination.budget().size());
    }
}
