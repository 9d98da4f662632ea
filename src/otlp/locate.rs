//! From an offset back to the field it stands in: paths for people, enclosing messages for edits. Only used where
//! something was found, so the walk does not pay for it.

use super::{
    Edit, Signal,
    schema::{Kind, Msg, Rule},
    wire::{self, RawField},
};
use std::fmt::Write;

/// The chain of fields from the request down to one offset.
#[derive(Clone, Debug)]
pub struct Location {
    frames: Vec<Frame>,
}

/// One field on the way down.
#[derive(Clone, Copy, Debug)]
struct Frame {
    /// The message the field is of, and its payload offset.
    parent: Msg,
    container: usize,
    raw: RawField,
    /// How many fields of that number stand in front of it in its message.
    position: u32,
}

impl Frame {
    /// The message it holds, if the schema says that it holds one.
    fn message(&self) -> Option<Msg> {
        match self.parent.field(self.raw.number)?.kind {
            Kind::Message(of) if self.raw.wire == wire::LEN => Some(of),
            _ => None,
        }
    }

    fn holds(&self, of: Msg) -> bool {
        self.message() == Some(of)
    }

    /// Whether `offset` is in its payload. The end counts: an empty payload may begin there, and nothing else can, as
    /// the payload of whatever follows begins behind at least a tag.
    fn covers(&self, offset: usize) -> bool {
        self.raw.payload <= offset && offset <= self.raw.end
    }

    /// The edit that replaces the field whole.
    fn replace(&self, with: Vec<u8>) -> Edit {
        whole_field(&self.raw, self.container, with)
    }
}

fn whole_field(raw: &RawField, container: usize, with: Vec<u8>) -> Edit {
    Edit { start: raw.start as u32, end: raw.end as u32, container: container as u32, with }
}

/// Keys longer than this are cut in paths.
const SHOWN_KEY: usize = 128;

impl Location {
    /// The field path for a person: `resource_spans[0].scope_spans[0].spans[3].attributes["input.value"]`, with
    /// `[i]` for array elements and `["key"]` for key-value lists inside a value. A key is shown only if
    /// `shows_key(start, len)` allows it, otherwise its position stands in its place; keys come from clients and may
    /// hold a secret. Keys are escaped, and cut after 128 characters; a `KeyValue` of more than 16 fields shows none. A
    /// place in a key itself ends in `.key`.
    pub fn path(&self, bytes: &[u8], shows_key: impl Fn(u32, u32) -> bool) -> String {
        let mut path = String::new();
        for frame in &self.frames {
            let Some(field) = frame.parent.field(frame.raw.number) else {
                push_name(&mut path, &format!("field_{}", frame.raw.number));
                continue;
            };
            match frame.parent {
                // What a value is made of goes without saying.
                Msg::AnyValue => {}
                Msg::KeyValue if field.name == "value" => {}
                Msg::ArrayValue | Msg::KeyValueList => push_element(&mut path, frame, bytes, &shows_key),
                _ => {
                    push_name(&mut path, field.name);
                    if field.rule == Rule::Many {
                        push_element(&mut path, frame, bytes, &shows_key);
                    }
                }
            }
        }
        path
    }

    /// The edit that removes the innermost `KeyValue` around this offset whole; `None` outside attributes.
    pub fn remove_attribute(&self) -> Option<Edit> {
        let key_value = self.frames.iter().rev().find(|frame| frame.holds(Msg::KeyValue))?;
        Some(key_value.replace(Vec::new()))
    }

    /// The edits that turn the `AnyValue` around this offset into the string `text`: a changed oneof replaces every
    /// occurrence, so the first becomes the string and the others go. `None` outside an `AnyValue`.
    ///
    /// Where the field that holds the `AnyValue` stands several times in one message (a `KeyValue` with two values),
    /// a decoder merges them; all of them are meant then. Unknown fields stay. Every offset in the same value gives
    /// the same edits, and their number grows with the occurrences: ask once for each [`Location::value_place`].
    pub fn replace_value(&self, bytes: &[u8], text: &str) -> Option<Vec<Edit>> {
        let depth = self.frames.iter().rposition(|frame| frame.holds(Msg::AnyValue))?;
        let value = &self.frames[depth];
        let mut occurrences = vec![value.raw];
        if value.parent.field(value.raw.number)?.rule != Rule::Many {
            let end = depth.checked_sub(1).map_or(bytes.len(), |above| self.frames[above].raw.end);
            let same = |raw: &RawField| raw.number == value.raw.number && raw.wire == wire::LEN;
            occurrences = wire::fields(bytes, value.container, end).filter(same).collect();
        }

        let mut string = Vec::with_capacity(text.len() + 6);
        wire::put_field(&mut string, STRING_VALUE, text.as_bytes());
        let mut string = Some(string);
        let mut edits = Vec::new();
        for occurrence in &occurrences {
            for raw in wire::fields(bytes, occurrence.payload, occurrence.end) {
                if Msg::AnyValue.field(raw.number).is_some() {
                    edits.push(whole_field(&raw, occurrence.payload, string.take().unwrap_or_default()));
                }
            }
        }
        if let Some(string) = string {
            let at = value.raw.payload as u32;
            edits.push(Edit { start: at, end: at, container: at, with: string });
        }
        Some(edits)
    }

    /// Tells the value that [`Location::replace_value`] changes from all others in the request; equal for offsets in
    /// pieces of the same value. `None` outside an `AnyValue`.
    pub fn value_place(&self) -> Option<(u32, u32)> {
        let value = self.frames.iter().rev().find(|frame| frame.holds(Msg::AnyValue))?;
        match value.parent.field(value.raw.number)?.rule {
            Rule::Many => Some((value.raw.start as u32, 0)),
            _ => Some((value.container as u32, value.raw.number)),
        }
    }

    /// The innermost field around this offset: offset of its tag, of its payload, and behind it. `None` where the
    /// offset is in no field's payload.
    pub fn enclosing_field(&self) -> Option<(u32, u32, u32)> {
        self.frames.last().map(|frame| (frame.raw.start as u32, frame.raw.payload as u32, frame.raw.end as u32))
    }

    /// The innermost `KeyValue` around this offset, as [`Location::enclosing_field`].
    pub fn enclosing_attribute(&self) -> Option<(u32, u32, u32)> {
        let frame = self.frames.iter().rev().find(|frame| frame.holds(Msg::KeyValue))?;
        Some((frame.raw.start as u32, frame.raw.payload as u32, frame.raw.end as u32))
    }

    /// The edit that removes the innermost field around this offset whole.
    pub fn remove_field(&self) -> Option<Edit> {
        self.frames.last().map(|frame| frame.replace(Vec::new()))
    }

    /// Whether the innermost `KeyValue` around this offset is an attribute, not an entry of a key-value list in a value.
    pub fn is_attribute(&self) -> bool {
        let key_value = self.frames.iter().rev().find(|frame| frame.holds(Msg::KeyValue));
        key_value.is_some_and(|frame| frame.parent != Msg::KeyValueList)
    }

    /// Whether it is an attribute of a `Resource`.
    pub fn is_resource_attribute(&self) -> bool {
        let key_value = self.frames.iter().rev().find(|frame| frame.holds(Msg::KeyValue));
        key_value.is_some_and(|frame| frame.parent == Msg::Resource)
    }
}

/// Field number of `AnyValue.string_value`.
const STRING_VALUE: u32 = 1;
/// Field number of `KeyValue.key`.
const KEY: u32 = 1;

fn push_name(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

/// `[3]`, or `["key"]` for a key that may be shown.
fn push_element(path: &mut String, frame: &Frame, bytes: &[u8], shows_key: impl Fn(u32, u32) -> bool) {
    let key = frame.holds(Msg::KeyValue).then(|| last_key(bytes, &frame.raw)).flatten();
    match key {
        Some((start, end)) if shows_key(start as u32, (end - start) as u32) => {
            let key = String::from_utf8_lossy(bytes.get(start..end).unwrap_or_default());
            let shown: String = key.chars().take(SHOWN_KEY).collect();
            let cut = if shown.len() < key.len() { "…" } else { "" };
            // Writing to a String does not fail.
            let _ = write!(path, "[{:?}{cut}]", shown);
        }
        _ => {
            let _ = write!(path, "[{}]", frame.position);
        }
    }
}

/// The key that counts: the last. Not searched for in a `KeyValue` that goes on and on, as paths must be cheap.
fn last_key(bytes: &[u8], key_value: &RawField) -> Option<(usize, usize)> {
    const FIELDS: usize = 16;
    if wire::fields(bytes, key_value.payload, key_value.end).nth(FIELDS).is_some() {
        return None;
    }
    wire::fields(bytes, key_value.payload, key_value.end)
        .filter(|raw| raw.number == KEY && raw.wire == wire::LEN)
        .last()
        .map(|raw| (raw.payload, raw.end))
}

/// Locates `offsets` (ascending) in a request that was walked without error, in one targeted pass. An offset is that
/// of a payload byte, or of the start of a payload that may be empty: [`Leaf::start`](super::Leaf::start) and what
/// follows up to its end, [`Item::payload`](super::Item::payload).
///
/// Keeps some hundred bytes for each offset; [`Locator`] goes through any number of them one by one.
pub fn locate(signal: Signal, bytes: &[u8], offsets: &[u32]) -> Vec<Location> {
    let mut locator = Locator::new(signal, bytes);
    offsets.iter().map(|&offset| locator.locate(offset)).collect()
}

/// A message on the way down, and how far its fields were read.
struct Level {
    message: Msg,
    payload: usize,
    end: usize,
    pos: usize,
    /// How many fields were read, by number.
    seen: [u32; COUNTED],
}

/// Field numbers in the schema are below this; only those are counted.
const COUNTED: usize = 32;

impl Level {
    fn new(message: Msg, payload: usize, end: usize) -> Self {
        Level { message, payload, end, pos: payload, seen: [0; COUNTED] }
    }

    /// The next field.
    fn next(&mut self, bytes: &[u8]) -> Option<Frame> {
        let raw = wire::fields(bytes, self.pos, self.end).next()?;
        self.pos = raw.end;
        let mut position = 0;
        if let Some(seen) = self.seen.get_mut(raw.number as usize) {
            position = *seen;
            *seen += 1;
        }
        Some(Frame { parent: self.message, container: self.payload, raw, position })
    }
}

/// [`locate`] for one offset after another, without starting over.
pub struct Locator<'a> {
    bytes: &'a [u8],
    /// One more level than frames: the request.
    levels: Vec<Level>,
    frames: Vec<Frame>,
}

impl<'a> Locator<'a> {
    /// Stands at the begin of a request that was walked without error.
    pub fn new(signal: Signal, bytes: &'a [u8]) -> Self {
        Locator { bytes, levels: vec![Level::new(Msg::request(signal), 0, bytes.len())], frames: Vec::new() }
    }

    /// Goes on to an offset that is not in front of the last one.
    pub fn locate(&mut self, offset: u32) -> Location {
        let offset = offset as usize;
        while self.frames.last().is_some_and(|frame| !frame.covers(offset)) {
            let left = self.frames.pop();
            if left.and_then(|frame| frame.message()).is_some() {
                self.levels.pop();
            }
        }
        // A leaf stays on top while offsets are inside it.
        while self.levels.len() > self.frames.len()
            && let Some(level) = self.levels.last_mut()
        {
            let Some(frame) = level.next_covering(self.bytes, offset) else { break };
            self.frames.push(frame);
            if let Some(message) = frame.message() {
                self.levels.push(Level::new(message, frame.raw.payload, frame.raw.end));
            }
        }
        Location { frames: self.frames.clone() }
    }
}

impl Level {
    /// Reads on up to the field whose payload `offset` is in. Fields behind it stay unread.
    fn next_covering(&mut self, bytes: &[u8], offset: usize) -> Option<Frame> {
        while self.pos < self.end && self.pos <= offset {
            let (pos, seen) = (self.pos, self.seen);
            let frame = self.next(bytes)?;
            if frame.covers(offset) {
                return Some(frame);
            }
            if frame.raw.end > offset {
                // In its tag or length: it may hold a later offset.
                (self.pos, self.seen) = (pos, seen);
                return None;
            }
        }
        None
    }
}

/// The path of the field with its tag at `tag`, in a request that may be broken there. Positions instead of keys: a
/// refused request was never examined.
pub(super) fn path_to_tag(signal: Signal, bytes: &[u8], tag: usize) -> String {
    let mut path = String::new();
    let mut level = Level::new(Msg::request(signal), 0, bytes.len());
    while level.pos < tag
        && let Some(frame) = level.next(bytes)
    {
        if frame.raw.end > tag {
            push_position(&mut path, frame.parent, frame.raw.number, frame.position);
            let Some(message) = frame.message() else { return path };
            level = Level::new(message, frame.raw.payload, frame.raw.end);
        }
    }
    match wire::varint(bytes.get(..level.end).unwrap_or_default(), tag) {
        Ok((tag, _)) if u32::try_from(tag).is_ok_and(|tag| tag >= 8) => {
            let number = (tag >> 3) as u32;
            let position = level.seen.get(number as usize).copied().unwrap_or_default();
            push_position(&mut path, level.message, number, position);
        }
        _ => {}
    }
    if path.is_empty() { level.message.table().name.to_owned() } else { path }
}

fn push_position(path: &mut String, parent: Msg, number: u32, position: u32) {
    match parent.field(number) {
        Some(field) => {
            push_name(path, field.name);
            if field.rule == Rule::Many {
                let _ = write!(path, "[{position}]");
            }
        }
        None => push_name(path, &format!("field_{number}")),
    }
}
