//! How parts of a service end: what is in hand is answered, then the queues are emptied, each until a deadline.

use super::ports::Port;
use crate::{
    pipeline::{Destination, Gateway},
    receiver::Receiver,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// How long what a reload replaced may take to answer and send what it has.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often it is looked whether the last request of a replaced gateway was answered.
const GATEWAY_CHECK: Duration = Duration::from_millis(10);

/// What a reload replaced.
#[derive(Default)]
pub struct Retired {
    pub receivers: Vec<Receiver>,
    /// Of receivers that go on with another gateway.
    pub gateways: Vec<Arc<Gateway>>,
    pub exporters: Vec<Arc<dyn Destination>>,
    pub ports: Vec<Port>,
}

impl Retired {
    /// Answers what is in hand, then empties the queues; answers how many items were given up.
    pub async fn drain(self) -> u64 {
        let deadline = Instant::now() + PATIENCE;
        self.exporters.iter().for_each(|exporter| exporter.stop_waiting());
        for port in self.ports {
            port.close().await;
        }
        drain_receivers(self.receivers, deadline).await;
        // A request in hand holds its gateway, and hands what it has to the queues of that gateway at the end.
        while self.gateways.iter().any(|gateway| Arc::strong_count(gateway) > 1) && Instant::now() < deadline {
            tokio::time::sleep(GATEWAY_CHECK).await;
        }
        drain_exporters(self.exporters, deadline).await
    }
}

/// Stops accepting, and answers what is in hand.
pub async fn drain_receivers(receivers: impl IntoIterator<Item = Receiver>, deadline: Instant) {
    let mut draining: JoinSet<bool> = receivers.into_iter().map(|receiver| receiver.drain(deadline.into())).collect();
    while draining.join_next().await.is_some() {}
}

/// Sends what is queued, and what batches in front of the queues hold; answers how many items were given up.
pub async fn drain_exporters(exporters: impl IntoIterator<Item = Arc<dyn Destination>>, deadline: Instant) -> u64 {
    let mut draining = JoinSet::new();
    for destination in exporters {
        draining.spawn(async move {
            destination.stop_waiting();
            let handed_over = destination.budget().handed_over();
            let _too_slow = tokio::time::timeout_at(deadline.into(), handed_over).await;
            (destination.drain(deadline).await, destination.id().to_owned())
        });
    }
    let mut given_up = 0;
    while let Some(drained) = draining.join_next().await {
        let Ok((items, exporter)) = drained else { continue };
        if items > 0 {
            tracing::error!(%exporter, items, "not delivered before the deadline and lost");
        }
        given_up += items;
    }
    given_up
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{
        otlp::Signal,
        pipeline::{Budget, Metadata, Payload, Permit},
        processor::batch::{Batch, Config},
    };
    use std::{
        future::Future,
        pin::Pin,
        sync::atomic::{AtomicBool, AtomicU64, Ordering},
    };

    /// Counts what comes before it is drained.
    struct Queue {
        budget: Budget,
        closed: AtomicBool,
        taken: AtomicU64,
    }

    impl Destination for Queue {
        fn id(&self) -> &str {
            "queue"
        }

        fn budget(&self) -> &Budget {
            &self.budget
        }

        fn enqueue(&self, _: Permit, payload: Payload) {
            if !self.closed.load(Ordering::SeqCst) {
                self.taken.fetch_add(payload.count, Ordering::SeqCst);
            }
        }

        fn drain(&self, _: Instant) -> Pin<Box<dyn Future<Output = u64> + Send + '_>> {
            self.closed.store(true, Ordering::SeqCst);
            Box::pin(std::future::ready(0))
        }
    }

    #[tokio::test]
    async fn a_queue_closes_after_the_batches_in_front_of_it_were_handed_over() {
        let (closed, taken) = (AtomicBool::new(false), AtomicU64::new(0));
        let queue = Arc::new(Queue { budget: Budget::new(100, 10), closed, taken });
        let batched = Batch::new("batch", &Config::default()).unwrap().in_front_of(queue.clone(), true);
        let payload =
            Payload { signal: Signal::Traces, bytes: vec![0; 10].into(), count: 1, metadata: Metadata::default() };
        batched.enqueue(queue.budget.try_reserve_items(10, 1).unwrap(), payload);
        assert_eq!(queue.taken.load(Ordering::SeqCst), 0, "it waits for others");
        drain_exporters([queue.clone() as Arc<dyn Destination>], Instant::now() + PATIENCE).await;
        assert_eq!(queue.taken.load(Ordering::SeqCst), 1, "acknowledged, so not lost");
        drop(batched);
    }
}
