//! Everything is bounded: bombs, slow and silent clients, too many of anything. What one client does harms no other.

use crate::support::*;
use bytes::Bytes;
use http::Request;
use std::{io::ErrorKind, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};
use tonic::Code;
use tonic_types::StatusExt;
use tracegate::{
    otlp::Signal,
    pipeline::Transport,
    receiver::{Receiver, Rejected, Settings, StartError},
};

const MIB: usize = 1024 * 1024;
/// A time limit that is meant to be missed.
const SHORT: Duration = Duration::from_millis(100);
/// A time limit that is met first and missed later, on a busy machine too.
const FAIR: Duration = Duration::from_millis(500);

fn compressed_post(server: &Server, name: &str, body: Bytes) -> Request<Bytes> {
    post(server, "/v1/traces", PROTOBUF).header("content-encoding", name).body(body).unwrap()
}

fn compressed_call(server: &Server, name: &str, body: &Bytes) -> Request<Bytes> {
    let frame = framed(1, body.len() as u32, body);
    call(server, Signal::Traces).header("grpc-encoding", name).body(frame).unwrap()
}

/// Reads until the server closes the connection; answers what came.
async fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut got = Vec::new();
    match timeout(SOON, stream.read_to_end(&mut got)).await.expect("the server never closed the connection") {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    got
}

async fn http_client(server: &Server) -> TcpStream {
    TcpStream::connect(server.http()).await.unwrap()
}

async fn grpc_client(server: &Server) -> TcpStream {
    TcpStream::connect(server.grpc()).await.unwrap()
}

/// The first half of a request: a head that promises `len` bytes.
fn head(len: usize) -> Vec<u8> {
    format!(
        "POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\ncontent-length: {len}\r\n\r\n"
    )
    .into_bytes()
}

/// The start of an HTTP/2 connection: the preface and an empty SETTINGS frame.
fn preface() -> Vec<u8> {
    [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat()
}

// Bombs.

#[tokio::test]
async fn a_bomb_stops_at_the_limit_and_never_costs_more_memory_than_that() {
    let mut settings = limited(4 * MIB);
    // A gibibyte that were inflated beyond the limit would hit this first and be "overloaded" instead.
    settings.max_concurrent_bytes = 9 * MIB as u64;
    let server = Server::with(settings).await;
    for (name, bomb) in [("gzip", gzip_bomb()), ("zstd", zstd_bomb())] {
        assert!(bomb.len() < 4 * MIB);
        assert_eq!(send(compressed_post(&server, name, bomb.clone())).await.status(), 413, "{name}");
        let status = raw_call(&server, compressed_call(&server, name, &bomb)).await.grpc();
        assert_eq!(status.code(), Code::ResourceExhausted, "{name}: {status:?}");
    }
    assert_eq!(server.recorder.count(), 0);
    assert!(server.recorder.rejections().iter().all(|(_, _, why)| *why == Rejected::TooLarge));
    server.at_rest().await;
}

#[tokio::test]
async fn the_bombs_are_bombs() {
    use std::io::Read;
    let head = |reader: &mut dyn Read| std::io::copy(&mut reader.take(100 * MIB as u64), &mut std::io::sink()).unwrap();
    assert_eq!(head(&mut flate2::read::GzDecoder::new(&gzip_bomb()[..])), 100 * MIB as u64);
    assert_eq!(head(&mut zstd::Decoder::new(&zstd_bomb()[..]).unwrap()), 100 * MIB as u64);
}

#[tokio::test]
async fn a_gzip_body_of_very_many_empty_members_is_just_empty() {
    let server = Server::start().await;
    let members = gzip(b"").repeat(100_000);
    assert_eq!(send(compressed_post(&server, "gzip", members.into())).await.status(), 200);
}

#[tokio::test]
async fn compressing_twice_is_not_undone_twice() {
    let server = Server::start().await;
    let inner = gzip(&spans("x"));
    assert_eq!(send(compressed_post(&server, "gzip", gzip(&inner))).await.status(), 200);
    assert_eq!(server.recorder.last().1, inner);
}

// Concurrent bytes.

#[tokio::test]
async fn requests_in_hand_are_bounded_over_both_servers_and_shed_retryably() {
    let mut settings = limited(MIB);
    settings.max_concurrent_bytes = MIB as u64;
    let server = Server::with(settings).await;
    let gate = server.recorder.close_gate();
    let held = tokio::spawn(send(post(&server, "/v1/traces", PROTOBUF).body(vec![1; 900_000].into()).unwrap()));
    server.recorder.entered.notified().await;
    let budget = server.receiver.budget();
    assert!((900_000..=MIB as u64).contains(&budget.bytes()), "held until the answer: {}", budget.bytes());

    let answer = post_traces(&server, PROTOBUF, vec![1; 300_000]).await;
    assert_eq!((answer.status(), answer.header("retry-after")), (503, "1"));
    assert!(answer.status_body().message.starts_with("too many requests at once"), "{:?}", answer.status_body());
    let request = call(&server, Signal::Traces).body(framed(0, 300_000, &vec![1; 300_000])).unwrap();
    let status = raw_call(&server, request).await.grpc();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.get_error_details().retry_info().is_some());
    let shed = |transport| (Signal::Traces, transport, Rejected::Overloaded);
    assert_eq!(server.recorder.rejections(), [shed(Transport::Http), shed(Transport::Grpc)]);

    // A small request still finds room.
    server.recorder.gate.lock().unwrap().take();
    assert_eq!(post_traces(&server, PROTOBUF, spans("x")).await.status(), 200);
    gate.notify_waiters();
    assert_eq!(held.await.unwrap().status(), 200);
    server.at_rest().await;
    assert_eq!(post_traces(&server, PROTOBUF, vec![1; 300_000]).await.status(), 200);
}

#[tokio::test]
async fn large_requests_leave_room_for_small_ones() {
    let mut settings = limited(8 * MIB);
    settings.max_concurrent_bytes = 16 * MIB as u64;
    let server = Server::with(settings).await;
    let gate = server.recorder.close_gate();
    let mut held = Vec::new();
    for size in [7 * MIB, 4 * MIB] {
        held.push(tokio::spawn(send(post(&server, "/v1/traces", PROTOBUF).body(vec![1; size].into()).unwrap())));
        server.recorder.entered.notified().await;
    }
    server.recorder.gate.lock().unwrap().take();
    assert_eq!(post_traces(&server, PROTOBUF, vec![1; 2 * MIB]).await.status(), 503);
    assert_eq!(post_traces(&server, PROTOBUF, vec![1; MIB]).await.status(), 200);
    gate.notify_waiters();
    for request in held {
        assert_eq!(request.await.unwrap().status(), 200);
    }
    assert_eq!(post_traces(&server, PROTOBUF, vec![1; 2 * MIB]).await.status(), 200);
    server.at_rest().await;
}

#[tokio::test]
async fn what_comes_out_of_decompression_counts_too() {
    let mut settings = limited(8 * MIB);
    settings.max_concurrent_bytes = MIB as u64;
    let server = Server::with(settings).await;
    let packed = gzip(&vec![0; 4 * MIB]);
    assert!(packed.len() < MIB / 10);
    let answer = send(compressed_post(&server, "gzip", packed.clone())).await;
    assert_eq!(answer.status(), 503);
    assert_eq!(raw_call(&server, compressed_call(&server, "gzip", &packed)).await.grpc().code(), Code::Unavailable);
    server.at_rest().await;
}

#[tokio::test]
async fn announcing_much_and_sending_little_costs_little() {
    let server = Server::start().await;
    let mut stalled = Vec::new();
    for n in 1..=8 {
        let mut stream = http_client(&server).await;
        stream.write_all(&[head(60 * MIB), vec![1; 10]].concat()).await.unwrap();
        stalled.push(stream);
        let budget = server.receiver.budget();
        until("the request is being read", || budget.requests() == n && budget.bytes() >= n * 4096).await;
    }
    let mut sender = h2::<Pieces>(&server).await;
    let pieces = Pieces::of([framed(0, 60 * MIB as u32, &[1; 10])], false);
    let open = tokio::spawn(sender.send_request(call(&server, Signal::Traces).body(pieces).unwrap()));
    let budget = server.receiver.budget();
    until("the call is being read", || budget.requests() == 9 && budget.bytes() >= 9 * 4096).await;
    assert!(budget.bytes() <= 9 * 4096, "{}", budget.bytes());
    open.abort();
    drop((stalled, sender));
    server.at_rest().await;
}

// Slow clients.

#[tokio::test]
async fn a_client_that_closes_its_side_behind_the_request_gets_its_answer() {
    let server = Server::start().await;
    let gate = server.recorder.close_gate();
    let mut stream = http_client(&server).await;
    let body = spans("x");
    stream.write_all(&[&head(body.len())[..], &body[..]].concat()).await.unwrap();
    stream.shutdown().await.unwrap();
    server.recorder.entered.notified().await;
    gate.notify_one();
    let text = String::from_utf8_lossy(&until_closed(&mut stream).await).into_owned();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    server.at_rest().await;
}

#[tokio::test]
async fn h7_a_body_that_stalls_is_503_and_its_memory_comes_back() {
    let mut settings = settings();
    http(&mut settings).read_timeout = SHORT;
    let server = Server::with(settings).await;
    let mut stream = http_client(&server).await;
    stream.write_all(&[head(1000), vec![1; 500]].concat()).await.unwrap();
    let text = String::from_utf8_lossy(&until_closed(&mut stream).await).into_owned();
    assert!(
        text.starts_with("HTTP/1.1 503") && text.contains("connection: close") && text.contains("retry-after: 1"),
        "{text}"
    );
    assert!(text.contains("did not arrive in time"), "{text}");
    assert_eq!(server.recorder.rejections(), [(Signal::Traces, Transport::Http, Rejected::Slow)]);
    server.at_rest().await;
}

#[tokio::test]
async fn a_stalled_body_gives_way_when_others_need_its_room() {
    let mut settings = limited(MIB);
    settings.max_concurrent_bytes = MIB as u64;
    let server = Server::with(settings).await;
    // It takes all the room there is and would keep it until the read timeout of 30 seconds, longer than this waits.
    let mut stalled = http_client(&server).await;
    stalled.write_all(&[head(MIB), vec![1; 900_000]].concat()).await.unwrap();
    let budget = server.receiver.budget();
    until("the room is taken", || budget.bytes() > 900_000).await;
    assert_eq!(post_traces(&server, PROTOBUF, vec![1; 200_000]).await.status(), 503);
    let text = String::from_utf8_lossy(&timeout(SOON, read_some(&mut stalled)).await.unwrap()).into_owned();
    assert!(text.starts_with("HTTP/1.1 503") && text.contains("too slowly while room is scarce"), "{text}");
    assert_eq!(post_traces(&server, PROTOBUF, vec![1; 200_000]).await.status(), 200);

    let mut sender = h2::<Pieces>(&server).await;
    let pieces = Pieces::of([framed(0, MIB as u32, &vec![1; 900_000])], false);
    let response = sender.send_request(call(&server, Signal::Traces).body(pieces).unwrap());
    let answer = Answer::read(timeout(SOON, response).await.expect("it keeps its room").unwrap()).await;
    assert_eq!(answer.grpc().code(), Code::Unavailable, "retryable: the data was fine");
    server.at_rest().await;
}

async fn read_some(stream: &mut TcpStream) -> Vec<u8> {
    let mut buffer = vec![0; 4096];
    let n = stream.read(&mut buffer).await.unwrap();
    buffer.truncate(n);
    buffer
}

#[tokio::test]
async fn a_stalled_body_keeps_its_time_while_there_is_room() {
    let mut settings = settings();
    http(&mut settings).read_timeout = Duration::from_millis(2500);
    let server = Server::with(settings).await;
    let mut stream = http_client(&server).await;
    stream.write_all(&[head(1000), vec![1; 500]].concat()).await.unwrap();
    // Not to synchronise with anything: a second in which nothing moves.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    stream.write_all(&[1; 500]).await.unwrap();
    assert!(read_some(&mut stream).await.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn random_bytes_on_either_port_harm_nobody() {
    use rand::{Rng, SeedableRng};
    let server = Server::start().await;
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    let good = [head(spans("x").len()), spans("x").to_vec()].concat();
    for round in 0..150 {
        let mut bytes = match round % 3 {
            0 => vec![0; random.random_range(1..2000)],
            1 => good.clone(),
            _ => [preface(), vec![0; random.random_range(1..500)]].concat(),
        };
        match round % 3 {
            0 => random.fill(&mut bytes[..]),
            1 => {
                for _ in 0..5 {
                    let at = random.random_range(0..bytes.len());
                    bytes[at] = random.random();
                }
            }
            // Frames of random kinds and flags on random streams.
            _ => random.fill(&mut bytes[33..]),
        }
        let mut stream = if round % 2 == 0 { http_client(&server).await } else { grpc_client(&server).await };
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        until_closed(&mut stream).await;
    }
    assert_eq!(post_traces(&server, PROTOBUF, spans("x")).await.status(), 200);
    let request = call(&server, Signal::Traces).body(framed(0, spans("x").len() as u32, &spans("x"))).unwrap();
    assert_eq!(raw_call(&server, request).await.grpc().code(), Code::Ok);
    server.at_rest().await;
}

#[tokio::test]
async fn a_body_that_drips_does_not_extend_its_time() {
    let mut settings = settings();
    http(&mut settings).read_timeout = SHORT;
    let server = Server::with(settings).await;
    let mut stream = http_client(&server).await;
    stream.write_all(&head(100_000)).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let drip = tokio::spawn(async move {
        while writer.write_all(&[1]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let mut got = Vec::new();
    let _ = timeout(SOON, reader.read_to_end(&mut got)).await.expect("the server waits for ever");
    assert!(String::from_utf8_lossy(&got).starts_with("HTTP/1.1 503"));
    timeout(SOON, drip).await.expect("the connection stays open").unwrap();
    server.at_rest().await;
}

/// DEADLINE_EXCEEDED is retryable (G4): the data was fine, the network was not.
#[tokio::test]
async fn a_message_that_stalls_is_deadline_exceeded_and_the_connection_goes_on() {
    let mut settings = settings();
    grpc(&mut settings).read_timeout = FAIR;
    let server = Server::with(settings).await;
    let mut sender = h2::<Pieces>(&server).await;
    let pieces = Pieces::of([framed(0, 1000, &[1; 10])], false);
    let response = sender.send_request(call(&server, Signal::Traces).body(pieces).unwrap());
    let answer = Answer::read(timeout(SOON, response).await.expect("no answer in time").unwrap()).await;
    assert_eq!(answer.grpc().code(), Code::DeadlineExceeded);
    server.at_rest().await;
    let whole = Pieces::of([framed(0, spans("x").len() as u32, &spans("x"))], true);
    let response = sender.send_request(call(&server, Signal::Traces).body(whole).unwrap()).await.unwrap();
    assert_eq!(Answer::read(response).await.grpc().code(), Code::Ok);
    assert_eq!(server.recorder.rejections(), [(Signal::Traces, Transport::Grpc, Rejected::Slow)]);
}

#[tokio::test]
async fn a_silent_connection_or_half_a_head_is_closed() {
    let mut settings = settings();
    http(&mut settings).header_timeout = SHORT;
    grpc(&mut settings).header_timeout = SHORT;
    let server = Server::with(settings).await;
    for start in [&b""[..], b"PRI * HTTP/2.0\r\n", b"POST /v1/tra", b"POST /v1/traces HTTP/1.1\r\nhost: a\r\n"] {
        let mut stream = http_client(&server).await;
        stream.write_all(start).await.unwrap();
        assert!(until_closed(&mut stream).await.is_empty());
    }
    for start in [&b""[..], b"PRI * HTTP/2.0\r\n"] {
        let mut stream = grpc_client(&server).await;
        stream.write_all(start).await.unwrap();
        until_closed(&mut stream).await;
    }
}

#[tokio::test]
async fn a_kept_connection_may_be_idle_longer_than_a_head_may_take() {
    let mut settings = settings();
    http(&mut settings).header_timeout = FAIR;
    let server = Server::with(settings).await;
    let mut stream = http_client(&server).await;
    for _ in 0..2 {
        stream.write_all(&head(0)).await.unwrap();
        let mut answer = [0; 15];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        let mut rest = vec![0; 1000];
        while !rest.ends_with(b"\r\n\r\n") {
            let n = stream.read(&mut rest).await.unwrap();
            rest.truncate(n);
        }
        // Not to synchronise with anything: this is the idleness itself.
        tokio::time::sleep(3 * FAIR).await;
    }
    // The next half of a head is held to its time again.
    stream.write_all(b"POST").await.unwrap();
    until_closed(&mut stream).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_the_idle_timeout() {
    let mut settings = settings();
    http(&mut settings).idle_timeout = FAIR;
    grpc(&mut settings).max_connection_idle = Some(FAIR);
    // HTTP/2 says goodbye with a ping that this client does not answer.
    grpc(&mut settings).max_connection_age_grace = SHORT;
    let server = Server::with(settings).await;
    let mut stream = http_client(&server).await;
    stream.write_all(&head(0)).await.unwrap();
    assert!(until_closed(&mut stream).await.starts_with(b"HTTP/1.1 200 OK"));
    let mut stream = grpc_client(&server).await;
    stream.write_all(&preface()).await.unwrap();
    // Ends with GOAWAY (type 7): graceful, the client opens another connection.
    let frames = until_closed(&mut stream).await;
    assert!(frames.windows(2).any(|pair| pair == [7, 0]), "{frames:?}");
}

#[tokio::test]
async fn a_connection_ends_at_its_age_and_calls_in_hand_are_answered() {
    let mut settings = settings();
    grpc(&mut settings).max_connection_age = Some(FAIR);
    let server = Server::with(settings).await;
    let gate = server.recorder.close_gate();
    let mut sender = h2::<Pieces>(&server).await;
    let body = || Pieces::of([framed(0, spans("x").len() as u32, &spans("x"))], true);
    let first = tokio::spawn(sender.send_request(call(&server, Signal::Traces).body(body()).unwrap()));
    server.recorder.entered.notified().await;
    // Not to synchronise with anything: the age itself passes while the call is in hand.
    tokio::time::sleep(3 * FAIR).await;
    gate.notify_one();
    assert_eq!(Answer::read(first.await.unwrap().unwrap()).await.grpc().code(), Code::Ok);
    let gone = async {
        while sender.ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, gone).await.expect("the connection goes on for ever");
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_dropped() {
    let mut settings = settings();
    grpc(&mut settings).ping_interval = SHORT;
    grpc(&mut settings).ping_timeout = SHORT;
    let server = Server::with(settings).await;
    let mut stream = grpc_client(&server).await;
    stream.write_all(&preface()).await.unwrap();
    until_closed(&mut stream).await;
}

#[tokio::test]
async fn a_client_that_never_reads_its_answers_is_dropped() {
    let mut settings = settings();
    http(&mut settings).write_timeout = SHORT;
    let server = Server::with(settings).await;
    let mut stream = http_client(&server).await;
    let request = b"GET /v1/traces HTTP/1.1\r\nhost: a\r\n\r\n".repeat(1000);
    let flood = async { while stream.write_all(&request).await.is_ok() {} };
    timeout(SOON, flood).await.expect("the server never gave up on the client");
}

// Connections.

#[tokio::test]
async fn connections_are_bounded_and_a_place_that_is_left_is_free() {
    let mut settings = settings();
    settings.max_connections = 2;
    // Longer than this test waits, so that a silent connection is not closed for its silence.
    http(&mut settings).header_timeout = 10 * SOON;
    let server = Server::with(settings).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = http_client(&server).await;
        stream.write_all(&head(0)).await.unwrap();
        let mut answer = [0; 12];
        timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
        held.push(stream);
    }
    let mut third = http_client(&server).await;
    assert!(until_closed(&mut third).await.is_empty(), "closed at once, without an answer");
    held.pop();
    let again = async {
        loop {
            let mut stream = http_client(&server).await;
            if stream.write_all(&head(0)).await.is_err() {
                continue;
            }
            let mut answer = [0; 12];
            if stream.read_exact(&mut answer).await.is_ok() {
                break answer;
            }
        }
    };
    assert_eq!(&timeout(SOON, again).await.expect("the place is never free")[..], b"HTTP/1.1 200");
    // The bound is each server's own.
    let request = call(&server, Signal::Traces).body(framed(0, 0, b"")).unwrap();
    assert_eq!(raw_call(&server, request).await.grpc().code(), Code::Ok);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_client_does_not_harm_a_fine_one() {
    let server = Arc::new(Server::with(limited(8 * MIB)).await);
    let bombs = {
        let server = server.clone();
        tokio::spawn(async move {
            let (gzip, zstd) = (gzip_bomb(), zstd_bomb());
            loop {
                let refused = [
                    send(compressed_post(&server, "gzip", gzip.clone())).await.status(),
                    send(compressed_post(&server, "zstd", zstd.clone())).await.status(),
                ];
                assert_eq!(refused, [413, 413]);
            }
        })
    };
    let mut stalled = Vec::new();
    for _ in 0..50 {
        let mut stream = http_client(&server).await;
        stream.write_all(&[head(8 * MIB), vec![1; 100]].concat()).await.unwrap();
        stalled.push(stream);
        let mut stream = http_client(&server).await;
        stream.write_all(b"\x00\xff garbage").await.unwrap();
        stalled.push(stream);
    }
    for n in 0..100 {
        let body = spans(&format!("fine {n}"));
        assert_eq!(post_traces(&server, PROTOBUF, body.clone()).await.status(), 200);
        let frame = framed(0, body.len() as u32, &body);
        let request = call(&server, Signal::Traces).body(frame).unwrap();
        assert_eq!(raw_call(&server, request).await.grpc().code(), Code::Ok);
    }
    assert!(!bombs.is_finished(), "the hostile client gave up");
    bombs.abort();
    assert_eq!(server.recorder.count(), 200);
}

#[tokio::test]
async fn a_client_that_leaves_does_not_stop_its_request_and_leaves_nothing_behind() {
    let server = Server::start().await;
    let gate = server.recorder.close_gate();
    let request = tokio::spawn(send(post(&server, "/v1/traces", PROTOBUF).body(spans("x")).unwrap()));
    server.recorder.entered.notified().await;
    request.abort();
    let budget = server.receiver.budget();
    assert_eq!(budget.requests(), 1);
    gate.notify_one();
    server.at_rest().await;
    assert_eq!(server.recorder.count(), 1);
}

// Start and end.

#[tokio::test]
async fn an_address_in_use_is_named_with_its_path_and_what_to_do() {
    let server = Server::start().await;
    let mut taken = settings();
    grpc(&mut taken).endpoint = server.grpc().to_string();
    let start = async |settings: &Settings| {
        let recorder = Recorder::new();
        Receiver::start("otlp/two", settings, recorder, Arc::new(|_, _, _| ())).await.unwrap_err()
    };
    let StartError::Listen(error) = start(&taken).await else { panic!("not about listening") };
    assert_eq!(error.path, "receivers::otlp/two::protocols::grpc::endpoint");
    assert_eq!((error.endpoint, error.cause.kind()), (server.grpc().to_string(), ErrorKind::AddrInUse));
    let text = start(&taken).await.to_string();
    for part in [
        "cannot listen on 127.0.0.1:",
        "ss -ltnp",
        "--set receivers.otlp/two.protocols.grpc.endpoint=127.0.0.1:",
        "pipelines/in-front-of-collector.yaml",
    ] {
        assert!(text.contains(part) && text.lines().count() == 1, "{text}");
    }

    // When the second address fails, the first is not left listening.
    let mut second = settings();
    http(&mut second).endpoint = "nonsense".to_owned();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    grpc(&mut second).endpoint = free.to_string();
    let text = start(&second).await.to_string();
    assert!(text.starts_with("receivers::otlp/two::protocols::http::endpoint: cannot listen on nonsense"), "{text}");
    assert!(TcpStream::connect(free).await.is_err());
}

#[tokio::test]
async fn draining_answers_what_is_in_hand_and_takes_nothing_new() {
    let server = Server::start().await;
    let (http, gate) = (server.http(), server.recorder.close_gate());
    let held = tokio::spawn(send(post(&server, "/v1/traces", PROTOBUF).body(spans("x")).unwrap()));
    server.recorder.entered.notified().await;
    let mut idle = grpc_client(&server).await;
    idle.write_all(&preface()).await.unwrap();
    let (receiver, recorder) = (server.receiver, server.recorder);
    let drained = tokio::spawn(receiver.drain(Instant::now() + SOON));
    let refused = async {
        while TcpStream::connect(http).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, refused).await.expect("still accepting");
    assert!(!drained.is_finished());
    gate.notify_one();
    let answer = held.await.unwrap();
    assert_eq!(answer.status(), 200);
    drop(idle);
    assert!(drained.await.unwrap(), "everything ended by itself");
    assert_eq!(recorder.count(), 1);
}

#[tokio::test]
async fn draining_ends_at_its_deadline_whatever_clients_do() {
    let server = Server::start().await;
    let _gate = server.recorder.close_gate();
    let _held = tokio::spawn(send(post(&server, "/v1/traces", PROTOBUF).body(spans("x")).unwrap()));
    server.recorder.entered.notified().await;
    let mut stalled = http_client(&server).await;
    stalled.write_all(&head(1000)).await.unwrap();
    let mut silent = grpc_client(&server).await;
    let budget = server.receiver.budget().clone();
    until("the stalled request is being read", || budget.requests() == 2).await;
    let drained = timeout(SOON, server.receiver.drain(Instant::now() + SHORT)).await.expect("drain hangs");
    assert!(!drained, "the deadline cut something");
    until_closed(&mut stalled).await;
    until_closed(&mut silent).await;
}

#[tokio::test]
async fn draining_waits_for_requests_whose_client_has_left() {
    let server = Server::start().await;
    let gate = server.recorder.close_gate();
    let request = tokio::spawn(send(post(&server, "/v1/traces", PROTOBUF).body(spans("x")).unwrap()));
    server.recorder.entered.notified().await;
    request.abort();
    let _ = request.await;
    let (receiver, recorder) = (server.receiver, server.recorder);
    let drained = tokio::spawn(receiver.drain(Instant::now() + SOON));
    // Whatever drain would finish without the request, it finishes here.
    tokio::time::sleep(SHORT).await;
    assert!(!drained.is_finished() && recorder.count() == 0);
    gate.notify_one();
    assert!(drained.await.unwrap());
    assert_eq!(recorder.count(), 1);
}

#[tokio::test]
async fn dropping_a_receiver_stops_it() {
    let server = Server::start().await;
    let (mut stream, address) = (http_client(&server).await, server.http());
    drop(server);
    until_closed(&mut stream).await;
    let refused = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, refused).await.expect("still accepting");
}

#[tokio::test]
async fn one_protocol_alone_is_fine() {
    let mut settings = settings();
    settings.grpc = None;
    let server = Server::with(settings).await;
    assert_eq!(server.receiver.grpc_address(), None);
    assert_eq!(post_traces(&server, PROTOBUF, spans("x")).await.status(), 200);
}
