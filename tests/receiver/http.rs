//! OTLP/HTTP by the checklist: each test is named after the line it proves.

use crate::support::*;
use bytes::Bytes;
use http::{Method, Request};
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceResponse, metrics::v1::ExportMetricsServiceResponse,
    trace::v1::ExportTraceServiceResponse,
};
use prost::Message;
use std::time::Duration;
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tonic_types::pb;
use tracegate::{
    compression::Algorithm,
    otlp::Signal,
    pipeline::{Accepted, Refusal, Transport},
    receiver::Rejected,
};

fn bad_request(status: &pb::Status) -> pb::BadRequest {
    let detail = &status.details[0];
    assert_eq!(detail.type_url, "type.googleapis.com/google.rpc.BadRequest");
    pb::BadRequest::decode(&detail.value[..]).unwrap()
}

#[tokio::test]
async fn h1_every_signal_has_its_default_path_and_the_body_arrives_untouched() {
    let server = Server::start().await;
    for (signal, path) in Signal::ALL.into_iter().zip(["/v1/traces", "/v1/logs", "/v1/metrics"]) {
        let body = request_of(signal);
        let answer = send(post(&server, path, PROTOBUF).body(body.clone()).unwrap()).await;
        assert_eq!(answer.status(), 200);
        let (seen, bytes, origin) = server.recorder.last();
        assert_eq!((seen, bytes, origin.transport), (signal, body, Transport::Http));
        assert!(origin.peer.unwrap().ip().is_loopback());
    }
    server.at_rest().await;
}

#[tokio::test]
async fn h1_paths_are_configurable() {
    let mut settings = settings();
    http(&mut settings).paths = vec![("/otlp/spans".to_owned(), Signal::Traces)];
    let server = Server::with(settings).await;
    let to = async |path| send(post(&server, path, PROTOBUF).body(spans("x")).unwrap()).await.status();
    assert_eq!(to("/otlp/spans").await, 200);
    assert_eq!(to("/otlp/spans?a=b").await, 200);
    assert_eq!(to("/v1/traces").await, 404);
}

#[tokio::test]
async fn h1_configured_response_headers_are_on_every_answer() {
    let mut settings = settings();
    http(&mut settings).response_headers.insert("x-served-by", "a".parse().unwrap());
    let server = Server::with(settings).await;
    assert_eq!(post_traces(&server, PROTOBUF, spans("x")).await.header("x-served-by"), "a");
    assert_eq!(post_traces(&server, "", spans("x")).await.header("x-served-by"), "a");
}

#[tokio::test]
async fn h2_content_type_parameters_are_tolerated_and_the_type_comes_back() {
    let server = Server::start().await;
    for sent in ["application/x-protobuf", "application/x-protobuf; charset=utf-8", "Application/X-Protobuf"] {
        let answer = post_traces(&server, sent, spans("x")).await;
        assert_eq!((answer.status(), answer.header("content-type")), (200, PROTOBUF), "{sent}");
    }
    server.recorder.answers(Err(Refusal::Malformed("bad".to_owned())));
    let answer = post_traces(&server, "application/x-protobuf; a=b", spans("x")).await;
    assert_eq!((answer.status(), answer.header("content-type")), (400, PROTOBUF));
}

#[tokio::test]
async fn h3_an_unknown_media_type_is_415_with_the_collectors_text() {
    let server = Server::start().await;
    let text = "415 unsupported media type, supported: [application/json, application/x-protobuf]";
    for sent in ["", "text/plain", "application/grpc", "application/x-protobufx", ";"] {
        let answer = post_traces(&server, sent, spans("x")).await;
        assert_eq!((answer.status(), &answer.body[..]), (415, text.as_bytes()), "{sent:?}");
        assert_eq!(answer.header("content-type"), "text/plain");
    }
    assert_eq!(server.recorder.count(), 0);
}

/// The Collector answers in plain text always; the specification wants a Status in 4xx bodies ("All HTTP 4xx and 5xx
/// responses"), so a client that says which encoding it speaks gets one.
#[tokio::test]
async fn h3_other_methods_are_405_with_the_collectors_text() {
    let server = Server::start().await;
    let text = "405 method not allowed, supported: [POST]";
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let request = post(&server, "/v1/traces", "").method(method).body(Bytes::new()).unwrap();
        let answer = send(request).await;
        assert_eq!((answer.status(), &answer.body[..], answer.header("allow")), (405, text.as_bytes(), "POST"));
        assert_eq!(answer.header("content-type"), "text/plain");
    }
    let request = post(&server, "/v1/traces", JSON).method(Method::PUT).body(Bytes::from_static(b"{}")).unwrap();
    let answer = send(request).await;
    assert_eq!((answer.status(), answer.header("content-type")), (405, JSON));
    assert_eq!(answer.json(), serde_json::json!({ "code": 2, "message": text }));
}

#[tokio::test]
async fn h3_unknown_paths_and_signals_without_a_pipeline_are_404() {
    let server = Server::start().await;
    *server.recorder.takes.lock().unwrap() = vec![Signal::Traces];
    for path in ["/", "/v1/trace", "/v1/traces/", "/v1/metrics", "/%2e%2e/v1/traces"] {
        let answer = send(post(&server, path, "").body(spans("x")).unwrap()).await;
        assert_eq!((answer.status(), &answer.body[..]), (404, &b"404 page not found\n"[..]), "{path}");
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
        let answer = send(post(&server, path, PROTOBUF).body(spans("x")).unwrap()).await;
        let status = answer.status_body();
        assert_eq!((status.code, &*status.message), (12, "404 page not found"), "{path}");
    }
    assert_eq!(server.recorder.count(), 0);
}

/// The fourth signal is in development; whoever sends it is told what is taken.
#[tokio::test]
async fn h3_profiles_are_404_in_words() {
    let server = Server::start().await;
    let text = "profiles are not supported; send traces, logs and metrics";
    let answer = send(post(&server, "/v1development/profiles", PROTOBUF).body(spans("x")).unwrap()).await;
    assert_eq!((answer.status(), answer.status_body().code, &*answer.status_body().message), (404, 12, text));
    let answer = send(post(&server, "/v1development/profiles", JSON).body("{}".into()).unwrap()).await;
    assert_eq!((answer.status(), answer.json()), (404, serde_json::json!({ "code": 12, "message": text })));
}

#[tokio::test]
async fn h4_undecodable_is_400_with_a_status_and_bad_request_in_the_requests_encoding() {
    let server = Server::start().await;
    server.recorder.answers(Err(Refusal::Malformed("length past the end at byte 12".to_owned())));
    let answer = post_traces(&server, PROTOBUF, spans("x")).await;
    assert_eq!((answer.status(), answer.header("content-type")), (400, PROTOBUF));
    let status = answer.status_body();
    assert_eq!((status.code, &*status.message), (3, "length past the end at byte 12"));
    assert_eq!(bad_request(&status).field_violations[0].description, "length past the end at byte 12");
    assert_eq!(answer.header("retry-after"), "");
}

#[tokio::test]
async fn h5_every_refusal_has_a_status_body_with_the_collectors_code() {
    let server = Server::start().await;
    let retry_after = Duration::from_millis(1200);
    for (refusal, http, code) in [
        (Refusal::Malformed("m".to_owned()), 400, 3),
        (Refusal::TooLarge("m".to_owned()), 413, 2),
        (Refusal::Overloaded { message: "m".to_owned(), retry_after }, 503, 14),
        (Refusal::Internal("m".to_owned()), 500, 2),
    ] {
        server.recorder.answers(Err(refusal));
        let answer = post_traces(&server, PROTOBUF, spans("x")).await;
        assert_eq!((answer.status(), answer.header("content-type")), (http, PROTOBUF));
        let status = answer.status_body();
        assert_eq!((status.code, &*status.message), (code, "m"));
    }
    assert!(server.recorder.rejections().is_empty(), "the pipeline counts its own refusals");
    server.at_rest().await;
}

/// The Collector answers 400 to an oversize body; the specification says 413 ("the server MUST respond with HTTP 413").
#[tokio::test]
async fn h6_too_large_is_413_announced_or_chunked_or_after_decompression() {
    let server = Server::with(limited(1000)).await;
    let packed = gzip(&[0; 1001]);
    let announced = post(&server, "/v1/traces", PROTOBUF).body(Bytes::from(vec![0; 1001])).unwrap();
    let inflated = post(&server, "/v1/traces", PROTOBUF).header("content-encoding", "gzip").body(packed).unwrap();
    for request in [announced, inflated] {
        let answer = send(request).await;
        assert_eq!(answer.status(), 413);
        assert!(answer.status_body().message.contains("limit of 1000 bytes"));
    }
    let mut chunked = b"POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
        transfer-encoding: chunked\r\n\r\n"
        .to_vec();
    for _ in 0..2 {
        chunked.extend_from_slice(b"258\r\n");
        chunked.extend_from_slice(&[b' '; 600]);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let text = raw(&server, &chunked, |text| text.ends_with('}')).await;
    assert!(text.starts_with("HTTP/1.1 413") && text.contains("limit of 1000 bytes"), "{text}");
    assert_eq!(server.recorder.rejections(), vec![(Signal::Traces, Transport::Http, Rejected::TooLarge); 3]);
    assert_eq!(post_traces(&server, PROTOBUF, vec![0; 1000]).await.status(), 200);
    assert_eq!(server.recorder.count(), 1);
    server.at_rest().await;
}

#[tokio::test]
async fn c10_the_default_limit_is_64_mebibytes_not_the_collectors_20() {
    let server = Server::start().await;
    let limit = 64 * 1024 * 1024;
    for (len, status) in [(limit, 200), (limit + 1, 413)] {
        let request = post(&server, "/v1/traces", PROTOBUF).header("content-encoding", "gzip");
        assert_eq!(send(request.body(gzip(&vec![0; len])).unwrap()).await.status(), status);
    }
    assert_eq!(server.recorder.last().1.len(), limit);
    server.at_rest().await;
}

#[tokio::test]
async fn h7_pressure_is_503_with_retry_after_in_whole_seconds_rounded_up() {
    let server = Server::start().await;
    for (millis, seconds) in [(1, "1"), (1000, "1"), (1001, "2"), (30_000, "30")] {
        let retry_after = Duration::from_millis(millis);
        server.recorder.answers(Err(Refusal::Overloaded { message: "full".to_owned(), retry_after }));
        let answer = post_traces(&server, PROTOBUF, spans("x")).await;
        assert_eq!((answer.status(), answer.header("retry-after")), (503, seconds));
        assert_eq!(answer.status_body().code, 14);
    }
}

#[tokio::test]
async fn h8_an_unknown_content_encoding_is_400_and_named_only_if_it_is_made_of_tokens() {
    let server = Server::start().await;
    let plain = "unsupported Content-Encoding";
    for (name, text) in [
        ("br", "unsupported Content-Encoding: br"),
        ("snappy-framed", "unsupported Content-Encoding: snappy-framed"),
        ("gzip, gzip", "unsupported Content-Encoding: gzip, gzip"),
        ("gzip gzip", plain),
        ("<script>", plain),
        (&"a".repeat(33), plain),
    ] {
        let request = post(&server, "/v1/traces", PROTOBUF).header("content-encoding", name).body(spans("x")).unwrap();
        let answer = send(request).await;
        assert_eq!((answer.status(), &*answer.status_body().message), (400, text), "{name}");
        assert_eq!(answer.status_body().code, 3);
    }
    let twice = post(&server, "/v1/traces", PROTOBUF)
        .header("content-encoding", "gzip")
        .header("content-encoding", "gzip")
        .body(gzip(&gzip(&spans("x"))));
    assert_eq!(send(twice.unwrap()).await.status(), 400);
    assert_eq!(server.recorder.count(), 0);
}

#[tokio::test]
async fn h8_compressions_can_be_switched_off() {
    let mut settings = settings();
    http(&mut settings).codings = vec![Algorithm::Zstd];
    let server = Server::with(settings).await;
    for (name, body, status) in [("zstd", zstd(&spans("x")), 200), ("gzip", gzip(&spans("x")), 400)] {
        let request = post(&server, "/v1/traces", PROTOBUF).header("content-encoding", name).body(body).unwrap();
        assert_eq!(send(request).await.status(), status, "{name}");
    }
}

#[tokio::test]
async fn c2_success_is_an_empty_protobuf_body() {
    let server = Server::start().await;
    let answer = post_traces(&server, PROTOBUF, spans("x")).await;
    assert_eq!((answer.status(), answer.body.len(), answer.header("content-length")), (200, 0, "0"));
}

#[tokio::test]
async fn c3_an_empty_request_succeeds_without_reaching_the_pipeline() {
    let server = Server::start().await;
    let packed = post(&server, "/v1/traces", PROTOBUF).header("content-encoding", "gzip").body(gzip(b"")).unwrap();
    assert_eq!(send(packed).await.status(), 200);
    assert_eq!(post_traces(&server, PROTOBUF, Bytes::new()).await.status(), 200);
    assert_eq!((server.recorder.count(), server.recorder.rejections().len()), (0, 0));
}

#[tokio::test]
async fn c4_partial_success_carries_count_and_message_for_every_signal() {
    let server = Server::start().await;
    server.recorder.answers(Ok(Accepted { rejected: 7, message: "blocked".to_owned() }));
    let mut got = Vec::new();
    for signal in Signal::ALL {
        let request = post(&server, signal.http_path(), PROTOBUF).body(request_of(signal)).unwrap();
        let body = send(request).await.body;
        got.push(match signal {
            Signal::Traces => ExportTraceServiceResponse::decode(body).unwrap().partial_success.unwrap().rejected_spans,
            Signal::Logs => {
                ExportLogsServiceResponse::decode(body).unwrap().partial_success.unwrap().rejected_log_records
            }
            Signal::Metrics => {
                ExportMetricsServiceResponse::decode(body).unwrap().partial_success.unwrap().rejected_data_points
            }
        });
    }
    assert_eq!(got, [7, 7, 7]);
}

#[tokio::test]
async fn g5_a_panic_in_the_pipeline_is_500_and_harms_one_request_only() {
    let server = Server::start().await;
    *server.recorder.panics.lock().unwrap() = true;
    let answer = post_traces(&server, PROTOBUF, spans("x")).await;
    assert_eq!((answer.status(), &*answer.status_body().message), (500, "the request could not be processed"));
    *server.recorder.panics.lock().unwrap() = false;
    assert_eq!(post_traces(&server, PROTOBUF, spans("x")).await.status(), 200);
    server.at_rest().await;
}

#[tokio::test]
async fn connections_are_kept_for_the_next_request_and_chunked_bodies_are_read() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.http()).await.unwrap();
    let body = spans("x");
    for _ in 0..3 {
        let head = "POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\n\
            transfer-encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        for piece in body.chunks(7) {
            stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await.unwrap();
            stream.write_all(piece).await.unwrap();
            stream.write_all(b"\r\n").await.unwrap();
        }
        stream.write_all(b"0\r\n\r\n").await.unwrap();
        let text = read_until(&mut stream, |text| text.ends_with("\r\n\r\n")).await;
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert_eq!(server.recorder.last().1, body);
    }
    assert_eq!(server.recorder.count(), 3);
}

#[tokio::test]
async fn keep_alive_can_be_switched_off() {
    let mut settings = settings();
    http(&mut settings).keep_alive = false;
    let server = Server::with(settings).await;
    let request = "POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\n\
        content-length: 0\r\n\r\n";
    // Reads to the end: the server closes.
    let text = raw(&server, request.as_bytes(), |_| false).await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("connection: close"), "{text}");
}

#[tokio::test]
async fn expect_continue_is_answered_before_the_body_and_refused_without_it() {
    let server = Server::with(limited(1000)).await;
    let body = spans("x");
    let head = |len: usize| {
        format!(
            "POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\n\
             expect: 100-continue\r\ncontent-length: {len}\r\n\r\n"
        )
    };
    let mut stream = TcpStream::connect(server.http()).await.unwrap();
    stream.write_all(head(body.len()).as_bytes()).await.unwrap();
    let text = read_until(&mut stream, |text| text.ends_with("\r\n\r\n")).await;
    assert_eq!(text, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(&body).await.unwrap();
    let text = read_until(&mut stream, |text| text.ends_with("\r\n\r\n")).await;
    assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
    // Too large: the answer comes at once, the body is never asked for, and the connection ends.
    let text = raw(&server, head(1001).as_bytes(), |_| false).await;
    assert!(text.starts_with("HTTP/1.1 413"), "{text}");
    assert!(!text.contains("100 Continue"), "{text}");
}

#[tokio::test]
async fn a_refused_body_is_read_to_its_end_so_that_the_client_sees_the_answer() {
    let server = Server::with(limited(1000)).await;
    let mut stream = TcpStream::connect(server.http()).await.unwrap();
    let body = vec![0; 8 * 1024 * 1024];
    for _ in 0..2 {
        // This client reads nothing before it has written everything, as many do.
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
        let text = read_until(&mut stream, |text| text.ends_with('}')).await;
        assert!(text.starts_with("HTTP/1.1 413"), "{text}");
    }
}

#[tokio::test]
async fn h10_what_is_not_http_is_refused_and_the_connection_closed() {
    let server = Server::start().await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET\r\n\r\n",
        b"POST /v1/traces HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/traces HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"POST /v1/traces HTTP/1.1\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let text = raw(&server, bytes, |_| false).await;
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 400"), "{text}");
    }
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1024 * 1024));
    let text = raw(&server, long.as_bytes(), |_| false).await;
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{}", text.len());
    assert_eq!(post_traces(&server, PROTOBUF, spans("x")).await.status(), 200);
}

#[tokio::test]
async fn a_body_shorter_than_announced_is_nobodys_request() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.http()).await.unwrap();
    let head = "POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\n\
        content-length: 100\r\n\r\nonly this";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    read_until(&mut stream, |_| false).await;
    until("it is counted", || server.recorder.rejections().len() == 1).await;
    assert_eq!(server.recorder.rejections(), [(Signal::Traces, Transport::Http, Rejected::Gone)]);
    assert_eq!(server.recorder.count(), 0);
    server.at_rest().await;
}

#[tokio::test]
async fn many_headers_are_refused() {
    let server = Server::start().await;
    let mut request = Request::post(format!("http://{}/v1/traces", server.http())).header("content-type", PROTOBUF);
    for n in 0..150 {
        request = request.header(format!("x-{n}"), "a");
    }
    assert_eq!(send(request.body(spans("x")).unwrap()).await.status(), 431);
}

#[tokio::test]
async fn a_client_on_the_wrong_port_is_told_so() {
    let server = Server::start().await;
    let uri = format!("http://{}/v1/traces", server.grpc());
    let answer = send(Request::post(&uri).header("content-type", JSON).body("{}".into()).unwrap()).await;
    assert_eq!((answer.status(), answer.header("content-type")), (400, JSON));
    assert!(answer.json()["message"].as_str().unwrap().starts_with("this port speaks OTLP/gRPC"));
    let answer = send(Request::get(&uri).body(Bytes::new()).unwrap()).await;
    assert!(answer.status() == 400 && answer.body.starts_with(b"this port speaks OTLP/gRPC"));

    let io = hyper_util::rt::TokioIo::new(TcpStream::connect(server.http()).await.unwrap());
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let request = call(&server, Signal::Traces).body(http_body_util::Full::new(framed(0, 0, b""))).unwrap();
    let status = Answer::read(sender.send_request(request).await.unwrap()).await.grpc();
    assert_eq!(status.code(), tonic::Code::Unimplemented);
    assert!(status.message().starts_with("this port speaks OTLP/HTTP"), "{status:?}");
    assert_eq!(server.recorder.count(), 0);
}

#[tokio::test]
async fn h1_http2_without_tls_is_served_too() {
    let server = Server::start().await;
    let io = hyper_util::rt::TokioIo::new(TcpStream::connect(server.http()).await.unwrap());
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let request = post(&server, "/v1/traces", PROTOBUF).body(http_body_util::Full::new(spans("x"))).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    assert_eq!(server.recorder.last().1, spans("x"));
}
