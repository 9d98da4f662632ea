//! Markers that masking left behind: `[MASKED:<rule id>]`, and nothing else. Only a marker that names a known rule is
//! skipped, so that a secret between the brackets is still found.

use std::ops::Range;

use super::Rule;

/// What stands before the rule id.
pub(super) const OPEN: &[u8] = b"[MASKED:";

/// The marker whose colon is at `colon`, if it is one, within `low..high`.
pub(super) fn at_colon(rules: &[Rule], data: &[u8], low: usize, high: usize, colon: usize) -> Option<Range<usize>> {
    let start = (colon + 1).checked_sub(OPEN.len()).filter(|&s| s >= low && data[s..=colon] == *OPEN)?;
    let rest = &data[colon + 1..high.min(colon + 50)];
    let close = rest.iter().position(|&c| c == b']')?;
    let known = rules.iter().any(|r| r.id.as_bytes() == &rest[..close]);
    known.then_some(start..colon + 2 + close)
}

/// Whether a known marker begins at `start`.
pub(super) fn at_start(rules: &[Rule], data: &[u8], start: usize, high: usize) -> bool {
    let colon = start + OPEN.len() - 1;
    colon < high && at_colon(rules, data, start, high, colon).is_some()
}

/// Whether a known marker stands in `range`.
pub(super) fn within(rules: &[Rule], data: &[u8], range: Range<usize>) -> bool {
    memchr::memmem::find_iter(&data[range.clone()], OPEN)
        .any(|n| at_colon(rules, data, range.start, range.end, range.start + n + OPEN.len() - 1).is_some())
}
