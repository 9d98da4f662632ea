//! Configured request headers: often credentials, so values are opaque and marked sensitive.

use crate::config::ConfigError;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};

pub use crate::config::MapList as Headers;

/// Which protocol the headers go with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Grpc,
    Http,
}

/// Headers that belong to the protocols; a configured value would break the request.
const OURS: [&str; 8] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
];

impl Headers {
    /// As they are sent.
    pub(super) fn to_map(&self, kind: Kind) -> Result<HeaderMap, ConfigError> {
        let mut map = HeaderMap::with_capacity(self.0.len());
        for (name, value) in &self.0 {
            let invalid = |what: &str| ConfigError::at(&["headers", name], what);
            let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid("is not a valid header name"))?;
            let grpc = kind == Kind::Grpc;
            if OURS.contains(&header.as_str()) || (grpc && header.as_str().starts_with("grpc-")) {
                return Err(invalid("is set by the exporter itself; remove it"));
            }
            if grpc && header == http::header::HOST {
                return Err(invalid("has a key of its own: authority"));
            }
            if grpc && header == http::header::USER_AGENT {
                return Err(invalid("has a key of its own: user_agent"));
            }
            // Binary metadata travels in base64 (gRPC over HTTP/2, "Custom-Metadata").
            let encoded = (grpc && header.as_str().ends_with("-bin")).then(|| STANDARD.encode(value.expose()));
            let mut value = HeaderValue::from_str(encoded.as_deref().unwrap_or(value.expose()))
                .map_err(|_| invalid("has a value with characters that headers cannot carry"))?;
            value.set_sensitive(true);
            map.append(header, value);
        }
        Ok(map)
    }
}

/// How we introduce ourselves.
pub(super) fn user_agent() -> HeaderValue {
    const PRODUCT: &str = concat!("tracegate/", env!("CARGO_PKG_VERSION"));
    let text = format!("{PRODUCT} ({}/{})", std::env::consts::OS, std::env::consts::ARCH);
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(PRODUCT))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: serde_json::Value) -> Headers {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_map_and_a_list_mean_the_same() {
        let map = read(json!({"X-Scope-OrgID": "tenant"}));
        assert_eq!(map, read(json!([{"name": "X-Scope-OrgID", "value": "tenant"}])));
        assert_eq!(map.to_map(Kind::Grpc).unwrap()["x-scope-orgid"], "tenant");
    }

    #[test]
    fn values_are_never_shown() {
        let headers = read(json!({"authorization": "Bearer hunter2", "bad": "hunter2\n"}));
        assert!(!format!("{headers:?}").contains("hunter2"));
        assert!(!headers.to_map(Kind::Http).unwrap_err().to_string().contains("hunter2"));
        let good = read(json!({"authorization": "Bearer hunter2"})).to_map(Kind::Http).unwrap();
        assert!(!format!("{good:?}").contains("hunter2"));
    }

    #[test]
    fn the_protocols_own_headers_are_refused() {
        for (kind, name) in [(Kind::Grpc, "grpc-timeout"), (Kind::Http, "Content-Type"), (Kind::Grpc, "TE")] {
            let error = read(json!({ name: "x" })).to_map(kind).unwrap_err().to_string();
            assert_eq!(error, format!("headers::{name}: is set by the exporter itself; remove it"));
        }
        assert!(read(json!({"grpc-timeout": "x"})).to_map(Kind::Http).is_ok());
    }

    #[test]
    fn binary_metadata_is_sent_in_base64() {
        assert_eq!(read(json!({"trace-bin": "abc"})).to_map(Kind::Grpc).unwrap()["trace-bin"], "YWJj");
    }
}
