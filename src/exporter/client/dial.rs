//! How a connection is made: straight, over a unix socket, or through a proxy.

use super::{
    proxy::{Kind, Proxy},
    stream::{Io, Stream},
    warm::Warm,
};
use http::{
    Uri,
    uri::{Authority, Scheme},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::connect::{
        HttpConnector,
        proxy::{SocksV5, Tunnel},
    },
    rt::TokioIo,
};
use rustls::ClientConfig;
use std::{
    collections::HashMap,
    error::Error as StdError,
    future::Future,
    io,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{net::TcpStream, sync::Semaphore};
use tower_service::Service;

/// A connection that is not made in this time is given up, whatever the time for a request is.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Data that is sent but not acknowledged for this long ends the connection, so that a vanished backend is noticed
/// long before the system's own quarter of an hour.
#[cfg(target_os = "linux")]
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Where connections go.
#[derive(Clone, Debug)]
pub(in crate::exporter) enum Route {
    /// Where the request's URI says.
    ByUri(Arc<Routes>),
    /// Always here, whatever the URI says: it names the host to the server, not to us.
    Fixed { to: Uri, proxy: Option<Arc<Proxy>> },
    /// One address of several.
    Balanced { to: Uri, warm: Arc<Warm> },
    /// A socket of this machine.
    Unix(Arc<PathBuf>),
}

/// The proxies of an exporter's few addresses, and how many connections each may have.
#[derive(Debug, Default)]
pub(in crate::exporter) struct Routes {
    pub(in crate::exporter) proxies: Vec<(Uri, Arc<Proxy>)>,
    /// Connections to one host at the same time; `None` as many as requests need.
    pub(in crate::exporter) max_connections: Option<usize>,
    places: Mutex<HashMap<Authority, Arc<Semaphore>>>,
}

impl Routes {
    pub(in crate::exporter) fn new(proxies: Vec<(Uri, Arc<Proxy>)>, max_connections: Option<usize>) -> Self {
        Routes { proxies, max_connections, places: Mutex::default() }
    }

    fn proxy(&self, uri: &Uri) -> Option<Arc<Proxy>> {
        let same = |of: &Uri| of.scheme() == uri.scheme() && of.authority() == uri.authority();
        self.proxies.iter().find(|(of, _)| same(of)).map(|(_, proxy)| proxy.clone())
    }

    fn places(&self, uri: &Uri) -> Option<Arc<Semaphore>> {
        let max = self.max_connections?;
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        Some(places.entry(uri.authority()?.clone()).or_insert_with(|| Arc::new(Semaphore::new(max))).clone())
    }
}

/// Makes connections.
#[derive(Clone, Debug)]
pub(in crate::exporter) struct Dial {
    route: Route,
    tcp: HttpConnector,
    /// To proxies behind TLS.
    proxy_tls: HttpsConnector<HttpConnector>,
}

type BoxError = Box<dyn StdError + Send + Sync>;

impl Dial {
    /// `tls` is for proxies that are themselves behind TLS.
    pub(in crate::exporter) fn new(route: Route, tls: &ClientConfig) -> Self {
        let tcp = tcp_connector();
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http();
        Dial { route, proxy_tls: builder.enable_http1().wrap_connector(tcp.clone()), tcp }
    }

    async fn connect(mut self, asked: Uri) -> Result<Stream, BoxError> {
        let (to, proxy, place) = match self.route {
            Route::Unix(path) => return unix(&path).await,
            Route::Balanced { to, warm } => {
                let stream = match warm.take() {
                    Some(stream) => stream,
                    None => self.tcp.call(to).await?,
                };
                return Ok(Stream::new(Io::Tcp(stream), false, None));
            }
            Route::Fixed { to, proxy } => (to, proxy.map(|proxy| (proxy, true)), None),
            Route::ByUri(routes) => {
                let place = match routes.places(&asked) {
                    Some(places) => Some(places.acquire_owned().await?),
                    None => None,
                };
                // Only plain HTTP/1.1 can be forwarded; everything else goes through a tunnel.
                let tunnel = asked.scheme() == Some(&Scheme::HTTPS);
                let proxy = routes.proxy(&asked).map(|proxy| (proxy, tunnel));
                (asked, proxy, place)
            }
        };
        let Some((proxy, tunnel)) = proxy else {
            return Ok(Stream::new(Io::Tcp(self.tcp.call(to).await?), false, place));
        };
        let address = proxy.uri.clone();
        let (io, forwarded) = match (proxy.kind, tunnel) {
            (Kind::Socks5, _) => {
                let mut socks = SocksV5::new(address, self.tcp);
                if let Some((user, password)) = proxy.user.clone() {
                    socks = socks.with_auth(user, password);
                }
                (Io::Tcp(socks.call(with_port(to)?).await?), false)
            }
            (Kind::Http, false) => (Io::Tcp(self.tcp.call(address).await?), true),
            (Kind::Https, false) => (Io::Proxy(Box::new(self.proxy_tls.call(address).await?)), true),
            (Kind::Http, true) => (Io::Tcp(tunnelled(address, &proxy, self.tcp).call(to).await?), false),
            (Kind::Https, true) => {
                (Io::Proxy(Box::new(tunnelled(address, &proxy, self.proxy_tls).call(to).await?)), false)
            }
        };
        Ok(Stream::new(io, forwarded, place))
    }
}

/// The same with the port that its scheme implies: a proxy is told one.
fn with_port(uri: Uri) -> Result<Uri, http::Error> {
    match (uri.port(), uri.scheme_str(), uri.host()) {
        (None, Some("http"), Some(host)) => {
            Uri::builder().scheme("http").authority(format!("{host}:80")).path_and_query("/").build()
        }
        _ => Ok(uri),
    }
}

fn tunnelled<C>(address: Uri, proxy: &Proxy, connector: C) -> Tunnel<C> {
    let tunnel = Tunnel::new(address, connector);
    match proxy.basic() {
        Some(authorization) => tunnel.with_auth(authorization),
        None => tunnel,
    }
}

#[cfg(unix)]
async fn unix(path: &std::path::Path) -> Result<Stream, BoxError> {
    let stream = tokio::net::UnixStream::connect(path).await?;
    Ok(Stream::new(Io::Unix(TokioIo::new(stream)), false, None))
}

#[cfg(not(unix))]
async fn unix(_: &std::path::Path) -> Result<Stream, BoxError> {
    Err("unix sockets need a Unix system".into())
}

impl Service<Uri> for Dial {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, asked: Uri) -> Self::Future {
        let dial = self.clone();
        Box::pin(async move {
            match tokio::time::timeout(CONNECT_TIMEOUT, dial.connect(asked)).await {
                Ok(connected) => connected,
                Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            }
        })
    }
}

/// Sockets that send at once and notice when their peer has gone.
pub(super) fn tcp_connector() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(Duration::from_secs(60)));
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
    tcp
}

/// A plain connection, for the balancer.
pub(super) async fn tcp(mut connector: HttpConnector, to: Uri) -> Result<TokioIo<TcpStream>, BoxError> {
    match tokio::time::timeout(CONNECT_TIMEOUT, connector.call(to)).await {
        Ok(connected) => Ok(connected?),
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}
