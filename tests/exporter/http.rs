//! OTLP over HTTP: the client lines of the OTLP checklist.

use crate::{
    backend::{Answer, Backend, Script, Seen},
    support::{Tally, all_released, enqueue, gunzip, names, outgoing, payload, poisoned, request},
};
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tracegate::{
    exporter::{Failure, Sender, Sent, otlp_http},
    otlp::Signal,
    pipeline::{Destination, Metadata, Payload},
};

const PROTOBUF: &str = "application/x-protobuf";

fn config(address: impl std::fmt::Display, more: Value) -> otlp_http::Config {
    let mut all = json!({
        "endpoint": format!("http://{address}"),
        "compression": "none",
        "retry_on_failure": {"initial_interval": "1ms", "max_interval": "2ms"},
    });
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(all).unwrap()
}

fn start(backend: &Backend, more: Value) -> (Arc<dyn Destination>, Arc<Tally>) {
    let tally = Tally::new();
    let exporter = otlp_http::start("otlp_http", &config(backend.address, more), tally.clone()).unwrap();
    (exporter, tally)
}

async fn one(answer: impl Into<Answer>) -> Result<Sent, Failure> {
    let answer = answer.into();
    let backend = Backend::start(move |_, _| answer.clone()).await;
    let sender = otlp_http::OtlpHttp::new(&config(backend.address, json!({}))).unwrap();
    sender.send(&outgoing(payload("a", 1))).await
}

fn accepts() -> impl Fn(usize, &Seen) -> Answer + Send + Sync {
    |_, _| Answer::http(200, PROTOBUF, "").into()
}

#[tokio::test]
async fn what_was_queued_arrives_byte_for_byte() {
    let backend = Backend::start(accepts()).await;
    let (exporter, tally) = start(&backend, json!({}));
    let bad = poisoned("bad");
    enqueue(&*exporter, bad.clone()).unwrap();
    tally.ended(1).await;
    let seen = backend.seen().pop().unwrap();
    assert_eq!(seen.body, bad.bytes);
    assert_eq!((seen.path.as_str(), seen.header("content-type")), ("/v1/traces", Some(PROTOBUF)));
    assert_eq!(seen.header("content-encoding"), None);
    all_released(&*exporter).await;
}

#[tokio::test]
async fn e1_a_retryable_status_is_tried_again_not_before_retry_after() {
    let backend = Backend::start(|n, _| {
        let mut busy = Answer::http(503, "text/plain", "busy");
        busy.headers.push(("retry-after", "1".to_owned()));
        if n == 0 { busy.into() } else { Answer::http(200, PROTOBUF, "").into() }
    })
    .await;
    let (exporter, tally) = start(&backend, json!({}));
    let began = Instant::now();
    enqueue(&*exporter, payload("a", 1)).unwrap();
    tally.ended(1).await;
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!((tally.all(), backend.seen().len()), ([1, 0, 0, 0], 2));
}

#[tokio::test]
async fn e1_retry_after_may_be_a_date() {
    let mut busy = Answer::http(429, "text/plain", "");
    let at = std::time::SystemTime::now() + Duration::from_secs(100);
    busy.headers.push(("retry-after", httpdate::fmt_http_date(at)));
    let Err(Failure::Retryable { after: Some(after), .. }) = one(busy).await else { panic!("not retryable") };
    assert!((Duration::from_secs(80)..=Duration::from_secs(100)).contains(&after), "{after:?}");
}

#[tokio::test]
async fn e2_only_429_502_503_and_504_are_tried_again() {
    for status in [429, 502, 503, 504] {
        let answer = one(Answer::http(status, "text/plain", "")).await;
        assert!(matches!(answer, Err(Failure::Retryable { .. })), "{status}: {answer:?}");
    }
    for status in [300, 304, 400, 401, 403, 404, 405, 408, 413, 415, 500, 501, 505] {
        let answer = one(Answer::http(status, "text/plain", "")).await;
        assert!(matches!(answer, Err(Failure::Refused { .. })), "{status}: {answer:?}");
    }
}

#[tokio::test]
async fn e4_a_success_that_cannot_be_read_is_permanent() {
    for (content_type, body) in [(PROTOBUF, "\u{a}\u{7f}"), ("application/json", "not json"), ("application/json", "")]
    {
        let answer = one(Answer::http(200, content_type, body)).await;
        assert!(matches!(answer, Err(Failure::Unconfirmed { .. })), "{content_type} {body:?}: {answer:?}");
    }
}

#[tokio::test]
async fn e4_every_2xx_is_success() {
    for status in [200, 202, 204, 299] {
        assert_eq!(one(Answer::http(status, "text/plain", "")).await, Ok(Sent::default()), "{status}");
    }
    assert_eq!(one(Answer::http(200, "text/plain; charset=utf-8", "thanks")).await, Ok(Sent::default()));
}

#[tokio::test]
async fn e5_an_error_body_is_read_by_its_content_type_and_its_text_is_not_repeated() {
    for (content_type, body) in
        [(PROTOBUF, "\u{8}\u{3}\u{12}\u{7}foreign"), ("application/json", r#"{"code":3,"message":"foreign"}"#)]
    {
        let failure = one(Answer::http(400, content_type, body)).await.unwrap_err();
        assert_eq!(failure, Failure::Refused { what: "the backend answered HTTP status 400 with code 3".into() });
    }
}

#[tokio::test]
async fn e6_connections_are_kept_and_say_who_calls() {
    let backend = Backend::start(accepts()).await;
    let (exporter, tally) = start(&backend, json!({"sending_queue": {"num_consumers": 1}}));
    for _ in 0..20 {
        enqueue(&*exporter, payload("a", 1)).unwrap();
    }
    tally.ended(20).await;
    assert_eq!(backend.connections(), 1);
    let agent = backend.seen().pop().unwrap().header("user-agent").unwrap().to_owned();
    assert!(agent.starts_with("tracegate/"), "{agent}");
}

#[tokio::test]
async fn e7_paths_are_appended_to_the_endpoint_and_own_endpoints_used_as_they_are() {
    let backend = Backend::start(accepts()).await;
    let more = json!({
        "endpoint": format!("http://{}/base/", backend.address),
        "logs_endpoint": format!("http://{}/elsewhere?x=1", backend.address),
    });
    let (exporter, tally) = start(&backend, more);
    for signal in Signal::ALL {
        enqueue(&*exporter, Payload { signal, bytes: Bytes::new(), count: 1, metadata: Metadata::default() }).unwrap();
    }
    tally.ended(3).await;
    let mut paths: Vec<String> = backend.seen().into_iter().map(|seen| seen.path).collect();
    paths.sort();
    assert_eq!(paths, ["/base/v1/metrics", "/base/v1/traces", "/elsewhere?x=1"]);
}

#[tokio::test]
async fn a_signal_without_an_endpoint_is_refused_with_a_reason() {
    let backend = Backend::start(accepts()).await;
    let more = json!({"endpoint": "", "traces_endpoint": format!("http://{}/t", backend.address)});
    let sender = otlp_http::OtlpHttp::new(&config(backend.address, more)).unwrap();
    let payload = Payload { signal: Signal::Logs, bytes: Bytes::new(), count: 1, metadata: Metadata::default() };
    let failure = sender.send(&outgoing(payload)).await.unwrap_err();
    assert_eq!(failure.to_string(), "either endpoint or logs_endpoint must be specified");
}

#[tokio::test]
async fn e8_gzip_is_the_default_and_none_really_means_none() {
    let backend = Backend::start(accepts()).await;
    for (compression, encoding) in [(None, Some("gzip")), (Some("zstd"), Some("zstd")), (Some("none"), None)] {
        let mut config = json!({"endpoint": format!("http://{}", backend.address)});
        if let Some(compression) = compression {
            config["compression"] = compression.into();
        }
        let sender = otlp_http::OtlpHttp::new(&serde_json::from_value(config).unwrap()).unwrap();
        for size in [10, 200_000] {
            let bytes: Bytes = request("s", 1, size).encode_to_vec().into();
            sender.send(&outgoing(Payload { bytes: bytes.clone(), ..payload("s", 1) })).await.unwrap();
            let seen = backend.seen().pop().unwrap();
            assert_eq!(seen.header("content-encoding"), encoding);
            let plain = match encoding {
                Some("gzip") => gunzip(&seen.body),
                Some(_) => zstd::decode_all(&*seen.body).unwrap().into(),
                None => seen.body,
            };
            assert_eq!(plain, bytes);
        }
    }
}

#[tokio::test]
async fn e8_headers_are_sent_and_the_protocols_own_are_refused() {
    let backend = Backend::start(accepts()).await;
    let (exporter, tally) = start(&backend, json!({"headers": {"X-Key": "k", "User-Agent": "mine/1"}}));
    enqueue(&*exporter, payload("a", 1)).unwrap();
    tally.ended(1).await;
    let seen = backend.seen().pop().unwrap();
    assert_eq!((seen.header("x-key"), seen.header("user-agent")), (Some("k"), Some("mine/1")));
    let ours = config(backend.address, json!({"headers": {"content-type": "text/plain"}}));
    assert!(otlp_http::start("x", &ours, Arc::new(())).is_err());
}

#[tokio::test]
async fn c5_partial_success_is_counted_in_both_encodings() {
    for (content_type, body) in [
        (PROTOBUF, "\u{a}\u{2}\u{8}\u{2}"),
        ("application/json; charset=utf-8", r#"{"partialSuccess":{"rejectedSpans":"2","errorMessage":"foreign"}}"#),
    ] {
        let backend = Backend::start(move |_, _| Answer::http(200, content_type, body).into()).await;
        let (exporter, tally) = start(&backend, json!({}));
        enqueue(&*exporter, payload("a", 5)).unwrap();
        tally.ended(5).await;
        assert_eq!((tally.all(), backend.seen().len()), ([3, 2, 0, 0], 1));
    }
}

#[tokio::test]
async fn c10_an_oversized_answer_is_permanent() {
    let answer = one(Answer::http(200, PROTOBUF, vec![0; 4 * 1024 * 1024 + 1])).await;
    assert!(matches!(answer, Err(Failure::Unconfirmed { .. })), "{answer:?}");
    let answer = one(Answer::http(503, PROTOBUF, vec![0; 4 * 1024 * 1024 + 1])).await;
    assert!(matches!(answer, Err(Failure::Retryable { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Backend::start(accepts()).await;
    let location = format!("http://{}/v1/traces", elsewhere.address);
    for status in [301, 302, 307, 308] {
        let mut redirect = Answer::http(status, "text/plain", "");
        redirect.headers.push(("location", location.clone()));
        let failure = one(redirect).await.unwrap_err();
        let what = format!("the backend answered HTTP status {status}, a redirect to 127.0.0.1, which is not followed");
        assert_eq!(failure, Failure::Refused { what: what.into() });
    }
    assert_eq!(elsewhere.seen().len(), 0);
}

#[tokio::test]
async fn json_is_what_the_specification_says() {
    let backend = Backend::start(accepts()).await;
    let (exporter, tally) = start(&backend, json!({"encoding": "json"}));
    let sent = request("s", 2, 10);
    enqueue(&*exporter, Payload { bytes: sent.encode_to_vec().into(), ..payload("s", 2) }).unwrap();
    tally.ended(2).await;
    let seen = backend.seen().pop().unwrap();
    assert_eq!(seen.header("content-type"), Some("application/json"));
    let arrived: ExportTraceServiceRequest = serde_json::from_slice(&seen.body).unwrap();
    assert_eq!(arrived, sent);
    assert_eq!(names(&arrived.encode_to_vec()), ["s-0", "s-1"]);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_retryable() {
    let headers = vec![("content-type", PROTOBUF.to_owned())];
    let body = Bytes::from_static(b"\x0a");
    let breaks = Script { status: 200, headers, body, breaks: true, ..Script::default() };
    assert!(matches!(one(breaks).await, Err(Failure::Retryable { .. })));
}

#[tokio::test]
async fn an_answer_before_the_request_was_read_is_heard() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let refuses = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let early = b"HTTP/1.1 413 Payload Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        stream.read_exact(&mut [0; 1000]).await.unwrap();
        stream.write_all(early).await.unwrap();
        let _rest = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    });
    let sender = otlp_http::OtlpHttp::new(&config(address, json!({}))).unwrap();
    let large = Payload { bytes: request("s", 1, 8 << 20).encode_to_vec().into(), ..payload("s", 1) };
    let answer = sender.send(&outgoing(large)).await;
    assert_eq!(answer, Err(Failure::Refused { what: "the backend answered HTTP status 413".into() }));
    refuses.abort();
}

#[tokio::test]
async fn a_backend_that_never_answers_costs_the_timeout_and_is_retried() {
    let backend = Backend::start(|n, _| match n {
        0 => Answer::Hang,
        _ => Answer::http(200, PROTOBUF, "").into(),
    })
    .await;
    let (exporter, tally) = start(&backend, json!({"timeout": "50ms"}));
    enqueue(&*exporter, payload("a", 1)).unwrap();
    tally.ended(1).await;
    assert_eq!((tally.all(), tally.retries()), ([1, 0, 0, 0], 1));
}
