//! The OTLP receiver by the checklist of the OTLP specification and of what the Collector does: a test's name begins with
//! the line it proves. C is common, G gRPC, H HTTP, J JSON. Lines without a test here are other parts' to prove: C5 and E
//! the exporters'.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod auth;
mod compressed;
mod connections;
mod cors;
mod grpc;
mod http;
mod json;
mod limits;
mod metadata;
mod odd;
mod pki;
mod support;
mod tls;
mod whole;
