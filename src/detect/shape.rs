//! The shape of a token as data, and the matcher made from it.
//!
//! A shape is literal text with repeats of a character set between: `ghp_{b62 36}`, `{digit 8,10}:AA{b64u 33}`,
//! `sk-{b62 20}T3BlbkFJ{b62 20}`. `{set n}` repeats exactly `n` times, `{set n,m}` from `n` to `m`, `{set n,}` at least
//! `n`; `{set}` is `{set 1}`. A set is one of the names in [`NAMED`] or characters in brackets, `{[A-F_] 4}`. A brace is
//! never literal.
//!
//! Matching costs O(elements) per try, not O(bytes): the end of a stretch of one set is found once and remembered
//! ([`Spans`]), so that a flood of prefixes stays linear.

use std::ops::Range;

/// A set of bytes.
pub(super) type Set = [bool; 256];

/// The sets shapes may name.
pub(super) const NAMED: &[(&str, &str)] = &[
    ("b62", "A-Za-z0-9"),
    ("b64u", "A-Za-z0-9_-"),
    ("b64", "A-Za-z0-9+/"),
    ("b64p", "A-Za-z0-9+/="),
    ("b64x", "A-Za-z0-9+/=_-"),
    ("b58", "1-9A-HJ-NP-Za-km-z"),
    ("b32", "A-Z2-7"),
    ("bech32", "ac-hj-np-z02-9"),
    ("BECH32", "AC-HJ-NP-Z02-9"),
    ("hex", "0-9a-f"),
    ("HEX", "0-9A-F"),
    ("xhex", "0-9A-Fa-f"),
    ("digit", "0-9"),
    ("lower", "a-z"),
    ("upper", "A-Z"),
    ("alpha", "A-Za-z"),
    ("lnum", "a-z0-9"),
    ("unum", "A-Z0-9"),
    ("word", "A-Za-z0-9_"),
    ("dash", "A-Za-z0-9-"),
    ("dot", "A-Za-z0-9_.-"),
    ("seg", "A-Za-z0-9_=-"),
    ("url", "A-Za-z0-9_.~%/?&=+-"),
];

/// What a shape is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Element {
    /// Exactly these bytes.
    Literal(Vec<u8>),
    /// Bytes of a set, `min` to `max` of them.
    Repeat {
        /// Index into [`Sets`].
        set: u8,
        /// At least so many.
        min: u32,
        /// At most so many; `u32::MAX` for no bound.
        max: u32,
    },
}

/// All sets in use; a shape names them by index.
#[derive(Default)]
pub(super) struct Sets(Vec<Set>);

impl Sets {
    fn intern(&mut self, set: Set) -> Result<u8, String> {
        if let Some(i) = self.0.iter().position(|s| *s == set) {
            return Ok(i as u8);
        }
        if self.0.len() == MAX_SETS {
            return Err(format!("more than {MAX_SETS} character sets are in use"));
        }
        self.0.push(set);
        Ok((self.0.len() - 1) as u8)
    }

    /// The set of an index.
    pub fn get(&self, i: u8) -> &Set {
        &self.0[i as usize]
    }
}

/// Most sets one catalog can use.
const MAX_SETS: usize = 96;

/// Parses a shape.
pub(super) fn parse(text: &str, sets: &mut Sets) -> Result<Vec<Element>, String> {
    let mut elements = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        match rest.find('{') {
            Some(0) => {
                let end = rest.find('}').ok_or_else(|| format!("shape `{text}`: `{{` without `}}`"))?;
                elements.push(repeat(&rest[1..end], sets).map_err(|e| format!("shape `{text}`: {e}"))?);
                rest = &rest[end + 1..];
            }
            at => {
                let end = at.unwrap_or(rest.len());
                elements.push(Element::Literal(rest.as_bytes()[..end].to_vec()));
                rest = &rest[end..];
            }
        }
    }
    if elements.is_empty() {
        return Err("a shape is empty".into());
    }
    Ok(elements)
}

fn repeat(text: &str, sets: &mut Sets) -> Result<Element, String> {
    let (name, count) = match text.rfind(' ') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, "1"),
    };
    let number = |s: &str| s.parse::<u32>().map_err(|_| format!("`{s}` is not a count"));
    let (min, max) = match count.split_once(',') {
        None => (number(count)?, number(count)?),
        Some((min, "")) => (number(min)?, u32::MAX),
        Some((min, max)) => (number(min)?, number(max)?),
    };
    if min > max || max == 0 {
        return Err(format!("`{count}` is no range"));
    }
    let spelled = match name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
        Some(characters) => characters,
        None => NAMED.iter().find(|(n, _)| *n == name).map(|(_, s)| *s).ok_or(format!("no set is named `{name}`"))?,
    };
    Ok(Element::Repeat { set: sets.intern(set_of(spelled))?, min, max })
}

/// The set spelled `A-Za-z0-9_-`; a dash at the end is itself.
fn set_of(spelled: &str) -> Set {
    let bytes = spelled.as_bytes();
    let mut set = [false; 256];
    let mut i = 0;
    while i < bytes.len() {
        if i + 2 < bytes.len() && bytes[i + 1] == b'-' {
            for c in bytes[i]..=bytes[i + 2] {
                set[c as usize] = true;
            }
            i += 3;
        } else {
            set[bytes[i] as usize] = true;
            i += 1;
        }
    }
    set
}

/// Where the latest stretch of each set ends, so that many tries inside one stretch cost its length once.
pub(super) struct Spans {
    ends: [Range<usize>; MAX_SETS],
    /// Sets of which a stretch is known, as bits.
    known: u128,
}

const _: () = assert!(MAX_SETS <= u128::BITS as usize);

impl Spans {
    /// Nothing known yet.
    pub fn new() -> Self {
        Spans { ends: [const { 0..0 }; MAX_SETS], known: 0 }
    }

    /// Forgets everything; for another buffer or field.
    pub fn clear(&mut self) {
        self.known = 0;
    }

    /// The end of the stretch of `set` that begins at or before `from`, not beyond `limit`.
    fn end(&mut self, index: u8, set: &Set, data: &[u8], from: usize, limit: usize) -> usize {
        let known = &mut self.ends[index as usize];
        if self.known >> index & 1 == 1 && known.contains(&from) {
            return known.end;
        }
        let end = data[from..limit].iter().position(|&c| !set[c as usize]).map_or(limit, |n| from + n);
        *known = from..end;
        self.known |= 1 << index;
        end
    }
}

/// How far an open shape reaches back.
const OPEN_BACK: usize = 256;

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Matched {
    /// Not this shape.
    No,
    /// The whole shape, up to this offset.
    Whole(usize),
    /// The text ended (or was cut by an ellipsis) inside the shape, at this offset.
    Cut(usize),
}

/// What a matcher looks at: one field of a buffer.
pub(super) struct Text<'a> {
    /// The buffer.
    pub data: &'a [u8],
    /// Start of the field.
    pub low: usize,
    /// End of the field.
    pub high: usize,
}

/// Matches `elements` forwards from `at`. With `open`, the last repeat takes everything its set allows.
pub(super) fn forwards(
    elements: &[Element],
    sets: &Sets,
    spans: &mut Spans,
    text: &Text<'_>,
    mut at: usize,
    open: bool,
) -> Matched {
    let (data, limit) = (text.data, text.high);
    for (i, element) in elements.iter().enumerate() {
        match element {
            Element::Literal(literal) => {
                let there = &data[at..limit.min(at + literal.len())];
                if there.len() < literal.len() && literal.starts_with(there) {
                    return Matched::Cut(limit);
                }
                if there != &literal[..] {
                    return cut(data, at, limit);
                }
                at += literal.len();
            }
            &Element::Repeat { set, min, max } => {
                let members = sets.get(set);
                let end = spans.end(set, members, data, at, limit);
                let available = end - at;
                if available < min as usize {
                    return cut(data, end, limit);
                }
                let most = available.min(max as usize);
                match elements.get(i + 1) {
                    None if open => at = end,
                    // A longer stretch than the shape allows is another thing, unless the shape is open.
                    None if available > most => return Matched::No,
                    Some(Element::Literal(next)) if min != max && members[next[0] as usize] => {
                        let window = &data[at + min as usize..limit.min(at + most + next.len())];
                        match memchr::memmem::find(window, next) {
                            Some(n) => at += min as usize + n,
                            None if end == limit && available < max as usize => return Matched::Cut(limit),
                            None => return Matched::No,
                        }
                    }
                    _ => at += most,
                }
            }
        }
    }
    Matched::Whole(at)
}

/// A try that failed at `at`: cut when the text ends there or an ellipsis follows.
fn cut(data: &[u8], at: usize, limit: usize) -> Matched {
    let rest = &data[at..limit];
    if rest.is_empty() || rest.starts_with("…".as_bytes()) || rest.starts_with(b"...") {
        Matched::Cut(at)
    } else {
        Matched::No
    }
}

/// Matches `elements` backwards, the last of them ending at `at`; returns where they begin. With `open`, the first
/// repeat takes everything its set allows (within [`OPEN_BACK`]): where a token begins inside a longer word is unknown.
pub(super) fn backwards(
    elements: &[Element],
    sets: &Sets,
    text: &Text<'_>,
    mut at: usize,
    open: bool,
) -> Option<usize> {
    for (i, element) in elements.iter().enumerate().rev() {
        match element {
            Element::Literal(literal) => {
                if !text.data[text.low..at].ends_with(literal) {
                    return None;
                }
                at -= literal.len();
            }
            &Element::Repeat { set, min, max } => {
                let members = sets.get(set);
                let most = if open && i == 0 { OPEN_BACK } else { max as usize };
                let most = (at - text.low).min(most);
                let n = text.data[at - most..at].iter().rev().take_while(|&&c| members[c as usize]).count();
                if n < min as usize {
                    return None;
                }
                at -= n;
            }
        }
    }
    Some(at)
}

/// A token of the shape, made from numbers that `next` gives. For tests and examples.
#[cfg(test)]
pub(super) fn sample(elements: &[Element], sets: &Sets, mut next: impl FnMut() -> u32) -> Vec<u8> {
    let mut out = Vec::new();
    for element in elements {
        match element {
            Element::Literal(l) => out.extend_from_slice(l),
            &Element::Repeat { set, min, max } => {
                // Padding stands at the end only, which a sample does without.
                let members: Vec<u8> = (0..=255).filter(|&c| sets.get(set)[c as usize] && c != b'=').collect();
                let spread = if max == u32::MAX { 8 } else { (max - min).min(8) };
                for _ in 0..min + next() % (spread + 1) {
                    out.push(members[next() as usize % members.len()]);
                }
            }
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn run(shape: &str, text: &str, open: bool) -> Matched {
        let mut sets = Sets::default();
        let elements = parse(shape, &mut sets).unwrap();
        let field = Text { data: text.as_bytes(), low: 0, high: text.len() };
        forwards(&elements, &sets, &mut Spans::new(), &field, 0, open)
    }

    #[test]
    fn repeats_are_exact_open_or_bounded() {
        assert_eq!(run("ab-{digit 3}", "ab-123 x", false), Matched::Whole(6));
        assert_eq!(run("ab-{digit 3}", "ab-1234 x", false), Matched::No);
        assert_eq!(run("ab-{digit 3}", "ab-1234 x", true), Matched::Whole(7));
        assert_eq!(run("ab-{digit 3}", "ab-12 x", true), Matched::No);
    }

    #[test]
    fn text_that_ends_inside_a_shape_is_cut() {
        assert_eq!(run("ab-{digit 3}", "ab-12", false), Matched::Cut(5));
        assert_eq!(run("ab-{digit 3}", "ab-12...", false), Matched::Cut(5));
        assert_eq!(run("ab-{digit 3}", "a", false), Matched::Cut(1));
        assert_eq!(run("{b62 2,9}MID{b62 2}", "xxxxM", false), Matched::Cut(5));
    }

    #[test]
    fn a_literal_inside_the_set_before_it_is_searched() {
        assert_eq!(run("{b62 2,9}MID{b62 2}", "xxxxMIDzz", false), Matched::Whole(9));
        assert_eq!(run("{b62 2,3}MID{b62 2}", "xxxxMIDzz ", false), Matched::No);
    }

    #[test]
    fn bad_shapes_are_refused() {
        for shape in ["", "{b62", "{nope 3}", "{b62 3,2}", "{b62 x}", "{b62 0}"] {
            assert!(parse(shape, &mut Sets::default()).is_err(), "{shape}");
        }
    }
}
