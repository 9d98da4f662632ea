//! What the binary says about itself: metrics that stay bounded whatever clients send, pages, levels, and a log without
//! payload.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/binary.rs"]
mod binary;
mod support;

use binary::{Gateway, http, output};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{Status, span::Event, status::StatusCode},
};
use prost::Message;
use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};
use support::{request, resource_spans, span, string, token};

/// The bound that operators are promised.
const MAX_SCRAPE: usize = 1 << 20;

fn config(level: &str, logs: &str, extensions: &str, exporters: &str) -> String {
    let names = ["health_check", "zpages", "pprof"].into_iter().filter(|name| extensions.contains(name));
    let names: Vec<&str> = names.collect();
    let ids: Vec<&str> = exporters.split(", ").map(|exporter| exporter.split(':').next().unwrap()).collect();
    let pipelines = ["traces", "logs"].map(|signal| {
        format!("{signal}: {{receivers: [otlp], processors: [identity, mask], exporters: [{}]}}", ids[0])
    });
    format!(
        "{{extensions: {{{extensions}}}, \
          receivers: {{otlp: {{protocols: {{grpc: {{endpoint: \"127.0.0.1:0\"}}, http: {{endpoint: \"127.0.0.1:0\"}}}}}}}}, \
          processors: {{identity: {{}}, mask: {{}}}}, exporters: {{{exporters}}}, \
          service: {{extensions: [{}], \
            telemetry: {{logs: {{{logs}}}, metrics: {{level: {level}, readers: \
              [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: 0}}}}}}}}]}}}}, pipelines: {{{}}}}}}}",
        names.join(", "),
        pipelines.join(", ")
    )
}

fn scrape(gateway: &Gateway) -> String {
    http(gateway.address("metrics"), "GET /metrics HTTP/1.1", b"").1
}

/// Series without their values.
fn series(scrape: &str) -> BTreeSet<&str> {
    scrape.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap().0).collect()
}

fn post(gateway: &Gateway, headers: &str, body: &[u8]) -> u16 {
    let head = format!("POST /v1/traces HTTP/1.1\r\nContent-Type: application/x-protobuf{headers}");
    http(gateway.address("http"), &head, body).0
}

/// A hundred thousand services, tenants and span names make no series and no byte of difference in names: the labels
/// are the configuration's. So would a million.
#[test]
fn metrics_do_not_grow_with_what_clients_send() {
    let gateway = Gateway::start(&config("detailed", "", "", "nop:"));
    let body = |from: u32, to: u32| {
        let resources = (from..to).map(|n| {
            let attributes = vec![
                string("service.name", &format!("service-{n}")),
                string("tenant.id", &format!("tenant-{n}")),
                string(&format!("tracegate.rule-{n}"), &format!("[MASKED:rule-{n}]")),
            ];
            resource_spans(attributes, vec![span(1, &format!("span-{n}"), vec![])])
        });
        ExportTraceServiceRequest { resource_spans: resources.collect() }.encode_to_vec()
    };
    assert_eq!(post(&gateway, "", &body(0, 1)), 200);
    let before = scrape(&gateway);
    for n in 0..20 {
        let tenant = format!("\r\nX-Scope-OrgID: tenant-{n}\r\nUser-Agent: agent-{n}");
        assert_eq!(post(&gateway, &tenant, &body(n * 5000, (n + 1) * 5000)), 200);
    }
    let after = scrape(&gateway);
    assert!(
        after.contains("otelcol_receiver_accepted_spans{receiver=\"otlp\",transport=\"http\"} 100001\n"),
        "{after}"
    );
    let new: Vec<&str> = series(&after).difference(&series(&before)).copied().collect();
    assert!(new.is_empty(), "{new:?}");
    assert!(after.len() < MAX_SCRAPE / 4, "{} bytes", after.len());
    for foreign in ["service-7", "tenant-7", "agent-", "rule-7", "span-7"] {
        assert!(!after.contains(foreign), "{foreign}");
    }
    gateway.stop();
}

#[test]
fn levels_decide_what_is_there() {
    let names = |level: &str| {
        let gateway = Gateway::start(&config(level, "", "", "nop:"));
        assert_eq!(post(&gateway, "", &request(vec![span(1, "one", vec![])]).encode_to_vec()), 200);
        let scrape = scrape(&gateway);
        gateway.stop();
        scrape
    };
    let (basic, normal, detailed) = (names("basic"), names("normal"), names("detailed"));
    for (name, levels) in [
        ("otelcol_receiver_accepted_spans{", [true, true, true]),
        ("otelcol_exporter_sent_spans{", [true, true, true]),
        ("otelcol_process_runtime_heap_alloc_bytes ", [true, true, true]),
        ("otelcol_receiver_requests{", [false, true, true]),
        ("otelcol_processor_incoming_items{", [false, true, true]),
        ("tracegate_stage_duration_count{", [false, true, true]),
        ("otelcol_processor_internal_duration_count{", [false, false, true]),
        ("otelcol_exporter_enqueue_size_bytes_count{", [false, false, true]),
    ] {
        assert_eq!([&basic, &normal, &detailed].map(|scrape| scrape.contains(name)), levels, "{name}");
    }
    let refused = config("normal", "", "", "nop:").replace("readers: ", "readers: [], x: ");
    let error = output(&["validate", "--config", &format!("yaml:{refused}")], b"").stderr;
    assert!(error.contains("'metrics' has invalid keys: x"), "{error}");
    let none = config("normal", "", "", "nop:");
    let none = none.replace("[{pull: {exporter: {prometheus: {host: 127.0.0.1, port: 0}}}}]", "[]");
    let error = output(&["validate", "--config", &format!("yaml:{none}")], b"").stderr;
    assert!(error.contains("collector telemetry metrics reader should exist when metric level is not none"), "{error}");
}

/// One exchange as an old client or a shell script has it.
fn http_1_0(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn pages_probes_and_scrapes_answer_http_1_0_and_pprof_is_accepted_with_a_warning() {
    let extensions = "health_check: {endpoint: \"127.0.0.1:0\"}, zpages: {endpoint: \"127.0.0.1:0\"}, \
        pprof: {endpoint: \"127.0.0.1:0\", save_to_file: /nowhere/cpu.prof}";
    let gateway = Gateway::start(&config("normal", "", extensions, "nop:"));
    let warning = gateway.seen.iter().find(|line| line.contains("extensions::pprof")).cloned();
    assert!(warning.is_some_and(|line| line.contains("\twarn\t") && line.contains("no effect")), "{:?}", gateway.seen);
    for (port, path, want) in [
        ("health", "/", "Server available"),
        ("metrics", "/metrics", "otelcol_process_uptime "),
        ("zpages", "/debug/pipelinez", "<td>traces</td><td>yes</td><td>otlp</td><td>identity, mask</td><td>nop</td>"),
        ("zpages", "/debug/servicez", "<td>Status</td><td>ready</td>"),
        ("zpages", "/debug/extensionz", "<td>pprof</td>"),
        ("zpages", "/debug/featurez", "none"),
        ("zpages", "/debug/tracez", "no spans of its own"),
    ] {
        let answer = http_1_0(gateway.address(port), path);
        assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.contains(want), "{port}{path}: {answer}");
    }
    assert!(gateway.stop().0.success());
}

#[test]
fn an_idle_client_of_a_small_port_keeps_nobody_out() {
    let gateway = Gateway::start(&config("normal", "", "health_check: {endpoint: \"127.0.0.1:0\"}", "nop:"));
    let silent: Vec<TcpStream> = (0..60).map(|_| TcpStream::connect(gateway.address("health")).unwrap()).collect();
    assert!(http_1_0(gateway.address("health"), "/").contains("Server available"));
    drop(silent);
    assert!(gateway.stop().0.success());
}

/// Secrets in every place of a request, in headers, in requests that are refused, with a backend that is away: nothing
/// of them is in the log at its most talkative.
#[test]
fn the_log_at_debug_level_holds_no_payload() {
    const PLANTED: &str = "planted-payload-text";
    let secret = token();
    let everywhere = format!("{PLANTED} {secret}");
    let exporter = "otlp_http: {endpoint: \"http://127.0.0.1:9\", retry_on_failure: {initial_interval: 1ms, \
        max_interval: 2ms, max_elapsed_time: 5ms}}";
    for encoding in ["console", "json"] {
        let logs = format!("level: debug, encoding: {encoding}, sampling: {{enabled: false}}");
        let config = config("detailed", &logs, "", exporter);
        let mut gateway = match encoding {
            "console" => Gateway::start(&config),
            _ => Gateway::spawn(&["--config", &format!("yaml:{config}")]),
        };
        let addresses = gateway.seen.last().unwrap().clone();
        let fields: serde_json::Value = serde_json::from_str(addresses.rsplit('\t').next().unwrap()).unwrap();
        let address: SocketAddr = fields["http"].as_str().unwrap().parse().unwrap();
        let mut one = span(1, &everywhere, vec![string(&everywhere, &everywhere)]);
        one.trace_state = everywhere.clone();
        one.status = Some(Status { message: everywhere.clone(), code: StatusCode::Error.into() });
        one.events = vec![Event { name: everywhere.clone(), ..Default::default() }];
        let good = request(vec![one]).encode_to_vec();
        let broken = [&good[..good.len() - 3], b"\xff\xff\xff"].concat();
        let head = |path: &str, kind: &str, more: &str| {
            format!(
                "POST {path} HTTP/1.1\r\nContent-Type: {kind}\r\nAuthorization: Bearer {secret}\r\nX-Note: {PLANTED}{more}"
            )
        };
        let protobuf = "application/x-protobuf";
        for (head, body, status) in [
            (head("/v1/traces", protobuf, ""), good.clone(), 200),
            (head("/v1/traces", protobuf, ""), broken, 400),
            (head("/v1/traces", protobuf, "\r\nContent-Encoding: gzip"), good.clone(), 400),
            (head("/v1/traces", "application/json", ""), format!("{{\"{everywhere}\": [").into_bytes(), 400),
            (head("/v1/traces", "application/json", ""), everywhere.clone().into_bytes(), 400),
            (head(&format!("/v1/traces?{PLANTED}={secret}"), &format!("text/{PLANTED}"), ""), good.clone(), 415),
            (head(&format!("/{PLANTED}/{secret}"), protobuf, ""), good.clone(), 404),
        ] {
            assert_eq!(http(address, &head, &body).0, status, "{head}");
        }
        // The backend is away: what was taken is given up, and the log says so.
        gateway.wait_for("dropping data");
        let (_, log) = gateway.stop();
        let log = log.join("\n");
        assert!(log.contains("debug") && log.contains("request rejected"), "{log}");
        for text in [PLANTED, &secret[4..16]] {
            assert!(!log.contains(text), "{log}");
        }
    }
}

/// `readers: [{periodic: …}]`: this process's own metrics arrive at a backend, here another gateway that writes them.
#[test]
fn own_metrics_are_pushed_over_grpc_and_over_http() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metrics.jsonl");
    let backend = format!(
        "{{receivers: {{otlp: {{protocols: {{grpc: {{endpoint: \"127.0.0.1:0\"}}, http: {{endpoint: \"127.0.0.1:0\"}}}}}}}}, \
          exporters: {{file: {{path: {path:?}}}}}, \
          service: {{telemetry: {{metrics: {{level: none}}}}, \
            pipelines: {{metrics: {{receivers: [otlp], exporters: [file]}}}}}}}}"
    );
    let backend = Gateway::start(&backend);
    let reader = |name: &str, protocol: &str, endpoint: String| {
        let front = format!(
            "{{receivers: {{otlp: {{protocols: {{http: {{endpoint: \"127.0.0.1:0\"}}}}}}}}, exporters: {{nop: {{}}}}, \
              service: {{telemetry: {{resource: {{service.name: {name}}}, metrics: {{readers: [{{periodic: \
                  {{interval: 60000, exporter: {{otlp: {{protocol: {protocol}, endpoint: \"{endpoint}\", insecure: true}}}}}}}}]}}}}, \
                pipelines: {{traces: {{receivers: [otlp], exporters: [nop]}}}}}}}}"
        );
        let gateway = Gateway::start(&front);
        let spans = request(vec![span(1, "one", vec![]), span(2, "two", vec![])]);
        assert_eq!(post(&gateway, "", &spans.encode_to_vec()), 200);
        // The last request goes out when it stops.
        assert!(gateway.stop().0.success());
    };
    reader("over-grpc", "grpc", backend.address("grpc").to_string());
    reader("over-http", "http/protobuf", format!("http://{}", backend.address("http")));
    assert!(backend.stop().0.success());

    let written = std::fs::read_to_string(path).unwrap();
    for (name, line) in ["over-grpc", "over-http"].into_iter().zip(written.lines()) {
        let request: serde_json::Value = serde_json::from_str(line).unwrap();
        let resource = &request["resourceMetrics"][0];
        assert!(resource["resource"].to_string().contains(name), "{line}");
        let metrics = resource["scopeMetrics"][0]["metrics"].as_array().unwrap();
        let accepted = metrics.iter().find(|metric| metric["name"] == "otelcol_receiver_accepted_spans").unwrap();
        let points = accepted["sum"]["dataPoints"].as_array().unwrap();
        assert!(points.iter().any(|point| point["asInt"] == "2"), "{accepted}");
        assert!(metrics.iter().any(|metric| metric["name"] == "tracegate_mask_findings"), "{line}");
    }
    assert_eq!(written.lines().count(), 2);
}
