//! From what was found to hits: sorted, without overlaps, own markers left alone.

use super::scan::{Found, Scan};
use super::{Hit, replace};

/// Merges what overlaps, cuts own markers out, and appends the hits.
///
/// Overlapping findings become one hit over all they cover, because everything any of them covers must go. Its rule is
/// the most specific one, unless that covers less than half: then the longest.
pub(super) fn resolve(scan: &mut Scan<'_>, hits: &mut Vec<Hit>) {
    if scan.found.is_empty() {
        return;
    }
    let mut found = std::mem::take(&mut scan.found);
    scan.markers.sort_unstable_by_key(|m| m.start);
    found.sort_unstable_by_key(|f| (f.start, f.end));
    let mut group: Vec<Found> = Vec::new();
    let mut end = 0;
    for f in found {
        if !group.is_empty() && f.start >= end {
            emit(scan, &group, end, hits);
            group.clear();
        }
        end = if group.is_empty() { f.end } else { end.max(f.end) };
        group.push(f);
    }
    emit(scan, &group, end, hits);
}

fn emit(scan: &Scan<'_>, group: &[Found], end: usize, hits: &mut Vec<Hit>) {
    let Some(first) = group.first() else { return };
    let start = first.start;
    let length = |f: &Found| f.end - f.start;
    let specific = group.iter().max_by_key(|f| (f.weight, length(f), std::cmp::Reverse(f.rule)));
    let longest = group.iter().max_by_key(|f| (length(f), f.weight, std::cmp::Reverse(f.rule)));
    let (Some(specific), Some(longest)) = (specific, longest) else { return };
    let winner = if length(specific) * 2 >= end - start { specific } else { longest };
    let mut from = start;
    let at = scan.markers.partition_point(|m| m.end <= start);
    let mut push = |from: usize, to: usize| {
        if from < to {
            hits.push(Hit {
                start: from as u32,
                len: (to - from) as u32,
                rule: winner.rule,
                confidence: winner.confidence,
                quoted: replace::quoting(scan.data, scan.fields, from, to),
            });
        }
    };
    for marker in scan.markers[at..].iter().take_while(|m| m.start < end) {
        push(from, marker.start.max(from));
        from = marker.end;
    }
    push(from, end);
}
