//! OTLP servers, gRPC and HTTP: they take export requests in, hold them to their limits, hand protobuf bytes to the
//! pipeline and say what became of them.
//!
//! A body is read against one budget of bytes shared by both servers, decompressed and converted off
//! the async workers, and handed over as protobuf; the message is not decoded here. Whatever goes wrong on the way is
//! one `Fault`, which each protocol puts into its own words. Where the specification and the Collector differ, the
//! specification wins.

use crate::otlp::Signal;
use crate::pipeline::{Budget, Ingest, Transport};
use std::{convert::Infallible, io, net::SocketAddr, sync::Arc};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, watch},
    time::Instant,
};

mod body;
mod codec;
pub mod config;
mod cors;
mod fault;
mod grpc;
mod http;
mod inflate;
mod intake;
mod metadata;
mod reply;
mod serve;
pub mod settings;

pub use config::Config;
pub use cors::{Allowed, Cors};
pub use fault::Rejected;
pub use settings::Settings;

/// Told of every request that never reaches [`Ingest::export`]. Requests the pipeline refuses are the pipeline's to
/// count.
pub type Observer = Arc<dyn Fn(Signal, Transport, Rejected) + Send + Sync>;

/// Why a receiver did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be listened on.
    #[error("{path}: cannot listen on {endpoint}: {cause}; {advice}")]
    Bind {
        /// Where the address is configured.
        path: String,
        /// The address as configured.
        endpoint: String,
        /// What the system said.
        cause: io::Error,
        /// What to do.
        advice: &'static str,
    },
}

/// A port that is listened on.
#[derive(Clone, Debug)]
struct Listening {
    /// As configured.
    endpoint: String,
    /// With the real port where port 0 was configured.
    address: SocketAddr,
    socket: Arc<TcpListener>,
}

/// A receiver whose ports are bound; nothing is accepted yet.
#[derive(Debug)]
pub struct Bound {
    id: String,
    settings: Settings,
    grpc: Option<Listening>,
    http: Option<Listening>,
}

/// A running receiver.
#[derive(Debug)]
pub struct Receiver {
    grpc: Option<Listening>,
    http: Option<Listening>,
    budget: Budget,
    phase: watch::Sender<serve::Phase>,
    work: mpsc::Receiver<Infallible>,
}

impl Bound {
    /// Answers requests from now on. Must be called within a Tokio runtime.
    pub fn serve(self, ingest: Arc<dyn Ingest>, observer: Observer) -> Receiver {
        let Bound { id, settings, grpc, http } = self;
        let (phase, phases) = watch::channel(serve::Phase::Running);
        let (alive, work) = mpsc::channel(1);
        let budget = Budget::new(settings.max_concurrent_bytes, intake::MAX_REQUESTS);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let intake = Arc::new(intake::Intake {
            receiver: id.as_str().into(),
            ingest,
            budget: budget.clone(),
            workers: Arc::new(Semaphore::new(cores.max(2))),
            observer,
            alive: alive.downgrade(),
        });
        if let (Some(listening), Some(grpc)) = (&grpc, &settings.grpc) {
            let (socket, service) = (listening.socket.clone(), grpc.service(intake.clone()));
            tokio::spawn(serve::accept(socket, service, grpc.rules(&settings), phases.clone(), alive.clone()));
        }
        if let (Some(listening), Some(http)) = (&http, &settings.http) {
            let (socket, service) = (listening.socket.clone(), http.service(intake));
            tokio::spawn(serve::accept(socket, service, http.rules(&settings), phases, alive));
        }
        Receiver { grpc, http, budget, phase, work }
    }
}

impl Receiver {
    /// Listens. `id` is the receiver's id, such as `otlp` or `otlp/internal`. A port that one of `previous` has open is
    /// shared with it, so that one receiver can follow another without a moment in which clients are refused.
    ///
    /// # Errors
    /// [`StartError`] when an address cannot be listened on; nothing new is left listening then.
    pub async fn bind(id: &str, settings: &Settings, previous: &[&Receiver]) -> Result<Bound, StartError> {
        let open: Vec<&Listening> =
            previous.iter().flat_map(|previous| [&previous.grpc, &previous.http]).flatten().collect();
        let grpc = match &settings.grpc {
            Some(grpc) => Some(listen(id, "grpc", &grpc.endpoint, &open).await?),
            None => None,
        };
        let http = match &settings.http {
            Some(http) => Some(listen(id, "http", &http.endpoint, &open).await?),
            None => None,
        };
        Ok(Bound { id: id.to_owned(), settings: settings.clone(), grpc, http })
    }

    /// Listens and serves: [`Receiver::bind`] and [`Bound::serve`].
    ///
    /// # Errors
    /// [`StartError`] when an address cannot be listened on; nothing is left listening then.
    pub async fn start(
        id: &str,
        settings: &Settings,
        ingest: Arc<dyn Ingest>,
        observer: Observer,
    ) -> Result<Self, StartError> {
        Ok(Receiver::bind(id, settings, &[]).await?.serve(ingest, observer))
    }

    /// The address gRPC listens on, with the real port where port 0 was configured.
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc.as_ref().map(|listening| listening.address)
    }

    /// The address HTTP listens on, with the real port where port 0 was configured.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(|listening| listening.address)
    }

    /// Room for requests in hand: how much there is and how much is in use.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Stops accepting at once, lets the requests in hand be answered, and cuts what is still open at `deadline`.
    /// Answers whether everything ended by itself.
    pub async fn drain(mut self, deadline: Instant) -> bool {
        // A socket that nobody accepts from must not go on taking connections.
        (self.grpc, self.http) = (None, None);
        self.phase.send_replace(serve::Phase::Draining);
        let done = tokio::time::timeout_at(deadline, self.work.recv()).await.is_ok();
        self.phase.send_replace(serve::Phase::Cut);
        done
    }
}

/// Listens on `endpoint`, IPv4 first where a name has both, as the Collector does; on a socket of `open` where one has
/// this endpoint already.
async fn listen(id: &str, protocol: &str, endpoint: &str, open: &[&Listening]) -> Result<Listening, StartError> {
    if let Some(listening) = open.iter().find(|listening| listening.endpoint == endpoint) {
        return Ok(Listening::clone(listening));
    }
    let bound = async {
        // ":4317" means every address of the machine.
        let candidates: Vec<SocketAddr> = match endpoint.strip_prefix(':') {
            Some(port) => {
                let port = port.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
                vec![(std::net::Ipv6Addr::UNSPECIFIED, port).into(), (std::net::Ipv4Addr::UNSPECIFIED, port).into()]
            }
            None => {
                let mut found: Vec<SocketAddr> = tokio::net::lookup_host(endpoint).await?.collect();
                found.sort_by_key(SocketAddr::is_ipv6);
                found
            }
        };
        let listener = TcpListener::bind(&candidates[..]).await?;
        let address = listener.local_addr()?;
        io::Result::Ok(Listening { endpoint: endpoint.to_owned(), address, socket: Arc::new(listener) })
    };
    bound.await.map_err(|cause| StartError::Bind {
        path: format!("receivers::{id}::protocols::{protocol}::endpoint"),
        endpoint: endpoint.to_owned(),
        advice: match cause.kind() {
            io::ErrorKind::AddrInUse => "stop the program that uses the port, or set another endpoint",
            io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege; set a higher port",
            io::ErrorKind::AddrNotAvailable => "set an address this machine has, 0.0.0.0 for all of them",
            _ => "set endpoint to host:port, such as 127.0.0.1:4317",
        },
        cause,
    })
}
