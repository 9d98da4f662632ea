//! tracegate: a gateway for the traces that AI systems leave behind.
//!
//! OTLP comes in, secrets and personal data are masked before anything is written, OTLP goes out. A module uses only
//! modules that stand below it in this list:
//!
//! * top: [`cli`] is the command line; [`service`] turns a configuration into running pipelines.
//! * edges: [`receiver`] takes OTLP in over gRPC and HTTP; [`exporter`] sends it on.
//! * the path: [`pipeline`] carries one request through its stages to its destinations.
//!   [`processor`] holds its stages, thin adapters to the domains.
//! * domains: [`detect`] finds secrets and personal data in text (pure); [`auth`] turns credentials into principals.
//! * ground: [`otlp`] is the wire format (pure); [`compression`] is what bodies are packed in (pure); [`config`] turns
//!   files into values with YAML paths; [`net`] listens and speaks TLS; [`telemetry`] is what tracegate says about
//!   itself.

pub mod auth;
pub mod cli;
pub mod compression;
pub mod config;
pub mod detect;
pub mod exporter;
pub mod net;
pub mod otlp;
pub mod pipeline;
pub mod processor;
pub mod receiver;
pub mod service;
pub mod telemetry;
