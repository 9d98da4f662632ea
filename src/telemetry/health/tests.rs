//! The state and what probes see of it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::telemetry::{
    attacks,
    http::tests::{Answer, get},
};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

fn stopped(components: &[&str]) -> Status {
    Status::Unhealthy(components.iter().map(|text| (*text).to_owned()).collect())
}

#[test]
fn from_start_to_drain() {
    let health = Health::new();
    assert_eq!(health.status(), Status::Starting);
    health.ready();
    assert_eq!(health.status(), Status::Ready);
    health.draining();
    assert_eq!(health.status(), Status::Draining);
    health.ready();
    assert_eq!(health.status(), Status::Draining);
}

#[test]
fn a_worker_that_ends_unasked_makes_it_unhealthy() {
    let health = Health::new();
    let early = health.guard("receiver otlp");
    let fine = health.guard("exporter otlp_grpc");
    health.ready();
    fine.finished();
    assert_eq!(health.status(), Status::Ready);
    drop(early);
    assert_eq!(health.status(), stopped(&["receiver otlp"]));
    health.ready();
    assert_eq!(health.status(), stopped(&["receiver otlp"]));
    drop(health.guard("exporter debug"));
    assert_eq!(health.status().to_string(), "stopped: exporter debug, receiver otlp");
}

#[test]
fn a_worker_that_panics_makes_it_unhealthy() {
    let health = Health::new();
    health.ready();
    let guard = health.guard("worker");
    let worker = std::thread::spawn(move || {
        let _guard = guard;
        std::panic::resume_unwind(Box::new("as a defect would"));
    });
    assert!(worker.join().is_err());
    assert_eq!(health.status(), stopped(&["worker"]));
}

#[tokio::test]
async fn a_worker_that_is_aborted_makes_it_unhealthy() {
    let health = Health::new();
    health.ready();
    let guard = health.guard("worker");
    let worker = tokio::spawn(async move {
        let _guard = guard;
        std::future::pending::<()>().await;
    });
    worker.abort();
    assert!(worker.await.is_err());
    assert_eq!(health.status(), stopped(&["worker"]));
}

#[test]
fn workers_may_end_while_draining() {
    let health = Health::new();
    let guard = health.guard("receiver otlp");
    health.ready();
    health.draining();
    drop(guard);
    assert_eq!(health.status(), Status::Draining);
}

struct Server {
    address: SocketAddr,
    health: Health,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start(check: &str) -> Self {
        let check: HealthCheck = serde_json::from_str(check).unwrap();
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let health = Health::new();
        let shown = health.clone();
        let tls = check.tls.as_ref().map(|tls| tls.acceptor(&["http/1.1"]).unwrap());
        let task =
            tokio::spawn(async move { serve(listener, tls, &check, shown, async { drop(stopped.await) }).await });
        Self { address, health, stop, task }
    }

    async fn get(&self, path: &str) -> Answer {
        get(self.address, "GET", path).await
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }
}

#[tokio::test]
async fn probes_see_every_state() {
    let server = Server::start("{}").await;
    let answer = server.get("/").await;
    assert_eq!((answer.status, answer.content_type.as_deref()), (503, Some("application/json")));
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({"status": "Server not available", "upSince": "0001-01-01T00:00:00Z", "uptime": "",
            "reason": "starting"})
    );
    server.health.ready();
    for path in ["/", "/health/status", "/?verbose"] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, answer.content_type.as_deref()), (200, Some("application/json")), "{path}");
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(body["status"], "Server available");
        assert!(body["upSince"].as_str().unwrap().starts_with("20"));
        assert!(body["uptime"].as_str().unwrap().ends_with('s'));
        assert!(body.get("reason").is_none());
    }
    drop(server.health.guard("exporter otlp_grpc"));
    let answer = server.get("/").await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains(r#""reason":"stopped: exporter otlp_grpc""#), "{}", answer.body);
    server.health.draining();
    let answer = server.get("/").await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains(r#""reason":"draining""#));
    server.stop().await;
}

#[tokio::test]
async fn a_configured_path_is_the_only_one() {
    let server = Server::start(r#"{"path": "/healthz"}"#).await;
    server.health.ready();
    assert_eq!(server.get("/healthz").await.status, 200);
    assert_eq!(server.get("/").await.status, 404);
    server.stop().await;
}

#[tokio::test]
async fn probes_over_tls() {
    let made = rcgen::generate_simple_self_signed(vec!["gateway.test".to_owned()]).unwrap();
    let tls = serde_json::json!({"cert_pem": made.cert.pem(), "key_pem": made.signing_key.serialize_pem()});
    let server = Server::start(&serde_json::json!({"tls": tls}).to_string()).await;
    server.health.ready();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let name = "gateway.test".try_into().unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let plain = server.get("/").await;
    assert_eq!(plain.status, 400, "without TLS it is told so");
    server.stop().await;
}

#[tokio::test]
async fn configured_bodies() {
    let server = Server::start(r#"{"response_body": {"healthy": "yes", "unhealthy": "no"}}"#).await;
    let answer = server.get("/").await;
    assert_eq!((answer.status, answer.body.as_str()), (503, "no"));
    server.health.ready();
    let answer = server.get("/").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "yes"));
    server.stop().await;
}

#[test]
fn settings() {
    let read = |text: &str| serde_json::from_str::<HealthCheck>(text).map_err(|error| error.to_string());
    let default = read("{}").unwrap();
    assert_eq!(default, HealthCheck::default());
    assert_eq!((default.endpoint.as_str(), default.path.as_str()), ("127.0.0.1:13133", "/"));
    assert!(read(r#"{"use_v2": false}"#).is_ok());
    assert!(read(r#"{"check_collector_pipeline": {"enabled": false}}"#).is_ok());
    for (text, want) in [
        (r#"{"endpoint": ""}"#, "bad config: endpoint must be specified"),
        (r#"{"path": "health"}"#, "path must start with /"),
        (r#"{"path": "/{x}"}"#, "path must be a plain URL path"),
        (r#"{"tls": {"cert": ""}}"#, "unknown field `cert`"),
        (r#"{"use_v2": true}"#, "'use_v2' is not supported"),
        (r#"{"response_body": {"ok": ""}}"#, "unknown field `ok`"),
    ] {
        assert!(read(text).unwrap_err().starts_with(want), "{text}");
    }
}

#[test]
fn uptimes_read_as_in_go() {
    for (millis, want) in [(0, "0s"), (1, "0.001s"), (3500, "3.5s"), (60_000, "1m0s"), (3_723_004, "1h2m3.004s")] {
        assert_eq!(go_duration(Duration::from_millis(millis)), want);
    }
}

#[test]
fn no_attack_in_a_reason_acts() {
    for attack in attacks::all() {
        let text = body(&Status::Unhealthy(vec![attack]), None);
        attacks::assert_harmless(&text, &[]);
        let body: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(body["status"], "Server not available");
    }
}
