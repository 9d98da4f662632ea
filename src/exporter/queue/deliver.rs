//! What becomes of one batch: sent, tried again, taken apart, or dropped and counted.

use super::{Shared, batch::Batch, item::Item};
use crate::{
    exporter::{Failure, Outcome, Outgoing, Sender, Sent, retry::Backoff},
    otlp::{
        Signal,
        split::{self, Most},
    },
};
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
    /// The time for retries is over; the last failure, and when the backend wants to be asked again.
    Elapsed(Cow<'static, str>, Option<Duration>),
    /// The first failure, where nothing is tried again.
    Once(Cow<'static, str>, Option<Duration>),
    /// The process stops before the next attempt is due.
    Stopping,
}

impl fmt::Display for GaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GaveUp::Refused(what) | GaveUp::Unconfirmed(what) => write!(f, "not retryable error: {what}"),
            GaveUp::Once(what, _) => f.write_str(what),
            GaveUp::Elapsed(what, _) => write!(f, "no more retries left: {what}"),
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
                self.log_end(signal, outgoing.count, &why);
                for mut item in batch.items {
                    let count = item.count();
                    end(&mut item, count, &why);
                }
            }
        }
    }

    /// Sends one original request, in parts if it is beyond a bound.
    async fn deliver_one(&self, mut item: Item) {
        let (signal, count) = (item.signal(), item.count());
        let max = self.settings.max_request_bytes;
        if item.bytes().len() <= max {
            let outgoing = Outgoing { signal, parts: vec![item.bytes().clone()], count };
            return self.deliver_part(&mut item, outgoing).await;
        }
        for part in split::fill(signal, item.bytes(), None, Most { bytes: max, items: u64::MAX }) {
            let size = part.bytes.len();
            if size > max {
                let what = format!("{size} bytes that cannot be split are beyond the limit of {max} for a request");
                self.ledger.log_drop(signal, part.count, &what);
                item.settle_because(Outcome::Dropped, part.count, &what);
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
                self.log_end(signal, count, &why);
                end(item, count, &why);
            }
        }
    }

    /// Logs the end of `items`, unless the drain gave them up, which reports them.
    fn log_end(&self, signal: Signal, items: u64, why: &GaveUp) {
        if !matches!(why, GaveUp::Stopping) {
            self.ledger.log_drop(signal, items, why);
        }
    }

    /// Sends until it is taken, or there is no point in trying again.
    async fn attempt(&self, outgoing: &Outgoing) -> Result<Sent, GaveUp> {
        let began = Instant::now();
        let mut backoff = Backoff::new(&self.settings.retry);
        loop {
            let (what, after) = match self.ledger.sending(outgoing, self.sender.send(outgoing)).await {
                Ok(sent) => return Ok(sent),
                Err(Failure::Refused { what }) => return Err(GaveUp::Refused(what)),
                Err(Failure::Unconfirmed { what }) => return Err(GaveUp::Unconfirmed(what)),
                Err(Failure::Retryable { what, after }) => (what, after),
            };
            let Some(delay) = backoff.next(began.elapsed(), after) else {
                return Err(match self.settings.retry.enabled {
                    true => GaveUp::Elapsed(what, after),
                    false => GaveUp::Once(what, after),
                });
            };
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

/// Enters `items` as ended without having been taken. What is given up because the process stops stays unsettled, and
/// is reported by going.
fn end(item: &mut Item, items: u64, why: &GaveUp) {
    match why {
        GaveUp::Stopping => {}
        GaveUp::Refused(_) | GaveUp::Unconfirmed(_) => item.settle_because(Outcome::SendFailed, items, why),
        GaveUp::Elapsed(_, after) | GaveUp::Once(_, after) => item.give_up(items, why, *after),
    }
}

/// Enters a merged batch as taken. Which of its requests had the rejected items is not known; only sums are reported.
fn settle_merged(batch: Batch, sent: Sent) {
    let mut rejected = sent.rejected;
    for mut item in batch.items {
        let count = item.count();
        let here = rejected.min(count);
        rejected -= here;
        item.settle_merged(sent.rejected, here, count - here);
    }
}
