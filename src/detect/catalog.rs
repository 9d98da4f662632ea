//! The catalog: rules as data, compiled to tables whose use does not grow with the number of rules.
//!
//! A rule's shapes are anchored at text that is rare: the first three bytes of a shape, or three bytes behind a
//! separator inside it. One bitmap over all anchors is asked at every place where a token can begin; only hits go on to
//! the patterns of that anchor, longest literal first. Shapes without such text need context words.

use serde::Deserialize;

use super::checks::Check;
use super::shape::{self, Element, Sets};
use super::words::{ByteMap, WordLists, Words, three};
use super::{Class, Rule};

/// One file of rules.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleFile {
    /// The rules, in order.
    #[serde(default, rename = "rule")]
    pub rules: Vec<RuleSpec>,
}

/// A rule as it is written.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleSpec {
    /// Stable id, kebab-case.
    pub id: String,
    /// From 1.
    #[serde(default = "first_version")]
    pub version: u32,
    /// For people.
    pub title: String,
    class: Class,
    #[allow(dead_code, reason = "read by what shows rules to people; here so that unknown severities are refused")]
    severity: Severity,
    /// Shapes (see [`shape`]).
    #[serde(default)]
    pub shapes: Vec<String>,
    /// A stretch longer than the shape is something else.
    #[serde(default)]
    bounded: bool,
    /// A token that was cut is not taken for one: its prefix occurs in other words and ids.
    #[serde(default)]
    whole: bool,
    /// Name of a [`Check`].
    #[serde(default)]
    check: Option<String>,
    /// Words of which one must be near (in the name of the value, or before it).
    #[serde(default)]
    pub context: Vec<String>,
    /// Found by code rather than by shape.
    #[serde(default)]
    detector: Option<String>,
    /// Where the facts come from.
    #[allow(dead_code, reason = "provenance is for readers of the data")]
    source: String,
    /// Texts in which the rule must mask something; `{0}` stands for a token of shape 0.
    #[allow(dead_code, reason = "executed by the catalog test")]
    #[serde(rename = "match")]
    pub matches: Vec<String>,
    /// Texts in which it must not.
    #[allow(dead_code, reason = "executed by the catalog test")]
    pub no_match: Vec<String>,
}

fn first_version() -> u32 {
    1
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

/// Rules that code finds; each stands in the catalog exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detector {
    PrivateKey,
    UrlPassword,
    Authorization,
    Cookie,
    Password,
    Secret,
    Email,
    PaymentCard,
    Iban,
    UsSsn,
    Phone,
    Unscanned,
}

/// Their names in the catalog, in the order of [`Detector`].
const DETECTORS: [&str; 12] = [
    "private-key",
    "url-password",
    "authorization",
    "cookie",
    "password",
    "secret",
    "email",
    "payment-card",
    "iban",
    "us-ssn",
    "phone",
    "unscanned",
];

/// One compiled shape.
pub(super) struct Pattern {
    /// Position of its rule.
    pub rule: u16,
    /// Elements before the anchor, matched backwards from it.
    pub back: Vec<Element>,
    /// Elements from the anchor on.
    pub forward: Vec<Element>,
    /// The last repeat takes all that its set allows.
    pub open: bool,
    /// The literal text in front is distinctive enough for a token that was cut.
    pub cuttable: bool,
    /// Bytes of literal text in front.
    pub lead: usize,
    /// Literal bytes in all, which decides between patterns of one anchor.
    pub literal: usize,
    /// Its check.
    pub check: Option<Check>,
}

/// The patterns of one anchor.
struct Bucket {
    anchor: [u8; 3],
    /// Most specific first.
    patterns: Vec<u16>,
    /// A byte without which none of them can hold, and its offset from the anchor; (0, the anchor's first byte) when
    /// there is none.
    probe: (u8, u8),
}

/// The compiled catalog.
pub(super) struct Catalog {
    pub rules: Vec<Rule>,
    pub patterns: Vec<Pattern>,
    pub sets: Sets,
    pub words: Words,
    anchors: Box<[u64; 1024]>,
    /// Patterns by anchor.
    buckets: Vec<Bucket>,
    /// 1 + the position in `buckets`, in open addressing by `three`; 0 for none.
    slots: Box<[u16]>,
    /// Patterns whose anchor is the two bytes before the place (`Q~`).
    pub tilde: Vec<u16>,
    /// Patterns whose anchor is an operator and the three bytes before it (`aCS:`).
    operators: ByteMap<Vec<u16>>,
    /// Bit of the hash of the bytes before and at such an operator.
    operator_ends: Box<[u64; 1024]>,
    detectors: [u16; DETECTORS.len()],
}

impl Catalog {
    /// The catalog that is compiled in.
    pub fn builtin() -> Result<Self, String> {
        Self::with("")
    }

    /// The same with more rules behind it.
    pub fn with(more: &str) -> Result<Self, String> {
        const FILES: [(&str, &str); 6] = [
            ("structural.toml", include_str!("catalog/structural.toml")),
            ("ai.toml", include_str!("catalog/ai.toml")),
            ("cloud.toml", include_str!("catalog/cloud.toml")),
            ("devtools.toml", include_str!("catalog/devtools.toml")),
            ("saas.toml", include_str!("catalog/saas.toml")),
            ("personal.toml", include_str!("catalog/personal.toml")),
        ];
        let mut rules = Vec::new();
        for (name, text) in FILES.into_iter().chain([("further rules", more)]) {
            let file: RuleFile = toml::from_str(text).map_err(|e| format!("{name}: {e}"))?;
            rules.extend(file.rules);
        }
        Self::compile(&rules)
    }

    /// Compiles rules; the built-in names and structural rules must be among them.
    pub fn compile(specs: &[RuleSpec]) -> Result<Self, String> {
        let lists: WordLists =
            toml::from_str(include_str!("catalog/keywords.toml")).map_err(|e| format!("keywords.toml: {e}"))?;
        let mut sets = Sets::default();
        let mut rules: Vec<Rule> = Vec::new();
        let mut ids = std::collections::HashSet::new();
        let mut patterns = Vec::new();
        let mut anchored: Vec<(Vec<[u8; 3]>, u16)> = Vec::new();
        let mut tilde = Vec::new();
        let mut operators = ByteMap::<Vec<u16>>::default();
        let mut context = ByteMap::<Vec<u16>>::default();
        let mut detectors = [u16::MAX; DETECTORS.len()];
        for spec in specs {
            let rule = u16::try_from(rules.len()).map_err(|_| "more than 65535 rules".to_owned())?;
            let bad = |e: String| format!("rule `{}`: {e}", spec.id);
            if !valid_id(&spec.id) || !ids.insert(&spec.id) {
                return Err(bad("the id must be kebab-case and unique".into()));
            }
            if let Some(name) = &spec.detector {
                let i = DETECTORS.iter().position(|d| d == name);
                detectors[i.ok_or_else(|| bad(format!("no detector is named `{name}`")))?] = rule;
            }
            let check = match &spec.check {
                None => None,
                Some(name) => Some(Check::of(name).ok_or_else(|| bad(format!("no check is named `{name}`")))?),
            };
            for text in &spec.shapes {
                let elements = shape::parse(text, &mut sets).map_err(bad)?;
                let at = u16::try_from(patterns.len()).map_err(|_| "more than 65535 shapes".to_owned())?;
                if !spec.context.is_empty() {
                    patterns.push(pattern(rule, Vec::new(), elements, false, check));
                    for word in &spec.context {
                        context.entry(word.as_bytes().into()).or_default().push(at);
                    }
                    continue;
                }
                match anchor(&elements, &sets) {
                    Some(Anchor::At { back, forward, starts }) => {
                        patterns.push(pattern(rule, back, forward, !spec.bounded, check));
                        anchored.push((starts, at));
                    }
                    Some(Anchor::Operator { back, forward, before }) => {
                        patterns.push(pattern(rule, back, forward, !spec.bounded, check));
                        operators.entry(before.as_slice().into()).or_default().push(at);
                    }
                    Some(Anchor::Tilde { back, forward }) => {
                        patterns.push(pattern(rule, back, forward, !spec.bounded, check));
                        tilde.push(at);
                    }
                    None => return Err(bad(format!("shape `{text}` has no anchor; give it context words"))),
                }
            }
            if spec.whole {
                patterns
                    .iter_mut()
                    .rev()
                    .take_while(|p: &&mut Pattern| p.rule == rule)
                    .for_each(|p| p.cuttable = false);
            }
            rules.push(Rule {
                id: spec.id.clone(),
                version: spec.version,
                title: spec.title.clone(),
                class: spec.class,
            });
        }
        if let Some(i) = detectors.iter().position(|&d| d == u16::MAX) {
            return Err(format!("no rule has the detector `{}`", DETECTORS[i]));
        }
        let mut anchors = Box::new([0u64; 1024]);
        let mut buckets = ByteMap::<Vec<u16>>::default();
        for (starts, pattern) in anchored {
            for start in starts {
                let bit = three(start[0], start[1], start[2]);
                anchors[bit >> 6] |= 1 << (bit & 63);
                buckets.entry(start.as_slice().into()).or_default().push(pattern);
            }
        }
        for bucket in buckets.values_mut() {
            bucket.sort_by_key(|&p| std::cmp::Reverse(patterns[p as usize].literal));
            bucket.dedup();
        }
        let buckets: Vec<Bucket> = buckets
            .into_iter()
            .map(|(anchor, bucket)| {
                let anchor = [anchor[0], anchor[1], anchor[2]];
                let probe = probe(bucket.iter().map(|&p| &patterns[p as usize])).unwrap_or((0, anchor[0]));
                Bucket { anchor, patterns: bucket, probe }
            })
            .collect();
        let size = (4 * buckets.len()).next_power_of_two();
        if u16::try_from(buckets.len()).is_err() {
            return Err("the shapes begin in more than 65535 ways".into());
        }
        let mut slots = vec![0u16; size].into_boxed_slice();
        for (i, bucket) in buckets.iter().enumerate() {
            let [a, b, c] = bucket.anchor;
            let mut slot = three(a, b, c) & (size - 1);
            while slots[slot] != 0 {
                slot = (slot + 1) & (size - 1);
            }
            slots[slot] = i as u16 + 1;
        }
        let mut operator_ends = Box::new([0u64; 1024]);
        for ends in operators.keys() {
            let bit = three(ends[0], ends[1], ends[2]);
            operator_ends[bit >> 6] |= 1 << (bit & 63);
        }
        let words = Words::new(lists, context, operators.keys().map(|k| [k[0], k[1], k[2]]))?;
        Ok(Catalog {
            rules,
            patterns,
            sets,
            words,
            anchors,
            buckets,
            slots,
            tilde,
            operators,
            operator_ends,
            detectors,
        })
    }

    /// Whether any pattern is anchored at these bytes; may say yes wrongly, never no.
    #[inline]
    pub fn may_start(&self, a: u8, b: u8, c: u8) -> bool {
        let bit = three(a, b, c);
        self.anchors[bit >> 6] >> (bit & 63) & 1 == 1
    }

    /// The patterns that can hold at the first byte of `text`, most specific first, and how many are anchored there.
    pub fn starting(&self, text: &[u8]) -> (&[u16], usize) {
        let Some(anchor) = text.first_chunk::<3>() else { return (&[], 0) };
        let mask = self.slots.len() - 1;
        let mut slot = three(anchor[0], anchor[1], anchor[2]) & mask;
        loop {
            let Some(i) = usize::from(self.slots[slot]).checked_sub(1) else { return (&[], 0) };
            let bucket = &self.buckets[i];
            if bucket.anchor == *anchor {
                let (offset, byte) = bucket.probe;
                let there = text.get(offset as usize) == Some(&byte);
                return (if there { &bucket.patterns } else { &[] }, bucket.patterns.len());
            }
            slot = (slot + 1) & mask;
        }
    }

    /// The patterns anchored at an operator behind these bytes (three, and the operator).
    #[inline]
    pub fn at_operator(&self, four: &[u8]) -> &[u16] {
        let bit = three(four[0], four[1], four[2]);
        if self.operator_ends[bit >> 6] >> (bit & 63) & 1 == 0 {
            return &[];
        }
        self.operators.get(four).map_or(&[], Vec::as_slice)
    }

    /// The rule of a detector.
    pub fn rule_of(&self, detector: Detector) -> u16 {
        self.detectors[detector as usize]
    }
}

/// A literal byte at a fixed offset that every one of `patterns` has, if none of them can hold without it.
fn probe<'a>(patterns: impl Iterator<Item = &'a Pattern>) -> Option<(u8, u8)> {
    let mut common: Option<Vec<(u8, u8)>> = None;
    for pattern in patterns {
        // A token that was cut need not reach so far.
        if pattern.cuttable {
            return None;
        }
        let mut here = Vec::new();
        let mut at = 0usize;
        for element in &pattern.forward {
            match element {
                Element::Literal(l) => {
                    here.extend(l.iter().zip(at..64).map(|(&c, i)| (i as u8, c)));
                    at += l.len();
                }
                &Element::Repeat { min, max, .. } if min == max => at += min as usize,
                Element::Repeat { .. } => break,
            }
            if at >= 64 {
                break;
            }
        }
        common = Some(match common {
            None => here,
            Some(before) => before.into_iter().filter(|p| here.contains(p)).collect(),
        });
    }
    common?.into_iter().find(|&(offset, _)| offset >= 3)
}

fn valid_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= 48 && id.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
}

fn pattern(rule: u16, back: Vec<Element>, forward: Vec<Element>, open: bool, check: Option<Check>) -> Pattern {
    let literal_of = |elements: &[Element]| -> usize {
        elements
            .iter()
            .map(|e| match e {
                Element::Literal(l) => l.len(),
                Element::Repeat { .. } => 0,
            })
            .sum()
    };
    let lead = match (back.first(), forward.first()) {
        (None, Some(Element::Literal(l))) | (Some(Element::Literal(l)), _) => l.as_slice(),
        _ => &[],
    };
    // A lone prefix is worth masking when it cannot be part of a word: long, or closed by a separator.
    let cuttable = lead.len() >= 6
        || (lead.len() >= 3 && lead.iter().any(|c| !c.is_ascii_alphabetic()))
        || lead == b"AKIA"
        || lead == b"AIza";
    Pattern {
        rule,
        open,
        cuttable,
        lead: lead.len(),
        literal: literal_of(&back) + literal_of(&forward),
        check,
        back,
        forward,
    }
}

enum Anchor {
    At { back: Vec<Element>, forward: Vec<Element>, starts: Vec<[u8; 3]> },
    Tilde { back: Vec<Element>, forward: Vec<Element> },
    Operator { back: Vec<Element>, forward: Vec<Element>, before: [u8; 4] },
}

/// Token characters in a row that make a run long enough to be looked at.
pub(super) const LONG: usize = 12;

/// Most spellings an anchor may have.
const MAX_STARTS: usize = 512;

/// Where a shape can be found: at its start, or behind a separator inside it.
fn anchor(elements: &[Element], sets: &Sets) -> Option<Anchor> {
    // The run of token characters that a shape begins with may be too short for the masks when an operator ends it.
    if let [Element::Literal(first), rest @ ..] = elements
        && let Some(k) = first.iter().position(|c| matches!(c, b':' | b'='))
        && (3..LONG).contains(&k)
    {
        let mut forward = rest.to_vec();
        if k + 1 < first.len() {
            forward.insert(0, Element::Literal(first[k + 1..].to_vec()));
        }
        let before = [first[k - 3], first[k - 2], first[k - 1], first[k]];
        return Some(Anchor::Operator { back: vec![Element::Literal(first[..=k].to_vec())], forward, before });
    }
    if let Some(starts) = starts(elements, sets) {
        return Some(Anchor::At { back: Vec::new(), forward: elements.to_vec(), starts });
    }
    for (i, element) in elements.iter().enumerate() {
        let Element::Literal(literal) = element else { continue };
        for (k, &c) in literal.iter().enumerate() {
            if !b"_-./+~:=%".contains(&c) {
                continue;
            }
            let mut back = elements[..i].to_vec();
            back.push(Element::Literal(literal[..=k].to_vec()));
            let mut forward = Vec::new();
            if k + 1 < literal.len() {
                forward.push(Element::Literal(literal[k + 1..].to_vec()));
            }
            forward.extend_from_slice(&elements[i + 1..]);
            if let Some(starts) = starts(&forward, sets) {
                return Some(Anchor::At { back, forward, starts });
            }
            if c == b'~' && k > 0 {
                return Some(Anchor::Tilde { back, forward });
            }
        }
    }
    None
}

/// All spellings of the first three bytes, if they are few.
fn starts(elements: &[Element], sets: &Sets) -> Option<Vec<[u8; 3]>> {
    let mut places: Vec<Vec<u8>> = Vec::new();
    for element in elements {
        match element {
            Element::Literal(l) => places.extend(l.iter().map(|&c| vec![c])),
            &Element::Repeat { set, min, max } => {
                let members: Vec<u8> = (0..=255).filter(|&c| sets.get(set)[c as usize]).collect();
                for _ in 0..min.min(3) {
                    places.push(members.clone());
                }
                if min != max && places.len() < 3 {
                    return None;
                }
            }
        }
        if places.len() >= 3 {
            break;
        }
    }
    let [a, b, c] = places.get(..3)? else { return None };
    if a.len() * b.len() * c.len() > MAX_STARTS {
        return None;
    }
    let mut out = Vec::new();
    for &a in a {
        for &b in b {
            for &c in c {
                out.push([a, b, c]);
            }
        }
    }
    Some(out)
}
