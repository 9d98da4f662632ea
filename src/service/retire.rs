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

/// Sends what is queued; answers how many items were given up.
pub async fn drain_exporters(exporters: impl IntoIterator<Item = Arc<dyn Destination>>, deadline: Instant) -> u64 {
    let mut draining = JoinSet::new();
    for destination in exporters {
        draining.spawn(async move { (destination.drain(deadline).await, destination.id().to_owned()) });
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
