//! JSON out: fields in the order of the schema, merged as a decoder merges them, without decoding.

use crate::otlp::{
    Signal,
    schema::{Field, Kind, Msg, Rule},
    wire,
};
use base64::{Engine, engine::general_purpose::STANDARD};

pub(super) fn request(signal: Signal, bytes: &[u8]) -> Vec<u8> {
    let mut writer = Writer { bytes, out: Vec::with_capacity(bytes.len() * 5 / 4 + 64), found: Vec::new() };
    writer.message(Msg::request(signal), &[(0, bytes.len() as u32)]);
    writer.out
}

/// Offsets of a payload: begin and end.
type Span = (u32, u32);

/// One occurrence of a known field.
#[derive(Clone, Copy)]
struct Found {
    /// Position in the message's fields.
    field: u8,
    /// Whether it is length-delimited; a repeated number then is packed.
    delimited: bool,
    payload: Span,
}

struct Writer<'a> {
    bytes: &'a [u8],
    out: Vec<u8>,
    /// The fields of the messages around and of the current one.
    found: Vec<Found>,
}

impl Writer<'_> {
    /// Writes the message that these payloads are when merged.
    fn message(&mut self, message: Msg, payloads: &[Span]) {
        let fields = message.table().fields;
        let base = self.found.len();
        self.collect(message, payloads);
        self.out.push(b'{');
        let mut empty = true;
        let mut at = base;
        while let Some(&first) = self.found.get(at) {
            let count = self.found[at..].iter().take_while(|found| found.field == first.field).count();
            let field = &fields[usize::from(first.field)];
            let comma = !std::mem::take(&mut empty);
            if self.named(field, at, count, comma) {
                empty = false;
            } else {
                empty = !comma;
            }
            at += count;
        }
        self.out.push(b'}');
        self.found.truncate(base);
    }

    /// Lists the occurrences of known fields in order of the schema, those that a later member of their oneof
    /// shadows left out.
    fn collect(&mut self, message: Msg, payloads: &[Span]) {
        let fields = message.table().fields;
        let base = self.found.len();
        let mut members = 0;
        for &(start, end) in payloads {
            for raw in wire::fields(self.bytes, start as usize, end as usize) {
                let Some(field) = fields.iter().position(|field| u32::from(field.number) == raw.number) else {
                    continue;
                };
                members += usize::from(fields[field].rule == Rule::Oneof);
                let delimited = raw.wire == wire::LEN;
                let payload = (raw.payload as u32, raw.end as u32);
                self.found.push(Found { field: field as u8, delimited, payload });
            }
        }
        if members > 1 {
            self.drop_shadowed(fields, base);
        }
        let found = &mut self.found[base..];
        if !found.is_sorted_by_key(|found| found.field) {
            found.sort_by_key(|found| found.field);
        }
    }

    /// Of a oneof, the last member counts, with the occurrences of the same member that directly precede it.
    fn drop_shadowed(&mut self, fields: &[Field], base: usize) {
        let is_member = |found: &Found| fields[usize::from(found.field)].rule == Rule::Oneof;
        let found = &self.found[base..];
        let Some(winner) = found.iter().rev().find(|found| is_member(found)).map(|found| found.field) else { return };
        let other = found.iter().rposition(|found| is_member(found) && found.field != winner);
        let from = base + other.map_or(0, |other| other + 1);
        let mut at = 0;
        self.found.retain(|found| {
            at += 1;
            at <= base || !is_member(found) || at > from
        });
    }

    /// Writes `"name":value` for the `count` occurrences at `at`; answers whether it did.
    fn named(&mut self, field: &Field, at: usize, count: usize, comma: bool) -> bool {
        let last = self.found[at + count - 1];
        let is_id = matches!(field.kind, Kind::TraceId | Kind::SpanId);
        if is_id && last.payload.0 == last.payload.1 {
            // An empty id is no id.
            return false;
        }
        if comma {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(field.json.as_bytes());
        self.out.extend_from_slice(b"\":");
        if field.rule == Rule::Many {
            self.list(field, at, count);
        } else if let Kind::Message(of) = field.kind {
            if count == 1 {
                self.message(of, &[last.payload]);
            } else {
                let payloads: Vec<Span> = self.found[at..at + count].iter().map(|found| found.payload).collect();
                self.message(of, &payloads);
            }
        } else {
            self.scalar(field.kind, last.payload);
        }
        true
    }

    fn list(&mut self, field: &Field, at: usize, count: usize) {
        self.out.push(b'[');
        let start = self.out.len();
        for i in at..at + count {
            let found = self.found[i];
            match field.kind {
                Kind::Message(of) => {
                    self.comma(start);
                    self.message(of, &[found.payload]);
                }
                Kind::Fixed64 | Kind::Double if found.delimited => {
                    for value in (found.payload.0..found.payload.1).step_by(8) {
                        self.comma(start);
                        self.scalar(field.kind, (value, value + 8));
                    }
                }
                Kind::Uint64 if found.delimited => {
                    let mut pos = found.payload.0;
                    while pos < found.payload.1
                        && let Ok((_, end)) = wire::varint(self.bytes, pos as usize)
                    {
                        self.comma(start);
                        self.scalar(field.kind, (pos, end as u32));
                        pos = end as u32;
                    }
                }
                _ => {
                    self.comma(start);
                    self.scalar(field.kind, found.payload);
                }
            }
        }
        self.out.push(b']');
    }

    /// A comma, unless this is the first of the list that began at `start`.
    fn comma(&mut self, start: usize) {
        if self.out.len() > start {
            self.out.push(b',');
        }
    }

    fn scalar(&mut self, kind: Kind, payload: Span) {
        let bytes = self.bytes.get(payload.0 as usize..payload.1 as usize).unwrap_or_default();
        let varint = || wire::varint(self.bytes, payload.0 as usize).map_or(0, |(value, _)| value);
        match kind {
            // A message is never asked for here.
            Kind::Message(_) => {}
            Kind::Name | Kind::Key | Kind::Text => self.json(String::from_utf8_lossy(bytes).as_ref()),
            Kind::Bytes => self.json(&STANDARD.encode(bytes)),
            Kind::TraceId | Kind::SpanId => {
                self.out.push(b'"');
                for byte in bytes {
                    self.out.push(HEX[usize::from(byte >> 4)]);
                    self.out.push(HEX[usize::from(byte & 15)]);
                }
                self.out.push(b'"');
            }
            Kind::Bool => self.json(&(varint() != 0)),
            Kind::Int32 | Kind::Enum(_) => self.json(&(varint() as i32)),
            Kind::Uint32 => self.json(&(varint() as u32)),
            Kind::Sint32 => {
                let zigzag = varint() as u32;
                self.json(&((zigzag >> 1) as i32 ^ -((zigzag & 1) as i32)));
            }
            Kind::Fixed32 => self.json(&u32::from_le_bytes(bytes.try_into().unwrap_or_default())),
            Kind::Int64 => self.quoted(&(varint() as i64)),
            Kind::Uint64 => self.quoted(&varint()),
            Kind::Fixed64 => self.quoted(&u64::from_le_bytes(bytes.try_into().unwrap_or_default())),
            Kind::Sfixed64 => self.quoted(&i64::from_le_bytes(bytes.try_into().unwrap_or_default())),
            Kind::Double | Kind::ValueDouble => {
                let value = f64::from_le_bytes(bytes.try_into().unwrap_or_default());
                if value.is_nan() {
                    self.json("NaN");
                } else if value.is_infinite() {
                    self.json(if value > 0.0 { "Infinity" } else { "-Infinity" });
                } else {
                    self.json(&value);
                }
            }
        }
    }

    fn json<T: serde::Serialize + ?Sized>(&mut self, value: &T) {
        // Numbers and strings always have a JSON form, and a Vec takes every write.
        let _ = serde_json::to_writer(&mut self.out, value);
    }

    fn quoted<T: serde::Serialize>(&mut self, value: &T) {
        self.out.push(b'"');
        self.json(value);
        self.out.push(b'"');
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";
