//! Secrets and personal data in text: what they look like is data (`catalog/*.toml`), finding them is one pass whose
//! cost does not grow with the number of rules. Pure: bytes in, positions out.
//!
//! * `catalog`, `shape`, `words`: rules and names as data, compiled to tables.
//! * `simd`: the class pass, bit masks of 64 bytes at a time.
//! * `scan`: walks the places the masks point to; `assign`, `structure`, `personal`, `marker` know what stands there.
//! * `checks`, `gate`: checksums, and whether a value looks like chance or like words.
//! * `resolve`: overlaps; `replace`: what stands in place of a hit.

mod again;
mod assign;
mod catalog;
mod checks;
mod gate;
mod marker;
mod personal;
pub mod replace;
mod resolve;
mod scan;
mod shape;
mod simd;
mod structure;
mod words;

use std::cell::RefCell;
use std::sync::LazyLock;

/// A piece of text inside a larger buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Offset of the text in the buffer.
    pub start: u32,
    /// Its length in bytes.
    pub len: u32,
    /// Offset of the key that names it (an attribute key), in the same buffer; it counts as context.
    pub key_start: u32,
    /// Length of that key; 0 when there is none.
    pub key_len: u32,
}

impl Field {
    /// Offset behind its last byte.
    fn end(&self) -> usize {
        self.start as usize + self.len as usize
    }
}

/// A place that must be masked. Never carries the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Offset in the buffer.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
    /// The rule, a position in [`Engine::rules`].
    pub rule: u16,
    /// How sure the rule is.
    pub confidence: Confidence,
    /// 0, or 1 + the depth of string escaping when the place is a bare JSON value (a number): its replacement then
    /// needs quotes to stay JSON, see [`replace::replacement`].
    pub quoted: u8,
}

/// How sure a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    /// Shape and context only.
    Low,
    /// A distinctive format, or a name that says it is a secret.
    Medium,
    /// A checksum or structure was verified.
    High,
}

impl Confidence {
    /// The name shown to people and programs.
    pub fn name(self) -> &'static str {
        match self {
            Confidence::Low => "low",
            Confidence::Medium => "medium",
            Confidence::High => "high",
        }
    }
}

/// What one scan saw besides its hits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Markers of an earlier masking (`[MASKED:<known rule>]`), skipped.
    pub markers: u32,
    /// Places masked whole because their budget ran out; each is also a hit of the rule `unscanned`.
    pub unscanned: u32,
}

/// What a rule protects against; decides grouping and default modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A credential of a known format.
    Credential,
    /// A value that its name or place says is a secret.
    Generic,
    /// Private key material.
    PrivateKey,
    /// Personal data.
    Pii,
    /// Payment and bank data.
    Financial,
    /// Content that could not be scanned within its budget.
    Unscanned,
}

impl Class {
    /// The name in findings and metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Class::Credential => "credential",
            Class::Generic => "generic",
            Class::PrivateKey => "private_key",
            Class::Pii => "pii",
            Class::Financial => "financial",
            Class::Unscanned => "unscanned",
        }
    }
}

/// What people see of a rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Stable id, kebab-case, part of the marker: `github-pat`.
    pub id: String,
    /// Version of the rule, from 1.
    pub version: u32,
    /// Title for people.
    pub title: String,
    /// What it protects against.
    pub class: Class,
}

/// The compiled catalog.
pub struct Engine {
    catalog: catalog::Catalog,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({} rules)", self.catalog.rules.len())
    }
}

thread_local! {
    /// What the scans of a thread share.
    static SCRATCH: RefCell<scan::Scratch> = RefCell::new(scan::Scratch::new());
}

impl Engine {
    /// The engine of the built-in catalog, compiled once per process.
    pub fn builtin() -> &'static Engine {
        static BUILTIN: LazyLock<Engine> = LazyLock::new(|| match catalog::Catalog::builtin() {
            Ok(catalog) => Engine { catalog },
            // The data is compiled in and a test compiles it: this cannot happen in a build that passed its tests.
            Err(e) => panic!("the built-in catalog is broken: {e}"),
        });
        &BUILTIN
    }

    /// The built-in catalog and the rules of a file in the same format.
    ///
    /// # Errors
    /// A sentence that says what is wrong with which rule.
    pub fn with_rules(toml: &str) -> Result<Engine, String> {
        Ok(Engine { catalog: catalog::Catalog::with(toml)? })
    }

    /// The rules a [`Hit::rule`] points into.
    pub fn rules(&self) -> &[Rule] {
        &self.catalog.rules
    }

    /// Finds everything to be masked in the `fields` of `buffer` (ascending, not overlapping). Bytes outside fields
    /// are never looked at, except the keys that fields name. Hits are appended to `hits` in ascending order and do
    /// not overlap. Fields must lie within the buffer.
    pub fn scan(&self, buffer: &[u8], fields: &[Field], hits: &mut Vec<Hit>) -> Seen {
        debug_assert!(fields.windows(2).all(|w| w[0].end() <= w[1].start as usize));
        debug_assert!(fields.last().is_none_or(|f| f.end() <= buffer.len()));
        let from = hits.len();
        let mut seen = self.scan_once(buffer, fields, hits);
        seen.unscanned += again::look(self, buffer, fields, hits, from).unscanned;
        seen
    }

    /// One look.
    fn scan_once(&self, buffer: &[u8], fields: &[Field], hits: &mut Vec<Hit>) -> Seen {
        SCRATCH.with_borrow_mut(|scratch| scan::scan(&self.catalog, buffer, fields, scratch, hits))
    }

    /// [`Engine::scan`] for one text of its own, with the key that names it.
    pub fn scan_text(&self, text: &[u8], key: &[u8]) -> (Vec<Hit>, Seen) {
        let mut hits = Vec::new();
        let field = Field { start: 0, len: text.len() as u32, key_start: text.len() as u32, key_len: key.len() as u32 };
        let seen = if key.is_empty() {
            self.scan(text, &[Field { key_start: 0, ..field }], &mut hits)
        } else {
            self.scan(&[text, key].concat(), &[field], &mut hits)
        };
        (hits, seen)
    }
}

#[cfg(test)]
mod tests;
