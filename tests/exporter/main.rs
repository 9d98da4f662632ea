//! The exporters against backends that behave well, badly and not at all.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod agent;
mod answers;
mod auth;
mod backend;
mod balance;
mod grpc;
mod http;
mod local;
mod proxy;
mod queue;
mod support;
mod tls;
