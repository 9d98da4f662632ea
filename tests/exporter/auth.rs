//! The credential of an exporter's `auth`: on every request, as it is today, and nowhere else.

use crate::{
    backend::{Answer, Backend},
    support::{Log, Scratch, outgoing, payload},
    tls::{authority, server},
};
use serde_json::{Value, json};
use std::{fs, time::Duration};
use tracegate::{
    auth::{Authenticator, Authenticators},
    exporter::{Failure, Sender, Surroundings, otlp_grpc, otlp_http},
};

fn bearer(config: Value) -> Authenticator {
    Authenticator::bearer("bearertokenauth", &serde_json::from_value(config).unwrap()).unwrap()
}

fn with(authenticator: Authenticator) -> Surroundings {
    authenticator.start().unwrap();
    unstarted(authenticator)
}

fn unstarted(authenticator: Authenticator) -> Surroundings {
    let mut authenticators = Authenticators::default();
    authenticators.insert("ext".parse().unwrap(), Some(authenticator));
    Surroundings { authenticators, ..Surroundings::of_process() }
}

/// The configuration with `auth`, and `more`.
fn config<C: serde::de::DeserializeOwned>(endpoint: &str, more: Value) -> C {
    let mut config = json!({"endpoint": endpoint, "compression": "none", "auth": {"authenticator": "ext"}});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(config).unwrap()
}

fn grpc(backend: &Backend, around: &Surroundings) -> otlp_grpc::OtlpGrpc {
    let config = config(&format!("http://{}", backend.address), json!({}));
    otlp_grpc::OtlpGrpc::within(&config, around).unwrap()
}

fn http(backend: &Backend, around: &Surroundings) -> otlp_http::OtlpHttp {
    let config = config(&format!("http://{}", backend.address), json!({}));
    otlp_http::OtlpHttp::within(&config, around).unwrap()
}

fn error<T: std::fmt::Debug>(made: Result<T, tracegate::config::ConfigError>) -> String {
    made.unwrap_err().to_string()
}

async fn both() -> (Backend, Backend) {
    let ok = |_, _: &_| Answer::http(200, "application/x-protobuf", "").into();
    (Backend::start(|_, _| Answer::grpc_ok(b"")).await, Backend::start(ok).await)
}

#[tokio::test]
async fn g10_h9_every_request_carries_the_credential_once() {
    let (over_grpc, over_http) = both().await;
    let around = with(bearer(json!({"tokens": ["planted", "not-this"]})));
    let (grpc, http) = (grpc(&over_grpc, &around), http(&over_http, &around));
    for _ in 0..2 {
        grpc.send(&outgoing(payload("a", 1))).await.unwrap();
        http.send(&outgoing(payload("a", 1))).await.unwrap();
    }
    for seen in [over_grpc.seen(), over_http.seen()] {
        assert_eq!(seen.len(), 2);
        for one in seen {
            assert_eq!(one.headers.get_all("authorization").iter().collect::<Vec<_>>(), ["Bearer planted"]);
        }
    }
    assert!(!format!("{grpc:?} {http:?}").contains("planted"));
}

#[tokio::test]
async fn g10_h9_user_and_password_are_sent() {
    let (over_grpc, over_http) = both().await;
    let config = json!({"client_auth": {"username": "anna", "password": "pass:word"}});
    let around = with(Authenticator::basic(&serde_json::from_value(config).unwrap()).unwrap());
    grpc(&over_grpc, &around).send(&outgoing(payload("a", 1))).await.unwrap();
    http(&over_http, &around).send(&outgoing(payload("a", 1))).await.unwrap();
    for seen in [over_grpc.seen(), over_http.seen()] {
        assert_eq!(seen[0].header("authorization"), Some("Basic YW5uYTpwYXNzOndvcmQ="));
    }
}

#[tokio::test]
async fn g10_h9_a_changed_token_file_is_used_without_a_restart() {
    let (over_grpc, over_http) = both().await;
    let scratch = Scratch::new("auth-rotation");
    let path = scratch.0.join("token");
    fs::write(&path, "planted-old").unwrap();
    let around = with(bearer(json!({"filename": path, "header": "X-Key", "scheme": ""})));
    let (grpc, http) = (grpc(&over_grpc, &around), http(&over_http, &around));
    let sent = async || {
        grpc.send(&outgoing(payload("a", 1))).await.unwrap();
        http.send(&outgoing(payload("a", 1))).await.unwrap();
        let last = |backend: &Backend| backend.seen().last().unwrap().header("x-key").unwrap().to_owned();
        [last(&over_grpc), last(&over_http)]
    };
    assert_eq!(sent().await, ["planted-old"; 2]);
    fs::write(&path, "planted-new\n").unwrap();
    let changed = async {
        while sent().await != ["planted-new"; 2] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, changed).await.expect("the new token is sent");
    assert_eq!(over_grpc.connections(), 1, "over the same connection");
}

/// Better late than without: an attempt that has no credential yet is made again.
#[tokio::test]
async fn nothing_is_sent_before_there_is_a_credential() {
    let (over_grpc, over_http) = both().await;
    let around = unstarted(bearer(json!({"token": "planted"})));
    for failure in [
        grpc(&over_grpc, &around).send(&outgoing(payload("a", 1))).await.unwrap_err(),
        http(&over_http, &around).send(&outgoing(payload("a", 1))).await.unwrap_err(),
    ] {
        assert!(matches!(failure, Failure::Retryable { .. }), "{failure:?}");
        assert_eq!(failure.to_string(), "the authenticator has no credential yet");
    }
    assert!(over_grpc.seen().is_empty() && over_http.seen().is_empty());
}

/// A refused credential is for a person to put right; another attempt is only noise.
#[tokio::test]
async fn g10_h9_a_refused_credential_is_not_tried_again_and_not_shown() {
    let over_grpc = Backend::start(|_, _| Answer::grpc_status(16, None)).await;
    let over_http = Backend::start(|_, _| Answer::http(401, "text/plain", "Bearer planted").into()).await;
    let around = with(bearer(json!({"token": "planted"})));
    let log = Log::default();
    let guard = tracing::subscriber::set_default(log.clone());
    for failure in [
        grpc(&over_grpc, &around).send(&outgoing(payload("a", 1))).await.unwrap_err(),
        http(&over_http, &around).send(&outgoing(payload("a", 1))).await.unwrap_err(),
    ] {
        assert!(matches!(failure, Failure::Refused { .. }), "{failure:?}");
        assert!(!failure.to_string().contains("planted"), "{failure}");
    }
    drop(guard);
    assert!(!log.0.text().contains("planted"), "{}", log.0.text());
}

#[tokio::test]
async fn a_header_that_the_authenticator_sets_is_not_set_twice() {
    let around = with(bearer(json!({"token": "planted"})));
    for name in ["authorization", "Authorization"] {
        let more = json!({"headers": {name: "Bearer other"}});
        let says = format!("headers::{name}: is also set by authenticator \"ext\" (remove it, or remove auth)");
        let grpc = otlp_grpc::OtlpGrpc::within(&config("http://localhost:1", more.clone()), &around);
        assert_eq!(error(grpc), says);
        assert_eq!(error(otlp_http::OtlpHttp::within(&config("http://localhost:1", more), &around)), says);
    }
    let other = with(bearer(json!({"token": "planted", "header": "X-Key"})));
    let more = json!({"headers": {"authorization": "Bearer other"}});
    assert!(otlp_http::OtlpHttp::within(&config("http://localhost:1", more), &other).is_ok());
}

#[tokio::test]
async fn an_authenticator_has_to_be_there_and_fit() {
    let nobody = Surroundings::of_process();
    let says = "auth: failed to resolve authenticator \"ext\": authenticator not found (configure it under extensions and \
                list it in service::extensions)";
    assert_eq!(error(otlp_grpc::OtlpGrpc::within(&config("http://localhost:1", json!({})), &nobody)), says);
    assert_eq!(error(otlp_http::OtlpHttp::new(&config("http://localhost:1", json!({})))), says);
    let server = json!({"htpasswd": {"inline": "a:b"}});
    let server = with(Authenticator::basic(&serde_json::from_value(server).unwrap()).unwrap());
    assert_eq!(
        error(otlp_grpc::OtlpGrpc::within(&config("http://localhost:1", json!({})), &server)),
        "auth: requested authenticator is not a gRPC client authenticator"
    );
    assert_eq!(
        error(otlp_http::OtlpHttp::within(&config("http://localhost:1", json!({})), &server)),
        "auth: requested authenticator is not a HTTP client authenticator"
    );
}

/// As gRPC itself; over HTTP, where the Collector sends it all the same, there is a warning.
#[tokio::test]
async fn a_credential_does_not_cross_a_network_in_the_clear() {
    let around = with(bearer(json!({"token": "planted"})));
    let grpc = |endpoint: &str, tls: Value| {
        otlp_grpc::OtlpGrpc::within(&config(endpoint, json!({"tls": tls})), &around).map(|_| ())
    };
    for (endpoint, tls) in [
        ("backend.test:4317", json!({"insecure": true})),
        ("http://10.1.2.3:4317", json!({})),
        ("dns:///backend.test:4317", json!({"insecure": true})),
        ("passthrough:///[2001:db8::1]:4317", json!({"insecure": true})),
    ] {
        assert_eq!(
            error(grpc(endpoint, tls)),
            "auth: transport: cannot send secure credentials on an insecure connection (use TLS: remove tls::insecure and \
             http://)",
            "{endpoint}"
        );
    }
    for (endpoint, tls) in [
        ("backend.test:4317", json!({})),
        ("localhost:4317", json!({"insecure": true})),
        ("127.0.0.1:4317", json!({"insecure": true})),
        ("http://[::1]:4317", json!({})),
        ("unix:///run/backend.sock", json!({"insecure": true})),
    ] {
        assert!(grpc(endpoint, tls).is_ok(), "{endpoint}");
    }
    let warnings = |endpoint: &str| config::<otlp_http::Config>(endpoint, json!({})).warnings();
    let said = "auth: credentials are sent over connections that are not encrypted; use https://";
    assert_eq!(warnings("http://backend.test:4318"), [said]);
    for quiet in ["https://backend.test", "http://localhost:4318", "http://127.0.0.1:4318", "http://[::1]:4318"] {
        assert_eq!(warnings(quiet), [""; 0], "{quiet}");
    }
}

#[tokio::test]
async fn g10_a_credential_goes_through_tls() {
    let authority = authority();
    let scratch = Scratch::new("auth-tls");
    let ca = scratch.0.join("ca.pem");
    fs::write(&ca, authority.pem()).unwrap();
    let backend = Backend::secure(server(&authority, "localhost", None, &["h2"]), |_, _| Answer::grpc_ok(b"")).await;
    let around = with(bearer(json!({"token": "planted"})));
    let endpoint = format!("https://localhost:{}", backend.address.port());
    let config = config(&endpoint, json!({"tls": {"ca_file": ca}}));
    otlp_grpc::OtlpGrpc::within(&config, &around).unwrap().send(&outgoing(payload("a", 1))).await.unwrap();
    assert_eq!(backend.seen()[0].header("authorization"), Some("Bearer planted"));
}
