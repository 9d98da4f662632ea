//! What the stages decided about one request: edits in received offsets, a verdict per trace, findings.
//!
//! Stages only add; nothing is applied until [`Plan::render`]. The rules by which additions compose:
//!
//! * a wider change swallows what lies inside it: removing an attribute makes an edit of its value pointless;
//! * two changes that overlap in part become one change of both ranges, with the text of the one planned first;
//! * insertions at one point keep pipeline order, those of an inner message before those of the message around it;
//! * no change at all means the received bytes themselves, not a copy.

use super::Request;
use crate::otlp::{self, Edit, split};
use bytes::Bytes;
use std::collections::BTreeMap;

/// What happens to the items of one trace. A request is decided by trace, so one trace delays no other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It goes on.
    #[default]
    Pass,
    /// It is refused for good; the client hears how many items that were and must not send them again.
    Block,
}

/// Something a stage found. Where it stands, never what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The leaf it stands in, a position in [`Index::leaves`](crate::otlp::Index::leaves).
    pub leaf: u32,
    /// First byte within the leaf.
    pub offset: u32,
    /// Length in bytes.
    pub len: u32,
    /// The rule, a position in [`Engine::rules`](crate::detect::Engine::rules).
    pub rule: u16,
    /// How sure the rule is.
    pub confidence: crate::detect::Confidence,
}

/// What the stages decided about one request.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    edits: Vec<Edit>,
    verdicts: BTreeMap<[u8; 16], Verdict>,
    findings: Vec<Finding>,
}

/// A request as it leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The part that passes; `None` when nothing is left of it.
    pub passed: Option<Bytes>,
    /// Items in it.
    pub count: u64,
    /// Items of blocked traces.
    pub rejected: u64,
}

impl Plan {
    /// Adds a change. Order of calls is pipeline order.
    pub fn edit(&mut self, edit: Edit) {
        self.edits.push(edit);
    }

    /// Adds a finding.
    pub fn find(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Decides a trace. The strictest verdict of all stages stands.
    pub fn decide(&mut self, trace_id: [u8; 16], verdict: Verdict) {
        let standing = self.verdicts.entry(trace_id).or_default();
        *standing = verdict.max(*standing);
    }

    /// The verdict on a trace.
    pub fn verdict(&self, trace_id: [u8; 16]) -> Verdict {
        self.verdicts.get(&trace_id).copied().unwrap_or_default()
    }

    /// What was planned so far, in pipeline order.
    #[cfg(test)]
    pub(crate) fn edits(&self) -> &[Edit] {
        &self.edits
    }

    /// What was found so far, in pipeline order.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Applies the plan to its request.
    pub fn render(self, request: &Request) -> Rendered {
        let blocks = |trace_id| self.verdict(trace_id) == Verdict::Block;
        let Request { signal, bytes, index, .. } = request;
        let blocked = index.items.iter().filter(|item| blocks(item.trace_id)).count() as u64;
        if blocked == 0 {
            let passed = otlp::render(*signal, bytes, &composed(self.edits));
            return Rendered { passed: Some(passed), count: index.count, rejected: 0 };
        }
        // Verdicts are by trace and metrics have none, so here items are what is counted: spans or log records.
        let count = index.count.saturating_sub(blocked);
        if count == 0 {
            return Rendered { passed: None, count: 0, rejected: blocked };
        }
        let keeps = |item: usize| index.items.get(item).is_none_or(|item| !blocks(item.trace_id));
        let removals = split::removals(*signal, bytes, index, keeps);
        let mut edits = self.edits;
        edits.extend(removals);
        Rendered { passed: Some(otlp::render(*signal, bytes, &composed(edits))), count, rejected: blocked }
    }
}

/// Sorts edits (given in pipeline order) and resolves them by the rules of this module.
fn composed(mut edits: Vec<Edit>) -> Vec<Edit> {
    if edits.len() < 2 {
        return edits;
    }
    // Stable: what compares equal keeps pipeline order. At one point, insertions into the innermost message come
    // first, then those around it, then the change that starts there, the widest first so that it swallows the rest.
    edits.sort_by(|a, b| {
        (a.start.cmp(&b.start))
            .then((a.start != a.end).cmp(&(b.start != b.end)))
            .then_with(|| if a.start == a.end { b.container.cmp(&a.container) } else { b.end.cmp(&a.end) })
    });
    // What masking alone plans is disjoint, and may be millions of edits: nothing is copied for it.
    if edits.windows(2).all(|pair| pair[0].end <= pair[1].start && pair[0].start < pair[0].end) {
        return edits;
    }
    let (insertions, changes): (Vec<Edit>, Vec<Edit>) = edits.into_iter().partition(|edit| edit.start == edit.end);
    let changes = disjoint(changes);
    let kept = insertions.into_iter().filter(|insertion| !swallowed(insertion, &changes));
    merged(kept, changes.iter().cloned())
}

/// Makes changes (sorted by start, widest first) disjoint.
fn disjoint(changes: Vec<Edit>) -> Vec<Edit> {
    let mut kept: Vec<Edit> = Vec::with_capacity(changes.len());
    for change in changes {
        match kept.last_mut() {
            Some(last) if change.end <= last.end => {}
            Some(last) if change.start < last.end => last.end = change.end,
            _ => kept.push(change),
        }
    }
    kept
}

/// Whether the message an insertion goes into is removed, or the point itself lies inside a change.
fn swallowed(insertion: &Edit, changes: &[Edit]) -> bool {
    let before = changes.partition_point(|change| change.start < insertion.start);
    let Some(change) = before.checked_sub(1).and_then(|last| changes.get(last)) else { return false };
    // At the very end of a change, an insertion belongs to it if the message it goes into begins behind the change's
    // first byte: that message is removed. Otherwise it follows the change.
    insertion.start < change.end || insertion.start == change.end && insertion.container > change.start
}

/// Merges two sorted lists; at one point the insertion comes first.
fn merged(insertions: impl Iterator<Item = Edit>, changes: impl Iterator<Item = Edit>) -> Vec<Edit> {
    let (mut insertions, mut changes) = (insertions.peekable(), changes.peekable());
    let mut all = Vec::new();
    loop {
        let next = match (insertions.peek(), changes.peek()) {
            (Some(insertion), Some(change)) if insertion.start <= change.start => insertions.next(),
            (_, Some(_)) => changes.next(),
            (_, None) => insertions.next(),
        };
        let Some(next) = next else { return all };
        all.push(next);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn change(start: u32, end: u32, with: &str) -> Edit {
        Edit { start, end, container: 0, with: with.into() }
    }

    fn insertion(at: u32, container: u32, with: &str) -> Edit {
        Edit { start: at, end: at, container, with: with.into() }
    }

    fn texts(edits: Vec<Edit>) -> Vec<String> {
        composed(edits)
            .into_iter()
            .map(|e| format!("{}..{} {}", e.start, e.end, String::from_utf8(e.with).unwrap()))
            .collect()
    }

    #[test]
    fn a_delete_swallows_edits_inside_it_whatever_the_order() {
        let inner = [change(12, 15, "x"), change(18, 20, "y"), insertion(14, 11, "i")];
        for wide_first in [true, false] {
            let mut edits = inner.to_vec();
            edits.insert(if wide_first { 0 } else { 3 }, change(10, 20, ""));
            assert_eq!(texts(edits), ["10..20 "]);
        }
    }

    #[test]
    fn the_same_delete_from_two_stages_happens_once() {
        assert_eq!(texts(vec![change(10, 20, ""), change(10, 20, "")]), ["10..20 "]);
    }

    #[test]
    fn inserts_at_one_point_keep_pipeline_order() {
        let edits = vec![insertion(9, 4, "identity"), insertion(9, 4, "mask"), insertion(9, 4, "risk")];
        assert_eq!(texts(edits), ["9..9 identity", "9..9 mask", "9..9 risk"]);
    }

    #[test]
    fn an_insert_into_the_inner_message_stands_before_one_behind_it() {
        assert_eq!(texts(vec![insertion(9, 2, "outer"), insertion(9, 5, "inner")]), ["9..9 inner", "9..9 outer"]);
    }

    #[test]
    fn an_insert_at_the_end_of_a_removed_message_goes_with_it_one_behind_it_stays() {
        let edits = vec![change(10, 20, ""), insertion(20, 12, "into the removed"), insertion(20, 2, "behind it")];
        assert_eq!(texts(edits), ["10..20 ", "20..20 behind it"]);
    }

    #[test]
    fn an_insert_in_front_of_a_change_stays_in_front() {
        assert_eq!(texts(vec![change(10, 20, "c"), insertion(10, 2, "i")]), ["10..10 i", "10..20 c"]);
    }

    #[test]
    fn an_insert_behind_a_mask_at_the_end_of_its_message_stays() {
        let mask = Edit { start: 15, end: 20, container: 12, with: b"m".to_vec() };
        assert_eq!(texts(vec![insertion(20, 8, "i"), mask]), ["15..20 m", "20..20 i"]);
    }

    #[test]
    fn partly_overlapping_changes_become_one_and_reveal_nothing() {
        assert_eq!(texts(vec![change(10, 16, "first"), change(14, 20, "second")]), ["10..20 first"]);
    }
}
