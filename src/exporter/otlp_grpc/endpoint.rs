//! Where an `otlp_grpc` exporter sends to (checklist E7, E10).

use crate::config::ConfigError;
use http::uri::{Authority, Scheme};

/// A parsed `endpoint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
}

impl Endpoint {
    /// Reads `host:port`, which may have one of the prefixes the Collector takes. `https://` means TLS and `http://`
    /// plaintext; otherwise `insecure` decides.
    pub(super) fn parse(text: &str, insecure: bool) -> Result<Self, ConfigError> {
        let invalid = |what: &str| ConfigError::new("endpoint", what);
        let text = text.trim();
        if text.is_empty() {
            return Err(ConfigError::new("", "requires a non-empty \"endpoint\""));
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return Err(match path.trim_start_matches('/') {
                "" => invalid("unix socket path cannot be empty"),
                _ => invalid("unix sockets are not supported yet; use host:port"),
            });
        }
        let (address, scheme) = if let Some(rest) = text.strip_prefix("https://") {
            (rest.strip_suffix('/').unwrap_or(rest), Scheme::HTTPS)
        } else if let Some(rest) = text.strip_prefix("http://") {
            (rest.strip_suffix('/').unwrap_or(rest), Scheme::HTTP)
        } else {
            let target = ["dns://", "passthrough://"].iter().find_map(|prefix| text.strip_prefix(prefix));
            let address = target.map_or(text, |target| target.strip_prefix('/').unwrap_or(target));
            (address, if insecure { Scheme::HTTP } else { Scheme::HTTPS })
        };
        if address.contains('@') {
            return Err(invalid("must not carry a user or password; use 'headers'"));
        }
        if address.contains("://") {
            return Err(invalid("has an unknown scheme; use host:port, http:// or https://"));
        }
        if address.contains('/') {
            return Err(invalid("must be host:port without a path"));
        }
        let port = match address.rsplit_once(':') {
            // The colons of a bare IPv6 address are not in front of a port.
            Some((host, port)) if host.contains(':') && !host.ends_with(']') && !port.ends_with(']') => {
                return Err(invalid("an IPv6 address needs brackets, as in [::1]:4317"));
            }
            Some((_, port)) if !port.ends_with(']') => port,
            _ => return Err(invalid("missing port in address")),
        };
        if port.parse::<u16>().is_err() {
            // Shown only where it can be nothing but a mistyped port.
            let shown = port.len() <= 10 && port.bytes().all(|b| b.is_ascii_alphanumeric());
            let what = if shown { format!("invalid port \"{port}\"") } else { "invalid port".to_owned() };
            return Err(ConfigError::new("endpoint", what));
        }
        // Go dials an empty host as this machine.
        let address = if address.starts_with(':') { format!("localhost{address}") } else { address.to_owned() };
        let authority = Authority::try_from(address).map_err(|_| invalid("is not a valid host:port"))?;
        Ok(Endpoint { scheme, authority })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parsed(text: &str, insecure: bool) -> String {
        let endpoint = Endpoint::parse(text, insecure).unwrap();
        format!("{}://{}", endpoint.scheme, endpoint.authority)
    }

    fn error(text: &str) -> String {
        Endpoint::parse(text, true).unwrap_err().to_string()
    }

    #[test]
    fn the_scheme_decides_about_tls_then_insecure() {
        assert_eq!(parsed("localhost:4317", true), "http://localhost:4317");
        assert_eq!(parsed("localhost:4317", false), "https://localhost:4317");
        assert_eq!(parsed("http://localhost:4317/", false), "http://localhost:4317");
        assert_eq!(parsed("https://backend:443", true), "https://backend:443");
        assert_eq!(parsed("dns:///backend:4317", true), "http://backend:4317");
        assert_eq!(parsed("dns://backend:4317", true), "http://backend:4317");
        assert_eq!(parsed("passthrough:///10.0.0.1:4317", true), "http://10.0.0.1:4317");
        assert_eq!(parsed("[::1]:4317", true), "http://[::1]:4317");
        assert_eq!(parsed(":4317", true), "http://localhost:4317");
    }

    #[test]
    fn errors_are_the_collectors_where_it_has_one() {
        assert_eq!(error(""), "requires a non-empty \"endpoint\"");
        assert_eq!(error("localhost"), "endpoint: missing port in address");
        assert_eq!(error("https://backend"), "endpoint: missing port in address");
        assert_eq!(error("[::1]"), "endpoint: missing port in address");
        assert_eq!(error("localhost:port"), "endpoint: invalid port \"port\"");
        assert_eq!(error("localhost:65536"), "endpoint: invalid port \"65536\"");
        assert_eq!(error("unix://"), "endpoint: unix socket path cannot be empty");
        assert!(error("unix:///run/otel.sock").contains("not supported yet"));
        assert!(error("::1:4317").contains("brackets"));
        assert!(error("http://localhost:4317/v1/traces").contains("without a path"));
        assert!(error("ftp://localhost:4317").contains("unknown scheme"));
    }

    #[test]
    fn a_password_in_the_endpoint_is_refused_and_not_repeated() {
        assert!(!error("http://user:hunter2@host:4317").contains("hunter2"));
        assert!(!error("user:hunter2@host").contains("hunter2"));
    }
}
