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
mod fault;
mod grpc;
mod http;
mod inflate;
mod intake;
mod reply;
mod serve;
pub mod settings;

pub use config::Config;
pub use fault::Rejected;
pub use http::ContentCoding;
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

/// A running receiver.
#[derive(Debug)]
pub struct Receiver {
    grpc: Option<SocketAddr>,
    http: Option<SocketAddr>,
    budget: Budget,
    phase: watch::Sender<serve::Phase>,
    work: mpsc::Receiver<Infallible>,
}

impl Receiver {
    /// Listens and serves. `id` is the receiver's id, such as `otlp` or `otlp/internal`. When this returns, every
    /// address is bound; requests are answered from then on.
    ///
    /// # Errors
    /// [`StartError`] when an address cannot be listened on; nothing is left listening then.
    pub async fn start(
        id: &str,
        settings: &Settings,
        ingest: Arc<dyn Ingest>,
        observer: Observer,
    ) -> Result<Self, StartError> {
        let grpc = match &settings.grpc {
            Some(grpc) => Some((listen(id, "grpc", &grpc.endpoint).await?, grpc)),
            None => None,
        };
        let http = match &settings.http {
            Some(http) => Some((listen(id, "http", &http.endpoint).await?, http)),
            None => None,
        };

        let (phase, phases) = watch::channel(serve::Phase::Running);
        let (alive, work) = mpsc::channel(1);
        let budget = Budget::new(settings.max_concurrent_bytes, intake::MAX_REQUESTS);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let intake = Arc::new(intake::Intake {
            receiver: id.into(),
            ingest,
            budget: budget.clone(),
            workers: Arc::new(Semaphore::new(cores.max(2))),
            observer,
            alive: alive.downgrade(),
        });

        let mut receiver = Receiver { grpc: None, http: None, budget, phase, work };
        if let Some(((listener, address), grpc)) = grpc {
            receiver.grpc = Some(address);
            let service = grpc.service(intake.clone());
            tokio::spawn(serve::accept(listener, service, grpc.rules(settings), phases.clone(), alive.clone()));
        }
        if let Some(((listener, address), http)) = http {
            receiver.http = Some(address);
            let service = http.service(intake);
            tokio::spawn(serve::accept(listener, service, http.rules(settings), phases, alive));
        }
        Ok(receiver)
    }

    /// The address gRPC listens on, with the real port where port 0 was configured.
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc
    }

    /// The address HTTP listens on, with the real port where port 0 was configured.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Room for requests in hand: how much there is and how much is in use.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Stops accepting at once, lets the requests in hand be answered, and cuts what is still open at `deadline`.
    /// Answers whether everything ended by itself.
    pub async fn drain(mut self, deadline: Instant) -> bool {
        self.phase.send_replace(serve::Phase::Draining);
        let done = tokio::time::timeout_at(deadline, self.work.recv()).await.is_ok();
        self.phase.send_replace(serve::Phase::Cut);
        done
    }
}

/// Listens on `endpoint`, IPv4 first where a name has both, as the Collector does.
async fn listen(id: &str, protocol: &str, endpoint: &str) -> Result<(TcpListener, SocketAddr), StartError> {
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
        io::Result::Ok((listener, address))
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
