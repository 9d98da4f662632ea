//! Thin adapters between the path and the domains: one stage a file, each with its configuration.

pub mod batch;
pub mod identity;
pub mod mask;
pub mod memory_limiter;
