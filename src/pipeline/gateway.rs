//! One request through its pipelines: stages, rendering, room at every destination or at none, fan-out.

use super::{
    Accepted, Destination, Ingest, Origin, Payload, Plan, Refusal, Request, Transport,
    commit::{Outcome, commit, shutting_down},
};
use crate::{
    otlp::{Bounds, Signal},
    telemetry::ReceiverMetrics,
};
use bytes::Bytes;
use std::{future::Future, panic::AssertUnwindSafe, pin::Pin, sync::Arc};
use tokio::sync::Semaphore;

/// Requests from this size on are worked on outside the async workers, so that one large request does not delay the
/// small ones of other clients. At about 1 GB/s this is a tenth of a millisecond.
const OFFLOAD_BYTES: usize = 128 << 10;

/// One step of a pipeline. It reads the request and adds to the plan; it never waits.
pub trait Stage: Send + Sync + 'static {
    /// The component's id in the configuration, such as `mask` or `mask/strict`.
    fn id(&self) -> &str;

    /// Looks at a request.
    ///
    /// # Errors
    /// A [`Refusal`] ends the whole request; nothing of it is forwarded.
    fn apply(&self, request: &Request, plan: &mut Plan) -> Result<(), Refusal>;
}

/// A configured pipeline of one signal.
pub struct Pipeline {
    /// Its id, such as `traces` or `traces/eu`.
    pub id: String,
    /// Steps in order.
    pub stages: Vec<Arc<dyn Stage>>,
    /// Exporters; each gets everything that passes.
    pub destinations: Vec<Arc<dyn Destination>>,
}

/// The pipelines of one receiver: what it takes, and where that goes.
pub struct Gateway {
    pipelines: [Vec<Arc<Pipeline>>; 3],
    bounds: Bounds,
    metrics: [ReceiverMetrics; 2],
    /// Permits for work outside the async workers: more than one per core only adds switching.
    cpus: Arc<Semaphore>,
}

impl Gateway {
    /// The pipelines fed by the receiver with this id.
    pub fn new(receiver: &str, pipelines: impl IntoIterator<Item = (Signal, Arc<Pipeline>)>, bounds: Bounds) -> Self {
        let metrics = Transport::ALL.map(|transport| ReceiverMetrics::new(receiver, transport.name()));
        let mut by_signal: [Vec<Arc<Pipeline>>; 3] = Default::default();
        for (signal, pipeline) in pipelines {
            by_signal[signal as usize].push(pipeline);
        }
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Gateway { pipelines: by_signal, bounds, metrics, cpus: Arc::new(Semaphore::new(cpus)) }
    }

    async fn take(&self, signal: Signal, body: Bytes, origin: Origin) -> Result<Accepted, Refusal> {
        let pipelines = &self.pipelines[signal as usize];
        if pipelines.is_empty() {
            return Err(Refusal::NoPipeline(signal));
        }
        if body.is_empty() {
            return Ok(Accepted::default());
        }
        let metrics = &self.metrics[origin.transport as usize];
        metrics.request_bytes(body.len());
        let (count, outcomes) = self.work(signal, body, origin, pipelines).await?;
        let answer = match outcomes {
            Ok(outcomes) => commit(outcomes).await,
            Err(refusal) => Err(refusal),
        };
        match &answer {
            Ok(accepted) => {
                metrics.accepted(signal, count - accepted.rejected.min(count));
                metrics.blocked(signal, accepted.rejected);
            }
            Err(Refusal::Internal(_)) => metrics.failed(signal, count),
            Err(_) => metrics.refused(signal, count),
        }
        answer
    }

    /// Reads the request and runs its stages, on this thread or, if it is large, on one that may be busy for a while.
    async fn work(
        &self,
        signal: Signal,
        body: Bytes,
        origin: Origin,
        pipelines: &[Arc<Pipeline>],
    ) -> Result<(u64, Result<Vec<Outcome>, Refusal>), Refusal> {
        if body.len() < OFFLOAD_BYTES {
            return unless_panicked(|| process(signal, body, origin, &self.bounds, pipelines));
        }
        let cpu = self.cpus.clone().acquire_owned().await.map_err(|_| shutting_down())?;
        let (bounds, pipelines) = (self.bounds, pipelines.to_vec());
        let work = move || {
            // Held by the work, not by who waits for it: that one may give up earlier.
            let _cpu = cpu;
            unless_panicked(|| process(signal, body, origin, &bounds, &pipelines))
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(shutting_down()))
    }
}

impl Ingest for Gateway {
    fn takes(&self, signal: Signal) -> bool {
        !self.pipelines[signal as usize].is_empty()
    }

    fn export(
        &self,
        signal: Signal,
        body: Bytes,
        origin: Origin,
    ) -> Pin<Box<dyn Future<Output = Result<Accepted, Refusal>> + Send + '_>> {
        Box::pin(self.take(signal, body, origin))
    }
}

/// Reads the request once and runs every pipeline over it. Answers the number of items beside the outcome, because a
/// refusal after reading is counted in items.
fn process(
    signal: Signal,
    body: Bytes,
    origin: Origin,
    bounds: &Bounds,
    pipelines: &[Arc<Pipeline>],
) -> Result<(u64, Result<Vec<Outcome>, Refusal>), Refusal> {
    let request = Request::read(signal, body, origin, bounds)?;
    let count = request.index.count;
    if count == 0 {
        // Only envelopes: the specification lets a receiver ignore them, and there is nothing to forward.
        return Ok((0, Ok(Vec::new())));
    }
    let outcomes = pipelines.iter().map(|pipeline| run(pipeline, &request)).collect();
    Ok((count, outcomes))
}

fn run(pipeline: &Arc<Pipeline>, request: &Request) -> Result<Outcome, Refusal> {
    let mut plan = Plan::default();
    for stage in &pipeline.stages {
        stage.apply(request, &mut plan)?;
    }
    let rendered = plan.render(request);
    let passed = rendered.passed.map(|bytes| Payload {
        signal: request.signal,
        bytes,
        count: rendered.count,
        metadata: request.origin.metadata.clone(),
    });
    Ok(Outcome { pipeline: pipeline.clone(), passed, rejected: rendered.rejected })
}

/// A defect in a stage costs its request, not the connection it shares with other requests. What was being worked on
/// is dropped whole; nothing of it is shared.
fn unless_panicked<T>(work: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Refusal::Internal("the request hit a defect in tracegate and was not forwarded; see its log".into()))
    })
}
