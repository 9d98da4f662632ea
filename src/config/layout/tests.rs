//! Layouts, good and bad.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::config::{Source, load_with};

const KINDS: Kinds<'static> = Kinds {
    receivers: &["otlp", "nop"],
    processors: &["mask", "memory_limiter", "batch"],
    exporters: &["otlp_http", "otlp_grpc", "debug", "nop"],
    extensions: &["health_check"],
    aliases: &[
        Alias { section: Section::Exporters, old: "otlp", new: "otlp_grpc" },
        Alias { section: Section::Exporters, old: "otlphttp", new: "otlp_http" },
    ],
    advice: &[Advice { section: Section::Exporters, kind: "logging", text: "use debug" }],
};

/// A good configuration; tests lay another source over it.
const BASE: &str = "
receivers: {otlp: {}}
processors: {mask: {}, mask/2: {}}
exporters: {nop: {}, debug/x: }
extensions: {health_check: {}}
service:
  extensions: [health_check]
  pipelines:
    traces: {receivers: [otlp], processors: [mask, mask/2], exporters: [nop, debug/x]}
";

fn layout(texts: &[&str]) -> Result<Layout, ConfigError> {
    let sources: Vec<Source> = texts.iter().map(|text| Source::Yaml((*text).to_owned())).collect();
    Layout::from(&load_with(&sources, &[], &|_| None).unwrap().document, &KINDS)
}

fn ids(texts: &[&str]) -> Vec<ComponentId> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn a_good_configuration() {
    let layout = layout(&[BASE]).unwrap();
    assert_eq!(layout.receivers, ids(&["otlp"]));
    assert_eq!(layout.processors, ids(&["mask", "mask/2"]));
    assert_eq!(layout.exporters, ids(&["debug/x", "nop"]));
    assert_eq!(layout.extensions, ids(&["health_check"]));
    assert_eq!(layout.service_extensions, ids(&["health_check"]));
    assert_eq!(
        layout.pipelines,
        [Pipeline {
            id: PipelineId { signal: Signal::Traces, name: None },
            receivers: ids(&["otlp"]),
            processors: ids(&["mask", "mask/2"]),
            exporters: ids(&["nop", "debug/x"]),
        }]
    );
    assert!(layout.warnings.is_empty(), "{:?}", layout.warnings);
    assert_eq!(layout.pipelines[0].path(), "service::pipelines::traces");
}

#[test]
fn several_pipelines_and_signals() {
    let more = "
service:
  pipelines:
    traces/eu: {receivers: [otlp], exporters: [nop]}
    logs: {receivers: 'otlp', processors: , exporters: [nop]}
    metrics/a/b: {receivers: [otlp], processors: [], exporters: 'nop, debug/x'}
";
    let layout = layout(&[BASE, more]).unwrap();
    let names: Vec<String> = layout.pipelines.iter().map(|pipeline| pipeline.id.to_string()).collect();
    assert_eq!(names, ["traces", "traces/eu", "logs", "metrics/a/b"]);
    assert_eq!(layout.pipelines[3].exporters, ids(&["nop", "debug/x"]));
}

#[test]
fn old_names_are_accepted_and_warned_of() {
    let old = "
exporters: {otlp: {}, otlphttp/b: {}}
service: {pipelines: {traces: {exporters: [otlp, otlphttp/b, nop, debug/x]}}}
";
    let layout = layout(&[BASE, old]).unwrap();
    assert_eq!(
        layout.warnings,
        [
            "exporters::otlp: \"otlp\" is a deprecated name; use \"otlp_grpc\"",
            "exporters::otlphttp/b: \"otlphttp\" is a deprecated name; use \"otlp_http\"",
        ]
    );
    let resolve = |id: &str| KINDS.resolve(Section::Exporters, &id.parse().unwrap());
    assert_eq!(resolve("otlphttp/b"), Some("otlp_http"));
    assert_eq!(resolve("otlp_grpc/eu"), Some("otlp_grpc"));
    assert_eq!(resolve("jaeger"), None);
    assert_eq!(KINDS.resolve(Section::Receivers, &"otlp".parse().unwrap()), Some("otlp"));
}

#[test]
fn what_is_unused_or_named_twice_is_warned_of() {
    let more = "
receivers: {otlp/2: {}}
processors: {batch: {}}
exporters: {nop/2: {}}
extensions: {health_check/2: {}}
service: {pipelines: {traces: {receivers: [otlp, otlp], exporters: [nop, debug/x, nop]}}}
";
    let layout = layout(&[BASE, more]).unwrap();
    assert_eq!(
        layout.warnings,
        [
            "service::pipelines::traces: references receiver \"otlp\" multiple times; it is used once",
            "service::pipelines::traces: references exporter \"nop\" multiple times; it is used once",
            "receivers::otlp/2: configured but used by no pipeline",
            "processors::batch: configured but used by no pipeline",
            "exporters::nop/2: configured but used by no pipeline",
            "extensions::health_check/2: configured but not listed in service::extensions",
        ]
    );
    assert_eq!(layout.pipelines[0].receivers, ids(&["otlp"]));
}

#[test]
fn bad_configurations() {
    const KEEP: &str = "(keep it in your Collector; see pipelines/in-front-of-collector.yaml)";
    for (over, want) in [
        (
            "recievers: {}",
            "'' has invalid keys: recievers (did you mean \"receivers\"?; valid keys: connectors, exporters, extensions, \
             processors, receivers, service)"
                .to_owned(),
        ),
        ("receivers:", "receivers: no receiver configuration specified in config".to_owned()),
        ("exporters:", "exporters: no exporter configuration specified in config".to_owned()),
        ("service:", "service::pipelines: service must have at least one pipeline".to_owned()),
        ("service: {pipelines: }", "service::pipelines: service must have at least one pipeline".to_owned()),
        ("service: {pipelines: [a]}", "service::pipelines: expected a map, found a list".to_owned()),
        ("service: 5", "service: expected a map, found an integer".to_owned()),
        ("receivers: [otlp]", "receivers: expected a map, found a list".to_owned()),
        (
            "service: {pipeline: {}}",
            "service: 'service' has invalid keys: pipeline (did you mean \"pipelines\"?; valid keys: extensions, pipelines, \
             telemetry)"
                .to_owned(),
        ),
        (
            "service: {pipelines: {traces: {exporter: [nop]}}}",
            "service::pipelines::traces: 'traces' has invalid keys: exporter (did you mean \"exporters\"?; valid keys: \
             exporters, processors, receivers)"
                .to_owned(),
        ),
        (
            "service: {pipelines: {traces: {receivers: }}}",
            "service::pipelines::traces: must have at least one receiver".to_owned(),
        ),
        (
            "service: {pipelines: {traces: {exporters: []}}}",
            "service::pipelines::traces: must have at least one exporter".to_owned(),
        ),
        ("service: {pipelines: {traces: }}", "service::pipelines::traces: must have at least one receiver".to_owned()),
        (
            "service: {pipelines: {traces: [a]}}",
            "service::pipelines::traces: expected a map, found a list".to_owned(),
        ),
        (
            "service: {pipelines: {traces: {exporters: {nop: 1}}}}",
            "service::pipelines::traces::exporters: expected a list of ids, found a map".to_owned(),
        ),
        (
            "service: {pipelines: {traces: {exporters: [[nop]]}}}",
            "service::pipelines::traces::exporters: expected a list of ids, found a list".to_owned(),
        ),
        (
            "service: {pipelines: {traces: {exporters: [nop/2]}}}",
            "service::pipelines::traces: references exporter \"nop/2\" which is not configured (add it under \
             exporters)"
                .to_owned(),
        ),
        (
            "service: {pipelines: {traces: {exporters: [otlp_grpc]}}}",
            "service::pipelines::traces: references exporter \"otlp_grpc\" which is not configured (add it under \
             exporters)"
                .to_owned(),
        ),
        (
            "service: {pipelines: {traces: {receivers: [otlq]}}}",
            "service::pipelines::traces: references receiver \"otlq\" which is not configured (did you mean \"otlp\"?)"
                .to_owned(),
        ),
        (
            "service: {pipelines: {traces: {processors: [batch]}}}",
            "service::pipelines::traces: references processor \"batch\" which is not configured (add it under \
             processors)"
                .to_owned(),
        ),
        (
            "service: {pipelines: {traces: {processors: [mask, mask/2, mask]}}}",
            "service::pipelines::traces: references processor \"mask\" multiple times".to_owned(),
        ),
        (
            "service: {extensions: [zpages]}",
            "service::extensions: references extension \"zpages\" which is not configured (add it under extensions)"
                .to_owned(),
        ),
        (
            "service: {pipelines: {trace: {}}}",
            "service::pipelines::trace: unknown pipeline signal: \"trace\" (did you mean \"traces\"?; valid signals: logs, \
             metrics, traces)"
                .to_owned(),
        ),
        (
            "service: {pipelines: {profiles: {}}}",
            "service::pipelines::profiles: profiles are not supported (keep the profiles pipeline in your Collector)"
                .to_owned(),
        ),
        (
            "service: {pipelines: {'traces/': {}}}",
            "service::pipelines::traces/: in \"traces/\" id: the part after / should not be empty".to_owned(),
        ),
        (
            "service: {pipelines: {' traces': {receivers: [otlp], exporters: [nop]}}}",
            "service::pipelines::traces: duplicate name \"traces\" after space trimming".to_owned(),
        ),
        (
            "receivers: {jaeger: {}}",
            format!("receivers::jaeger: 'receivers' unknown type: \"jaeger\" for id: \"jaeger\" (valid values: [nop otlp]) {KEEP}"),
        ),
        (
            "receivers: {prometheus/x: {}}",
            format!(
                "receivers::prometheus/x: 'receivers' unknown type: \"prometheus\" for id: \"prometheus/x\" (valid values: \
                 [nop otlp]) {KEEP}"
            ),
        ),
        (
            "processors: {memorylimiter: {}}",
            "processors::memorylimiter: 'processors' unknown type: \"memorylimiter\" for id: \"memorylimiter\" (valid \
             values: [batch mask memory_limiter]) (did you mean \"memory_limiter\"?)"
                .to_owned(),
        ),
        (
            "receivers: {otlphttp: {}}",
            format!(
                "receivers::otlphttp: 'receivers' unknown type: \"otlphttp\" for id: \"otlphttp\" (valid values: [nop \
                 otlp]) {KEEP}"
            ),
        ),
        ("receivers: {otlp/: {}}", "receivers: in \"otlp/\" id: the part after / should not be empty".to_owned()),
        ("receivers: {/x: {}}", "receivers: in \"/x\" id: the part before / should not be empty".to_owned()),
        ("receivers: {'': {}}", "receivers: id must not be empty".to_owned()),
        ("receivers: {ot-lp: {}}", "receivers: in \"ot-lp\" id: invalid character(s) in type".to_owned()),
        ("receivers: {otlp/a b: {}}", "receivers: in \"otlp/a b\" id: invalid character(s) in name".to_owned()),
        ("receivers: {' otlp': {}}", "receivers: duplicate name \"otlp\" after space trimming".to_owned()),
        (
            "connectors: {forward: {}}",
            "connectors: connectors are not supported (keep it in your Collector; see pipelines/in-front-of-collector.yaml)"
                .to_owned(),
        ),
    ] {
        assert_eq!(layout(&[BASE, over]).map(|_| ()).unwrap_err().to_string(), want, "{over}");
    }
    for empty in ["", "{}", "# only a comment"] {
        assert_eq!(layout(&[empty]).unwrap_err().to_string(), "empty configuration file");
    }
}

#[test]
fn empty_sections_of_what_is_not_supported_are_harmless() {
    assert!(layout(&[BASE, "connectors:"]).is_ok());
    assert!(layout(&[BASE, "connectors: {}"]).is_ok());
}

#[test]
fn ids_order_and_print() {
    let mut sorted = ids(&["otlp/b", "nop", "otlp", " otlp / a "]);
    sorted.sort();
    let shown: Vec<String> = sorted.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["nop", "otlp", "otlp/a", "otlp/b"]);
    assert_eq!((sorted[2].kind(), sorted[2].name()), ("otlp", Some("a")));
    assert!(format!("otlp/{}", "x".repeat(1025)).parse::<ComponentId>().is_err());
    assert!("x".repeat(64).parse::<ComponentId>().is_err());
}
