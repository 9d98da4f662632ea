//! Splitting a request by bytes at item granularity, leaving items out, joining requests, counting without decoding.

use super::{
    Edit, Index, Signal, render,
    schema::{Kind, Msg},
    wire::{self, RawField},
};
use bytes::Bytes;
use std::ops::Range;

/// A part of a split request.
#[derive(Clone, Debug)]
pub struct Part {
    /// A complete export request.
    pub bytes: Bytes,
    /// Spans, log records or metric data points in it.
    pub count: u64,
    /// It is larger than asked for: a single item is, or its resource and scope leave (nearly) no room for items.
    pub oversize: bool,
}

/// Splits an accepted request into parts of at most `max_bytes`, each with its resource and scope envelopes (and their
/// unknown fields), items in order. A single item larger than that becomes a part of its own, marked `oversize`.
/// A request that fits is returned as it is.
///
/// Items are spans, log records and metrics. Envelopes that were received empty stay, in the part of their neighbours;
/// unknown fields of the request itself go with the first part. Envelopes are copied, so they must not multiply the
/// request: where resource and scope take more than 4/5 of `max_bytes`, parts grow to 5/4 of their size instead, and
/// are marked `oversize`.
pub fn split(signal: Signal, bytes: &Bytes, max_bytes: usize) -> Vec<Part> {
    if bytes.len() <= max_bytes {
        return vec![Part { bytes: bytes.clone(), count: count(signal, bytes), oversize: false }];
    }
    fill(signal, bytes, None, Most { bytes: max_bytes, items: u64::MAX })
}

/// How much goes into one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Most {
    /// Bytes of the whole part.
    pub bytes: usize,
    /// Spans, log records or metric data points. A metric is not split, whatever its points.
    pub items: u64,
}

/// Splits an accepted request into parts that keep `rest` (by the rules of [`split`]), after a first one that keeps
/// `head`, if one is asked for and a single item fits into it. The counts of the parts add up to that of the request.
pub fn fill(signal: Signal, bytes: &Bytes, head: Option<Most>, rest: Most) -> Vec<Part> {
    let request = Request::read(signal, bytes);
    let parts: Vec<Part> = request.packed(head, rest, |packer| packer.finish(bytes));
    if parts.is_empty() {
        // Nothing but unknown fields.
        return vec![Part { bytes: bytes.clone(), count: 0, oversize: true }];
    }
    parts
}

/// Items that no part of at most `max_bytes` could hold if an accepted request were split.
pub fn oversize(signal: Signal, bytes: &Bytes, max_bytes: usize) -> u64 {
    if bytes.len() <= max_bytes {
        return 0;
    }
    let request = Request::read(signal, bytes);
    let most = Most { bytes: max_bytes, items: u64::MAX };
    let too_large = |packer: Packer<'_>| if packer.size() > max_bytes { packer.items } else { 0 };
    request.packed(None, most, too_large).into_iter().sum()
}

/// Joins requests of one signal: protobuf messages merge by concatenation.
pub fn concat(parts: &[Bytes]) -> Bytes {
    if let [only] = parts {
        return only.clone();
    }
    let mut out = Vec::with_capacity(parts.iter().map(Bytes::len).sum());
    for part in parts {
        out.extend_from_slice(part);
    }
    Bytes::from(out)
}

/// Spans, log records or metric data points of an accepted request.
pub fn count(signal: Signal, bytes: &[u8]) -> u64 {
    let mut count = 0;
    for envelope in messages(bytes, 0..bytes.len(), ENVELOPE) {
        for scope in messages(bytes, envelope.payload..envelope.end, SCOPE) {
            for item in messages(bytes, scope.payload..scope.end, ITEM) {
                count += count_item(signal, bytes, &item);
            }
        }
    }
    count
}

/// Where the resource envelopes of an accepted request stand, tags included: each range is a request of its own.
pub fn envelopes(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    messages(bytes, 0..bytes.len(), ENVELOPE).map(|envelope| envelope.start..envelope.end)
}

/// Spans, log records or metrics (not their data points) of an accepted request.
pub fn items(bytes: &[u8]) -> u64 {
    let scopes = |envelope: RawField| messages(bytes, envelope.payload..envelope.end, SCOPE);
    let all = messages(bytes, 0..bytes.len(), ENVELOPE).flat_map(scopes);
    all.map(|scope| messages(bytes, scope.payload..scope.end, ITEM).count() as u64).sum()
}

/// The edits that take out the items for which `keep` (asked with the position in [`Index::items`]) says no. A scope
/// or resource envelope goes with its last item; one that was received empty stays while its neighbours do.
/// `index` is that of `bytes`. The edits are in the order [`render`] asks for.
pub fn removals(_signal: Signal, bytes: &[u8], index: &Index, keep: impl Fn(usize) -> bool) -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut item = 0;
    for envelope in messages(bytes, 0..bytes.len(), ENVELOPE) {
        let (first_edit, first_item) = (edits.len(), item);
        let mut kept = 0;
        for scope in messages(bytes, envelope.payload..envelope.end, SCOPE) {
            let (scope_edit, scope_item) = (edits.len(), item);
            let mut scope_kept = 0;
            while let Some(next) = index.items.get(item).filter(|item| (item.start as usize) < scope.end) {
                if keep(item) {
                    scope_kept += 1;
                } else {
                    edits.push(delete(next.start, next.end, scope.payload as u32));
                }
                item += 1;
            }
            if scope_kept == 0 && item > scope_item {
                edits.truncate(scope_edit);
                edits.push(delete(scope.start as u32, scope.end as u32, envelope.payload as u32));
            }
            kept += scope_kept;
        }
        if kept == 0 && item > first_item {
            edits.truncate(first_edit);
            edits.push(delete(envelope.start as u32, envelope.end as u32, 0));
        }
    }
    edits
}

/// The request with only those items for which `keep` says yes, and how many spans, log records or metric data points
/// they are. `None` when no item is left.
pub fn retain(signal: Signal, bytes: &Bytes, index: &Index, keep: impl Fn(usize) -> bool) -> Option<(Bytes, u64)> {
    if !(0..index.items.len()).any(&keep) {
        return None;
    }
    let edits = removals(signal, bytes, index, keep);
    let kept = render(signal, bytes, &edits);
    let count = if edits.is_empty() { index.count } else { count(signal, &kept) };
    Some((kept, count))
}

fn delete(start: u32, end: u32, container: u32) -> Edit {
    Edit { start, end, container, with: Vec::new() }
}

/// The field numbers of the three levels, the same in all signals.
const ENVELOPE: u32 = 1;
const SCOPE: u32 = 2;
const ITEM: u32 = 2;

/// The messages that stand as field `number` in the message with its payload at `range`.
fn messages(bytes: &[u8], range: Range<usize>, number: u32) -> impl Iterator<Item = RawField> + '_ {
    wire::fields(bytes, range.start, range.end).filter(move |raw| raw.number == number && raw.wire == wire::LEN)
}

/// What an item counts: 1, or its data points.
fn count_item(signal: Signal, bytes: &[u8], item: &RawField) -> u64 {
    if signal != Signal::Metrics {
        return 1;
    }
    let is_data = |raw: &RawField| match Msg::Metric.field(raw.number).map(|field| field.kind) {
        Some(Kind::Message(of)) => of != Msg::KeyValue,
        _ => false,
    };
    wire::fields(bytes, item.payload, item.end)
        .filter(is_data)
        .map(|data| messages(bytes, data.payload..data.end, POINT).count() as u64)
        .sum()
}

/// The field number of `data_points` in all five kinds of metric data.
const POINT: u32 = 1;

/// A request as envelopes and items.
struct Request {
    envelopes: Vec<Envelope>,
    /// Fields of the request itself that are not in the schema.
    loose: Vec<Range<usize>>,
}

/// A `ResourceSpans`-like message.
struct Envelope {
    own: Own,
    scopes: Vec<Scope>,
}

/// A `ScopeSpans`-like message.
struct Scope {
    own: Own,
    items: Vec<(Range<usize>, u64)>,
}

/// What an envelope has beside what it envelops. Neighbouring fields are one range.
#[derive(Default)]
struct Own {
    before: Vec<Range<usize>>,
    after: Vec<Range<usize>>,
    bytes: usize,
}

impl Own {
    /// Adds a field; those in front of the first enveloped one stay in front of it.
    fn add(&mut self, raw: &RawField, enveloped_seen: bool) {
        self.bytes += raw.end - raw.start;
        push_range(if enveloped_seen { &mut self.after } else { &mut self.before }, raw);
    }
}

fn push_range(ranges: &mut Vec<Range<usize>>, raw: &RawField) {
    match ranges.last_mut() {
        Some(last) if last.end == raw.start => last.end = raw.end,
        _ => ranges.push(raw.start..raw.end),
    }
}

/// The smallest thing that is not split, by position: an item, or an envelope that was received empty.
#[derive(Clone, Copy)]
struct Unit {
    envelope: usize,
    scope: Option<usize>,
    item: Option<usize>,
}

impl Request {
    fn read(signal: Signal, bytes: &[u8]) -> Self {
        let mut request = Request { envelopes: Vec::new(), loose: Vec::new() };
        for raw in wire::fields(bytes, 0, bytes.len()) {
            if raw.number != ENVELOPE {
                push_range(&mut request.loose, &raw);
                continue;
            }
            let mut envelope = Envelope { own: Own::default(), scopes: Vec::new() };
            for raw in wire::fields(bytes, raw.payload, raw.end) {
                if raw.number != SCOPE {
                    envelope.own.add(&raw, !envelope.scopes.is_empty());
                    continue;
                }
                let mut scope = Scope { own: Own::default(), items: Vec::new() };
                for raw in wire::fields(bytes, raw.payload, raw.end) {
                    if raw.number != ITEM {
                        scope.own.add(&raw, !scope.items.is_empty());
                        continue;
                    }
                    scope.items.push((raw.start..raw.end, count_item(signal, bytes, &raw)));
                }
                envelope.scopes.push(scope);
            }
            request.envelopes.push(envelope);
        }
        request
    }

    /// Puts the units into parts, in order, and makes something of each.
    fn packed<T>(&self, head: Option<Most>, rest: Most, mut finish: impl FnMut(Packer<'_>) -> T) -> Vec<T> {
        let mut parts = Vec::new();
        let mut units = self.units().peekable();
        let mut loose = self.loose.as_slice();
        if let Some(head) = head {
            let mut packer = Packer::new(self, loose, head);
            while let Some(unit) = units.next_if(|unit| packer.fits(unit)) {
                packer.add(unit);
            }
            if !packer.units.is_empty() {
                parts.push(finish(packer));
                loose = &[];
            }
        }
        while units.peek().is_some() {
            let mut packer = Packer::new(self, loose, rest);
            while let Some(unit) = units.next_if(|unit| packer.takes(unit)) {
                packer.add(unit);
            }
            parts.push(finish(packer));
            loose = &[];
        }
        parts
    }

    /// What a unit counts.
    fn count(&self, unit: &Unit) -> u64 {
        let scope = unit.scope.and_then(|s| self.envelopes[unit.envelope].scopes.get(s));
        scope.zip(unit.item).map_or(0, |(scope, i)| scope.items[i].1)
    }

    fn units(&self) -> impl Iterator<Item = Unit> + '_ {
        self.envelopes.iter().enumerate().flat_map(|(e, envelope)| {
            let alone = envelope.scopes.is_empty().then_some(Unit { envelope: e, scope: None, item: None });
            let scoped = envelope.scopes.iter().enumerate().flat_map(move |(s, scope)| {
                let unit = move |item| Unit { envelope: e, scope: Some(s), item };
                let alone = scope.items.is_empty().then_some(unit(None));
                alone.into_iter().chain((0..scope.items.len()).map(move |i| unit(Some(i))))
            });
            alone.into_iter().chain(scoped)
        })
    }
}

/// How long a message of `payload` bytes is as a field with a one-byte tag.
fn field_len(payload: usize) -> usize {
    1 + wire::varint_len(payload as u64) + payload
}

/// Fills one part. Sizes are exact at every step.
struct Packer<'a> {
    request: &'a Request,
    loose: &'a [Range<usize>],
    most: Most,
    units: Vec<Unit>,
    /// What the units count.
    items: u64,
    /// Bytes of the part without the envelope that is open, and the payloads of the two that are.
    settled: usize,
    envelope: usize,
    scope: usize,
    /// Payload lengths of all envelopes and scopes of the part, in order of their beginning.
    lengths: Vec<usize>,
}

impl<'a> Packer<'a> {
    fn new(request: &'a Request, loose: &'a [Range<usize>], most: Most) -> Self {
        let settled = loose.iter().map(Range::len).sum();
        let (units, lengths) = (Vec::new(), Vec::new());
        Packer { request, loose, most, units, items: 0, settled, envelope: 0, scope: 0, lengths }
    }

    /// The sizes after adding a unit: settled bytes, payload of the open envelope, payload of the open scope.
    fn with(&self, unit: &Unit) -> (usize, usize, usize) {
        let last = self.units.last();
        let (mut settled, mut envelope, mut scope) = (self.settled, self.envelope, self.scope);
        let same_envelope = last.is_some_and(|last| last.envelope == unit.envelope);
        let of = &self.request.envelopes[unit.envelope];
        if !same_envelope {
            settled = self.size();
            (envelope, scope) = (of.own.bytes, 0);
        }
        if let Some(s) = unit.scope {
            if !(same_envelope && last.is_some_and(|last| last.scope == unit.scope)) {
                if same_envelope && last.is_some_and(|last| last.scope.is_some()) {
                    envelope += field_len(self.scope);
                }
                scope = of.scopes[s].own.bytes;
            }
            if let Some(i) = unit.item {
                scope += of.scopes[s].items[i].0.len();
            }
        }
        (settled, envelope, scope)
    }

    fn total(settled: usize, envelope: usize, scope: Option<usize>) -> usize {
        settled + field_len(envelope + scope.map_or(0, field_len))
    }

    /// The size of the part as it is.
    fn size(&self) -> usize {
        match self.units.last() {
            None => self.settled,
            Some(last) => Self::total(self.settled, self.envelope, last.scope.map(|_| self.scope)),
        }
    }

    /// The size of the part with one more unit.
    fn size_with(&self, unit: &Unit) -> usize {
        let (settled, envelope, scope) = self.with(unit);
        Self::total(settled, envelope, unit.scope.map(|_| scope))
    }

    /// Whether the part keeps its bounds with one more unit.
    fn fits(&self, unit: &Unit) -> bool {
        self.items.saturating_add(self.request.count(unit)) <= self.most.items
            && self.size_with(unit) <= self.most.bytes
    }

    fn takes(&self, unit: &Unit) -> bool {
        if self.units.is_empty() || self.fits(unit) {
            return true;
        }
        let size = self.size_with(unit);
        // A further part would copy the envelopes again. Where they dwarf the items, that multiplies the request.
        let Some(last) = self.units.last().filter(|last| last.envelope == unit.envelope) else { return false };
        let of = &self.request.envelopes[unit.envelope];
        let scope = unit.scope.filter(|_| last.scope == unit.scope);
        let copied = of.own.bytes + scope.map_or(0, |s| of.scopes[s].own.bytes);
        size <= copied + copied / 4
    }

    fn add(&mut self, unit: Unit) {
        (self.settled, self.envelope, self.scope) = self.with(&unit);
        self.items = self.items.saturating_add(self.request.count(&unit));
        self.units.push(unit);
    }

    /// Writes the part.
    fn finish(mut self, bytes: &[u8]) -> Part {
        let size = self.size();
        self.measure();
        let mut out = Vec::with_capacity(size);
        let mut lengths = self.lengths.iter();
        for range in self.loose {
            out.extend_from_slice(&bytes[range.clone()]);
        }
        let copy = |out: &mut Vec<u8>, ranges: &[Range<usize>]| {
            for range in ranges {
                out.extend_from_slice(&bytes[range.clone()]);
            }
        };
        for same_envelope in self.units.chunk_by(|a, b| a.envelope == b.envelope) {
            let envelope = &self.request.envelopes[same_envelope[0].envelope];
            out.push(ENVELOPE_TAG);
            wire::put_varint(&mut out, lengths.next().copied().unwrap_or_default() as u64);
            copy(&mut out, &envelope.own.before);
            for same_scope in same_envelope.chunk_by(|a, b| a.scope == b.scope) {
                let Some(scope) = same_scope[0].scope.map(|s| &envelope.scopes[s]) else { continue };
                out.push(SCOPE_TAG);
                wire::put_varint(&mut out, lengths.next().copied().unwrap_or_default() as u64);
                copy(&mut out, &scope.own.before);
                for (range, _) in same_scope.iter().filter_map(|unit| unit.item).map(|i| &scope.items[i]) {
                    out.extend_from_slice(&bytes[range.clone()]);
                }
                copy(&mut out, &scope.own.after);
            }
            copy(&mut out, &envelope.own.after);
        }
        debug_assert_eq!(out.len(), size, "the size was computed exactly");
        let oversize = out.len() > self.most.bytes || self.items > self.most.items;
        Part { bytes: Bytes::from(out), count: self.items, oversize }
    }

    /// Computes `lengths`.
    fn measure(&mut self) {
        for same_envelope in self.units.chunk_by(|a, b| a.envelope == b.envelope) {
            let envelope = &self.request.envelopes[same_envelope[0].envelope];
            let slot = self.lengths.len();
            self.lengths.push(envelope.own.bytes);
            for same_scope in same_envelope.chunk_by(|a, b| a.scope == b.scope) {
                let Some(scope) = same_scope[0].scope.map(|s| &envelope.scopes[s]) else { continue };
                let items: usize = same_scope.iter().filter_map(|unit| unit.item).map(|i| scope.items[i].0.len()).sum();
                self.lengths.push(scope.own.bytes + items);
                self.lengths[slot] += field_len(scope.own.bytes + items);
            }
        }
    }
}

const ENVELOPE_TAG: u8 = 0x0a;
const SCOPE_TAG: u8 = 0x12;
