//! Files as users of the OpenTelemetry Collector have them, with its own receivers and exporters only: they load as
//! they are. Components are those of `otelcol-contrib` that tracegate has too.

#![allow(missing_docs, clippy::unwrap_used)]

use std::{fs, path::Path};
use tracegate::{
    config::{Secrets, Source},
    service::Blueprint,
};

#[test]
fn files_of_the_collector_load_unchanged_and_mask() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configurations/collector");
    let mut loaded = 0;
    for file in fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        let blueprint = Blueprint::read(&[Source::File(path.clone())], &[])
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let effective =
            tracegate::config::render(blueprint.document.root(), Secrets::Shown, tracegate::config::Format::Json);
        let effective: serde_json::Value = serde_json::from_str(&effective.unwrap()).unwrap();
        for (pipeline, config) in effective["service"]["pipelines"].as_object().unwrap() {
            let first = config["processors"].as_array().unwrap().iter().find(|id| *id != "memory_limiter").unwrap();
            assert_eq!(first, "mask", "{}: {pipeline}", path.display());
        }
        loaded += 1;
    }
    assert!(loaded >= 4, "{loaded}");
}

/// Several files, a flag and the environment, merged as the Collector merges them.
#[test]
fn later_files_and_flags_win_maps_merge_and_lists_are_replaced() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configurations/collector/gateway.yaml");
    let over =
        "exporters: {otlp/eu: {endpoint: \"other:1\"}}\nservice: {pipelines: {traces/eu: {exporters: [otlp/eu]}}}";
    let blueprint = Blueprint::read(
        &[Source::File(file), Source::Yaml(over.to_owned()), Source::Yaml("processors::batch::timeout: 9s".to_owned())],
        &["exporters.otlp/eu.timeout=3s".to_owned()],
    )
    .unwrap();
    let at = |path: &[&str]| serde_json::to_value(blueprint.document.node(path).unwrap()).unwrap();
    assert_eq!(at(&["exporters", "otlp/eu", "endpoint"]), "other:1");
    assert_eq!(at(&["exporters", "otlp/eu", "timeout"]), "3s");
    assert_eq!(at(&["exporters", "otlp/eu", "compression"]), "gzip", "what a later file leaves out stays");
    assert_eq!(at(&["service", "pipelines", "traces/eu", "exporters"]), serde_json::json!(["otlp/eu"]));
    assert_eq!(at(&["processors", "batch", "timeout"]), "9s");
}
