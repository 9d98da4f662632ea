//! Every compression, over both protocols: taken, bounded, and refused when it is damaged.

use crate::support::*;
use bytes::Bytes;
use http::Request;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use std::io::Read;
use tonic::Code;
use tracegate::{
    compression::Algorithm,
    otlp::Signal,
    pipeline::{Accepted, Transport},
    receiver::Rejected,
};

type Pack = fn(&[u8]) -> Bytes;

const OVER_HTTP: [(&str, Pack); 10] = [
    ("gzip", gzip),
    ("GZIP", gzip),
    ("zstd", zstd),
    ("deflate", zlib),
    ("zlib", zlib),
    ("snappy", snappy_block),
    ("snappy", snappy_frames),
    ("x-snappy-framed", snappy_frames),
    ("x-snappy-framed", snappy_block),
    ("lz4", lz4),
];

const OVER_GRPC: [(&str, Pack); 5] =
    [("gzip", gzip), ("zstd", zstd), ("deflate", zlib), ("snappy", snappy_frames), ("snappy", snappy_block)];

fn compressed_post(server: &Server, name: &str, body: Bytes) -> Request<Bytes> {
    post(server, "/v1/traces", PROTOBUF).header("content-encoding", name).body(body).unwrap()
}

fn compressed_call(server: &Server, name: &str, body: &Bytes) -> Request<Bytes> {
    let frame = framed(1, body.len() as u32, body);
    let reads = format!("identity, {name}");
    call(server, Signal::Traces)
        .header("grpc-encoding", name)
        .header("grpc-accept-encoding", reads)
        .body(frame)
        .unwrap()
}

#[tokio::test]
async fn c1_every_content_encoding_is_accepted() {
    let server = Server::start().await;
    for data in [spans("x"), spans(&"x".repeat(300_000))] {
        let plain: [(&str, Pack); 2] = [("identity", Bytes::copy_from_slice), ("", Bytes::copy_from_slice)];
        for (name, pack) in OVER_HTTP.into_iter().chain(plain) {
            let answer = send(compressed_post(&server, name, pack(&data))).await;
            assert_eq!((answer.status(), answer.body.len()), (200, 0), "{name}");
            assert_eq!(server.recorder.last().1, data, "{name}");
        }
    }
    server.at_rest().await;
}

#[tokio::test]
async fn g8_every_grpc_encoding_is_accepted_and_the_answer_mirrors_it() {
    let server = Server::start().await;
    // An answer with something to say, so that there is something to compress.
    server.recorder.answers(Ok(Accepted { rejected: 1, message: "blocked ".repeat(40) }));
    for (name, pack) in OVER_GRPC {
        let answer = raw_call(&server, compressed_call(&server, name, &pack(&spans("x")))).await;
        assert_eq!(answer.grpc().code(), Code::Ok, "{name}: {:?}", answer.grpc());
        assert_eq!(server.recorder.last().1, spans("x"), "{name}");
        assert_eq!(answer.header("grpc-encoding"), name);
        let (head, message) = answer.body.split_at(5);
        assert_eq!((head[0], message.len()), (1, u32::from_be_bytes(head[1..].try_into().unwrap()) as usize));
        let mut plain = Vec::new();
        match name {
            "gzip" => flate2::read::GzDecoder::new(message).read_to_end(&mut plain).unwrap(),
            "deflate" => flate2::read::ZlibDecoder::new(message).read_to_end(&mut plain).unwrap(),
            // The framing format always, which is what gRPC's clients read.
            "snappy" => snap::read::FrameDecoder::new(message).read_to_end(&mut plain).unwrap(),
            _ => zstd::Decoder::new(message).unwrap().read_to_end(&mut plain).unwrap(),
        };
        let partial = ExportTraceServiceResponse::decode(&plain[..]).unwrap().partial_success.unwrap();
        assert_eq!(partial.rejected_spans, 1);
    }
    server.at_rest().await;
}

#[tokio::test]
async fn g8_an_answer_that_would_only_grow_is_not_compressed() {
    let server = Server::start().await;
    for message in ["", "ok"] {
        server.recorder.answers(Ok(Accepted { rejected: 0, message: message.to_owned() }));
        let answer = raw_call(&server, compressed_call(&server, "gzip", &gzip(&spans("x")))).await;
        assert_eq!((answer.grpc().code(), answer.body[0]), (Code::Ok, 0));
        assert_eq!(answer.header("grpc-encoding"), "", "an answer names a compression only where it has one");
    }
}

#[tokio::test]
async fn g8_names_of_http_mean_nothing_to_grpc() {
    let server = Server::start().await;
    for name in ["lz4", "zlib", "x-snappy-framed", "GZIP", "gzip, gzip"] {
        let answer = raw_call(&server, compressed_call(&server, name, &gzip(b"abc"))).await;
        assert_eq!(answer.grpc().code(), Code::Unimplemented, "{name}");
        assert_eq!(answer.header("grpc-accept-encoding"), "identity,gzip,zstd,snappy,deflate");
    }
}

/// The limit holds for what comes out, and room is counted for it; neither takes more than the limit to find out.
#[tokio::test]
async fn c10_what_decompresses_beyond_the_limit_is_refused_whatever_the_compression() {
    let mut settings = limited(1 << 20);
    settings.max_concurrent_bytes = 3 << 20;
    let server = Server::with(settings).await;
    let (at_limit, beyond) = (vec![0; 1 << 20], vec![0; (1 << 20) + 1]);
    for (name, pack) in OVER_HTTP {
        assert_eq!(send(compressed_post(&server, name, pack(&beyond))).await.status(), 413, "{name}");
        assert_eq!(send(compressed_post(&server, name, pack(&at_limit))).await.status(), 200, "{name}");
    }
    for (name, pack) in OVER_GRPC {
        let status = raw_call(&server, compressed_call(&server, name, &pack(&beyond))).await.grpc();
        assert_eq!(status.code(), Code::ResourceExhausted, "{name}: {status:?}");
        let status = raw_call(&server, compressed_call(&server, name, &pack(&at_limit))).await.grpc();
        assert_eq!(status.code(), Code::Ok, "{name}: {status:?}");
    }
    server.at_rest().await;
}

#[tokio::test]
async fn h4_damaged_compression_is_400() {
    let server = Server::start().await;
    let mut count = 0;
    for (name, pack) in OVER_HTTP {
        let whole = pack(&spans("x"));
        for body in [whole.slice(..whole.len() - 1), Bytes::from_static(b"\xffnot at all")] {
            let answer = send(compressed_post(&server, name, body)).await;
            assert_eq!((answer.status(), answer.status_body().code), (400, 3), "{name}");
            assert!(answer.status_body().message.contains("damaged"), "{:?}", answer.status_body());
            assert_eq!(answer.status_body().details[0].type_url, "type.googleapis.com/google.rpc.BadRequest");
            count += 1;
        }
    }
    assert_eq!(server.recorder.rejections(), vec![(Signal::Traces, Transport::Http, Rejected::Malformed); count]);
    assert_eq!(server.recorder.count(), 0);
    server.at_rest().await;
}

#[tokio::test]
async fn g8_damaged_compression_is_internal() {
    let server = Server::start().await;
    for (name, pack) in OVER_GRPC {
        let whole = pack(&spans("x"));
        let status = raw_call(&server, compressed_call(&server, name, &whole.slice(..whole.len() - 1))).await.grpc();
        assert_eq!(status.code(), Code::Internal, "{name}: {status:?}");
        assert!(status.message().contains("damaged"), "{status:?}");
    }
    assert_eq!(server.recorder.count(), 0);
}

/// Go's encoders of zstd and framed Snappy make nothing of nothing; gzip and zlib always have a header.
#[tokio::test]
async fn c3_an_empty_compressed_body_is_an_empty_request_where_its_format_has_that() {
    let server = Server::start().await;
    for (name, status) in
        [("zstd", 200), ("snappy", 200), ("x-snappy-framed", 200), ("lz4", 200), ("gzip", 400), ("deflate", 400)]
    {
        assert_eq!(send(compressed_post(&server, name, Bytes::new())).await.status(), status, "{name}");
    }
    for (name, pack) in OVER_HTTP {
        assert_eq!(send(compressed_post(&server, name, pack(b""))).await.status(), 200, "{name}");
    }
    assert_eq!(server.recorder.count(), 0);
}

#[tokio::test]
async fn h8_an_empty_list_switches_compression_off_and_identity_stays() {
    let mut settings = settings();
    http(&mut settings).codings = Vec::new();
    let server = Server::with(settings).await;
    for algorithm in Algorithm::ALL {
        let answer = send(compressed_post(&server, algorithm.name(), gzip(&spans("x")))).await;
        let text = format!("unsupported Content-Encoding: {}", algorithm.name());
        assert_eq!((answer.status(), answer.status_body().message), (400, text));
    }
    assert_eq!(post_traces(&server, PROTOBUF, spans("x")).await.status(), 200);
}

/// What a body of 100 bytes may claim, and what it costs to find out that it is not so.
#[tokio::test]
async fn c10_a_snappy_block_cannot_take_room_by_claiming_it() {
    let mut settings = limited(8 << 20);
    settings.max_concurrent_bytes = 1 << 20;
    let server = Server::with(settings).await;
    // Eight mebibytes in the varint; were they reserved, the answer would be "overloaded".
    let claim = Bytes::from_static(&[0x80, 0x80, 0x80, 0x04, 0x00, b'a']);
    let answer = send(compressed_post(&server, "snappy", claim)).await;
    assert_eq!((answer.status(), answer.status_body().code), (400, 3));
    server.at_rest().await;
}

#[tokio::test]
async fn c10_compressed_json_in_chunks_is_held_to_room_and_limit_too() {
    let json = |n: usize| {
        let name = "x".repeat(n);
        format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"name":"{name}"}}]}}]}}]}}"#)
    };
    let chunked = |name: &str, body: &[u8]| {
        let mut request = format!(
            "POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-encoding: {name}\r\n\
             connection: close\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        .into_bytes();
        for piece in body.chunks(50) {
            request.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            request.extend_from_slice(piece);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"0\r\n\r\n");
        request
    };
    let mut settings = limited(100_000);
    settings.max_concurrent_bytes = 300_000;
    let server = Server::with(settings).await;
    for (name, pack) in OVER_HTTP {
        let text = raw(&server, &chunked(name, &pack(json(90_000).as_bytes())), |_| false).await;
        assert!(text.starts_with("HTTP/1.1 200"), "{name}: {text}");
        let text = raw(&server, &chunked(name, &pack(json(100_000).as_bytes())), |_| false).await;
        assert!(text.starts_with("HTTP/1.1 413"), "{name}: {text}");
    }
    server.at_rest().await;

    // 90 KB that came out of the compression, and as much for its protobuf, do not fit beside what is held here.
    let gate = server.recorder.close_gate();
    let held = tokio::spawn(send(post(&server, "/v1/traces", PROTOBUF).body(vec![1; 99_000].into()).unwrap()));
    server.recorder.entered.notified().await;
    let second = tokio::spawn(send(post(&server, "/v1/traces", PROTOBUF).body(vec![1; 99_000].into()).unwrap()));
    server.recorder.entered.notified().await;
    let text = raw(&server, &chunked("gzip", &gzip(json(90_000).as_bytes())), |_| false).await;
    assert!(text.starts_with("HTTP/1.1 503") && text.contains("retry-after: 1"), "{text}");
    gate.notify_waiters();
    assert_eq!((held.await.unwrap().status(), second.await.unwrap().status()), (200, 200));
    server.at_rest().await;
}
