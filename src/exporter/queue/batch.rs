//! What waits to be sent: batches that are ready, and at most one open batch per signal.

use super::item::Item;
use crate::{exporter::Outgoing, otlp::Signal};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Requests of one signal that leave as one. Never empty.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) items: Vec<Item>,
}

impl Batch {
    pub(super) fn of(item: Item) -> Self {
        Batch { items: vec![item] }
    }

    pub(super) fn outgoing(&self, signal: Signal) -> Outgoing {
        Outgoing {
            signal,
            parts: self.items.iter().map(|item| item.bytes().clone()).collect(),
            count: self.items.iter().map(|item| item.payload.count).sum(),
        }
    }
}

/// When an open batch is closed. Sizes are in the unit of `by_bytes`; zero is no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// The longest a request waits for others.
    pub flush_timeout: Duration,
    /// Sizes are bytes; otherwise spans, log records or metric data points.
    pub by_bytes: bool,
    /// A batch of this size leaves.
    pub min_size: u64,
    /// No batch is larger; zero means no bound.
    pub max_size: u64,
    /// Requests are not merged beyond this many bytes, whatever their items.
    pub max_bytes: u64,
}

#[derive(Debug)]
struct Open {
    batch: Batch,
    size: u64,
    bytes: u64,
    due: Instant,
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) ready: VecDeque<Batch>,
    open: [Option<Open>; 3],
    batching: Option<Batching>,
    closed: bool,
}

/// What [`Waiting::add`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Added {
    /// Batches that became ready.
    pub(super) ready: usize,
    /// A batch was opened; its time runs.
    pub(super) opened: bool,
}

impl Waiting {
    pub(super) fn new(batching: Option<Batching>) -> Self {
        Waiting { ready: VecDeque::new(), open: [None, None, None], batching, closed: false }
    }

    /// Takes an item in; once closed, it is dropped (and thereby reported).
    pub(super) fn add(&mut self, item: Item) -> Added {
        if self.closed {
            return Added::default();
        }
        let Some(batching) = self.batching else {
            self.ready.push_back(Batch::of(item));
            return Added { ready: 1, opened: false };
        };
        let ready_before = self.ready.len();
        let bytes = item.bytes().len() as u64;
        let size = if batching.by_bytes { bytes } else { item.payload.count };
        let slot = slot(item.signal());
        if self.open[slot].as_ref().is_some_and(|open| {
            let too_large = batching.max_size > 0 && open.size.saturating_add(size) > batching.max_size;
            too_large || open.bytes.saturating_add(bytes) > batching.max_bytes
        }) {
            self.flush(slot);
        }
        let opened = match &mut self.open[slot] {
            Some(open) => {
                open.batch.items.push(item);
                open.size = open.size.saturating_add(size);
                open.bytes = open.bytes.saturating_add(bytes);
                false
            }
            empty => {
                let due = Instant::now() + batching.flush_timeout;
                *empty = Some(Open { batch: Batch::of(item), size, bytes, due });
                true
            }
        };
        let full = self.open[slot]
            .as_ref()
            .is_some_and(|open| open.size >= batching.min_size || open.bytes >= batching.max_bytes);
        if full {
            self.flush(slot);
        }
        Added { ready: self.ready.len() - ready_before, opened: opened && !full }
    }

    /// Closes the batches whose time is up: how many, and when the next one is.
    pub(super) fn flush_due(&mut self, now: Instant) -> (usize, Option<Instant>) {
        let mut flushed = 0;
        for slot in 0..self.open.len() {
            if self.open[slot].as_ref().is_some_and(|open| open.due <= now) {
                self.flush(slot);
                flushed += 1;
            }
        }
        (flushed, self.open.iter().flatten().map(|open| open.due).min())
    }

    /// Takes nothing more; open batches become ready.
    pub(super) fn close(&mut self) {
        self.closed = true;
        (0..self.open.len()).for_each(|slot| self.flush(slot));
    }

    pub(super) fn take_all(&mut self) -> VecDeque<Batch> {
        std::mem::take(&mut self.ready)
    }

    fn flush(&mut self, slot: usize) {
        self.ready.extend(self.open[slot].take().map(|open| open.batch));
    }
}

fn slot(signal: Signal) -> usize {
    match signal {
        Signal::Traces => 0,
        Signal::Logs => 1,
        Signal::Metrics => 2,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{
        exporter::queue::item::Ledger,
        pipeline::{Budget, Metadata, Payload},
    };
    use std::sync::Arc;

    const BATCHING: Batching = Batching {
        flush_timeout: Duration::from_millis(200),
        by_bytes: false,
        min_size: 10,
        max_size: 0,
        max_bytes: 100,
    };

    fn item(signal: Signal, count: u64, bytes: usize) -> Item {
        let permit = Budget::new(1000, 1).try_reserve(0).unwrap();
        let payload = Payload { signal, bytes: vec![0; bytes].into(), count, metadata: Metadata::default() };
        Item::new(Arc::new(Ledger::new("test", Arc::new(()))), permit, payload)
    }

    fn counts(waiting: &Waiting) -> Vec<Vec<u64>> {
        waiting.ready.iter().map(|batch| batch.items.iter().map(|item| item.payload.count).collect()).collect()
    }

    #[test]
    fn without_batching_every_request_is_ready_at_once() {
        let mut waiting = Waiting::new(None);
        assert_eq!(waiting.add(item(Signal::Traces, 1, 1)), Added { ready: 1, opened: false });
        assert_eq!(counts(&waiting), [[1]]);
    }

    #[test]
    fn a_batch_leaves_when_it_is_large_enough() {
        let mut waiting = Waiting::new(Some(BATCHING));
        assert_eq!(waiting.add(item(Signal::Traces, 6, 1)), Added { ready: 0, opened: true });
        assert_eq!(waiting.add(item(Signal::Logs, 6, 1)), Added { ready: 0, opened: true }, "signals do not mix");
        assert_eq!(waiting.add(item(Signal::Traces, 4, 1)), Added { ready: 1, opened: false });
        assert_eq!(counts(&waiting), [[6, 4]]);
    }

    #[test]
    fn max_size_and_max_bytes_close_a_batch_early() {
        let mut waiting = Waiting::new(Some(Batching { max_size: 12, ..BATCHING }));
        waiting.add(item(Signal::Traces, 9, 1));
        assert_eq!(waiting.add(item(Signal::Traces, 4, 1)), Added { ready: 1, opened: true });
        waiting.add(item(Signal::Traces, 1, 98));
        assert_eq!(waiting.add(item(Signal::Traces, 1, 2)), Added { ready: 1, opened: true });
        assert_eq!(counts(&waiting), [vec![9], vec![4, 1]]);
        assert_eq!(waiting.add(item(Signal::Traces, 1, 98)), Added { ready: 1, opened: false }, "exactly full");
    }

    #[test]
    fn time_closes_a_batch() {
        let mut waiting = Waiting::new(Some(BATCHING));
        waiting.add(item(Signal::Traces, 1, 1));
        let (flushed, next) = waiting.flush_due(Instant::now());
        assert_eq!(flushed, 0);
        assert_eq!(waiting.flush_due(next.unwrap()), (1, None));
        assert_eq!(counts(&waiting), [[1]]);
    }

    #[test]
    fn closing_flushes_and_takes_nothing_more() {
        let mut waiting = Waiting::new(Some(BATCHING));
        waiting.add(item(Signal::Metrics, 1, 1));
        waiting.close();
        assert_eq!(counts(&waiting), [[1]]);
        assert_eq!(waiting.add(item(Signal::Metrics, 1, 1)), Added::default());
        assert_eq!(counts(&waiting), [[1]]);
    }
}
