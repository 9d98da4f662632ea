//! From a configuration to running pipelines: what a configuration asks for is checked whole before anything starts,
//! exporters start first and receivers last, and stopping goes the other way.

mod blueprint;
mod enforce;
mod observe;
mod registry;
mod running;
mod to;

pub use blueprint::Blueprint;
pub use registry::KINDS;
pub use running::{Addresses, Service, StartError};
pub use to::forwarding_to;

use crate::config::Source;

/// What runs without a configuration file.
pub fn default_config() -> Source {
    Source::Embedded { name: "pipelines/default.yaml", text: include_str!("../pipelines/default.yaml") }
}
