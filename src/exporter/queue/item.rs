//! One queued payload, and the ledger in which every one of its items is entered exactly once.

use crate::{
    exporter::{Observer, Outcome, Outgoing},
    otlp::Signal,
    otlp::split::Part,
    pipeline::{Payload, Permit, Piece, Queued, Undelivered},
};
use bytes::Bytes;
use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// A payload with its room. What is not [settled](Item::settle) when it goes is reported as dropped, so neither an
/// abort nor a panic loses items from the count.
#[derive(Debug)]
pub(in crate::exporter) struct Item {
    queued: Queued,
    unsettled: u64,
    ledger: Arc<Ledger>,
}

impl Item {
    pub(in crate::exporter) fn new(ledger: Arc<Ledger>, permit: Permit, payload: Payload) -> Self {
        Item::from(ledger, Queued { payload, permit, reply: None })
    }

    pub(in crate::exporter) fn from(ledger: Arc<Ledger>, queued: Queued) -> Self {
        Item { unsettled: queued.payload.count, queued, ledger }
    }

    pub(in crate::exporter) fn signal(&self) -> Signal {
        self.queued.payload.signal
    }

    pub(in crate::exporter) fn bytes(&self) -> &Bytes {
        &self.queued.payload.bytes
    }

    /// Spans, log records or metric data points in it.
    pub(in crate::exporter) fn count(&self) -> u64 {
        self.queued.payload.count
    }

    /// Enters `items` of this payload as ended.
    pub(in crate::exporter) fn settle(&mut self, outcome: Outcome, items: u64) {
        self.enter(outcome, items, || match outcome {
            Outcome::Rejected => "the destination rejected them".to_owned(),
            _ => "could not be sent".to_owned(),
        });
    }

    /// Enters `items` as ended for good, with the reason for whoever waits.
    pub(in crate::exporter) fn settle_because(&mut self, outcome: Outcome, items: u64, why: &dyn fmt::Display) {
        self.enter(outcome, items, || why.to_string());
    }

    /// Enters `items` as given up, though sending them again later may help.
    pub(in crate::exporter) fn give_up(&mut self, items: u64, why: &dyn fmt::Display, after: Option<Duration>) {
        if let Some(reply) = &self.queued.reply {
            reply.failed(Undelivered::Unavailable { what: why.to_string(), after });
        }
        self.report(Outcome::SendFailed, items);
    }

    /// Enters what became of it in a batch of which `around` items were rejected, though nobody knows whose: for the
    /// sums `rejected` of them are its own, and whoever waits hears how it is.
    pub(in crate::exporter) fn settle_merged(&mut self, around: u64, rejected: u64, sent: u64) {
        if let Some(reply) = &self.queued.reply {
            reply.delivered(rejected + sent);
            if around > 0 {
                reply.rejected_around(around);
            }
        }
        self.report(Outcome::Rejected, rejected);
        self.report(Outcome::Sent, sent);
    }

    /// Enters everything that is left.
    pub(in crate::exporter) fn settle_all(mut self, outcome: Outcome) {
        self.settle(outcome, self.unsettled);
    }

    fn enter(&mut self, outcome: Outcome, items: u64, why: impl FnOnce() -> String) {
        let items = items.min(self.unsettled);
        match (&self.queued.reply, outcome) {
            (None, _) => {}
            (Some(reply), Outcome::Sent) => reply.delivered(items),
            (Some(reply), _) => reply.rejected(items, why),
        }
        self.report(outcome, items);
    }

    fn report(&mut self, outcome: Outcome, items: u64) {
        let items = items.min(self.unsettled);
        self.unsettled -= items;
        self.ledger.enter(outcome, self.signal(), items);
    }
}

impl Piece for Item {
    fn payload(&self) -> &Payload {
        &self.queued.payload
    }

    fn take(&mut self, part: Part) -> Self {
        let taken = Item::from(self.ledger.clone(), self.queued.take(part));
        self.unsettled = self.queued.payload.count;
        taken
    }

    fn keep(&mut self, part: Part) {
        self.queued.keep(part);
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        if self.unsettled > 0 {
            if let Some(reply) = &self.queued.reply {
                reply.failed(match std::thread::panicking() {
                    true => Undelivered::Defect("the request hit a defect in tracegate; see its log"),
                    false => Undelivered::Unavailable { what: "shutting down".to_owned(), after: None },
                });
            }
            self.ledger.abandoned.fetch_add(self.unsettled, Ordering::Relaxed);
            self.ledger.enter(Outcome::Dropped, self.signal(), self.unsettled);
        }
    }
}

/// Where ends are entered.
pub(in crate::exporter) struct Ledger {
    pub(in crate::exporter) exporter: Arc<str>,
    pub(in crate::exporter) observer: Arc<dyn Observer>,
    abandoned: AtomicU64,
    drops: LogLimit,
    full: LogLimit,
    retries: LogLimit,
}

impl Ledger {
    pub(in crate::exporter) fn new(exporter: &str, observer: Arc<dyn Observer>) -> Self {
        Ledger {
            exporter: exporter.into(),
            observer,
            abandoned: AtomicU64::new(0),
            drops: LogLimit::every(Duration::from_secs(1)),
            full: LogLimit::every(Duration::from_secs(10)),
            retries: LogLimit::every(Duration::from_secs(10)),
        }
    }

    pub(in crate::exporter) fn enter(&self, outcome: Outcome, signal: Signal, items: u64) {
        if items > 0 {
            self.observer.items(outcome, signal, items);
        }
    }

    /// Waits for an attempt to send, which counts as in flight that long, also when it is cut off.
    pub(in crate::exporter) async fn sending<T>(&self, outgoing: &Outgoing, attempt: impl Future<Output = T>) -> T {
        struct InFlight<'a>(&'a dyn Observer);
        impl Drop for InFlight<'_> {
            fn drop(&mut self) {
                self.0.answered();
            }
        }
        self.observer.sending(outgoing.count, outgoing.len());
        let _in_flight = InFlight(&*self.observer);
        attempt.await
    }

    /// Items that went without an end of their own so far: aborted, or in the hands of a worker that panicked.
    pub(in crate::exporter) fn abandoned(&self) -> u64 {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// Logs that an attempt failed, at most every ten seconds: a backend that is away shows in the log, and does not
    /// fill it. `why` is our own text.
    pub(in crate::exporter) fn log_retry(&self, signal: Signal, delay: Duration, why: &dyn fmt::Display) {
        if let Some(silent) = self.retries.allows(Instant::now()) {
            tracing::warn!(
                exporter = %self.exporter,
                signal = signal.name(),
                reason = %why,
                delay = ?delay,
                suppressed = silent,
                "exporting failed; will try again"
            );
        }
    }

    /// Logs that a payload found no room and is lost for this destination, at most every ten seconds.
    pub(in crate::exporter) fn log_no_room(&self, signal: Signal, items: u64) {
        if let Some(silent) = self.full.allows(Instant::now()) {
            tracing::error!(
                exporter = %self.exporter,
                signal = signal.name(),
                items,
                suppressed = silent,
                "sending queue is full; dropping data for this exporter alone, as on_full says"
            );
        }
    }

    /// Logs dropped data, at most one line per second; `why` is our own text.
    pub(in crate::exporter) fn log_drop(&self, signal: Signal, items: u64, why: &dyn fmt::Display) {
        if let Some(silent) = self.drops.allows(Instant::now()) {
            tracing::error!(
                exporter = %self.exporter,
                signal = signal.name(),
                items,
                reason = %why,
                suppressed = silent,
                "exporting failed; dropping data"
            );
        }
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("exporter", &self.exporter).finish_non_exhaustive()
    }
}

/// Keeps one failing backend from filling the log.
#[derive(Debug)]
struct LogLimit {
    every: Duration,
    /// When the last line was written, and how many were left out since.
    state: Mutex<(Option<Instant>, u64)>,
}

impl LogLimit {
    fn every(every: Duration) -> Self {
        LogLimit { every, state: Mutex::default() }
    }

    /// `None`: not now. Otherwise how many were left out since the last line.
    fn allows(&self, now: Instant) -> Option<u64> {
        let mut state = super::locked(&self.state);
        if state.0.is_some_and(|last| now.saturating_duration_since(last) < self.every) {
            state.1 += 1;
            return None;
        }
        state.0 = Some(now);
        Some(std::mem::take(&mut state.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_limited_and_says_what_it_left_out() {
        let second = Duration::from_secs(1);
        let limit = LogLimit::every(second);
        let now = Instant::now();
        assert_eq!(limit.allows(now), Some(0));
        assert_eq!(limit.allows(now), None);
        assert_eq!(limit.allows(now + second / 2), None);
        assert_eq!(limit.allows(now + second), Some(2));
    }
}
