//! What an agent says beside its telemetry stays with the gateway: the binary between a client and a backend.

#[path = "../support/binary.rs"]
mod binary;

use crate::{
    backend::{Answer, Backend, Seen},
    support::{PATIENCE, request},
};
use binary::{Gateway, config, http};
use bytes::Bytes;
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use prost::Message;
use std::collections::BTreeSet;

/// What agents, SDKs and proxies in front of them send along; every value has the same secret in it.
const FROM_THE_AGENT: [(&str, &str); 12] = [
    ("authorization", "Bearer hunter2"),
    ("proxy-authorization", "Basic hunter2"),
    ("x-api-key", "hunter2"),
    ("api-key", "hunter2"),
    ("x-goog-api-key", "hunter2"),
    ("cookie", "session=hunter2"),
    ("x-scope-orgid", "hunter2"),
    ("x-forwarded-for", "hunter2"),
    ("traceparent", "00-hunter2"),
    ("baggage", "user=hunter2"),
    ("user-agent", "agent/hunter2"),
    ("x-langfuse-public-key", "hunter2"),
];

fn accepts() -> impl Fn(usize, &Seen) -> Answer + Send + Sync {
    |_, seen| match seen.header("content-type") {
        Some("application/grpc") => Answer::grpc_ok(b""),
        _ => Answer::http(200, "application/x-protobuf", "").into(),
    }
}

/// The same span over both of the gateway's ports, with everything an agent may send along.
async fn send_both(gateway: &Gateway) {
    let span = request("span", 1, 10).encode_to_vec();
    let (address, body) = (gateway.address("http"), span.clone());
    let mut head = "POST /v1/traces HTTP/1.1\r\nContent-Type: application/x-protobuf".to_owned();
    for (name, value) in FROM_THE_AGENT {
        head.push_str(&format!("\r\n{name}: {value}"));
    }
    let (status, _) = tokio::task::spawn_blocking(move || http(address, &head, &body)).await.unwrap();
    assert_eq!(status, 200);

    let mut message = vec![0];
    message.extend((span.len() as u32).to_be_bytes());
    message.extend(span);
    let path = tracegate::otlp::Signal::Traces.grpc_path();
    let mut call = ::http::Request::post(format!("http://{}{path}", gateway.address("grpc")))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in FROM_THE_AGENT {
        call = call.header(name, value);
    }
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let answer = client.request(call.body(Full::new(Bytes::from(message))).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_agent_sends_along_is_not_forwarded() {
    let backend = Backend::start(accepts()).await;
    let grpc = format!("otlp_grpc: {{endpoint: \"http://{}\", headers: {{x-own: ours}}}}", backend.address);
    let plain = format!("otlp_http: {{endpoint: \"http://{}\", headers: {{x-own: ours}}}}", backend.address);
    for (exporter, id, expected) in [
        (
            grpc,
            "otlp_grpc",
            vec!["content-length", "content-type", "grpc-encoding", "grpc-timeout", "te", "user-agent", "x-own"],
        ),
        (plain, "otlp_http", vec!["content-encoding", "content-length", "content-type", "host", "user-agent", "x-own"]),
    ] {
        let before = backend.seen().len();
        let pipeline = format!("{{receivers: [otlp], processors: [mask], exporters: [{id}]}}");
        // Metadata is even asked for: it is for batching, not for sending on.
        let config = config(&exporter, &pipeline)
            .replace("0\"}, http: {", "0\", include_metadata: true}, http: {include_metadata: true, ");
        assert!(config.matches("include_metadata").count() == 2, "{config}");
        let gateway = tokio::task::spawn_blocking(move || Gateway::start(&config)).await.unwrap();
        send_both(&gateway).await;
        let stopped = tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(move || gateway.stop()));
        let (status, log) = stopped.await.unwrap().unwrap();
        assert!(status.success(), "{log:?}");
        assert!(!log.join("\n").contains("hunter2"), "{log:?}");
        let seen = backend.seen().split_off(before);
        assert_eq!(seen.len(), 2, "{id}");
        let expected: BTreeSet<&str> = expected.into_iter().collect();
        for request in seen {
            let names: BTreeSet<&str> = request.headers.keys().map(::http::HeaderName::as_str).collect();
            assert!(names.is_subset(&expected), "{id} sent {:?}", names.difference(&expected));
            assert_eq!(request.header("x-own"), Some("ours"));
            assert!(!format!("{request:?}").contains("hunter2"), "{id}");
            // <Description>/<version> (<system>/<architecture>)
            let agent = request.header("user-agent").unwrap();
            let (product, system) = agent.split_once(' ').unwrap();
            assert_eq!(product, concat!("tracegate/", env!("CARGO_PKG_VERSION")), "e6");
            assert!(system.starts_with('(') && system.ends_with(')') && system.contains('/'), "e6: {agent}");
        }
    }
}
