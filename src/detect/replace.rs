//! What stands in place of what was found.

use super::{Engine, Field, Hit, Rule};

/// The marker of a rule: `[MASKED:<id>]`. ASCII without quotes, backslashes or markup, so that JSON stays JSON at any
/// depth of escaping.
pub fn marker(rule: &Rule) -> String {
    format!("[MASKED:{}]", rule.id)
}

/// What replaces a hit: the marker, in quotes where a bare JSON value stood.
pub fn replacement(rule: &Rule, hit: &Hit) -> Vec<u8> {
    let marker = marker(rule);
    if hit.quoted == 0 {
        return marker.into_bytes();
    }
    let quote = "\\".repeat((1 << (hit.quoted - 1)) - 1) + "\"";
    format!("{quote}{marker}{quote}").into_bytes()
}

/// A replacement of exactly `len` bytes: the marker, cut off or filled up with `*`.
pub fn same_length(rule: &Rule, len: usize) -> Vec<u8> {
    let mut out = marker(rule).into_bytes();
    out.resize(len, b'*');
    out
}

/// Masks one text: the new text and what was replaced (offsets in the given text).
pub fn mask_text(engine: &Engine, text: &[u8]) -> (Vec<u8>, Vec<Hit>) {
    mask_keyed(engine, text, b"")
}

/// [`mask_text`] with the key that names the text.
pub fn mask_keyed(engine: &Engine, text: &[u8], key: &[u8]) -> (Vec<u8>, Vec<Hit>) {
    let (hits, _) = engine.scan_text(text, key);
    let mut out = Vec::with_capacity(text.len() + 32 * hits.len());
    let mut at = 0;
    for hit in &hits {
        let start = hit.start as usize;
        out.extend_from_slice(&text[at..start]);
        out.extend_from_slice(&replacement(&engine.rules()[hit.rule as usize], hit));
        at = start + hit.len as usize;
    }
    out.extend_from_slice(&text[at..]);
    (out, hits)
}

/// Deepest nesting of JSON in JSON strings for which quotes are put around a marker.
const DEPTH: u32 = 6;

/// Whether `from..to` is a bare value of JSON, where a marker needs quotes of its own: 0 for no, else 1 + the depth of
/// escaping.
pub(super) fn quoting(data: &[u8], fields: &[Field], from: usize, to: usize) -> u8 {
    let i = fields.partition_point(|f| f.end() <= from);
    let Some(field) = fields.get(i) else { return 0 };
    let (low, high) = (field.start as usize, field.end());
    let number = data[from..to].iter().all(|c| c.is_ascii_digit() || b".eE+-".contains(c))
        && std::str::from_utf8(&data[from..to]).is_ok_and(|s| s.parse::<f64>().is_ok());
    if !number {
        return 0;
    }
    let before = &data[low..from];
    let head = before.trim_ascii_end();
    let Some(last) = head.last() else { return 0 };
    let after = data[to..high].trim_ascii_start();
    let ends = match after {
        [] => true,
        [b'\\', c, ..] => matches!(c, b'n' | b'r' | b't'),
        [c, ..] => matches!(c, b',' | b'}' | b']'),
    };
    if !ends || !matches!(last, b':' | b'[' | b',') {
        return 0;
    }
    // The quotes of the name before, or of the nearest string, tell the depth.
    let near = &head[head.len().saturating_sub(4096)..];
    let Some(quote) = memchr::memrchr(b'"', near) else { return u8::from(!after.is_empty() && *last == b'[') };
    if *last == b':' && quote + 1 != near[..near.len() - 1].trim_ascii_end().len() {
        return 0;
    }
    let slashes = near[..quote].iter().rev().take_while(|&&c| c == b'\\').count() as u32;
    // The quote that closes a name stands behind its letters; one behind anything else opens a string.
    let closes =
        near[..quote - slashes as usize].last().is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-'));
    if *last == b':' && !closes {
        return 0;
    }
    let depth = (slashes + 1).trailing_zeros();
    if (slashes + 1).is_power_of_two() && depth < DEPTH { depth as u8 + 1 } else { 0 }
}
