//! The binary with what a user has around it: files of the project, the environment, ports that are free.

#![allow(dead_code, clippy::unwrap_used)]

#[path = "binary.rs"]
mod binary;

pub use binary::{Gateway, http};
use std::{
    net::SocketAddr,
    process::{ExitStatus, Stdio},
};

/// Every port of a configuration with one `otlp` receiver, moved to one that is free.
pub const FREE_PORTS: [&str; 4] = [
    "--set=receivers.otlp.protocols.grpc.endpoint=127.0.0.1:0",
    "--set=receivers.otlp.protocols.http.endpoint=127.0.0.1:0",
    "--set=extensions.health_check.endpoint=127.0.0.1:0",
    "--set=service.telemetry.metrics.readers=[{pull: {exporter: {prometheus: {host: 127.0.0.1, port: 0}}}}]",
];

/// A file of the project.
pub fn project_file(path: &str) -> String {
    format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file of the project.
pub fn project_text(path: &str) -> String {
    std::fs::read_to_string(project_file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What a run to the end left.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs the program to its end.
pub fn run<'a>(args: &[&str], variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Ended {
    let output = binary::tracegate(args).envs(variables).stdin(Stdio::null()).output().unwrap();
    Ended { code: output.status.code(), stdout: binary::stdout(&output), stderr: binary::stderr(&output) }
}

/// Starts the gateway and waits until it is ready.
pub fn start<'a>(args: &[&str], variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Gateway {
    let mut command = binary::tracegate(args);
    command.envs(variables).stdin(Stdio::null());
    Gateway::launch(command)
}

/// SIGTERM, and all it wrote.
pub fn stop(gateway: Gateway) -> (ExitStatus, String) {
    let (status, log) = gateway.stop();
    (status, log.join("\n"))
}

/// Posts traces in protobuf.
pub fn post(address: SocketAddr, body: &[u8]) -> u16 {
    http(address, "POST /v1/traces HTTP/1.1\r\nContent-Type: application/x-protobuf", body).0
}
