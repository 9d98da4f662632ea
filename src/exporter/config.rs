//! What the exporters' configurations have in common.

use serde::{Deserialize, Deserializer, de::Error as _};

/// A key the Collector knows and tracegate does not support yet. Any value is refused, so that nothing is ever
/// silently ignored; the key itself is named by the error's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Later {}

impl<'de> Deserialize<'de> for Later {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("this key of the Collector is not supported yet; remove it"))
    }
}
