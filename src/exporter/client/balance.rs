//! One connection to each address of a name, requests going round them: gRPC's `round_robin`.
//!
//! Connections are made ahead of requests, so that an address that answers slowly or not at all holds nothing up while
//! another one works. When a connection is lost the name is resolved again.

use super::{
    Chunks, HttpClient,
    dial::{self, tcp_connector},
    warm::Warm,
};
use arc_swap::ArcSwap;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper_util::client::legacy::Error;
use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::Instant,
};

/// Finds the addresses of a name.
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of `host`, each with `port`.
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;
}

/// The system's own way.
#[derive(Clone, Copy, Debug)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// After a connection could not be made, the next is tried after this time, and ever longer up to the longest.
const BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// Why a request did not get an answer.
#[derive(Debug)]
pub(in crate::exporter) enum Failed {
    /// The name has no address.
    Unresolved(io::Error),
    /// No address takes connections; why the last one did not.
    Unreachable(String),
    /// On the way.
    Request(Error),
}

/// Makes the client of one address.
type MakeClient = dyn Fn(Uri, Arc<Warm>) -> HttpClient + Send + Sync;

/// The addresses of one name.
pub(in crate::exporter) struct Balancer {
    shared: Arc<Shared>,
    next: AtomicUsize,
}

struct Shared {
    host: String,
    port: u16,
    resolver: Arc<dyn Resolve>,
    interval: Duration,
    make: Box<MakeClient>,
    nodes: ArcSwap<Vec<Arc<Node>>>,
    /// When the name was last resolved. Locked while it is.
    resolved: tokio::sync::Mutex<Option<Instant>>,
    /// Counts changes of any node's state.
    changes: watch::Sender<u64>,
    /// A connection was lost: the name may have other addresses now.
    stale: Arc<AtomicBool>,
}

impl Balancer {
    /// Nothing is resolved before the first request.
    pub(in crate::exporter) fn new(
        (host, port): (String, u16),
        resolver: Arc<dyn Resolve>,
        interval: Duration,
        make: impl Fn(Uri, Arc<Warm>) -> HttpClient + Send + Sync + 'static,
    ) -> Self {
        let shared = Shared {
            host,
            port,
            resolver,
            interval,
            make: Box::new(make),
            nodes: ArcSwap::default(),
            resolved: tokio::sync::Mutex::new(None),
            changes: watch::Sender::new(0),
            stale: Arc::default(),
        };
        Balancer { shared: Arc::new(shared), next: AtomicUsize::new(0) }
    }

    /// Sends a request to the next address that takes connections. `request` makes it, once for each address tried.
    pub(in crate::exporter) async fn request(
        &self,
        request: impl Fn() -> Request<Chunks>,
    ) -> Result<Response<Incoming>, Failed> {
        self.refresh().await?;
        let mut changes = self.shared.changes.subscribe();
        let (mut woken, mut tried) = (false, 0);
        loop {
            changes.mark_unchanged();
            let nodes = self.shared.nodes.load_full();
            let node = match self.pick(&nodes) {
                Pick::Ready(node) => node,
                Pick::Wait => {
                    // The sender lives as long as this balancer.
                    let _changed = changes.changed().await;
                    continue;
                }
                // Whoever sends asks for another attempt at every address, once.
                Pick::Failed if !woken => {
                    woken = true;
                    nodes.iter().for_each(|node| node.try_now());
                    continue;
                }
                Pick::Failed => {
                    self.shared.stale.store(true, Ordering::Relaxed);
                    let reason = nodes.iter().find_map(|node| node.reason());
                    return Err(Failed::Unreachable(reason.unwrap_or_else(|| "the name has no address".to_owned())));
                }
            };
            match node.client.request(request()).await {
                Ok(response) => return Ok(response),
                Err(error) => {
                    self.shared.stale.store(true, Ordering::Relaxed);
                    tried += 1;
                    // Nothing was sent, so another address may have it.
                    if !error.is_connect() {
                        return Err(Failed::Request(error));
                    }
                    node.lost();
                    if tried > nodes.len() {
                        return Err(Failed::Request(error));
                    }
                }
            }
        }
    }

    fn pick<'a>(&self, nodes: &'a [Arc<Node>]) -> Pick<'a> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut waiting = false;
        for i in 0..nodes.len() {
            let node = &nodes[first.wrapping_add(i) % nodes.len()];
            match node.link.state() {
                State::Ready => return Pick::Ready(node),
                State::Connecting => waiting = true,
                State::Failed => {}
            }
        }
        if waiting { Pick::Wait } else { Pick::Failed }
    }

    /// Resolves the name the first time, and behind the requests' back after a connection was lost.
    async fn refresh(&self) -> Result<(), Failed> {
        if self.shared.nodes.load().is_empty() {
            return self.shared.resolve(true).await.map_err(Failed::Unresolved);
        }
        if self.shared.stale.load(Ordering::Relaxed) && self.shared.due() {
            let shared = self.shared.clone();
            tokio::spawn(async move {
                // The addresses known so far stay in use.
                let _later_again = shared.resolve(false).await;
            });
        }
        Ok(())
    }
}

enum Pick<'a> {
    Ready(&'a Arc<Node>),
    Wait,
    Failed,
}

impl Shared {
    /// Whether the name may be resolved again, and nobody does.
    fn due(&self) -> bool {
        let last = self.resolved.try_lock();
        last.is_ok_and(|last| last.is_none_or(|last| last.elapsed() >= self.interval))
    }

    async fn resolve(&self, wait: bool) -> io::Result<()> {
        let mut last = if wait {
            self.resolved.lock().await
        } else {
            let Ok(last) = self.resolved.try_lock() else { return Ok(()) };
            last
        };
        let known = self.nodes.load_full();
        if wait && !known.is_empty() {
            return Ok(());
        }
        if !wait && last.is_some_and(|last| last.elapsed() < self.interval) {
            return Ok(());
        }
        self.stale.store(false, Ordering::Relaxed);
        *last = Some(Instant::now());
        let mut nodes: Vec<Arc<Node>> = Vec::new();
        for address in self.resolver.resolve(&self.host, self.port).await? {
            if nodes.iter().any(|node| node.address == address) {
                continue;
            }
            let same = known.iter().find(|node| node.address == address).cloned();
            nodes.push(match same {
                Some(node) => node,
                None => Node::start(address, self)?,
            });
        }
        if nodes.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        self.nodes.store(Arc::new(nodes));
        self.changes.send_modify(|changes| *changes += 1);
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Ready,
    Failed,
}

/// One address.
struct Node {
    address: SocketAddr,
    client: HttpClient,
    link: Arc<Link>,
    keeper: AbortHandle,
}

/// What a node and the task that connects it share.
struct Link {
    state: AtomicU8,
    reason: Mutex<Option<String>>,
    /// The connection was lost.
    lost: Notify,
    /// Try now instead of later.
    wake: Notify,
    changes: watch::Sender<u64>,
}

impl Node {
    fn start(address: SocketAddr, shared: &Shared) -> io::Result<Arc<Self>> {
        let uri: Uri = format!("http://{address}").parse().map_err(io::Error::other)?;
        let link = Arc::new(Link {
            state: AtomicU8::new(State::Connecting as u8),
            reason: Mutex::default(),
            lost: Notify::new(),
            wake: Notify::new(),
            changes: shared.changes.clone(),
        });
        let warm = Arc::new(Warm::new(shared.stale.clone()));
        let keeper = tokio::spawn(keep(link.clone(), warm.clone(), uri.clone())).abort_handle();
        Ok(Arc::new(Node { address, client: (shared.make)(uri, warm), link, keeper }))
    }

    fn reason(&self) -> Option<String> {
        self.link.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lost(&self) {
        self.link.set(State::Failed);
        self.link.lost.notify_one();
    }

    /// Ends the pause after a failure. A connection made meanwhile stays.
    fn try_now(&self) {
        let (failed, connecting) = (State::Failed as u8, State::Connecting as u8);
        let ended = self.link.state.compare_exchange(failed, connecting, Ordering::AcqRel, Ordering::Acquire);
        if ended.is_ok() {
            self.link.wake.notify_one();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Link {
    fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            state if state == State::Ready as u8 => State::Ready,
            state if state == State::Failed as u8 => State::Failed,
            _ => State::Connecting,
        }
    }

    fn set(&self, state: State) {
        self.state.store(state as u8, Ordering::Release);
        self.changes.send_modify(|changes| *changes += 1);
    }
}

/// Keeps a connection at hand.
async fn keep(link: Arc<Link>, warm: Arc<Warm>, to: Uri) {
    let connector = tcp_connector();
    let mut backoff = BACKOFF;
    loop {
        match dial::tcp(connector.clone(), to.clone()).await {
            Ok(stream) => {
                warm.put(stream);
                let ready = Instant::now();
                link.set(State::Ready);
                // A request that failed on an earlier connection may have said so twice.
                while link.state() == State::Ready {
                    link.lost.notified().await;
                }
                if ready.elapsed() > MAX_BACKOFF {
                    backoff = BACKOFF;
                }
            }
            Err(error) => {
                let reason = super::transport_error(&*error);
                *link.reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
                link.set(State::Failed);
            }
        }
        let _either = tokio::time::timeout(backoff, link.wake.notified()).await;
        backoff = (backoff * 2).min(MAX_BACKOFF);
        link.set(State::Connecting);
    }
}
