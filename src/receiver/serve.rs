//! One accept loop for both protocols, and the watch over each connection: how many there are, how long they may take,
//! when they end.

use super::{
    Listening,
    activity::{Activity, End, HEAD_PATIENCE, InFlight},
    grpc::Grpc,
    http::Http,
    reply::Reply,
};
use crate::{
    net::{
        Socket, Stream,
        tls::{Acceptor, HandshakeError},
    },
    pipeline::Transport,
    telemetry::{ConnectionMetrics, Seldom},
};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulConnection},
};
use std::{convert::Infallible, future::poll_fn, net::SocketAddr, pin::pin, sync::Arc, task::Poll, time::Duration};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::timeout,
};

mod authority;
mod frames;
mod io;
mod pings;

use io::Watched;
pub(super) use pings::PingPolicy;

/// How long to wait when the system has no file descriptor for one more connection.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// The largest head of an HTTP/1 request. HTTP/2 has hyper's bound of 16 KiB.
const MAX_HEAD_BYTES: usize = 128 * 1024;

/// What a connection may do.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// Connections at one time; further ones are closed at once.
    pub(super) max_connections: usize,
    /// How long the TLS handshake may take, then the first bytes of HTTP/2 or the head of an HTTP/1 request.
    pub(super) header_timeout: Duration,
    /// How long a write may wait for a client that does not read.
    pub(super) write_timeout: Duration,
    /// How long a connection may be without a request.
    pub(super) idle: Option<Duration>,
    /// How old a connection may become.
    pub(super) age: Option<Duration>,
    /// How long requests may go on after a connection was told to end.
    pub(super) grace: Duration,
    /// Whether HTTP/1 connections are kept for further requests.
    pub(super) keep_alive: bool,
    /// Concurrent requests of an HTTP/2 connection.
    pub(super) max_concurrent_streams: u32,
    /// After how much silence an HTTP/2 peer is pinged.
    pub(super) ping_interval: Duration,
    /// How long it may take to answer.
    pub(super) ping_timeout: Duration,
    /// How often an HTTP/2 client may ping; `None` leaves that to it.
    pub(super) pings: Option<PingPolicy>,
}

/// What a port serves.
#[derive(Clone)]
pub(super) enum Service {
    Grpc(Arc<Grpc>),
    Http(Arc<Http>),
}

impl Service {
    fn connections(&self) -> ConnectionMetrics {
        match self {
            Service::Grpc(grpc) => ConnectionMetrics::new(&grpc.intake.receiver, Transport::Grpc.name()),
            Service::Http(http) => ConnectionMetrics::new(&http.intake.receiver, Transport::Http.name()),
        }
    }

    async fn answer(self, request: Request<Incoming>, peer: Option<SocketAddr>, busy: InFlight) -> Response<Reply> {
        match self {
            Service::Grpc(grpc) => grpc.serve(request, peer, busy).await,
            Service::Http(http) => http.serve(request, peer, busy).await,
        }
    }
}

/// Where the receiver is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Accepting and answering.
    Running,
    /// Answering what is in hand, accepting nothing.
    Draining,
    /// Everything still open is cut.
    Cut,
}

/// Accepts connections until the phase is no longer [`Phase::Running`].
pub(super) async fn accept(
    port: Listening,
    service: Service,
    rules: Rules,
    mut phase: watch::Receiver<Phase>,
    alive: mpsc::Sender<Infallible>,
) {
    let Listening { listener, tls, .. } = port;
    let seats = Arc::new(Semaphore::new(rules.max_connections));
    let handshakes = Arc::new(Seldom::default());
    let connections = service.connections();
    let (cannot_accept, too_many) = (Seldom::default(), Seldom::default());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = phase.wait_for(|phase| *phase != Phase::Running) => return,
        };
        let (socket, peer) = match accepted {
            Ok(connection) => connection,
            Err(error) if of_one_connection(&error) => continue,
            Err(error) => {
                if cannot_accept.turn(1).is_some() {
                    tracing::warn!(%error, "cannot accept connections; trying again");
                }
                tokio::time::sleep(ACCEPT_BACKOFF).await;
                continue;
            }
        };
        let Ok(seat) = seats.clone().try_acquire_owned() else {
            if too_many.turn(1).is_some() {
                tracing::warn!(max_connections = rules.max_connections, "too many connections; closing new ones");
            }
            continue;
        };
        let (service, rules, mut phase, alive) = (service.clone(), rules.clone(), phase.clone(), alive.clone());
        let (tls, handshakes) = (tls.clone(), handshakes.clone());
        let connections = connections.open();
        tokio::spawn(async move {
            let _held = (seat, alive, connections);
            let stream = match tls {
                None => Stream::Plain(socket),
                Some(tls) => match secured(socket, peer, &tls, &rules, &mut phase, &handshakes).await {
                    Some(stream) => stream,
                    None => return,
                },
            };
            connection(stream, peer, service, rules, phase).await;
        });
    }
}

/// The connection behind a handshake. `None` where there was none, or where it came too late.
async fn secured(
    socket: Socket,
    peer: Option<SocketAddr>,
    tls: &Acceptor,
    rules: &Rules,
    phase: &mut watch::Receiver<Phase>,
    log: &Seldom,
) -> Option<Stream> {
    let mut handshake = pin!(tls.accept(socket, rules.header_timeout));
    let draining = async {
        // An error means the receiver is gone, which is an end as well.
        let _ = phase.wait_for(|phase| *phase != Phase::Running).await;
    };
    let done = tokio::select! {
        done = handshake.as_mut() => done,
        () = draining => timeout(HEAD_PATIENCE, handshake).await.ok()?,
    };
    let peer = peer.map_or_else(|| "unix".to_owned(), |peer| peer.to_string());
    match done {
        Ok(stream) => return Some(stream),
        // Load balancers and probes look whether a port is open; that is nobody's fault.
        Err(HandshakeError::Closed) => {}
        Err(error) if log.turn(1).is_some() => {
            tracing::warn!(%error, %peer, "TLS handshake failed");
        }
        Err(error) => tracing::debug!(%error, %peer, "TLS handshake failed"),
    }
    None
}

/// Whether accepting failed for one connection only, not for the listener.
fn of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn connection(
    stream: Stream,
    peer: Option<SocketAddr>,
    service: Service,
    rules: Rules,
    phase: watch::Receiver<Phase>,
) {
    let activity = Arc::new(Activity::new());
    let io = TokioIo::new(Watched::new(stream, activity.clone(), &rules));
    let busy = activity.clone();
    let service = hyper::service::service_fn(move |request| {
        let answer = service.clone().answer(request, peer, InFlight::new(busy.clone()));
        async move { Ok::<_, Infallible>(answer.await) }
    });
    // Both ports read both versions of HTTP, so that a client on the wrong port is told so in words it understands.
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // hyper's own header timeout also ends idle connections; ours tells the two apart.
        .header_read_timeout(None)
        .max_buf_size(MAX_HEAD_BYTES)
        // A client that closes its side behind the request still waits for the answer; without one it would send again.
        .half_close(true)
        .keep_alive(rules.keep_alive);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(rules.max_concurrent_streams)
        .keep_alive_interval(rules.ping_interval)
        .keep_alive_timeout(rules.ping_timeout);
    watch_over(builder.serve_connection(io, service), &activity, &rules, phase).await;
}

/// Drives a connection to its end, and ends it when its time has come.
async fn watch_over<C: GracefulConnection>(
    connection: C,
    activity: &Activity,
    rules: &Rules,
    mut phase: watch::Receiver<Phase>,
) {
    let mut connection = pin!(connection);
    // Being told off is found out while the connection is driven, so it is looked for there and costs no wakeup.
    let driven = poll_fn(|cx| match connection.as_mut().poll(cx) {
        Poll::Ready(_) => Poll::Ready(Driven::Ended),
        Poll::Pending if activity.is_told_off() => Poll::Ready(Driven::ToldOff),
        Poll::Pending => Poll::Pending,
    });
    tokio::select! {
        // How a connection ends is the client's affair; what matters was answered or counted before.
        driven = driven => if driven == Driven::Ended { return },
        _ = phase.wait_for(|phase| *phase != Phase::Running) => {}
        end = activity.over(rules.header_timeout, rules.idle, rules.age) => if end == End::Now { return },
    }
    tokio::select! {
        _ = connection.as_mut() => return,
        () = activity.asked() => {}
    }
    connection.as_mut().graceful_shutdown();
    let draining = *phase.borrow() != Phase::Running;
    let grace = tokio::time::sleep(rules.grace);
    tokio::select! {
        _ = connection.as_mut() => {}
        _ = phase.wait_for(|phase| *phase == Phase::Cut) => {}
        () = grace, if !draining => {}
    }
}

/// How far a connection was driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Driven {
    Ended,
    ToldOff,
}
