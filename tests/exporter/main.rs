//! The exporters against backends that behave well, badly and not at all.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod backend;
mod grpc;
mod http;
mod local;
mod queue;
mod support;
mod tls;
