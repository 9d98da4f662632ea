//! Every configuration in `pipelines/` as a user starts it: it loads, it starts, and a request that goes in comes out
//! masked at the backend it names.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/binary.rs"]
mod binary;
mod support;

use binary::{FREE_PORTS, Gateway, http, project_file, project_text, run};
use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener},
    sync::mpsc,
    thread,
};
use support::{request, span, string, token};

/// The files, without the default, which `tests/service.rs` runs.
const FILES: [&str; 6] = [
    "behind-collector.yaml",
    "fan-out.yaml",
    "in-front-of-collector.yaml",
    "mask-only.yaml",
    "to-langfuse.yaml",
    "to-phoenix.yaml",
];

/// What an HTTP backend was sent.
struct Posted {
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// A backend that takes OTLP over HTTP and remembers it.
fn http_backend() -> (SocketAddr, mpsc::Receiver<Posted>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (send, posted) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            let mut headers = BTreeMap::new();
            loop {
                line.clear();
                stream.read_line(&mut line).unwrap();
                let Some((name, value)) = line.trim().split_once(": ") else { break };
                headers.insert(name.to_ascii_lowercase(), value.to_owned());
            }
            let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
            stream.read_exact(&mut body).unwrap();
            if headers.get("content-encoding").is_some_and(|coding| coding == "gzip") {
                let mut plain = Vec::new();
                GzDecoder::new(&body[..]).read_to_end(&mut plain).unwrap();
                body = plain;
            }
            let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\
                          Connection: close\r\n\r\n";
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
            let _ = send.send(Posted { path, headers, body });
        }
    });
    (address, posted)
}

/// A backend that takes OTLP over gRPC: tracegate itself, printing every span, without masking.
fn grpc_backend() -> Gateway {
    let config = "yaml:{receivers: {otlp: {protocols: {grpc: {endpoint: \"127.0.0.1:0\"}}}}, \
                  processors: {mask: {enabled: false}}, exporters: {debug: {verbosity: detailed}}, \
                  service: {telemetry: {metrics: {level: none}}, \
                  pipelines: {traces: {receivers: [otlp], processors: [mask], exporters: [debug]}}}}";
    Gateway::spawn(&["--config", config])
}

fn planted() -> ExportTraceServiceRequest {
    request(vec![span(1, "pipelines-test", vec![string("key", &token())])])
}

/// The file as it stands, with its ports moved to free ones; one that has no HTTP receiver gets one, to be fed by.
fn start<'a>(file: &str, variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Gateway {
    let path = project_file(&format!("pipelines/{file}"));
    let gateway = Gateway::spawn_with(&[&["--config", &path][..], &FREE_PORTS].concat(), variables);
    let warnings: Vec<&String> = gateway.seen.iter().filter(|line| line.contains("\twarn\t")).collect();
    let only_of_this_test = |line: &&&String| line.contains("extensions::health_check: configured but not listed");
    assert_eq!(warnings.iter().filter(|line| !only_of_this_test(line)).count(), 0, "{file}: {warnings:?}");
    gateway
}

/// Sends the planted request, with credentials that are the agent's own.
fn feed(gateway: &Gateway) {
    let head = "POST /v1/traces HTTP/1.1\r\nContent-Type: application/x-protobuf\r\nAuthorization: Bearer agents-own";
    assert_eq!(http(gateway.address("http"), head, &planted().encode_to_vec()).0, 200);
}

fn assert_masked(posted: &Posted) {
    let request = ExportTraceServiceRequest::decode(&posted.body[..]).unwrap();
    let spans = &request.resource_spans[0].scope_spans[0].spans;
    assert_eq!((spans.len(), spans[0].name.as_str()), (1, "pipelines-test"));
    let text = String::from_utf8_lossy(&posted.body);
    assert!(text.contains("[MASKED:github-pat]") && !text.contains(&token()), "{text}");
    assert!(posted.headers.values().all(|value| !value.contains("agents-own")), "{:?}", posted.headers);
}

/// Waits for the span at the gRPC backend.
fn assert_printed_masked(backend: &mut Gateway) {
    let line = backend.wait_for("MASKED:github-pat");
    assert!(!line.contains(&token()), "{line}");
}

#[test]
fn every_file_is_covered_here_and_in_the_readme() {
    let mut there: Vec<String> = std::fs::read_dir(project_file("pipelines"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yaml") && name != "default.yaml")
        .collect();
    there.sort();
    assert_eq!(there, FILES);
    let readme = project_text("pipelines/README.md");
    for file in FILES.iter().chain(&["default.yaml"]) {
        assert!(readme.contains(&format!("]({file})")), "pipelines/README.md does not explain {file}");
    }
}

#[test]
fn they_load_as_they_stand() {
    for file in FILES {
        let variables: &[(&str, &str)] = match file {
            "behind-collector.yaml" => &[("BACKEND_ENDPOINT", "tempo.example.org:4317")],
            "to-langfuse.yaml" => &[("LANGFUSE_AUTH", "cGs6c2s=")],
            _ => &[],
        };
        let ended =
            run(&["validate", "--config", &project_file(&format!("pipelines/{file}"))], variables.iter().copied());
        assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "", ""), "{file}: {ended:?}");
    }
}

#[test]
fn a_backend_that_is_not_named_is_asked_for() {
    let ended = run(&["validate", "--config", &project_file("pipelines/behind-collector.yaml")], []);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("exporters::otlp_grpc/backend: requires a non-empty \"endpoint\""), "{ended:?}");
}

#[test]
fn requests_reach_a_grpc_backend_masked() {
    for (file, variable) in [
        ("mask-only.yaml", "BACKEND_ENDPOINT"),
        ("in-front-of-collector.yaml", "COLLECTOR_ENDPOINT"),
        ("behind-collector.yaml", "BACKEND_ENDPOINT"),
    ] {
        let mut backend = grpc_backend();
        // The scheme says plaintext where the file says TLS.
        let endpoint = format!("http://{}", backend.address("grpc"));
        let gateway = start(file, [(variable, endpoint.as_str())]);
        feed(&gateway);
        assert_printed_masked(&mut backend);
        let (status, log) = gateway.stop();
        let log = log.join("\n");
        assert!(status.success() && !log.contains(&token()), "{file}: {log}");
    }
}

#[test]
fn requests_reach_phoenix_masked() {
    let (backend, posted) = http_backend();
    let endpoint = format!("http://{backend}");
    let gateway = start("to-phoenix.yaml", [("PHOENIX_ENDPOINT", endpoint.as_str()), ("PHOENIX_API_KEY", "px-key")]);
    feed(&gateway);
    let posted = posted.recv().unwrap();
    assert_eq!(posted.path, "/v1/traces");
    assert_eq!(posted.headers["content-type"], "application/x-protobuf");
    assert_eq!(posted.headers["authorization"], "Bearer px-key");
    assert_masked(&posted);
    let (status, log) = gateway.stop();
    let log = log.join("\n");
    assert!(status.success() && !log.contains("px-key"), "{log}");
}

#[test]
fn requests_reach_langfuse_masked_and_with_its_keys() {
    let (backend, posted) = http_backend();
    let endpoint = format!("http://{backend}");
    let gateway =
        start("to-langfuse.yaml", [("LANGFUSE_HOST", endpoint.as_str()), ("LANGFUSE_AUTH", "cGstbGY6c2stbGY=")]);
    feed(&gateway);
    let posted = posted.recv().unwrap();
    assert_eq!(posted.path, "/api/public/otel/v1/traces");
    assert_eq!(posted.headers["authorization"], "Basic cGstbGY6c2stbGY=");
    assert_masked(&posted);
    let (status, log) = gateway.stop();
    let log = log.join("\n");
    assert!(status.success() && !log.contains("cGstbGY6c2stbGY="), "{log}");
}

/// The path of Langfuse's own endpoint can be taken over, as the file says.
#[test]
fn an_agent_set_up_for_langfuse_may_keep_its_path() {
    let (backend, posted) = http_backend();
    let endpoint = format!("http://{backend}");
    let path = project_file("pipelines/to-langfuse.yaml");
    let moved = "--set=receivers.otlp.protocols.http.traces_url_path=/api/public/otel/v1/traces";
    let args = [&["--config", &path, moved][..], &FREE_PORTS].concat();
    let gateway = Gateway::spawn_with(&args, [("LANGFUSE_HOST", endpoint.as_str()), ("LANGFUSE_AUTH", "x")]);
    let head = "POST /api/public/otel/v1/traces HTTP/1.1\r\nContent-Type: application/x-protobuf";
    assert_eq!(http(gateway.address("http"), head, &planted().encode_to_vec()).0, 200);
    assert_masked(&posted.recv().unwrap());
}

#[test]
fn both_backends_of_the_fan_out_get_the_request() {
    let mut a = grpc_backend();
    let (b, posted) = http_backend();
    let (a_endpoint, b_endpoint) = (a.address("grpc").to_string(), format!("http://{b}"));
    let gateway = start("fan-out.yaml", [("A_ENDPOINT", a_endpoint.as_str()), ("B_ENDPOINT", b_endpoint.as_str())]);
    feed(&gateway);
    assert_masked(&posted.recv().unwrap());
    assert_printed_masked(&mut a);
}

/// One backend that takes nothing does not keep the other from getting everything.
#[test]
fn a_dead_backend_of_the_fan_out_does_not_delay_the_other() {
    let mut a = grpc_backend();
    let dead = TcpListener::bind("127.0.0.1:0").unwrap();
    let (a_endpoint, b_endpoint) = (a.address("grpc").to_string(), format!("http://{}", dead.local_addr().unwrap()));
    let gateway = start("fan-out.yaml", [("A_ENDPOINT", a_endpoint.as_str()), ("B_ENDPOINT", b_endpoint.as_str())]);
    for _ in 0..3 {
        feed(&gateway);
        assert_printed_masked(&mut a);
    }
}
