//! Requests from pages in browsers.

use crate::support::*;
use bytes::Bytes;
use http::{HeaderValue, Method, Request};
use tracegate::receiver::{Allowed, Cors};

async fn server() -> Server {
    let mut settings = settings();
    http(&mut settings).response_headers.insert("x-served-by", HeaderValue::from_static("a"));
    http(&mut settings).cors = Some(Cors {
        origins: vec![Allowed::new("https://*.example.com"), Allowed::new("http://localhost:3000")],
        headers: Some(vec!["content-type".to_owned(), "x-team".to_owned()]),
        exposed: Some(HeaderValue::from_static("x-served-by")),
        max_age: Some(600),
    });
    Server::with(settings).await
}

fn preflight(server: &Server, path: &str, origin: &str) -> http::request::Builder {
    Request::options(format!("http://{}{path}", server.http()))
        .header("origin", origin)
        .header("access-control-request-method", "POST")
}

async fn ask(request: http::request::Builder) -> Answer {
    send(request.body(Bytes::new()).unwrap()).await
}

const VARY: &str = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";

#[tokio::test]
async fn h9_a_preflight_of_an_allowed_page_is_204_and_says_what_it_may() {
    let server = server().await;
    for path in ["/v1/traces", "/elsewhere"] {
        let request = preflight(&server, path, "https://app.example.com")
            .header("access-control-request-headers", "content-type,x-team");
        let answer = ask(request).await;
        assert_eq!((answer.status(), answer.body.len()), (204, 0));
        for (name, value) in [
            ("access-control-allow-origin", "https://app.example.com"),
            ("access-control-allow-methods", "POST"),
            ("access-control-allow-headers", "content-type,x-team"),
            ("access-control-allow-credentials", "true"),
            ("access-control-max-age", "600"),
            ("vary", VARY),
            ("x-served-by", "a"),
        ] {
            assert_eq!(answer.header(name), value, "{name}");
        }
    }
    assert_eq!(server.recorder.count(), 0);
}

/// The Collector's answer: 204 too, without a word of permission; the browser does the refusing.
#[tokio::test]
async fn h9_a_preflight_that_is_not_allowed_is_204_without_permission() {
    let server = server().await;
    let allowed = "https://app.example.com";
    for (what, request) in [
        ("origin", preflight(&server, "/v1/traces", "https://example.com.evil")),
        ("no origin", preflight(&server, "/v1/traces", "")),
        ("header", preflight(&server, "/v1/traces", allowed).header("access-control-request-headers", "authorization")),
        (
            "method",
            Request::options(format!("http://{}/v1/traces", server.http()))
                .header("origin", allowed)
                .header("access-control-request-method", "DELETE"),
        ),
    ] {
        let answer = ask(request).await;
        assert_eq!((answer.status(), answer.header("vary")), (204, VARY), "{what}");
        let permissions = answer.head.headers.keys().filter(|name| name.as_str().starts_with("access-control-"));
        assert_eq!(permissions.count(), 0, "{what}");
    }
}

#[tokio::test]
async fn h9_the_answer_to_a_page_is_marked_for_it_whatever_it_says() {
    let server = server().await;
    let from = async |origin: &str, content_type: &str| {
        let request = post(&server, "/v1/traces", content_type).header("origin", origin).body(spans("x")).unwrap();
        send(request).await
    };
    for (content_type, status) in [(PROTOBUF, 200), ("text/plain", 415)] {
        let answer = from("http://localhost:3000", content_type).await;
        assert_eq!((answer.status(), answer.header("vary")), (status, "Origin"));
        assert_eq!(answer.header("access-control-allow-origin"), "http://localhost:3000");
        assert_eq!(answer.header("access-control-expose-headers"), "x-served-by");
        assert_eq!(answer.header("access-control-allow-credentials"), "true");
    }
    // Another page's request is served too, as curl's would be; the page does not get to see the answer.
    let answer = from("http://localhost:3001", PROTOBUF).await;
    assert_eq!((answer.status(), answer.header("vary")), (200, "Origin"));
    assert_eq!(answer.header("access-control-allow-origin"), "");
    assert_eq!(server.recorder.count(), 2);
}

#[tokio::test]
async fn h9_every_origin_may_be_allowed() {
    let mut settings = settings();
    let origins = vec![Allowed::Any];
    http(&mut settings).cors = Some(Cors { origins, headers: None, exposed: None, max_age: None });
    let server = Server::with(settings).await;
    let request = preflight(&server, "/v1/traces", "null").header("access-control-request-headers", "a, b");
    let answer = ask(request).await;
    assert_eq!((answer.status(), answer.header("access-control-allow-origin")), (204, "*"));
    assert_eq!((answer.header("access-control-allow-headers"), answer.header("access-control-max-age")), ("a, b", ""));
}

#[tokio::test]
async fn h9_without_origins_configured_there_is_no_cors() {
    let server = Server::start().await;
    let answer = ask(preflight(&server, "/v1/traces", "https://app.example.com")).await;
    assert_eq!((answer.status(), answer.header("vary"), answer.header("access-control-allow-origin")), (405, "", ""));
    // An OPTIONS that is no preflight is a method like others.
    let with = self::server().await;
    let request = post(&with, "/v1/traces", "").method(Method::OPTIONS).header("origin", "http://localhost:3000");
    let answer = ask(request).await;
    assert_eq!((answer.status(), answer.header("access-control-allow-origin")), (405, "http://localhost:3000"));
}
