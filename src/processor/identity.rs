//! `identity`: only tracegate speaks under `tracegate.*`. Removes what clients claim there and adds the attributes
//! the operator set.

use crate::{
    otlp::{Edit, Locator, Role, edit::string_attribute},
    pipeline::{Plan, Refusal, Request, Stage},
};
use memchr::memmem::Finder;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Attribute names that are tracegate's own.
const RESERVED: &[u8] = b"tracegate.";

/// Number of `ResourceSpans.resource` and of its like in logs and metrics.
const RESOURCE_FIELD: u32 = 1;
/// Number of `Resource.attributes`.
const ATTRIBUTES_FIELD: u32 = 1;

/// Configuration of `identity`. `identity: {}` strips and adds nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Resource attributes set on everything that passes. One that a client set under the same name is replaced.
    pub attributes: BTreeMap<String, String>,
}

/// The `identity` stage.
pub struct Identity {
    id: String,
    config: Config,
    reserved: Finder<'static>,
    /// The configured attributes as `Resource.attributes` fields.
    encoded: Vec<u8>,
}

impl Identity {
    /// A stage that sets `config.attributes`.
    pub fn new(id: impl Into<String>, config: Config) -> Self {
        let attributes = config.attributes.iter();
        let encoded = attributes.flat_map(|(key, value)| string_attribute(ATTRIBUTES_FIELD, key, value)).collect();
        Identity { id: id.into(), config, reserved: Finder::new(RESERVED), encoded }
    }
}

impl Stage for Identity {
    fn id(&self) -> &str {
        &self.id
    }

    fn apply(&self, request: &Request, plan: &mut Plan) -> Result<(), Refusal> {
        self.strip(request, plan);
        self.stamp(request, plan);
        Ok(())
    }
}

impl Identity {
    /// Removes incoming attributes under a reserved or configured name, wherever attributes can stand. Keys of a
    /// key-value list inside a value are the client's data and stay.
    fn strip(&self, request: &Request, plan: &mut Plan) {
        if self.config.attributes.is_empty() && self.reserved.find(&request.bytes).is_none() {
            return;
        }
        let keys = request.index.leaves.iter().filter(|leaf| leaf.role == Role::Key);
        let claims = keys.filter(|leaf| {
            let key = request.text(leaf.start, leaf.len);
            key.starts_with(RESERVED)
                || std::str::from_utf8(key).is_ok_and(|key| self.config.attributes.contains_key(key))
        });
        let mut locator = Locator::new(request.signal, &request.bytes);
        for claim in claims {
            let location = locator.locate(claim.start);
            let reserved = request.text(claim.start, claim.len).starts_with(RESERVED);
            let ours = reserved && location.is_attribute() || location.is_resource_attribute();
            if let Some(edit) = location.remove_attribute().filter(|_| ours) {
                plan.edit(edit);
            }
        }
    }

    /// Adds the configured attributes to every resource, and a resource where there is none.
    fn stamp(&self, request: &Request, plan: &mut Plan) {
        if self.encoded.is_empty() {
            return;
        }
        for slot in &request.index.resources {
            plan.edit(match slot.resource {
                Some((payload, end)) => Edit { start: end, end, container: payload, with: self.encoded.clone() },
                None => {
                    let with = crate::otlp::edit::message_field(RESOURCE_FIELD, &self.encoded);
                    Edit { start: slot.container, end: slot.container, container: slot.container, with }
                }
            });
        }
    }
}
