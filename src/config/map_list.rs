//! The Collector's map that may also be written as a list (`configopaque.MapList`): headers, where values are opaque.

use super::types::Opaque;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use std::{collections::HashSet, fmt};

/// `{name: value}`, or `[{name: …, value: …}]`, in the order it was written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MapList(pub Vec<(String, Opaque)>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    name: String,
    #[serde(default)]
    value: Opaque,
}

impl MapList {
    /// The first name that is there twice, which a list makes possible. Capitals and small letters are the same.
    pub fn duplicate(&self) -> Option<&str> {
        let mut seen = HashSet::new();
        self.0.iter().map(|(name, _)| name.as_str()).find(|name| !seen.insert(name.to_ascii_lowercase()))
    }
}

impl<'de> Deserialize<'de> for MapList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Either)
    }
}

struct Either;

impl<'de> Visitor<'de> for Either {
    type Value = MapList;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of headers, or a list of name and value")
    }

    fn visit_unit<E>(self) -> Result<MapList, E> {
        Ok(MapList::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<MapList, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(MapList(pairs))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<MapList, A::Error> {
        let mut pairs = Vec::new();
        while let Some(Pair { name, value }) = list.next_element()? {
            pairs.push((name, value));
        }
        Ok(MapList(pairs))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_map_and_a_list_mean_the_same() {
        let read = |value| serde_json::from_value::<MapList>(value);
        let map = read(json!({"X-Scope-OrgID": "tenant"})).unwrap();
        assert_eq!(map, read(json!([{"name": "X-Scope-OrgID", "value": "tenant"}])).unwrap());
        assert_eq!(map.duplicate(), None);
        assert_eq!(read(json!(null)).unwrap(), MapList::default());
        let twice = read(json!([{"name": "a", "value": "1"}, {"name": "A", "value": "2"}])).unwrap();
        assert_eq!(twice.duplicate(), Some("A"));
        assert!(!format!("{map:?}").contains("tenant"));
        for wrong in [json!("a: b"), json!([{"name": "a", "valeu": "1"}]), json!([{"value": "1"}]), json!(["a"])] {
            assert!(read(wrong).is_err());
        }
    }
}
