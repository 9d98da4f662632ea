//! What both servers share: room for requests, turns for heavy work, and the way into the pipeline.

use super::{
    Observer,
    body::charge,
    fault::{Fault, no_pipeline},
    inflate::{self, INLINE_BYTES},
};
use crate::{
    auth::Principal,
    compression::Algorithm,
    otlp::{Bounds, Signal, json},
    pipeline::{Accepted, Budget, Ingest, Metadata, Origin, Permit, Refusal, Transport},
};
use bytes::Bytes;
use std::{convert::Infallible, net::SocketAddr, sync::Arc};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, timeout_at},
};

/// Requests in hand at one time, over both servers, whatever their size.
pub(super) const MAX_REQUESTS: u64 = 16 * 1024;

/// What is known of a request beside its body.
pub(super) struct From {
    /// How it arrived.
    pub(super) transport: Transport,
    /// The peer's address; a unix socket has none.
    pub(super) peer: Option<SocketAddr>,
    /// What the client said beside it, where that is included.
    pub(super) metadata: Metadata,
    /// Who sends it, where that is asked.
    pub(super) principal: Option<Arc<Principal>>,
    /// When the client stops waiting for the answer.
    pub(super) deadline: Option<Instant>,
}

/// The receiver's side of the pipeline.
pub(super) struct Intake {
    /// The receiver's id.
    pub(super) receiver: Arc<str>,
    /// Where requests go.
    pub(super) ingest: Arc<dyn Ingest>,
    /// Bytes of requests in hand.
    pub(super) budget: Budget,
    /// Turns for decompression and conversion.
    pub(super) workers: Arc<Semaphore>,
    /// Told of requests that never reach the pipeline.
    pub(super) observer: Observer,
    /// Cloned by whoever still has work to do; the receiver waits until every clone is gone.
    pub(super) alive: mpsc::WeakSender<Infallible>,
}

impl Intake {
    /// A place for one request. It grows with the request and is held until the answer.
    pub(super) fn admit(&self) -> Result<Permit, Fault> {
        self.budget.try_reserve(0).map_err(Fault::full)
    }

    /// Decompresses to at most `limit` bytes.
    pub(super) async fn inflate(
        &self,
        algorithm: Algorithm,
        packed: Bytes,
        permit: Permit,
        limit: usize,
    ) -> Result<(Bytes, Permit), Fault> {
        inflate::inflate(&self.workers, algorithm, packed, permit, limit).await
    }

    /// Turns an OTLP/JSON request into protobuf of at most `limit` bytes.
    pub(super) async fn convert(
        &self,
        signal: Signal,
        text: Bytes,
        mut permit: Permit,
        limit: usize,
    ) -> Result<(Bytes, Permit), Fault> {
        // Protobuf is nearly always the shorter form.
        charge(&mut permit, text.len() as u64)?;
        let large = text.len() > INLINE_BYTES;
        let work = move || match json::to_protobuf(signal, &text, &Bounds::default()) {
            // The exception is lists of doubles of one digit: two characters become eight bytes.
            Ok(bytes) if bytes.len() > limit => Err(Fault::too_large(limit)),
            Ok(bytes) => {
                charge(&mut permit, bytes.len().saturating_sub(text.len()) as u64)?;
                Ok((Bytes::from(bytes), permit))
            }
            Err(error) if error.over_bounds => Err(Fault::Refused(Refusal::TooLarge(error.to_string()))),
            Err(error) => Err(Fault::Refused(Refusal::Malformed(format!("not an OTLP/JSON export request: {error}")))),
        };
        if large { inflate::blocking(inflate::turn(&self.workers).await?, work).await } else { work() }
    }

    /// Hands a protobuf request to the pipeline and waits for its answer. The work goes on to its end even if the
    /// client breaks off meanwhile; the permit is held that long. Only at the deadline the client has set is it given
    /// up: nobody waits for it any more, and the client sends the request again.
    pub(super) async fn export(
        &self,
        signal: Signal,
        body: Bytes,
        permit: Permit,
        from: From,
    ) -> Result<Accepted, Fault> {
        if !self.ingest.takes(signal) {
            return Err(no_pipeline(signal));
        }
        if body.is_empty() {
            // A request without telemetry succeeds and is nobody's business (OTLP specification, "OTLP/gRPC").
            return Ok(Accepted::default());
        }
        let From { transport, peer, metadata, principal, deadline } = from;
        let origin = Origin { receiver: self.receiver.clone(), transport, peer, metadata, principal };
        let (ingest, alive) = (self.ingest.clone(), self.alive.upgrade());
        let mut work = tokio::spawn(async move {
            let _held = (permit, alive);
            ingest.export(signal, body, origin).await
        });
        let done = match deadline {
            None => work.await,
            Some(deadline) => match timeout_at(deadline, &mut work).await {
                Ok(done) => done,
                Err(_) => {
                    work.abort();
                    (self.observer)(signal, transport, Fault::Deadline.kind());
                    return Err(Fault::Deadline);
                }
            },
        };
        match done {
            Ok(answer) => answer.map_err(Fault::Refused),
            Err(_) => Err(Fault::Refused(Refusal::Internal("the request could not be processed".to_owned()))),
        }
    }
}
