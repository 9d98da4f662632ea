//! The one error of this module: a YAML path, what is wrong there, and what to do.

use std::fmt;

/// A wrong configuration: where, what, and how to put it right.
///
/// `Display` is always one line, `path: message (hint)`. It never carries a value from the configuration, except names
/// of components, keys, and choices of an enumeration, because a value may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The YAML path with the Collector's separator, such as `receivers::otlp::protocols`; for a file that cannot be
    /// read or parsed its name, line and column. Empty when the whole configuration is meant.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it, or which values are valid.
    pub hint: Option<String>,
}

impl ConfigError {
    /// An error at a YAML path.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), hint: None }
    }

    /// An error at a YAML path given by its keys.
    pub fn at(path: &[&str], message: impl Into<String>) -> Self {
        Self::new(join(path), message)
    }

    /// The same error with advice.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error, with the path taken to be relative to `parent`.
    #[must_use]
    pub fn under(mut self, parent: &[&str]) -> Self {
        let parent = join(parent);
        self.path = match (parent.is_empty(), self.path.is_empty()) {
            (true, _) => self.path,
            (false, true) => parent,
            (false, false) => format!("{parent}::{}", self.path),
        };
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", one_line(&self.path))?;
        }
        f.write_str(&one_line(&self.message))?;
        match &self.hint {
            Some(hint) => write!(f, " ({})", one_line(hint)),
            None => Ok(()),
        }
    }
}

/// A value that is none of an enumeration's choices as errors show it: behind a space and in quotes if it is a short
/// word, else nothing, because a secret may stand in the wrong place.
pub fn named(value: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    match value.bytes().all(plain) && (1..=16).contains(&value.len()) {
        true => format!(" \"{value}\""),
        false => String::new(),
    }
}

/// Joins keys the way the Collector writes a path.
pub(super) fn join<S: AsRef<str>>(path: &[S]) -> String {
    path.iter().map(AsRef::as_ref).collect::<Vec<_>>().join("::")
}

/// Keys come from a file; none of them may break the line or reach a terminal as a control sequence.
fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// The advice for an unknown name: the nearest valid one, if one is near, and all of them.
pub(super) fn choices(unknown: &str, valid: &[&str], what: &str) -> String {
    let mut sorted = valid.to_vec();
    sorted.sort_unstable();
    let list = format!("valid {what}: {}", if sorted.is_empty() { "none".to_owned() } else { sorted.join(", ") });
    match nearest(unknown, &sorted) {
        Some(near) => format!("did you mean \"{near}\"?; {list}"),
        None => list,
    }
}

/// The valid name a person most likely meant; none when nothing is near enough.
pub(super) fn nearest<'a>(unknown: &str, valid: &[&'a str]) -> Option<&'a str> {
    let unknown = unknown.to_ascii_lowercase();
    let distance = |name: &str| strsim::osa_distance(&unknown, &name.to_ascii_lowercase());
    let best = valid.iter().copied().min_by_key(|name| distance(name))?;
    let allowed = best.chars().count().max(unknown.chars().count()) / 3;
    (distance(best) <= allowed.max(1)).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_path_message_hint_on_one_line() {
        let error = ConfigError::at(&["a", "b"], "it\nis\u{1b}[31m wrong").with_hint("do\tthis");
        assert_eq!(error.to_string(), "a::b: it\\nis\\u{1b}[31m wrong (do\\tthis)");
        assert_eq!(ConfigError::new("", "no").to_string(), "no");
    }

    #[test]
    fn only_a_short_word_is_named() {
        assert_eq!(named("brotli"), " \"brotli\"");
        assert_eq!(named("x-snappy-framed"), " \"x-snappy-framed\"");
        for hidden in ["", "two words", "AKIAIOSFODNN7EXAMPLE", "é", "a\"b", "user:pass"] {
            assert_eq!(named(hidden), "", "{hidden}");
        }
    }

    #[test]
    fn under_prepends() {
        assert_eq!(ConfigError::new("b", "m").under(&["a"]).path, "a::b");
        assert_eq!(ConfigError::new("", "m").under(&["a"]).path, "a");
        assert_eq!(ConfigError::new("b", "m").under(&[]).path, "b");
    }

    #[test]
    fn suggests_only_what_is_near() {
        assert_eq!(nearest("endpont", &["endpoint", "timeout"]), Some("endpoint"));
        assert_eq!(nearest("Endpoint", &["endpoint"]), Some("endpoint"));
        assert_eq!(nearest("recievers", &["receivers", "exporters"]), Some("receivers"));
        assert_eq!(nearest("jaeger", &["otlp", "nop"]), None);
        assert_eq!(nearest("x", &[]), None);
    }
}
