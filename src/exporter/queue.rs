//! The in-memory queue every exporter stands behind: bounded in bytes and requests, sent by a fixed number of workers,
//! optionally batched, drained at shutdown.
//!
//! Memory is bounded by the [`Budget`]: a payload keeps its permit until it has been sent or dropped, whether it waits,
//! stands in an open batch or sits out a retry. Requests are merged by listing them one behind the other, not by
//! copying.
//!
//! With `enabled: false` nothing is queued: every request is sent at once, beside the others, and its answer waits.

mod batch;
mod deliver;
mod item;
mod settings;

pub use crate::pipeline::{Sizer, gather::Batching};
pub use settings::{BatchConfig, MAX_REQUEST_BYTES, Partition, QueueConfig, Settings};

use super::{Observer, Sender};
use crate::pipeline::{Budget, Destination, OnFull, Payload, Permit, Queued};
use batch::{Added, Batch, Waiting};
pub(super) use item::{Item, Ledger};
use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Instant,
};
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::JoinSet,
};

/// An exporter: a [`Sender`] behind a queue in memory.
#[derive(Debug)]
pub struct MemoryQueue<S> {
    shared: Arc<Shared<S>>,
    /// Locked for as long as a drain takes, so that a second one waits for the first.
    workers: tokio::sync::Mutex<JoinSet<()>>,
}

/// What the workers share.
#[derive(Debug)]
struct Shared<S> {
    ledger: Arc<Ledger>,
    budget: Budget,
    settings: Settings,
    sender: S,
    /// Requests that are sent without a queue; none once the drain has taken them over.
    unqueued: Mutex<Option<JoinSet<()>>>,
    waiting: Mutex<Waiting>,
    /// One permit per batch in `Waiting::ready`; closed while draining.
    ready: Semaphore,
    /// A batch was opened, or draining began: the flusher has something to look at.
    opened: Notify,
    /// The deadline of the drain, once there is one.
    draining: watch::Sender<Option<Instant>>,
}

impl<S: Sender> MemoryQueue<S> {
    /// Starts the workers. `id` is the exporter's, such as `otlp_grpc/eu`. Must be called within a Tokio runtime.
    pub fn start(id: &str, settings: Settings, sender: S, observer: Arc<dyn Observer>) -> Arc<Self> {
        let shared = Arc::new(Shared {
            ledger: Arc::new(Ledger::new(id, observer)),
            budget: Budget::sized(settings.sizer, settings.max_bytes, settings.max_requests, settings.max_items),
            unqueued: Mutex::new(settings.unqueued.then(JoinSet::new)),
            waiting: Mutex::new(Waiting::new(settings.batch, settings.partition.clone())),
            sender,
            ready: Semaphore::new(0),
            opened: Notify::new(),
            draining: watch::Sender::new(None),
            settings,
        });
        let mut workers = JoinSet::new();
        let settings = &shared.settings;
        for _ in 0..if settings.unqueued { 0 } else { settings.consumers } {
            workers.spawn(restarted(shared.clone(), |shared| async move { shared.consume().await }));
        }
        if settings.batch.is_some() {
            workers.spawn(restarted(shared.clone(), |shared| async move { shared.flush_in_time().await }));
        }
        Arc::new(MemoryQueue { shared, workers: tokio::sync::Mutex::new(workers) })
    }
}

impl<S: Sender> Destination for MemoryQueue<S> {
    fn id(&self) -> &str {
        &self.shared.ledger.exporter
    }

    fn budget(&self) -> &Budget {
        &self.shared.budget
    }

    fn on_full(&self) -> OnFull {
        self.shared.settings.on_full
    }

    fn max_request_bytes(&self) -> usize {
        self.shared.settings.max_request_bytes
    }

    fn waits_for_result(&self) -> bool {
        self.shared.settings.waits_for_result
    }

    fn refused(&self, payload: &Payload) {
        if self.shared.settings.on_full == OnFull::Drop {
            self.shared.ledger.log_no_room(payload.signal, payload.count);
        }
    }

    fn enqueue(&self, permit: Permit, payload: Payload) {
        let item = Item::new(self.shared.ledger.clone(), permit, payload);
        if self.shared.settings.unqueued {
            return self.shared.send_unqueued(Batch::of(item));
        }
        let added = locked(&self.shared.waiting).add(item);
        self.shared.announce(added);
    }

    fn enqueue_all(&self, batch: Vec<Queued>) {
        let items: Vec<Item> = batch.into_iter().map(|queued| Item::from(self.shared.ledger.clone(), queued)).collect();
        if self.shared.settings.unqueued {
            return self.shared.send_unqueued(Batch { items });
        }
        let added = locked(&self.shared.waiting).add_batch(items);
        self.shared.announce(added);
    }

    fn drain(&self, deadline: Instant) -> Pin<Box<dyn Future<Output = u64> + Send + '_>> {
        Box::pin(async move {
            let shared = &self.shared;
            let mut workers = self.workers.lock().await;
            let before = shared.ledger.abandoned();
            locked(&shared.waiting).close();
            shared.ready.close();
            shared.draining.send_replace(Some(deadline));
            shared.opened.notify_one();
            let mut unqueued = locked(&shared.unqueued).take().unwrap_or_default();
            let done = async {
                while workers.join_next().await.is_some() {}
                while unqueued.join_next().await.is_some() {}
            };
            if tokio::time::timeout_at(deadline.into(), done).await.is_err() {
                workers.shutdown().await;
                unqueued.shutdown().await;
            }
            // Dropping what is left reports it.
            drop(locked(&shared.waiting).take_all());
            let _too_slow = tokio::time::timeout_at(deadline.into(), shared.sender.close()).await;
            let given_up = shared.ledger.abandoned() - before;
            if given_up > 0 {
                tracing::error!(
                    exporter = %shared.ledger.exporter,
                    items = given_up,
                    "gave up undelivered items at shutdown"
                );
            }
            given_up
        })
    }
}

impl<S: Sender> Shared<S> {
    /// Wakes those who have something to do now.
    fn announce(&self, added: Added) {
        if added.ready > 0 {
            self.ready.add_permits(added.ready);
        }
        if added.opened {
            self.opened.notify_one();
        }
    }

    /// Sends a batch on a task of its own. While draining it is dropped, and thereby reported.
    fn send_unqueued(self: &Arc<Self>, batch: Batch) {
        let mut unqueued = locked(&self.unqueued);
        let Some(tasks) = unqueued.as_mut() else { return };
        while tasks.try_join_next().is_some() {}
        let shared = self.clone();
        tasks.spawn(async move {
            if panics(shared.deliver(batch)).await {
                tracing::error!(exporter = %shared.ledger.exporter, "sending a request panicked");
                shared.ledger.observer.worker_panicked();
            }
        });
    }

    async fn consume(&self) {
        while let Some(batch) = self.next().await {
            self.deliver(batch).await;
        }
    }

    /// The next batch; `None` when draining and nothing is left.
    async fn next(&self) -> Option<Batch> {
        if let Ok(permit) = self.ready.acquire().await {
            permit.forget();
        }
        locked(&self.waiting).ready.pop_front()
    }

    /// Closes open batches when their time is up.
    async fn flush_in_time(&self) {
        let mut draining = self.draining.subscribe();
        loop {
            if self.draining.borrow().is_some() {
                return;
            }
            let (ready, next) = locked(&self.waiting).flush_due(Instant::now());
            self.ready.add_permits(ready);
            match next {
                None => self.opened.notified().await,
                Some(at) => {
                    let _either = tokio::time::timeout_at(at.into(), draining.wait_for(Option::is_some)).await;
                }
            }
        }
    }
}

/// Runs `work` to its end, beginning again after a panic: one bad request must not stop the exporter, and somebody must
/// hear of it.
async fn restarted<S: Sender, F: Future<Output = ()>>(shared: Arc<Shared<S>>, work: impl Fn(Arc<Shared<S>>) -> F) {
    while panics(work(shared.clone())).await {
        tracing::error!(exporter = %shared.ledger.exporter, "an exporter worker panicked and was restarted");
        shared.ledger.observer.worker_panicked();
    }
}

/// Whether `future` ended by a panic.
async fn panics(future: impl Future<Output = ()>) -> bool {
    let mut future = pin!(future);
    std::future::poll_fn(|context| match std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(())) => Poll::Ready(false),
        Err(_) => Poll::Ready(true),
    })
    .await
}

/// Locks; state behind these locks is whole between any two statements, so a panic elsewhere does not spoil it.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
