//! Where an `otlp_grpc` exporter sends to (checklist E7, E10).

use crate::{config::ConfigError, net::listen::is_loopback};
use http::uri::{Authority, Scheme};
use std::path::PathBuf;

/// A parsed `endpoint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Plaintext or TLS.
    pub(super) scheme: Scheme,
    /// What the backend hears as `:authority`, unless `authority` says otherwise.
    pub(super) authority: Authority,
    pub(super) target: Target,
}

/// What is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A name with, perhaps, several addresses.
    Name { host: String, port: u16 },
    /// One address, or a name whose addresses are one thing (`passthrough:`).
    Address { host: String, port: u16 },
    /// A unix socket.
    Socket(PathBuf),
}

impl Endpoint {
    /// Whether what is sent goes in the clear to another machine.
    pub(super) fn is_exposed(&self) -> bool {
        self.scheme == Scheme::HTTP
            && match &self.target {
                Target::Name { host, .. } | Target::Address { host, .. } => !is_loopback(host),
                Target::Socket(_) => false,
            }
    }

    /// Reads `host:port`, which may have one of the prefixes the Collector takes. `https://` means TLS and `http://`
    /// plaintext; otherwise `insecure` decides.
    pub(super) fn parse(text: &str, insecure: bool) -> Result<Self, ConfigError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(ConfigError::new("", "requires a non-empty \"endpoint\""));
        }
        let by_key = if insecure { Scheme::HTTP } else { Scheme::HTTPS };
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Endpoint {
                scheme: by_key,
                authority: Authority::from_static("localhost"),
                target: Target::Socket(socket(path)?),
            });
        }
        let (address, scheme, balanced) = if let Some(rest) = text.strip_prefix("https://") {
            (rest.strip_suffix('/').unwrap_or(rest), Scheme::HTTPS, true)
        } else if let Some(rest) = text.strip_prefix("http://") {
            (rest.strip_suffix('/').unwrap_or(rest), Scheme::HTTP, true)
        } else if let Some(rest) = text.strip_prefix("passthrough://") {
            (behind_authority(rest)?, by_key, false)
        } else if let Some(rest) = text.strip_prefix("dns://") {
            (behind_authority(rest)?, by_key, true)
        } else {
            (text, by_key, true)
        };
        // Go dials an empty host as this machine.
        let address = if address.starts_with(':') { format!("localhost{address}") } else { address.to_owned() };
        let (host, port) = host_and_port(&address)?;
        let host = host.to_owned();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let target = match bare.parse::<std::net::IpAddr>() {
            Err(_) if balanced => Target::Name { host, port },
            _ => Target::Address { host, port },
        };
        let authority =
            Authority::try_from(address).map_err(|_| ConfigError::new("endpoint", "is not a valid host:port"))?;
        Ok(Endpoint { scheme, authority, target })
    }
}

/// `unix:path`, `unix:/path` and `unix:///path`.
fn socket(path: &str) -> Result<PathBuf, ConfigError> {
    let path = match path.strip_prefix("//") {
        None => path,
        Some(absolute) if absolute.is_empty() || absolute.starts_with('/') => absolute,
        Some(_) => return Err(ConfigError::new("endpoint", "a unix socket is unix:path or unix:///absolute/path")),
    };
    if path.trim_matches('/').is_empty() {
        return Err(ConfigError::new("endpoint", "unix socket path cannot be empty"));
    }
    // The system's own bound, with the zero behind it.
    if path.len() > 107 || path.contains('\0') {
        return Err(ConfigError::new("endpoint", "the path of a unix socket is at most 107 bytes long"));
    }
    Ok(PathBuf::from(path))
}

/// What follows the authority of `dns://authority/host:port`. Without a slash all of it is meant, as the Collector's
/// own exporter reads it.
fn behind_authority(rest: &str) -> Result<&str, ConfigError> {
    match rest.split_once('/') {
        None => Ok(rest),
        Some(("", address)) => Ok(address),
        Some(_) => Err(ConfigError::new("endpoint", "a name server in the endpoint is not supported")
            .with_hint("write dns:///host:port; the system's resolver is asked")),
    }
}

fn host_and_port(address: &str) -> Result<(&str, u16), ConfigError> {
    let invalid = |what: &str| Err(ConfigError::new("endpoint", what));
    if address.contains('@') {
        return invalid("must not carry a user or password; use 'headers'");
    }
    if address.contains("://") {
        return invalid("has an unknown scheme; use host:port, http://, https://, dns:///, passthrough:/// or unix:");
    }
    if address.contains('/') {
        return invalid("must be host:port without a path");
    }
    let (host, port) = match address.rsplit_once(':') {
        // The colons of a bare IPv6 address are not in front of a port.
        Some((host, port)) if host.contains(':') && !host.ends_with(']') && !port.ends_with(']') => {
            return invalid("too many colons in address; an IPv6 address needs brackets, as in [::1]:4317");
        }
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => return invalid("missing port in address"),
    };
    match port.parse() {
        Ok(number) => Ok((host, number)),
        Err(_) => {
            // Shown only where it can be nothing but a mistyped port.
            let shown = port.len() <= 10 && port.bytes().all(|b| b.is_ascii_alphanumeric());
            invalid(&if shown { format!("invalid port \"{port}\"") } else { "invalid port".to_owned() })
        }
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

    fn target(text: &str) -> Target {
        Endpoint::parse(text, true).unwrap().target
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
        assert_eq!(parsed("unix:///run/otel.sock", true), "http://localhost");
        assert_eq!(parsed("unix:///run/otel.sock", false), "https://localhost");
    }

    #[test]
    fn names_are_resolved_and_balanced_and_addresses_are_not() {
        let name = |host: &str| Target::Name { host: host.into(), port: 4317 };
        let address = |host: &str| Target::Address { host: host.into(), port: 4317 };
        assert_eq!(target("backend:4317"), name("backend"));
        assert_eq!(target("http://backend:4317"), name("backend"));
        assert_eq!(target("dns:///backend:4317"), name("backend"));
        assert_eq!(target("passthrough:///backend:4317"), address("backend"));
        assert_eq!(target("10.0.0.1:4317"), address("10.0.0.1"));
        assert_eq!(target("dns:///[::1]:4317"), address("[::1]"));
        for text in ["unix:///run/otel.sock", "unix:/run/otel.sock"] {
            assert_eq!(target(text), Target::Socket("/run/otel.sock".into()));
        }
        assert_eq!(target("unix:otel.sock"), Target::Socket("otel.sock".into()));
    }

    #[test]
    fn errors_are_the_collectors_where_it_has_one() {
        assert_eq!(error(""), "requires a non-empty \"endpoint\"");
        assert_eq!(error("localhost"), "endpoint: missing port in address");
        assert_eq!(error("https://backend"), "endpoint: missing port in address");
        assert_eq!(error("dns:///backend"), "endpoint: missing port in address");
        assert_eq!(error("[::1]"), "endpoint: missing port in address");
        assert_eq!(error("localhost:port"), "endpoint: invalid port \"port\"");
        assert_eq!(error("localhost:65536"), "endpoint: invalid port \"65536\"");
        for empty in ["unix://", "unix:", "unix:///"] {
            assert_eq!(error(empty), "endpoint: unix socket path cannot be empty");
        }
        assert!(error("unix://relative").contains("unix:///absolute/path"));
        assert!(error(&format!("unix:///{}", "x".repeat(107))).contains("107 bytes"));
        assert!(error("dns://9.9.9.9/backend:4317").contains("a name server in the endpoint"));
        assert!(error("::1:4317").contains("too many colons in address"));
        assert!(error("http://localhost:4317/v1/traces").contains("without a path"));
        assert!(error("ftp://localhost:4317").contains("unknown scheme"));
        assert!(error("xds:///backend:4317").contains("unknown scheme"));
    }

    #[test]
    fn a_password_in_the_endpoint_is_refused_and_not_repeated() {
        assert!(!error("http://user:hunter2@host:4317").contains("hunter2"));
        assert!(!error("user:hunter2@host").contains("hunter2"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_an_endpoint_or_an_error(text in "(unix:|dns://|passthrough://|https?://|)[/\\[\\]:@a-z0-9.%é -]{0,20}") {
            if let Ok(endpoint) = Endpoint::parse(&text, true) {
                proptest::prop_assert!(endpoint.target != Target::Socket(PathBuf::new()));
                proptest::prop_assert!(!endpoint.authority.as_str().contains('@'));
            }
        }
    }
}
