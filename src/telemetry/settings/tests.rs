//! Settings, good and bad.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;

fn read(text: &str) -> Result<Telemetry, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn reader(host: &str, port: u16) -> PullReader {
    PullReader { host: host.to_owned(), port }
}

#[test]
fn defaults() {
    let telemetry = read("{}").unwrap();
    assert_eq!(telemetry, Telemetry::default());
    assert_eq!(telemetry.metrics.level, MetricsLevel::Normal);
    assert_eq!(telemetry.metrics.readers, [reader("localhost", 8888)]);
    assert!(telemetry.warnings().is_empty());
    assert_eq!(read(r#"{"metrics": {}}"#).unwrap(), telemetry);
}

#[test]
fn readers() {
    let telemetry = read(
        r#"{"metrics": {"level": "detailed", "readers": [
            {"pull": {"exporter": {"prometheus": {"host": "0.0.0.0", "port": 9999, "without_scope_info": true,
                "without_type_suffix": true, "without_units": true}}}},
            {"pull": {}}]}}"#,
    )
    .unwrap();
    assert_eq!(telemetry.metrics.readers, [reader("0.0.0.0", 9999), reader("localhost", 8888)]);
    assert!(telemetry.warnings().is_empty());
    assert_eq!(reader("::1", 1).endpoint(), "[::1]:1");
    assert_eq!(reader("localhost", 1).endpoint(), "localhost:1");
}

#[test]
fn level_none_offers_nothing() {
    for text in [r#"{"metrics": {"level": "none"}}"#, r#"{"metrics": {"level": "none", "readers": []}}"#] {
        assert!(read(text).unwrap().metrics.readers.is_empty());
    }
}

#[test]
fn what_is_accepted_without_effect_is_warned_of() {
    let telemetry = read(
        r#"{"traces": {"processors": []}, "logs": {"processors": [1]}, "metrics": {"views": [], "readers": [
            {"pull": {"exporter": {"prometheus": {"without_type_suffix": false,
                "with_resource_constant_labels": {"included": []}}}}}]}}"#,
    )
    .unwrap();
    assert_eq!(
        telemetry.warnings(),
        [
            "service::telemetry::logs::processors: ignored, tracegate does not export its own logs",
            "service::telemetry::traces: ignored, tracegate does not export its own traces",
            "service::telemetry::metrics::views: ignored, metrics have no views",
            "service::telemetry::metrics::readers::0::pull::exporter::prometheus::without_type_suffix: ignored, names are \
             always without scope, type and unit",
            "service::telemetry::metrics::readers::0::pull::exporter::prometheus::with_resource_constant_labels: ignored, \
             the resource is in target_info only",
        ]
    );
}

#[test]
fn refused() {
    for (text, want) in [
        (
            r#"{"metrics": {"readers": []}}"#,
            "collector telemetry metrics reader should exist when metric level is not none",
        ),
        (
            r#"{"metrics": {"address": ":8888"}}"#,
            "'address' is no longer supported: list a pull reader under 'readers' with host and port",
        ),
        (
            r#"{"metrics": {"readers": [{"periodic": {}}]}}"#,
            "periodic readers are not supported: use a pull reader and scrape it",
        ),
        (r#"{"metrics": {"readers": [{}]}}"#, "a reader must be 'pull'"),
        (r#"{"metrics": {"level": "loud"}}"#, "unknown variant `loud`"),
        (r#"{"metric": {}}"#, "unknown field `metric`"),
        (r#"{"resource": {"a": []}}"#, "'a' must be a string, a number or a boolean"),
        (r#"{"resource": {"attributes": [{"name": "a"}]}}"#, "'attributes' must be a list of name and value"),
        (
            r#"{"resource": {"attributes": [{"name": "a", "value": 1, "x": 1}]}}"#,
            "'attributes' must be a list of name and value",
        ),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.starts_with(want), "{text}: {error}");
    }
}

#[test]
fn resource_overrides_and_removes() {
    let defaults = || [("service.name", "tracegate".to_owned()), ("service.version", "1".to_owned())];
    for text in [
        r#"{"resource": {"service.name": "gate", "service.version": null, "n": 5, "attributes": null}}"#,
        r#"{"resource": {"attributes": [{"name": "service.name", "value": "gate"}, {"name": "service.version",
            "value": null}, {"name": "n", "value": 5, "type": "int"}]}}"#,
    ] {
        let resource = read(text).unwrap().resource.over(defaults());
        assert_eq!(resource, [("n", "5"), ("service.name", "gate")].map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    }
    assert_eq!(read("{}").unwrap().resource.over(defaults()).len(), 2);
}
