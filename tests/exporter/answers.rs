//! What backends answer, well and badly: every status, bytes that are no answer, connections that end too early.

use crate::{
    backend::{Answer, Backend, End, Raw, Script},
    support::{outgoing, payload},
};
use bytes::Bytes;
use serde_json::json;
use std::fmt::Display;
use tracegate::exporter::{Failure, Sender, Sent, otlp_grpc, otlp_http};

const PROTOBUF: &str = "application/x-protobuf";

fn http_to(address: impl Display) -> otlp_http::OtlpHttp {
    let config = json!({"endpoint": format!("http://{address}"), "compression": "none", "timeout": "5s"});
    otlp_http::OtlpHttp::new(&serde_json::from_value(config).unwrap()).unwrap()
}

fn grpc_to(address: impl Display) -> otlp_grpc::OtlpGrpc {
    let config = json!({"endpoint": address.to_string(), "tls": {"insecure": true}, "compression": "none"});
    otlp_grpc::OtlpGrpc::new(&serde_json::from_value(config).unwrap()).unwrap()
}

#[tokio::test]
async fn e2_every_http_status_is_success_retryable_or_permanent() {
    let backend = Backend::start(|n, _| {
        let mut answer = Answer::http(200 + n as u16, "text/html", "<h1>no</h1>");
        // Bodies are not for these.
        if matches!(answer.status, 204 | 205 | 304) {
            answer.body = Bytes::new();
        }
        answer.into()
    })
    .await;
    let sender = http_to(backend.address);
    for status in 200..=599 {
        let answer = sender.send(&outgoing(payload("a", 1))).await;
        match status {
            200..=299 => assert_eq!(answer, Ok(Sent::default()), "{status}"),
            429 | 502 | 503 | 504 => {
                assert!(matches!(answer, Err(Failure::Retryable { after: None, .. })), "{status}: {answer:?}");
            }
            _ => assert!(matches!(answer, Err(Failure::Refused { .. })), "{status}: {answer:?}"),
        }
    }
    assert_eq!(backend.seen().len(), 400, "nothing was tried twice or followed");
}

#[tokio::test]
async fn e2_every_http_status_under_grpc_is_retryable_or_permanent() {
    let backend = Backend::start(|n, _| Script { status: 200 + n as u16, ..Script::default() }.into()).await;
    let sender = grpc_to(backend.address);
    for status in 200..=599 {
        let answer = sender.send(&outgoing(payload("a", 1))).await;
        let retryable = matches!(status, 429 | 502 | 503 | 504);
        match answer {
            Err(Failure::Retryable { .. }) => assert!(retryable, "{status}"),
            Err(Failure::Refused { .. }) => assert!(!retryable, "{status}"),
            other => panic!("{status}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn e5_error_bodies_that_lie_are_read_as_what_they_claim_and_never_repeated() {
    let long = "foreign ".repeat(100_000);
    for (content_type, body) in [
        (PROTOBUF, Bytes::from_static(br#"{"code":3,"message":"foreign"}"#)),
        ("application/json", Bytes::from_static(b"\x08\x03\x12\x07foreign")),
        ("application/json", Bytes::from_static(br#"{"code":"foreign"}"#)),
        ("application/json", Bytes::from_static(br#"["foreign"]"#)),
        ("text/html", Bytes::from_static(b"<h1>foreign \x1b[2J</h1>")),
        ("", Bytes::from_static(b"foreign")),
        ("application/json", Bytes::from(format!(r#"{{"message":"{long}"}}"#))),
        (PROTOBUF, Bytes::from(long)),
    ] {
        let script = Answer::http(400, content_type, body);
        let backend = Backend::start(move |_, _| script.clone().into()).await;
        let failure = http_to(backend.address).send(&outgoing(payload("a", 1))).await.unwrap_err();
        let shown = format!("{failure} {failure:?}");
        assert!(matches!(failure, Failure::Refused { .. }), "{content_type}: {shown}");
        assert!(shown.starts_with("the backend answered HTTP status 400") && shown.len() < 300, "{shown}");
        assert!(!shown.contains("foreign") && !shown.contains('\x1b'), "{shown}");
    }
}

#[tokio::test]
async fn e4_a_success_in_a_coding_nobody_asked_for_is_not_misread() {
    let mut script =
        Answer::http(200, PROTOBUF, Bytes::from_static(b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0"));
    script.headers.push(("content-encoding", "gzip".to_owned()));
    let backend = Backend::start(move |_, _| script.clone().into()).await;
    let answer = http_to(backend.address).send(&outgoing(payload("a", 1))).await;
    assert!(matches!(answer, Err(Failure::Unconfirmed { .. })), "{answer:?}");
}

#[tokio::test]
async fn h10_http_connections_that_end_too_early_are_tried_again() {
    for (name, bytes) in [
        ("nothing", ""),
        ("half a status line", "HTTP/1.1 200"),
        ("no end of the head", "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"),
        ("no http at all", "220 mail.test ESMTP\r\n"),
        ("half a body", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\ncontent-type: application/x-protobuf\r\n\r\n\x0a"),
        ("half a chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n64\r\nhalf"),
        ("no chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
        ("two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"),
        ("only a hint", "HTTP/1.1 103 Early Hints\r\n\r\n"),
        ("another protocol", "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
    ] {
        for end in [End::Close, End::Reset] {
            let raw = Raw::start(100, bytes, end).await;
            let answer = http_to(raw.address).send(&outgoing(payload("a", 1))).await;
            let reset_before = end == End::Reset;
            let fine = match answer {
                Err(Failure::Retryable { .. }) => true,
                // A reset may or may not overtake what was written before it.
                Err(Failure::Refused { .. }) => name == "another protocol",
                _ => false,
            };
            assert!(fine, "{name}, {reset_before}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn http_answers_with_more_than_was_promised_are_still_answers() {
    for bytes in [
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: text/plain\r\n\r\nokand more",
        "HTTP/1.0 200 OK\r\n\r\nuntil the end",
        "HTTP/1.1 204 No Content\r\n\r\n",
    ] {
        let raw = Raw::start(100, bytes, End::Close).await;
        assert_eq!(http_to(raw.address).send(&outgoing(payload("a", 1))).await, Ok(Sent::default()), "{bytes:?}");
    }
}

#[tokio::test]
async fn c10_a_head_without_end_is_given_up() {
    let head =
        format!("HTTP/1.1 200 OK\r\n{}", "x-filler: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n".repeat(20_000));
    let raw = Raw::start(100, head, End::Stay).await;
    let answer = http_to(raw.address).send(&outgoing(payload("a", 1))).await;
    assert!(matches!(answer, Err(Failure::Retryable { .. })), "{answer:?}");
}

#[tokio::test]
async fn c10_an_answer_without_end_is_given_up_and_not_repeated() {
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20));
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ntransfer-encoding: chunked\r\n\r\n";
    let raw = Raw::start(100, format!("{head}{}", chunk.repeat(8)), End::Stay).await;
    let answer = http_to(raw.address).send(&outgoing(payload("a", 1))).await;
    assert!(matches!(answer, Err(Failure::Unconfirmed { .. })), "{answer:?}");
}

/// One HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_HEADERS: u8 = 4;

/// `:status: 200` and `content-type: application/grpc`, in HPACK without Huffman coding.
fn head() -> Vec<u8> {
    let mut block = vec![0x88, 0x0f, 0x10, 16];
    block.extend(b"application/grpc");
    frame(HEADERS, END_HEADERS, 1, &block)
}

#[tokio::test]
async fn grpc_connections_that_end_too_early_are_tried_again() {
    let settings = || frame(SETTINGS, 0, 0, &[]);
    let goaway = |last: u32, code: u32| frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat());
    for (name, bytes) in [
        ("nothing", vec![]),
        ("another protocol", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        ("settings only", settings()),
        ("a stream refused", [settings(), frame(RST_STREAM, 0, 1, &7_u32.to_be_bytes())].concat()),
        ("a stream reset", [settings(), frame(RST_STREAM, 0, 1, &2_u32.to_be_bytes())].concat()),
        (
            "a stream reset within the answer",
            [settings(), head(), frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes())].concat(),
        ),
        ("goaway before", [settings(), goaway(0, 0)].concat()),
        ("goaway in anger", [settings(), goaway(0, 11)].concat()),
        ("goaway within the answer", [settings(), head(), frame(DATA, 0, 1, &[0, 0]), goaway(1, 0)].concat()),
        ("half a frame", [settings(), head()[..12].to_vec()].concat()),
        ("a frame too large", [settings(), vec![0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat()),
        ("no end of the answer", [settings(), head(), frame(DATA, 0, 1, &[0, 0, 0, 0, 0])].concat()),
        ("an end without trailers", [settings(), head(), frame(DATA, 1, 1, &[0, 0, 0, 0, 0])].concat()),
    ] {
        for end in [End::Close, End::Reset] {
            let raw = Raw::start(150, bytes.clone(), end).await;
            let answer = grpc_to(raw.address).send(&outgoing(payload("a", 1))).await;
            assert!(matches!(answer, Err(Failure::Retryable { .. })), "{name}, {end:?}: {answer:?}");
            assert!(raw.connections() >= 1, "{name}, {end:?}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn grpc_statuses_and_details_that_are_garbage_do_no_harm() {
    for (status, details) in
        [("14", "!!!"), ("14", "CP////8P"), ("8", "AAAA"), ("", ""), ("banana", ""), ("-1", ""), ("99", "")]
    {
        let headers = vec![
            ("content-type", "application/grpc".to_owned()),
            ("grpc-status", status.to_owned()),
            ("grpc-message", "%00%1b%ff foreign".to_owned()),
            ("grpc-status-details-bin", details.to_owned()),
        ];
        let script = Script { status: 200, headers, ..Script::default() };
        let backend = Backend::start(move |_, _| script.clone().into()).await;
        let failure = grpc_to(backend.address).send(&outgoing(payload("a", 1))).await.unwrap_err();
        assert!(!failure.to_string().contains("foreign"), "{failure}");
        match status {
            "14" => assert!(matches!(failure, Failure::Retryable { after: None, .. }), "{failure:?}"),
            _ => assert!(matches!(failure, Failure::Refused { .. }), "{status}: {failure:?}"),
        }
    }
}
