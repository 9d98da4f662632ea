//! Settings, good and bad.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;

fn read(text: &str) -> Result<Telemetry, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn reader(host: &str, port: u16) -> PullReader {
    PullReader { host: host.to_owned(), port, ..PullReader::default() }
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
        r#"{"traces": {"level": "none", "processors": [], "propagators": ["tracecontext"]}, "logs": {"development": true},
            "metrics": {"address": ":8888", "views": []}}"#,
    )
    .unwrap();
    assert_eq!(
        telemetry.warnings(),
        [
            "service::telemetry::logs::development: has no effect, log lines are the same everywhere",
            "service::telemetry::traces::propagators: has no effect, tracegate makes no spans of its own",
            "service::telemetry::metrics::address: ignored, as in the Collector since 0.123: list a pull reader under \
             'readers' with host and port",
        ]
    );
    assert_eq!(telemetry.metrics.readers, [reader("localhost", 8888)]);
}

#[test]
fn a_reader_says_how_names_are_written() {
    let telemetry = read(
        r#"{"metrics": {"readers": [{"pull": {"exporter": {"prometheus": {"host": "h", "port": 1,
            "without_type_suffix": false, "without_scope_info": false,
            "with_resource_constant_labels": {"included": ["service*", "k8s.?od"], "excluded": ["*.id"]}}}}}]}}"#,
    )
    .unwrap();
    let resource = ["service.name", "service.instance.id", "k8s.pod", "k8s.good", "other"];
    let style = telemetry.metrics.readers[0].style(&resource.map(|key| (key.to_owned(), "v".to_owned())).into());
    assert!(!style.without_type_suffix && !style.without_scope_info && style.without_units);
    let keys: Vec<&str> = style.constant_labels.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["k8s.pod", "service.name"]);
    let resource = [("a".to_owned(), "v".to_owned())].into();
    assert_eq!(PullReader::default().style(&resource), Style::default());
    let all = PullReader { resource_labels: Some(Chosen::default()), ..PullReader::default() };
    assert_eq!(all.style(&resource).constant_labels.len(), 1, "without a list everything is in");
}

#[test]
fn patterns() {
    for (pattern, name, want) in [
        ("*", "", true),
        ("", "", true),
        ("", "a", false),
        ("a*c", "abbc", true),
        ("a*c", "abcb", false),
        ("*.id", "service.instance.id", true),
        ("a?c", "ac", false),
        ("**a**", "xay", true),
        ("*a*b*a*b*", "aabbaabb", true),
        ("*a*a*a*a*a*a*a*a*b", &"a".repeat(5000), false),
    ] {
        assert_eq!(matches(pattern, name), want, "{pattern}");
    }
}

#[test]
fn a_periodic_reader_has_the_declarative_configurations_keys_and_defaults() {
    let metrics = |text: &str| serde_json::from_str::<Metrics>(text).unwrap();
    let read = metrics(
        r#"{"readers": [{"periodic": {"exporter": {"otlp": {"protocol": "http/protobuf",
            "endpoint": "http://backend:4318", "headers": {"authorization": "hush"}}}}}]}"#,
    );
    let reader = &read.periodic[0];
    assert!(read.readers.is_empty(), "a list replaces the default");
    assert_eq!((reader.interval.as_secs(), reader.timeout.as_secs(), reader.gzip), (60, 10, false));
    assert!(!format!("{reader:?}").contains("hush"));
    let read = metrics(
        r#"{"readers": [{"pull": {"exporter": {"prometheus": {"port": 1}}}}, {"periodic": {"interval": 5000,
            "timeout": 2000, "exporter": {"otlp": {"protocol": "grpc", "endpoint": "backend:4317", "insecure": true,
            "compression": "gzip", "headers": [{"name": "a", "value": "b"}]}}}}]}"#,
    );
    let reader = &read.periodic[0];
    assert_eq!((read.readers.len(), reader.protocol, reader.insecure, reader.gzip), (1, Protocol::Grpc, true, true));
    assert_eq!((reader.interval.as_millis(), reader.timeout.as_millis()), (5000, 2000));
}

#[test]
fn refused() {
    for (text, want) in [
        (
            r#"{"metrics": {"readers": []}}"#,
            "collector telemetry metrics reader should exist when metric level is not none",
        ),
        (r#"{"metrics": {"level": "detailed", "views": [{}]}}"#, "views are not supported"),
        (r#"{"metrics": {"views": [{}]}}"#, "views are not supported"),
        (r#"{"traces": {"processors": [{"batch": {}}]}}"#, "tracegate makes no spans of its own to export"),
        (r#"{"traces": {"level": "loud"}}"#, "level must be none, basic, normal or detailed"),
        (r#"{"logs": {"processors": [{"batch": {}}]}}"#, "exporting tracegate's own logs is not supported"),
        (r#"{"metrics": {"readers": [{"periodic": {}}]}}"#, "periodic: no exporter: use otlp"),
        (r#"{"metrics": {"readers": [{"periodic": {"exporter": {"console": {}}}}]}}"#, "periodic: exporter: console"),
        (
            r#"{"metrics": {"readers": [{"periodic": {"exporter": {"otlp": {"protocol": "http/json"}}}}]}}"#,
            "periodic: unsupported protocol: use grpc or http/protobuf",
        ),
        (
            r#"{"metrics": {"readers": [{"periodic": {"exporter": {"otlp": {"protocol": "grpc"}}}}]}}"#,
            "periodic: exporter: otlp: 'endpoint' must be specified",
        ),
        (
            r#"{"metrics": {"readers": [{"periodic": {"interval": 0,
                "exporter": {"otlp": {"protocol": "grpc", "endpoint": "x:1"}}}}]}}"#,
            "periodic: 'interval' must be greater than zero",
        ),
        (
            r#"{"metrics": {"readers": [{"periodic": {"exporter": {"otlp": {"protocol": "grpc", "endpoint": "x:1",
                "temporality_preference": "delta"}}}}]}}"#,
            "periodic: 'temporality_preference' must be cumulative",
        ),
        (r#"{"metrics": {"readers": [{}]}}"#, "a reader must be either 'pull' or 'periodic'"),
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
