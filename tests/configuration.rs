//! A whole configuration through the public API: sources, layout, and the sections this floor owns.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use tracegate::{
    config::{Alias, Format, Kinds, Layout, Loaded, Secrets, Section, Source, load_with, render},
    telemetry::{
        Telemetry,
        health::HealthCheck,
        logs::{Encoding, Level},
        settings::PullReader,
    },
};

const KINDS: Kinds<'static> = Kinds {
    receivers: &["otlp"],
    processors: &["memory_limiter", "mask"],
    exporters: &["otlp_grpc", "otlp_http", "debug", "file", "nop"],
    extensions: &["health_check"],
    advice: &[],
    aliases: &[
        Alias { section: Section::Exporters, old: "otlp", new: "otlp_grpc" },
        Alias { section: Section::Exporters, old: "otlphttp", new: "otlp_http" },
    ],
};

/// What an operator's file and a chart's values usually look like.
const FILE: &str = r#"
extensions:
  health_check:
    endpoint: ${env:MY_POD_IP}:13133
receivers:
  otlp:
    protocols:
      grpc: {endpoint: "${env:MY_POD_IP}:4317"}
      http:
processors:
  memory_limiter: {check_interval: 5s, limit_percentage: 80, spike_limit_percentage: 25}
exporters:
  otlp/backend:
    endpoint: ${env:BACKEND:-localhost:14317}
    headers: {authorization: "Bearer ${env:TOKEN}"}
  debug:
service:
  extensions: [health_check]
  telemetry:
    logs: {level: debug, encoding: json, sampling: {tick: 5s}}
    metrics:
      readers:
        - pull:
            exporter:
              prometheus: {host: "${env:MY_POD_IP}", port: 8888}
    resource: {service.name: gate, k8s.pod.ip: "${env:MY_POD_IP}"}
  pipelines:
    traces: {receivers: [otlp], processors: [memory_limiter], exporters: [otlp/backend]}
    logs: {receivers: [otlp], processors: [memory_limiter], exporters: [otlp/backend, debug]}
"#;

fn load(texts: &[&str], sets: &[&str]) -> Result<Loaded, String> {
    let sources: Vec<Source> = texts.iter().map(|text| Source::Yaml((*text).to_owned())).collect();
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    let variable = |name: &str| match name {
        "MY_POD_IP" => Some(Ok("10.0.0.7".to_owned())),
        "TOKEN" => Some(Ok("hunter2".to_owned())),
        _ => None,
    };
    load_with(&sources, &sets, &variable).map_err(|error| error.to_string())
}

fn telemetry(text: &str) -> Result<Telemetry, String> {
    load(&[text], &[])?.document.section(&["service", "telemetry"]).map_err(|error| error.to_string())
}

#[test]
fn an_operators_file() {
    let loaded = load(&[FILE], &["service.telemetry.logs.level=warn"]).unwrap();
    assert!(loaded.warnings.is_empty());
    let document = loaded.document;
    let layout = Layout::from(&document, &KINDS).unwrap();
    let pipelines: Vec<String> = layout.pipelines.iter().map(|pipeline| pipeline.path()).collect();
    assert_eq!(pipelines, ["service::pipelines::traces", "service::pipelines::logs"]);
    assert_eq!(layout.warnings, ["exporters::otlp/backend: \"otlp\" is a deprecated name; use \"otlp_grpc\""]);
    let health: HealthCheck = document.section(&["extensions", "health_check"]).unwrap();
    assert_eq!((health.endpoint.as_str(), health.path.as_str()), ("10.0.0.7:13133", "/"));
    let telemetry: Telemetry = document.section(&["service", "telemetry"]).unwrap();
    assert_eq!((telemetry.logs.level, telemetry.logs.encoding), (Level::Warn, Encoding::Json));
    assert_eq!(telemetry.metrics.readers, [PullReader { host: "10.0.0.7".to_owned(), ..PullReader::default() }]);
    let resource = telemetry.resource.over([("service.name", "tracegate".to_owned())]);
    assert_eq!((resource["service.name"].as_str(), resource["k8s.pod.ip"].as_str()), ("gate", "10.0.0.7"));
    let shown = render(document.root(), Secrets::Redacted, Format::Yaml).unwrap();
    assert!(!shown.contains("hunter2") && shown.contains("authorization:"), "{shown}");
    assert!(render(document.root(), Secrets::Shown, Format::Yaml).unwrap().contains("Bearer hunter2"));
}

#[test]
fn sections_that_are_absent_have_defaults() {
    let telemetry = telemetry("service: {telemetry: {logs: , metrics: , resource: }}").unwrap();
    assert_eq!(telemetry, Telemetry::default());
    let document = load(&["extensions: {health_check: }"], &[]).unwrap().document;
    assert_eq!(document.section::<HealthCheck>(&["extensions", "health_check"]).unwrap(), HealthCheck::default());
}

#[test]
fn wrong_telemetry_is_one_line_with_its_path() {
    for (text, want) in [
        (
            "{log: {}}",
            "service::telemetry: 'telemetry' has invalid keys: log (did you mean \"logs\"?; valid keys: logs, metrics, \
             resource, traces)",
        ),
        (
            "{logs: {level: trace}}",
            "service::telemetry::logs::level: invalid value \"trace\" (valid values: debug, error, info, \
             warn)",
        ),
        ("{logs: {level: [hunter2]}}", "service::telemetry::logs::level: expected a string, found a list"),
        (
            "{logs: {output_paths: {hunter2: 1}}}",
            "service::telemetry::logs::output_paths: expected a list, found a map",
        ),
        (
            "{metrics: {readers: []}}",
            "service::telemetry::metrics: collector telemetry metrics reader should exist when metric level is not none",
        ),
        (
            "{metrics: {readers: [{periodic: {exporter: {otlp: {}}}}]}}",
            "service::telemetry::metrics: periodic: unsupported protocol: use grpc or http/protobuf",
        ),
        (
            "{metrics: {readers: [{pull: {exporter: {prometheus: {port: 70000}}}}]}}",
            "service::telemetry::metrics::readers::0::pull::exporter::prometheus::port: the number is out of range: \
             expected an integer from 0 to 65535",
        ),
        (
            "{metrics: {readers: [{pull: {exporter: {otlp: {}}}}]}}",
            "service::telemetry::metrics::readers::0::pull::exporter: 'exporter' has invalid keys: otlp (valid keys: \
             prometheus)",
        ),
        ("[hunter2]", "service::telemetry: expected a map, found a list"),
    ] {
        let error = telemetry(&format!("service: {{telemetry: {text}}}")).unwrap_err();
        assert_eq!(error, want, "{text}");
        assert!(!error.contains("hunter2") && !error.contains('\n'));
    }
}
