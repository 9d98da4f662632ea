//! What a client says beside its request, where `include_metadata` asks for it.

use super::auth::Gate;
use crate::pipeline::Metadata;
use http::{HeaderMap, HeaderValue, header, request::Parts};

/// Headers of a request together, in bytes, when they are to travel with it. They wait in queues that count payloads,
/// so they are held to what HTTP/2 allows anyway.
pub(super) const MAX_BYTES: usize = 16 * 1024;

/// The headers of a request, and its authority as `host`, as the Collector names them. They stay in memory and are
/// never shown. A server that authenticates keeps the credentials to itself, unlike the Collector: what a queue does not
/// have, it cannot give away.
pub(super) fn of(head: &Parts, gate: Option<&Gate>) -> Metadata {
    let mut headers = head.headers.clone();
    if !headers.contains_key(header::HOST)
        && let Some(host) = head.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok())
    {
        headers.insert(header::HOST, host);
    }
    if let Some(gate) = gate {
        gate.strip(&mut headers);
    }
    Metadata::new(headers)
}

/// Whether the headers are small enough to travel.
pub(super) fn fits(headers: &HeaderMap) -> bool {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>() <= MAX_BYTES
}
