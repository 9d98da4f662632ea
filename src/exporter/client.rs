//! The HTTP client under `otlp_grpc` and `otlp_http`: pooled, reconnecting, with connections that die when their peer
//! is gone.

mod balance;
mod dial;
mod proxy;
mod stream;
mod warm;

pub(super) use balance::{Balancer, Failed};
pub use balance::{Resolve, SystemResolver};
pub(super) use dial::{Dial, Route, Routes};
pub(super) use proxy::Proxy;
pub use proxy::ProxyEnvironment;

use crate::{auth::Authenticators, config::ConfigError};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, pki_types::ServerName};
use std::{
    convert::Infallible,
    error::Error as StdError,
    fmt::Write as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
    vec,
};

/// A client that sends [`Chunks`].
pub(super) type HttpClient = Client<HttpsConnector<Dial>, Chunks>;

/// What an exporter takes from around it: the machine's proxies and names, and the service's extensions.
#[derive(Clone)]
pub struct Surroundings {
    /// `HTTP_PROXY` and its like.
    pub proxies: ProxyEnvironment,
    /// Finds the addresses of a name.
    pub resolver: Arc<dyn Resolve>,
    /// A name is not resolved again sooner.
    pub resolve_interval: Duration,
    /// Who knows credentials.
    pub authenticators: Authenticators,
}

impl Surroundings {
    /// Those of this process, without extensions.
    pub fn of_process() -> Self {
        Surroundings {
            proxies: ProxyEnvironment::of_process(),
            resolver: Arc::new(SystemResolver),
            resolve_interval: Duration::from_secs(10),
            authenticators: Authenticators::default(),
        }
    }
}

/// Which protocol is spoken over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP/2 only, without negotiation where there is no TLS, as gRPC does.
    Http2,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/1.1, or HTTP/2 where TLS negotiates it.
    Http1OrNegotiated,
}

/// HTTP/2 pings that find out whether the peer is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pings {
    /// Time without a frame after which a ping is sent.
    pub(super) every: Duration,
    /// Time after which a ping without an answer ends the connection.
    pub(super) timeout: Duration,
    /// Ping also while no request is under way.
    pub(super) while_idle: bool,
}

/// Only while a request waits, and only when nothing has been heard for long: no healthy server sees these pings.
impl Default for Pings {
    fn default() -> Self {
        Pings { every: Duration::from_secs(20), timeout: Duration::from_secs(10), while_idle: false }
    }
}

/// How connections are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Connections {
    pub(super) protocol: Protocol,
    pub(super) pings: Pings,
    pub(super) max_idle_per_host: usize,
    /// Idle connections are closed after this time; `None` never.
    pub(super) idle_timeout: Option<Duration>,
}

/// Large bodies go out without waiting for a window of our own making.
const SEND_BUFFER: usize = 4 * 1024 * 1024;

impl Connections {
    /// Builds a client that connects through `dial`. Nothing is connected before the first request. `name` is what the
    /// server's certificate must carry, where that is not the URI's host.
    pub(super) fn client(self, tls: ClientConfig, name: Option<ServerName<'static>>, dial: Dial) -> HttpClient {
        let mut https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        if let Some(name) = name {
            https = https.with_server_name_resolver(FixedServerNameResolver::new(name));
        }
        let connector = match self.protocol {
            Protocol::Http2 => https.enable_http2().wrap_connector(dial),
            Protocol::Http1 => https.enable_http1().wrap_connector(dial),
            Protocol::Http1OrNegotiated => https.enable_all_versions().wrap_connector(dial),
        };
        Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(self.idle_timeout)
            .pool_max_idle_per_host(self.max_idle_per_host)
            .http2_only(self.protocol == Protocol::Http2)
            .http2_adaptive_window(true)
            .http2_max_send_buf_size(SEND_BUFFER)
            .http2_keep_alive_interval(self.pings.every)
            .http2_keep_alive_timeout(self.pings.timeout)
            .http2_keep_alive_while_idle(self.pings.while_idle)
            .build(connector)
    }
}

/// A request body: pieces sent one behind the other without being copied together.
#[derive(Clone, Debug)]
pub(super) struct Chunks {
    chunks: vec::IntoIter<Bytes>,
    left: u64,
}

impl Chunks {
    pub(super) fn new(chunks: Vec<Bytes>) -> Self {
        let left = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        Chunks { chunks: chunks.into_iter(), left }
    }
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.chunks.next().map(|chunk| {
            self.left -= chunk.len() as u64;
            Ok(Frame::data(chunk))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.len() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Reads a certificate's name from configuration text.
pub(super) fn server_name(path: &str, host: &str) -> Result<ServerName<'static>, ConfigError> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned()).map_err(|_| ConfigError::new(path, "is not a host name or address"))
}

/// What went wrong below HTTP, for a log line: the innermost causes say most. Bounded; these texts come from the
/// system, hyper and rustls, not from the peer's data.
pub(super) fn transport_error(error: &(dyn StdError + 'static)) -> String {
    const MAX: usize = 300;
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.to_string();
        if !text.ends_with(&inner) {
            let _infallible = write!(text, ": {inner}");
        }
        cause = error.source();
    }
    match text.char_indices().nth(MAX) {
        Some((end, _)) => text[..end].to_owned(),
        None => text,
    }
}
