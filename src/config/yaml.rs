//! YAML text to nodes, and nodes through figment: the deep merge of several sources.

use super::{
    error::ConfigError,
    node::{Node, Value},
};
use figment::{
    Figment, Metadata, Profile, Provider,
    value::{Dict, Empty, Map, Num, Tag, Value as Figure},
};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Error, Spanned};
use std::{collections::BTreeMap, fmt};

/// Parses one YAML document. `name` stands in front of line and column in errors; errors name keys, never values.
/// Duplicate keys, several documents and unknown anchors are errors; an empty document is null.
pub(super) fn parse(name: &str, text: &str) -> Result<Node, ConfigError> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::PassThrough,
    };
    let raw: Spanned<Raw> =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| syntax_error(name, &error))?;
    Ok(raw_to_node(raw, text))
}

fn syntax_error(name: &str, error: &Error) -> ConfigError {
    let place = match error.location() {
        Some(at) if at.line() > 0 => format!("{name}:{}:{}", at.line(), at.column()),
        _ => name.to_owned(),
    };
    let mut inner = error.without_snippet();
    while let Error::AliasError { error, .. } = inner {
        inner = error;
    }
    // The library's own texts may quote the scalar they stumbled over, so only texts known to be fixed are passed on.
    let message = match inner {
        Error::DuplicateMappingKey { key: Some(key), .. } => format!("duplicate key \"{key}\""),
        Error::DuplicateMappingKey { .. } => "duplicate key".to_owned(),
        Error::ExternalMessage { msg, .. } if !msg.is_empty() => {
            format!("not valid YAML: {}", msg.lines().next().unwrap_or_default())
        }
        Error::Eof { .. } => "not valid YAML: unexpected end".to_owned(),
        Error::MultipleDocuments { .. } => "several YAML documents in one source: only one is allowed".to_owned(),
        Error::UnknownAnchor { .. } => "not valid YAML: unknown anchor".to_owned(),
        Error::RecursiveReferencesRequireWeakTypes { .. } => "an alias refers to itself".to_owned(),
        Error::MergeValueNotMapOrSeqOfMaps { .. } => "the merge key << needs a map or a list of maps".to_owned(),
        Error::InvalidScalar { ty, .. } => format!("not a valid {ty}"),
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => "too many alias expansions".to_owned(),
        Error::NullIntoString { .. } => "a key must not be null".to_owned(),
        _ => "not valid YAML for a configuration".to_owned(),
    };
    ConfigError::new(place, message)
}

/// A node as the YAML library hands it over, each with its place in the text.
enum Raw {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    String(String),
    Seq(Vec<Spanned<Raw>>),
    Map(Vec<(String, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RawVisitor;
        impl<'de> Visitor<'de> for RawVisitor {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a YAML value")
            }
            fn visit_unit<E>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }
            fn visit_none<E>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
                Ok(Raw::Bool(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
                Ok(Raw::Int(value))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
                Ok(Raw::Uint(value))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
                Ok(Raw::Float(value))
            }
            fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
                Ok(Raw::String(value.to_owned()))
            }
            fn visit_string<E>(self, value: String) -> Result<Raw, E> {
                Ok(Raw::String(value))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Raw::Seq(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
                let mut entries = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    entries.push((key, map.next_value()?));
                }
                Ok(Raw::Map(entries))
            }
        }
        deserializer.deserialize_any(RawVisitor)
    }
}

fn raw_to_node(raw: Spanned<Raw>, text: &str) -> Node {
    let written = || {
        let span = raw.defined.span();
        let start = usize::try_from(span.byte_offset()?).ok()?;
        let end = start.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
        Some(text.get(start..end)?.trim().to_owned())
    };
    let scalar = |value| Node { value, text: written() };
    match raw.value {
        // A null in a file has no text that anybody meant as a string.
        Raw::Null => Node::default(),
        Raw::Bool(v) => scalar(Value::Bool(v)),
        Raw::Int(v) => scalar(Value::Int(v)),
        Raw::Uint(v) => scalar(Value::Uint(v)),
        Raw::Float(v) => scalar(Value::Float(v)),
        Raw::String(v) => Node::new(Value::String(v)),
        Raw::Seq(items) => Node::new(Value::Seq(items.into_iter().map(|item| raw_to_node(item, text)).collect())),
        Raw::Map(entries) => {
            Node::new(Value::Map(entries.into_iter().map(|(key, value)| (key, raw_to_node(value, text))).collect()))
        }
    }
}

/// One source's top-level map, as a figment provider.
struct Layer {
    name: String,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

/// Merges sources, the later over the earlier: maps merge key by key, everything else replaces, null included.
#[derive(Default)]
pub(super) struct Merged {
    figment: Figment,
    /// The text of each scalar that is not a string, by its path; the latest source that set the path wins, as in
    /// the merge itself. figment's own values have no place for it.
    texts: BTreeMap<Vec<String>, String>,
}

impl Merged {
    /// Adds a source. Its top level must be a map or null. A top-level key `a::b` means `b` within `a`.
    pub fn add(&mut self, name: &str, node: Node) -> Result<(), ConfigError> {
        let map = match node.value {
            Value::Null => BTreeMap::new(),
            Value::Map(map) => unflatten(name, map)?,
            _ => {
                return Err(ConfigError::new(name, format!("the top level must be a map, found {}", node.kind()))
                    .with_hint("start from pipelines/default.yaml, or see print-config"));
            }
        };
        let values = map
            .into_iter()
            .map(|(key, node)| {
                let figure = to_figure(node, &mut vec![key.clone()], &mut self.texts);
                (key, figure)
            })
            .collect();
        let figment = std::mem::take(&mut self.figment);
        self.figment = figment.merge(Layer { name: name.to_owned(), values });
        Ok(())
    }

    /// The merged configuration.
    pub fn finish(self) -> Result<Node, ConfigError> {
        // Layers hand over values, they cannot fail; an error here would be a defect of the merge.
        let mut data = self.figment.data().map_err(|_| ConfigError::new("", "the sources cannot be merged"))?;
        let dict = data.remove(&Profile::Default).unwrap_or_default();
        Ok(from_figure(Figure::Dict(Tag::Default, dict), &mut Vec::new(), &self.texts))
    }
}

/// `a::b::c: v` as a top-level key stands for nested maps, as the Collector's `yaml:` URIs and `--set` use it.
fn unflatten(name: &str, map: BTreeMap<String, Node>) -> Result<BTreeMap<String, Node>, ConfigError> {
    let mut out = BTreeMap::new();
    for (key, node) in map {
        let parts: Vec<&str> = key.split("::").collect();
        if parts.iter().any(|part| part.trim().is_empty()) {
            return Err(ConfigError::new(name, format!("the key \"{key}\" has an empty part")));
        }
        insert(&mut out, &parts, node);
    }
    Ok(out)
}

fn insert(map: &mut BTreeMap<String, Node>, path: &[&str], node: Node) {
    let [first, rest @ ..] = path else { return };
    let slot = map.entry((*first).to_owned()).or_default();
    if rest.is_empty() {
        overlay(slot, node);
        return;
    }
    if !matches!(slot.value, Value::Map(_)) {
        *slot = Node::new(Value::Map(BTreeMap::new()));
    }
    if let Value::Map(inner) = &mut slot.value {
        insert(inner, rest, node);
    }
}

fn overlay(slot: &mut Node, node: Node) {
    match (&mut slot.value, node) {
        (Value::Map(old), Node { value: Value::Map(new), .. }) => {
            for (key, value) in new {
                overlay(old.entry(key).or_default(), value);
            }
        }
        (_, node) => *slot = node,
    }
}

fn to_figure(node: Node, path: &mut Vec<String>, texts: &mut BTreeMap<Vec<String>, String>) -> Figure {
    let tag = Tag::Default;
    if let Some(text) = node.text {
        texts.insert(path.clone(), text);
    }
    match node.value {
        Value::Null => Figure::Empty(tag, Empty::Unit),
        Value::Bool(v) => Figure::Bool(tag, v),
        Value::Int(v) => Figure::Num(tag, Num::I64(v)),
        Value::Uint(v) => Figure::Num(tag, Num::U64(v)),
        Value::Float(v) => Figure::Num(tag, Num::F64(v)),
        Value::String(v) => Figure::String(tag, v),
        Value::Seq(items) => {
            let step = |(index, item): (usize, Node)| {
                path.push(index.to_string());
                let figure = to_figure(item, path, texts);
                path.pop();
                figure
            };
            Figure::Array(tag, items.into_iter().enumerate().map(step).collect())
        }
        Value::Map(map) => {
            let step = |(key, item): (String, Node)| {
                path.push(key.clone());
                let figure = to_figure(item, path, texts);
                path.pop();
                (key, figure)
            };
            Figure::Dict(tag, map.into_iter().map(step).collect())
        }
    }
}

fn from_figure(figure: Figure, path: &mut Vec<String>, texts: &BTreeMap<Vec<String>, String>) -> Node {
    let scalar = |value| Node { value, text: texts.get(path.as_slice()).cloned() };
    match figure {
        Figure::Empty(..) => Node::default(),
        Figure::Bool(_, v) => scalar(Value::Bool(v)),
        Figure::Num(_, Num::F64(v)) => scalar(Value::Float(v)),
        Figure::Num(_, num) => match (num.to_u128(), num.to_i128()) {
            (Some(v), _) => scalar(u64::try_from(v).map_or(Value::Null, Value::Uint)),
            (_, Some(v)) => scalar(i64::try_from(v).map_or(Value::Null, Value::Int)),
            _ => Node::default(),
        },
        Figure::Char(_, v) => Node::new(Value::String(v.to_string())),
        Figure::String(_, v) => Node::new(Value::String(v)),
        Figure::Array(_, items) => {
            let step = |(index, item): (usize, Figure)| {
                path.push(index.to_string());
                let node = from_figure(item, path, texts);
                path.pop();
                node
            };
            Node::new(Value::Seq(items.into_iter().enumerate().map(step).collect()))
        }
        Figure::Dict(_, dict) => {
            let step = |(key, item): (String, Figure)| {
                path.push(key.clone());
                let node = from_figure(item, path, texts);
                path.pop();
                (key, node)
            };
            Node::new(Value::Map(dict.into_iter().map(step).collect()))
        }
    }
}
