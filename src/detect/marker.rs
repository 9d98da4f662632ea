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

/// The end of the known markers that stand one behind the other from `start` on; `None` where none does.
pub(super) fn run_at(rules: &[Rule], data: &[u8], start: usize, high: usize) -> Option<usize> {
    let mut end = None;
    let mut at = start;
    while at < high && data[at] == b'[' && at + OPEN.len() <= high {
        let Some(marker) = at_colon(rules, data, at, high, at + OPEN.len() - 1) else { break };
        at = marker.end;
        end = Some(at);
    }
    end
}

/// Whether a known marker stands in `range`, and next to it not enough for a secret. A client can write markers too: one
/// beside a password must not save it.
pub(super) fn is_all_of(rules: &[Rule], data: &[u8], range: Range<usize>) -> bool {
    let (mut at, mut left, mut markers) = (range.start, 0, 0);
    let letters = |from: usize, to: usize| data[from..to].iter().filter(|c| c.is_ascii_alphanumeric()).count();
    for n in memchr::memmem::find_iter(&data[range.clone()], OPEN) {
        let start = range.start + n;
        if let Some(marker) = at_colon(rules, data, range.start, range.end, start + OPEN.len() - 1) {
            left += letters(at.min(start), start);
            at = marker.end;
            markers += 1;
        }
    }
    markers > 0 && left + letters(at, range.end) < SECRET
}

/// Fewer letters and digits than this are no secret.
const SECRET: usize = 4;
