//! Connections below HTTP: unix sockets, and clients that ping too often.

use crate::pki::{Authority, Files};
use crate::support::*;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use std::{io::ErrorKind, path::Path, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;
use tracegate::{
    net::{Address, Transport},
    otlp::Signal,
    receiver::{Receiver, Settings, StartError},
};

/// Settings with both servers on sockets in a directory.
fn sockets(directory: &Path) -> Settings {
    let mut settings = settings();
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    (grpc(&mut settings).transport, grpc(&mut settings).endpoint) = (Transport::Unix, path("grpc.sock"));
    (http(&mut settings).transport, http(&mut settings).endpoint) = (Transport::Unix, path("http.sock"));
    settings
}

fn unary() -> Request<Full<Bytes>> {
    let message = spans("x");
    Request::post(format!("http://localhost{}", Signal::Traces.grpc_path()))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(framed(0, message.len() as u32, &message)))
        .unwrap()
}

async fn call_over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> tonic::Code {
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    let response = timeout(SOON, sender.send_request(unary())).await.expect("no answer in time");
    Answer::read(response.unwrap()).await.grpc().code()
}

// Unix sockets.

#[tokio::test]
async fn g11_both_protocols_are_served_on_unix_sockets_whose_peers_have_no_address() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::with(sockets(directory.path())).await;
    let (grpc, http) = (directory.path().join("grpc.sock"), directory.path().join("http.sock"));
    assert_eq!(server.receiver.grpc(), Some(&Address::Unix(grpc.clone())));
    assert_eq!((server.receiver.grpc_address(), server.receiver.http_address()), (None, None));

    assert_eq!(call_over(UnixStream::connect(&grpc).await.unwrap()).await, tonic::Code::Ok);
    assert_eq!(server.recorder.last().2.peer, None);
    let io = TokioIo::new(UnixStream::connect(&http).await.unwrap());
    let (mut sender, connection) = http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("/v1/traces").header("host", "localhost").header("content-type", PROTOBUF);
    let response = sender.send_request(request.body(Full::new(spans("x"))).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!((server.recorder.count(), server.recorder.last().2.peer), (2, None));
    drop(sender);

    assert!(server.receiver.drain(Instant::now() + SOON).await);
    until("the sockets are removed", || !grpc.exists() && !http.exists()).await;
}

#[tokio::test]
async fn g11_a_unix_socket_speaks_tls_too() {
    let (directory, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let files = Files::of(&authority.issue("gateway.test"));
    let mut settings = sockets(directory.path());
    grpc(&mut settings).tls = Some(files.server());
    let server = Server::with(settings).await;
    let stream = UnixStream::connect(directory.path().join("grpc.sock")).await.unwrap();
    let name = ServerName::try_from("gateway.test").unwrap();
    let stream = TlsConnector::from(authority.client(&["h2"]).config()).connect(name, stream).await.unwrap();
    assert_eq!(call_over(stream).await, tonic::Code::Ok);
    let mut plain = UnixStream::connect(directory.path().join("grpc.sock")).await.unwrap();
    plain.write_all(b"POST / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(SOON, plain.read_to_end(&mut answer)).await.expect("never closed");
    assert_eq!(answer.first(), Some(&21), "an alert");
    assert_eq!(server.recorder.count(), 1);
}

#[tokio::test]
async fn g11_the_socket_of_a_dead_process_is_replaced_and_that_of_a_live_one_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    drop(std::os::unix::net::UnixListener::bind(directory.path().join("grpc.sock")).unwrap());
    let server = Server::with(sockets(directory.path())).await;
    let started = Receiver::start("otlp", &sockets(directory.path()), Recorder::new(), Arc::new(|_, _, _| ())).await;
    let StartError::Listen(error) = started.unwrap_err() else { panic!("not about listening") };
    assert_eq!(
        (error.path.as_str(), error.cause.kind()),
        ("receivers::otlp::protocols::grpc::endpoint", ErrorKind::AddrInUse)
    );
    assert!(error.advice.contains("--set receivers.otlp.protocols.grpc.endpoint="), "{error}");
    let stream = UnixStream::connect(directory.path().join("grpc.sock")).await.unwrap();
    assert_eq!(call_over(stream).await, tonic::Code::Ok, "the live one was left alone");
    server.at_rest().await;
}

/// gRPC's C core, which is under the Python SDK, and Java call a server on a unix socket by its path.
#[tokio::test]
async fn g11_a_client_that_calls_the_server_by_the_path_of_its_socket_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::with(sockets(directory.path())).await;
    for authority in ["tmp%2Fdir%2Fotlp.sock", "/tmp/dir/otlp.sock"] {
        let mut client = UnixStream::connect(directory.path().join("grpc.sock")).await.unwrap();
        let field = |name: &str, value: &str| {
            let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
            [vec![0x40], text(name), text(value)].concat()
        };
        let headers = [
            field(":method", "POST"),
            field(":scheme", "http"),
            field(":path", Signal::Traces.grpc_path()),
            field(":authority", authority),
            field("content-type", "application/grpc"),
            field("te", "trailers"),
        ];
        let message = spans(authority);
        let data = framed(0, message.len() as u32, &message);
        let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
            let [_, high, middle, low] = (payload.len() as u32).to_be_bytes();
            [&[high, middle, low, kind, flags, 0, 0, 0, stream], payload].concat()
        };
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        client.write_all(&frame(4, 0, 0, &[])).await.unwrap();
        client.write_all(&frame(1, 4, 1, &headers.concat())).await.unwrap();
        client.write_all(&frame(0, 1, 1, &data)).await.unwrap();
        // The first frame on the stream tells: HEADERS, or the RST_STREAM of a request that was refused.
        let answer = async {
            loop {
                let mut header = [0; 9];
                client.read_exact(&mut header).await.unwrap();
                let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
                client.read_exact(&mut vec![0; length]).await.unwrap();
                if header[8] == 1 && header[3] != 8 {
                    return header[3];
                }
            }
        };
        assert_eq!(timeout(SOON, answer).await.expect("no answer in time"), 1, "{authority}");
        assert!(server.recorder.last().1.windows(authority.len()).any(|part| part == authority.as_bytes()));
    }
}

// Pings.

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0pingpong";

struct Frame {
    kind: u8,
    flags: u8,
    payload: Vec<u8>,
}

async fn frame(stream: &mut TcpStream) -> Option<Frame> {
    let mut head = [0; 9];
    timeout(SOON, stream.read_exact(&mut head)).await.expect("nothing came").ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut payload).await.ok()?;
    Some(Frame { kind: head[3], flags: head[4], payload })
}

/// The error code and the text of the next GOAWAY; pings of a server that ends are answered.
async fn goaway(stream: &mut TcpStream) -> (u32, String) {
    loop {
        let frame = frame(stream).await.expect("closed without a word");
        if frame.kind == 7 {
            let code = u32::from_be_bytes(frame.payload[4..8].try_into().unwrap());
            return (code, String::from_utf8(frame.payload[8..].to_vec()).unwrap());
        }
    }
}

async fn pinger(address: std::net::SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(PREFACE).await.unwrap();
    stream
}

/// The next answer to a ping of ours.
async fn pong(stream: &mut TcpStream) {
    loop {
        let frame = frame(stream).await.expect("closed");
        assert_ne!(frame.kind, 7, "{}", String::from_utf8_lossy(&frame.payload));
        if (frame.kind, frame.flags) == (6, 1) {
            return;
        }
    }
}

#[tokio::test]
async fn g7_a_client_that_pings_too_often_gets_too_many_pings() {
    let server = Server::start().await;
    // All at once, and one by one with the answer in between.
    let mut flood = pinger(server.grpc()).await;
    flood.write_all(&PING.repeat(10)).await.unwrap();
    assert_eq!(goaway(&mut flood).await, (11, "too_many_pings".to_owned()));
    let mut steady = pinger(server.grpc()).await;
    for _ in 0..3 {
        steady.write_all(PING).await.unwrap();
        pong(&mut steady).await;
    }
    steady.write_all(PING).await.unwrap();
    assert_eq!(goaway(&mut steady).await, (11, "too_many_pings".to_owned()));
    // The connection then ends as one that is told to end.
    let ended = async {
        while let Some(frame) = frame(&mut steady).await {
            if (frame.kind, frame.flags) == (6, 0) {
                let answer = [&[0, 0, 8, 6, 1, 0, 0, 0, 0][..], &frame.payload].concat();
                steady.write_all(&answer).await.unwrap();
            }
        }
    };
    timeout(SOON, ended).await.expect("never closed");
}

#[tokio::test]
async fn g7_a_client_that_may_ping_may() {
    let mut settings = settings();
    grpc(&mut settings).ping_min_time = Duration::from_nanos(1);
    grpc(&mut settings).ping_without_stream = true;
    let server = Server::with(settings).await;
    let mut client = pinger(server.grpc()).await;
    for _ in 0..20 {
        client.write_all(PING).await.unwrap();
        pong(&mut client).await;
    }
    // The HTTP port has no such rule, as in Go.
    let mut client = pinger(server.http()).await;
    client.write_all(&PING.repeat(20)).await.unwrap();
    for _ in 0..20 {
        pong(&mut client).await;
    }
}

#[tokio::test]
async fn g7_answers_to_our_own_pings_are_not_counted_and_calls_begin_a_new_count() {
    let server = Server::start().await;
    let stream = TcpStream::connect(server.grpc()).await.unwrap();
    // With an adaptive window a client measures the line with a ping at every answer.
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .adaptive_window(true)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let driven = tokio::spawn(connection);
    for _ in 0..20 {
        let response = timeout(SOON, sender.send_request(unary())).await.unwrap().unwrap();
        assert_eq!(Answer::read(response).await.grpc().code(), tonic::Code::Ok);
    }
    drop(sender);
    timeout(SOON, driven).await.unwrap().unwrap().unwrap();
}

/// A whole call on stream 1, its headers as literals without compression.
fn call_frames() -> Vec<u8> {
    let framed_as = |kind: u8, flags: u8, payload: &[u8]| {
        let [_, high, middle, low] = (payload.len() as u32).to_be_bytes();
        [&[high, middle, low, kind, flags, 0, 0, 0, 1][..], payload].concat()
    };
    let mut headers = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", Signal::Traces.grpc_path()),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        headers.extend([&[0, name.len() as u8][..], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat());
    }
    let message = spans("x");
    [framed_as(1, 4, &headers), framed_as(0, 1, &framed(0, message.len() as u32, &message))].concat()
}

#[tokio::test]
async fn g7_calls_in_hand_are_answered_after_too_many_pings() {
    let server = Server::start().await;
    let gate = server.recorder.close_gate();
    let mut client = pinger(server.grpc()).await;
    client.write_all(&call_frames()).await.unwrap();
    server.recorder.entered.notified().await;
    client.write_all(&PING.repeat(5)).await.unwrap();
    assert_eq!(goaway(&mut client).await, (11, "too_many_pings".to_owned()));
    gate.notify_one();
    let answered = async {
        loop {
            let frame = frame(&mut client).await.expect("closed without an answer");
            // The trailers end the stream.
            if (frame.kind, frame.flags & 1) == (1, 1) {
                return;
            }
        }
    };
    timeout(SOON, answered).await.expect("never answered");
    assert_eq!(server.recorder.count(), 1);
}

#[tokio::test]
async fn g7_a_real_client_that_pings_too_often_is_sent_away() {
    let server = Server::start().await;
    let stream = TcpStream::connect(server.grpc()).await.unwrap();
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_millis(5))
        .keep_alive_while_idle(true)
        .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
        .await
        .unwrap();
    // What it says depends on whether it remembers the first GOAWAY or the last; that it ends does not.
    let _ = timeout(SOON, connection).await.expect("never told");
    drop(sender);
}
