//! What becomes of a payload behind its queue, for an answer that waits for it.

use super::{Payload, Permit};
use crate::otlp::split::Part;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::oneshot;

/// A payload on its way to one destination, with the room it takes there.
#[derive(Debug)]
pub struct Queued {
    /// The payload.
    pub payload: Payload,
    /// Its room, from the destination's budget.
    pub permit: Permit,
    /// Who waits for its end, if somebody does.
    pub reply: Option<Reply>,
}

/// Something that stands for a payload in an open batch, and can be split with it.
pub trait Piece: Sized {
    /// What it stands for.
    fn payload(&self) -> &Payload;

    /// Splits `part` off. Its room and its items go with it.
    fn take(&mut self, part: Part) -> Self;

    /// Splits it into `parts`, which together are the payload. The last one gets whatever room is left.
    fn divide(mut self, parts: Vec<Part>) -> Vec<Self> {
        let mut divided = Vec::with_capacity(parts.len());
        let mut parts = parts.into_iter().peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_some() {
                divided.push(self.take(part));
            } else {
                self.keep(part);
                divided.push(self);
                break;
            }
        }
        divided
    }

    /// Becomes `part`, the last one; room and items stay.
    fn keep(&mut self, part: Part);
}

impl Piece for Queued {
    fn payload(&self) -> &Payload {
        &self.payload
    }

    fn take(&mut self, part: Part) -> Self {
        let count = part.count.min(self.payload.count);
        self.payload.count -= count;
        Queued {
            permit: self.permit.take(part.bytes.len() as u64, count),
            payload: Payload {
                signal: self.payload.signal,
                bytes: part.bytes,
                count,
                metadata: self.payload.metadata.clone(),
            },
            reply: self.reply.clone(),
        }
    }

    fn keep(&mut self, part: Part) {
        self.payload.bytes = part.bytes;
    }
}

/// A payload the destination took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Items that were not taken for good, though others were.
    pub rejected: u64,
    /// What to tell the client; empty when there is nothing to say.
    pub message: String,
}

/// Why a payload was not delivered. The texts are ours; what a backend writes is foreign and is not repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    /// Not now; sending it again may help.
    #[error("{what}")]
    Unavailable {
        /// What happened.
        what: String,
        /// When to come back, if the destination said so.
        after: Option<Duration>,
    },
    /// Never; it would be refused again, or may have arrived.
    #[error("{0}")]
    Refused(String),
    /// A defect of ours.
    #[error("{0}")]
    Defect(&'static str),
}

/// Resolves when a payload has come to its end.
pub type Delivery = oneshot::Receiver<Result<Delivered, Undelivered>>;

/// Who waits for the end of a payload. Clones stand for parts of it; the answer goes when the last of them is gone,
/// and is success if nothing else was noted.
#[derive(Clone, Debug)]
pub struct Reply(Arc<Open>);

#[derive(Debug)]
struct Open {
    notes: Mutex<Notes>,
    to: Mutex<Option<oneshot::Sender<Result<Delivered, Undelivered>>>>,
}

#[derive(Debug, Default)]
struct Notes {
    delivered: u64,
    rejected: u64,
    why_rejected: Option<String>,
    /// Items the destination rejected of a batch that this payload was part of.
    rejected_around: u64,
    failed: Option<Undelivered>,
}

impl Reply {
    /// A reply and what it resolves.
    pub fn new() -> (Reply, Delivery) {
        let (to, delivery) = oneshot::channel();
        (Reply(Arc::new(Open { notes: Mutex::default(), to: Mutex::new(Some(to)) })), delivery)
    }

    /// `items` arrived.
    pub fn delivered(&self, items: u64) {
        self.note(|notes| notes.delivered += items);
    }

    /// `items` will never be taken.
    pub fn rejected(&self, items: u64, why: impl FnOnce() -> String) {
        if items > 0 {
            self.note(|notes| {
                notes.rejected += items;
                notes.why_rejected.get_or_insert_with(why);
            });
        }
    }

    /// The destination rejected `items` of a batch, without saying whose they were.
    pub fn rejected_around(&self, items: u64) {
        self.note(|notes| notes.rejected_around += items);
    }

    /// Some of it could not be delivered now, or was lost to a defect. What can be tried again outweighs what cannot.
    pub fn failed(&self, why: Undelivered) {
        self.note(|notes| {
            if !matches!(notes.failed, Some(Undelivered::Unavailable { .. })) {
                notes.failed = Some(why);
            }
        });
    }

    fn note(&self, note: impl FnOnce(&mut Notes)) {
        note(&mut self.0.notes.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let notes = std::mem::take(self.notes.get_mut().unwrap_or_else(PoisonError::into_inner));
        if let Some(to) = self.to.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            // Whoever waited may have given up.
            let _gone = to.send(notes.conclude());
        }
    }
}

impl Notes {
    fn conclude(self) -> Result<Delivered, Undelivered> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        let why = self.why_rejected.unwrap_or_default();
        if self.rejected > 0 && self.delivered == 0 {
            return Err(Undelivered::Refused(why));
        }
        let message = match (self.rejected, self.rejected_around) {
            (0, 0) => String::new(),
            (0, around) => format!("{around} items of a batch this request was part of were rejected"),
            _ => why,
        };
        Ok(Delivered { rejected: self.rejected, message })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn concluded(notes: impl FnOnce(&Reply)) -> Result<Delivered, Undelivered> {
        let (reply, mut delivery) = Reply::new();
        let part = reply.clone();
        notes(&reply);
        drop(reply);
        assert!(delivery.try_recv().is_err(), "a part is still under way");
        drop(part);
        delivery.try_recv().unwrap()
    }

    fn unavailable() -> Undelivered {
        Undelivered::Unavailable { what: "away".into(), after: None }
    }

    #[test]
    fn silence_is_success() {
        assert_eq!(concluded(|_| ()), Ok(Delivered::default()));
    }

    #[test]
    fn some_rejected_is_partial_success_all_rejected_is_a_refusal() {
        let why = || "no".to_owned();
        let partial = concluded(|reply| {
            reply.rejected(2, why);
            reply.delivered(1);
        });
        assert_eq!(partial, Ok(Delivered { rejected: 2, message: "no".into() }));
        assert_eq!(concluded(|reply| reply.rejected(2, why)), Err(Undelivered::Refused("no".into())));
        let around = concluded(|reply| reply.rejected_around(3)).unwrap();
        assert!(around.rejected == 0 && around.message.contains("3 items of a batch"), "{around:?}");
    }

    #[test]
    fn what_can_be_tried_again_outweighs_what_cannot() {
        let both = concluded(|reply| {
            reply.failed(unavailable());
            reply.failed(Undelivered::Defect("defect"));
            reply.rejected(1, || "no".into());
            reply.delivered(1);
        });
        assert_eq!(both, Err(unavailable()));
    }
}
