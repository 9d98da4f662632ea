//! Protobuf's wire format, strictly: varints, tags, lengths, and one field at a time (protobuf encoding guide).

/// What is wrong with the bytes, and where. A person gets it as [`WireError`](super::WireError), with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// What is wrong.
    pub(super) what: What,
    /// Offset of the offending byte.
    pub(super) offset: usize,
    /// Offset of the tag of the field it is in.
    pub(super) field: usize,
}

/// The ways bytes can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The message ends inside a varint.
    VarintCut,
    /// More than ten bytes, or more than 64 bits.
    VarintLong,
    /// More than 32 bits.
    TagLong,
    /// Field number 0.
    NoField,
    /// Wire type 3 or 4.
    Group,
    /// Wire type 6 or 7.
    NoType(u8),
    /// A known field with the wrong wire type.
    WrongType(u8),
    /// The length of a field reaches behind its message.
    LengthPastEnd(u64),
    /// The message ends inside a fixed-width value.
    FixedCut(u8),
    /// A trace id (16) or span id (8) of another length.
    IdLength {
        want: u8,
        len: usize,
    },
    /// A packed list of eight-byte values whose length is no multiple of eight.
    PackedLength(usize),
    /// More bytes than offsets can name.
    TooLong,
    /// Bounds exceeded.
    Depth(usize),
    Items(usize),
    Envelopes(usize),
    Leaves(usize),
}

pub(super) const VARINT: u8 = 0;
pub(super) const I64: u8 = 1;
pub(super) const LEN: u8 = 2;
pub(super) const I32: u8 = 5;

/// Reads the varint at `pos`; `bytes` ends where its message ends. Answers the value and the offset behind it.
///
/// # Errors
/// [`What::VarintCut`] and [`What::VarintLong`].
#[inline(always)]
pub(super) fn varint(bytes: &[u8], pos: usize) -> Result<(u64, usize), What> {
    match bytes.get(pos) {
        Some(&byte) if byte < 0x80 => Ok((u64::from(byte), pos + 1)),
        _ => long_varint(bytes, pos),
    }
}

#[inline(never)]
fn long_varint(bytes: &[u8], pos: usize) -> Result<(u64, usize), What> {
    let mut value = 0u64;
    for (i, &byte) in bytes.get(pos..).unwrap_or_default().iter().take(10).enumerate() {
        if i == 9 && byte > 1 {
            return Err(What::VarintLong);
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            return Ok((value, pos + i + 1));
        }
    }
    Err(What::VarintCut)
}

/// One field, as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RawField {
    /// Field number.
    pub(super) number: u32,
    /// Wire type: [`VARINT`], [`I64`], [`LEN`] or [`I32`].
    pub(super) wire: u8,
    /// Offset of its tag.
    pub(super) start: usize,
    /// Offset of its length varint; of its payload when there is none.
    pub(super) length: usize,
    /// Offset of its payload.
    pub(super) payload: usize,
    /// Offset behind it.
    pub(super) end: usize,
}

/// Reads the field at `pos`; `bytes` ends where its message ends.
///
/// # Errors
/// Any [`Fault`] of framing; `WrongType`, ids and bounds are not its business.
#[inline]
pub(super) fn field(bytes: &[u8], pos: usize) -> Result<RawField, Fault> {
    let fault = |what, offset| Fault { what, offset, field: pos };
    let (tag, after_tag) = varint(bytes, pos).map_err(|what| fault(what, pos))?;
    let Ok(tag) = u32::try_from(tag) else {
        return Err(fault(What::TagLong, pos));
    };
    let (number, wire) = (tag >> 3, (tag & 7) as u8);
    if number == 0 {
        return Err(fault(What::NoField, pos));
    }
    let (payload, end) = match wire {
        VARINT => (after_tag, varint(bytes, after_tag).map_err(|what| fault(what, after_tag))?.1),
        I64 => (after_tag, after_tag + 8),
        I32 => (after_tag, after_tag + 4),
        LEN => {
            let (len, payload) = varint(bytes, after_tag).map_err(|what| fault(what, after_tag))?;
            if len > (bytes.len() - payload) as u64 {
                return Err(fault(What::LengthPastEnd(len), after_tag));
            }
            (payload, payload + len as usize)
        }
        3 | 4 => return Err(fault(What::Group, pos)),
        _ => return Err(fault(What::NoType(wire), pos)),
    };
    if end > bytes.len() {
        return Err(fault(What::FixedCut((end - payload) as u8), after_tag));
    }
    Ok(RawField { number, wire, start: pos, length: after_tag, payload, end })
}

/// The fields of an accepted message, one after another; ends early where the bytes are broken.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    pos: usize,
}

/// The fields of the message with its payload at `start..end`.
pub(super) fn fields(bytes: &[u8], start: usize, end: usize) -> Fields<'_> {
    Fields { bytes: bytes.get(..end).unwrap_or_default(), pos: start }
}

impl Iterator for Fields<'_> {
    type Item = RawField;

    #[inline]
    fn next(&mut self) -> Option<RawField> {
        if self.pos >= self.bytes.len() {
            return None;
        }
        let field = field(self.bytes, self.pos).ok()?;
        self.pos = field.end;
        Some(field)
    }
}

/// How many bytes a varint takes in its shortest form.
#[inline]
pub(super) fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Appends a varint in its shortest form.
#[inline]
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a length-delimited field.
pub(super) fn put_field(out: &mut Vec<u8>, number: u32, payload: &[u8]) {
    put_varint(out, u64::from(number << 3 | u32::from(LEN)));
    put_varint(out, payload.len() as u64);
    out.extend_from_slice(payload);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn varints_go_out_and_come_back() {
        for value in (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit]).chain([u64::MAX]) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value));
            assert_eq!(varint(&out, 0), Ok((value, out.len())));
            assert_eq!(varint(&out[..out.len() - 1], 0), Err(What::VarintCut));
        }
    }

    #[test]
    fn a_varint_may_be_padded_to_ten_bytes_and_no_further() {
        let mut padded = vec![0x85];
        padded.extend([0x80; 8]);
        padded.push(0);
        assert_eq!(varint(&padded, 0), Ok((5, 10)));
        padded[9] = 2;
        assert_eq!(varint(&padded, 0), Err(What::VarintLong));
        padded[9] = 0x80;
        padded.push(0);
        assert_eq!(varint(&padded, 0), Err(What::VarintLong));
    }

    #[test]
    fn a_field_ends_inside_its_message() {
        assert_eq!(field(&[0x0a, 0x02, 1], 0).unwrap_err().what, What::LengthPastEnd(2));
        assert_eq!(field(&[0x09, 1, 2], 0).unwrap_err().what, What::FixedCut(8));
        assert_eq!(field(&[0x0d, 1, 2], 0).unwrap_err().what, What::FixedCut(4));
        assert_eq!(field(&[0x0b], 0).unwrap_err().what, What::Group);
        assert_eq!(field(&[0x0e], 0).unwrap_err().what, What::NoType(6));
        assert_eq!(field(&[0x02, 0], 0).unwrap_err().what, What::NoField);
        assert_eq!(field(&[0x80, 0x80, 0x80, 0x80, 0x10, 0], 0).unwrap_err().what, What::TagLong);
    }
}
