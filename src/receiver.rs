//! OTLP servers, gRPC and HTTP: they take export requests in, hold them to their limits, hand protobuf bytes to the
//! pipeline and say what became of them.
//!
//! A body is read against one budget of bytes shared by both servers, decompressed and converted off
//! the async workers, and handed over as protobuf; the message is not decoded here. Whatever goes wrong on the way is
//! one `Fault`, which each protocol puts into its own words. Where the specification and the Collector differ, the
//! specification wins.

use crate::{
    config::ConfigError,
    net::{
        self, Address, Flag, ListenError, Listener, Place, Transport,
        tls::{Acceptor, TlsServer},
    },
    otlp::Signal,
    pipeline::{self, Budget, Ingest},
};
use std::{convert::Infallible, net::SocketAddr, sync::Arc};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::Instant,
};

mod activity;
mod auth;
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

pub use auth::Auth;
pub use config::Config;
pub use cors::{Allowed, Cors};
pub use fault::Rejected;
pub use settings::Settings;

/// What is spoken behind TLS, on either port: a client on the wrong one is told so in words it understands.
const ALPN: [&str; 2] = ["h2", "http/1.1"];

/// Told of every request that never reaches [`Ingest::export`]. Requests the pipeline refuses are the pipeline's to
/// count.
pub type Observer = Arc<dyn Fn(Signal, pipeline::Transport, Rejected) + Send + Sync>;

/// Why a receiver did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An endpoint could not be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Certificates or keys cannot be used.
    #[error(transparent)]
    Tls(#[from] ConfigError),
}

/// A port that is listened on.
#[derive(Clone, Debug)]
struct Listening {
    transport: Transport,
    /// As configured.
    endpoint: String,
    listener: Arc<Listener>,
    tls: Option<Acceptor>,
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
    /// The receiver's id.
    pub fn id(&self) -> &str {
        &self.id
    }

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
            let (port, service) = (listening.clone(), grpc.service(intake.clone()));
            tokio::spawn(serve::accept(port, service, grpc.rules(&settings), phases.clone(), alive.clone()));
        }
        if let (Some(listening), Some(http)) = (&http, &settings.http) {
            let (port, service) = (listening.clone(), http.service(intake));
            tokio::spawn(serve::accept(port, service, http.rules(&settings), phases, alive));
        }
        Receiver { grpc, http, budget, phase, work }
    }
}

impl Receiver {
    /// Listens. `id` is the receiver's id, such as `otlp` or `otlp/internal`. A port that one of `previous` has open is
    /// shared with it, so that one receiver can follow another without a moment in which clients are refused.
    ///
    /// # Errors
    /// [`StartError`] when an endpoint cannot be listened on or a certificate cannot be used; nothing new is left
    /// listening then.
    pub async fn bind(id: &str, settings: &Settings, previous: &[&Receiver]) -> Result<Bound, StartError> {
        let grpcs = previous.iter().filter_map(|previous| previous.grpc.as_ref());
        let https = previous.iter().filter_map(|previous| previous.http.as_ref());
        // Its own protocol's first: where both say port 0 they are not the same port.
        let open_to_grpc: Vec<&Listening> = grpcs.clone().chain(https.clone()).collect();
        let open_to_http: Vec<&Listening> = https.chain(grpcs).collect();
        let grpc = match &settings.grpc {
            Some(grpc) => {
                Some(listen(id, "grpc", grpc.transport, &grpc.endpoint, grpc.tls.as_ref(), &open_to_grpc).await?)
            }
            None => None,
        };
        let http = match &settings.http {
            Some(http) => {
                Some(listen(id, "http", http.transport, &http.endpoint, http.tls.as_ref(), &open_to_http).await?)
            }
            None => None,
        };
        Ok(Bound { id: id.to_owned(), settings: settings.clone(), grpc, http })
    }

    /// Listens and serves: [`Receiver::bind`] and [`Bound::serve`].
    ///
    /// # Errors
    /// As [`Receiver::bind`].
    pub async fn start(
        id: &str,
        settings: &Settings,
        ingest: Arc<dyn Ingest>,
        observer: Observer,
    ) -> Result<Self, StartError> {
        Ok(Receiver::bind(id, settings, &[]).await?.serve(ingest, observer))
    }

    /// Where gRPC listens.
    pub fn grpc(&self) -> Option<&Address> {
        self.grpc.as_ref().map(|listening| listening.listener.address())
    }

    /// Where HTTP listens.
    pub fn http(&self) -> Option<&Address> {
        self.http.as_ref().map(|listening| listening.listener.address())
    }

    /// The address gRPC listens on, with the real port where port 0 was configured; `None` for a unix socket.
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc().and_then(Address::tcp)
    }

    /// The address HTTP listens on, with the real port where port 0 was configured; `None` for a unix socket.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http().and_then(Address::tcp)
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

/// Reads the certificates and listens; on a socket of `open` where one has this endpoint already.
async fn listen(
    id: &str,
    protocol: &str,
    transport: Transport,
    endpoint: &str,
    tls: Option<&TlsServer>,
    open: &[&Listening],
) -> Result<Listening, StartError> {
    let section = ["receivers", id, "protocols", protocol];
    let tls = tls.map(|tls| tls.acceptor(&ALPN)).transpose().map_err(|error| error.under(&section))?;
    let same = |listening: &&&Listening| listening.transport == transport && listening.endpoint == endpoint;
    let listener = match open.iter().find(same) {
        Some(listening) => listening.listener.clone(),
        None => {
            let place = Place {
                path: &format!("{}::endpoint", section.join("::")),
                flag: Flag::Key(&format!("{}.endpoint", section.join("."))),
                recipe: net::listen::IN_FRONT,
            };
            Arc::new(Listener::bind(transport, endpoint, place).await?)
        }
    };
    Ok(Listening { transport, endpoint: endpoint.to_owned(), listener, tls })
}
