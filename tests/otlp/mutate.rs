//! Requests as no well-meaning client writes them, with the same meaning: unknown fields, shadowed copies, padded
//! varints, values in front of their keys, at every level.

use prost::encoding::{decode_varint, encode_varint};
use tracegate::otlp::Signal;

/// The message-typed fields of each message: written down here again, so that a slip in the crate's table shows.
const MESSAGES: &[(&str, &[(u64, &str)])] = &[
    ("traces", &[(1, "ResourceSpans")]),
    ("logs", &[(1, "ResourceLogs")]),
    ("metrics", &[(1, "ResourceMetrics")]),
    ("ResourceSpans", &[(1, "Resource"), (2, "ScopeSpans")]),
    ("ResourceLogs", &[(1, "Resource"), (2, "ScopeLogs")]),
    ("ResourceMetrics", &[(1, "Resource"), (2, "ScopeMetrics")]),
    ("Resource", &[(1, "KeyValue"), (3, "EntityRef")]),
    ("EntityRef", &[]),
    ("ScopeSpans", &[(1, "Scope"), (2, "Span")]),
    ("ScopeLogs", &[(1, "Scope"), (2, "LogRecord")]),
    ("ScopeMetrics", &[(1, "Scope"), (2, "Metric")]),
    ("Scope", &[(3, "KeyValue")]),
    ("Span", &[(9, "KeyValue"), (11, "Event"), (13, "Link"), (15, "Status")]),
    ("Event", &[(3, "KeyValue")]),
    ("Link", &[(4, "KeyValue")]),
    ("Status", &[]),
    ("LogRecord", &[(5, "AnyValue"), (6, "KeyValue")]),
    (
        "Metric",
        &[
            (5, "Data"),
            (7, "Data"),
            (9, "HistogramData"),
            (10, "ExponentialData"),
            (11, "SummaryData"),
            (12, "KeyValue"),
        ],
    ),
    ("Data", &[(1, "Number")]),
    ("HistogramData", &[(1, "HistogramPoint")]),
    ("ExponentialData", &[(1, "ExponentialPoint")]),
    ("SummaryData", &[(1, "SummaryPoint")]),
    ("Number", &[(5, "Exemplar"), (7, "KeyValue")]),
    ("HistogramPoint", &[(8, "Exemplar"), (9, "KeyValue")]),
    ("ExponentialPoint", &[(1, "KeyValue"), (8, "Buckets"), (9, "Buckets"), (11, "Exemplar")]),
    ("SummaryPoint", &[(6, "Quantile"), (7, "KeyValue")]),
    ("Buckets", &[]),
    ("Quantile", &[]),
    ("Exemplar", &[(7, "KeyValue")]),
    ("KeyValue", &[(2, "AnyValue")]),
    ("AnyValue", &[(5, "ArrayValue"), (6, "KeyValueList")]),
    ("ArrayValue", &[(1, "AnyValue")]),
    ("KeyValueList", &[(1, "KeyValue")]),
];

/// A request with additions.
pub struct Mutated {
    pub bytes: Vec<u8>,
    /// Payloads of the unknown length-delimited fields added.
    pub unknown: Vec<Vec<u8>>,
    /// Keys and names added in front of the ones that count.
    pub shadows: usize,
}

/// Adds to `bytes` without changing what a decoder makes of them. `dice` decides.
pub fn mutate(signal: Signal, bytes: &[u8], dice: &[u8]) -> Mutated {
    let mut mutator = Mutator { dice, rolls: 0, unknown: Vec::new(), shadows: 0 };
    let bytes = mutator.message(signal.name(), bytes);
    Mutated { bytes, unknown: mutator.unknown, shadows: mutator.shadows }
}

/// One field as it stands: number, wire type, all its bytes, its payload.
pub type Raw<'a> = (u64, u64, &'a [u8], &'a [u8]);

/// The fields of a message.
pub fn fields(mut bytes: &[u8]) -> Vec<Raw<'_>> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let whole = bytes;
        let tag = decode_varint(&mut bytes).unwrap();
        let len = match tag & 7 {
            0 => {
                let mut rest = bytes;
                decode_varint(&mut rest).unwrap();
                bytes.len() - rest.len()
            }
            1 => 8,
            2 => decode_varint(&mut bytes).unwrap() as usize,
            5 => 4,
            wire => panic!("wire type {wire}"),
        };
        let (payload, rest) = bytes.split_at(len);
        out.push((tag >> 3, tag & 7, &whole[..whole.len() - rest.len()], payload));
        bytes = rest;
    }
    out
}

struct Mutator<'a> {
    dice: &'a [u8],
    rolls: usize,
    unknown: Vec<Vec<u8>>,
    shadows: usize,
}

impl Mutator<'_> {
    fn roll(&mut self) -> u8 {
        let roll = self.dice.get(self.rolls % self.dice.len().max(1)).copied().unwrap_or(0);
        self.rolls += 1;
        roll.wrapping_add((self.rolls / self.dice.len().max(1)) as u8)
    }

    /// A varint, padded at times.
    fn varint(&mut self, value: u64, out: &mut Vec<u8>) {
        encode_varint(value, out);
        let pad = self.roll();
        // No varint has more than ten bytes.
        if pad < 20
            && value >> 32 == 0
            && let Some(last) = out.last_mut()
        {
            *last |= 0x80;
            out.extend(std::iter::repeat_n(0x80, usize::from(pad % 3)));
            out.push(0);
        }
    }

    fn unknown(&mut self, out: &mut Vec<u8>) {
        let roll = self.roll();
        if !roll.is_multiple_of(4) {
            return;
        }
        let number = [17u64, 29, 100, 1000, 536_870_911][usize::from(roll / 4) % 5];
        match self.roll() % 4 {
            0 => {
                self.varint(number << 3, out);
                let value = u64::from(self.roll()) << (self.roll() % 56);
                self.varint(value, out);
            }
            1 => {
                self.varint(number << 3 | 1, out);
                out.extend([0xff; 8]);
            }
            2 => {
                self.varint(number << 3 | 5, out);
                out.extend([0xff; 4]);
            }
            _ => {
                self.varint(number << 3 | 2, out);
                let payload: Vec<u8> = (0..self.roll() % 40).map(|_| self.roll()).collect();
                self.varint(payload.len() as u64, out);
                out.extend(&payload);
                self.unknown.push(payload);
            }
        }
    }

    fn message(&mut self, name: &str, bytes: &[u8]) -> Vec<u8> {
        let children = MESSAGES.iter().find(|(message, _)| *message == name).unwrap().1;
        let mut out = Vec::new();
        let mut fields = fields(bytes);
        if name == "KeyValue" {
            if self.roll().is_multiple_of(8) {
                fields.reverse();
            }
            if self.roll().is_multiple_of(8) && fields.iter().any(|field| field.0 == 1) {
                // A key that another one shadows.
                out.extend(b"\x0a\x06shadow");
                self.shadows += 1;
            }
        }
        for (number, wire, whole, payload) in fields {
            self.unknown(&mut out);
            if wire != 2 {
                out.extend(whole);
                continue;
            }
            if name.starts_with("Resource") && name != "Resource" && number == 1 && self.roll().is_multiple_of(4) {
                // A second resource; the decoder merges them.
                out.extend(b"\x0a\x00");
            }
            self.varint(number << 3 | 2, &mut out);
            let child = children.iter().find(|(at, _)| *at == number);
            let payload = child.map_or(payload.to_vec(), |(_, child)| self.message(child, payload));
            self.varint(payload.len() as u64, &mut out);
            out.extend(payload);
        }
        self.unknown(&mut out);
        out
    }
}
