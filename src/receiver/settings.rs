//! What a receiver runs with: every bound a number, every default filled in.

use super::{
    auth::{Auth, Gate},
    cors::Cors,
    grpc::Grpc,
    http::Http,
    intake::Intake,
    serve::{PingPolicy, Rules, Service},
};
use crate::{
    compression::Algorithm,
    net::{Transport, tls::TlsServer},
    otlp::Signal,
    pipeline,
};
use http::HeaderMap;
use std::{sync::Arc, time::Duration};

/// The largest request, after decompression, unless configured: 64 MiB, as the OTLP specification recommends ("OTLP/gRPC
/// Request Size Limits").
pub const MAX_REQUEST_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of requests in hand at one time, over both servers: room for one largest request in all the forms it passes
/// through (compressed, decompressed, JSON, protobuf).
pub const MAX_CONCURRENT_BYTES: u64 = 256 * 1024 * 1024;

/// Connections per server. It stays below the usual 1024 file descriptors of a process, which both servers, exporters
/// and files share, only for one server; raise the descriptor limit when raising this.
pub const MAX_CONNECTIONS: usize = 1024;

/// How long a request's body may take to arrive.
pub const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a request's head, or the start of HTTP/2, may take to arrive.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a write may wait for a client that does not read.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long an HTTP/1 connection may be without a request.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// How long requests may go on after a connection was told to end for its age.
pub const GRACE: Duration = Duration::from_secs(30);

/// Concurrent calls per gRPC connection.
pub const MAX_CONCURRENT_STREAMS: u32 = 128;

/// When a silent gRPC peer is asked whether it is still there, and how long it may take to answer.
pub const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// The least time between two pings of a gRPC client, as in gRPC (doc/keepalive.md).
pub const PING_MIN_TIME: Duration = Duration::from_secs(300);

/// Settings of one OTLP receiver.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The gRPC server, if there is one.
    pub grpc: Option<GrpcSettings>,
    /// The HTTP server, if there is one.
    pub http: Option<HttpSettings>,
    /// Bytes of requests in hand at one time, over both servers.
    pub max_concurrent_bytes: u64,
    /// Connections per server.
    pub max_connections: usize,
}

impl Default for Settings {
    /// Both servers with their defaults.
    fn default() -> Self {
        Settings {
            grpc: Some(GrpcSettings::default()),
            http: Some(HttpSettings::default()),
            max_concurrent_bytes: MAX_CONCURRENT_BYTES,
            max_connections: MAX_CONNECTIONS,
        }
    }
}

/// Settings of the gRPC server.
#[derive(Clone, Debug)]
pub struct GrpcSettings {
    /// Where to listen: host:port, or the path of a socket.
    pub endpoint: String,
    /// Over what.
    pub transport: Transport,
    /// The certificate, where TLS is spoken.
    pub tls: Option<TlsServer>,
    /// The largest message, after decompression.
    pub max_message_bytes: usize,
    /// Concurrent calls per connection.
    pub max_concurrent_streams: u32,
    /// How long a message may take to arrive.
    pub read_timeout: Duration,
    /// How long the start of HTTP/2 may take.
    pub header_timeout: Duration,
    /// After how long without calls a connection is ended.
    pub max_connection_idle: Option<Duration>,
    /// After how long a connection is ended.
    pub max_connection_age: Option<Duration>,
    /// How long calls may go on after that.
    pub max_connection_age_grace: Duration,
    /// After how much silence a peer is pinged.
    pub ping_interval: Duration,
    /// How long it may take to answer a ping.
    pub ping_timeout: Duration,
    /// Whether the call's metadata travels with its request.
    pub include_metadata: bool,
    /// Who may call; `None` is everybody.
    pub auth: Option<Auth>,
    /// The least time between two pings of a client.
    pub ping_min_time: Duration,
    /// Whether a client may ping that often without a call in hand, too.
    pub ping_without_stream: bool,
}

impl Default for GrpcSettings {
    fn default() -> Self {
        GrpcSettings {
            endpoint: "127.0.0.1:4317".to_owned(),
            transport: Transport::Tcp,
            tls: None,
            max_message_bytes: MAX_REQUEST_BYTES,
            max_concurrent_streams: MAX_CONCURRENT_STREAMS,
            read_timeout: READ_TIMEOUT,
            header_timeout: HEADER_TIMEOUT,
            max_connection_idle: None,
            max_connection_age: None,
            max_connection_age_grace: GRACE,
            ping_interval: PING.0,
            ping_timeout: PING.1,
            include_metadata: false,
            auth: None,
            ping_min_time: PING_MIN_TIME,
            ping_without_stream: false,
        }
    }
}

impl GrpcSettings {
    pub(super) fn service(&self, intake: Arc<Intake>) -> Service {
        let Self { max_message_bytes, read_timeout, include_metadata, .. } = *self;
        let gate = |auth| Gate::new(auth, intake.receiver.clone(), pipeline::Transport::Grpc);
        let gate = self.auth.clone().map(gate);
        Service::Grpc(Arc::new(Grpc { intake, max_message_bytes, read_timeout, include_metadata, gate }))
    }

    pub(super) fn rules(&self, settings: &Settings) -> Rules {
        Rules {
            max_connections: settings.max_connections,
            header_timeout: self.header_timeout,
            write_timeout: WRITE_TIMEOUT,
            idle: self.max_connection_idle,
            age: self.max_connection_age,
            grace: self.max_connection_age_grace,
            keep_alive: false,
            max_concurrent_streams: self.max_concurrent_streams,
            ping_interval: self.ping_interval,
            ping_timeout: self.ping_timeout,
            pings: Some(PingPolicy { min_time: self.ping_min_time, without_stream: self.ping_without_stream }),
        }
    }
}

/// Settings of the HTTP server.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Where to listen: host:port, or the path of a socket.
    pub endpoint: String,
    /// Over what.
    pub transport: Transport,
    /// The certificate, where TLS is spoken.
    pub tls: Option<TlsServer>,
    /// The path of each signal.
    pub paths: Vec<(String, Signal)>,
    /// The largest body, after decompression.
    pub max_body_bytes: usize,
    /// Compressions accepted.
    pub codings: Vec<Algorithm>,
    /// Whether connections are kept for further requests.
    pub keep_alive: bool,
    /// How long a body may take to arrive.
    pub read_timeout: Duration,
    /// How long a head may take to arrive.
    pub header_timeout: Duration,
    /// How long a write may wait for a client that does not read.
    pub write_timeout: Duration,
    /// How long a connection may be without a request.
    pub idle_timeout: Duration,
    /// Headers on every answer.
    pub response_headers: HeaderMap,
    /// Which pages may send requests from browsers.
    pub cors: Option<Cors>,
    /// Whether the request's headers travel with it.
    pub include_metadata: bool,
    /// Who may post; `None` is everybody.
    pub auth: Option<Auth>,
}

impl Default for HttpSettings {
    fn default() -> Self {
        HttpSettings {
            endpoint: "127.0.0.1:4318".to_owned(),
            transport: Transport::Tcp,
            tls: None,
            paths: Signal::ALL.map(|signal| (signal.http_path().to_owned(), signal)).to_vec(),
            max_body_bytes: MAX_REQUEST_BYTES,
            codings: Algorithm::ALL.to_vec(),
            keep_alive: true,
            read_timeout: READ_TIMEOUT,
            header_timeout: HEADER_TIMEOUT,
            write_timeout: WRITE_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
            response_headers: HeaderMap::new(),
            cors: None,
            include_metadata: false,
            auth: None,
        }
    }
}

impl HttpSettings {
    pub(super) fn service(&self, intake: Arc<Intake>) -> Service {
        let gate = |auth| Gate::new(auth, intake.receiver.clone(), pipeline::Transport::Http);
        let gate = self.auth.clone().map(gate);
        Service::Http(Arc::new(Http {
            intake,
            paths: self.paths.clone(),
            codings: self.codings.clone(),
            max_body_bytes: self.max_body_bytes,
            read_timeout: self.read_timeout,
            response_headers: self.response_headers.clone(),
            cors: self.cors.clone(),
            include_metadata: self.include_metadata,
            gate,
        }))
    }

    pub(super) fn rules(&self, settings: &Settings) -> Rules {
        Rules {
            max_connections: settings.max_connections,
            header_timeout: self.header_timeout,
            write_timeout: self.write_timeout,
            idle: Some(self.idle_timeout),
            age: None,
            grace: GRACE,
            keep_alive: self.keep_alive,
            max_concurrent_streams: MAX_CONCURRENT_STREAMS,
            ping_interval: PING.0,
            ping_timeout: PING.1,
            pings: None,
        }
    }
}
