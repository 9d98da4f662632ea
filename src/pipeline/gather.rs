//! Open batches: payloads collected until there are enough of them or their time is up, one batch per signal and
//! combination of the client's metadata.
//!
//! As in the Collector, a batch is filled up to `max_size` exactly: a payload that does not fit is split at an item, and
//! what is left of it opens the next batch. Nothing is copied except what is split.

use super::{Metadata, delivery::Piece};
use crate::otlp::{
    Signal,
    split::{self, Most},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

/// When an open batch is closed. Sizes are in the unit of `by_bytes`; zero is no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// The longest a request waits for others.
    pub flush_timeout: Duration,
    /// Sizes are bytes; otherwise spans, log records or metric data points.
    pub by_bytes: bool,
    /// A batch of this size leaves.
    pub min_size: u64,
    /// No batch is larger; zero means no bound. Only what cannot be split is.
    pub max_size: u64,
    /// Requests are not merged beyond this many bytes, whatever their items.
    pub max_bytes: u64,
}

/// Why a batch was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// It was large enough.
    Size,
    /// Its time was up, or nothing more comes.
    Time,
}

/// A closed batch. Never empty.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed<P> {
    /// What is in it, in the order it came.
    pub pieces: Vec<P>,
    /// Why it was closed.
    pub trigger: Trigger,
}

/// A combination of values of the client's metadata: the same for the same values under the same keys. No value and
/// an empty one differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Partition(Option<Arc<[u8]>>);

impl Partition {
    /// The combination of the values under `keys`.
    pub fn of(metadata: &Metadata, keys: &[String]) -> Self {
        if keys.is_empty() {
            return Partition(None);
        }
        let mut name = Vec::new();
        for key in keys {
            let before = name.len();
            name.extend_from_slice(&[0; 8]);
            let mut values = 0_u64;
            for value in metadata.get_all(key) {
                values += 1;
                name.extend_from_slice(&(value.len() as u64).to_be_bytes());
                name.extend_from_slice(value);
            }
            name[before..before + 8].copy_from_slice(&values.to_be_bytes());
        }
        Partition(Some(name.into()))
    }
}

/// The open batches.
#[derive(Debug)]
pub struct Gather<P> {
    batching: Batching,
    keys: Arc<[String]>,
    open: HashMap<(Signal, Partition), Open<P>>,
    /// By the order they were opened in, which is the order they are due in.
    order: BTreeMap<u64, (Signal, Partition)>,
    opened: u64,
}

#[derive(Debug)]
struct Open<P> {
    pieces: Vec<P>,
    size: u64,
    bytes: u64,
    due: Instant,
    number: u64,
}

impl<P: Piece> Gather<P> {
    /// No batch is open yet. `keys` are names of metadata that tell batches apart.
    pub fn new(batching: Batching, keys: Arc<[String]>) -> Self {
        Gather { batching, keys, open: HashMap::new(), order: BTreeMap::new(), opened: 0 }
    }

    /// Takes a piece in. Answers whether a batch was opened whose time runs now; batches it completed go to `closed`.
    pub fn add(&mut self, piece: P, now: Instant, closed: &mut impl FnMut(Closed<P>)) -> bool {
        let payload = piece.payload();
        let key = (payload.signal, Partition::of(&payload.metadata, &self.keys));
        let before = self.opened;
        for piece in self.fitting(&key, piece) {
            self.push(&key, piece, now, closed);
        }
        self.opened > before && self.open.contains_key(&key)
    }

    /// The piece, in parts if the open batch or `max_size` asks for it.
    fn fitting(&self, key: &(Signal, Partition), piece: P) -> Vec<P> {
        let Batching { by_bytes, max_size, .. } = self.batching;
        let filled = self.open.get(key).map_or(0, |open| open.size);
        if max_size == 0 || filled.saturating_add(self.size(&piece)) <= max_size {
            return vec![piece];
        }
        let most = |size: u64| match by_bytes {
            true => Most { bytes: usize::try_from(size).unwrap_or(usize::MAX), items: u64::MAX },
            false => Most { bytes: usize::MAX, items: size },
        };
        let head = (filled > 0).then(|| most(max_size - filled.min(max_size)));
        let (signal, bytes) = (key.0, piece.payload().bytes.clone());
        let parts = split::fill(signal, &bytes, head, most(max_size));
        if parts.len() < 2 { vec![piece] } else { piece.divide(parts) }
    }

    fn push(&mut self, key: &(Signal, Partition), piece: P, now: Instant, closed: &mut impl FnMut(Closed<P>)) {
        let Batching { max_size, max_bytes, min_size, flush_timeout, .. } = self.batching;
        let (size, bytes) = (self.size(&piece), piece.payload().bytes.len() as u64);
        if self.open.get(key).is_some_and(|open| {
            let too_large = max_size > 0 && open.size.saturating_add(size) > max_size;
            too_large || open.bytes.saturating_add(bytes) > max_bytes
        }) {
            self.close(key, Trigger::Size, closed);
        }
        let (opened, order) = (&mut self.opened, &mut self.order);
        let open = self.open.entry(key.clone()).or_insert_with(|| {
            *opened += 1;
            order.insert(*opened, key.clone());
            Open { pieces: Vec::new(), size: 0, bytes: 0, due: now + flush_timeout, number: *opened }
        });
        open.pieces.push(piece);
        open.size = open.size.saturating_add(size);
        open.bytes = open.bytes.saturating_add(bytes);
        if open.size >= min_size || open.bytes >= max_bytes {
            self.close(key, Trigger::Size, closed);
        }
    }

    /// Closes the batches whose time is up, and says when the next one's is.
    pub fn close_due(&mut self, now: Instant, closed: &mut impl FnMut(Closed<P>)) -> Option<Instant> {
        loop {
            let key = self.order.first_key_value()?.1.clone();
            let due = self.open.get(&key)?.due;
            if due > now {
                return Some(due);
            }
            self.close(&key, Trigger::Time, closed);
        }
    }

    /// Closes every batch.
    pub fn close_all(&mut self, closed: &mut impl FnMut(Closed<P>)) {
        while let Some((_, key)) = self.order.first_key_value() {
            let key = key.clone();
            self.close(&key, Trigger::Time, closed);
        }
    }

    fn close(&mut self, key: &(Signal, Partition), trigger: Trigger, closed: &mut impl FnMut(Closed<P>)) {
        if let Some(open) = self.open.remove(key) {
            self.order.remove(&open.number);
            closed(Closed { pieces: open.pieces, trigger });
        }
    }

    fn size(&self, piece: &P) -> u64 {
        let payload = piece.payload();
        if self.batching.by_bytes { payload.bytes.len() as u64 } else { payload.count }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{otlp::split::Part, pipeline::Payload};
    use http::HeaderMap;

    const BATCHING: Batching = Batching {
        flush_timeout: Duration::from_millis(200),
        by_bytes: false,
        min_size: 10,
        max_size: 0,
        max_bytes: 100_000,
    };

    /// A payload and nothing else.
    #[derive(Clone, Debug)]
    struct Bare(Payload);

    impl Piece for Bare {
        fn payload(&self) -> &Payload {
            &self.0
        }

        fn take(&mut self, part: Part) -> Self {
            self.0.count -= part.count;
            Bare(Payload { bytes: part.bytes, count: part.count, ..self.0.clone() })
        }

        fn keep(&mut self, part: Part) {
            assert_eq!(self.0.count, part.count, "parts add up to the whole");
            self.0.bytes = part.bytes;
        }
    }

    /// A request of `count` spans of `size` bytes each, with no resource.
    fn spans(count: u64, size: usize) -> Vec<u8> {
        use opentelemetry_proto::tonic::{
            collector::trace::v1::ExportTraceServiceRequest,
            trace::v1::{ResourceSpans, ScopeSpans, Span},
        };
        let span = Span { name: "x".repeat(size), ..Span::default() };
        let scope = ScopeSpans { spans: vec![span; usize::try_from(count).unwrap()], ..ScopeSpans::default() };
        let resource = ResourceSpans { scope_spans: vec![scope], ..ResourceSpans::default() };
        prost::Message::encode_to_vec(&ExportTraceServiceRequest { resource_spans: vec![resource] })
    }

    fn piece(signal: Signal, count: u64) -> Bare {
        sized(signal, count, 1, Metadata::default())
    }

    fn sized(signal: Signal, count: u64, size: usize, metadata: Metadata) -> Bare {
        Bare(Payload { signal, bytes: spans(count, size).into(), count, metadata })
    }

    fn tenant(values: &[&str]) -> Metadata {
        let mut headers = HeaderMap::new();
        headers.append("other", "x".parse().unwrap());
        for value in values {
            headers.append("x-tenant", value.parse().unwrap());
        }
        Metadata::new(headers)
    }

    /// Adds pieces at one time; the item counts of the pieces of every batch that was closed, and the gather.
    fn closed(batching: Batching, pieces: Vec<Bare>) -> (Vec<Vec<u64>>, Gather<Bare>) {
        let mut gather = Gather::new(batching, ["x-tenant".to_owned()].into());
        let mut batches = Vec::new();
        let now = Instant::now();
        for piece in pieces {
            gather.add(piece, now, &mut |closed| batches.push(counts(&closed)));
        }
        (batches, gather)
    }

    fn counts(closed: &Closed<Bare>) -> Vec<u64> {
        closed.pieces.iter().map(|piece| piece.0.count).collect()
    }

    fn left(gather: &mut Gather<Bare>) -> Vec<Vec<u64>> {
        let mut batches = Vec::new();
        gather.close_all(&mut |closed| batches.push(counts(&closed)));
        assert!(gather.open.is_empty() && gather.order.is_empty());
        batches
    }

    #[test]
    fn a_batch_leaves_when_it_is_large_enough_and_signals_do_not_mix() {
        let pieces = [(Signal::Traces, 6), (Signal::Logs, 6), (Signal::Traces, 4)];
        let (batches, mut gather) = closed(BATCHING, pieces.map(|(signal, n)| piece(signal, n)).to_vec());
        assert_eq!(batches, [[6, 4]]);
        assert_eq!(left(&mut gather), [[6]]);
    }

    #[test]
    fn a_batch_is_filled_to_max_size_and_the_rest_opens_the_next() {
        let batching = Batching { max_size: 10, ..BATCHING };
        let (batches, mut gather) = closed(batching, [9, 4, 25, 1].map(|n| piece(Signal::Traces, n)).to_vec());
        assert_eq!(batches, [vec![9, 1], vec![3, 7], vec![10]]);
        assert_eq!(left(&mut gather), [[8, 1]]);
    }

    #[test]
    fn without_a_least_size_everything_leaves_at_once_within_max_size() {
        let batching = Batching { min_size: 0, max_size: 4, ..BATCHING };
        let (batches, mut gather) = closed(batching, [3, 9].map(|n| piece(Signal::Traces, n)).to_vec());
        assert_eq!(batches, [vec![3], vec![4], vec![4], vec![1]]);
        assert!(left(&mut gather).is_empty());
    }

    #[test]
    fn sizes_in_bytes_are_kept_at_an_item() {
        let batching = Batching { by_bytes: true, min_size: 900, max_size: 1000, ..BATCHING };
        let pieces = vec![
            sized(Signal::Traces, 5, 100, Metadata::default()),
            sized(Signal::Traces, 12, 100, Metadata::default()),
            sized(Signal::Traces, 1, 5000, Metadata::default()),
        ];
        let mut gather = Gather::new(batching, Arc::default());
        let (mut sizes, mut items) = (Vec::new(), 0);
        let mut note = |closed: Closed<Bare>| {
            sizes.push(closed.pieces.iter().map(|piece| piece.0.bytes.len()).sum::<usize>());
            items += closed.pieces.iter().map(|piece| piece.0.count).sum::<u64>();
        };
        for piece in pieces {
            gather.add(piece, Instant::now(), &mut note);
        }
        gather.close_all(&mut note);
        assert_eq!(items, 18);
        assert!(sizes.iter().filter(|&&size| size > 1000).eq([&sizes[sizes.len() - 1]]), "one span only: {sizes:?}");
    }

    #[test]
    fn requests_are_not_merged_beyond_max_bytes() {
        let batching = Batching { min_size: 100, max_bytes: 1000, ..BATCHING };
        let large = |size| sized(Signal::Traces, 1, size, Metadata::default());
        let (batches, mut gather) = closed(batching, vec![large(600), large(600), large(5000)]);
        assert_eq!(batches, [[1], [1], [1]]);
        assert!(left(&mut gather).is_empty());
    }

    #[test]
    fn what_differs_in_metadata_is_not_merged() {
        let tenants = [&["a"][..], &["b"], &[], &[""], &["a", "b"], &["a"], &["b", "a"]];
        let pieces = tenants.map(|values| sized(Signal::Traces, 1, 1, tenant(values)));
        let (batches, mut gather) = closed(BATCHING, pieces.to_vec());
        assert!(batches.is_empty());
        assert_eq!(left(&mut gather), [vec![1, 1], vec![1], vec![1], vec![1], vec![1], vec![1]]);
    }

    #[test]
    fn time_closes_batches_in_the_order_they_were_opened() {
        let mut gather = Gather::new(BATCHING, Arc::default());
        let start = Instant::now();
        let mut closed = Vec::new();
        assert!(gather.add(piece(Signal::Traces, 1), start, &mut |_| unreachable!()));
        assert!(!gather.add(piece(Signal::Traces, 2), start + BATCHING.flush_timeout / 2, &mut |_| unreachable!()));
        let later = start + BATCHING.flush_timeout / 2;
        assert!(gather.add(piece(Signal::Logs, 3), later, &mut |_| unreachable!()));
        let mut note = |batch: Closed<Bare>| closed.push((counts(&batch), batch.trigger));
        assert_eq!(gather.close_due(start, &mut note), Some(start + BATCHING.flush_timeout));
        let next = gather.close_due(start + BATCHING.flush_timeout, &mut note);
        assert_eq!(next, Some(later + BATCHING.flush_timeout));
        assert_eq!(gather.close_due(next.unwrap(), &mut note), None);
        assert_eq!(closed, [(vec![1, 2], Trigger::Time), (vec![3], Trigger::Time)]);
    }
}
