//! What clients on a unix socket call their server: gRPC's C core (Python, Ruby, C++) and Java name it by the path of the
//! socket, as in `:authority: run%2Fotlp.sock`. That is no authority (RFC 3986, 3.2), and the HTTP/2 library would refuse
//! the request. Nobody asks for that name here, so the bytes that cannot stand in one are replaced where they are read.
//!
//! The header block (RFC 7541) is followed, not decoded: a replacement of the same length leaves it as valid as it was.
//! A value in Huffman's code is left alone; the clients named above write none.

/// How every HTTP/2 connection starts (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
const PRIORITY_BYTES: u32 = 5;
const NAME: &[u8] = b":authority";
/// `:authority` in the static table.
const NAME_INDEX: u32 = 1;
const REPLACEMENT: u8 = b'-';

/// Follows what one client sends, from the first byte on.
#[derive(Debug)]
pub(super) struct Authority {
    frame: Frame,
    field: Field,
}

/// Where in the frames the next byte is.
#[derive(Clone, Copy, Debug)]
enum Frame {
    /// Within the preface, behind so many bytes of it.
    Preface(usize),
    /// HTTP/2 is not spoken here.
    Other,
    /// This many bytes are of no interest: a payload without header fields, or padding.
    Skip(u32),
    /// The header of a frame, of which so much is known.
    Header { seen: usize, bytes: [u8; FRAME_HEADER] },
    /// The length of the padding, before a payload of so many bytes, of which so many are the priority.
    PadLength { payload: u32, priority: u32 },
    /// The priority, before a block of so many bytes and so much padding.
    Priority { left: u32, block: u32, padding: u32 },
    /// A part of a header block, so many bytes of it, and so much padding.
    Block { left: u32, padding: u32 },
}

/// Where in a header block the next byte is.
#[derive(Clone, Copy, Debug)]
enum Field {
    /// Before a field.
    Start,
    /// Within the index of a field that has no strings.
    Index,
    /// Within the index of the name of a literal field; never that of `:authority`, which is shorter.
    NameIndex,
    /// Before the length of a name.
    NameLength,
    /// Within the length of a string that is longer than its first byte can say.
    Length { value: u32, shift: u32, then: Text },
    /// Within a string, so many bytes before its end.
    Text { left: u32, text: Text },
    /// Before the length of the value, of `:authority` or not.
    ValueLength { ours: bool },
}

/// Which string it is.
#[derive(Clone, Copy, Debug)]
enum Text {
    /// A name; so many bytes equal those of `:authority`, none if it cannot be that.
    Name { matched: Option<usize> },
    /// A value, to be mended or not.
    Value { mend: bool },
}

impl Authority {
    pub(super) fn new() -> Self {
        Authority { frame: Frame::Preface(0), field: Field::Start }
    }

    /// Mends `bytes`, the next the client sent.
    pub(super) fn mend(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) {
            match self.frame {
                Frame::Other => return,
                Frame::Skip(left) => {
                    let skipped = (left as usize).min(rest.len());
                    self.frame = skip(left - skipped as u32);
                    at += skipped;
                    continue;
                }
                _ => {}
            }
            if let Some(byte) = rest.first_mut() {
                self.byte(byte);
            }
            at += 1;
        }
    }

    fn byte(&mut self, byte: &mut u8) {
        self.frame = match self.frame {
            Frame::Preface(seen) if PREFACE.get(seen) != Some(byte) => Frame::Other,
            Frame::Preface(seen) if seen + 1 < PREFACE.len() => Frame::Preface(seen + 1),
            Frame::Preface(_) => skip(0),
            Frame::Other => Frame::Other,
            Frame::Skip(left) => skip(left.saturating_sub(1)),
            Frame::Header { seen, mut bytes } => {
                if let Some(place) = bytes.get_mut(seen) {
                    *place = *byte;
                }
                if seen + 1 < FRAME_HEADER { Frame::Header { seen: seen + 1, bytes } } else { payload(bytes) }
            }
            Frame::PadLength { payload, priority } => {
                let padding = u32::from(*byte).min(payload - 1);
                prioritised(payload - 1 - padding, priority, padding)
            }
            Frame::Priority { left, block, padding } if left > 1 => Frame::Priority { left: left - 1, block, padding },
            Frame::Priority { block, padding, .. } => self::block(block, padding),
            Frame::Block { left, padding } => {
                self.field = self.field.next(byte);
                block(left - 1, padding)
            }
        };
    }
}

fn skip(left: u32) -> Frame {
    if left > 0 { Frame::Skip(left) } else { Frame::Header { seen: 0, bytes: [0; FRAME_HEADER] } }
}

fn block(left: u32, padding: u32) -> Frame {
    if left > 0 { Frame::Block { left, padding } } else { skip(padding) }
}

fn prioritised(payload: u32, priority: u32, padding: u32) -> Frame {
    let priority = priority.min(payload);
    if priority > 0 {
        return Frame::Priority { left: priority, block: payload - priority, padding };
    }
    block(payload, padding)
}

fn payload([high, middle, low, kind, flags, ..]: [u8; FRAME_HEADER]) -> Frame {
    let length = u32::from_be_bytes([0, high, middle, low]);
    let priority = if flags & PRIORITY != 0 { PRIORITY_BYTES } else { 0 };
    match kind {
        HEADERS if flags & PADDED != 0 && length > 0 => Frame::PadLength { payload: length, priority },
        HEADERS => prioritised(length, priority, 0),
        CONTINUATION => block(length, 0),
        _ => skip(length),
    }
}

impl Field {
    fn next(self, byte: &mut u8) -> Field {
        match self {
            Field::Start => match *byte {
                byte if byte & 0x80 != 0 => index(byte, 0x7f),
                byte if byte & 0x40 != 0 => literal(byte, 0x3f),
                byte if byte & 0x20 != 0 => index(byte, 0x1f),
                byte => literal(byte, 0x0f),
            },
            Field::Index if *byte & 0x80 != 0 => Field::Index,
            Field::Index => Field::Start,
            Field::NameIndex if *byte & 0x80 != 0 => Field::NameIndex,
            Field::NameIndex => Field::ValueLength { ours: false },
            Field::NameLength => {
                let plain = *byte & 0x80 == 0;
                length(*byte, Text::Name { matched: plain.then_some(0) })
            }
            Field::ValueLength { ours } => length(*byte, Text::Value { mend: ours && *byte & 0x80 == 0 }),
            Field::Length { value, shift, then } => {
                // More than 28 bits are more than any block: the library refuses it, whatever we make of it.
                let value = value.saturating_add(u32::from(*byte & 0x7f).checked_shl(shift).unwrap_or(u32::MAX));
                if *byte & 0x80 != 0 {
                    Field::Length { value, shift: shift.saturating_add(7), then }
                } else {
                    text(value, then)
                }
            }
            Field::Text { left, text: kind } => {
                let kind = match kind {
                    Text::Name { matched } => {
                        Text::Name { matched: matched.filter(|at| NAME.get(*at) == Some(byte)).map(|at| at + 1) }
                    }
                    Text::Value { mend } => {
                        if mend && !stands_in_an_authority(*byte) {
                            *byte = REPLACEMENT;
                        }
                        kind
                    }
                };
                text(left - 1, kind)
            }
        }
    }
}

/// A field without strings: one of a table, or the new size of the dynamic one.
fn index(byte: u8, mask: u8) -> Field {
    if byte & mask == mask { Field::Index } else { Field::Start }
}

/// A field whose value is written out, and its name where the index is zero.
fn literal(byte: u8, mask: u8) -> Field {
    match byte & mask {
        0 => Field::NameLength,
        index if index == mask => Field::NameIndex,
        index => Field::ValueLength { ours: u32::from(index) == NAME_INDEX },
    }
}

fn length(byte: u8, then: Text) -> Field {
    match byte & 0x7f {
        0x7f => Field::Length { value: 0x7f, shift: 0, then },
        value => text(u32::from(value), then),
    }
}

fn text(left: u32, kind: Text) -> Field {
    match kind {
        _ if left > 0 => Field::Text { left, text: kind },
        Text::Name { matched } => Field::ValueLength { ours: matched == Some(NAME.len()) },
        Text::Value { .. } => Field::Start,
    }
}

/// Letters, digits, and what else a host, a port and a user may hold.
fn stands_in_an_authority(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:@[]".contains(&byte)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let [_, high, middle, low] = (payload.len() as u32).to_be_bytes();
        [&[high, middle, low, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn string(text: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        if text.len() < 127 {
            bytes.push(text.len() as u8);
        } else {
            bytes.push(127);
            let mut rest = text.len() - 127;
            while rest >= 128 {
                bytes.push((rest % 128 + 128) as u8);
                rest /= 128;
            }
            bytes.push(rest as u8);
        }
        [&bytes, text].concat()
    }

    /// As gRPC's C core writes it: every name a literal, to be indexed.
    fn literal_field(name: &str, value: &str) -> Vec<u8> {
        [&[0x40][..], &string(name.as_bytes()), &string(value.as_bytes())].concat()
    }

    fn named_field(index: u8, value: &str) -> Vec<u8> {
        [&[0x40 | index][..], &string(value.as_bytes())].concat()
    }

    fn mended(mut bytes: Vec<u8>, cuts: &[usize]) -> Vec<u8> {
        let mut authority = Authority::new();
        let (mut start, end) = (0, bytes.len());
        for cut in cuts.iter().copied().chain([end]) {
            authority.mend(&mut bytes[start..cut]);
            start = cut;
        }
        bytes
    }

    /// A connection with `block` in a HEADERS frame between frames of other kinds.
    fn connection(block: &[u8]) -> Vec<u8> {
        let data = b"\x40\x0a:authority\x05a%2Fb";
        let settings = frame(4, 0, &[0, 3, 0, 0, 0, 100]);
        [PREFACE, &settings, &frame(HEADERS, 4, block), &frame(0, 1, data), &frame(HEADERS, 4, block)].concat()
    }

    #[test]
    fn a_path_becomes_a_name_however_it_is_written() {
        let long = format!("%2F{}", "directory%2F".repeat(30));
        for (path, name) in [
            ("tmp%2Fdir%2Fotlp.sock", "tmp-2Fdir-2Fotlp.sock"),
            ("/run/otlp.sock", "-run-otlp.sock"),
            (&long, &long.replace('%', "-")),
        ] {
            for write in [|value: &str| literal_field(":authority", value), |value: &str| named_field(1, value)] {
                let block = |value| [literal_field(":path", "/a%2Fb/c"), write(value), vec![0x83, 0x86]].concat();
                assert_eq!(mended(connection(&block(path)), &[]), connection(&block(name)), "{path}");
            }
        }
    }

    #[test]
    fn padding_priority_and_continued_blocks_are_seen_through() {
        let block = |value| [vec![0x3f, 0xe1, 0x1f, 0x82], literal_field(":authority", value)].concat();
        let written = |value| {
            let block = block(value);
            let (first, second) = block.split_at(9);
            let padded = [&[3][..], &[0, 0, 0, 0, 16], first, &[0; 3]].concat();
            [PREFACE, &frame(HEADERS, PADDED | PRIORITY, &padded), &frame(CONTINUATION, 4, second)].concat()
        };
        assert_eq!(mended(written("a%2Fb"), &[]), written("a-2Fb"));
    }

    #[test]
    fn a_value_in_huffmans_code_is_left_alone() {
        let block = [&[0x41, 0x83][..], b"%/%", &literal_field("x", "%")].concat();
        assert_eq!(mended(connection(&block), &[]), connection(&block));
    }

    #[test]
    fn http_1_is_left_alone() {
        let body = connection(&literal_field(":authority", "a%2Fb"));
        let request = [&b"POST /v1/traces HTTP/1.1\r\ncontent-length: 2\r\n\r\n"[..], &body[PREFACE.len()..]].concat();
        assert_eq!(mended(request.clone(), &[]), request);
        let request = [b"POST /v1/traces HTTP/1.1", &body[PREFACE.len()..]].concat();
        assert_eq!(mended(request.clone(), &[]), request);
    }

    proptest! {
        #[test]
        fn only_the_authority_changes_however_the_bytes_are_cut(
            fields in prop::collection::vec(("[a-z%/-]{1,12}", "[ -~]{0,300}", any::<bool>()), 0..6),
            name in "[a-z%/:0-9]{0,200}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let before: Vec<u8> = fields.iter().flat_map(|(name, value, known)| {
                if *known { named_field(4, value) } else { literal_field(name, value) }
            }).collect();
            let sent = connection(&[before.clone(), literal_field(":authority", &name), before.clone()].concat());
            let clean = name.replace(['%', '/'], "-");
            let wanted = connection(&[before.clone(), literal_field(":authority", &clean), before].concat());
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(sent.len())).collect();
            cuts.sort_unstable();
            prop_assert_eq!(mended(sent, &cuts), wanted);
        }

        #[test]
        fn no_bytes_make_it_fail_and_none_are_lost(mut bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let length = bytes.len();
            let mut authority = Authority::new();
            authority.mend(&mut PREFACE.to_vec());
            authority.mend(&mut bytes);
            prop_assert_eq!(bytes.len(), length);
        }
    }
}
