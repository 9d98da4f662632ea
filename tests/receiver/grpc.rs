//! OTLP/gRPC by the checklist: each test is named after the line it proves.

use crate::support::*;
use bytes::{Buf, BufMut, Bytes};
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceResponse, metrics::v1::ExportMetricsServiceResponse,
    trace::v1::ExportTraceServiceResponse,
};
use prost::Message;
use std::{sync::Arc, time::Duration};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};
use tonic_types::StatusExt;
use tracegate::{
    otlp::Signal,
    pipeline::{Accepted, Refusal, Transport},
    receiver::Rejected,
};

/// Bytes in, bytes out.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

async fn client(server: &Server) -> Grpc<Channel> {
    let channel = Channel::from_shared(format!("http://{}", server.grpc())).unwrap().connect().await.unwrap();
    Grpc::new(channel)
}

async fn export(mut client: Grpc<Channel>, path: &'static str, message: Bytes) -> Result<Bytes, Status> {
    client.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let call = client.unary(Request::new(message), http::uri::PathAndQuery::from_static(path), Raw);
    tokio::time::timeout(SOON, call).await.expect("no answer in time").map(tonic::Response::into_inner)
}

async fn export_traces(server: &Server, message: Bytes) -> Result<Bytes, Status> {
    export(client(server).await, Signal::Traces.grpc_path(), message).await
}

#[tokio::test]
async fn g1_every_signal_has_its_service_and_the_message_arrives_untouched() {
    let server = Server::start().await;
    for signal in Signal::ALL {
        let message = request_of(signal);
        export(client(&server).await, signal.grpc_path(), message.clone()).await.unwrap();
        let (seen, bytes, origin) = server.recorder.last();
        assert_eq!((seen, bytes), (signal, message));
        assert_eq!((origin.transport, &*origin.receiver), (Transport::Grpc, "otlp"));
        assert!(origin.peer.unwrap().ip().is_loopback());
    }
    server.at_rest().await;
}

#[tokio::test]
async fn g1_a_signal_no_pipeline_takes_is_unimplemented() {
    let server = Server::start().await;
    *server.recorder.takes.lock().unwrap() = vec![Signal::Traces];
    let status = export(client(&server).await, Signal::Metrics.grpc_path(), request_of(Signal::Metrics)).await;
    let status = status.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unimplemented, "no pipeline takes metrics"));
    export_traces(&server, spans("x")).await.unwrap();
    assert_eq!(server.recorder.count(), 1);
}

#[tokio::test]
async fn c9_unknown_services_and_methods_are_unimplemented_without_an_echo() {
    let server = Server::start().await;
    for path in [
        "/opentelemetry.proto.collector.trace.v1.TraceService/Import",
        "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
        "/grpc.health.v1.Health/Check",
        "/",
    ] {
        let status = export(client(&server).await, path, spans("x")).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
        assert!(!status.message().contains("Service"), "{status:?}");
        assert_eq!(status.message().starts_with("profiles are not supported"), path.contains("profiles"), "{path}");
    }
    assert_eq!(server.recorder.count(), 0);
}

#[tokio::test]
async fn c1_tonics_own_compression_is_understood_both_ways() {
    let server = Server::start().await;
    server.recorder.answers(Ok(Accepted { rejected: 2, message: "blocked".to_owned() }));
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let client = client(&server).await.send_compressed(encoding).accept_compressed(encoding);
        let answer = export(client, Signal::Traces.grpc_path(), spans("x")).await.unwrap();
        let partial = ExportTraceServiceResponse::decode(answer).unwrap().partial_success.unwrap();
        assert_eq!(partial.rejected_spans, 2);
        assert_eq!(server.recorder.last().1, spans("x"));
    }
}

/// tonic refuses every answer that names an encoding it was not told to read, also one that is not compressed.
#[tokio::test]
async fn c1_a_tonic_client_that_only_sends_compressed_reads_the_answer() {
    let server = Server::start().await;
    for message in ["", "blocked", &"blocked ".repeat(100)] {
        server.recorder.answers(Ok(Accepted { rejected: 2, message: message.to_owned() }));
        let client = client(&server).await.send_compressed(CompressionEncoding::Gzip);
        let answer = export(client, Signal::Traces.grpc_path(), spans("x")).await.unwrap();
        let partial = ExportTraceServiceResponse::decode(answer).unwrap().partial_success.unwrap();
        assert_eq!(partial.error_message, message);
    }
}

#[tokio::test]
async fn c1_a_client_that_cannot_read_its_own_compression_gets_none() {
    let server = Server::start().await;
    let packed = gzip(&spans("x"));
    let request = call(&server, Signal::Traces).header("grpc-encoding", "gzip").header("grpc-accept-encoding", "zstd");
    let answer = raw_call(&server, request.body(framed(1, packed.len() as u32, &packed)).unwrap()).await;
    assert_eq!((answer.grpc().code(), answer.header("grpc-encoding")), (Code::Ok, ""));
}

#[tokio::test]
async fn c2_success_is_an_empty_message_with_partial_success_unset() {
    let server = Server::start().await;
    assert!(export_traces(&server, spans("x")).await.unwrap().is_empty());
    let answer =
        raw_call(&server, call(&server, Signal::Traces).body(framed(0, spans("x").len() as u32, &spans("x"))).unwrap());
    let answer = answer.await;
    assert_eq!(&answer.body[..], [0, 0, 0, 0, 0]);
    assert_eq!((answer.status(), answer.header("content-type")), (200, "application/grpc"));
}

#[tokio::test]
async fn c3_an_empty_request_succeeds_without_reaching_the_pipeline() {
    let server = Server::start().await;
    for signal in Signal::ALL {
        assert!(export(client(&server).await, signal.grpc_path(), Bytes::new()).await.unwrap().is_empty());
    }
    assert_eq!((server.recorder.count(), server.recorder.rejections().len()), (0, 0));
}

#[tokio::test]
async fn c4_partial_success_carries_count_and_message_for_every_signal() {
    let server = Server::start().await;
    server.recorder.answers(Ok(Accepted { rejected: 7, message: "blocked by policy".to_owned() }));
    let mut got = Vec::new();
    for signal in Signal::ALL {
        let answer = export(client(&server).await, signal.grpc_path(), request_of(signal)).await.unwrap();
        got.push(match signal {
            Signal::Traces => {
                let partial = ExportTraceServiceResponse::decode(answer).unwrap().partial_success.unwrap();
                (partial.rejected_spans, partial.error_message)
            }
            Signal::Logs => {
                let partial = ExportLogsServiceResponse::decode(answer).unwrap().partial_success.unwrap();
                (partial.rejected_log_records, partial.error_message)
            }
            Signal::Metrics => {
                let partial = ExportMetricsServiceResponse::decode(answer).unwrap().partial_success.unwrap();
                (partial.rejected_data_points, partial.error_message)
            }
        });
    }
    assert_eq!(got, vec![(7, "blocked by policy".to_owned()); 3]);
}

#[tokio::test]
async fn c4_a_warning_is_a_message_with_nothing_rejected() {
    let server = Server::start().await;
    server.recorder.answers(Ok(Accepted { rejected: 0, message: "12 spans held".to_owned() }));
    let answer = export_traces(&server, spans("x")).await.unwrap();
    let partial = ExportTraceServiceResponse::decode(answer).unwrap().partial_success.unwrap();
    assert_eq!((partial.rejected_spans, &*partial.error_message), (0, "12 spans held"));
}

#[tokio::test]
async fn c10_the_answer_stays_far_below_four_mebibytes_whatever_the_pipeline_says() {
    let server = Server::start().await;
    server.recorder.answers(Ok(Accepted { rejected: 1, message: "long ".repeat(2_000_000) }));
    let answer = export_traces(&server, spans("x")).await.unwrap();
    assert!(answer.len() < 1100, "{}", answer.len());
    server.recorder.answers(Err(Refusal::Malformed("long ".repeat(2_000_000))));
    let status = export_traces(&server, spans("x")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().len() <= 1024 && status.details().len() < 2200);
}

#[tokio::test]
async fn c10_the_default_limit_is_64_mebibytes_and_a_message_just_below_it_passes() {
    let server = Server::start().await;
    let limit = 64 * 1024 * 1024;
    let packed = gzip(&vec![0; limit]);
    let call_of = |packed: &Bytes| {
        call(&server, Signal::Traces)
            .header("grpc-encoding", "gzip")
            .body(framed(1, packed.len() as u32, packed))
            .unwrap()
    };
    assert_eq!(raw_call(&server, call_of(&packed)).await.grpc().code(), Code::Ok);
    assert_eq!(server.recorder.last().1.len(), limit);
    let packed = gzip(&vec![0; limit + 1]);
    assert_eq!(raw_call(&server, call_of(&packed)).await.grpc().code(), Code::ResourceExhausted);
    server.at_rest().await;
}

/// tonic answers OUT_OF_RANGE here, which clients retry for ever (G4); the specification asks for RESOURCE_EXHAUSTED
/// without RetryInfo.
#[tokio::test]
async fn g2_a_message_over_the_limit_is_resource_exhausted_and_not_retryable() {
    let server = Server::with(limited(1000)).await;
    let packed = gzip(&vec![0; 1001]);
    for (name, body) in [
        ("announced", framed(0, 1001, &[0; 1001])),
        ("announced far beyond", framed(0, u32::MAX, &[0; 100])),
        ("decompressed", framed(1, packed.len() as u32, &packed)),
    ] {
        let request = call(&server, Signal::Traces).header("grpc-encoding", "gzip").body(body).unwrap();
        let status = raw_call(&server, request).await.grpc();
        assert_eq!(status.code(), Code::ResourceExhausted, "{name}: {status:?}");
        assert!(status.get_error_details().retry_info().is_none(), "{name}");
        assert!(status.message().contains("limit of 1000 bytes"), "{status:?}");
    }
    let at_limit = vec![0; 1000];
    let request = call(&server, Signal::Traces).body(framed(0, 1000, &at_limit)).unwrap();
    assert_eq!(raw_call(&server, request).await.grpc().code(), Code::Ok);
    assert_eq!(server.recorder.count(), 1);
    assert_eq!(server.recorder.rejections(), vec![(Signal::Traces, Transport::Grpc, Rejected::TooLarge); 3]);
    server.at_rest().await;
}

#[tokio::test]
async fn g2_the_pipelines_too_large_is_resource_exhausted_without_retry_info() {
    let server = Server::start().await;
    server.recorder.answers(Err(Refusal::TooLarge("more than 1000000 spans".to_owned())));
    let status = export_traces(&server, spans("x")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "more than 1000000 spans"));
    assert!(status.get_error_details().retry_info().is_none());
    assert!(server.recorder.rejections().is_empty(), "the pipeline counts its own refusals");
}

#[tokio::test]
async fn g3_pressure_is_unavailable_with_retry_info() {
    let server = Server::start().await;
    let retry_after = Duration::from_millis(1500);
    server.recorder.answers(Err(Refusal::Overloaded { message: "the queue is full".to_owned(), retry_after }));
    let status = export_traces(&server, spans("x")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "the queue is full"));
    assert_eq!(status.get_error_details().retry_info().unwrap().retry_delay, Some(retry_after));
}

#[tokio::test]
async fn g3_bad_data_is_invalid_argument_with_a_bad_request_detail() {
    let server = Server::start().await;
    server.recorder.answers(Err(Refusal::Malformed("length past the end at byte 12".to_owned())));
    let status = export_traces(&server, spans("x")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "length past the end at byte 12"));
    let details = status.get_error_details();
    let violation = &details.bad_request().unwrap().field_violations[0];
    assert_eq!(violation.description, "length past the end at byte 12");
}

#[tokio::test]
async fn g5_a_defect_of_ours_is_internal_and_a_panic_harms_one_request_only() {
    let server = Server::start().await;
    server.recorder.answers(Err(Refusal::Internal("a stage failed".to_owned())));
    assert_eq!(export_traces(&server, spans("x")).await.unwrap_err().code(), Code::Internal);
    *server.recorder.panics.lock().unwrap() = true;
    let client = client(&server).await;
    let status = export(client.clone(), Signal::Traces.grpc_path(), spans("x")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Internal, "the request could not be processed"));
    *server.recorder.panics.lock().unwrap() = false;
    server.recorder.answers(Ok(Accepted::default()));
    export(client, Signal::Traces.grpc_path(), spans("x")).await.unwrap();
    server.at_rest().await;
}

#[tokio::test]
async fn g6_calls_on_one_connection_run_concurrently() {
    let server = Server::start().await;
    let gate = server.recorder.close_gate();
    let client = client(&server).await;
    let calls: Vec<_> = (0..20)
        .map(|n| tokio::spawn(export(client.clone(), Signal::Traces.grpc_path(), spans(&n.to_string()))))
        .collect();
    let budget = server.receiver.budget();
    until("all calls are in the pipeline", || budget.requests() == 20).await;
    assert_eq!(server.recorder.count(), 0);
    until("every call is answered", || {
        gate.notify_waiters();
        server.recorder.count() == 20
    })
    .await;
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn g6_concurrency_per_connection_is_configurable() {
    let mut settings = settings();
    grpc(&mut settings).max_concurrent_streams = 3;
    let server = Server::with(settings).await;
    let client = client(&server).await;
    // A client learns the bound with the first answer; calls beyond it before that are refused for a retry.
    export(client.clone(), Signal::Traces.grpc_path(), spans("x")).await.unwrap();
    let gate = server.recorder.close_gate();
    let calls: Vec<_> =
        (0..10).map(|_| tokio::spawn(export(client.clone(), Signal::Traces.grpc_path(), spans("x")))).collect();
    let most = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let budget = server.receiver.budget();
    until("every call is answered", || {
        most.fetch_max(budget.requests(), std::sync::atomic::Ordering::Relaxed);
        if budget.requests() == 3 {
            gate.notify_waiters();
        } else {
            gate.notify_one();
        }
        server.recorder.count() == 11
    })
    .await;
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let most = most.load(std::sync::atomic::Ordering::Relaxed);
    assert!(most <= 3, "{most} at once");
}

#[tokio::test]
async fn g8_an_unknown_encoding_is_unimplemented_and_names_what_is_known() {
    let server = Server::start().await;
    for (name, shown) in [("br", "unsupported grpc-encoding: br"), ("a b<c>", "unsupported grpc-encoding")] {
        let request = call(&server, Signal::Traces).header("grpc-encoding", name);
        let answer = raw_call(&server, request.body(framed(1, 3, b"abc")).unwrap()).await;
        let status = answer.grpc();
        assert_eq!((status.code(), status.message()), (Code::Unimplemented, shown));
        assert_eq!(answer.header("grpc-accept-encoding"), "identity,gzip,zstd,snappy,deflate");
    }
    assert_eq!(server.recorder.count(), 0);
}

#[tokio::test]
async fn g8_identity_and_uncompressed_frames_in_a_compressed_call_are_fine() {
    let server = Server::start().await;
    for name in ["identity", "gzip"] {
        let body = framed(0, spans("x").len() as u32, &spans("x"));
        let request = call(&server, Signal::Traces).header("grpc-encoding", name).body(body).unwrap();
        assert_eq!(raw_call(&server, request).await.grpc().code(), Code::Ok, "{name}");
        assert_eq!(server.recorder.last().1, spans("x"));
    }
}

/// DEADLINE_EXCEEDED is retryable (G4), so what nobody waits for any more is not done twice.
#[tokio::test]
async fn g4_at_the_clients_deadline_work_is_given_up() {
    let server = Server::start().await;
    let _gate = server.recorder.close_gate();
    let body = framed(0, spans("x").len() as u32, &spans("x"));
    let request = call(&server, Signal::Traces).header("grpc-timeout", "50m").body(body).unwrap();
    let status = raw_call(&server, request).await.grpc();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(status.message().contains("deadline"), "{status:?}");
    server.at_rest().await;
    assert_eq!(server.recorder.count(), 0);
    assert_eq!(server.recorder.rejections(), [(Signal::Traces, Transport::Grpc, Rejected::Deadline)]);
}

#[tokio::test]
async fn g4_the_clients_deadline_holds_while_its_message_arrives() {
    let server = Server::start().await;
    let mut sender = h2::<Pieces>(&server).await;
    let pieces = Pieces::of([framed(0, 1000, &[1; 10])], false);
    let request = call(&server, Signal::Traces).header("grpc-timeout", "50000u").body(pieces).unwrap();
    let response = tokio::time::timeout(SOON, sender.send_request(request)).await.expect("it waits for ever").unwrap();
    assert_eq!(Answer::read(response).await.grpc().code(), Code::DeadlineExceeded);
    server.at_rest().await;
}

#[tokio::test]
async fn g4_a_deadline_that_is_far_away_or_no_deadline_at_all() {
    let server = Server::start().await;
    let answer = async |timeout: &str| {
        let body = framed(0, spans("x").len() as u32, &spans("x"));
        let request = call(&server, Signal::Traces).header("grpc-timeout", timeout).body(body).unwrap();
        raw_call(&server, request).await.grpc()
    };
    assert_eq!(answer("99999999H").await.code(), Code::Ok);
    assert_eq!(answer("20S").await.code(), Code::Ok);
    assert_eq!(server.recorder.count(), 2);
    for malformed in ["soon", "1", "123456789S", "-1S", ""] {
        let status = answer(malformed).await;
        assert_eq!((status.code(), status.message()), (Code::Internal, "malformed grpc-timeout"), "{malformed:?}");
    }
    assert_eq!(server.recorder.count(), 2);
}

/// What another attempt can help has a code that clients retry, and only that.
#[tokio::test]
async fn g4_codes_are_retryable_exactly_when_another_attempt_can_help() {
    use Code::{Aborted, Cancelled, DataLoss, DeadlineExceeded, OutOfRange, Unavailable};
    let server = Server::start().await;
    let retry_after = Duration::from_secs(1);
    for (refusal, helps) in [
        (Refusal::Overloaded { message: "full".to_owned(), retry_after }, true),
        (Refusal::Malformed("bad".to_owned()), false),
        (Refusal::TooLarge("large".to_owned()), false),
        (Refusal::Internal("defect".to_owned()), false),
        (Refusal::NoPipeline(Signal::Traces), false),
    ] {
        server.recorder.answers(Err(refusal));
        let status = export_traces(&server, spans("x")).await.unwrap_err();
        let retryable = [Cancelled, DeadlineExceeded, Aborted, OutOfRange, Unavailable, DataLoss];
        assert_eq!(retryable.contains(&status.code()), helps, "{status:?}");
        assert_eq!(status.get_error_details().retry_info().is_some(), helps, "{status:?}");
    }
}

#[tokio::test]
async fn g10_calls_in_hand_are_answered_before_the_server_goes() {
    let server = Server::start().await;
    let gate = server.recorder.close_gate();
    let held = tokio::spawn(export(client(&server).await, Signal::Traces.grpc_path(), spans("x")));
    server.recorder.entered.notified().await;
    let (receiver, recorder) = (server.receiver, server.recorder);
    let drained = tokio::spawn(receiver.drain(tokio::time::Instant::now() + SOON));
    gate.notify_one();
    held.await.unwrap().unwrap();
    assert!(drained.await.unwrap(), "everything ended by itself");
    assert_eq!(recorder.count(), 1);
}

#[tokio::test]
async fn g8_bad_frames_are_refused_with_what_is_wrong() {
    let server = Server::start().await;
    let two = [framed(0, 1, b"a"), framed(0, 1, b"b")].concat();
    for (what, encoding, body, code, text) in [
        ("compressed without encoding", "", framed(1, 3, b"abc"), Code::Internal, "no grpc-encoding"),
        ("wrong flag", "gzip", framed(2, 3, b"abc"), Code::Internal, "compressed flag is 2"),
        ("length too long", "", framed(0, 10, b"abc"), Code::Internal, "after 3 of 10 bytes"),
        ("length too short", "", framed(0, 2, b"abc"), Code::Unimplemented, "more than one message"),
        ("two messages", "", two.into(), Code::Unimplemented, "more than one message"),
        ("half a header", "", Bytes::from_static(&[0, 0]), Code::Internal, "frame header, after 2 bytes"),
        ("no message", "", Bytes::new(), Code::Unimplemented, "no message"),
        ("damaged gzip", "gzip", framed(1, 3, b"abc"), Code::Internal, "damaged"),
        ("damaged zstd", "zstd", framed(1, 3, b"abc"), Code::Internal, "damaged"),
        ("gzip called zstd", "zstd", framed(1, gzip(b"a").len() as u32, &gzip(b"a")), Code::Internal, "damaged"),
    ] {
        let mut request = call(&server, Signal::Traces);
        if !encoding.is_empty() {
            request = request.header("grpc-encoding", encoding);
        }
        let status = raw_call(&server, request.body(body).unwrap()).await.grpc();
        assert_eq!(status.code(), code, "{what}: {status:?}");
        assert!(status.message().contains(text), "{what}: {status:?}");
    }
    assert_eq!(server.recorder.count(), 0);
    assert_eq!(server.recorder.rejections(), vec![(Signal::Traces, Transport::Grpc, Rejected::Malformed); 10]);
    server.at_rest().await;
}

#[tokio::test]
async fn a_message_cut_into_single_bytes_is_put_together() {
    let server = Server::start().await;
    let body = framed(0, spans("x").len() as u32, &spans("x"));
    let pieces = Pieces::of(body.chunks(1).map(Bytes::copy_from_slice), true);
    let mut sender = h2::<Pieces>(&server).await;
    let response = sender.send_request(call(&server, Signal::Traces).body(pieces).unwrap()).await.unwrap();
    assert_eq!(Answer::read(response).await.grpc().code(), Code::Ok);
    assert_eq!(server.recorder.last().1, spans("x"));
}

#[tokio::test]
async fn what_is_not_grpc_is_refused_in_http() {
    let server = Server::start().await;
    let other = call(&server, Signal::Traces).body(Bytes::new()).map(|mut request| {
        request.headers_mut().insert("content-type", "application/json".parse().unwrap());
        request
    });
    assert_eq!(raw_call(&server, other.unwrap()).await.status(), 415);
    let mut get = call(&server, Signal::Traces).body(Bytes::new()).unwrap();
    *get.method_mut() = http::Method::GET;
    assert_eq!(raw_call(&server, get).await.status(), 405);
    let mut subtype = call(&server, Signal::Traces).body(framed(0, 0, b"")).unwrap();
    subtype.headers_mut().insert("content-type", "application/grpc+proto".parse().unwrap());
    assert_eq!(raw_call(&server, subtype).await.grpc().code(), Code::Ok);
}
