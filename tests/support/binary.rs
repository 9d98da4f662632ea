//! The binary as tests drive it: started, waited for, asked, stopped; and everything it writes.

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

pub fn output(args: &[&str], input: &[u8]) -> Output {
    let mut process =
        tracegate(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    process.stdin.take().unwrap().write_all(input).unwrap();
    process.wait_with_output().unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
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

    pub fn spawn(args: &[&str]) -> Gateway {
        Gateway::launch(tracegate(args))
    }

    /// Starts a command made with [`tracegate`] and waits until it is ready.
    pub fn launch(mut command: Command) -> Gateway {
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
