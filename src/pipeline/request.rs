//! One received export request: its bytes as they came, and what the walk found in them.

use super::{Origin, Refusal};
use crate::otlp::{Bounds, Index, Signal, walk};
use bytes::Bytes;

/// A received request. Stages read it; nobody changes it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its signal.
    pub signal: Signal,
    /// The protobuf bytes as received.
    pub bytes: Bytes,
    /// Where its text, items and resources stand.
    pub index: Index,
    /// Where it came from.
    pub origin: Origin,
}

impl Request {
    /// Reads a request strictly.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] for broken framing, [`Refusal::TooLarge`] beyond `bounds`.
    pub fn read(signal: Signal, bytes: Bytes, origin: Origin, bounds: &Bounds) -> Result<Request, Refusal> {
        let index = walk(signal, &bytes, bounds).map_err(|error| match error.over_bounds {
            true => Refusal::TooLarge(error.to_string()),
            false => Refusal::Malformed(error.to_string()),
        })?;
        Ok(Request { signal, bytes, index, origin })
    }

    /// The received bytes of a leaf, a key or any other range the index names.
    pub fn text(&self, start: u32, len: u32) -> &[u8] {
        let start = start as usize;
        self.bytes.get(start..start + len as usize).unwrap_or_default()
    }
}
