//! What a client said beside its request: the headers of the call, where a receiver's `include_metadata` asks for them.

use http::HeaderMap;
use std::{fmt, sync::Arc};

/// The client's metadata: gRPC metadata or HTTP headers. Cheap to clone; empty unless the receiver includes it.
///
/// It carries credentials at times, so it is never shown: `Debug` tells only how many entries there are.
#[derive(Clone, Default)]
pub struct Metadata(Option<Arc<HeaderMap>>);

impl Metadata {
    /// The headers of a call.
    pub fn new(headers: HeaderMap) -> Self {
        Metadata((!headers.is_empty()).then(|| Arc::new(headers)))
    }

    /// The values under `key`, in the order they came. Keys do not tell capitals from small letters.
    pub fn get_all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().flat_map(move |headers| headers.get_all(key).iter().map(|value| value.as_bytes()))
    }

    /// Whether nothing was included.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Metadata({} entries)", self.0.as_ref().map_or(0, |headers| headers.len()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_in_any_case_and_never_shown() {
        let mut headers = HeaderMap::new();
        headers.append("x-tenant", "blue".parse().unwrap());
        headers.append("x-tenant", "green".parse().unwrap());
        let metadata = Metadata::new(headers);
        assert_eq!(metadata.get_all("X-Tenant").collect::<Vec<_>>(), [&b"blue"[..], b"green"]);
        assert_eq!(metadata.get_all("other").count(), 0);
        assert_eq!(format!("{metadata:?}"), "Metadata(2 entries)");
        assert!(Metadata::new(HeaderMap::new()).is_empty());
    }
}
