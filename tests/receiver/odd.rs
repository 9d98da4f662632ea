//! Requests that are odd or broken on the level of HTTP: each is answered in words or ended, none harms another.

use crate::support::*;
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use std::convert::Infallible;
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tonic::Code;
use tracegate::{otlp::Signal, receiver::Rejected};

fn head(line: &str, more: &str) -> Vec<u8> {
    format!("{line}\r\nhost: a\r\ncontent-type: application/x-protobuf\r\nconnection: close\r\n{more}\r\n").into_bytes()
}

const POST: &str = "POST /v1/traces HTTP/1.1";

#[tokio::test]
async fn h1_http_1_0_and_absolute_uris_are_served() {
    let server = Server::start().await;
    let body = spans("x");
    let length = format!("content-length: {}\r\n", body.len());
    let absolute = format!("POST http://{}/v1/traces HTTP/1.1", server.http());
    for line in ["POST /v1/traces HTTP/1.0", &absolute, "POST /v1/traces?a=b#c HTTP/1.1", POST] {
        let text = raw(&server, &[&head(line, &length)[..], &body].concat(), |_| false).await;
        assert!(text.starts_with("HTTP/1.") && text[8..].starts_with(" 200 OK"), "{line}: {text}");
        assert_eq!(server.recorder.last().1, body);
    }
    // Without a length HTTP/1.0 has no body, in a request.
    let count = server.recorder.count();
    let text = raw(&server, &head("POST /v1/traces HTTP/1.0", ""), |_| false).await;
    assert!(text[8..].starts_with(" 200 OK"), "{text}");
    assert_eq!(server.recorder.count(), count, "an empty request");
}

#[tokio::test]
async fn h3_a_head_request_has_the_status_and_no_body() {
    let server = Server::start().await;
    let text = raw(&server, &head("HEAD /v1/traces HTTP/1.1", ""), |_| false).await;
    assert!(text.starts_with("HTTP/1.1 405") && text.ends_with("\r\n\r\n"), "{text}");
    let text = raw(&server, &head("BREW /v1/traces HTTP/1.1", ""), |_| false).await;
    assert!(text.starts_with("HTTP/1.1 405") && text.contains("supported: [POST]"), "{text}");
    let text = raw(&server, &head("OPTIONS * HTTP/1.1", ""), |_| false).await;
    assert!(text.starts_with("HTTP/1.1 404"), "{text}");
}

#[tokio::test]
async fn h10_broken_chunks_are_nobodys_request() {
    let server = Server::start().await;
    for chunks in [
        &b"zz\r\nabc\r\n0\r\n\r\n"[..],
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b"ffffffffffffffffff\r\nabc",
        b"3\r\nabc",
        b"3\r\nabc\r\n",
        b"3\r\nabc\r\n0\r\n",
        b"",
    ] {
        let before = server.recorder.rejections().len();
        let mut stream = TcpStream::connect(server.http()).await.unwrap();
        let head = head(POST, "transfer-encoding: chunked\r\n");
        stream.write_all(&[&head[..], chunks].concat()).await.unwrap();
        stream.shutdown().await.unwrap();
        let text = read_until(&mut stream, |_| false).await;
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 400"), "{chunks:?}: {text}");
        until("it is counted", || server.recorder.rejections().len() == before + 1).await;
        assert_eq!(server.recorder.rejections()[before].2, Rejected::Gone, "{chunks:?}");
    }
    assert_eq!(server.recorder.count(), 0);
    server.at_rest().await;
}

/// Two lengths, or a length beside chunks: what one reader takes for the body, another takes for the next request.
#[tokio::test]
async fn h10_a_request_of_two_lengths_smuggles_nothing() {
    let server = Server::start().await;
    let body = spans("x");
    let (n, chunk) = (body.len(), [format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat());
    for (headers, body) in [
        (format!("content-length: {n}\r\ncontent-length: {}\r\n", n + 1), &body[..]),
        (format!("content-length: {n}, {}\r\n", n + 1), &body),
        ("content-length: +5\r\n".to_owned(), &body),
        ("transfer-encoding: gzip\r\n".to_owned(), &chunk),
        ("transfer-encoding: chunked, gzip\r\n".to_owned(), &chunk),
    ] {
        let text = raw(&server, &[&head(POST, &headers)[..], body].concat(), |_| false).await;
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 400"), "{headers}: {text}");
    }
    assert_eq!(server.recorder.count(), 0);
    // Chunks win over a length, and the connection ends, so that nothing can follow (RFC 9112, 6.1).
    let both = format!("content-length: {n}\r\ntransfer-encoding: chunked\r\n");
    let text = raw(&server, &[&head(POST, &both)[..], &chunk].concat(), |_| false).await;
    assert!(text.starts_with("HTTP/1.1 200") || text.starts_with("HTTP/1.1 400"), "{text}");
}

#[tokio::test]
async fn h2_headers_that_stand_twice_or_are_no_text_are_refused_or_taken_once() {
    let server = Server::start().await;
    let body = spans("x");
    let length = format!("content-length: {}\r\n", body.len());
    let request = |headers: &[u8]| {
        [POST.as_bytes(), b"\r\nhost: a\r\nconnection: close\r\n", headers, length.as_bytes(), b"\r\n", &body].concat()
    };
    for (headers, status) in [
        (&b"content-type: application/x-protobuf\r\ncontent-type: application/x-protobuf\r\n"[..], "200"),
        (b"content-type: application/x-protobuf\r\ncontent-type: application/json\r\n", "200"),
        (b"content-type: \xff\xfe\r\n", "415"),
        (b"content-type: application/x-protobuf\xff\r\n", "415"),
        (b"content-type: multipart/form-data; boundary=a\r\n", "415"),
        (b"content-type: application/x-protobuf, application/json\r\n", "415"),
        (b"content-type: application/x-protobuf\r\ncontent-encoding: \xff\r\n", "400"),
    ] {
        let text = raw(&server, &request(headers), |_| false).await;
        let shown = String::from_utf8_lossy(headers);
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{shown}: {text}");
    }
    assert_eq!(server.recorder.count(), 2);
}

#[tokio::test]
async fn h1_trailers_after_chunks_are_read_past() {
    let server = Server::start().await;
    let body = spans("x");
    let mut bytes = head(POST, "transfer-encoding: chunked\r\ntrailer: x-sum\r\n");
    bytes.extend_from_slice(format!("{:x};extension=1\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(&body);
    bytes.extend_from_slice(b"\r\n0\r\nx-sum: 1\r\n\r\n");
    let text = raw(&server, &bytes, |_| false).await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert_eq!(server.recorder.last().1, body);
}

#[tokio::test]
async fn h1_requests_sent_without_waiting_are_answered_in_order() {
    let server = Server::start().await;
    let one = |body: &[u8], close: &str| {
        let head = format!(
            "{POST}\r\nhost: a\r\ncontent-type: application/x-protobuf\r\n{close}content-length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    let bytes = [one(&spans("a"), ""), one(b"", ""), one(&spans("b"), "connection: close\r\n")].concat();
    let text = raw(&server, &bytes, |_| false).await;
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 3, "{text}");
    let seen: Vec<Bytes> = server.recorder.seen.lock().unwrap().iter().map(|(_, body, _)| body.clone()).collect();
    assert_eq!(seen, [spans("a"), spans("b")]);
}

#[tokio::test]
async fn g8_trailers_from_the_client_and_empty_pieces_are_read_past() {
    let server = Server::start().await;
    let message = framed(0, spans("x").len() as u32, &spans("x"));
    let mut trailers = HeaderMap::new();
    trailers.insert("x-late", "1".parse().unwrap());
    let frames =
        [Frame::data(Bytes::new()), Frame::data(message), Frame::data(Bytes::new()), Frame::trailers(trailers)];
    let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok::<_, Infallible>)));
    let mut sender = h2(&server).await;
    let request: Request<_> = call(&server, Signal::Traces).body(body.boxed_unsync()).unwrap();
    let answer = Answer::read(sender.send_request(request).await.unwrap()).await;
    assert_eq!(answer.grpc().code(), Code::Ok);
    assert_eq!(server.recorder.last().1, spans("x"));
}

#[tokio::test]
async fn a_call_that_the_client_resets_leaves_nothing_behind() {
    let server = Server::start().await;
    let mut sender = h2::<Pieces>(&server).await;
    for _ in 0..20 {
        let pieces = Pieces::of([framed(0, 1000, &[1; 10])], false);
        let call = tokio::spawn(sender.send_request(call(&server, Signal::Traces).body(pieces).unwrap()));
        let budget = server.receiver.budget();
        until("it is being read", || budget.requests() == 1).await;
        call.abort();
        server.at_rest().await;
    }
    let rejections = server.recorder.rejections();
    assert!(rejections.iter().all(|(_, _, why)| *why == Rejected::Gone), "{rejections:?}");
    let whole = Pieces::of([framed(0, spans("x").len() as u32, &spans("x"))], true);
    let response = sender.send_request(call(&server, Signal::Traces).body(whole).unwrap()).await.unwrap();
    assert_eq!(Answer::read(response).await.grpc().code(), Code::Ok);
}

/// Thousands of requests that carry nothing cost nothing that stays.
#[tokio::test]
async fn a_flood_of_tiny_requests_leaves_nothing_behind() {
    let server = Server::start().await;
    let one = format!("{POST}\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}");
    let last = one.replace("host: a", "host: a\r\nconnection: close");
    let flood = [one.repeat(3000), last].concat();
    let mut stream = TcpStream::connect(server.http()).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let mut got = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut got);
    let (read, written) = tokio::time::timeout(SOON, async { tokio::join!(read, writer.write_all(flood.as_bytes())) })
        .await
        .expect("no answer in time");
    read.unwrap();
    written.unwrap();
    assert_eq!(String::from_utf8_lossy(&got).matches("HTTP/1.1 200 OK").count(), 3001);
    server.at_rest().await;
}
