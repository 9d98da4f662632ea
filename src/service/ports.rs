//! The ports of tracegate's own: metrics for scrapers, health for probes, pages for people.

use super::{StartError, push::Push};
use crate::net::{
    Flag, Listener, Place,
    tls::{Acceptor, TlsServer},
};
use crate::telemetry::{Health, Prometheus, Telemetry, health, zpages};
use arc_swap::ArcSwap;
use std::{future::Future, net::SocketAddr, sync::Arc};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

/// Where the readers of metrics are configured.
const READERS: &str = "service::telemetry::metrics::readers";

/// A list has no flag for one of its endpoints.
const READERS_FLAG: &str =
    "--set 'service.telemetry.metrics.readers=[{pull: {exporter: {prometheus: {port: 18888}}}}]'";

/// The likeliest other program.
const BESIDE: &str = "a Collector on this machine has it by default; pipelines/in-front-of-collector.yaml keeps out of \
                      its ports";

/// A port that is listened on; nothing answers yet.
#[derive(Clone, Debug)]
pub struct Listening {
    endpoint: String,
    address: SocketAddr,
    socket: Arc<TcpListener>,
    tls: Option<Acceptor>,
}

/// A port that answers, until it is dropped.
#[derive(Debug)]
pub struct Port {
    listening: Listening,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl Listening {
    /// Listens on `endpoint`, configured at `path`; on the socket of one of `previous` where it has this endpoint
    /// already.
    ///
    /// # Errors
    /// [`StartError::Listen`]
    pub async fn bind<'a>(
        path: &str,
        endpoint: &str,
        mut previous: impl Iterator<Item = &'a Port>,
    ) -> Result<Listening, StartError> {
        if let Some(port) = previous.find(|port| port.listening.endpoint == endpoint) {
            return Ok(port.listening.clone());
        }
        let key = path.replace("::", ".");
        let flag = if path == READERS { Flag::Whole(READERS_FLAG) } else { Flag::Key(&key) };
        let (socket, address) = Listener::bind_tcp(endpoint, Place { path, flag, recipe: BESIDE }).await?;
        Ok(Listening { endpoint: endpoint.to_owned(), address, socket: Arc::new(socket), tls: None })
    }

    /// The same port with this `tls` block, which stands in `section`.
    ///
    /// # Errors
    /// [`StartError::Config`] when its files cannot be used.
    pub fn speaking(self, tls: Option<&TlsServer>, section: &[&str]) -> Result<Listening, StartError> {
        let tls = tls.map(|tls| tls.acceptor(&["http/1.1"])).transpose().map_err(|error| error.under(section))?;
        Ok(Listening { tls, ..self })
    }
}

impl Port {
    /// Answers with `server`. The health shows `component` as stopped if the server ends unasked.
    fn serve<F: Future<Output = ()> + Send + 'static>(
        listening: Listening,
        component: &str,
        health: &Health,
        server: impl FnOnce(Arc<TcpListener>, Stopped) -> F,
    ) -> Port {
        let (stop, stopped) = watch::channel(false);
        let guard = health.guard(component);
        let serving = server(listening.socket.clone(), Stopped(stopped));
        let server = tokio::spawn(async move {
            serving.await;
            guard.finished();
        });
        Port { listening, stop, server }
    }

    /// `health_check` on a port.
    pub fn health_check(listening: Listening, config: health::HealthCheck, health: &Health) -> Port {
        let (state, tls) = (health.clone(), listening.tls.clone());
        Port::serve(listening, "health_check", health, |socket, stopped| async move {
            health::serve(socket, tls, &config, state, stopped.wait()).await;
        })
    }

    /// `zpages` on a port.
    pub fn zpages(listening: Listening, running: Arc<ArcSwap<zpages::Running>>, health: &Health) -> Port {
        let state = health.clone();
        Port::serve(listening, "zpages", health, |socket, stopped| async move {
            zpages::serve(socket, running, state, stopped.wait()).await;
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listening.address
    }

    /// Finishes the answers that are on their way.
    pub async fn close(self) {
        self.stop.send_replace(true);
        // A server that panicked was reported by its guard.
        let _ = self.server.await;
    }
}

/// The end of a port, for its server.
struct Stopped(watch::Receiver<bool>);

impl Stopped {
    async fn wait(mut self) {
        // An error means the port itself is gone, which is a stop as well.
        let _ = self.0.wait_for(|stopped| *stopped).await;
    }
}

/// Who gets the metrics of this process; nobody at level `none`.
#[derive(Debug, Default)]
pub struct Readers {
    /// The ports scrapers read.
    pub ports: Vec<Port>,
    pushes: Vec<Push>,
}

impl Readers {
    /// Sends a last time, and finishes the answers that are on their way.
    pub async fn close(self) {
        for push in self.pushes {
            push.close().await;
        }
        for port in self.ports {
            port.close().await;
        }
    }
}

/// Starts the readers of metrics.
///
/// # Errors
/// [`StartError`] when a port cannot be listened on, a certificate file cannot be used, or metrics cannot be recorded.
pub async fn metrics(telemetry: &Telemetry, health: &Health) -> Result<Readers, StartError> {
    let Telemetry { metrics, resource, .. } = telemetry;
    let Some(detail) = metrics.level.detail() else { return Ok(Readers::default()) };
    let resource = resource.over([
        ("service.name", env!("CARGO_PKG_NAME").to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("service.instance.id", instance_id()),
    ]);
    let recorded = Prometheus::install(&resource, detail)?.with_health(health.clone());
    let start = |reader| Push::start(reader, recorded.clone(), health);
    let pushes = metrics.periodic.iter().map(start).collect::<Result<_, _>>()?;
    let mut ports = Vec::new();
    for reader in &metrics.readers {
        let listening = Listening::bind(READERS, &reader.endpoint(), ports.iter()).await?;
        let (recorded, style) = (recorded.clone(), reader.style(&resource));
        ports.push(Port::serve(listening, "metrics", health, |socket, stopped| async move {
            recorded.serve(socket, style, stopped.wait()).await;
        }));
    }
    Ok(Readers { ports, pushes })
}

/// Tells this process from its siblings in metrics; new at every start, as in the Collector.
fn instance_id() -> String {
    let id: u128 = rand::random();
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        (id >> 96) as u32,
        (id >> 80) as u16,
        (id >> 64) as u16 & 0xfff,
        (id >> 48) as u16 & 0x3fff | 0x8000,
        id as u64 & 0xffff_ffff_ffff
    )
}
