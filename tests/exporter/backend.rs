//! A backend that answers as the test says, over HTTP/1.1 and HTTP/2 on one port.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tonic_types::StatusExt;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub version: Version,
    pub path: String,
    pub authority: Option<String>,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The message of a gRPC request and whether its frame says it is compressed.
    pub fn message(&self) -> (bool, Bytes) {
        let length = u32::from_be_bytes(self.body[1..5].try_into().unwrap()) as usize;
        assert_eq!(length, self.body.len() - 5);
        (self.body[0] == 1, self.body.slice(5..))
    }
}

/// What to answer.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A complete response.
    Full(Script),
    /// Never.
    Hang,
}

/// Head and body of a response.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
    pub trailers: Option<Vec<(&'static str, String)>>,
    /// The body breaks off with an error instead of ending.
    pub breaks: bool,
}

impl Answer {
    pub fn http(status: u16, content_type: &str, body: impl Into<Bytes>) -> Script {
        let headers = vec![("content-type", content_type.to_owned())];
        Script { status, headers, body: body.into(), ..Script::default() }
    }

    /// A gRPC success with this message.
    pub fn grpc_ok(message: &[u8]) -> Self {
        let mut body = vec![0];
        body.extend_from_slice(&(message.len() as u32).to_be_bytes());
        body.extend_from_slice(message);
        Answer::grpc(body.into(), vec![("grpc-status", "0".to_owned())])
    }

    pub fn grpc(body: Bytes, trailers: Vec<(&'static str, String)>) -> Self {
        let headers = vec![("content-type", "application/grpc".to_owned())];
        Answer::Full(Script { status: 200, headers, body, trailers: Some(trailers), ..Script::default() })
    }

    /// A gRPC failure, in a response of trailers only.
    pub fn grpc_status(code: i32, retry_after: Option<Duration>) -> Self {
        let mut headers = vec![
            ("content-type", "application/grpc".to_owned()),
            ("grpc-status", code.to_string()),
            ("grpc-message", "foreign text".to_owned()),
        ];
        if let Some(delay) = retry_after {
            let details = tonic_types::ErrorDetails::with_retry_info(Some(delay));
            let status = tonic::Status::with_error_details(code.into(), "", details);
            headers.push(("grpc-status-details-bin", STANDARD_NO_PAD.encode(status.details())));
        }
        Answer::Full(Script { status: 200, headers, ..Script::default() })
    }
}

impl From<Script> for Answer {
    fn from(script: Script) -> Self {
        Answer::Full(script)
    }
}

type Answers = dyn Fn(usize, &Seen) -> Answer + Send + Sync;

/// A running backend; it stops when dropped.
pub struct Backend {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Backend {
    /// `answers` is called with the number of the request, from 0.
    pub async fn start(answers: impl Fn(usize, &Seen) -> Answer + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), answers)
    }

    pub fn on(listener: TcpListener, answers: impl Fn(usize, &Seen) -> Answer + Send + Sync + 'static) -> Self {
        Self::serve(listener, None, answers)
    }

    /// A backend that speaks TLS.
    pub async fn secure(
        tls: rustls::ServerConfig,
        answers: impl Fn(usize, &Seen) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::serve(listener, Some(TlsAcceptor::from(Arc::new(tls))), answers)
    }

    fn serve(
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        answers: impl Fn(usize, &Seen) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State { answers: Box::new(answers), seen: Arc::default() });
        let (seen, connections) = (state.seen.clone(), Arc::new(AtomicUsize::new(0)));
        let accepted = connections.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut served = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::SeqCst);
                let (state, tls) = (state.clone(), tls.clone());
                served.spawn(async move {
                    match tls {
                        None => state.serve(stream).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                state.serve(stream).await;
                            }
                        }
                    }
                });
            }
        });
        Backend { address, seen, connections, _tasks: tasks }
    }

    /// A backend behind a unix socket; its address is nothing.
    #[cfg(unix)]
    pub fn unix(path: &std::path::Path, answers: impl Fn(usize, &Seen) -> Answer + Send + Sync + 'static) -> Self {
        let listener = tokio::net::UnixListener::bind(path).unwrap();
        let state = Arc::new(State { answers: Box::new(answers), seen: Arc::default() });
        let (seen, connections) = (state.seen.clone(), Arc::new(AtomicUsize::new(0)));
        let accepted = connections.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut served = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::SeqCst);
                let state = state.clone();
                served.spawn(async move { state.serve(stream).await });
            }
        });
        Backend { address: ([0, 0, 0, 0], 0).into(), seen, connections, _tasks: tasks }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

struct State {
    answers: Box<Answers>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl State {
    async fn serve(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let service = hyper::service::service_fn(move |request| answer(self.clone(), request));
        let _ended = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Pieces>, io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let seen = Seen {
        version: head.version,
        path: head.uri.path_and_query().unwrap().to_string(),
        authority: head.uri.authority().map(ToString::to_string),
        headers: head.headers,
        body,
    };
    let number = {
        let mut all = state.seen.lock().unwrap();
        all.push(seen.clone());
        all.len()
    };
    let script = match (state.answers)(number - 1, &seen) {
        Answer::Full(script) => script,
        Answer::Hang => std::future::pending().await,
    };
    let mut response = Response::builder().status(script.status);
    for (name, value) in script.headers {
        response = response.header(name, value);
    }
    let mut pieces = VecDeque::new();
    if !script.body.is_empty() {
        pieces.push_back(Ok(Frame::data(script.body)));
    }
    if script.breaks {
        pieces.push_back(Err(io::Error::other("broken off")));
    }
    if let Some(trailers) = script.trailers {
        let mut map = HeaderMap::new();
        for (name, value) in trailers {
            map.insert(name, value.parse().unwrap());
        }
        pieces.push_back(Ok(Frame::trailers(map)));
    }
    response.body(Pieces(pieces)).map_err(io::Error::other)
}

struct Pieces(VecDeque<Result<Frame<Bytes>, io::Error>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(self.0.pop_front())
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

/// A port that is taken, and where nobody listens yet.
pub struct Reserved(TcpSocket);

impl Reserved {
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Reserved(socket)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    pub fn listen(self) -> TcpListener {
        self.0.listen(100).unwrap()
    }
}

/// How a connection of a [`Raw`] backend ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In order.
    Close,
    /// With unread data, which the system turns into a reset.
    Reset,
    /// Not before the client ends it.
    Stay,
}

/// A backend that writes bytes of the test's choice, good HTTP or not, to every connection.
pub struct Raw {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Raw {
    /// Waits until the client has sent `read` bytes, or has paused, before it writes.
    pub async fn start(read: usize, bytes: impl Into<Bytes>, end: End) -> Self {
        let bytes = bytes.into();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let accepted = connections.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut served = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::SeqCst);
                let bytes = bytes.clone();
                served.spawn(async move {
                    let mut got = 0;
                    let mut buffer = vec![0; 64 * 1024];
                    while got < read {
                        // One byte stays unread where the end is a reset.
                        let room = buffer.len().min(read - got);
                        match stream.read(&mut buffer[..room]).await {
                            Ok(0) | Err(_) => return,
                            Ok(n) => got += n,
                        }
                    }
                    let _gone = stream.write_all(&bytes).await;
                    match end {
                        End::Reset => {
                            let _unread = stream.readable().await;
                        }
                        End::Close => {
                            let _gone = stream.shutdown().await;
                            let _rest = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                        }
                        End::Stay => {
                            let _rest = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                        }
                    }
                });
            }
        });
        Raw { address, connections, _tasks: tasks }
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}
