//! Where masked requests leave.
//!
//! An exporter is a [`Sender`] that knows how to send one request, behind the one in-memory [`queue`] that all of them
//! share: bounds, batching, retry, splitting and draining are written once. [`debug`] and [`nop`] need no queue; they
//! never hold anything up.

use crate::{compression::Encoder, otlp::Signal};
use bytes::{Bytes, BytesMut};
use std::{borrow::Cow, future::Future, time::Duration};

mod auth;
mod client;
mod config;
pub mod debug;
pub mod file;
mod headers;
pub mod nop;
pub mod otlp_grpc;
pub mod otlp_http;
pub mod queue;
mod response;
pub mod retry;

pub use crate::net::tls::TlsClient;
pub use client::{ProxyEnvironment, Resolve, Surroundings, SystemResolver};
pub use config::{Later, Note};

/// Sends one request to one backend. Attempts, order and bounds are the queue's business.
pub trait Sender: Send + Sync + 'static {
    /// Sends `request` once.
    ///
    /// # Errors
    /// [`Failure`] says whether another attempt can help.
    fn send(&self, request: &Outgoing) -> impl Future<Output = Result<Sent, Failure>> + Send;

    /// Called once, after the last `send`: write out what is buffered.
    fn close(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// One export request about to leave: the concatenation of `parts`, which is how protobuf messages merge.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The signal of all parts.
    pub signal: Signal,
    /// The pieces, in order; each is a complete request.
    pub parts: Vec<Bytes>,
    /// Spans, log records or metric data points in it.
    pub count: u64,
}

impl Outgoing {
    /// Its length in bytes, uncompressed.
    pub fn len(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }

    /// Whether it has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(Bytes::is_empty)
    }

    /// All of it in one buffer; a copy only when there are several parts.
    pub fn to_bytes(&self) -> Bytes {
        match self.parts.as_slice() {
            [one] => one.clone(),
            parts => {
                let mut joined = BytesMut::with_capacity(self.len());
                parts.iter().for_each(|part| joined.extend_from_slice(part));
                joined.freeze()
            }
        }
    }
}

/// A request the backend took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Items the backend says it rejected (`partial_success`). They must not be sent again.
    pub rejected: u64,
}

/// Why a request was not taken. The texts are ours: what a backend writes is foreign and is not repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Another attempt may succeed.
    #[error("{what}")]
    Retryable {
        /// What happened.
        what: Cow<'static, str>,
        /// The backend asked not to come back earlier (`RetryInfo`, `Retry-After`).
        after: Option<Duration>,
    },
    /// The backend refused it and would again.
    #[error("{what}")]
    Refused {
        /// What happened.
        what: Cow<'static, str>,
    },
    /// It may have been taken, but the answer could not be read: sending it again would make duplicates
    /// (OTLP specification, "Server responses" and its size limit).
    #[error("{what}")]
    Unconfirmed {
        /// What happened.
        what: Cow<'static, str>,
    },
}

impl Failure {
    pub(crate) fn retryable(what: impl Into<Cow<'static, str>>) -> Self {
        Failure::Retryable { what: what.into(), after: None }
    }

    pub(crate) fn refused(what: impl Into<Cow<'static, str>>) -> Self {
        Failure::Refused { what: what.into() }
    }

    pub(crate) fn unconfirmed(what: impl Into<Cow<'static, str>>) -> Self {
        Failure::Unconfirmed { what: what.into() }
    }
}

/// Runs work that takes long on a thread where it holds nothing up. Its panic is the caller's.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Failure::retryable("the process is ending"),
    })
}

/// From this size on, compressing would hold up other work on the same thread for too long.
const COMPRESS_ELSEWHERE_FROM: usize = 128 * 1024;

/// Compresses a body; without an encoder it stays as it is.
async fn compress(parts: Vec<Bytes>, encoder: Option<Encoder>) -> Result<Vec<Bytes>, Failure> {
    let Some(encoder) = encoder else { return Ok(parts) };
    let len = parts.iter().map(Bytes::len).sum::<usize>();
    let compressed = if len < COMPRESS_ELSEWHERE_FROM {
        encoder.compress(&parts)
    } else {
        blocking(move || encoder.compress(&parts)).await?
    };
    compressed.map(|whole| vec![whole]).map_err(|_| Failure::refused("the request could not be compressed"))
}

/// What became of items given to an exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The backend took them.
    Sent,
    /// The backend took the request but rejected these (`partial_success`).
    Rejected,
    /// Given up after the backend refused them or retries ran out.
    SendFailed,
    /// Never given to the backend: a single item beyond the size limit, or left over at shutdown.
    Dropped,
}

/// Told what becomes of items; the service connects it to metrics and health.
pub trait Observer: Send + Sync + 'static {
    /// `items` of `signal` came to this end. Every item enqueued is reported exactly once.
    fn items(&self, outcome: Outcome, signal: Signal, items: u64);

    /// An attempt failed and will be repeated.
    fn retried(&self, _signal: Signal) {}

    /// A request of so many items and bytes (before compression) is being sent; [`Observer::answered`] follows.
    fn sending(&self, _items: u64, _bytes: usize) {}

    /// An attempt to send is over, however it ended.
    fn answered(&self) {}

    /// A worker panicked. It was restarted, and its items were counted as dropped; the process is not healthy.
    fn worker_panicked(&self);
}

/// Watches nothing.
impl Observer for () {
    fn items(&self, _outcome: Outcome, _signal: Signal, _items: u64) {}
    fn worker_panicked(&self) {}
}
