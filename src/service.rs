//! From a configuration to running pipelines: what a configuration asks for is checked whole before anything starts,
//! exporters start first and receivers last, stopping goes the other way, and a reload
//! exchanges what changed while the rest runs on.

mod batch;
mod blueprint;
mod enforce;
mod error;
mod graph;
mod observe;
mod ports;
mod push;
mod registry;
mod retire;
mod running;
mod switch;
mod to;

pub use blueprint::{Blueprint, effective};
pub use error::StartError;
pub use registry::KINDS;
pub use running::{Addresses, Backlog, Service};
pub use to::forwarding_to;

use crate::config::Source;

/// What runs without a configuration file.
pub fn default_config() -> Source {
    Source::Embedded { name: "pipelines/default.yaml", text: include_str!("../pipelines/default.yaml") }
}
