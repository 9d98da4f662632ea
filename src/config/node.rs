//! Configuration values: a tree of YAML nodes, each with its text as written where that may differ from its value.

use serde::ser::{Serialize, SerializeMap, Serializer};
use std::{collections::BTreeMap, fmt};

/// A YAML node after merging and expansion.
#[derive(Clone, Default, PartialEq)]
pub struct Node {
    /// What the YAML rules make of it.
    pub value: Value,
    /// The text as written or as it came from an environment variable, for values that are not strings: a field of
    /// type string takes this, so that `0123` stays `0123`. None where there is no single text (a map in a file).
    pub text: Option<String>,
}

/// A YAML value.
#[derive(Clone, Default, PartialEq)]
pub enum Value {
    /// `null`, `~`, or nothing.
    #[default]
    Null,
    /// `true` or `false`; the words of YAML 1.1 (`yes`, `off`) are strings, as in the Collector.
    Bool(bool),
    /// A negative integer.
    Int(i64),
    /// An integer from zero up.
    Uint(u64),
    /// A number with a fraction or exponent, or one too large for an integer.
    Float(f64),
    /// Text.
    String(String),
    /// A list.
    Seq(Vec<Node>),
    /// A map; keys are in order of their bytes.
    Map(BTreeMap<String, Node>),
}

impl Node {
    /// A node without a text of its own.
    pub fn new(value: Value) -> Self {
        Self { value, text: None }
    }

    /// A scalar with the text it was written as.
    pub(super) fn with_text(value: Value, text: impl Into<String>) -> Self {
        Self { value, text: Some(text.into()) }
    }

    /// The node under a key; none if this is not a map or has no such key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(map) => map.get(key),
            _ => None,
        }
    }

    /// What a string target takes: the string, or the text another scalar was written as.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => self.text.as_deref(),
        }
    }

    /// Whether this is null and no text stands behind it.
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null) && self.text.as_deref().is_none_or(str::is_empty)
    }

    /// What it is, for an error that must not say its value.
    pub(super) fn kind(&self) -> &'static str {
        self.value.kind()
    }
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::Uint(_) => "an integer",
            Value::Float(_) => "a number with a fraction",
            Value::String(_) => "a string",
            Value::Seq(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

/// Keys and kinds only: any value may be a secret.
impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Seq(items) => f.debug_list().entries(items).finish(),
            Value::Map(map) => f.debug_map().entries(map).finish(),
            scalar => f.write_str(scalar.kind()),
        }
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.value {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(v) => serializer.serialize_bool(*v),
            Value::Int(v) => serializer.serialize_i64(*v),
            Value::Uint(v) => serializer.serialize_u64(*v),
            Value::Float(v) => serializer.serialize_f64(*v),
            Value::String(v) => serializer.serialize_str(v),
            Value::Seq(items) => serializer.collect_seq(items),
            Value::Map(map) => {
                let mut out = serializer.serialize_map(Some(map.len()))?;
                for (key, node) in map {
                    out.serialize_entry(key, node)?;
                }
                out.end()
            }
        }
    }
}
