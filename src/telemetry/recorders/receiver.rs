//! What receivers record: requests, what became of their items, connections, and what is in hand.

use super::{Flow, ItemCounter, ItemCounters, Outcome, counter, gauge, histogram, labels, with};
use crate::{
    otlp::Signal,
    telemetry::names::{self, Metric},
};
use metrics::{Counter, Gauge, Histogram};

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
            produced: Flow::new(Metric::ReceiverProducedItems, "receiver", receiver, None, &Signal::ALL),
            requests: Outcome::ALL
                .map(|outcome| counter(Metric::ReceiverRequests, &with(&labels, "outcome", outcome.name()))),
            request_bytes: histogram(Metric::ReceiverRequestBytes, &labels),
        }
    }

    /// A request of which the pipeline took this many items.
    pub fn accepted(&self, signal: Signal, count: u64) {
        self.accepted.add(signal, count);
        self.ended(Outcome::Success, signal, count);
    }

    /// Items that a decision of the pipeline took out of an accepted request.
    pub fn blocked(&self, signal: Signal, count: u64) {
        self.refused.add(signal, count);
        self.blocked.add(signal, count);
        self.produced.add(signal, Outcome::Refused, count);
    }

    /// A request of so many items that the pipeline refused.
    pub fn refused(&self, signal: Signal, count: u64) {
        self.refused.add(signal, count);
        self.ended(Outcome::Refused, signal, count);
    }

    /// A request of so many items lost to a defect of the receiver itself.
    pub fn failed(&self, signal: Signal, count: u64) {
        self.failed.add(signal, count);
        self.ended(Outcome::Failure, signal, count);
    }

    fn ended(&self, outcome: Outcome, signal: Signal, count: u64) {
        self.requests[outcome as usize].increment(1);
        self.produced.add(signal, outcome, count);
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
