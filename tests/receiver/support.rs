//! What the receiver tests share: a pipeline that records, and clients that can misbehave.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, missing_docs)]

use bytes::{BufMut, Bytes, BytesMut};
use http::{Request, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message;
use std::{
    collections::VecDeque,
    convert::Infallible,
    future::Future,
    io::Write,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};
use tracegate::{
    otlp::Signal,
    pipeline::{Accepted, Ingest, Origin, Refusal, Transport},
    receiver::{
        Receiver, Rejected, Settings,
        settings::{GrpcSettings, HttpSettings},
    },
};

/// What a test waits at most for something that must happen.
pub const SOON: Duration = Duration::from_secs(20);

/// A pipeline that records what it gets and answers what it is told to.
pub struct Recorder {
    pub seen: Mutex<Vec<(Signal, Bytes, Origin)>>,
    pub answer: Mutex<Result<Accepted, Refusal>>,
    pub takes: Mutex<Vec<Signal>>,
    /// When set, requests wait until it is notified.
    pub gate: Mutex<Option<Arc<Notify>>>,
    pub entered: Notify,
    pub panics: Mutex<bool>,
    pub rejected: Mutex<Vec<(Signal, Transport, Rejected)>>,
}

impl Recorder {
    pub fn new() -> Arc<Self> {
        Arc::new(Recorder {
            seen: Mutex::default(),
            answer: Mutex::new(Ok(Accepted::default())),
            takes: Mutex::new(Signal::ALL.to_vec()),
            gate: Mutex::default(),
            entered: Notify::new(),
            panics: Mutex::default(),
            rejected: Mutex::default(),
        })
    }

    pub fn answers(&self, answer: Result<Accepted, Refusal>) {
        *self.answer.lock().unwrap() = answer;
    }

    pub fn close_gate(&self) -> Arc<Notify> {
        let gate = Arc::new(Notify::new());
        *self.gate.lock().unwrap() = Some(gate.clone());
        gate
    }

    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub fn last(&self) -> (Signal, Bytes, Origin) {
        self.seen.lock().unwrap().last().expect("nothing reached the pipeline").clone()
    }

    pub fn rejections(&self) -> Vec<(Signal, Transport, Rejected)> {
        self.rejected.lock().unwrap().clone()
    }
}

impl Ingest for Recorder {
    fn takes(&self, signal: Signal) -> bool {
        self.takes.lock().unwrap().contains(&signal)
    }

    fn export(
        &self,
        signal: Signal,
        body: Bytes,
        origin: Origin,
    ) -> Pin<Box<dyn Future<Output = Result<Accepted, Refusal>> + Send + '_>> {
        Box::pin(async move {
            if *self.panics.lock().unwrap() {
                panic!("a defect planted by a test");
            }
            self.entered.notify_one();
            let gate = self.gate.lock().unwrap().clone();
            if let Some(gate) = gate {
                gate.notified().await;
            }
            self.seen.lock().unwrap().push((signal, body, origin));
            self.answer.lock().unwrap().clone()
        })
    }
}

/// A receiver under test with its recorder.
pub struct Server {
    pub receiver: Receiver,
    pub recorder: Arc<Recorder>,
}

/// Settings on free ports.
pub fn settings() -> Settings {
    let mut settings = Settings::default();
    grpc(&mut settings).endpoint = "127.0.0.1:0".to_owned();
    http(&mut settings).endpoint = "127.0.0.1:0".to_owned();
    settings
}

pub fn grpc(settings: &mut Settings) -> &mut GrpcSettings {
    settings.grpc.as_mut().unwrap()
}

pub fn http(settings: &mut Settings) -> &mut HttpSettings {
    settings.http.as_mut().unwrap()
}

/// Settings whose largest request is `limit` bytes.
pub fn limited(limit: usize) -> Settings {
    let mut settings = settings();
    grpc(&mut settings).max_message_bytes = limit;
    http(&mut settings).max_body_bytes = limit;
    settings
}

impl Server {
    pub async fn start() -> Self {
        Server::with(settings()).await
    }

    pub async fn with(settings: Settings) -> Self {
        let recorder = Recorder::new();
        Self::before(recorder.clone(), recorder, settings).await
    }

    /// A receiver before any pipeline; the recorder sees only what never reaches it.
    pub async fn before(ingest: Arc<dyn Ingest>, recorder: Arc<Recorder>, settings: Settings) -> Self {
        let counted = recorder.clone();
        let observer = Arc::new(move |signal, transport, why| {
            counted.rejected.lock().unwrap().push((signal, transport, why));
        });
        let receiver = Receiver::start("otlp", &settings, ingest, observer).await.unwrap();
        Server { receiver, recorder }
    }

    pub fn grpc(&self) -> SocketAddr {
        self.receiver.grpc_address().unwrap()
    }

    pub fn http(&self) -> SocketAddr {
        self.receiver.http_address().unwrap()
    }

    /// Waits until no request is in hand, and fails if that never comes.
    pub async fn at_rest(&self) {
        let budget = self.receiver.budget();
        until("room is given back", || budget.bytes() == 0 && budget.requests() == 0).await;
    }
}

/// Waits until `condition` holds, and fails if it never does.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(SOON, wait).await.is_ok(), "never came: {what}");
}

/// A trace request with one span whose name is `name`.
pub fn spans(name: &str) -> Bytes {
    let span = Span { trace_id: vec![1; 16], span_id: vec![2; 8], name: name.to_owned(), ..Span::default() };
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec().into()
}

/// A request of each signal that is not empty.
pub fn request_of(signal: Signal) -> Bytes {
    match signal {
        Signal::Traces => spans("a span"),
        Signal::Logs => ExportLogsServiceRequest { resource_logs: vec![Default::default()] }.encode_to_vec().into(),
        Signal::Metrics => {
            ExportMetricsServiceRequest { resource_metrics: vec![Default::default()] }.encode_to_vec().into()
        }
    }
}

pub fn gzip(data: &[u8]) -> Bytes {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap().into()
}

pub fn zlib(data: &[u8]) -> Bytes {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap().into()
}

pub fn zstd(data: &[u8]) -> Bytes {
    zstd::encode_all(data, 1).unwrap().into()
}

/// Snappy as HTTP means it.
pub fn snappy_block(data: &[u8]) -> Bytes {
    snap::raw::Encoder::new().compress_vec(data).unwrap().into()
}

/// Snappy as gRPC means it.
pub fn snappy_frames(data: &[u8]) -> Bytes {
    let mut encoder = snap::write::FrameEncoder::new(Vec::new());
    encoder.write_all(data).unwrap();
    encoder.into_inner().unwrap().into()
}

pub fn lz4(data: &[u8]) -> Bytes {
    let info = lz4_flex::frame::FrameInfo::new().content_checksum(true);
    let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap().into()
}

/// One gibibyte of zeros as one gzip member of one mebibyte: a flushed deflate segment of zeros, repeated.
pub fn gzip_bomb() -> Bytes {
    let mut encoder = flate2::Compress::new(flate2::Compression::best(), false);
    let mut segment = Vec::with_capacity(64 * 1024);
    encoder.compress_vec(&vec![0; 1024 * 1024], &mut segment, flate2::FlushCompress::Full).unwrap();
    let mut bomb = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    for _ in 0..1024 {
        bomb.extend_from_slice(&segment);
    }
    bomb.into()
}

/// One gibibyte of zeros as one zstd frame of 32 KiB: blocks that say "this byte, 131072 times".
pub fn zstd_bomb() -> Bytes {
    let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 7 << 3];
    for block in 0..8192_u32 {
        let header = u32::from(block == 8191) | 1 << 1 | (128 * 1024) << 3;
        bomb.extend_from_slice(&header.to_le_bytes()[..3]);
        bomb.push(0);
    }
    bomb.into()
}

/// A message in a gRPC frame.
pub fn framed(flag: u8, announced: u32, message: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(flag);
    out.put_u32(announced);
    out.put_slice(message);
    out.freeze()
}

/// A body of given pieces that ends, or stays open for ever.
pub struct Pieces {
    pub pieces: VecDeque<Bytes>,
    pub ends: bool,
}

impl Pieces {
    pub fn of(pieces: impl IntoIterator<Item = Bytes>, ends: bool) -> Self {
        Pieces { pieces: pieces.into_iter().collect(), ends }
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.pieces.pop_front() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            None if self.ends => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

/// An HTTP answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub head: http::response::Parts,
    pub body: Bytes,
    pub trailers: http::HeaderMap,
}

impl Answer {
    pub async fn read<B>(response: Response<B>) -> Self
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: std::fmt::Debug,
    {
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap();
        let trailers = body.trailers().cloned().unwrap_or_default();
        Answer { head, body: body.to_bytes(), trailers }
    }

    pub fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    pub fn header(&self, name: &str) -> &str {
        self.head.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The body as a google.rpc.Status in protobuf.
    pub fn status_body(&self) -> tonic_types::pb::Status {
        tonic_types::pb::Status::decode(self.body.clone()).unwrap()
    }

    /// The gRPC status, from the trailers or from a headers-only answer.
    pub fn grpc(&self) -> tonic::Status {
        let found = tonic::Status::from_header_map(&self.trailers);
        found.or_else(|| tonic::Status::from_header_map(&self.head.headers)).expect("no grpc-status")
    }
}

pub const PROTOBUF: &str = "application/x-protobuf";
pub const JSON: &str = "application/json";

/// An HTTP request to be changed by the test and sent with [`send`].
pub fn post(server: &Server, path: &str, content_type: &str) -> http::request::Builder {
    let uri = format!("http://{}{path}", server.http());
    let builder = Request::post(uri);
    if content_type.is_empty() { builder } else { builder.header(header::CONTENT_TYPE, content_type) }
}

pub async fn send(request: Request<Bytes>) -> Answer {
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let response = tokio::time::timeout(SOON, client.request(request.map(Full::new))).await;
    Answer::read(response.expect("no answer in time").unwrap()).await
}

/// Posts a body to the traces path.
pub async fn post_traces(server: &Server, content_type: &str, body: impl Into<Bytes>) -> Answer {
    send(post(server, "/v1/traces", content_type).body(body.into()).unwrap()).await
}

/// Sends bytes as they are to the HTTP port and reads until the server closes or `enough` says so.
pub async fn raw(server: &Server, bytes: &[u8], enough: impl Fn(&str) -> bool) -> String {
    let mut stream = TcpStream::connect(server.http()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    read_until(&mut stream, enough).await
}

/// Reads until the server closes or `enough` says so.
pub async fn read_until(stream: &mut TcpStream, enough: impl Fn(&str) -> bool) -> String {
    let mut got = Vec::new();
    let read = async {
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(n) => got.extend_from_slice(&buffer[..n]),
            }
            if enough(&String::from_utf8_lossy(&got)) {
                break;
            }
        }
    };
    assert!(tokio::time::timeout(SOON, read).await.is_ok(), "no answer in time");
    String::from_utf8_lossy(&got).into_owned()
}

/// A bare HTTP/2 connection to the gRPC port.
pub async fn h2<B>(server: &Server) -> hyper::client::conn::http2::SendRequest<B>
where
    B: http_body::Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let stream = TcpStream::connect(server.grpc()).await.unwrap();
    let io = TokioIo::new(stream);
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// A gRPC request to be changed by the test.
pub fn call(server: &Server, signal: Signal) -> http::request::Builder {
    Request::post(format!("http://{}{}", server.grpc(), signal.grpc_path()))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
}

/// Sends a gRPC request with any body over a bare HTTP/2 connection.
pub async fn raw_call(server: &Server, request: Request<Bytes>) -> Answer {
    let mut sender = h2::<Full<Bytes>>(server).await;
    let response = tokio::time::timeout(SOON, sender.send_request(request.map(Full::new))).await;
    Answer::read(response.expect("no answer in time").unwrap()).await
}
