//! The second look: a masked field is scanned once more as it will leave, until nothing more is found in it.
//!
//! What a name says is secret is judged by the whole value that stands there. Once a part of the value is a marker, what
//! is left of it may be judged otherwise, so one look could leave what the next would mask; and a marker that a client
//! wrote must not save the rest of the value. Looking again at what the first look left settles both: masking twice
//! changes nothing. Fields in which nothing was found are not looked at again.

use super::{Confidence, Engine, Field, Hit, Seen, catalog::Detector, replace};

/// Looks after the first. Real text settles at the second; only text made for it needs more.
const LOOKS: usize = 4;

/// Hits of one scan that are kept apart. Every hit costs memory until the request has left, many times what it covers;
/// beyond this many, a field with hits is masked whole. A request of ordinary size cannot hold as many.
const HITS: usize = 1_000_000;

/// A field as it will leave, and where its pieces come from.
struct Masked {
    /// The key, the masked text.
    buffer: Vec<u8>,
    /// The text's place in `buffer`.
    field: Field,
    /// Offsets in `buffer` and in the original where a stretch of kept text begins, and its length.
    kept: Vec<(u32, u32, u32)>,
}

/// Adds to `hits[from..]`, found in `fields` of `data`, what further looks find.
pub(super) fn look(engine: &Engine, data: &[u8], fields: &[Field], hits: &mut Vec<Hit>, from: usize) -> Seen {
    let mut seen = Seen::default();
    let mut first = from;
    let mut more = Vec::new();
    while let Some(hit) = hits.get(first) {
        let field = fields[fields.partition_point(|field| field.start <= hit.start) - 1];
        let len = hits[first..].partition_point(|hit| (hit.start as usize) < field.end());
        first += len;
        if more.len() + len > HITS {
            let rule = engine.catalog.rule_of(Detector::Unscanned);
            more.push(Hit { start: field.start, len: field.len, rule, confidence: Confidence::Low, quoted: 0 });
            seen.unscanned += 1;
            continue;
        }
        let mut of_field = hits[first - len..first].to_vec();
        let whole = of_field.iter().any(|hit| hit.len == field.len);
        for _ in 0..if whole { 0 } else { LOOKS } {
            let masked = Masked::new(engine, data, field, &of_field);
            let before = more.len();
            seen.unscanned += engine.scan_once(&masked.buffer, &[masked.field], &mut more).unscanned;
            let found: Vec<Hit> = more.drain(before..).filter_map(|hit| masked.original(hit)).collect();
            if found.is_empty() {
                break;
            }
            of_field.extend(found);
            of_field.sort_unstable_by_key(|hit| hit.start);
        }
        more.append(&mut of_field);
    }
    hits.truncate(from);
    hits.append(&mut more);
    seen
}

impl Masked {
    fn new(engine: &Engine, data: &[u8], field: Field, hits: &[Hit]) -> Masked {
        let key = field.key_start as usize..(field.key_start + field.key_len) as usize;
        let mut buffer = Vec::with_capacity(key.len() + field.len as usize + 32 * hits.len());
        buffer.extend_from_slice(&data[key]);
        let start = buffer.len() as u32;
        let mut kept = Vec::with_capacity(hits.len() + 1);
        let mut at = field.start;
        let mut keep = |buffer: &mut Vec<u8>, from: u32, to: u32| {
            kept.push((buffer.len() as u32, from, to - from));
            buffer.extend_from_slice(&data[from as usize..to as usize]);
        };
        for hit in hits {
            keep(&mut buffer, at, hit.start);
            buffer.extend_from_slice(&replace::replacement(&engine.rules()[hit.rule as usize], hit));
            at = hit.start + hit.len;
        }
        keep(&mut buffer, at, field.start + field.len);
        let len = buffer.len() as u32 - start;
        Masked { field: Field { start, len, key_start: 0, key_len: field.key_len }, buffer, kept }
    }

    /// The hit where it stands in the original. Hits keep clear of known markers, so each lies in one kept stretch; of
    /// one that does not, the part in its first stretch counts.
    fn original(&self, hit: Hit) -> Option<Hit> {
        let end = hit.start + hit.len;
        let at = self.kept.partition_point(|&(start, _, len)| start + len <= hit.start);
        let &(start, original, len) = self.kept.get(at)?;
        let (from, to) = (hit.start.max(start), end.min(start + len));
        (from < to).then(|| Hit { start: original + from - start, len: to - from, ..hit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every hit costs memory; a field that would bring more than a million is masked whole.
    #[test]
    fn a_field_with_too_many_hits_is_masked_whole() {
        let text = b"a@bc.de ".repeat(HITS + 1);
        let (hits, seen) = Engine::builtin().scan_text(&text, b"");
        assert_eq!((hits.len(), seen.unscanned), (1, 1));
        assert_eq!((hits[0].start, hits[0].len as usize), (0, text.len()));
    }
}
