//! Unknown length-delimited fields: text, or a message of a schema this version does not know.

use super::wire::{self, LEN};

/// Messages inside unknown messages that are looked into; deeper ones are only seen as bytes.
const DEPTH: usize = 16;

/// The innermost length-delimited payloads of `bytes`, if they read as a protobuf message to the last byte; none if
/// they do not. Ascending, not overlapping, as start and length, counted from `base`.
///
/// Text can read as a message by accident, so this is a second view, not a better one.
pub fn inner_payloads(bytes: &[u8], base: u32) -> Vec<(u32, u32)> {
    let mut payloads = Vec::new();
    collect(bytes, base, 0, &mut payloads);
    payloads
}

fn collect(bytes: &[u8], base: u32, depth: usize, payloads: &mut Vec<(u32, u32)>) {
    if depth == DEPTH || wire::fields(bytes, 0, bytes.len()).last().is_none_or(|last| last.end != bytes.len()) {
        return;
    }
    for field in wire::fields(bytes, 0, bytes.len()).filter(|field| field.wire == LEN && field.end > field.payload) {
        let (start, before) = (base + field.payload as u32, payloads.len());
        collect(bytes.get(field.payload..field.end).unwrap_or_default(), start, depth + 1, payloads);
        if payloads.len() == before {
            payloads.push((start, (field.end - field.payload) as u32));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_of_nested_messages_are_found_innermost() {
        // field 1 { field 2: "ab", field 3: 7 }, field 4: "c"
        let bytes = [0x0a, 6, 0x12, 2, b'a', b'b', 0x18, 7, 0x22, 1, b'c'];
        assert_eq!(inner_payloads(&bytes, 100), [(104, 2), (110, 1)]);
    }

    #[test]
    fn what_does_not_read_to_the_end_is_no_message() {
        assert_eq!(inner_payloads(b"\x0a\x02ab\xff", 0), []);
        assert_eq!(inner_payloads(b"plain text", 0), []);
        assert_eq!(inner_payloads(b"", 0), []);
    }
}
