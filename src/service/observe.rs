//! What the metrics and health see of running pipelines: requests that never reach them, how long stages take,
//! outcomes of exports, what found no room, and how full queues and receivers are.

use crate::{
    exporter::{self, Outcome},
    otlp::Signal,
    pipeline::{Budget, Destination, OnFull, Payload, Permit, Plan, Queued, Refusal, Request, Stage, Transport},
    receiver::{self, Rejected},
    telemetry::{ConnectionMetrics, ExporterMetrics, Health, InHandMetrics, RejectedMetrics, StageMetrics},
};
use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::AbortHandle;

/// How often sizes are shown to the metrics.
const SAMPLE: Duration = Duration::from_secs(1);

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
        match outcome {
            Outcome::Sent => self.metrics.sent(signal, items),
            Outcome::Rejected => self.metrics.rejected(signal, items),
            Outcome::SendFailed => self.metrics.send_failed(signal, items),
            Outcome::Dropped => self.metrics.dropped(signal, items),
        }
    }

    fn retried(&self, _: Signal) {
        self.metrics.retried();
    }

    fn sending(&self, items: u64, bytes: usize) {
        self.metrics.sending(items, bytes);
    }

    fn answered(&self) {
        self.metrics.answered();
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
        self.metrics.enqueue_failed(payload.signal, payload.count);
        self.destination.refused(payload);
    }

    fn enqueue_all(&self, batch: Vec<Queued>) {
        for queued in &batch {
            let payload = &queued.payload;
            self.metrics.enqueued(payload.signal, payload.count, payload.bytes.len());
        }
        self.destination.enqueue_all(batch);
    }

    fn enqueue(&self, permit: Permit, payload: Payload) {
        self.metrics.enqueued(payload.signal, payload.count, payload.bytes.len());
        self.destination.enqueue(permit, payload);
    }

    fn drain(&self, deadline: Instant) -> Pin<Box<dyn Future<Output = u64> + Send + '_>> {
        self.destination.drain(deadline)
    }
}

/// Shows the queue's size to the metrics, in the unit of its sizer as the Collector does, until aborted.
pub async fn sample_queue(destination: Arc<dyn Destination>, metrics: ExporterMetrics) {
    metrics.queue_capacity(destination.budget().capacity());
    let mut ticks = tokio::time::interval(SAMPLE);
    loop {
        ticks.tick().await;
        metrics.queue_size(destination.budget().size());
    }
}

/// Shows the bytes of requests in hand to the metrics, until aborted.
pub async fn sample_intake(receiver: String, room: Budget) {
    let metrics = InHandMetrics::new(&receiver);
    let mut ticks = tokio::time::interval(SAMPLE);
    loop {
        ticks.tick().await;
        metrics.bytes(room.bytes(), room.max_bytes());
    }
}

/// A task that shows a size to the metrics, until this goes: another component of the same name may be showing its own
/// by then.
pub struct Sampler(AbortHandle);

impl Sampler {
    /// Starts it. Must be called within a Tokio runtime.
    pub fn start(task: impl Future<Output = ()> + Send + 'static) -> Sampler {
        Sampler(tokio::spawn(task).abort_handle())
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Counts and logs the requests of a receiver that never reach its pipelines.
pub fn rejections(receiver: &str) -> receiver::Observer {
    let counters = Transport::ALL
        .map(|transport| Rejected::ALL.map(|why| RejectedMetrics::new(receiver, transport.name(), why.name())));
    // Shown from the start, and as long as the receiver runs.
    let connections = Transport::ALL.map(|transport| ConnectionMetrics::new(receiver, transport.name()));
    Arc::new(move |signal: Signal, transport: Transport, why: Rejected| {
        let _held = &connections;
        if let Some(counter) = counters.get(transport as usize).and_then(|reasons| reasons.get(why as usize)) {
            counter.count();
        }
        tracing::debug!(signal = signal.name(), transport = transport.name(), why = why.name(), "request rejected");
    })
}

/// A stage that counts what goes through it and takes the time: two looks at the clock.
pub struct MeasuredStage {
    stage: Arc<dyn Stage>,
    metrics: StageMetrics,
}

impl MeasuredStage {
    /// A stage of the pipeline with this id.
    pub fn around(stage: Arc<dyn Stage>, pipeline: &str, signal: Signal) -> Arc<dyn Stage> {
        let metrics = StageMetrics::new(stage.id(), pipeline, signal);
        Arc::new(MeasuredStage { stage, metrics })
    }
}

impl Stage for MeasuredStage {
    fn id(&self) -> &str {
        self.stage.id()
    }

    fn apply(&self, request: &Request, plan: &mut Plan) -> Result<(), Refusal> {
        let began = Instant::now();
        let applied = self.stage.apply(request, plan);
        self.metrics.applied(request.index.count, began.elapsed(), applied.is_ok());
        applied
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
