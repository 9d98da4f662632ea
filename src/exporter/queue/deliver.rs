//! What becomes of one batch: sent, tried again, taken apart, or dropped and counted.

use super::{Shared, batch::Batch, item::Item};
use crate::{
    exporter::{Failure, Outcome, Outgoing, Sender, Sent, retry::Backoff},
    otlp::Signal,
    otlp::split::{self, Part},
};
use bytes::Bytes;
use std::{
    borrow::Cow,
    fmt,
    time::{Duration, Instant},
};

/// Why a request is not sent again.
#[derive(Debug)]
enum GaveUp {
    /// The backend would refuse it again.
    Refused(Cow<'static, str>),
    /// It may have arrived, so it must not be repeated.
    Unconfirmed(Cow<'static, str>),
    /// The time for retries is over; the last failure.
    Elapsed(Cow<'static, str>),
    /// The process stops before the next attempt is due.
    Stopping,
}

impl fmt::Display for GaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GaveUp::Refused(what) | GaveUp::Unconfirmed(what) => f.write_str(what),
            GaveUp::Elapsed(what) => write!(f, "no more retries left: {what}"),
            GaveUp::Stopping => f.write_str("shutting down"),
        }
    }
}

impl<S: Sender> Shared<S> {
    /// Sees a batch to its end.
    pub(super) async fn deliver(&self, mut batch: Batch) {
        let Some(signal) = batch.items.first().map(Item::signal) else { return };
        if batch.items.len() == 1
            && let Some(item) = batch.items.pop()
        {
            return self.deliver_one(item).await;
        }
        let outgoing = batch.outgoing(signal);
        match self.attempt(&outgoing).await {
            Ok(sent) => settle_merged(batch, sent),
            // One client's bad request must not cost its neighbours theirs.
            Err(GaveUp::Refused(why)) => {
                tracing::debug!(
                    exporter = %self.ledger.exporter,
                    signal = signal.name(),
                    requests = batch.items.len(),
                    reason = %why,
                    "a merged batch was refused; sending its requests one by one"
                );
                drop(outgoing);
                for item in batch.items {
                    self.deliver_one(item).await;
                }
            }
            Err(why) => {
                let count = outgoing.count;
                if let Some(outcome) = self.ends(signal, count, &why) {
                    batch.items.into_iter().for_each(|item| item.settle_all(outcome));
                }
            }
        }
    }

    /// Sends one original request, in parts if it is beyond a bound.
    async fn deliver_one(&self, mut item: Item) {
        let (signal, count) = (item.signal(), item.payload.count);
        let bounds = self.settings.bounds();
        if item.bytes().len() <= bounds.bytes && count <= bounds.items {
            let outgoing = Outgoing { signal, parts: vec![item.bytes().clone()], count };
            return self.deliver_part(&mut item, outgoing).await;
        }
        for part in split_within(signal, item.bytes(), count, bounds) {
            if part.bytes.len() > self.settings.max_request_bytes {
                let (size, max) = (part.bytes.len(), self.settings.max_request_bytes);
                let what = format!("{size} bytes that cannot be split are beyond the limit of {max} for a request");
                self.ledger.log_drop(signal, part.count, &what);
                item.settle(Outcome::Dropped, part.count);
                continue;
            }
            let outgoing = Outgoing { signal, parts: vec![part.bytes], count: part.count };
            self.deliver_part(&mut item, outgoing).await;
        }
    }

    async fn deliver_part(&self, item: &mut Item, outgoing: Outgoing) {
        let (signal, count) = (outgoing.signal, outgoing.count);
        match self.attempt(&outgoing).await {
            Ok(sent) => {
                let rejected = sent.rejected.min(count);
                item.settle(Outcome::Rejected, rejected);
                item.settle(Outcome::Sent, count - rejected);
            }
            Err(why) => {
                if let Some(outcome) = self.ends(signal, count, &why) {
                    item.settle(outcome, count);
                }
            }
        }
    }

    /// Logs the end of `items`. `None` when they stay unsettled: given up by the drain, which reports them.
    fn ends(&self, signal: Signal, items: u64, why: &GaveUp) -> Option<Outcome> {
        if matches!(why, GaveUp::Stopping) {
            return None;
        }
        self.ledger.log_drop(signal, items, why);
        Some(Outcome::SendFailed)
    }

    /// Sends until it is taken, or there is no point in trying again.
    async fn attempt(&self, outgoing: &Outgoing) -> Result<Sent, GaveUp> {
        let began = Instant::now();
        let mut backoff = Backoff::new(&self.settings.retry);
        loop {
            let (what, after) = match self.sender.send(outgoing).await {
                Ok(sent) => return Ok(sent),
                Err(Failure::Refused { what }) => return Err(GaveUp::Refused(what)),
                Err(Failure::Unconfirmed { what }) => return Err(GaveUp::Unconfirmed(what)),
                Err(Failure::Retryable { what, after }) => (what, after),
            };
            let Some(delay) = backoff.next(began.elapsed(), after) else { return Err(GaveUp::Elapsed(what)) };
            self.ledger.log_retry(outgoing.signal, delay, &what);
            self.ledger.observer.retried(outgoing.signal);
            self.pause(delay, after.is_some()).await?;
        }
    }

    /// Waits `delay`. A drain ends the wait: at once for one more attempt, unless the backend asked for the delay, or
    /// with [`GaveUp::Stopping`] when the attempt would come after its deadline.
    async fn pause(&self, delay: Duration, asked_for: bool) -> Result<(), GaveUp> {
        let mut draining = self.draining.subscribe();
        let sleep = tokio::time::sleep(delay);
        tokio::pin!(sleep);
        loop {
            let stop = *draining.borrow_and_update();
            if stop.is_some_and(|deadline| sleep.deadline().into_std() > deadline) {
                return Err(GaveUp::Stopping);
            }
            tokio::select! {
                () = &mut sleep => return Ok(()),
                changed = draining.changed() => {
                    if changed.is_err() || !asked_for {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// Enters a merged batch as taken. Which of its requests had the rejected items is not known; only sums are reported.
fn settle_merged(batch: Batch, sent: Sent) {
    let mut rejected = sent.rejected;
    for mut item in batch.items {
        let here = rejected.min(item.payload.count);
        rejected -= here;
        item.settle(Outcome::Rejected, here);
        item.settle_all(Outcome::Sent);
    }
}

/// The bounds one request has to keep.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) bytes: usize,
    pub(super) items: u64,
}

/// Splits a request until every part keeps the bounds or is a single item.
fn split_within(signal: Signal, bytes: &Bytes, count: u64, bounds: Bounds) -> Vec<Part> {
    let mut done = Vec::new();
    let mut todo = vec![Part { bytes: bytes.clone(), count, oversize: false }];
    while let Some(part) = todo.pop() {
        let too_many = part.count > bounds.items;
        if part.oversize || (part.bytes.len() <= bounds.bytes && !too_many) {
            done.push(part);
            continue;
        }
        let mut max_bytes = bounds.bytes;
        if too_many {
            // Bytes are what can be split by; an even share of them comes near the wanted number of items.
            let shares = usize::try_from(part.count.div_ceil(bounds.items)).unwrap_or(usize::MAX);
            max_bytes = max_bytes.min(part.bytes.len() / shares.max(2)).max(1);
        }
        let mut parts = split::split(signal, &part.bytes, max_bytes);
        if parts.len() == 1 {
            done.append(&mut parts);
        } else {
            todo.extend(parts.into_iter().rev());
        }
    }
    done
}
