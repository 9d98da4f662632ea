//! From rendered payloads to an answer: room at every destination or at none, queues, and what became of it where the
//! answer waits for that.

use super::{
    Accepted, Budget, Delivered, Delivery, Destination, Full, OnFull, Payload, Permit, Pipeline, Queued, Refusal,
    Reply, Undelivered,
};
use crate::otlp::split;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// What a client is told to wait when a queue is full.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The most a client is told to wait, whatever a backend says: clients obey.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The longest a request waits for room at a destination whose configuration says so. Clients have given up by then.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// How long a request that was woken in vain stands back.
const PAUSE: Duration = Duration::from_millis(1);

/// A pipeline's share of one request, ready to be queued.
pub(super) struct Outcome {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) passed: Option<Payload>,
    pub(super) rejected: u64,
}

/// Room for one payload at one destination.
struct Admitted<'a> {
    destination: &'a Arc<dyn Destination>,
    permit: Permit,
    payload: &'a Payload,
}

/// Why there is no room everywhere.
enum NoRoom<'a> {
    /// The request is refused.
    Refused(Refusal),
    /// Waiting at this destination may help.
    Wait(&'a Arc<dyn Destination>, &'a Payload, Full),
}

/// Reserves room at every destination of every pipeline, then queues everywhere. If one has no room, nothing is queued
/// anywhere, so that the client's retry makes no duplicates. Given up while it waits for room, it has taken nothing;
/// given up later, the payloads are on their way all the same.
pub(super) async fn commit(outcomes: Vec<Outcome>) -> Result<Accepted, Refusal> {
    commit_within(outcomes, MAX_WAIT).await
}

async fn commit_within(outcomes: Vec<Outcome>, max_wait: Duration) -> Result<Accepted, Refusal> {
    let oversize = oversize(&outcomes)?;
    let admitted = match admit(&outcomes) {
        Ok(admitted) => admitted,
        Err(NoRoom::Refused(refusal)) => return Err(refusal),
        Err(NoRoom::Wait(..)) => admit_in_time(&outcomes, max_wait).await?,
    };
    let deliveries = hand_over(admitted);
    let rejected = outcomes.iter().map(|outcome| outcome.rejected).max().unwrap_or_default();
    let mut answer = Accepted { rejected, message: String::new() };
    if rejected > 0 {
        answer.message = format!("{rejected} items were blocked by policy");
    }
    let mut undelivered = 0;
    if let Some((items, message)) = oversize {
        undelivered = items;
        say(&mut answer.message, &message);
    }
    if !deliveries.is_empty() {
        drop(outcomes);
        undelivered = undelivered.max(hear(deliveries, &mut answer.message).await?);
    }
    answer.rejected += undelivered;
    Ok(answer)
}

/// Items that a destination will never send because each is larger than its requests may be. Told before it is
/// acknowledged: as partial success, or as a refusal when there is nothing else.
fn oversize(outcomes: &[Outcome]) -> Result<Option<(u64, String)>, Refusal> {
    let mut worst: Option<(u64, String)> = None;
    for (destination, payload) in destinations(outcomes) {
        let max = destination.max_request_bytes();
        // A request that keeps the bound has no item that does not, so this is all there is to it nearly always.
        if payload.bytes.len() <= max || destination.on_full() == OnFull::Drop || destination.waits_for_result() {
            continue;
        }
        let items = split::oversize(payload.signal, &payload.bytes, max);
        if items == 0 {
            continue;
        }
        let id = destination.id();
        let message = format!("{items} items are larger than the {max} bytes a request to exporter {id} may have");
        if items >= payload.count {
            destination.refused(payload);
            return Err(Refusal::TooLarge(message));
        }
        if worst.as_ref().is_none_or(|(most, _)| *most < items) {
            worst = Some((items, message));
        }
    }
    Ok(worst)
}

fn destinations(outcomes: &[Outcome]) -> impl Iterator<Item = (&Arc<dyn Destination>, &Payload)> {
    outcomes.iter().flat_map(|Outcome { pipeline, passed, .. }| {
        passed.iter().flat_map(|payload| pipeline.destinations.iter().map(move |destination| (destination, payload)))
    })
}

/// Room everywhere, or none anywhere: what was reserved is given back when one has none.
fn admit(outcomes: &[Outcome]) -> Result<Vec<Admitted<'_>>, NoRoom<'_>> {
    let mut admitted: Vec<Admitted<'_>> = Vec::new();
    let mut dropped = Vec::new();
    for (destination, payload) in destinations(outcomes) {
        let (bytes, items) = (payload.bytes.len() as u64, payload.count);
        match destination.budget().try_reserve_items(bytes, items) {
            Ok(permit) => admitted.push(Admitted { destination, permit, payload }),
            Err(full) => match destination.on_full() {
                OnFull::Drop => dropped.push((destination, payload)),
                OnFull::Wait if destination.budget().can_hold(bytes, items) => {
                    return Err(NoRoom::Wait(destination, payload, full));
                }
                OnFull::Wait | OnFull::Refuse => return Err(NoRoom::Refused(refuse(destination, payload, &full))),
            },
        }
    }
    // Only now is it sure that the request is taken, and this is what is lost of it.
    dropped.into_iter().for_each(|(destination, payload)| destination.refused(payload));
    Ok(admitted)
}

fn refuse(destination: &Arc<dyn Destination>, payload: &Payload, full: &Full) -> Refusal {
    destination.refused(payload);
    let message = format!("sending queue is full: exporter {}: {full}", destination.id());
    match destination.budget().can_hold(payload.bytes.len() as u64, payload.count) {
        false => Refusal::TooLarge(message),
        true => Refusal::Overloaded { message, retry_after: RETRY_AFTER },
    }
}

/// Waits until there is room everywhere. Nothing is held while waiting, so that no two requests can wait for each
/// other, whatever the order of their destinations.
async fn admit_in_time(outcomes: &[Outcome], max_wait: Duration) -> Result<Vec<Admitted<'_>>, Refusal> {
    let until = Instant::now() + max_wait;
    let mut woken = false;
    let mut at: Option<Budget> = None;
    loop {
        // In line before trying, so that what is given back in between is not missed.
        let waiter = at.as_ref().map(Budget::wait);
        let (destination, payload, full) = match admit(outcomes) {
            Err(NoRoom::Wait(destination, payload, full)) => (destination, payload, full),
            done => {
                at.iter().for_each(Budget::pass_on);
                return done.map_err(|no_room| match no_room {
                    NoRoom::Refused(refusal) => refusal,
                    NoRoom::Wait(destination, payload, full) => refuse(destination, payload, &full),
                });
            }
        };
        if destination.budget().has_stopped_waiting() {
            at.iter().for_each(Budget::pass_on);
            destination.refused(payload);
            return Err(shutting_down());
        }
        match waiter.filter(|_| at.as_ref().is_some_and(|budget| budget.is(destination.budget()))) {
            // What is reserved and given back on the way to a full destination wakes others, who may do the same.
            Some(_) if woken => {
                woken = false;
                tokio::time::sleep(PAUSE).await;
            }
            Some(waiter) => {
                if tokio::time::timeout_at(until.into(), waiter.freed()).await.is_err() {
                    return Err(refuse(destination, payload, &full));
                }
                woken = true;
            }
            None => {
                // It is another one that is full now; what woke this request is for somebody else.
                at.iter().for_each(Budget::pass_on);
                at = Some(destination.budget().clone());
            }
        }
    }
}

pub(super) fn shutting_down() -> Refusal {
    Refusal::Overloaded { message: "shutting down".into(), retry_after: RETRY_AFTER }
}

/// Queues everywhere; what to wait for, with the exporter's id.
fn hand_over(admitted: Vec<Admitted<'_>>) -> Vec<(String, Delivery)> {
    let mut deliveries = Vec::new();
    for Admitted { destination, permit, payload } in admitted {
        if destination.waits_for_result() {
            let (reply, delivery) = Reply::new();
            destination.enqueue_all(vec![Queued { permit, payload: payload.clone(), reply: Some(reply) }]);
            deliveries.push((destination.id().to_owned(), delivery));
        } else {
            destination.enqueue(permit, payload.clone());
        }
    }
    deliveries
}

/// Waits for every destination that answers; how many items one rejected, at most. What can be tried again outweighs
/// what cannot: a duplicate is better than a loss.
async fn hear(deliveries: Vec<(String, Delivery)>, remarks: &mut String) -> Result<u64, Refusal> {
    let mut refusal = None;
    let mut rejected = 0;
    for (exporter, delivery) in deliveries {
        let ended = delivery.await;
        match ended.unwrap_or(Err(Undelivered::Defect("the request was lost"))) {
            Ok(Delivered { rejected: here, message }) => {
                rejected = rejected.max(here);
                if !message.is_empty() {
                    say(remarks, &format!("exporter {exporter}: {message}"));
                }
            }
            Err(Undelivered::Unavailable { what, after }) => {
                let message = format!("exporter {exporter}: {what}");
                refusal = Some(Refusal::Overloaded {
                    message,
                    retry_after: after.unwrap_or(RETRY_AFTER).min(MAX_RETRY_AFTER),
                });
            }
            Err(why) => {
                refusal.get_or_insert_with(|| match why {
                    Undelivered::Defect(what) => Refusal::Internal(format!("exporter {exporter}: {what}")),
                    why => Refusal::Undeliverable(format!("exporter {exporter}: {why}")),
                });
            }
        }
    }
    refusal.map_or(Ok(rejected), Err)
}

fn say(message: &mut String, more: &str) {
    if !message.is_empty() {
        message.push_str("; ");
    }
    message.push_str(more);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{otlp::Signal, pipeline::Metadata};
    use std::{future::Future, pin::Pin};

    /// Lets requests wait for room, and keeps what it gets in its room.
    struct Full(Budget);

    impl Destination for Full {
        fn id(&self) -> &str {
            "full"
        }

        fn budget(&self) -> &Budget {
            &self.0
        }

        fn on_full(&self) -> OnFull {
            OnFull::Wait
        }

        fn enqueue(&self, permit: Permit, _: Payload) {
            std::mem::forget(permit);
        }

        fn drain(&self, _: Instant) -> Pin<Box<dyn Future<Output = u64> + Send + '_>> {
            Box::pin(std::future::ready(0))
        }
    }

    #[tokio::test]
    async fn waiting_for_room_ends_retryably() {
        let destination: Arc<dyn Destination> = Arc::new(Full(Budget::new(10, 1)));
        let pipeline =
            Arc::new(Pipeline { id: "traces".into(), stages: Vec::new(), destinations: vec![destination.clone()] });
        let outcome = || {
            let payload =
                Payload { signal: Signal::Traces, bytes: vec![0; 10].into(), count: 1, metadata: Metadata::default() };
            vec![Outcome { pipeline: pipeline.clone(), passed: Some(payload), rejected: 0 }]
        };
        assert_eq!(commit_within(outcome(), Duration::ZERO).await, Ok(Accepted::default()));
        let expected = Refusal::Overloaded {
            message: "sending queue is full: exporter full: 1 requests in the queue".into(),
            retry_after: RETRY_AFTER,
        };
        assert_eq!(commit_within(outcome(), Duration::from_millis(5)).await, Err(expected));
    }

    #[tokio::test]
    async fn a_client_is_not_told_to_wait_longer_than_an_hour() {
        let (reply, delivery) = Reply::new();
        reply.failed(Undelivered::Unavailable { what: "away".to_owned(), after: Some(Duration::MAX) });
        drop(reply);
        let refusal = hear(vec![("x".to_owned(), delivery)], &mut String::new()).await.unwrap_err();
        let message = "exporter x: away".to_owned();
        assert_eq!(refusal, Refusal::Overloaded { message, retry_after: MAX_RETRY_AFTER });
    }
}
