//! The path of one request: received bytes, stages that add to a plan, one rendering, every destination or none.

use crate::{auth::Principal, otlp::Signal};
use bytes::Bytes;
use std::{future::Future, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

pub mod admission;
mod commit;
pub mod delivery;
pub mod gateway;
pub mod gather;
pub mod metadata;
pub mod plan;
pub mod request;

pub use admission::{Budget, Full, Holder, Permit, Sizer};
pub use delivery::{Delivered, Delivery, Piece, Queued, Reply, Undelivered};
pub use gateway::{Gateway, Pipeline, Stage};
pub use metadata::Metadata;
pub use plan::{Finding, Plan, Verdict};
pub use request::Request;

/// Where a request came from, as the transport saw it.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The receiver's id, such as `otlp` or `otlp/internal`.
    pub receiver: Arc<str>,
    /// How it arrived.
    pub transport: Transport,
    /// The peer's address, where the transport has one.
    pub peer: Option<SocketAddr>,
    /// What the client said beside it, where the receiver includes that.
    pub metadata: Metadata,
    /// Who sent it, where the receiver authenticates.
    pub principal: Option<Arc<Principal>>,
}

/// How a request arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// OTLP/gRPC.
    Grpc,
    /// OTLP/HTTP with either encoding.
    Http,
}

impl Transport {
    /// Every transport.
    pub const ALL: [Transport; 2] = [Transport::Grpc, Transport::Http];

    /// The value of the Collector's `transport` metric label: `grpc` or `http`.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Grpc => "grpc",
            Transport::Http => "http",
        }
    }
}

/// The answer to a request that was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Items refused by decision (blocked); they must not be sent again.
    pub rejected: u64,
    /// A sentence for the client; empty when there is nothing to say.
    pub message: String,
}

/// Why a whole request was not taken. Messages never carry payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not well-formed OTLP: INVALID_ARGUMENT, 400. Never retried.
    #[error("{0}")]
    Malformed(String),
    /// Beyond a size or count limit: RESOURCE_EXHAUSTED without RetryInfo, 413. Never retried.
    #[error("{0}")]
    TooLarge(String),
    /// No room now: UNAVAILABLE with RetryInfo, 503 with Retry-After.
    #[error("{message}")]
    Overloaded {
        /// What is full, for a person.
        message: String,
        /// When to come back.
        retry_after: Duration,
    },
    /// No pipeline takes this signal: UNIMPLEMENTED, 404.
    #[error("no pipeline takes {}", .0.name())]
    NoPipeline(Signal),
    /// The destination refused it for good, or a limit of the configuration did: INTERNAL, 500. Never retried.
    #[error("{0}")]
    Undeliverable(String),
    /// A defect of ours: INTERNAL, 500.
    #[error("{0}")]
    Internal(String),
}

/// What receivers hand requests to.
pub trait Ingest: Send + Sync + 'static {
    /// Whether any pipeline takes this signal; receivers offer no service for others.
    fn takes(&self, signal: Signal) -> bool;

    /// Takes one export request in protobuf form. Resolves when the answer may be given.
    fn export(
        &self,
        signal: Signal,
        body: Bytes,
        origin: Origin,
    ) -> Pin<Box<dyn Future<Output = Result<Accepted, Refusal>> + Send + '_>>;
}

/// A masked request, ready to leave.
#[derive(Clone, Debug)]
pub struct Payload {
    /// Its signal.
    pub signal: Signal,
    /// A complete export request in protobuf form.
    pub bytes: Bytes,
    /// Spans, log records or metric data points in it.
    pub count: u64,
    /// The client's metadata, for batching by it.
    pub metadata: Metadata,
}

/// What the pipeline hands payloads to: an exporter with its queue.
pub trait Destination: Send + Sync + 'static {
    /// The exporter's id, such as `otlp_grpc/eu`.
    fn id(&self) -> &str;

    /// The room in its queue. The pipeline reserves at every destination before it enqueues at any.
    fn budget(&self) -> &Budget;

    /// What happens to a request when there is no room.
    fn on_full(&self) -> OnFull {
        OnFull::Refuse
    }

    /// Items that are larger than this many bytes never leave; the pipeline says so before it acknowledges.
    fn max_request_bytes(&self) -> usize {
        usize::MAX
    }

    /// Whether the answer waits for what becomes of a payload: [`Queued::reply`] is heard then.
    fn waits_for_result(&self) -> bool {
        false
    }

    /// Hears that a payload found no room, for its metrics. With [`OnFull::Drop`] it is lost for this destination.
    fn refused(&self, _payload: &Payload) {}

    /// Queues a payload; never blocks. The permit is from [`Destination::budget`], and goes when the payload has left.
    fn enqueue(&self, permit: Permit, payload: Payload);

    /// Queues payloads of one signal that may leave as one; never blocks.
    fn enqueue_all(&self, batch: Vec<Queued>) {
        batch.into_iter().for_each(|queued| self.enqueue(queued.permit, queued.payload));
    }

    /// Nobody waits for room from now on: the process stops, and what waits is refused, retryably.
    fn stop_waiting(&self) {
        self.budget().stop_waiting();
    }

    /// Items that would be lost if the process ended now: queued, in an open batch, being sent or being retried.
    fn left(&self) -> u64 {
        self.budget().items()
    }

    /// Stops taking payloads and resolves when what is queued has left or `deadline` has passed; answers how many
    /// items were given up.
    fn drain(&self, deadline: std::time::Instant) -> Pin<Box<dyn Future<Output = u64> + Send + '_>>;
}

/// What a destination at its bound does with a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// The whole request is refused, retryably; nothing is queued anywhere.
    #[default]
    Refuse,
    /// The request waits for room, for a while.
    Wait,
    /// The request is dropped for this destination alone, so that it holds up no other.
    Drop,
}
