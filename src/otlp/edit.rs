//! Changing a request without decoding it: edits in received offsets, lengths rewritten on the way up.

use super::{Signal, wire};
use bytes::Bytes;

/// One change of the received bytes: `start..end` gives way to `with`.
///
/// Three forms, told apart by `container`:
///
/// * inside a leaf: `container` is [`Leaf::start`](super::Leaf::start), `start..end` lies in its payload;
/// * whole fields of a message: `container` is the payload offset of the message, `start` is the offset of a tag in
///   it, `end` is behind a field, and `with` is empty or whole fields;
/// * an insertion into a message: the same with `start == end`, at a tag or at the end of the message.
///
/// A change inside a number ([`Role::Int`](super::Role::Int), [`Role::Double`](super::Role::Double)) has no form of its
/// own: replace the field, or the value ([`Location::replace_value`](super::Location::replace_value)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// First byte replaced.
    pub start: u32,
    /// Byte behind the last one replaced; equal to `start` for an insertion.
    pub end: u32,
    /// Payload offset of the innermost message or string that holds the change (0 for the request itself). It tells
    /// an insertion at the end of one message from one in front of the next.
    pub container: u32,
    /// What takes their place.
    pub with: Vec<u8>,
}

/// Applies edits to an export request that [`walk`](super::walk()) accepted. The enclosing lengths that change are
/// rewritten, in canonical varints; every other byte is kept. No edits: the same `Bytes`, not a copy.
///
/// `edits` are sorted by `start`, do not overlap, and several insertions at one point stand in output order (so one
/// at the end of a message stands in front of one behind that message); the caller
/// ([`Plan`](crate::pipeline)) sees to that.
///
/// # Panics
/// When an edit is out of order, out of range, or its container does not exist. That is a defect of the caller, and
/// sending a request with a change missing would be worse.
pub fn render(_signal: Signal, bytes: &Bytes, edits: &[Edit]) -> Bytes {
    if edits.is_empty() {
        return bytes.clone();
    }
    let changes = Planner::new(bytes).plan(edits);
    emit(bytes, edits, &changes)
}

/// A `KeyValue` with a string value, as the field `attributes` of a `Resource`, or of a span (`field` is its number).
pub fn string_attribute(field: u32, key: &str, value: &str) -> Vec<u8> {
    let text_field = |len: usize| 1 + wire::varint_len(len as u64) + len;
    let any_value = text_field(value.len());
    let key_value = text_field(key.len()) + text_field(any_value);
    let mut out = Vec::with_capacity(key_value + 16);
    wire::put_varint(&mut out, u64::from(field << 3 | u32::from(wire::LEN)));
    wire::put_varint(&mut out, key_value as u64);
    wire::put_field(&mut out, 1, key.as_bytes());
    out.push(VALUE_TAG);
    wire::put_varint(&mut out, any_value as u64);
    wire::put_field(&mut out, 1, value.as_bytes());
    out
}

/// A message with `payload`, as field number `field` of the message around it.
pub fn message_field(field: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 12);
    wire::put_field(&mut out, field, payload);
    out
}

/// The tag of `KeyValue.value`.
const VALUE_TAG: u8 = 0x12;

/// One stretch of the received bytes that changes, in ascending order.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// A length varint at `start..end` that becomes `value`.
    Length { start: usize, end: usize, value: usize },
    /// The edit at this position of the list.
    Edit(usize),
}

/// A field that holds changes.
#[derive(Clone, Copy, Debug)]
struct Open {
    payload: usize,
    end: usize,
    /// Position of its [`Change::Length`]; `None` for the request, which has no length.
    change: Option<usize>,
    /// How many bytes its payload grows by.
    growth: isize,
}

/// Finds the fields around each edit, and their new lengths.
struct Planner<'a> {
    bytes: &'a [u8],
    open: Vec<Open>,
    changes: Vec<Change>,
    /// Everything in front of this is settled.
    pos: usize,
}

impl<'a> Planner<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let request = Open { payload: 0, end: bytes.len(), change: None, growth: 0 };
        Planner { bytes, open: vec![request], changes: Vec::new(), pos: 0 }
    }

    fn plan(mut self, edits: &[Edit]) -> Vec<Change> {
        self.changes.reserve(edits.len() * 4);
        for (position, edit) in edits.iter().enumerate() {
            let (start, end, container) = (edit.start as usize, edit.end as usize, edit.container as usize);
            while self.open.last().is_some_and(|open| open.change.is_some() && !holds(open, container)) {
                self.close();
            }
            while self.top().payload != container {
                self.descend(container);
            }
            let top = self.open.last_mut();
            let fits = |open: &&mut Open| self.pos <= start && start <= end && end <= open.end;
            let Some(open) = top.filter(fits) else { misplaced() };
            open.growth += edit.with.len() as isize - (end - start) as isize;
            self.pos = end;
            self.changes.push(Change::Edit(position));
        }
        while self.open.len() > 1 {
            self.close();
        }
        self.changes
    }

    fn top(&self) -> Open {
        match self.open.last() {
            Some(open) => *open,
            None => misplaced(),
        }
    }

    /// Opens the field of the current message that has `container` in it.
    fn descend(&mut self, container: usize) {
        let found = wire::fields(self.bytes, self.pos, self.top().end)
            .take_while(|raw| raw.start <= container)
            .find(|raw| raw.wire == wire::LEN && raw.payload <= container && container <= raw.end);
        let Some(raw) = found else { misplaced() };
        let change = Some(self.changes.len());
        let value = raw.end - raw.payload;
        self.changes.push(Change::Length { start: raw.length, end: raw.payload, value });
        self.open.push(Open { payload: raw.payload, end: raw.end, change, growth: 0 });
        self.pos = raw.payload;
    }

    /// Settles the length of the innermost open field, and passes its growth on.
    fn close(&mut self) {
        let Some(open) = self.open.pop() else { return };
        self.pos = open.end;
        let Some(Change::Length { start, end, value }) = open.change.and_then(|at| self.changes.get_mut(at)) else {
            return;
        };
        let mut growth = open.growth;
        if growth != 0 {
            *value = value.saturating_add_signed(growth);
            growth += wire::varint_len(*value as u64) as isize - (*end - *start) as isize;
        } else {
            // Kept as it came, even if a shorter varint would do.
            *end = *start;
        }
        if let Some(above) = self.open.last_mut() {
            above.growth += growth;
        }
    }
}

/// Whether the payload with this offset is the field's own or inside it. No other field has it: payload offsets are
/// unique, and the next field's is at least two bytes behind.
fn holds(open: &Open, container: usize) -> bool {
    open.payload <= container && container <= open.end
}

#[cold]
fn misplaced() -> ! {
    panic!("an edit is out of order, out of range, or in no field");
}

/// Writes the request with its changes, in one allocation of the right size.
fn emit(bytes: &[u8], edits: &[Edit], changes: &[Change]) -> Bytes {
    let mut size = bytes.len();
    for change in changes {
        match *change {
            Change::Length { start, end, value } if start < end => {
                size = size + wire::varint_len(value as u64) - (end - start);
            }
            Change::Length { .. } => {}
            Change::Edit(at) => size = size + edits[at].with.len() - (edits[at].end - edits[at].start) as usize,
        }
    }
    let mut out = Vec::with_capacity(size);
    let mut pos = 0;
    for change in changes {
        match *change {
            Change::Length { start, end, value } if start < end => {
                out.extend_from_slice(&bytes[pos..start]);
                wire::put_varint(&mut out, value as u64);
                pos = end;
            }
            Change::Length { .. } => {}
            Change::Edit(at) => {
                let edit = &edits[at];
                out.extend_from_slice(&bytes[pos..edit.start as usize]);
                out.extend_from_slice(&edit.with);
                pos = edit.end as usize;
            }
        }
    }
    out.extend_from_slice(&bytes[pos..]);
    debug_assert_eq!(out.len(), size, "the size was computed exactly");
    Bytes::from(out)
}
