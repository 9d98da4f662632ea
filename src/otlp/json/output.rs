//! Protobuf written message by message, without knowing their lengths beforehand.

use crate::otlp::{schema::Field, wire};

/// Protobuf as it grows. Lengths are known only when a message is complete, so they are put in at the end, in one go.
#[derive(Default)]
pub(super) struct Output {
    /// Everything but the lengths.
    pub(super) bytes: Vec<u8>,
    /// Where lengths go, in ascending order.
    lengths: Vec<Length>,
    /// How many bytes the lengths known so far take.
    extra: usize,
}

#[derive(Clone, Copy)]
struct Length {
    at: u32,
    value: u32,
}

/// A message that was begun.
#[derive(Clone, Copy)]
pub(super) struct Begun {
    length: usize,
    extra: usize,
}

impl Output {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Output { bytes: Vec::with_capacity(bytes), ..Output::default() }
    }

    pub(super) fn tag(&mut self, field: &Field, wire: u8) {
        wire::put_varint(&mut self.bytes, u64::from(u32::from(field.number) << 3 | u32::from(wire)));
    }

    pub(super) fn begin(&mut self, field: &Field) -> Begun {
        self.tag(field, wire::LEN);
        self.lengths.push(Length { at: self.bytes.len() as u32, value: 0 });
        Begun { length: self.lengths.len() - 1, extra: self.extra }
    }

    pub(super) fn end(&mut self, begun: Begun) {
        let (len, extra) = (self.bytes.len(), self.extra - begun.extra);
        if let Some(length) = self.lengths.get_mut(begun.length) {
            length.value = (len + extra) as u32 - length.at;
            self.extra += wire::varint_len(u64::from(length.value));
        }
    }

    pub(super) fn payload(&mut self, field: &Field, payload: &[u8]) {
        self.tag(field, wire::LEN);
        wire::put_varint(&mut self.bytes, payload.len() as u64);
        self.bytes.extend_from_slice(payload);
    }

    pub(super) fn finish(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes.len() + self.extra);
        let mut pos = 0;
        for length in &self.lengths {
            out.extend_from_slice(&self.bytes[pos..length.at as usize]);
            wire::put_varint(&mut out, u64::from(length.value));
            pos = length.at as usize;
        }
        out.extend_from_slice(&self.bytes[pos..]);
        out
    }
}
