//! OTLP/JSON over HTTP by the checklist.

use crate::support::*;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, ArrayValue, any_value::Value},
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::Event, span::Link},
};
use prost::Message;
use tracegate::{
    otlp::Signal,
    pipeline::{Accepted, Refusal, Transport},
    receiver::Rejected,
};

const REQUEST: &str = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{
    "traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"eee19b7ec3c1b174","name":"a span","kind":2,
    "startTimeUnixNano":"1544712660000000000","endTimeUnixNano":1544712661000000000,"unknownField":{"a":[1]},
    "attributes":[{"key":"k","value":{"stringValue":"v"}}]}]}]}]}"#;

fn decoded(server: &Server) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest::decode(server.recorder.last().1).unwrap()
}

/// What a request with one span of these fields becomes.
async fn span_of(server: &Server, fields: &str) -> Span {
    let body = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{fields}}}]}}]}}]}}"#);
    let answer = post_traces(server, JSON, body).await;
    assert_eq!(answer.status(), 200, "{fields}: {:?}", answer.json());
    decoded(server).resource_spans.remove(0).scope_spans.remove(0).spans.remove(0)
}

#[tokio::test]
async fn h2_a_json_request_arrives_as_protobuf_and_is_answered_in_json() {
    let server = Server::start().await;
    for content_type in [JSON, "application/json; charset=utf-8", "APPLICATION/JSON"] {
        let answer = post_traces(&server, content_type, REQUEST).await;
        assert_eq!((answer.status(), answer.header("content-type"), &answer.body[..]), (200, JSON, &b"{}"[..]));
        assert_eq!(decoded(&server).resource_spans[0].scope_spans[0].spans[0].name, "a span");
    }
    server.at_rest().await;
}

#[tokio::test]
async fn j1_ids_are_hexadecimal_in_any_case_and_of_their_length() {
    let server = Server::start().await;
    let ids = r#""traceId":"5B8EFFF798038103d269b633813fc60c","spanId":"eee19B7EC3C1B174","parentSpanId":"""#;
    let span = span_of(&server, ids).await;
    assert_eq!((span.trace_id[0], span.trace_id.len(), span.span_id[7], span.span_id.len()), (0x5b, 16, 0x74, 8));
    assert!(span.parent_span_id.is_empty());
    for wrong in [r#""traceId":"5b8e""#, r#""spanId":"W47/95gDgQM=""#, r#""traceId":7"#] {
        let body = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{wrong}}}]}}]}}]}}"#);
        assert_eq!(post_traces(&server, JSON, body).await.status(), 400, "{wrong}");
    }
}

#[tokio::test]
async fn j2_integers_of_64_bits_come_as_strings_or_numbers() {
    let server = Server::start().await;
    let times = r#""startTimeUnixNano":"1544712660000000000","endTimeUnixNano":1544712661000000001,"flags":"3""#;
    let span = span_of(&server, times).await;
    assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (1544712660000000000, 1544712661000000001));
    assert_eq!(span.flags, 3);
}

#[tokio::test]
async fn j3_enums_come_as_integers_and_leniently_as_names() {
    let server = Server::start().await;
    for kind in ["3", r#""SPAN_KIND_CLIENT""#] {
        assert_eq!(span_of(&server, &format!(r#""kind":{kind},"status":{{"code":2}}"#)).await.kind, 3, "{kind}");
    }
}

#[tokio::test]
async fn j4_unknown_fields_are_ignored_at_every_level() {
    let server = Server::start().await;
    let body = r#"{"new":1,"resourceSpans":[{"new":{"a":[1]},"resource":{"new":null},"scopeSpans":[{"new":"a",
        "scope":{"new":1},"spans":[{"name":"a","new":[{}],"events":[{"new":1}],"attributes":[{"key":"k","new":1,
        "value":{"stringValue":"v","new":1}}]}]}]}]}"#;
    assert_eq!(post_traces(&server, JSON, body).await.status(), 200);
    let span = &decoded(&server).resource_spans[0].scope_spans[0].spans[0];
    assert_eq!((span.name.as_str(), span.events.len(), span.attributes.len()), ("a", 1, 1));
}

#[tokio::test]
async fn j5_values_of_every_kind_and_empty_ones() {
    let server = Server::start().await;
    let span = span_of(
        &server,
        r#""attributes":[{"key":"b","value":{"bytesValue":"AAH/"}},{"key":"l","value":{"arrayValue":{"values":[
        {"intValue":"1"},{}]}}},{"key":"m","value":{"kvlistValue":{"values":[{"key":"n","value":{"boolValue":true}}]}}},
        {"key":"e","value":{}},{"key":"a"},{"key":"z","value":null}]"#,
    )
    .await;
    let values: Vec<_> = span.attributes.into_iter().map(|pair| pair.value.and_then(|value| value.value)).collect();
    let int = AnyValue { value: Some(Value::IntValue(1)) };
    assert_eq!(values[0], Some(Value::BytesValue(vec![0, 1, 255])));
    assert_eq!(values[1], Some(Value::ArrayValue(ArrayValue { values: vec![int, AnyValue { value: None }] })));
    assert!(matches!(&values[2], Some(Value::KvlistValue(list)) if list.values.len() == 1));
    assert_eq!(values[3..], [None, None, None]);
}

/// Through the server: what the oracle writes as JSON arrives as what it was.
#[tokio::test]
async fn j6_a_request_as_json_arrives_as_the_same_protobuf() {
    let server = Server::start().await;
    let span = Span {
        trace_id: vec![0xab; 16],
        span_id: vec![1; 8],
        parent_span_id: vec![2; 8],
        trace_state: "a=b".to_owned(),
        flags: 0x301,
        name: "n".to_owned(),
        kind: 5,
        start_time_unix_nano: u64::MAX,
        end_time_unix_nano: 1,
        dropped_attributes_count: 1,
        dropped_events_count: 2,
        dropped_links_count: 3,
        events: vec![Event {
            time_unix_nano: 4,
            name: "e".to_owned(),
            dropped_attributes_count: 5,
            ..Event::default()
        }],
        links: vec![Link { trace_id: vec![3; 16], span_id: vec![4; 8], flags: 1, ..Link::default() }],
        status: Some(Status { message: "m".to_owned(), code: 2 }),
        ..Span::default()
    };
    let scope_spans =
        vec![ScopeSpans { spans: vec![span], schema_url: "https://s".to_owned(), ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, schema_url: "https://r".to_owned(), ..Default::default() }];
    let request = ExportTraceServiceRequest { resource_spans };
    assert_eq!(post_traces(&server, JSON, serde_json::to_vec(&request).unwrap()).await.status(), 200);
    assert_eq!(decoded(&server), request);
}

#[tokio::test]
async fn c1_compressed_json_is_accepted() {
    let server = Server::start().await;
    let large = REQUEST.replace("\"v\"", &format!("\"{}\"", "v".repeat(700_000)));
    for (name, body) in [("gzip", gzip(large.as_bytes())), ("zstd", zstd(large.as_bytes()))] {
        let request = post(&server, "/v1/traces", JSON).header("content-encoding", name).body(body).unwrap();
        assert_eq!(send(request).await.status(), 200, "{name}");
        assert!(decoded(&server).encoded_len() > 700_000);
    }
    server.at_rest().await;
}

#[tokio::test]
async fn c3_an_empty_json_request_succeeds_without_reaching_the_pipeline() {
    let server = Server::start().await;
    for body in ["{}", " {\n} ", r#"{"resourceSpans":[]}"#, r#"{"resourceSpans":null}"#] {
        let answer = post_traces(&server, JSON, body).await;
        assert_eq!((answer.status(), &answer.body[..]), (200, &b"{}"[..]), "{body}");
    }
    assert_eq!((server.recorder.count(), server.recorder.rejections().len()), (0, 0));
}

#[tokio::test]
async fn c4_partial_success_in_json_names_the_signals_items() {
    let server = Server::start().await;
    server.recorder.answers(Ok(Accepted { rejected: 7, message: "blocked".to_owned() }));
    for (signal, body, name) in [
        (Signal::Traces, r#"{"resourceSpans":[{}]}"#, "rejectedSpans"),
        (Signal::Logs, r#"{"resourceLogs":[{}]}"#, "rejectedLogRecords"),
        (Signal::Metrics, r#"{"resourceMetrics":[{}]}"#, "rejectedDataPoints"),
    ] {
        let answer = send(post(&server, signal.http_path(), JSON).body(body.into()).unwrap()).await;
        let expected = serde_json::json!({ "partialSuccess": { name: "7", "errorMessage": "blocked" } });
        assert_eq!((answer.status(), answer.json()), (200, expected));
    }
}

#[tokio::test]
async fn h4_undecodable_json_is_400_with_a_status_in_json_and_no_payload() {
    let server = Server::start().await;
    for body in [
        "",
        "not json",
        "[]",
        "{",
        r#"{"resourceSpans":"sk-secret"}"#,
        r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"sk-secret"}]}]}]}"#,
        r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"kind":{}}]}]}]}"#,
        r#"{"sk-secret": }"#,
        "{\"resourceSpans\":[]} trailing sk-secret",
    ] {
        let answer = post_traces(&server, JSON, body).await;
        assert_eq!((answer.status(), answer.header("content-type")), (400, JSON), "{body}");
        let status = answer.json();
        assert_eq!(status["code"], 3, "{body}");
        assert!(status["message"].as_str().unwrap().contains("line "), "{status}");
        assert_eq!(status["details"][0]["@type"], "type.googleapis.com/google.rpc.BadRequest");
        assert!(!status.to_string().contains("secret"), "{status}");
    }
    assert_eq!(server.recorder.count(), 0);
    assert_eq!(server.recorder.rejections(), vec![(Signal::Traces, Transport::Http, Rejected::Malformed); 9]);
}

#[tokio::test]
async fn deeply_nested_json_is_refused_and_never_a_crash() {
    let server = Server::start().await;
    let deep = |open: &str, close: &str, n: usize| format!("{}{}", open.repeat(n), close.repeat(n));
    // Unknown fields are ignored however deep they are (J4); known ones are held to the depth of the wire form.
    for (body, status) in [
        (deep("{\"a\":", "}", 1_000_000).replace(":}", ":0}"), 200),
        (format!(r#"{{"unknown":{}}}"#, deep("[", "]", 1_000_000)), 200),
        (deep("[", "]", 1_000_000), 400),
        (format!(r#"{{"unknown":{}}}"#, "[".repeat(1_000_000)), 400),
        (
            format!(
                r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"k","value":{}{{}}{}}}]}}}}]}}"#,
                r#"{"arrayValue":{"values":["#.repeat(5000),
                "]}}".repeat(5000)
            ),
            413,
        ),
    ] {
        let answer = post_traces(&server, JSON, body).await;
        assert_eq!(answer.status(), status);
    }
    assert_eq!(server.recorder.count(), 0);
    server.at_rest().await;
}

#[tokio::test]
async fn h5_refusals_come_in_json_to_a_json_client() {
    let server = Server::start().await;
    server.recorder.answers(Err(Refusal::Overloaded {
        message: "the queue is full".to_owned(),
        retry_after: std::time::Duration::from_secs(3),
    }));
    let answer = post_traces(&server, JSON, REQUEST).await;
    assert_eq!((answer.status(), answer.header("content-type"), answer.header("retry-after")), (503, JSON, "3"));
    assert_eq!(answer.json(), serde_json::json!({ "code": 14, "message": "the queue is full" }));
    let answer = send(post(&server, "/v1/nothing", JSON).body("{}".into()).unwrap()).await;
    assert_eq!((answer.status(), answer.json()["code"].clone()), (404, 12.into()));
    assert!(server.recorder.last().2.transport == Transport::Http);
}

/// A list of one-digit doubles takes four times as many bytes in protobuf; the limit holds for both forms.
#[tokio::test]
async fn h6_json_that_grows_beyond_the_limit_is_413() {
    let server = Server::with(limited(10_000)).await;
    let metrics = |doubles: usize| {
        let bounds = vec!["1"; doubles].join(",");
        format!(
            "{{\"resourceMetrics\":[{{\"scopeMetrics\":[{{\"metrics\":[{{\"name\":\"m\",\"histogram\":{{\"dataPoints\":\
             [{{\"explicitBounds\":[{bounds}]}}]}}}}]}}]}}]}}"
        )
    };
    assert!(metrics(2000).len() < 10_000);
    for (doubles, status) in [(1000, 200), (2000, 413)] {
        let request = post(&server, "/v1/metrics", JSON).body(metrics(doubles).into()).unwrap();
        assert_eq!(send(request).await.status(), status);
    }
}

#[tokio::test]
async fn h6_oversize_json_is_413() {
    let server = Server::with(limited(1000)).await;
    let body = format!("{{\"a\":\"{}\"}}", "a".repeat(2000));
    let answer = post_traces(&server, JSON, body).await;
    assert_eq!((answer.status(), answer.json()["code"].clone()), (413, 2.into()));
}
