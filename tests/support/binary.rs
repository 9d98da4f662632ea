//! The binary as tests drive it: run to its end, or started, waited for, asked and stopped; and everything it writes.

#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
};

pub const READY: &str = "Everything is ready. Begin running and processing data.";

pub fn tracegate(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracegate"));
    command.args(args).env_remove("RUST_LOG").env_remove("NO_COLOR");
    command
}

/// What a run to the end left.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs the binary to its end with something on its standard input.
pub fn output(args: &[&str], input: &[u8]) -> Ended {
    ended(output_bytes(tracegate(args), input))
}

/// Runs the binary to its end with variables in its environment.
pub fn run<'a>(args: &[&str], variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Ended {
    let mut command = tracegate(args);
    command.envs(variables);
    ended(output_bytes(command, b""))
}

/// Runs a command made with [`tracegate`] to its end, for what is not text.
pub fn output_bytes(mut command: Command, input: &[u8]) -> Output {
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One that ends without reading its input is not broken.
    let _ = process.stdin.take().unwrap().write_all(input);
    process.wait_with_output().unwrap()
}

fn ended(output: Output) -> Ended {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A file of the project.
pub fn project_file(path: &str) -> String {
    format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file of the project.
pub fn project_text(path: &str) -> String {
    std::fs::read_to_string(project_file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A running gateway, and everything it writes.
pub struct Gateway {
    pub process: Child,
    log: mpsc::Receiver<String>,
    pub seen: Vec<String>,
}

impl Gateway {
    /// Starts a configuration and waits until it is ready.
    pub fn start(config: &str) -> Gateway {
        Gateway::spawn(&["run", "--config", &format!("yaml:{config}")])
    }

    /// Starts it with these arguments and waits until it is ready.
    pub fn spawn(args: &[&str]) -> Gateway {
        Gateway::spawn_with(args, [])
    }

    /// The same with variables in its environment.
    pub fn spawn_with<'a>(args: &[&str], variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Gateway {
        let mut command = tracegate(args);
        command.envs(variables).stdin(Stdio::null());
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (send, log) = mpsc::channel();
        let (stderr, stdout) = (process.stderr.take().unwrap(), process.stdout.take().unwrap());
        for stream in [Box::new(stderr) as Box<dyn Read + Send>, Box::new(stdout)] {
            let send = send.clone();
            std::thread::spawn(move || {
                BufReader::new(stream).lines().map_while(Result::ok).for_each(|line| drop(send.send(line)))
            });
        }
        // Or a program that ends before it is ready would be waited for.
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
        fields[name].as_str().unwrap().parse().unwrap()
    }

    /// SIGTERM, the end, and all it wrote.
    pub fn stop(mut self) -> (ExitStatus, Vec<String>) {
        let kill = Command::new("kill").arg(self.process.id().to_string()).status().unwrap();
        assert!(kill.success());
        let status = self.process.wait().unwrap();
        self.seen.extend(self.log.iter());
        (status, std::mem::take(&mut self.seen))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // A test that failed must not leave it running.
        let _ = self.process.kill();
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

/// Posts traces in protobuf.
pub fn post(address: SocketAddr, body: &[u8]) -> u16 {
    http(address, "POST /v1/traces HTTP/1.1\r\nContent-Type: application/x-protobuf", body).0
}

/// Every port of a configuration with one `otlp` receiver, moved to one that is free.
pub const FREE_PORTS: [&str; 4] = [
    "--set=receivers.otlp.protocols.grpc.endpoint=127.0.0.1:0",
    "--set=receivers.otlp.protocols.http.endpoint=127.0.0.1:0",
    "--set=extensions.health_check.endpoint=127.0.0.1:0",
    "--set=service.telemetry.metrics.readers=[{pull: {exporter: {prometheus: {host: 127.0.0.1, port: 0}}}}]",
];

/// A configuration on free ports; `exporters` and `pipeline` are YAML.
pub fn config(exporters: &str, pipeline: &str) -> String {
    format!(
        "{{extensions: {{health_check: {{endpoint: \"127.0.0.1:0\"}}}}, \
          receivers: {{otlp: {{protocols: {{grpc: {{endpoint: \"127.0.0.1:0\"}}, http: {{endpoint: \"127.0.0.1:0\"}}}}}}}}, \
          processors: {{mask: {{}}, mask/off: {{enabled: false}}, identity: {{}}}}, \
          exporters: {{{exporters}}}, \
          service: {{extensions: [health_check], \
            telemetry: {{metrics: {{readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: 0}}}}}}}}]}}}}, \
            pipelines: {{traces: {pipeline}}}}}}}"
    )
}
