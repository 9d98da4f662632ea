//! The binary as a user runs it: once to its end, or as a gateway that is asked, fed and stopped.

#![allow(dead_code, clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
};

const READY: &str = "Everything is ready. Begin running and processing data.";

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

fn tracegate<'a>(args: &[&str], variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracegate"));
    command.args(args).env_remove("RUST_LOG").env_remove("NO_COLOR").envs(variables);
    command
}

/// Runs the program to its end.
pub fn run<'a>(args: &[&str], variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Ended {
    let output = tracegate(args, variables).stdin(Stdio::null()).output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A running gateway, and everything it writes.
pub struct Gateway {
    process: Child,
    log: mpsc::Receiver<String>,
    pub seen: Vec<String>,
}

impl Gateway {
    /// Starts the program and waits until it is ready.
    pub fn start<'a>(args: &[&str], variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Gateway {
        let mut process = tracegate(args, variables)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, log) = mpsc::channel();
        let (stderr, stdout) = (process.stderr.take().unwrap(), process.stdout.take().unwrap());
        for stream in [Box::new(stderr) as Box<dyn Read + Send>, Box::new(stdout)] {
            let send = send.clone();
            std::thread::spawn(move || {
                BufReader::new(stream).lines().map_while(Result::ok).for_each(|line| drop(send.send(line)))
            });
        }
        drop(send);
        let mut gateway = Gateway { process, log, seen: Vec::new() };
        gateway.wait_for(READY);
        gateway
    }

    /// Reads what it writes up to a line with `text`.
    pub fn wait_for(&mut self, text: &str) -> String {
        while let Ok(line) = self.log.recv() {
            self.seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
        panic!("it ended without writing {text:?}:\n{}", self.seen.join("\n"));
    }

    /// An address of the ready line, whose fields are JSON as in the Collector's console.
    pub fn address(&self, name: &str) -> SocketAddr {
        let line = self.seen.iter().find(|line| line.contains(READY)).unwrap();
        let fields: serde_json::Value = serde_json::from_str(line.rsplit('\t').next().unwrap()).unwrap();
        fields[name].as_str().unwrap_or_else(|| panic!("no {name} in {line}")).parse().unwrap()
    }

    /// SIGTERM, and all it wrote.
    pub fn stop(mut self) -> (ExitStatus, String) {
        let kill = Command::new("kill").arg(self.process.id().to_string()).status().unwrap();
        assert!(kill.success());
        let status = self.process.wait().unwrap();
        self.seen.extend(self.log.iter());
        (status, std::mem::take(&mut self.seen).join("\n"))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // A test that failed must not leave it running.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One HTTP exchange over a connection of its own: status and body.
pub fn http(address: SocketAddr, head: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(stream, "{head}\r\nHost: test\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n").unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

/// Posts an OTLP request in protobuf.
pub fn post(address: SocketAddr, body: &[u8]) -> u16 {
    http(address, "POST /v1/traces HTTP/1.1\r\nContent-Type: application/x-protobuf", body).0
}
