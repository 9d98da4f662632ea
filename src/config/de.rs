//! Reads a node into a type through serde, with errors that know their YAML path and never say a value.

use super::{
    error::{ConfigError, choices, join, named},
    node::{Node, Value},
};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
    value::{StrDeserializer, StringDeserializer},
};
use std::{collections::btree_map, fmt};

/// Reads the node that stands at `parent`. A null that its field cannot take is as if the key were absent, as in the
/// Collector.
pub(super) fn read<T: DeserializeOwned>(mut node: Node, parent: &[&str]) -> Result<T, ConfigError> {
    loop {
        let error = match T::deserialize(NodeDeserializer(node.clone())) {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let path: Vec<&str> = error.path.iter().rev().map(String::as_str).collect();
        // Each round removes a key, so this ends.
        if !(error.null && remove_null(&mut node, &path)) {
            return Err(error.into_config_error(parent));
        }
    }
}

fn remove_null(node: &mut Node, path: &[&str]) -> bool {
    fn step<'a>(node: &'a mut Node, key: &&str) -> Option<&'a mut Node> {
        match &mut node.value {
            Value::Map(map) => map.get_mut(*key),
            Value::Seq(items) => items.get_mut(key.parse::<usize>().ok()?),
            _ => None,
        }
    }
    let Some((last, parents)) = path.split_last() else { return false };
    match parents.iter().try_fold(node, step) {
        Some(Node { value: Value::Map(map), .. }) => map.remove(*last).is_some(),
        _ => false,
    }
}

/// What went wrong, and where below the node that was read.
#[derive(Debug)]
struct Failure {
    /// Keys from the place of the error up to the root.
    path: Vec<String>,
    message: String,
    hint: Option<String>,
    /// Unknown keys; the message is made when the path is complete, because it names the last key of it.
    unknown: Vec<String>,
    /// A null stood where the type takes none.
    null: bool,
}

impl Failure {
    fn new(message: String) -> Self {
        Self { path: Vec::new(), message, hint: None, unknown: Vec::new(), null: false }
    }

    fn mismatch(found: &str, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {}, found {found}", plain(&expected.to_string())))
    }

    fn within(mut self, key: impl Into<String>) -> Self {
        self.path.push(key.into());
        self
    }

    fn into_config_error(self, parent: &[&str]) -> ConfigError {
        let path: Vec<&str> = parent.iter().copied().chain(self.path.iter().rev().map(String::as_str)).collect();
        let message = match self.unknown.as_slice() {
            [] => self.message,
            keys => format!("'{}' has invalid keys: {}", path.last().unwrap_or(&""), keys.join(", ")),
        };
        ConfigError { path: join(&path), message, hint: self.hint }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl de::Error for Failure {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let null = matches!(unexpected, Unexpected::Unit | Unexpected::Option);
        Self { null, ..Self::mismatch(kind(&unexpected), expected) }
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        match unexpected {
            Unexpected::Signed(_) | Unexpected::Unsigned(_) => {
                Self::new(format!("the number is out of range: expected {}", plain(&expected.to_string())))
            }
            other => Self::mismatch(kind(&other), expected),
        }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let message = format!("invalid value{}", named(variant));
        Self { hint: Some(choices(variant, expected, "values")), ..Self::new(message) }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self {
            hint: Some(choices(field, expected, "keys")),
            unknown: vec![field.to_owned()],
            ..Self::new(format!("invalid key: {field}"))
        }
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("requires the key \"{field}\""))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(format!("the key \"{field}\" is given twice, under two of its names"))
    }
}

/// The kind of an unexpected value; its Display would carry the value.
fn kind(unexpected: &Unexpected<'_>) -> &'static str {
    match unexpected {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "an integer",
        Unexpected::Float(_) => "a number with a fraction",
        Unexpected::Char(_) | Unexpected::Str(_) | Unexpected::Bytes(_) => "a string",
        Unexpected::Unit | Unexpected::Option => "null",
        Unexpected::Seq => "a list",
        Unexpected::Map | Unexpected::NewtypeStruct => "a map",
        _ => "something else",
    }
}

/// serde's word for what a Rust type wants, in the words of a person who writes YAML.
fn plain(expected: &str) -> String {
    let integer = |range: &str| format!("an integer {range}");
    match expected {
        "u8" => integer("from 0 to 255"),
        "u16" => integer("from 0 to 65535"),
        "u32" => integer("from 0 to 4294967295"),
        "u64" | "usize" | "u128" => integer("from 0"),
        "i8" | "i16" | "i32" | "i64" | "isize" | "i128" => "an integer".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a sequence" => "a list".to_owned(),
        "unit" => "null".to_owned(),
        other if other.starts_with("struct ") || other.starts_with("internally tagged") => "a map".to_owned(),
        other if other.starts_with("enum ") || other.starts_with("variant ") => "one of the valid names".to_owned(),
        other if other.starts_with("tuple struct ") => "a value".to_owned(),
        other => other.to_owned(),
    }
}

struct NodeDeserializer(Node);

impl NodeDeserializer {
    fn mismatch<T>(&self, expected: &dyn Expected) -> Result<T, Failure> {
        let null = matches!(self.0.value, Value::Null);
        Err(Failure { null, ..Failure::mismatch(self.0.kind(), expected) })
    }
}

impl<'de> Deserializer<'de> for NodeDeserializer {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.0.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(v) => visitor.visit_bool(v),
            Value::Int(v) => visitor.visit_i64(v),
            Value::Uint(v) => visitor.visit_u64(v),
            Value::Float(v) => visitor.visit_f64(v),
            Value::String(v) => visitor.visit_string(v),
            Value::Seq(items) => visitor.visit_seq(Items { items: items.into_iter(), index: 0 }),
            Value::Map(map) => visitor.visit_map(Entries { entries: map.into_iter(), value: None }),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.0.as_str() {
            Some(text) => visitor.visit_str(text),
            None => self.mismatch(&visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_string(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.0.value {
            Value::Map(_) => self.deserialize_any(visitor),
            Value::Null => visitor.visit_map(Entries { entries: Default::default(), value: None }),
            _ => self.mismatch(&visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let keys: Vec<String> = match &self.0.value {
            Value::Map(map) => map.keys().filter(|key| !fields.contains(&key.as_str())).cloned().collect(),
            _ => Vec::new(),
        };
        self.deserialize_map(visitor).map_err(|mut failure| {
            // serde stops at the first unknown key; a person wants all of them.
            if failure.path.is_empty() && !failure.unknown.is_empty() {
                failure.unknown = keys;
            }
            failure
        })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.0.value {
            Value::Seq(_) => self.deserialize_any(visitor),
            Value::Null => visitor.visit_seq(Items { items: Vec::new().into_iter(), index: 0 }),
            // As in the Collector: `a,b` is a list, so that one environment variable can hold one.
            Value::String(text) => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                let items: Vec<Node> = items.map(|item| Node::new(Value::String(item.to_owned()))).collect();
                visitor.visit_seq(Items { items: items.into_iter(), index: 0 })
            }
            _ => self.mismatch(&visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        match self.0.value {
            Value::Map(map) if map.len() == 1 => match map.into_iter().next() {
                Some((name, content)) => visitor.visit_enum(Variant { name, content }),
                None => Err(Failure::custom("expected a map with one key")),
            },
            Value::Map(_) => Err(Failure {
                hint: Some(format!("valid keys: {}", variants.join(", "))),
                ..Failure::custom("expected a map with one key")
            }),
            _ => match self.0.as_str() {
                Some(text) => visitor.visit_enum(StrDeserializer::<Failure>::new(text)),
                None => self.mismatch(&visitor),
            },
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf
        unit unit_struct tuple_struct identifier
    }
}

struct Items {
    items: std::vec::IntoIter<Node>,
    index: usize,
}

impl<'de> SeqAccess<'de> for Items {
    type Error = Failure;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Failure> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        seed.deserialize(NodeDeserializer(item)).map(Some).map_err(|failure| failure.within(index.to_string()))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Entries {
    entries: btree_map::IntoIter<String, Node>,
    value: Option<(String, Node)>,
}

impl<'de> MapAccess<'de> for Entries {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Failure> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some((key.clone(), value));
        let deserializer: StringDeserializer<Failure> = key.into_deserializer();
        seed.deserialize(deserializer).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Failure> {
        let (key, value) = self.value.take().unwrap_or_default();
        seed.deserialize(NodeDeserializer(value)).map_err(|failure| failure.within(key))
    }
}

/// `name: content`, for an enumeration whose choices carry something.
struct Variant {
    name: String,
    content: Node,
}

impl<'de> EnumAccess<'de> for Variant {
    type Error = Failure;
    type Variant = Content;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Content), Failure> {
        let value = seed.deserialize(StrDeserializer::<Failure>::new(&self.name))?;
        Ok((value, Content(self)))
    }
}

struct Content(Variant);

impl<'de> VariantAccess<'de> for Content {
    type Error = Failure;

    fn unit_variant(self) -> Result<(), Failure> {
        if self.0.content.is_null() {
            return Ok(());
        }
        Err(Failure::custom("expected nothing here").within(self.0.name))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Failure> {
        seed.deserialize(NodeDeserializer(self.0.content)).map_err(|failure| failure.within(self.0.name))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Failure> {
        NodeDeserializer(self.0.content).deserialize_seq(visitor).map_err(|failure| failure.within(self.0.name))
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Failure> {
        NodeDeserializer(self.0.content)
            .deserialize_struct("", fields, visitor)
            .map_err(|failure| failure.within(self.0.name))
    }
}
