//! Reading request bodies: every byte is counted against the shared budget before it is kept, and nothing waits for a
//! slow client longer than its deadline.

use super::fault::Fault;
use crate::pipeline::{Budget, Full, Permit};
use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt;
use std::time::Duration;
use tokio::time::Instant;

/// The first allocation for a body of unknown or large size. A client that announces much and sends nothing costs
/// this much, and as many of them as there may be requests leave most of the budget to others.
const FIRST: usize = 4 * 1024;

/// How many bytes of a refused request are still read, so that the client gets to see the answer: a connection closed
/// on unread data is reset, and clients then retry what they must not retry.
const DRAIN_BYTES: usize = 64 * 1024 * 1024;

/// Bytes a body must bring per second while more than three quarters of the budget are taken, in bytes or in requests.
const PRESSED_RATE: usize = 64 * 1024;

const SECOND: Duration = Duration::from_secs(1);

/// How long a refused request is still read.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// A request up to this size may use the whole budget.
const SMALL: u64 = 1024 * 1024;

/// Takes `more` bytes into `permit`. Requests that are not small leave a quarter of the budget to those that are, so
/// that a few huge ones (bombs on their way to the limit, say) do not shut out everyone else.
///
/// # Errors
/// An overload when there is no room.
pub(super) fn charge(permit: &mut Permit, more: u64) -> Result<(), Fault> {
    let budget = permit.budget();
    let (in_use, max) = (budget.bytes(), budget.max_bytes());
    if permit.bytes() + more > SMALL && in_use + more > mostly(&budget) {
        return Err(Fault::full(Full::Bytes { in_use, max }));
    }
    permit.grow(more).map_err(Fault::full)
}

/// Three quarters of a budget.
fn mostly(budget: &Budget) -> u64 {
    budget.max_bytes() / 4 * 3
}

/// A growing buffer whose capacity is reserved in the budget before it is allocated.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    permit: Permit,
}

impl Buffer {
    /// An empty buffer that charges `permit`.
    pub(super) fn new(permit: Permit) -> Self {
        Buffer { bytes: Vec::new(), permit }
    }

    /// Appends `chunk`. `expected` is the whole size as far as it is known; it bounds the capacity, not the content.
    pub(super) fn extend(&mut self, chunk: &[u8], expected: usize) -> Result<(), Fault> {
        self.make_room(chunk.len(), expected)?;
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    /// Makes room for `more` bytes, growing in steps towards `expected`.
    pub(super) fn make_room(&mut self, more: usize, expected: usize) -> Result<(), Fault> {
        let (len, capacity) = (self.bytes.len(), self.bytes.capacity());
        let need = len + more;
        if need > capacity {
            let step = capacity.saturating_mul(4).max(FIRST).min(expected).max(need);
            charge(&mut self.permit, (step - capacity) as u64)?;
            self.bytes.reserve_exact(step - len);
        }
        Ok(())
    }

    /// Bytes that fit without growing.
    pub(super) fn spare(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    /// What was read so far.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The vector itself, for a reader that appends to it; it must not append more than [`Buffer::spare`].
    pub(super) fn vec(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The content, and the permit that must live as long as it.
    pub(super) fn finish(mut self) -> (Bytes, Permit) {
        // What outlives the request (an exporter queue counts bytes, not capacity) must not drag empty room along.
        if self.spare() > self.bytes.len() / 4 {
            self.bytes.shrink_to_fit();
        }
        (Bytes::from(self.bytes), self.permit)
    }
}

/// How long a body may take. It has a deadline; and while most of the budget is taken, it must also keep moving, so that
/// a few stalled clients cannot hold the room of all others until their deadlines.
#[derive(Debug)]
pub(super) struct Pace {
    deadline: Instant,
    budget: Option<Budget>,
    second_ends: Instant,
    this_second: usize,
}

impl Pace {
    /// A body that starts now.
    pub(super) fn new(time: Duration, budget: &Budget) -> Self {
        Pace { budget: Some(budget.clone()), ..Pace::unhurried(time) }
    }

    /// Only a deadline.
    fn unhurried(time: Duration) -> Self {
        let now = Instant::now();
        Pace { deadline: now + time, budget: None, second_ends: now + SECOND, this_second: 0 }
    }

    /// The next piece of data of a body; `None` at its end.
    ///
    /// # Errors
    /// [`Fault::Slow`] when the deadline passes first, an overload when it is too slow for the room it takes,
    /// [`Fault::Gone`] when the client broke off.
    pub(super) async fn next<B>(&mut self, body: &mut B) -> Result<Option<Bytes>, Fault>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        loop {
            let frame = tokio::time::timeout_at(self.second_ends.min(self.deadline), body.frame()).await;
            let now = Instant::now();
            if now >= self.deadline {
                return Err(Fault::Slow);
            }
            if now >= self.second_ends {
                self.end_second(now)?;
            }
            match frame {
                Err(_) => {}
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => return Err(Fault::Gone),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.this_second += data.len();
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    fn end_second(&mut self, now: Instant) -> Result<(), Fault> {
        let pressed = self
            .budget
            .as_ref()
            .is_some_and(|budget| budget.bytes() > mostly(budget) || budget.requests() > budget.max_requests() / 4 * 3);
        if pressed && self.this_second < PRESSED_RATE {
            return Err(Fault::too_slow_for_its_room());
        }
        self.second_ends = now + SECOND;
        self.this_second = 0;
        Ok(())
    }
}

/// Reads a whole body of at most `limit` bytes. `announced` is its Content-Length, where it has one.
///
/// # Errors
/// As [`Pace::next`]; [`Fault::too_large`] beyond `limit`; an overload when the budget is full.
pub(super) async fn read_all<B>(
    body: &mut B,
    announced: Option<u64>,
    limit: usize,
    permit: Permit,
    mut pace: Pace,
) -> Result<(Bytes, Permit), Fault>
where
    B: Body<Data = Bytes> + Unpin,
{
    let expected = announced.map_or(limit, |n| usize::try_from(n).unwrap_or(usize::MAX));
    if expected > limit {
        return Err(Fault::too_large(limit));
    }
    let mut buffer = Buffer::new(permit);
    while let Some(chunk) = pace.next(body).await? {
        if chunk.len() > limit - buffer.bytes().len() {
            return Err(Fault::too_large(limit));
        }
        buffer.extend(&chunk, expected)?;
    }
    Ok(buffer.finish())
}

/// Reads and discards the rest of a refused request, within bounds. `held` goes when reading ends.
pub(super) async fn drain<B, G>(mut body: B, held: G)
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut pace = Pace::unhurried(DRAIN_TIME);
    let mut left = DRAIN_BYTES;
    while let Ok(Some(chunk)) = pace.next(&mut body).await {
        match left.checked_sub(chunk.len()) {
            Some(rest) => left = rest,
            None => break,
        }
    }
    drop(held);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn capacity_is_reserved_before_it_is_allocated() {
        let budget = Budget::new(3 * FIRST as u64, 1);
        let mut buffer = Buffer::new(budget.try_reserve(0).unwrap());
        buffer.extend(&[1], 1024 * 1024).unwrap();
        assert_eq!(budget.bytes(), FIRST as u64, "an announced megabyte costs the first step only");
        buffer.extend(&vec![1; FIRST - 1], 1024 * 1024).unwrap();
        assert_eq!(budget.bytes(), FIRST as u64);
        assert!(matches!(buffer.extend(&[1], 1024 * 1024), Err(Fault::Refused(_))), "the next step does not fit");
        drop(buffer);
        assert_eq!(budget.bytes(), 0);
    }

    #[test]
    fn stalled_requests_give_way_when_their_number_is_what_is_scarce() {
        let budget = Budget::new(1024, 8);
        let mut held: Vec<Permit> = (0..6).map(|_| budget.try_reserve(0).unwrap()).collect();
        let mut pace = Pace::new(Duration::from_secs(60), &budget);
        let now = Instant::now();
        assert!(pace.end_second(now).is_ok(), "there is room");
        held.push(budget.try_reserve(0).unwrap());
        assert!(matches!(pace.end_second(now), Err(Fault::Refused(_))), "not a byte came");
        pace.this_second = PRESSED_RATE;
        assert!(pace.end_second(now).is_ok(), "it moves");
    }

    #[test]
    fn a_body_of_known_size_is_allocated_once_and_exactly() {
        let budget = Budget::new(1024, 1);
        let mut buffer = Buffer::new(budget.try_reserve(0).unwrap());
        buffer.extend(&[1; 10], 100).unwrap();
        assert_eq!(budget.bytes(), 100);
        buffer.extend(&[1; 90], 100).unwrap();
        assert_eq!(budget.bytes(), 100);
    }
}
