//! SIGHUP: another configuration while requests come in.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/binary.rs"]
mod binary;
mod support;

use binary::{Gateway, http};
use prost::Message;
use std::{
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use support::{request, span};
use tempfile::TempDir;

const IN_FORCE: &str = "The new configuration is in force.";
const KEPT: &str = "the one before stays in force";

/// A gateway over a configuration file that tests change.
struct Reloaded {
    directory: TempDir,
    gateway: Gateway,
}

impl Reloaded {
    fn start(config: &str) -> Reloaded {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.yaml");
        fs::write(&path, config.replace("DIR", directory.path().to_str().unwrap())).unwrap();
        let gateway = Gateway::spawn(&["--config", path.to_str().unwrap()]);
        Reloaded { directory, gateway }
    }

    /// Writes another configuration, asks for it, and waits for the line that says what came of it.
    fn reload(&mut self, config: &str, line: &str) -> String {
        let path = self.directory.path().join("config.yaml");
        fs::write(path, config.replace("DIR", self.directory.path().to_str().unwrap())).unwrap();
        self.hangup();
        self.gateway.wait_for(line)
    }

    fn hangup(&self) {
        let sent = Command::new("kill").args(["-HUP", &self.gateway.process.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    fn post(&self, path: &str, name: &str) -> u16 {
        post(self.gateway.address("http"), path, name)
    }

    /// Stops it, and reads what an exporter wrote.
    fn stop(self, files: &[&str]) -> Vec<String> {
        let (status, log) = self.gateway.stop();
        assert!(status.success(), "{}", log.join("\n"));
        files.iter().map(|file| read(&self.directory.path().join(file))).collect()
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn post(address: std::net::SocketAddr, path: &str, name: &str) -> u16 {
    let head = format!("POST {path} HTTP/1.1\r\nContent-Type: application/x-protobuf");
    http(address, &head, &request(vec![span(1, name, vec![])]).encode_to_vec()).0
}

/// `receiver` goes into `protocols.http`, `file` names what the exporter writes.
fn config(receiver: &str, file: &str) -> String {
    format!(
        "receivers: {{otlp: {{protocols: {{http: {{endpoint: \"127.0.0.1:0\"{receiver}}}}}}}}}\n\
         exporters: {{file: {{path: DIR/{file}}}}}\n\
         service: {{telemetry: {{metrics: {{readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: 0}}}}}}}}]}}}}, \
           pipelines: {{traces: {{receivers: [otlp], exporters: [file]}}}}}}\n"
    )
}

#[test]
fn another_exporter_takes_over_and_the_port_stays() {
    let mut running = Reloaded::start(&config("", "one.jsonl"));
    assert_eq!(running.post("/v1/traces", "before"), 200);
    let line = running.reload(&config("", "two.jsonl"), IN_FORCE);
    assert!(line.contains(&running.gateway.address("http").to_string()), "{line}");
    assert_eq!(running.post("/v1/traces", "after"), 200);
    let metrics = http(running.gateway.address("metrics"), "GET /metrics HTTP/1.1", b"").1;
    assert!(metrics.contains("tracegate_config_reloads{outcome=\"success\"} 1"), "{metrics}");
    let written = running.stop(&["one.jsonl", "two.jsonl"]);
    assert!(written[0].contains("before") && !written[0].contains("after"), "{written:?}");
    assert!(written[1].contains("after") && !written[1].contains("before"), "{written:?}");
}

#[test]
fn a_changed_receiver_keeps_its_port() {
    let mut running = Reloaded::start(&config("", "out.jsonl"));
    let before = running.gateway.address("http");
    let line = running.reload(&config(", traces_url_path: /otel/v1/traces", "out.jsonl"), IN_FORCE);
    assert!(line.contains(&before.to_string()), "{line}");
    assert_eq!(running.post("/otel/v1/traces", "moved"), 200);
    assert_eq!(running.post("/v1/traces", "gone"), 404);
    let written = running.stop(&["out.jsonl"]);
    assert!(written[0].contains("moved") && !written[0].contains("gone"), "{written:?}");
}

#[test]
fn a_wrong_configuration_changes_nothing() {
    let mut running = Reloaded::start(&config("", "out.jsonl"));
    for wrong in ["exporters: [", "receivers: {nosuch: {}}", &config(", max_request_body_size: -1", "out.jsonl")] {
        let line = running.reload(wrong, KEPT);
        assert!(line.contains("\terror\t"), "{line}");
        assert_eq!(running.post("/v1/traces", "still"), 200);
    }
    // One that is right on paper and cannot start: the port is taken.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere = config("", "other.jsonl").replace("127.0.0.1:0", &taken.local_addr().unwrap().to_string());
    running.reload(&elsewhere, KEPT);
    assert_eq!(running.post("/v1/traces", "still"), 200);
    let metrics = http(running.gateway.address("metrics"), "GET /metrics HTTP/1.1", b"").1;
    assert!(metrics.contains("tracegate_config_reloads{outcome=\"failure\"} 4"), "{metrics}");
    let written = running.stop(&["out.jsonl", "other.jsonl"]);
    assert_eq!((written[0].matches("still").count(), written[1].as_str()), (4, ""));
}

/// Everything acknowledged while configurations change arrives once, whichever exporter it went to.
#[test]
fn nothing_is_lost_and_nobody_is_refused_while_it_reloads() {
    let mut running = Reloaded::start(&config("", "0.jsonl"));
    let address = running.gateway.address("http");
    let enough = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..2)
        .map(|client| {
            let enough = enough.clone();
            std::thread::spawn(move || {
                let mut sent = Vec::new();
                while !enough.load(Ordering::Relaxed) {
                    let name = format!("span-{client}-{}-end", sent.len());
                    assert_eq!(post(address, "/v1/traces", &name), 200);
                    sent.push(name);
                }
                sent
            })
        })
        .collect();
    for round in 0..6 {
        let receiver = if round % 2 == 0 { ", max_request_body_size: 1000000" } else { "" };
        running.reload(&config(receiver, &format!("{}.jsonl", round + 1)), IN_FORCE);
    }
    enough.store(true, Ordering::Relaxed);
    let sent: Vec<String> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    let written = running.stop(&["0.jsonl", "1.jsonl", "2.jsonl", "3.jsonl", "4.jsonl", "5.jsonl", "6.jsonl"]).concat();
    for name in &sent {
        assert_eq!(written.matches(name.as_str()).count(), 1, "{name}");
    }
}

#[test]
fn a_reload_that_reads_a_pipe_nobody_writes_to_does_not_hold_up_the_stop() {
    let mut reloaded = Reloaded::start(&config("", "a.json"));
    let path = reloaded.directory.path().join("config.yaml");
    fs::remove_file(&path).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    reloaded.hangup();
    reloaded.gateway.wait_for("reading the configuration again");
    let (status, log) = reloaded.gateway.stop();
    assert!(status.success(), "{}", log.join("\n"));
}

#[test]
fn queues_of_replaced_exporters_do_not_add_up() {
    // Takes connections, and answers none.
    let backend = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let to = |seconds: u32| {
        let exporter =
            format!("otlp_http: {{endpoint: \"http://{}\", timeout: {seconds}s}}", backend.local_addr().unwrap());
        config("", "x").replace("file: {path: DIR/x}", &exporter).replace("[file]", "[otlp_http]")
    };
    let mut reloaded = Reloaded::start(&to(60));
    for seconds in [61, 62] {
        assert_eq!(reloaded.post("/v1/traces", "waits"), 200);
        reloaded.reload(&to(seconds), IN_FORCE);
    }
    assert_eq!(reloaded.post("/v1/traces", "waits"), 200);
    reloaded.reload(&to(63), "waits until what earlier ones replaced");
    // Stopping does not wait for the reload; told twice, for nothing at all.
    let id = reloaded.gateway.process.id().to_string();
    assert!(Command::new("kill").arg(id).status().unwrap().success());
    reloaded.gateway.wait_for("stopping: no new requests");
    let (status, log) = reloaded.gateway.stop();
    assert!(status.success(), "{}", log.join("\n"));
}
