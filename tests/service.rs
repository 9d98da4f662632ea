//! The binary as a user runs it: command line, configuration, ports, signals, and requests from one end to the other.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/binary.rs"]
mod binary;
mod support;

use binary::{Gateway, READY, config, http, output, output_bytes, tracegate};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use support::{encoded, request, span, string, token};

fn post(gateway: &Gateway, request: &ExportTraceServiceRequest) -> u16 {
    binary::post(gateway.address("http"), &request.encode_to_vec())
}

fn two_spans() -> ExportTraceServiceRequest {
    request(vec![span(1, "one", vec![string("key", &token())]), span(2, "two", vec![])])
}

#[test]
fn the_demo_shows_each_value_before_and_after_and_succeeds() {
    let output = output(&["demo"], b"");
    let text = output.stdout;
    assert!(output.code == Some(0), "{text}\n{}", output.stderr);
    for expected in ["7 of 7 spans arrived", "becomes [MASKED:", "None of the 11 planted values", "Where to go next"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn a_request_goes_through_masked_and_is_counted_and_sigterm_drains() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.jsonl");
    let exporters = format!("file: {{path: {path:?}}}");
    let mut gateway = Gateway::start(&config(&exporters, "{receivers: [otlp], processors: [mask], exporters: [file]}"));
    assert_eq!(post(&gateway, &two_spans()), 200);

    let (status, health) = http(gateway.address("health"), "GET / HTTP/1.1", b"");
    assert!(status == 200 && health.contains("Server available"), "{health}");
    let metrics = http(gateway.address("metrics"), "GET /metrics HTTP/1.1", b"").1;
    for expected in [
        "otelcol_receiver_accepted_spans{receiver=\"otlp\",transport=\"http\"} 2",
        "tracegate_mask_findings{rule=\"github-pat\",class=\"credential\"} 1",
        "tracegate_pipeline_enforced{pipeline=\"traces\"} 1",
        "otelcol_process_memory_rss",
    ] {
        assert!(metrics.contains(expected), "{expected}:\n{metrics}");
    }
    let ready = gateway.seen.iter().find(|line| line.contains(READY)).unwrap();
    assert!(ready.contains("\"masked\":\"traces\""), "{ready}");

    gateway.seen.clear();
    let (status, log) = gateway.stop();
    assert!(status.success(), "{log:?}");
    let written = std::fs::read_to_string(path).unwrap();
    assert!(written.contains("[MASKED:github-pat]") && !written.contains(&token()), "{written}");
    assert!(!log.join("\n").contains(&token()[..12]) && !metrics.contains(&token()[..12]));
}

#[test]
fn spans_reach_a_second_tracegate_over_grpc_and_over_http() {
    for (exporter, port) in [("otlp_grpc", "grpc"), ("otlp_http", "http")] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.jsonl");
        let pipeline = |exporter: &str| format!("{{receivers: [otlp], processors: [mask], exporters: [{exporter}]}}");
        let backend = Gateway::start(&config(&format!("file: {{path: {path:?}}}"), &pipeline("file")));
        let endpoint = backend.address(port);
        let exporters = format!("{exporter}: {{endpoint: \"http://{endpoint}\", compression: gzip}}");
        let front = Gateway::start(&config(&exporters, &pipeline(exporter)));
        assert_eq!(post(&front, &two_spans()), 200);
        assert!(front.stop().0.success());
        assert!(backend.stop().0.success());
        let written = std::fs::read_to_string(path).unwrap();
        assert!(written.contains("[MASKED:github-pat]") && written.contains("\"two\""), "{written}");
    }
}

#[test]
fn without_a_configuration_the_masked_spans_are_printed() {
    let free = [
        "--set=receivers.otlp.protocols.grpc.endpoint=127.0.0.1:0",
        "--set=receivers.otlp.protocols.http.endpoint=127.0.0.1:0",
        "--set=extensions.health_check.endpoint=127.0.0.1:0",
        "--set=service.telemetry.metrics.level=none",
    ];
    let mut gateway = Gateway::spawn(&free);
    assert_eq!(post(&gateway, &two_spans()), 200);
    let line = gateway.wait_for("[MASKED:github-pat]");
    assert!(!line.contains(&token()));
    assert!(gateway.stop().0.success());
}

#[test]
fn a_pipeline_that_opts_out_of_masking_is_announced_and_passes_data_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.bin");
    let exporters = format!("file: {{path: {path:?}, format: proto}}");
    let gateway = Gateway::start(&config(&exporters, "{receivers: [otlp], processors: [mask/off], exporters: [file]}"));
    let warning = gateway.seen.iter().find(|line| line.contains("does not mask")).cloned();
    assert!(warning.is_some_and(|line| line.contains("\twarn\t")), "{:?}", gateway.seen);
    assert_eq!(post(&gateway, &two_spans()), 200);
    gateway.stop();
    let written = std::fs::read(path).unwrap();
    assert!(written.ends_with(&encoded(&two_spans())), "byte for byte");
}

#[test]
fn nothing_of_a_refused_request_is_echoed() {
    let mut gateway = Gateway::start(&config("nop:", "{receivers: [otlp], exporters: [nop]}"));
    let mut body = encoded(&two_spans()).to_vec();
    let at = body.windows(4).position(|window| window == b"ghp_").unwrap();
    body[at - 1] = 0x7f;
    let head = "POST /v1/traces HTTP/1.1\r\nContent-Type: application/x-protobuf";
    let (status, answer) = http(gateway.address("http"), head, &body);
    assert_eq!(status, 400);
    assert!(!answer.contains("ghp_"), "{answer}");
    gateway.seen.clear();
    let (_, log) = gateway.stop();
    assert!(!log.join("\n").contains("ghp_"), "{log:?}");
}

#[test]
fn a_taken_port_is_an_error_that_says_which_and_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = taken.local_addr().unwrap().to_string();
    let config = format!(
        "yaml:{{receivers: {{otlp: {{protocols: {{grpc: {{endpoint: \"{endpoint}\"}}}}}}}}, exporters: {{nop: }}, \
         service: {{telemetry: {{metrics: {{level: none}}}}, pipelines: {{traces: {{receivers: [otlp], exporters: [nop]}}}}}}}}"
    );
    let output = output(&["--config", &config], b"");
    assert_eq!(output.code, Some(1));
    let error = output.stderr;
    let error = error.lines().find(|line| line.starts_with("Error: ")).unwrap();
    assert!(error.contains("receivers::otlp::protocols::grpc::endpoint") && error.contains(&endpoint), "{error}");
}

#[test]
fn validate_is_silent_when_right_and_one_line_when_wrong() {
    let pipeline = "{receivers: [otlp], exporters: [nop]}";
    let right = output(&["validate", "--config", &format!("yaml:{}", config("nop:", pipeline))], b"");
    assert_eq!((right.code, right.stdout, right.stderr), (Some(0), String::new(), String::new()));

    let wrong = [
        (config("nop: {verbosity: basic}", pipeline), "exporters::nop: "),
        (config("otlp: {}", "{receivers: [otlp], exporters: [otlp]}"), "requires a non-empty \"endpoint\""),
        (config("debug:", pipeline), "references exporter \"nop\" which is not configured"),
        (config("nop:", "{receivers: [otlp], processors: [mask, mask], exporters: [nop]}"), "multiple times"),
        (config("jaeger:", pipeline), "unknown type: \"jaeger\""),
        ("{}".to_owned(), "empty configuration"),
    ];
    for (yaml, expected) in wrong {
        let output = output(&["validate", "--config", &format!("yaml:{yaml}")], b"");
        let error = output.stderr;
        assert_eq!(output.code, Some(1), "{error}");
        assert!(error.starts_with("Error: ") && error.contains(expected), "{expected}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn print_config_shows_the_inserted_mask_and_no_secrets() {
    let exporters = "otlp_http: {endpoint: \"http://127.0.0.1:1\", headers: {authorization: hush-hush}}";
    let yaml = config(exporters, "{receivers: [otlp], exporters: [otlp_http]}");
    let output = output(&["print-config", "--config", &format!("yaml:{yaml}")], b"");
    let text = output.stdout;
    assert!(output.code == Some(0), "{}", output.stderr);
    assert!(text.contains("[REDACTED]") && !text.contains("hush-hush"), "{text}");
    let printed = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    std::fs::write(printed.path(), &text).unwrap();
    assert!(text.contains("- mask"), "{text}");
}

/// What is printed is a configuration: it loads again.
#[test]
fn the_printed_default_loads_again() {
    let text = output(&["print-config"], b"").stdout;
    let printed = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    std::fs::write(printed.path(), text).unwrap();
    let output = output(&["validate", "--config", printed.path().to_str().unwrap()], b"");
    assert!(output.code == Some(0), "{}", output.stderr);
}

#[test]
fn every_configuration_we_ship_is_valid() {
    for file in ["pipelines/default.yaml", "deploy/image.yaml"] {
        let path = format!("{}/{file}", env!("CARGO_MANIFEST_DIR"));
        let output = output(&["validate", "--config", &path], b"");
        assert!(output.code == Some(0), "{file}: {}", output.stderr);
    }
}

#[test]
fn components_lists_what_a_configuration_may_name() {
    let text = output(&["components"], b"").stdout;
    let listed = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    std::fs::write(listed.path(), &text).unwrap();
    // It is YAML: a configuration reader gets as far as its first key.
    let refused = output(&["validate", "--config", listed.path().to_str().unwrap()], b"").stderr;
    assert!(refused.contains("has invalid keys: buildinfo"), "{refused}");
    for name in
        ["otlp", "memory_limiter", "identity", "mask", "otlp_grpc", "otlp_http", "debug", "file", "nop", "health_check"]
    {
        assert!(text.contains(&format!("- name: {name}\n")), "{name}: {text}");
    }
    for section in ["connectors: []", "providers:", "  - scheme: env", "      traces: Beta", "    module: tracegate v"]
    {
        assert!(text.contains(section), "{section}: {text}");
    }
}

#[test]
fn print_config_has_the_collectors_modes_and_formats() {
    let exporters = "otlp_http: {endpoint: \"http://127.0.0.1:1\", headers: {authorization: hush-hush}}";
    let yaml = format!("yaml:{}", config(exporters, "{receivers: [otlp], exporters: [otlp_http]}"));
    let json = output(&["print-initial-config", "--config", &yaml, "--format=json"], b"").stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["exporters"]["otlp_http"]["headers"]["authorization"], "[REDACTED]");
    let shown = output(&["print-config", "--config", &yaml, "--mode=unredacted"], b"").stdout;
    assert!(shown.contains("hush-hush"), "{shown}");

    let wrong = "yaml:exporters: {nosuch: {}}";
    assert_eq!(output(&["print-config", "--config", wrong], b"").code, Some(1));
    let merged = output(&["print-config", "--config", wrong, "--validate=false"], b"");
    assert!(merged.code == Some(0) && merged.stdout.contains("nosuch"), "{}", merged.stderr);
}

#[test]
fn flags_and_questions_of_collector_scripts_are_taken() {
    let yaml = format!("yaml:{}", config("nop:", "{receivers: [otlp], exporters: [nop]}"));
    let validated = output(&["validate", "--config", &yaml, "--feature-gates=-a.b,+c"], b"");
    assert!(validated.code == Some(0), "{}", validated.stderr);
    let gates = output(&["featuregate"], b"");
    assert!(gates.code == Some(0) && gates.stdout.starts_with("ID "), "{}", gates.stdout);
    let none = output(&["featuregate", "no.such"], b"");
    assert_eq!(none.code, Some(1));
    let gateway = Gateway::spawn(&["--config", &yaml, "--feature-gates", "-a.b"]);
    assert!(gateway.seen.iter().any(|line| line.contains("--feature-gates: ignored")), "{:?}", gateway.seen);
}

#[test]
fn a_component_of_the_collector_that_is_not_here_says_what_to_do() {
    for (section, kind, advice) in [
        ("exporters", "logging", "use debug"),
        ("exporters", "kafka", "keep it in your Collector; see pipelines/in-front-of-collector.yaml"),
        ("processors", "tail_sampling", "(valid values: ["),
        ("receivers", "jaeger", "(valid values: [otlp])"),
        ("extensions", "file_storage", "this version queues in memory"),
        ("extensions", "healthcheckv2", "health_check"),
    ] {
        let error = output(&["validate", "--config", &format!("yaml:{section}: {{{kind}: {{}}}}")], b"").stderr;
        let message = format!("Error: {section}::{kind}: '{section}' unknown type: \"{kind}\" for id: \"{kind}\"");
        assert!(error.starts_with(&message) && error.contains(advice), "{error}");
    }
}

#[test]
fn mask_filters_text() {
    let text = format!("first line\nkey {} here\n", token());
    let masked = output(&["mask"], text.as_bytes());
    assert_eq!(masked.stdout, "first line\nkey [MASKED:github-pat] here\n");

    let findings = output(&["mask", "--findings", "-"], text.as_bytes());
    let found: serde_json::Value = serde_json::from_str(findings.stdout.trim()).unwrap();
    assert_eq!((&found["rule"], &found["line"], &found["column"]), (&"github-pat".into(), &2.into(), &5.into()));
    assert_eq!(found["length"], token().len());
    assert!(!findings.stdout.contains("a1B2c3"));
}

#[test]
fn mask_keeps_bytes_that_are_no_text() {
    let masked = output_bytes(tracegate(&["mask"]), &[&[0xff, 0, 0xfe][..], token().as_bytes(), b"\xff"].concat());
    assert_eq!(masked.stdout, [&[0xff, 0, 0xfe][..], b"[MASKED:github-pat]\xff"].concat());
}

#[test]
fn mask_filters_one_field_of_json_lines() {
    let row = serde_json::json!({"z": 1, "text": format!("key {}", token()), "other": token()});
    let input = format!("{row}\n\n{{\"z\":2}}\n");
    let masked = output(&["mask", "--jsonl-field", "text"], input.as_bytes());
    let lines: Vec<serde_json::Value> = masked.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0], serde_json::json!({"z": 1, "text": "key [MASKED:github-pat]", "other": token()}));
    assert_eq!(lines[1], serde_json::json!({"z": 2}));

    let findings = output(&["mask", "--jsonl-field", "text", "--findings"], input.as_bytes()).stdout;
    let found: serde_json::Value = serde_json::from_str(findings.trim()).unwrap();
    assert_eq!((&found["line"], &found["field"], &found["offset"]), (&1.into(), &"text".into(), &4.into()));
}

#[test]
fn mask_names_the_line_that_is_no_json_and_does_not_show_it() {
    let output = output(&["mask", "--jsonl-field", "text"], b"{\"a\":1}\nsecret stuff\n");
    assert_eq!(output.code, Some(1));
    let error = output.stderr;
    assert!(error.contains("line 2") && !error.contains("stuff"), "{error}");
}

#[test]
fn wrong_arguments_exit_2() {
    assert_eq!(output(&["--nonsense"], b"").code, Some(2));
    assert_eq!(output(&["--to", "localhost:1", "--config", "x.yaml"], b"").code, Some(2));
    let output = output(&["--to", "backend.example:4317"], b"");
    assert_eq!(output.code, Some(1), "{}", output.stderr);
}
