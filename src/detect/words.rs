//! Names: which words say that a value is secret, and which do not. The words themselves are data
//! (`catalog/keywords.toml`).

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;

/// The words of `catalog/keywords.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WordLists {
    password: Vec<String>,
    token: Vec<String>,
    weak: Vec<String>,
    authorization: Vec<String>,
    cookie: Vec<String>,
    not: Vec<String>,
    qualifier: Vec<String>,
    glued: Vec<String>,
    glued_not: Vec<String>,
    placeholder: Vec<String>,
    placeholder_part: Vec<String>,
    published: Vec<String>,
    pairs: Vec<String>,
}

/// What a name says about its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tier {
    /// Nothing.
    None,
    /// That it is no secret.
    Not,
    /// A password.
    Password,
    /// A token, which must look random.
    Token,
    /// Perhaps a secret: only when it can be nothing else.
    Weak,
    /// An Authorization header.
    Authorization,
    /// A cookie header.
    Cookie,
}

/// A hasher for short keys that come from text; collisions only cost time, and tables are small and fixed.
#[derive(Default)]
pub(super) struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 29
    }

    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.0 = (self.0 ^ u64::from(b)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

/// A map from short byte strings.
pub(super) type ByteMap<V> = HashMap<Box<[u8]>, V, BuildHasherDefault<Fnv>>;

/// The compiled words.
pub(super) struct Words {
    /// Tells these words from others, so that a [`Memo`] is not asked about the wrong ones.
    id: u64,
    tails: ByteMap<Tier>,
    qualifiers: ByteMap<()>,
    glued: Vec<(Box<[u8]>, Tier)>,
    glued_not: ByteMap<()>,
    placeholders: ByteMap<()>,
    placeholder_parts: Vec<Box<[u8]>>,
    /// Bit of the hash of the first two bytes of each part.
    part_starts: Box<[u64; 1024]>,
    published: ByteMap<()>,
    /// Bit of the hash of the last four bytes of every word that can end a name of interest.
    ends: Box<[u64; 1024]>,
    /// For each letter the letters that often follow it.
    pairs: [u32; 26],
    /// Bit of the hash of the first two bytes of each context word.
    context_starts: Box<[u64; 1024]>,
    /// Words that make a rule with context apply, with those rules' patterns.
    context: ByteMap<Vec<u16>>,
}

impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Words({} names)", self.tails.len())
    }
}

/// The place of the last four bytes of a name in a bitmap of 64 Ki bits, whatever their case.
fn four(last: [u8; 4]) -> usize {
    ((u32::from_le_bytes(last) | 0x2020_2020).wrapping_mul(0x9E37_79B1) >> 16) as usize
}

/// The place of three bytes in a bitmap of 64 Ki bits.
pub(super) fn three(a: u8, b: u8, c: u8) -> usize {
    let key = u32::from(a) | u32::from(b) << 8 | u32::from(c) << 16;
    (key.wrapping_mul(0x9E37_79B1) >> 16) as usize
}

impl Words {
    /// Compiles the lists; `context` gives the words that make contextual patterns apply, `others` the ends of other
    /// names of interest.
    pub fn new(
        lists: WordLists,
        context: ByteMap<Vec<u16>>,
        others: impl Iterator<Item = [u8; 3]>,
    ) -> Result<Self, String> {
        let mut tails = ByteMap::default();
        for (tier, words) in [
            (Tier::Password, &lists.password),
            (Tier::Token, &lists.token),
            (Tier::Weak, &lists.weak),
            (Tier::Authorization, &lists.authorization),
            (Tier::Cookie, &lists.cookie),
            (Tier::Not, &lists.not),
        ] {
            for word in words {
                if tails.insert(word.as_bytes().into(), tier).is_some() {
                    return Err(format!("keywords: `{word}` is listed twice"));
                }
            }
        }
        let set = |list: &[String]| list.iter().map(|w| (w.as_bytes().into(), ())).collect::<ByteMap<()>>();
        let glued = lists
            .glued
            .iter()
            .map(|w| match tails.get(w.as_bytes()) {
                Some(&tier) => Ok((w.as_bytes().into(), tier)),
                None => Err(format!("keywords: `{w}` in `glued` is no keyword")),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut ends = Box::new([0u64; 1024]);
        let mut add = |word: &[u8]| {
            let mut set = |last: [u8; 4]| {
                let bit = four(last);
                ends[bit >> 6] |= 1 << (bit & 63);
            };
            match *word {
                [.., a, b, c, d] => set([a, b, c, d]),
                // A shorter word can follow any byte; one of two letters only what separates words.
                [b, c, d] => (0..=255u8).for_each(|a| set([a, b, c, d])),
                [c, d] => b"_-. \"'\\/".iter().for_each(|&b| (0..=255u8).for_each(|a| set([a, b, c, d]))),
                _ => {}
            }
        };
        tails.iter().filter(|(_, t)| **t != Tier::Not).for_each(|(w, _)| add(w));
        lists.qualifier.iter().for_each(|w| add(w.as_bytes()));
        context.keys().for_each(|w| add(w));
        others.for_each(|[b, c, d]| (0..=255).for_each(|a| add(&[a, b, c, d])));
        let mut pairs = [0u32; 26];
        for row in &lists.pairs {
            let Some((first, rest)) = row.split_once(' ') else { return Err(format!("keywords: pair `{row}`")) };
            let [first @ b'a'..=b'z'] = *first.as_bytes() else { return Err(format!("keywords: pair `{row}`")) };
            for c in rest.bytes().filter(u8::is_ascii_lowercase) {
                pairs[(first - b'a') as usize] |= 1 << (c - b'a');
            }
        }
        let mut part_starts = Box::new([0u64; 1024]);
        for part in &lists.placeholder_part {
            let [a, b, ..] = *part.as_bytes() else { return Err(format!("keywords: `{part}` is too short")) };
            let bit = three(a, b, 0);
            part_starts[bit >> 6] |= 1 << (bit & 63);
        }
        let mut context_starts = Box::new([0u64; 1024]);
        for word in context.keys() {
            let [a, b, ..] = **word else { return Err("keywords: a context word is too short".into()) };
            let bit = three(a, b, 0);
            context_starts[bit >> 6] |= 1 << (bit & 63);
        }
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Ok(Words {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            context_starts,
            part_starts,
            tails,
            qualifiers: set(&lists.qualifier),
            glued,
            glued_not: set(&lists.glued_not),
            placeholders: set(&lists.placeholder),
            placeholder_parts: lists.placeholder_part.iter().map(|w| w.as_bytes().into()).collect(),
            published: set(&lists.published),
            ends,
            pairs,
            context,
        })
    }

    /// True when `b` often follows `a` in words (letters of either case).
    pub fn common_pair(&self, a: u8, b: u8) -> bool {
        self.pairs[((a | 0x20) - b'a') as usize] >> ((b | 0x20) - b'a') & 1 == 1
    }

    /// A cheap test whether a name that ends with these bytes can be of interest.
    pub fn may_end(&self, last: [u8; 4]) -> bool {
        let bit = four(last);
        self.ends[bit >> 6] >> (bit & 63) & 1 == 1
    }

    /// What `name` says about its value; calls `tag` for each word that makes contextual patterns apply.
    pub fn name(&self, name: &[u8], mut tag: impl FnMut(&[u16])) -> Tier {
        let split = Split::of(name);
        for i in 0..split.count {
            let [a, b, ..] = *split.join(i, split.count) else { continue };
            let bit = three(a, b, 0);
            if self.context_starts[bit >> 6] >> (bit & 63) & 1 == 0 {
                continue;
            }
            for n in 1..=2.min(split.count - i) {
                if let Some(patterns) = self.context.get(split.join(i, i + n)) {
                    tag(patterns);
                }
            }
        }
        self.tier(&split)
    }

    fn tier(&self, split: &Split) -> Tier {
        let mut count = split.count;
        // At most three qualifiers, and never the whole name.
        for _ in 0..3 {
            if count < 2 || self.tails.contains_key(split.join(count - 1, count)) {
                break;
            }
            let word = split.join(count - 1, count);
            if !word.iter().all(u8::is_ascii_digit) && !self.qualifiers.contains_key(word) {
                break;
            }
            count -= 1;
        }
        if count == 0 {
            return Tier::None;
        }
        for n in (1..=count.min(4)).rev() {
            if let Some(&tier) = self.tails.get(split.join(count - n, count)) {
                return tier;
            }
        }
        let last = split.join(count - 1, count);
        let last = last.strip_suffix(b"s").filter(|l| l.ends_with(b"password")).unwrap_or(last);
        let last = trim_digits(last);
        if let Some(&tier) = self.tails.get(last) {
            return tier;
        }
        match self.glued.iter().find(|(g, _)| last.ends_with(g)) {
            Some(&(_, tier)) if !self.glued_not.contains_key(last) => tier,
            _ => Tier::None,
        }
    }

    /// True when the value says nothing: a word that stands for a value, a template, filler.
    pub fn placeholder(&self, value: &[u8]) -> bool {
        let mut buffer = [0u8; 96];
        let n = value.len().min(buffer.len());
        let lower = &mut buffer[..n];
        lower.copy_from_slice(&value[..n]);
        lower.make_ascii_lowercase();
        let trimmed = trim(lower);
        self.placeholders.contains_key(trimmed)
            || super::gate::filler(trimmed)
            || self.has_part(lower)
            || self.published.contains_key(value)
            || (value.len() > 2 && value[0] == b'<' && value[value.len() - 1] == b'>')
            || (value.len() > 2 && value[0] == b'%' && value[value.len() - 1] == b'%')
            || (value[..1] == *b"$"
                && value.len() > 1
                && value[1..].iter().all(|c| c.is_ascii_uppercase() || *c == b'_'))
    }

    fn has_part(&self, lower: &[u8]) -> bool {
        lower.windows(2).enumerate().any(|(i, w)| {
            let bit = three(w[0], w[1], 0);
            self.part_starts[bit >> 6] >> (bit & 63) & 1 == 1
                && self.placeholder_parts.iter().any(|p| lower[i..].starts_with(p))
        })
    }

    /// True for a value that a provider publishes as an example.
    pub fn is_published(&self, value: &[u8]) -> bool {
        self.published.contains_key(value)
    }
}

/// Names that were looked up and are of no interest: the same ones come again and again. A small table in which a
/// later name takes the place of an earlier one.
pub(super) struct Memo {
    /// The [`Words`] that judged them.
    words: u64,
    names: [NameKey; 256],
}

/// A name of up to 32 bytes, behind zeros.
type NameKey = [u64; 4];

impl Memo {
    /// Empty.
    pub fn new() -> Box<Self> {
        Box::new(Memo { words: 0, names: [[0; 4]; 256] })
    }

    /// Forgets everything that other words than these said.
    pub fn serve(&mut self, words: &Words) {
        if self.words != words.id {
            self.words = words.id;
            self.names = [[0; 4]; 256];
        }
    }

    /// The key of the name `data[..end][start..]`, unless it is too long or too near to the beginning.
    #[inline]
    pub fn key(data: &[u8], start: usize, end: usize) -> Option<NameKey> {
        let len = end - start;
        let bytes = data[..end].last_chunk::<32>().filter(|_| (1..=32).contains(&len))?;
        let (words, _) = bytes.as_chunks::<8>();
        let skip = 32 - len;
        let mut key = [0u64; 4];
        for (i, (out, word)) in key.iter_mut().zip(words).enumerate() {
            let drop = (skip.saturating_sub(8 * i)).min(8) as u32 * 8;
            *out = u64::from_le_bytes(*word).checked_shr(drop).unwrap_or(0);
        }
        // Bytes before the name are gone; what is left of each word tells names of different lengths apart, because no
        // name holds a zero byte.
        Some(key)
    }

    fn slot(key: &NameKey) -> usize {
        let mixed = key.iter().fold(0u64, |h, &w| (h.rotate_left(23) ^ w).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        (mixed >> 56) as usize
    }

    /// Whether this name is known to be of no interest.
    #[inline]
    pub fn dull(&self, key: &NameKey) -> bool {
        self.names[Self::slot(key)] == *key
    }

    /// Notes that it is.
    pub fn note(&mut self, key: NameKey) {
        self.names[Self::slot(&key)] = key;
    }
}

fn trim_digits(word: &[u8]) -> &[u8] {
    let digits = word.iter().rev().take_while(|c| c.is_ascii_digit()).count();
    &word[..word.len() - digits]
}

fn trim(value: &[u8]) -> &[u8] {
    let start = value.iter().take_while(|c| b"<[({\"'`".contains(c)).count();
    let end = value.iter().rev().take_while(|c| b">])}\"'`.,;:!?".contains(c)).count();
    if start + end >= value.len() { value } else { &value[start..value.len() - end] }
}

/// A name in words, lower case, joined without separators.
struct Split {
    letters: [u8; 80],
    starts: [u8; 17],
    count: usize,
}

impl Split {
    /// Splits the last 80 bytes of a name, into at most 16 words counted from its end.
    fn of(name: &[u8]) -> Self {
        let name = &name[name.len().saturating_sub(80)..];
        let mut ends = [0u8; 64];
        let mut all = [0u8; 80];
        let (mut n, mut count, mut open) = (0usize, 0usize, false);
        for (i, &c) in name.iter().enumerate() {
            let letter = c.is_ascii_alphanumeric() || c >= 0x80;
            let camel = c.is_ascii_uppercase()
                && open
                && (name[i - 1].is_ascii_lowercase()
                    || name[i - 1].is_ascii_digit()
                    || (name[i - 1].is_ascii_uppercase() && name.get(i + 1).is_some_and(u8::is_ascii_lowercase)));
            if (camel || !letter) && open && count < ends.len() {
                ends[count] = n as u8;
                count += 1;
                open = false;
            }
            if letter {
                all[n] = c.to_ascii_lowercase();
                n += 1;
                open = true;
            }
        }
        if open && count < ends.len() {
            ends[count] = n as u8;
            count += 1;
        }
        let skip = count.saturating_sub(16);
        let mut split = Split { letters: all, starts: [0; 17], count: count - skip };
        split.starts[0] = if skip == 0 { 0 } else { ends[skip - 1] };
        split.starts[1..=split.count].copy_from_slice(&ends[skip..count]);
        split
    }

    fn join(&self, from: usize, to: usize) -> &[u8] {
        &self.letters[self.starts[from] as usize..self.starts[to] as usize]
    }
}
