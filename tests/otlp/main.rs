//! The wire form against an independent oracle: prost and the types of `opentelemetry-proto`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod build;
mod edits;
mod jsons;
mod leaves;
mod mutate;
mod splits;
mod walks;
