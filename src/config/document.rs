//! The resolved configuration, read section by section into the types of those who own them.

use super::{
    de,
    error::ConfigError,
    node::{Node, Value},
};
use serde::de::DeserializeOwned;

/// A configuration after merging and expansion.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    root: Node,
}

impl Document {
    /// A configuration from its tree.
    pub fn new(root: Node) -> Self {
        Self { root }
    }

    /// Reads the value at a path as `T`. Absent or null reads as an empty map, so that defaults apply. A null below is
    /// absent too, except for a map-like field: `grpc:` alone means `grpc: {}` to a field of a struct type, and with
    /// [`super::types::present`] to an `Option` of one.
    pub fn section<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, ConfigError> {
        let node = match self.node(path) {
            Some(node) if !node.is_null() => node.clone(),
            _ => Node::new(Value::Map(Default::default())),
        };
        de::read(node, path)
    }

    /// Whether the key exists, null or not.
    pub fn has(&self, path: &[&str]) -> bool {
        self.node(path).is_some()
    }

    /// The keys of the map at a path; none if there is no map.
    pub fn keys(&self, path: &[&str]) -> Vec<&str> {
        match self.node(path).map(|node| &node.value) {
            Some(Value::Map(map)) => map.keys().map(String::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// The raw value at a path.
    pub fn node(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(&self.root, |node, key| node.get(key))
    }

    /// The whole configuration.
    pub fn root(&self) -> &Node {
        &self.root
    }
}
