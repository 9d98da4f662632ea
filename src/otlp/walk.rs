//! One strict pass over an export request: every length checked, every text-bearing leaf listed.

use super::{
    Signal, locate,
    schema::{self, Act, Msg, Op},
    wire::{Fault, What, varint},
};

/// `Leaf::key` of a leaf that belongs to no attribute.
pub const NO_KEY: u32 = u32::MAX;

/// [`Bounds::depth`] is never taken as more than this, whatever it says.
pub const MAX_DEPTH: usize = 200;

/// What a request may hold before it is refused. All bounds are inclusive.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Nested messages below the request, [`MAX_DEPTH`] at most. prost-based backends refuse more than 100.
    pub depth: usize,
    /// Spans, log records or metric data points. Also resource and scope envelopes, which may be empty, and metrics,
    /// which may be without points: there may be as many of each.
    pub items: usize,
    /// Text-bearing leaves.
    pub leaves: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { depth: 100, items: 1_000_000, leaves: 16_000_000 }
    }
}

/// What a walk found. All offsets are into the received bytes.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// Text-bearing leaves in order of their offset; never overlapping.
    pub leaves: Vec<Leaf>,
    /// Spans, log records or metrics (the `Metric` message, not its points), in order.
    pub items: Vec<Item>,
    /// One entry per `ResourceSpans`, `ResourceLogs` or `ResourceMetrics`, in order.
    pub resources: Vec<ResourceSlot>,
    /// Spans, log records or metric data points: what OTLP counts when it accepts or rejects. Every occurrence
    /// counts, also one that a later member of the same oneof shadows.
    pub count: u64,
}

/// One place that can carry text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Offset of the payload's first byte (not of its tag or length).
    pub start: u32,
    /// Length of the payload in bytes.
    pub len: u32,
    /// Position in [`Index::leaves`] of the `KeyValue.key` this leaf stands under, the innermost one; [`NO_KEY`] for
    /// a leaf outside attributes. A key stands under the key of the `KeyValue` around its own, if there is one. Where
    /// a `KeyValue` holds several keys, the last counts, as it does for a decoder.
    pub key: u32,
    /// What kind of place it is, which decides how it can be changed.
    pub role: Role,
}

/// What kind of place a leaf is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `KeyValue.key`, of attributes and of nested key-value lists.
    Key,
    /// `AnyValue.string_value`.
    Text,
    /// `AnyValue.bytes_value`.
    Bytes,
    /// `AnyValue.int_value`: the payload is the varint.
    Int,
    /// `AnyValue.double_value`: the payload is eight bytes, little endian.
    Double,
    /// Any other string field: span and event names, status message, trace state, scope name and version, schema
    /// URLs, severity text, metric names, units and descriptions.
    Name,
    /// A length-delimited field this schema does not know; it may be text or a message, so only a change of the same
    /// length is safe.
    Unknown,
}

/// A span, a log record or a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// Offset of the item's tag.
    pub start: u32,
    /// Offset of the item's payload.
    pub payload: u32,
    /// Offset behind the item.
    pub end: u32,
    /// Trace id, the last one if there are several; zero when absent and for metrics.
    pub trace_id: [u8; 16],
    /// Span id, the last one if there are several; zero when absent and for metrics.
    pub span_id: [u8; 8],
}

/// Where a `ResourceSpans`-like message and its `Resource` stand, for adding resource attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResourceSlot {
    /// Payload offset of the `ResourceSpans`-like message.
    pub container: u32,
    /// Payload offset and end of the last `resource` field; `None` where it is absent.
    pub resource: Option<(u32, u32)>,
}

/// Why a request is not well-formed OTLP. Carries positions and field names, never payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset}, in {path}")]
pub struct WireError {
    /// What is wrong, for a person.
    pub what: String,
    /// Offset of the offending byte in the decompressed request.
    pub offset: usize,
    /// Field path in proto names, such as `resource_spans[0].scope_spans[2].spans[17].trace_id`.
    pub path: String,
    /// The request is well-formed but exceeds one of [`Bounds`].
    pub over_bounds: bool,
}

/// Reads an export request of `signal` once, strictly.
///
/// Stricter than protobuf asks for: groups are refused, also unknown ones; ids have their length. More lenient: UTF-8
/// is not checked. Every occurrence of a field is listed, also those a decoder would drop in favour of a later one.
///
/// # Errors
/// [`WireError`] when a tag, length, wire type, group, identifier length or bound is violated at any level.
pub fn walk(signal: Signal, bytes: &[u8], bounds: &Bounds) -> Result<Index, WireError> {
    let mut index = Index::default();
    if bytes.len() > u32::MAX as usize {
        let fault = Fault { what: What::TooLong, offset: 0, field: 0 };
        return Err(explain(signal, bytes, fault));
    }
    match Walker::new(signal, bytes, bounds, &mut index).run() {
        Ok(()) => Ok(index),
        Err(fault) => Err(explain(signal, bytes, fault)),
    }
}

/// Set in [`Leaf::key`] during the walk: the rest is a position in [`Walker::late_keys`], not in the leaves.
const KEY_LATER: u32 = 1 << 31;
/// The smallest message of an agent's request is about this long; only used to guess capacities.
const BYTES_PER_LEAF: usize = 128;

/// A message whose fields are being read.
#[derive(Clone, Copy)]
struct Frame {
    /// Offset behind it.
    end: u32,
    /// The key its leaves stand under.
    key: u32,
    /// How deep it stands; 0 for the request.
    depth: u16,
    message: Msg,
}

struct Walker<'a> {
    bytes: &'a [u8],
    index: &'a mut Index,
    /// The messages around the current one.
    stack: Vec<Frame>,
    /// Keys of the `KeyValue`s that do not have the usual form; values may stand in front of them.
    late_keys: Vec<u32>,
    /// Resource and scope messages so far.
    envelopes: u64,
    max_depth: u16,
    max_items: usize,
    max_leaves: usize,
}

impl<'a> Walker<'a> {
    fn new(signal: Signal, bytes: &'a [u8], bounds: &Bounds, index: &'a mut Index) -> Self {
        index.leaves.reserve(bytes.len() / BYTES_PER_LEAF + 16);
        let request = Frame { end: bytes.len() as u32, key: NO_KEY, depth: 0, message: Msg::request(signal) };
        let mut stack = Vec::with_capacity(16);
        stack.push(request);
        Walker {
            bytes,
            index,
            stack,
            late_keys: Vec::new(),
            envelopes: 0,
            max_depth: bounds.depth.min(MAX_DEPTH) as u16,
            max_items: bounds.items,
            max_leaves: bounds.leaves.min(KEY_LATER as usize - 1),
        }
    }

    fn run(mut self) -> Result<(), Fault> {
        let mut pos = 0;
        while let Some(frame) = self.stack.pop() {
            pos = self.fields(frame, pos)?;
        }
        self.settle_keys();
        Ok(())
    }

    /// Reads on in `frame` until it ends or a message in it begins; that one is then on top of the stack.
    #[inline(always)]
    fn fields(&mut self, frame: Frame, mut pos: usize) -> Result<usize, Fault> {
        let end = frame.end as usize;
        let Some(bytes) = self.bytes.get(..end) else { return Ok(pos) };
        let ops = &frame.message.table().ops;
        while pos < end {
            let field = pos;
            let fault = |what, offset| Fault { what, offset, field };
            let (tag, after) = varint(bytes, pos).map_err(|what| fault(what, field))?;
            let op = match ops.get(tag as usize) {
                Some(&op) if tag < schema::TAGS as u64 => op,
                _ => match u32::try_from(tag) {
                    Ok(tag) => schema::unknown_op(tag),
                    Err(_) => return Err(fault(What::TagLong, field)),
                },
            };
            match op.act {
                Act::Varint => {
                    pos = varint(bytes, after).map_err(|what| fault(what, after))?.1;
                    continue;
                }
                Act::LeafInt => {
                    pos = varint(bytes, after).map_err(|what| fault(what, after))?.1;
                    self.leaf(field, after, pos, frame.key, Role::Int)?;
                    continue;
                }
                Act::Fixed64 | Act::LeafDouble => {
                    pos = after + 8;
                    if pos > end {
                        return Err(fault(What::FixedCut(8), after));
                    }
                    if op.act == Act::LeafDouble {
                        self.leaf(field, after, pos, frame.key, Role::Double)?;
                    }
                    continue;
                }
                Act::Fixed32 => {
                    pos = after + 4;
                    if pos > end {
                        return Err(fault(What::FixedCut(4), after));
                    }
                    continue;
                }
                _ if op.act as u8 >= Act::WrongType as u8 => return Err(fault(refusal(op.act, tag), field)),
                _ => {}
            }
            let (len, payload) = varint(bytes, after).map_err(|what| fault(what, after))?;
            if len > (end - payload) as u64 {
                return Err(fault(What::LengthPastEnd(len), after));
            }
            pos = payload + len as usize;
            match op.act {
                Act::LeafName => self.leaf(field, payload, pos, frame.key, Role::Name)?,
                Act::LeafText => self.leaf(field, payload, pos, frame.key, Role::Text)?,
                Act::LeafBytes => self.leaf(field, payload, pos, frame.key, Role::Bytes)?,
                Act::LeafUnknown => self.leaf(field, payload, pos, frame.key, Role::Unknown)?,
                Act::LeafKey => self.late_key(frame, field, payload, pos)?,
                Act::KeyValue => {
                    if let Some(inner) = self.key_value(frame, field, payload, pos)? {
                        return Ok(inner);
                    }
                }
                Act::ItemTraceId | Act::ItemSpanId | Act::TraceId | Act::SpanId => {
                    self.id(op.act, field, payload, pos)?;
                }
                Act::PackedFixed64 if len % 8 != 0 => return Err(fault(What::PackedLength(len as usize), after)),
                Act::PackedFixed64 => {}
                Act::PackedVarint => {
                    let packed = bytes.get(..pos).unwrap_or_default();
                    let mut at = payload;
                    while at < pos {
                        at = varint(packed, at).map_err(|what| fault(what, at))?.1;
                    }
                }
                _ => {
                    self.message(frame, op, field, payload, pos)?;
                    return Ok(payload);
                }
            }
        }
        Ok(pos)
    }

    /// Lists a leaf.
    #[inline(always)]
    fn leaf(&mut self, field: usize, payload: usize, end: usize, key: u32, role: Role) -> Result<(), Fault> {
        if self.index.leaves.len() >= self.max_leaves {
            return Err(Fault { what: What::Leaves(self.max_leaves), offset: field, field });
        }
        self.index.leaves.push(Leaf { start: payload as u32, len: (end - payload) as u32, key, role });
        Ok(())
    }

    /// Opens a message: what is left of `parent` and the message itself go on the stack.
    #[inline(always)]
    fn message(&mut self, parent: Frame, op: Op, field: usize, payload: usize, end: usize) -> Result<(), Fault> {
        match op.act {
            Act::Scope => self.count_envelope(field)?,
            Act::Envelope => {
                self.count_envelope(field)?;
                self.index.resources.push(ResourceSlot { container: payload as u32, resource: None });
            }
            Act::Resource => {
                if let Some(slot) = self.index.resources.last_mut() {
                    slot.resource = Some((payload as u32, end as u32));
                }
            }
            Act::Item | Act::Metric => {
                if op.act == Act::Item {
                    self.index.count += 1;
                }
                self.check_items(self.index.items.len() as u64, field)?;
                self.index.items.push(Item {
                    start: field as u32,
                    payload: payload as u32,
                    end: end as u32,
                    trace_id: [0; 16],
                    span_id: [0; 8],
                });
            }
            Act::Point => {
                self.check_items(self.index.count, field)?;
                self.index.count += 1;
            }
            _ => {}
        }
        let depth = parent.depth + 1;
        self.push(parent, Frame { end: end as u32, key: parent.key, depth, message: op.child }, field)
    }

    fn count_envelope(&mut self, field: usize) -> Result<(), Fault> {
        if self.envelopes >= self.max_items as u64 {
            return Err(Fault { what: What::Envelopes(self.max_items), offset: field, field });
        }
        self.envelopes += 1;
        Ok(())
    }

    #[inline(always)]
    fn check_items(&self, have: u64, field: usize) -> Result<(), Fault> {
        if have >= self.max_items as u64 {
            return Err(Fault { what: What::Items(self.max_items), offset: field, field });
        }
        Ok(())
    }

    #[inline(always)]
    fn push(&mut self, parent: Frame, child: Frame, field: usize) -> Result<(), Fault> {
        if child.depth > self.max_depth {
            return Err(Fault { what: What::Depth(usize::from(self.max_depth)), offset: field, field });
        }
        self.stack.push(parent);
        self.stack.push(child);
        Ok(())
    }

    /// Reads a `KeyValue`. Nearly all are a key followed by a value that is a string, which needs no frame; answers
    /// where to read on if one was pushed.
    #[inline(always)]
    fn key_value(&mut self, parent: Frame, field: usize, start: usize, end: usize) -> Result<Option<usize>, Fault> {
        if start == end {
            // Nothing inside, but it is a message, and the bound holds for it.
            return self.check_depth(parent.depth + 1, field).map(|()| None);
        }
        let Some(usual) = usual_form(self.bytes, start, end) else {
            return self.unusual(parent, field, start, end).map(Some);
        };
        let UsualForm { key: (key_start, key_end), value } = usual;
        let Some(value) = value else {
            self.check_depth(parent.depth + 1, field)?;
            return self.leaf(start, key_start, key_end, parent.key, Role::Key).map(|()| None);
        };
        if parent.depth + 2 > self.max_depth {
            return self.unusual(parent, field, start, end).map(Some);
        }
        let key = self.index.leaves.len() as u32;
        self.leaf(start, key_start, key_end, parent.key, Role::Key)?;
        if value == end {
            return Ok(None);
        }
        // A string in the usual form: tag, length, and nothing behind it.
        if self.bytes.get(value) == Some(&STRING_TAG)
            && let Ok((len, text)) = varint(self.bytes, value + 1)
            && end.checked_sub(text).is_some_and(|left| left as u64 == len)
        {
            return self.leaf(value, text, end, key, Role::Text).map(|()| None);
        }
        let depth = parent.depth + 2;
        self.push(parent, Frame { end: end as u32, key, depth, message: Msg::AnyValue }, field)?;
        Ok(Some(value))
    }

    /// A `KeyValue` in any other form: its key may stand behind its value, or several times.
    #[cold]
    #[inline(never)]
    fn unusual(&mut self, parent: Frame, field: usize, start: usize, end: usize) -> Result<usize, Fault> {
        let late = self.late_keys.len() as u32;
        self.late_keys.push(parent.key);
        let depth = parent.depth + 1;
        let frame = Frame { end: end as u32, key: KEY_LATER | late, depth, message: Msg::KeyValue };
        self.push(parent, frame, field)?;
        Ok(start)
    }

    /// A key of a `KeyValue` that does not have the usual form.
    fn late_key(&mut self, frame: Frame, field: usize, payload: usize, end: usize) -> Result<(), Fault> {
        let position = self.index.leaves.len() as u32;
        let outer = self.stack.last().map_or(NO_KEY, |parent| parent.key);
        if let Some(key) = self.late_keys.get_mut((frame.key & !KEY_LATER) as usize) {
            *key = position;
        }
        self.leaf(field, payload, end, outer, Role::Key)
    }

    fn check_depth(&self, depth: u16, field: usize) -> Result<(), Fault> {
        if depth > self.max_depth {
            return Err(Fault { what: What::Depth(usize::from(self.max_depth)), offset: field, field });
        }
        Ok(())
    }

    /// Gives leaves under a `KeyValue` of unusual form their key, now that all keys are known.
    fn settle_keys(&mut self) {
        if self.late_keys.is_empty() {
            return;
        }
        let is_late = |key: u32| key != NO_KEY && key & KEY_LATER != 0;
        // A `KeyValue` without a key passes on the key around it, which was settled before: it was opened earlier.
        for i in 0..self.late_keys.len() {
            let key = self.late_keys[i];
            if is_late(key) {
                self.late_keys[i] = self.late_keys[(key & !KEY_LATER) as usize];
            }
        }
        for leaf in &mut self.index.leaves {
            if is_late(leaf.key) {
                leaf.key = self.late_keys[(leaf.key & !KEY_LATER) as usize];
            }
        }
    }

    /// Checks the length of an id, and notes it if it is the item's own.
    #[inline(always)]
    fn id(&mut self, act: Act, field: usize, payload: usize, end: usize) -> Result<(), Fault> {
        let trace = matches!(act, Act::ItemTraceId | Act::TraceId);
        let want = if trace { 16 } else { 8 };
        let id = self.bytes.get(payload..end).unwrap_or_default();
        if id.len() != want && !id.is_empty() {
            return Err(Fault { what: What::IdLength { want: want as u8, len: id.len() }, offset: payload, field });
        }
        if let Some(item) = self.index.items.last_mut() {
            match act {
                Act::ItemTraceId => item.trace_id = id.try_into().unwrap_or_default(),
                Act::ItemSpanId => item.span_id = id.try_into().unwrap_or_default(),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The tags of `KeyValue.key`, `KeyValue.value` and `AnyValue.string_value`.
const KEY_TAG: u8 = 0x0a;
const VALUE_TAG: u8 = 0x12;
const STRING_TAG: u8 = 0x0a;

/// A `KeyValue` that is one key, then at most one value, and nothing else.
struct UsualForm {
    /// The key's payload.
    key: (usize, usize),
    /// Where the value's payload begins; it ends with the `KeyValue`.
    value: Option<usize>,
}

#[inline(always)]
fn usual_form(bytes: &[u8], start: usize, end: usize) -> Option<UsualForm> {
    let bytes = bytes.get(..end)?;
    if *bytes.get(start)? != KEY_TAG {
        return None;
    }
    let (len, key) = varint(bytes, start + 1).ok()?;
    if len > (end - key) as u64 {
        return None;
    }
    let key_end = key + len as usize;
    if key_end == end {
        return Some(UsualForm { key: (key, key_end), value: None });
    }
    if *bytes.get(key_end)? != VALUE_TAG {
        return None;
    }
    let (len, value) = varint(bytes, key_end + 1).ok()?;
    if len != (end - value) as u64 {
        return None;
    }
    Some(UsualForm { key: (key, key_end), value: Some(value) })
}

/// What is wrong with a tag that is refused whatever stands behind it.
#[cold]
fn refusal(act: Act, tag: u64) -> What {
    let wire = (tag & 7) as u8;
    match act {
        Act::Group => What::Group,
        Act::NoType => What::NoType(wire),
        Act::NoField => What::NoField,
        _ => What::WrongType(wire),
    }
}

/// The error a person sees. The path costs a second look at the bytes, which only a refused request pays.
#[cold]
fn explain(signal: Signal, bytes: &[u8], fault: Fault) -> WireError {
    let what = match fault.what {
        What::VarintCut => "the message ends inside a varint".to_owned(),
        What::VarintLong => "a varint is longer than 64 bits".to_owned(),
        What::TagLong => "a tag is longer than 32 bits".to_owned(),
        What::NoField => "field number 0".to_owned(),
        What::Group => "a group (wire type 3 or 4), which OTLP does not use".to_owned(),
        What::NoType(wire) => format!("wire type {wire}, which does not exist"),
        What::WrongType(wire) => format!("wire type {wire} is not this field's"),
        What::LengthPastEnd(len) => format!("length {len} runs past the end of its message"),
        What::FixedCut(len) => format!("the message ends inside a value of {len} bytes"),
        What::IdLength { want, len } => format!("an id of {len} bytes where {want} or none are due"),
        What::PackedLength(len) => format!("a packed list of {len} bytes is no multiple of 8"),
        What::TooLong => format!("{} bytes are more than one request may have", bytes.len()),
        What::Depth(max) => format!("messages nest deeper than {max}"),
        What::Items(max) => format!("more than {max} {}", signal.items_name().replace('_', " ")),
        What::Envelopes(max) => format!("more than {max} resources and scopes"),
        What::Leaves(max) => format!("more than {max} text fields"),
    };
    let over_bounds =
        matches!(fault.what, What::TooLong | What::Depth(_) | What::Items(_) | What::Envelopes(_) | What::Leaves(_));
    WireError { what, offset: fault.offset, path: locate::path_to_tag(signal, bytes, fault.field), over_bounds }
}
