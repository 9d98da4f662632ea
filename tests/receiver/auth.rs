//! Who may send: credentials are asked for before a byte of a request's body is read, on both protocols.

use crate::support::*;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::fs;
use tracegate::{
    auth::{Authenticator, Method, PrincipalKind},
    otlp::Signal,
    pipeline::Transport,
    receiver::{Allowed, Auth, Cors, Rejected, Settings},
};

fn bearer(config: Value) -> Authenticator {
    let authenticator = Authenticator::bearer("bearertokenauth", &serde_json::from_value(config).unwrap()).unwrap();
    authenticator.start().unwrap();
    authenticator
}

fn basic(lines: &str) -> Authenticator {
    let config = json!({"htpasswd": {"inline": lines}});
    let authenticator = Authenticator::basic(&serde_json::from_value(config).unwrap()).unwrap();
    authenticator.start().unwrap();
    authenticator
}

fn guarded(authenticator: &Authenticator) -> Settings {
    let mut settings = settings();
    let auth = || Some(Auth { server: authenticator.server().unwrap(), request_params: vec![] });
    (grpc(&mut settings).auth, http(&mut settings).auth) = (auth(), auth());
    settings
}

async fn server() -> Server {
    Server::with(guarded(&bearer(json!({"tokens": ["planted-one", "planted-two"]})))).await
}

/// Posts with these values of `authorization`.
async fn posted(server: &Server, content_type: &str, values: &[&[u8]]) -> Answer {
    let mut request = post(server, "/v1/traces", content_type);
    for value in values {
        request = request.header("authorization", *value);
    }
    send(request.body(spans("a")).unwrap()).await
}

async fn called(server: &Server, values: &[&[u8]]) -> Answer {
    let mut request = call(server, Signal::Traces);
    for value in values {
        request = request.header("authorization", *value);
    }
    let body = spans("a");
    raw_call(server, request.body(framed(0, body.len() as u32, &body)).unwrap()).await
}

/// Credentials that are none, and what is said of them.
const BAD: [(&[&[u8]], &str); 9] = [
    (&[], "missing or empty authorization header: Authorization"),
    (&[b""], "missing or empty authorization header: Authorization"),
    (&[b"Bearer planted-on"], "scheme or token does not match"),
    (&[b"Bearer planted-one-and-more"], "scheme or token does not match"),
    (&[b"Bearer"], "scheme or token does not match"),
    (&[b"Basic planted-one"], "scheme or token does not match"),
    (&[b"Bearer planted-\xff\xfe"], "scheme or token does not match"),
    (&[b"Bearer planted-one", b"Bearer planted-one"], "more than one credential in the request"),
    (&[b"Bearer planted-one", b"Bearer other"], "more than one credential in the request"),
];

#[tokio::test]
async fn g10_a_call_without_a_good_credential_is_unauthenticated() {
    let server = server().await;
    for (values, says) in BAD {
        let status = called(&server, values).await.grpc();
        assert_eq!((status.code(), status.message()), (tonic::Code::Unauthenticated, says));
        assert!(status.details().is_empty(), "nothing that asks for a retry");
    }
    assert_eq!(server.recorder.count(), 0);
    assert_eq!(
        server.recorder.rejections(),
        vec![(Signal::Traces, Transport::Grpc, Rejected::Unauthenticated); BAD.len()]
    );
    for good in [&b"Bearer planted-one"[..], b"bearer planted-two"] {
        assert_eq!(called(&server, &[good]).await.grpc().code(), tonic::Code::Ok);
    }
    let (_, _, origin) = server.recorder.last();
    let principal = origin.principal.clone().unwrap();
    assert_eq!((&*principal.id, principal.method), ("bearertokenauth", Method::Bearer));
    assert_eq!(principal.kind, PrincipalKind::TokenHolder);
    assert!(!format!("{origin:?}").contains("planted"));
    server.at_rest().await;
}

#[tokio::test]
async fn h9_a_request_without_a_good_credential_is_401_in_its_own_encoding() {
    let server = server().await;
    for (values, says) in BAD {
        let answer = posted(&server, PROTOBUF, values).await;
        assert_eq!((answer.status(), answer.header("content-type")), (401, PROTOBUF));
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"tracegate\"");
        assert_eq!(answer.header("retry-after"), "");
        let status = answer.status_body();
        assert_eq!((status.code, status.message.as_str()), (16, says));
        let answer = posted(&server, JSON, values).await;
        assert_eq!((answer.status(), answer.header("content-type")), (401, JSON));
        assert_eq!(answer.json(), json!({"code": 16, "message": says}));
        let answer = posted(&server, "text/html", values).await;
        assert_eq!((answer.status(), answer.header("content-type")), (401, "text/plain; charset=utf-8"));
        assert_eq!(answer.body, says);
    }
    assert_eq!(server.recorder.count(), 0);
    let count = server.recorder.rejections().len();
    assert_eq!(
        server.recorder.rejections(),
        vec![(Signal::Traces, Transport::Http, Rejected::Unauthenticated); 3 * BAD.len()]
    );
    assert_eq!(posted(&server, PROTOBUF, &[b"Bearer planted-two"]).await.status(), 200);
    assert!(server.recorder.last().2.principal.is_some());
    // Nor is anybody told which paths there are.
    let elsewhere = send(post(&server, "/v1/nothing", JSON).body(Bytes::new()).unwrap()).await;
    assert_eq!(elsewhere.status(), 401);
    assert_eq!(server.recorder.rejections().len(), count, "there is no signal to count it for");
    server.at_rest().await;
}

/// Also where it is chunked, and never ends.
#[tokio::test]
async fn g10_h9_the_body_of_a_stranger_takes_no_room() {
    let mut settings = guarded(&bearer(json!({"token": "planted"})));
    settings.max_concurrent_bytes = 1;
    let server = Server::with(settings).await;
    let mut sender = h2::<Pieces>(&server).await;
    let request = call(&server, Signal::Traces).body(Pieces::of([framed(0, 1 << 20, b"x")], false)).unwrap();
    let answer = tokio::time::timeout(SOON, sender.send_request(request)).await.expect("an answer").unwrap();
    let status = tonic::Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
    let head =
        "POST /v1/traces HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 50000000\r\n\r\n{";
    let answer = raw(&server, head.as_bytes(), |text| text.contains("missing or empty")).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert_eq!(server.receiver.budget().bytes(), 0);
    // Nor is it asked for.
    let expects = head.replace("\r\n\r\n{", "\r\nExpect: 100-continue\r\n\r\n");
    let answer = raw(&server, expects.as_bytes(), |text| text.contains("missing or empty")).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

#[tokio::test]
async fn g10_h9_users_show_name_and_password() {
    let hash = bcrypt::hash("planted", 4).unwrap();
    let server = Server::with(guarded(&basic(&format!("anna:{hash}\nbert:planted-plain")))).await;
    let pair = |user: &str, password: &str| format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    for (user, password) in [("anna", "planted"), ("bert", "planted-plain")] {
        assert_eq!(
            posted(&server, JSON, &[pair(user, password).as_bytes()]).await.status(),
            400,
            "let in, but no JSON"
        );
        assert_eq!(posted(&server, PROTOBUF, &[pair(user, password).as_bytes()]).await.status(), 200);
        assert_eq!(called(&server, &[pair(user, password).as_bytes()]).await.grpc().code(), tonic::Code::Ok);
        let principal = server.recorder.last().2.principal.unwrap();
        assert_eq!((&*principal.id, principal.kind), (user, PrincipalKind::Account));
    }
    for (value, says) in [
        (String::new(), "no basic auth provided"),
        (pair("anna", "planted-plain"), "invalid credentials"),
        (pair("carl", "planted"), "invalid credentials"),
        ("Bearer planted".to_owned(), "invalid authorization scheme prefix"),
        ("Basic planted".to_owned(), "invalid authorization format"),
    ] {
        let answer = posted(&server, JSON, &[value.as_bytes()]).await;
        assert_eq!((answer.status(), &answer.json()["message"]), (401, &json!(says)));
        assert_eq!(answer.header("www-authenticate"), "Basic realm=\"tracegate\", charset=\"UTF-8\"");
        let status = called(&server, &[value.as_bytes()]).await.grpc();
        assert_eq!((status.code(), status.message()), (tonic::Code::Unauthenticated, says));
    }
}

#[tokio::test]
async fn h9_a_preflight_needs_no_credential_and_a_refusal_is_readable() {
    let mut settings = guarded(&bearer(json!({"token": "planted"})));
    http(&mut settings).cors = Some(Cors {
        origins: vec![Allowed::new("https://app.example.com")],
        headers: Some(vec!["authorization".to_owned(), "content-type".to_owned()]),
        exposed: None,
        max_age: None,
    });
    let server = Server::with(settings).await;
    let origin = |request: http::request::Builder| request.header("origin", "https://app.example.com");
    let preflight = origin(post(&server, "/v1/traces", "").method("OPTIONS"))
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type");
    let answer = send(preflight.body(Bytes::new()).unwrap()).await;
    assert_eq!((answer.status(), answer.header("access-control-allow-origin")), (204, "https://app.example.com"));
    let answer = send(origin(post(&server, "/v1/traces", JSON)).body(Bytes::from_static(b"{}")).unwrap()).await;
    assert_eq!((answer.status(), answer.header("access-control-allow-origin")), (401, "https://app.example.com"));
    // What only looks like one has to show a credential.
    let plain = send(post(&server, "/v1/traces", "").method("OPTIONS").body(Bytes::new()).unwrap()).await;
    assert_eq!(plain.status(), 401);
}

#[tokio::test]
async fn h9_a_query_parameter_can_stand_for_the_header() {
    let mut settings = guarded(&bearer(json!({"token": "planted"})));
    http(&mut settings).auth.as_mut().unwrap().request_params = vec!["authorization".to_owned(), "x".to_owned()];
    let server = Server::with(settings).await;
    for (query, header, status) in [
        ("?authorization=Bearer%20planted", "", 200),
        ("?a=b&authorization=Bearer+planted", "Bearer wrong", 200),
        ("?authorization=Bearer+wrong", "Bearer planted", 401),
        ("?authorization=Bearer+planted&authorization=Bearer+planted", "", 401),
        ("?authorization=", "Bearer planted", 401),
        ("?Authorization=Bearer+planted", "", 401),
        ("?x=Bearer+planted", "", 401),
        ("?x=1", "Bearer planted", 200),
    ] {
        let mut request = post(&server, &format!("/v1/traces{query}"), PROTOBUF);
        if !header.is_empty() {
            request = request.header("authorization", header);
        }
        assert_eq!(send(request.body(spans("a")).unwrap()).await.status(), status, "{query} {header}");
    }
    // Where it is not asked for, a parameter is nothing.
    let server = Server::with(guarded(&bearer(json!({"token": "planted"})))).await;
    let request = post(&server, "/v1/traces?authorization=Bearer%20planted", PROTOBUF);
    assert_eq!(send(request.body(spans("a")).unwrap()).await.status(), 401);
}

/// A batch by metadata may need the tenant; nothing needs the key.
#[tokio::test]
async fn g10_h9_credentials_do_not_travel_on() {
    let keys = bearer(json!({"scheme": "", "header": "X-Api-Key", "token": "planted"}));
    let mut settings = guarded(&keys);
    (grpc(&mut settings).include_metadata, http(&mut settings).include_metadata) = (true, true);
    let server = Server::with(settings).await;
    let marked = |request: http::request::Builder| {
        request.header("x-api-key", "planted").header("authorization", "Bearer planted-too").header("x-tenant", "blue")
    };
    assert_eq!(send(marked(post(&server, "/v1/traces", PROTOBUF)).body(spans("a")).unwrap()).await.status(), 200);
    let body = spans("a");
    let request = marked(call(&server, Signal::Traces)).body(framed(0, body.len() as u32, &body)).unwrap();
    assert_eq!(raw_call(&server, request).await.grpc().code(), tonic::Code::Ok);
    let seen = server.recorder.seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    for (_, _, origin) in seen.iter() {
        assert_eq!(origin.metadata.get_all("x-tenant").collect::<Vec<_>>(), [b"blue"]);
        for gone in ["x-api-key", "authorization"] {
            assert_eq!(origin.metadata.get_all(gone).count(), 0, "{gone}");
        }
    }
}

#[tokio::test]
async fn g10_h9_a_token_file_is_exchanged_while_clients_send() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    fs::write(&path, "planted-old\n").unwrap();
    let server = Server::with(guarded(&bearer(json!({"filename": path})))).await;
    let old = &[&b"Bearer planted-old"[..]];
    assert_eq!(posted(&server, PROTOBUF, old).await.status(), 200);
    // Both for a while, as one rotates without an outage; then only the new one.
    for (content, old_is) in [("planted-new\nplanted-old\n", 200), ("planted-new\n", 401)] {
        fs::write(&path, content).unwrap();
        let begin = std::time::Instant::now();
        while posted(&server, PROTOBUF, &[b"Bearer planted-new"]).await.status() != 200
            || posted(&server, PROTOBUF, old).await.status() != old_is
        {
            assert!(begin.elapsed() < SOON, "it never came into use");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
    assert_eq!(called(&server, old).await.grpc().code(), tonic::Code::Unauthenticated);
    assert_eq!(called(&server, &[b"Bearer planted-new"]).await.grpc().code(), tonic::Code::Ok);
}

#[tokio::test]
async fn g10_h9_very_long_credentials_are_refused_and_harm_nobody() {
    let server = server().await;
    for len in [1000, 8000, 15_000] {
        let value = [b"Bearer ".to_vec(), vec![b'a'; len]].concat();
        assert_eq!(posted(&server, JSON, &[&value]).await.status(), 401);
    }
    let value = [b"Bearer ".to_vec(), vec![b'a'; 8000]].concat();
    assert_eq!(called(&server, &[&value]).await.grpc().code(), tonic::Code::Unauthenticated);
    // Beyond what HTTP itself takes it is refused as well, whatever it is called then.
    let value = [b"Bearer ".to_vec(), vec![b'a'; 60_000]].concat();
    assert!(matches!(posted(&server, JSON, &[&value]).await.status(), 401 | 431));
    assert_eq!(posted(&server, PROTOBUF, &[b"Bearer planted-one"]).await.status(), 200);
    server.at_rest().await;
}

/// One connection carries whoever sends over it: nothing of one call is believed for the next.
#[tokio::test]
async fn g10_every_call_of_a_connection_is_asked() {
    let server = server().await;
    let mut sender = h2::<http_body_util::Full<Bytes>>(&server).await;
    let body = spans("a");
    for (token, code) in [("planted-one", 0), ("wrong", 16), ("planted-two", 0), ("", 16)] {
        let request = call(&server, Signal::Traces).header("authorization", format!("Bearer {token}"));
        let request = request.body(framed(0, body.len() as u32, &body).into()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let answer = Answer::read(answer.map(|body| body.boxed())).await;
        assert_eq!(answer.grpc().code() as i32, code, "{token}");
    }
    assert_eq!(server.recorder.count(), 2);
}
