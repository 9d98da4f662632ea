//! OTLP over gRPC: the client lines of the OTLP checklist.

use crate::{
    backend::{Answer, Backend, Reserved, Script},
    support::{Log, Tally, all_released, enqueue, gunzip, names, outgoing, payload, poisoned, request},
};
use bytes::Bytes;
use prost::Message;
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::net::TcpListener;
use tracegate::{
    exporter::{Failure, Sender, Sent, otlp_grpc},
    otlp::Signal,
    pipeline::{Destination, Metadata, Payload},
};

/// Configuration for a backend, with quick retries; `more` replaces keys.
fn config(address: impl std::fmt::Display, more: Value) -> otlp_grpc::Config {
    let mut all = json!({
        "endpoint": address.to_string(),
        "tls": {"insecure": true},
        "compression": "none",
        "retry_on_failure": {"initial_interval": "1ms", "max_interval": "2ms"},
    });
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(all).unwrap()
}

fn start(backend: &Backend, more: Value) -> (Arc<dyn Destination>, Arc<Tally>) {
    let tally = Tally::new();
    let exporter = otlp_grpc::start("otlp_grpc", &config(backend.address, more), tally.clone()).unwrap();
    (exporter, tally)
}

/// One attempt at a backend that answers like this.
async fn one(answer: impl Into<Answer>) -> Result<Sent, Failure> {
    let answer = answer.into();
    let backend = Backend::start(move |_, _| answer.clone()).await;
    let sender = otlp_grpc::OtlpGrpc::new(&config(backend.address, json!({}))).unwrap();
    sender.send(&outgoing(payload("a", 1))).await
}

fn accepts() -> impl Fn(usize, &crate::backend::Seen) -> Answer + Send + Sync {
    |_, _| Answer::grpc_ok(b"")
}

#[tokio::test]
async fn what_was_queued_arrives_byte_for_byte() {
    let backend = Backend::start(accepts()).await;
    let (exporter, tally) = start(&backend, json!({}));
    let bad = poisoned("bad");
    let large = Payload { bytes: request("large", 3, 300_000).encode_to_vec().into(), ..payload("x", 3) };
    for payload in [bad.clone(), large.clone()] {
        enqueue(&*exporter, payload).unwrap();
    }
    tally.ended(4).await;
    let mut arrived: Vec<Bytes> = backend.seen().iter().map(|seen| seen.message().1).collect();
    arrived.sort_by_key(Bytes::len);
    assert_eq!(arrived, [bad.bytes, large.bytes]);
    assert_eq!(tally.all(), [4, 0, 0, 0]);
    all_released(&*exporter).await;
}

#[tokio::test]
async fn every_signal_has_its_method() {
    let backend = Backend::start(accepts()).await;
    let (exporter, tally) = start(&backend, json!({}));
    for signal in Signal::ALL {
        enqueue(&*exporter, Payload { signal, bytes: Bytes::new(), count: 1, metadata: Metadata::default() }).unwrap();
    }
    tally.ended(3).await;
    let mut paths: Vec<String> = backend.seen().into_iter().map(|seen| seen.path).collect();
    paths.sort();
    assert_eq!(
        paths,
        [
            "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        ]
    );
}

#[tokio::test]
async fn e1_unavailable_with_retry_info_is_tried_again_not_earlier() {
    let delay = Duration::from_millis(60);
    let backend = Backend::start(move |n, _| match n {
        0 => Answer::grpc_status(14, Some(delay)),
        _ => Answer::grpc_ok(b""),
    })
    .await;
    let (exporter, tally) = start(&backend, json!({}));
    let began = Instant::now();
    enqueue(&*exporter, payload("a", 1)).unwrap();
    tally.ended(1).await;
    assert!(began.elapsed() >= delay);
    assert_eq!((tally.all(), backend.seen().len()), ([1, 0, 0, 0], 2));
}

#[tokio::test]
async fn e1_every_retryable_code_is_tried_again() {
    for code in [1, 4, 10, 11, 14, 15] {
        let failure = one(Answer::grpc_status(code, None)).await.unwrap_err();
        assert!(matches!(failure, Failure::Retryable { after: None, .. }), "{code}: {failure:?}");
    }
}

#[tokio::test]
async fn e2_every_other_code_is_permanent_and_the_backends_text_is_not_repeated() {
    for code in [2, 3, 5, 6, 7, 9, 12, 13, 16, 99] {
        let failure = one(Answer::grpc_status(code, Some(Duration::ZERO))).await.unwrap_err();
        assert!(matches!(failure, Failure::Refused { .. }), "{code}: {failure:?}");
        assert!(!format!("{failure:?} {failure}").contains("foreign"), "{failure:?}");
    }
}

#[tokio::test]
async fn e3_resource_exhausted_is_retryable_only_with_retry_info() {
    assert!(matches!(one(Answer::grpc_status(8, None)).await, Err(Failure::Refused { .. })));
    let after = Some(Duration::from_secs(7));
    let failure = one(Answer::grpc_status(8, after)).await.unwrap_err();
    assert_eq!(failure, Failure::Retryable { what: "the backend answered RESOURCE_EXHAUSTED".into(), after });
}

#[tokio::test]
async fn e4_a_success_that_cannot_be_read_is_permanent() {
    let ok = || vec![("grpc-status", "0".to_owned())];
    for body in [&b""[..], b"\0\0\0\0\x02\x0a", b"\0\0\0\0\x03\x0a\xff\xff", b"\x01\0\0\0\0", b"junk"] {
        let answer = one(Answer::grpc(Bytes::from_static(body), ok())).await;
        assert!(matches!(answer, Err(Failure::Unconfirmed { .. })), "{body:?}: {answer:?}");
    }
}

#[tokio::test]
async fn c5_partial_success_is_success_and_the_rejected_are_counted() {
    // partial_success { rejected_spans: 2, error_message: "…" }, not even in UTF-8
    let backend = Backend::start(|_, _| Answer::grpc_ok(b"\x0a\x06\x08\x02\x12\x02\xff\xfe")).await;
    let (exporter, tally) = start(&backend, json!({}));
    enqueue(&*exporter, payload("a", 5)).unwrap();
    tally.ended(5).await;
    assert_eq!((tally.all(), backend.seen().len()), ([3, 2, 0, 0], 1));
}

#[tokio::test]
async fn c10_an_oversized_answer_is_permanent() {
    let answer = one(Answer::grpc_ok(&vec![0; 4 * 1024 * 1024 + 1])).await;
    assert!(matches!(answer, Err(Failure::Unconfirmed { .. })), "{answer:?}");
}

#[tokio::test]
async fn c10_a_request_over_the_limit_is_split() {
    let backend = Backend::start(accepts()).await;
    let (exporter, tally) = start(&backend, json!({"max_request_bytes": 4000}));
    let bytes: Bytes = request("s", 20, 500).encode_to_vec().into();
    enqueue(&*exporter, Payload { bytes: bytes.clone(), ..payload("s", 20) }).unwrap();
    tally.ended(20).await;
    let messages: Vec<Bytes> = backend.seen().iter().map(|seen| seen.message().1).collect();
    assert!(messages.len() > 1 && messages.iter().all(|message| message.len() <= 4000));
    let arrived: Vec<String> = messages.iter().flat_map(|message| names(message)).collect();
    assert_eq!(arrived, names(&bytes));
}

#[tokio::test]
async fn e6_one_connection_serves_all_requests_and_says_who_calls() {
    let backend = Backend::start(accepts()).await;
    let (exporter, tally) = start(&backend, json!({}));
    for _ in 0..30 {
        enqueue(&*exporter, payload("a", 1)).unwrap();
    }
    tally.ended(30).await;
    assert_eq!(backend.connections(), 1);
    for seen in backend.seen() {
        let agent = seen.header("user-agent").unwrap();
        assert!(agent.starts_with(concat!("tracegate/", env!("CARGO_PKG_VERSION"), " (")), "{agent}");
        assert_eq!(seen.version, http::Version::HTTP_2);
        assert_eq!(seen.header("te"), Some("trailers"));
        assert_eq!(seen.header("content-type"), Some("application/grpc"));
        assert_eq!(seen.header("grpc-timeout"), Some("5000000u"));
        assert_eq!(seen.authority.as_deref(), Some(backend.address.to_string().as_str()));
    }
}

#[tokio::test]
async fn e8_gzip_is_the_default_and_none_really_means_none() {
    let backend = Backend::start(accepts()).await;
    for (compression, encoding) in [(None, Some("gzip")), (Some("zstd"), Some("zstd")), (Some("none"), None)] {
        let mut config = serde_json::to_value(json!({
            "endpoint": backend.address.to_string(), "tls": {"insecure": true},
        }))
        .unwrap();
        if let Some(compression) = compression {
            config["compression"] = compression.into();
        }
        let sender = otlp_grpc::OtlpGrpc::new(&serde_json::from_value(config).unwrap()).unwrap();
        for size in [10, 200_000] {
            let bytes: Bytes = request("s", 1, size).encode_to_vec().into();
            let payload = Payload { bytes: bytes.clone(), ..payload("s", 1) };
            sender.send(&outgoing(payload)).await.unwrap();
            let seen = backend.seen().pop().unwrap();
            let (compressed, message) = seen.message();
            assert_eq!(seen.header("grpc-encoding"), encoding);
            assert_eq!(compressed, encoding.is_some());
            let plain = match encoding {
                Some("gzip") => gunzip(&message),
                Some(_) => zstd::decode_all(&*message).unwrap().into(),
                None => message,
            };
            assert_eq!(plain, bytes);
        }
    }
}

#[tokio::test]
async fn e8_configured_headers_are_sent_and_cannot_replace_the_protocols() {
    let backend = Backend::start(accepts()).await;
    let more = json!({"headers": {"X-Scope-OrgID": "tenant", "authorization": "Bearer t"}, "user_agent": "mine/1"});
    let (exporter, tally) = start(&backend, more);
    enqueue(&*exporter, payload("a", 1)).unwrap();
    tally.ended(1).await;
    let seen = backend.seen().pop().unwrap();
    assert_eq!(seen.header("x-scope-orgid"), Some("tenant"));
    assert_eq!(seen.header("authorization"), Some("Bearer t"));
    assert_eq!(seen.header("user-agent"), Some("mine/1"));
    let ours = config(backend.address, json!({"headers": {"content-type": "text/plain"}}));
    assert!(otlp_grpc::start("x", &ours, Arc::new(())).is_err());
}

#[tokio::test]
async fn e9_what_is_left_at_shutdown_is_recorded() {
    let nobody = Reserved::new();
    let tally = Tally::new();
    let exporter = otlp_grpc::start("x", &config(nobody.address(), json!({})), tally.clone()).unwrap();
    for _ in 0..30 {
        enqueue(&*exporter, payload("a", 2)).unwrap();
    }
    assert_eq!(exporter.drain(Instant::now() + Duration::from_millis(100)).await, 60);
    assert_eq!(tally.all(), [0, 0, 0, 60]);
}

#[tokio::test]
async fn e10_a_scheme_decides_over_insecure() {
    let backend = Backend::start(accepts()).await;
    let plain = config(format!("http://{}", backend.address), json!({"tls": {}}));
    otlp_grpc::OtlpGrpc::new(&plain).unwrap().send(&outgoing(payload("a", 1))).await.unwrap();
    // The backend does not speak TLS, so both of these must fail to connect, and send nothing readable.
    let seen = backend.seen().len();
    for (endpoint, tls) in
        [(format!("https://{}", backend.address), json!({"insecure": true})), (backend.address.to_string(), json!({}))]
    {
        let config = config(endpoint, json!({"tls": tls}));
        let failure = otlp_grpc::OtlpGrpc::new(&config).unwrap().send(&outgoing(payload("a", 1))).await;
        assert!(matches!(failure, Err(Failure::Retryable { .. })), "{failure:?}");
    }
    assert_eq!(backend.seen().len(), seen);
}

#[tokio::test]
async fn a_backend_that_comes_up_later_gets_everything() {
    let nobody = Reserved::new();
    let tally = Tally::new();
    let exporter = otlp_grpc::start("x", &config(nobody.address(), json!({})), tally.clone()).unwrap();
    for _ in 0..20 {
        enqueue(&*exporter, payload("a", 1)).unwrap();
    }
    while tally.retries() < 10 {
        tokio::task::yield_now().await;
    }
    let backend = Backend::on(nobody.listen(), accepts());
    tally.ended(20).await;
    assert_eq!((tally.all(), backend.seen().len()), ([20, 0, 0, 0], 20));
}

#[tokio::test]
async fn a_backend_that_restarts_is_found_again() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = || TcpListener::from_std(listener.try_clone().unwrap()).unwrap();
    let first = Backend::on(listener(), accepts());
    let (exporter, tally) = start(&first, json!({}));
    enqueue(&*exporter, payload("a", 1)).unwrap();
    tally.ended(1).await;
    drop(first);
    let _second = Backend::on(listener(), accepts());
    enqueue(&*exporter, payload("b", 1)).unwrap();
    tally.ended(2).await;
    assert_eq!(tally.all(), [2, 0, 0, 0]);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_retryable() {
    let breaks = Script {
        status: 200,
        headers: vec![("content-type", "application/grpc".to_owned())],
        body: Bytes::from_static(b"\0\0\0"),
        breaks: true,
        ..Script::default()
    };
    assert!(matches!(one(breaks.clone()).await, Err(Failure::Retryable { .. })));
    let without_status = Script { breaks: false, ..breaks };
    assert!(matches!(one(without_status).await, Err(Failure::Retryable { .. })));
}

#[tokio::test]
async fn a_backend_that_never_answers_costs_the_timeout_and_is_retried() {
    let backend = Backend::start(|n, _| if n == 0 { Answer::Hang } else { Answer::grpc_ok(b"") }).await;
    let (exporter, tally) = start(&backend, json!({"timeout": "50ms"}));
    enqueue(&*exporter, payload("a", 1)).unwrap();
    tally.ended(1).await;
    assert_eq!((tally.all(), tally.retries()), ([1, 0, 0, 0], 1));
}

#[tokio::test]
async fn a_proxy_that_is_no_grpc_server_is_understood() {
    let page = |status| Answer::http(status, "text/html", "<h1>no</h1>");
    assert!(matches!(one(page(503)).await, Err(Failure::Retryable { .. })));
    assert!(matches!(one(page(404)).await, Err(Failure::Refused { .. })));
    assert!(matches!(one(page(200)).await, Err(Failure::Refused { .. })));
}

#[tokio::test]
async fn one_clients_invalid_text_does_not_cost_its_neighbours() {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    let backend = Backend::start(|_, seen| match ExportTraceServiceRequest::decode(seen.message().1) {
        Ok(_) => Answer::grpc_ok(b""),
        Err(_) => Answer::grpc_status(13, None),
    })
    .await;
    let more = json!({"sending_queue": {"batch": {"min_size": 5, "flush_timeout": "1h"}}});
    let (exporter, tally) = start(&backend, more);
    enqueue(&*exporter, payload("a", 2)).unwrap();
    enqueue(&*exporter, poisoned("bad")).unwrap();
    enqueue(&*exporter, payload("c", 2)).unwrap();
    tally.ended(5).await;
    assert_eq!(tally.all(), [4, 0, 1, 0]);
    all_released(&*exporter).await;
}

#[tokio::test]
async fn neither_log_nor_error_repeats_payload_credentials_or_the_backends_words() {
    let log = Log::default();
    let _logging = tracing::subscriber::set_default(log.clone());
    let backend = Backend::start(|n, _| match n {
        0 => Answer::grpc_status(14, None),
        1 => Answer::grpc_status(3, None),
        _ => Answer::grpc_ok(b"\x0a\x0b\x08\x01\x12\x07foreign"),
    })
    .await;
    let (exporter, tally) = start(&backend, json!({"headers": {"authorization": "Bearer hunter2"}}));
    enqueue(&*exporter, payload("planted", 1)).unwrap();
    tally.ended(1).await;
    enqueue(&*exporter, payload("planted", 1)).unwrap();
    tally.ended(2).await;
    assert_eq!(tally.all(), [0, 1, 1, 0]);
    let text = log.0.text();
    assert!(text.contains("exporting failed; will try again"), "{text}");
    assert!(text.contains("exporting failed; dropping data"), "{text}");
    assert!(text.contains("INVALID_ARGUMENT"), "{text}");
    for forbidden in ["foreign", "planted", "hunter2"] {
        assert!(!text.contains(forbidden), "{forbidden} in {text}");
    }
}
