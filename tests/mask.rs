//! The `mask` and `identity` stages over whole requests: every text-bearing place of every signal, nothing else
//! changed.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{
        Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
        NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, metric::Data,
    },
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span},
};
use prost::Message;
use support::{encoded, origin, request, span, string, token};
use tracegate::{
    otlp::{Bounds, Signal},
    pipeline::{Plan, Refusal, Request, Stage},
    processor::{identity, mask},
};

const MARKER: &str = "[MASKED:github-pat]";

fn apply(stages: &[&dyn Stage], signal: Signal, body: &Bytes) -> Result<Bytes, Refusal> {
    let request = Request::read(signal, body.clone(), origin(), &Bounds::default())?;
    let mut plan = Plan::default();
    for stage in stages {
        stage.apply(&request, &mut plan)?;
    }
    Ok(plan.render(&request).passed.unwrap())
}

fn mask_with(config: mask::Config) -> mask::Mask {
    mask::Mask::new("mask", config)
}

fn masked(signal: Signal, body: &Bytes) -> Bytes {
    apply(&[&mask_with(mask::Config::default())], signal, body).unwrap()
}

fn identity_with(attributes: &[(&str, &str)]) -> identity::Identity {
    let attributes = attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    identity::Identity::new("identity", identity::Config { attributes })
}

fn value(value: Value) -> Option<AnyValue> {
    Some(AnyValue { value: Some(value) })
}

fn text(text: &str) -> Option<AnyValue> {
    value(Value::StringValue(text.into()))
}

/// Attributes with `text` in a key and in every shape of value.
fn attributes(text: &str) -> Vec<KeyValue> {
    let attribute = |key: &str, value| KeyValue { key: key.into(), value, ..Default::default() };
    let list = Value::ArrayValue(ArrayValue { values: vec![self::text(text).unwrap(), self::text("plain").unwrap()] });
    let map =
        Value::KvlistValue(KeyValueList { values: vec![string(&format!("k {text}"), text), string("plain", "x")] });
    vec![
        attribute(&format!("header.{text}"), self::text("plain")),
        attribute("text", self::text(&format!("before {text} after"))),
        attribute("list", value(list)),
        attribute("map", value(map)),
        attribute("bytes", value(Value::BytesValue(format!("\u{0}\u{1} {text} \u{2}").into_bytes()))),
        attribute("plain", value(Value::IntValue(42))),
        attribute("half", value(Value::DoubleValue(0.5))),
        attribute("flag", value(Value::BoolValue(true))),
        attribute("nothing", None),
    ]
}

fn resource(text: &str) -> Option<Resource> {
    let entity_refs = vec![EntityRef {
        schema_url: text.into(),
        r#type: text.into(),
        id_keys: vec![text.into()],
        description_keys: vec![text.into()],
    }];
    Some(Resource { attributes: attributes(text), dropped_attributes_count: 1, entity_refs })
}

fn scope(text: &str) -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: format!("name {text}"),
        version: format!("v {text}"),
        attributes: attributes(text),
        dropped_attributes_count: 2,
    })
}

fn traces(text: &str) -> ExportTraceServiceRequest {
    let span = Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        trace_state: format!("vendor={text}"),
        parent_span_id: vec![3; 8],
        flags: 0x101,
        name: format!("GET /reset/{text}"),
        kind: 3,
        start_time_unix_nano: 1,
        end_time_unix_nano: 2,
        attributes: attributes(text),
        dropped_attributes_count: 3,
        events: vec![span::Event {
            time_unix_nano: 4,
            name: format!("event {text}"),
            attributes: attributes(text),
            dropped_attributes_count: 5,
        }],
        dropped_events_count: 6,
        links: vec![span::Link {
            trace_id: vec![4; 16],
            span_id: vec![5; 8],
            trace_state: format!("vendor={text}"),
            attributes: attributes(text),
            dropped_attributes_count: 7,
            flags: 1,
        }],
        dropped_links_count: 8,
        status: Some(Status { message: format!("401 invalid key {text}"), code: 2 }),
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: resource(text),
            scope_spans: vec![ScopeSpans {
                scope: scope(text),
                spans: vec![span],
                schema_url: format!("https://x/{text}"),
            }],
            schema_url: format!("https://x/{text}"),
        }],
    }
}

fn logs(text: &str) -> ExportLogsServiceRequest {
    let record = |body| LogRecord {
        time_unix_nano: 1,
        observed_time_unix_nano: 2,
        severity_number: 9,
        severity_text: format!("INFO {text}"),
        body,
        attributes: attributes(text),
        dropped_attributes_count: 1,
        flags: 1,
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        event_name: format!("event {text}"),
    };
    let body = Value::KvlistValue(KeyValueList { values: attributes(text) });
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: resource(text),
            scope_logs: vec![ScopeLogs {
                scope: scope(text),
                log_records: vec![record(self::text(text)), record(value(body)), record(None)],
                schema_url: text.into(),
            }],
            schema_url: text.into(),
        }],
    }
}

fn metrics(text: &str) -> ExportMetricsServiceRequest {
    let exemplars = vec![Exemplar {
        filtered_attributes: attributes(text),
        time_unix_nano: 1,
        span_id: vec![1; 8],
        trace_id: vec![2; 16],
        value: None,
    }];
    let number = NumberDataPoint { attributes: attributes(text), exemplars: exemplars.clone(), ..Default::default() };
    let histogram = HistogramDataPoint {
        attributes: attributes(text),
        count: 3,
        bucket_counts: vec![1, 2],
        explicit_bounds: vec![0.5],
        exemplars: exemplars.clone(),
        ..Default::default()
    };
    let exponential = ExponentialHistogramDataPoint { attributes: attributes(text), exemplars, ..Default::default() };
    let summary = SummaryDataPoint { attributes: attributes(text), ..Default::default() };
    let data = [
        Data::Gauge(Gauge { data_points: vec![number.clone()] }),
        Data::Sum(Sum { data_points: vec![number], aggregation_temporality: 2, is_monotonic: true }),
        Data::Histogram(Histogram { data_points: vec![histogram], aggregation_temporality: 2 }),
        Data::ExponentialHistogram(ExponentialHistogram { data_points: vec![exponential], aggregation_temporality: 2 }),
        Data::Summary(Summary { data_points: vec![summary] }),
    ];
    let metrics = data.into_iter().map(|data| Metric {
        name: format!("m.{text}"),
        description: format!("what {text}"),
        unit: format!("{{{text}}}"),
        metadata: attributes(text),
        data: Some(data),
    });
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: resource(text),
            scope_metrics: vec![ScopeMetrics {
                scope: scope(text),
                metrics: metrics.collect(),
                schema_url: text.into(),
            }],
            schema_url: text.into(),
        }],
    }
}

/// The oracle: what masking does to a request is what building it with the marker in place of the token does.
#[test]
fn every_text_bearing_place_of_every_signal_is_masked_and_nothing_else_changes() {
    let planted = [
        (Signal::Traces, encoded(&traces(&token())), encoded(&traces(MARKER))),
        (Signal::Logs, encoded(&logs(&token())), encoded(&logs(MARKER))),
        (Signal::Metrics, encoded(&metrics(&token())), encoded(&metrics(MARKER))),
    ];
    for (signal, body, expected) in planted {
        let output = masked(signal, &body);
        let survives = output.windows(20).position(|window| window == &token().as_bytes()[..20]);
        assert_eq!(survives, None, "{signal:?}");
        assert!(output == expected, "{signal:?}: only the tokens may change");
    }
}

#[test]
fn what_holds_no_secret_passes_as_the_same_bytes() {
    for (signal, body) in [
        (Signal::Traces, encoded(&traces("harmless"))),
        (Signal::Logs, encoded(&logs("harmless"))),
        (Signal::Metrics, encoded(&metrics("harmless"))),
    ] {
        assert_eq!(masked(signal, &body).as_ptr(), body.as_ptr(), "{signal:?}");
    }
}

#[test]
fn masking_twice_changes_nothing() {
    let once = masked(Signal::Traces, &encoded(&traces(&token())));
    assert_eq!(masked(Signal::Traces, &once).as_ptr(), once.as_ptr());
}

/// A card number as integer or whole double becomes the marker as a string, as does a number under a secret's name.
#[test]
fn numbers_are_masked_as_strings() {
    let number = |key: &str, value| KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value) }),
        ..Default::default()
    };
    let body = request(vec![span(
        1,
        "pay",
        vec![
            number("card", Value::IntValue(4_111_111_111_111_111)),
            number("order.card", Value::DoubleValue(4_111_111_111_111_111.0)),
            number("db.password", Value::IntValue(823_411)),
            number("gen_ai.usage.input_tokens", Value::IntValue(4_111)),
            number("latency", Value::DoubleValue(0.25)),
        ],
    )]);
    let output = ExportTraceServiceRequest::decode(masked(Signal::Traces, &encoded(&body))).unwrap();
    let span = &output.resource_spans[0].scope_spans[0].spans[0];
    let values: Vec<Value> = span.attributes.iter().map(|a| a.value.clone().unwrap().value.unwrap()).collect();
    for (value, attribute) in values[..3].iter().zip(&span.attributes) {
        assert!(matches!(value, Value::StringValue(text) if text.starts_with("[MASKED:")), "{}", attribute.key);
    }
    assert_eq!(values[3..], [Value::IntValue(4_111), Value::DoubleValue(0.25)]);
}

/// Field 900 of a span, length-delimited: a later OTLP version, or a vendor's extension.
fn with_unknown_field(payload: &[u8]) -> Bytes {
    let mut span = span(1, "x", vec![]).encode_to_vec();
    prost::encoding::encode_key(900, prost::encoding::WireType::LengthDelimited, &mut span);
    prost::encoding::encode_varint(payload.len() as u64, &mut span);
    span.extend_from_slice(payload);
    let wrapped = |field: u8, inner: Vec<u8>| {
        let mut out = vec![field << 3 | 2];
        prost::encoding::encode_varint(inner.len() as u64, &mut out);
        out.extend(inner);
        out
    };
    wrapped(1, wrapped(2, wrapped(2, span))).into()
}

#[test]
fn unknown_fields_are_masked_in_the_same_length() {
    let inner = string("key", &token()).encode_to_vec();
    for payload in [
        format!("text {} text", token()).into_bytes(),
        inner.clone(),
        [&[0x0a, inner.len() as u8][..], &inner].concat(),
    ] {
        let body = with_unknown_field(&payload);
        let output = masked(Signal::Traces, &body);
        assert_eq!(output.len(), body.len(), "lengths inside unknown messages stay valid");
        assert!(!output.windows(20).any(|window| window == &token().as_bytes()[..20]));
        assert!(output.windows(8).any(|window| window == b"[MASKED:"));
    }
}

/// A length byte that is a token character must not hide the token behind it.
#[test]
fn a_token_in_an_unknown_message_is_found_whatever_its_length_byte_is() {
    for padding in 0..60 {
        let inner = string("key", &format!("{} {}", token(), "x".repeat(padding))).encode_to_vec();
        let output = masked(Signal::Traces, &with_unknown_field(&inner));
        assert!(!output.windows(20).any(|window| window == &token().as_bytes()[..20]), "padding {padding}");
    }
}

#[test]
fn unknown_fields_can_be_dropped_or_refused() {
    let with = |unknown_fields| mask_with(mask::Config { unknown_fields, ..Default::default() });
    let body = with_unknown_field(token().as_bytes());
    let without = encoded(&ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            scope_spans: vec![ScopeSpans { spans: vec![span(1, "x", vec![])], ..Default::default() }],
            ..Default::default()
        }],
    });
    assert_eq!(apply(&[&with(mask::UnknownFields::Drop)], Signal::Traces, &body).unwrap(), without);
    let Err(Refusal::Malformed(message)) = apply(&[&with(mask::UnknownFields::Refuse)], Signal::Traces, &body) else {
        panic!("refused")
    };
    assert!(message.contains("spans[0]") && !message.contains("ghp_"), "{message}");
}

/// proto3 keeps the last of several copies of a singular field; a secret in a shadowed copy is still stored.
#[test]
fn shadowed_copies_of_singular_fields_are_masked_too() {
    let mut status = Status { message: token(), code: 2 }.encode_to_vec();
    status.extend(Status { message: "fine".into(), code: 2 }.encode_to_vec());
    let mut body = Vec::new();
    let mut span = Vec::new();
    prost::encoding::bytes::encode(15, &status, &mut span);
    let mut scope = Vec::new();
    prost::encoding::bytes::encode(2, &span, &mut scope);
    let mut resource = Vec::new();
    prost::encoding::bytes::encode(2, &scope, &mut resource);
    prost::encoding::bytes::encode(1, &resource, &mut body);
    let output = masked(Signal::Traces, &body.into());
    assert!(!output.windows(20).any(|window| window == &token().as_bytes()[..20]));
}

#[test]
fn invalid_utf8_is_scanned_as_bytes_and_forwarded_as_it_came() {
    let mut body = encoded(&request(vec![span(1, "x", vec![string("a", &format!("?? {} ??", token()))])])).to_vec();
    for at in 0..body.len() {
        if body[at..].starts_with(b"??") {
            body[at..at + 2].copy_from_slice(&[0xff, 0xfe]);
        }
    }
    let output = masked(Signal::Traces, &body.into());
    let expected = [&[0xff, 0xfe, b' '][..], MARKER.as_bytes(), &[b' ', 0xff, 0xfe]].concat();
    assert!(output.windows(expected.len()).any(|window| window == expected));
}

/// Content over its scan budget is masked whole; that costs the attribute, not its neighbours.
#[test]
fn an_attribute_over_its_budget_costs_only_itself() {
    let hostile = "Authorization: Basic ".repeat(200_000);
    let before = vec![string("hostile", &hostile), string("kept", "harmless"), string("secret", &token())];
    let after = vec![string("hostile", "[MASKED:unscanned]"), string("kept", "harmless"), string("secret", MARKER)];
    let output = masked(Signal::Traces, &encoded(&request(vec![span(1, "x", before)])));
    assert!(output == encoded(&request(vec![span(1, "x", after)])), "{} bytes", output.len());
}

#[test]
fn what_clients_claim_under_the_reserved_name_is_removed_everywhere() {
    let claim = || string("tracegate.tenant", "mallory");
    let mut claimed = traces("harmless");
    let mut clean = traces("harmless");
    let nested = KeyValueList { values: vec![string("tracegate.inside", "stays")] };
    let nested = KeyValue { key: "data".into(), value: value(Value::KvlistValue(nested)), ..Default::default() };
    for (request, claims) in [(&mut claimed, true), (&mut clean, false)] {
        let resource = &mut request.resource_spans[0];
        let scope = &mut resource.scope_spans[0];
        let span = &mut scope.spans[0];
        let attributes = [
            &mut resource.resource.as_mut().unwrap().attributes,
            &mut scope.scope.as_mut().unwrap().attributes,
            &mut span.attributes,
            &mut span.events[0].attributes,
            &mut span.links[0].attributes,
        ];
        for attributes in attributes {
            attributes.push(nested.clone());
            if claims {
                attributes.insert(1, claim());
                attributes.push(claim());
            }
        }
    }
    let output = apply(&[&identity_with(&[])], Signal::Traces, &encoded(&claimed)).unwrap();
    assert!(output == encoded(&clean));
}

#[test]
fn static_attributes_are_set_on_every_resource_once() {
    let stage = identity_with(&[("deployment.environment.name", "prod"), ("tracegate.tenant", "acme")]);
    let mut body = request(vec![span(1, "x", vec![string("deployment.environment.name", "a span's own stays")])]);
    body.resource_spans[0].resource.as_mut().unwrap().attributes.push(string("deployment.environment.name", "dev"));
    body.resource_spans.push(ResourceSpans {
        scope_spans: vec![ScopeSpans { spans: vec![span(2, "no resource", vec![])], ..Default::default() }],
        ..Default::default()
    });
    let output = apply(&[&stage], Signal::Traces, &encoded(&body)).unwrap();
    let output = ExportTraceServiceRequest::decode(output).unwrap();
    let set = [string("deployment.environment.name", "prod"), string("tracegate.tenant", "acme")];
    let resources: Vec<_> = output.resource_spans.iter().map(|r| r.resource.clone().unwrap().attributes).collect();
    assert_eq!(resources[0], [&[string("service.name", "test")][..], &set].concat());
    assert_eq!(resources[1], set);
    assert_eq!(output.resource_spans[0].scope_spans, body.resource_spans[0].scope_spans);
}

/// An attribute that goes and a secret inside it; a resource that gains and a secret at its end.
#[test]
fn identity_and_mask_compose() {
    let body = request(vec![span(1, "x", vec![string("tracegate.note", &token()), string("kept", &token())])]);
    let mut body = body;
    body.resource_spans[0].resource.as_mut().unwrap().attributes.push(string("last", &token()));
    let (identity, mask) = (identity_with(&[("team", "blue")]), mask_with(mask::Config::default()));
    for stages in [[&identity as &dyn Stage, &mask], [&mask, &identity]] {
        let output =
            ExportTraceServiceRequest::decode(apply(&stages, Signal::Traces, &encoded(&body)).unwrap()).unwrap();
        let resource = &output.resource_spans[0];
        let attributes = &resource.resource.as_ref().unwrap().attributes;
        assert_eq!(attributes[1..], [string("last", MARKER), string("team", "blue")]);
        assert_eq!(resource.scope_spans[0].spans[0].attributes, [string("kept", MARKER)]);
    }
}
