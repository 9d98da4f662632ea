//! What the balancer, which connects ahead of requests, hands to the dialler.

use hyper_util::rt::TokioIo;
use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::net::TcpStream;

/// A connection made ahead of the request that uses it.
pub(in crate::exporter) struct Warm {
    stream: Mutex<Option<TokioIo<TcpStream>>>,
    stale: Arc<AtomicBool>,
}

impl fmt::Debug for Warm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Warm").finish_non_exhaustive()
    }
}

impl Warm {
    /// Without a connection. `stale` is set when one is missing.
    pub(super) fn new(stale: Arc<AtomicBool>) -> Self {
        Warm { stream: Mutex::default(), stale }
    }

    /// Keeps a connection for the next request.
    pub(super) fn put(&self, stream: TokioIo<TcpStream>) {
        *self.stream.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
    }

    /// The connection made ahead. Without one, an earlier one has been used and lost.
    pub(super) fn take(&self) -> Option<TokioIo<TcpStream>> {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        if stream.is_none() {
            self.stale.store(true, Ordering::Relaxed);
        }
        stream
    }
}
