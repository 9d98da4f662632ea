//! Everything a person reads that may hold foreign text, with the whole corpus of attacks: what the binary prints, logs
//! and answers. Places that only units reach (pages, labels, log fields, the demo's report) have this test beside them.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/attacks.rs"]
mod attacks;
#[path = "support/binary.rs"]
mod binary;
mod support;

use attacks::assert_harmless;
use binary::{Gateway, output};
use opentelemetry_proto::tonic::{
    collector::{logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest},
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data},
    resource::v1::Resource,
    trace::v1::{
        Status,
        span::{Event, Link},
        status::StatusCode,
    },
};
use prost::Message;
use serde_json::json;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};
use support::{request, span, string, token};

fn config(exporters: &str, exporter: &str) -> String {
    let pipelines = ["traces", "logs", "metrics"]
        .map(|signal| format!("{signal}: {{receivers: [otlp], processors: [mask/off], exporters: [{exporter}]}}"));
    format!(
        "{{receivers: {{otlp: {{protocols: {{grpc: {{endpoint: \"127.0.0.1:0\"}}, http: {{endpoint: \"127.0.0.1:0\"}}}}}}}}, \
          processors: {{mask/off: {{enabled: false}}}}, exporters: {{{exporters}}}, \
          service: {{telemetry: {{logs: {{level: debug, sampling: {{enabled: false}}}}, metrics: {{level: none}}}}, \
            pipelines: {{{}}}}}}}",
        pipelines.join(", ")
    )
}

/// One exchange in bytes: the head's lines as they are, then the whole answer.
fn exchange(address: SocketAddr, head: &[u8], body: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut request = head.to_vec();
    let rest = format!("\r\nHost: test\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    request.extend_from_slice(rest.as_bytes());
    request.extend_from_slice(body);
    // A server that has refused the head may have closed by now.
    let _closed = stream.write_all(&request);
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer);
    answer
}

fn value(text: &str) -> Option<AnyValue> {
    let nested = KeyValueList { values: vec![string(text, text)] };
    let values = [Value::StringValue(text.into()), Value::KvlistValue(nested), Value::BytesValue(text.into())];
    let values = values.into_iter().map(|value| AnyValue { value: Some(value) }).collect();
    Some(AnyValue { value: Some(Value::ArrayValue(ArrayValue { values })) })
}

fn attribute(text: &str) -> KeyValue {
    KeyValue { key: text.into(), value: value(text), ..Default::default() }
}

fn resource(text: &str) -> Option<Resource> {
    Some(Resource { attributes: vec![attribute(text), string("service.name", text)], ..Default::default() })
}

fn scope(text: &str) -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: text.into(),
        version: text.into(),
        attributes: vec![attribute(text)],
        ..Default::default()
    })
}

/// A text in every place that takes one: traces, logs, metrics.
fn requests(text: &str) -> [(&'static str, Vec<u8>); 3] {
    let mut one = span(1, text, vec![attribute(text), string(text, text)]);
    one.trace_state = text.into();
    one.status = Some(Status { message: text.into(), code: StatusCode::Error.into() });
    one.events = vec![Event { name: text.into(), attributes: vec![attribute(text)], ..Default::default() }];
    one.links = vec![Link { trace_state: text.into(), attributes: vec![attribute(text)], ..Default::default() }];
    let mut traces = request(vec![one]);
    let spans = &mut traces.resource_spans[0];
    (spans.resource, spans.schema_url) = (resource(text), text.into());
    (spans.scope_spans[0].scope, spans.scope_spans[0].schema_url) = (scope(text), text.into());

    let record = LogRecord {
        severity_text: text.into(),
        body: value(text),
        attributes: vec![attribute(text)],
        event_name: text.into(),
        ..Default::default()
    };
    let scope_logs = ScopeLogs { scope: scope(text), log_records: vec![record], schema_url: text.into() };
    let logs = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: resource(text),
            scope_logs: vec![scope_logs],
            schema_url: text.into(),
        }],
    };

    let point = NumberDataPoint { attributes: vec![attribute(text)], ..Default::default() };
    let metric = Metric {
        name: text.into(),
        description: text.into(),
        unit: text.into(),
        metadata: vec![attribute(text)],
        data: Some(Data::Gauge(Gauge { data_points: vec![point] })),
    };
    let scope_metrics = ScopeMetrics { scope: scope(text), metrics: vec![metric], schema_url: text.into() };
    let metrics = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: resource(text),
            scope_metrics: vec![scope_metrics],
            schema_url: text.into(),
        }],
    };
    [
        ("/v1/traces", traces.encode_to_vec()),
        ("/v1/logs", logs.encode_to_vec()),
        ("/v1/metrics", metrics.encode_to_vec()),
    ]
}

fn head(path: &str, content_type: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nContent-Type: {content_type}").into_bytes()
}

/// Every line a gateway wrote, its own tabs aside.
fn assert_lines_harmless(lines: &[String]) {
    lines.iter().for_each(|line| assert_harmless(line, &['\t']));
}

#[test]
fn the_debug_exporter_prints_no_attack() {
    for (verbosity, title) in [("normal", "Traces\t{"), ("detailed", "Span #0")] {
        let debug = format!("debug: {{verbosity: {verbosity}}}");
        let gateway = Gateway::start(&config(&debug, "debug"));
        let attacks = attacks::all();
        for attack in &attacks {
            for (path, body) in requests(attack) {
                let answer = exchange(gateway.address("http"), &head(path, "application/x-protobuf"), &body);
                assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
            }
        }
        let (status, lines) = gateway.stop();
        assert!(status.success());
        assert_lines_harmless(&lines);
        // Every span was printed, and no text made a line that looks like another one.
        let titles = lines.iter().filter(|line| line.starts_with(title)).count();
        assert_eq!(titles, attacks.len(), "{verbosity}");
        if verbosity == "normal" {
            assert!(lines.iter().all(|line| line.chars().count() < 4000), "an overlong line");
        }
    }
}

#[test]
fn answers_to_bad_requests_and_their_log_lines_hold_no_attack() {
    let gateway = Gateway::start(&config("nop:", "nop"));
    let address = gateway.address("http");
    for attack in attacks::all() {
        let fits_a_head = !attack.contains(['\r', '\n', '\0', ' ']) && attack.len() < 2000;
        let text = serde_json::Value::from(attack.as_str());
        let json = head("/v1/traces", "application/json");
        let mut asked = vec![
            (json.clone(), attack.clone().into_bytes()),
            (json.clone(), format!("{{{text}: [}}").into_bytes()),
            (json.clone(), format!("{{\"resourceSpans\": {text}}}").into_bytes()),
            (json.clone(), json!({"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": attack}]}]}]}).to_string().into()),
            (json.clone(), json!({"resourceSpans": [{"resource": {"attributes": [{"key": attack, "value": {"intValue": attack}}]}}]}).to_string().into()),
            (head("/v1/traces", "application/x-protobuf"), attack.clone().into_bytes()),
        ];
        if fits_a_head {
            let mut with = |name: &str| {
                let mut head = json.clone();
                head.extend_from_slice(format!("\r\n{name}: {attack}").as_bytes());
                asked.push((head, b"{}".to_vec()));
            };
            with("Content-Encoding");
            with("User-Agent");
            asked.push((head("/v1/traces", &attack), b"{}".to_vec()));
            asked.push((format!("POST /{attack} HTTP/1.1").into_bytes(), b"{}".to_vec()));
            asked.push((format!("{attack} /v1/traces HTTP/1.1").into_bytes(), b"{}".to_vec()));
        }
        for (head, body) in asked {
            let answer = exchange(address, &head, &body);
            let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let (head, body) = answer.split_at(end + 4);
            assert_harmless(std::str::from_utf8(head).unwrap(), &['\r', '\n']);
            if head.windows(22).any(|window| window == b"application/x-protobuf") {
                let status = tonic_types::Status::decode(body).unwrap();
                assert_harmless(&status.message, &[]);
            } else {
                assert_harmless(std::str::from_utf8(body).unwrap(), &['\n']);
            }
            let whole = String::from_utf8_lossy(&answer).into_owned();
            assert!(attack.len() < 12 || !whole.contains(&attack), "echoed: {whole}");
        }
    }
    let (status, lines) = gateway.stop();
    assert!(status.success());
    assert_lines_harmless(&lines);
}

/// Answers requests on a port of its own with these answers, one each.
fn backend(answers: Vec<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answers = Arc::new(Mutex::new(answers));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let answers = answers.clone();
            // A client may open connections ahead of its requests.
            thread::spawn(move || answer_one(stream.unwrap(), &answers));
        }
    });
    address
}

fn answer_one(stream: TcpStream, answers: &Mutex<Vec<Vec<u8>>>) {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        line.clear();
    }
    let mut body = vec![0; length];
    if length > 0 && reader.read_exact(&mut body).is_ok() {
        let answer = answers.lock().unwrap().pop();
        let _ = reader.into_inner().write_all(&answer.unwrap_or_default());
    }
}

#[test]
fn what_a_backend_says_is_not_repeated_in_the_log() {
    const PLANTED: &str = "said-by-the-backend";
    let mut answers = Vec::new();
    for attack in attacks::all() {
        let text = format!("{PLANTED} {attack}");
        for (status, body) in [
            ("400 Bad Request", json!({"code": 3, "message": text})),
            ("200 OK", json!({"partialSuccess": {"rejectedSpans": "1", "errorMessage": text}})),
            ("200 OK", json!({ text.clone(): text })),
            ("503 Service Unavailable", json!([text])),
        ] {
            let body = body.to_string();
            let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close");
            answers.push(format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes());
        }
        let plain = text.replace(['\r', '\n', '\0'], "");
        if plain.len() < 2000 {
            answers.push(
                format!("HTTP/1.1 500 {plain}\r\nServer: {plain}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                    .into_bytes(),
            );
            answers.push(format!("{plain}\r\n\r\n").into_bytes());
        }
    }
    let count = answers.len();
    let exporter = format!(
        "otlp_http: {{endpoint: \"http://{}\", compression: none, retry_on_failure: {{enabled: false}}, \
          sending_queue: {{num_consumers: 1}}}}",
        backend(answers)
    );
    let gateway = Gateway::start(&config(&exporter, "otlp_http"));
    let body = request(vec![span(1, "one", vec![])]).encode_to_vec();
    for _ in 0..count {
        let answer = exchange(gateway.address("http"), &head("/v1/traces", "application/x-protobuf"), &body);
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    }
    let (status, lines) = gateway.stop();
    assert!(status.success());
    assert_lines_harmless(&lines);
    assert!(lines.iter().any(|line| line.contains("dropping data")), "the failures are in the log: {lines:?}");
    assert!(!lines.iter().any(|line| line.contains(PLANTED)), "{lines:?}");
}

#[test]
fn errors_of_a_configuration_are_one_harmless_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    for attack in attacks::all() {
        let text = serde_json::Value::from(attack.as_str());
        for yaml in [
            format!("{{{text}: 1}}"),
            format!("{{receivers: {{{text}: }}, exporters: {{nop: }}, service: {{}}}}"),
            format!(
                "{{receivers: {{otlp: {{protocols: {{grpc: {{{text}: {text}}}}}}}}}, exporters: {{debug: {{verbosity: {text}}}}}, \
                service: {{pipelines: {{traces: {{receivers: [otlp], exporters: [debug]}}}}}}}}"
            ),
            format!(
                "{{receivers: {{otlp: {{protocols: {{grpc: }}}}}}, exporters: {{debug: {{verbosity: {text}}}}}, \
                service: {{pipelines: {{traces: {{receivers: [{text}], exporters: [debug]}}}}}}}}"
            ),
        ] {
            std::fs::write(&path, yaml).unwrap();
            let output = output(&["validate", "--config", path.to_str().unwrap()], b"");
            let error = output.stderr;
            assert_eq!(output.code, Some(1), "{attack:?}");
            assert!(error.starts_with("Error: ") && error.matches('\n').count() == 1, "{error:?}");
            assert_harmless(error.trim_end_matches('\n'), &[]);
        }
    }
}

#[test]
fn findings_name_fields_harmlessly_and_without_the_secrets_in_their_names() {
    let attacks = attacks::all();
    let mut rows = String::new();
    for attack in &attacks {
        rows += &format!("{}\n", json!({"text": {format!("{attack} {}", token()): [token()]}}));
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), rows).unwrap();
    let output = output(&["mask", "--jsonl-field", "text", "--findings", file.path().to_str().unwrap()], b"");
    assert!(output.code == Some(0), "{}", output.stderr);
    let text = output.stdout;
    assert_eq!(text.lines().count(), attacks.len());
    assert_harmless(&text, &['\n']);
    assert!(!text.contains(&token()));
    for line in text.lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(row["rule"], "github-pat");
    }
}

#[test]
fn a_configuration_printed_into_a_file_is_still_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    let attributes: serde_json::Map<String, serde_json::Value> = attacks::all()
        .into_iter()
        .filter(|it| it.len() < 2000)
        .enumerate()
        .map(|(n, it)| (format!("a{n}"), it.into()))
        .collect();
    let attributes = serde_json::Value::from(attributes);
    // YAML takes no noncharacters and few controls as they are.
    let mut yaml = String::new();
    for c in attributes.to_string().chars() {
        match u32::from(c) {
            code if code < 0x7f => yaml.push(c),
            code => yaml += &format!("\\U{code:08x}"),
        }
    }
    let pipelines = "{traces: {receivers: [otlp], processors: [identity], exporters: [nop]}}";
    let config = |attributes: &str| {
        format!(
            "{{receivers: {{otlp: {{protocols: {{grpc: }}}}}}, exporters: {{nop: }}, \
              processors: {{identity: {{attributes: {attributes}}}}}, service: {{pipelines: {pipelines}}}}}"
        )
    };
    std::fs::write(&path, config(&yaml.replace('$', "$$"))).unwrap();
    let print = || {
        let output = output(&["print-config", "--config", path.to_str().unwrap()], b"");
        assert!(output.code == Some(0), "{}", output.stderr);
        output.stdout
    };
    let printed = print();
    let read: serde_json::Value = serde_saphyr::from_str(&printed).unwrap();
    assert_eq!(read["processors"]["identity"]["attributes"], attributes);
}
