//! What waits to be sent: batches that are ready, and the open ones.

use super::item::Item;
use crate::{
    exporter::Outgoing,
    otlp::Signal,
    pipeline::gather::{Batching, Closed, Gather},
};
use std::{collections::VecDeque, sync::Arc, time::Instant};

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
            count: self.items.iter().map(Item::count).sum(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) ready: VecDeque<Batch>,
    open: Option<Gather<Item>>,
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
    pub(super) fn new(batching: Option<Batching>, keys: Arc<[String]>) -> Self {
        let open = batching.map(|batching| Gather::new(batching, keys));
        Waiting { ready: VecDeque::new(), open, closed: false }
    }

    /// Takes an item in; once closed, it is dropped (and thereby reported).
    pub(super) fn add(&mut self, item: Item) -> Added {
        if self.closed {
            return Added::default();
        }
        let Some(open) = &mut self.open else {
            self.ready.push_back(Batch::of(item));
            return Added { ready: 1, opened: false };
        };
        let before = self.ready.len();
        let opened = open.add(item, Instant::now(), &mut into(&mut self.ready));
        Added { ready: self.ready.len() - before, opened }
    }

    /// Takes in what was batched before: as it is, or one by one where there is batching of this queue's own.
    pub(super) fn add_batch(&mut self, items: Vec<Item>) -> Added {
        if self.open.is_some() || self.closed {
            let mut all = Added::default();
            for item in items {
                let added = self.add(item);
                all.ready += added.ready;
                all.opened |= added.opened;
            }
            return all;
        }
        if items.is_empty() {
            return Added::default();
        }
        self.ready.push_back(Batch { items });
        Added { ready: 1, opened: false }
    }

    /// Closes the batches whose time is up: how many, and when the next one is.
    pub(super) fn flush_due(&mut self, now: Instant) -> (usize, Option<Instant>) {
        let Some(open) = &mut self.open else { return (0, None) };
        let before = self.ready.len();
        let next = open.close_due(now, &mut into(&mut self.ready));
        (self.ready.len() - before, next)
    }

    /// Takes nothing more; open batches become ready.
    pub(super) fn close(&mut self) {
        self.closed = true;
        if let Some(open) = &mut self.open {
            open.close_all(&mut into(&mut self.ready));
        }
    }

    pub(super) fn take_all(&mut self) -> VecDeque<Batch> {
        std::mem::take(&mut self.ready)
    }
}

fn into(ready: &mut VecDeque<Batch>) -> impl FnMut(Closed<Item>) {
    |closed| ready.push_back(Batch { items: closed.pieces })
}
