//! Component ids: `type` or `type/name`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};

/// The id of a configured component. Orders by type, then by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ComponentId {
    kind: String,
    name: Option<String>,
}

impl ComponentId {
    /// The type, as written: an old name such as `otlphttp` stays.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// What follows the slash.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

impl FromStr for ComponentId {
    type Err = String;

    /// Spaces around both parts are dropped; the name may contain further slashes.
    fn from_str(text: &str) -> Result<Self, String> {
        let shown: String = text.chars().take(80).collect();
        let (kind, name) = match text.split_once('/') {
            Some((kind, name)) => (kind.trim(), Some(name.trim())),
            None => (text.trim(), None),
        };
        match (kind, name) {
            ("", None) => Err("id must not be empty".to_owned()),
            ("", Some(_)) => Err(format!("in \"{shown}\" id: the part before / should not be empty")),
            (_, Some("")) => Err(format!("in \"{shown}\" id: the part after / should not be empty")),
            _ if !is_kind(kind) => Err(format!("in \"{shown}\" id: invalid character(s) in type")),
            (_, Some(name)) if !is_name(name) => Err(format!("in \"{shown}\" id: invalid character(s) in name")),
            _ => Ok(Self { kind: kind.to_owned(), name: name.map(str::to_owned) }),
        }
    }
}

/// A letter, then letters, digits and underscores; at most 63.
fn is_kind(text: &str) -> bool {
    text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Ids become metric labels and log fields: printable, without spaces, at most 1024 bytes.
fn is_name(text: &str) -> bool {
    text.len() <= 1024 && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

impl fmt::Display for ComponentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        match &self.name {
            Some(name) => write!(f, "/{name}"),
            None => Ok(()),
        }
    }
}

impl<'de> Deserialize<'de> for ComponentId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for ComponentId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
