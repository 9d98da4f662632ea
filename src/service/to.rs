//! `--to ENDPOINT`: the default pipelines with a backend in place of the printer, still without a file.

use crate::config::{ConfigError, Source};

/// The Collector's port for OTLP over HTTP; every other port is taken for gRPC.
const HTTP_PORT: &str = "4318";

/// The default configuration, forwarding to `endpoint`.
///
/// # Errors
/// When the endpoint leaves open whether the connection may be in the clear.
pub fn forwarding_to(endpoint: &str) -> Result<Vec<Source>, ConfigError> {
    let target = Target::parse(endpoint)?;
    // A null section erases what the default has there; the printer would only be configured for nothing.
    let erase = Source::Yaml("exporters:".into());
    Ok(vec![super::default_config(), erase, Source::Yaml(target.yaml())])
}

#[derive(Debug, PartialEq, Eq)]
struct Target {
    http: bool,
    plaintext: bool,
    loopback: bool,
    /// With scheme for HTTP, without for gRPC.
    endpoint: String,
}

impl Target {
    fn parse(endpoint: &str) -> Result<Target, ConfigError> {
        let error = |message: &str, hint: &str| Err(ConfigError::new("--to", message).with_hint(hint));
        let (scheme, rest) = match endpoint.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None => ("", endpoint),
        };
        let (authority, path) = rest.split_once('/').map_or((rest, None), |(authority, path)| (authority, Some(path)));
        if authority.contains('@') {
            return error("an endpoint must not carry credentials", "use a configuration file with headers");
        }
        let Some((host, port)) = authority.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()) else {
            return error("missing port", "write host:4317, or http://host:4318");
        };
        let loopback = is_loopback(host);
        let plaintext = match scheme {
            "http" => true,
            "https" => false,
            "" if loopback => true,
            "" => return error("TLS or not?", "write https://host:port for TLS, or http://host:port for plaintext"),
            _ => return error("unknown scheme", "write http:// or https://"),
        };
        let http = path.is_some() || port == HTTP_PORT;
        let scheme = if plaintext { "http" } else { "https" };
        let endpoint = match (http, path.unwrap_or_default()) {
            (true, "") => format!("{scheme}://{authority}"),
            (true, path) => format!("{scheme}://{authority}/{path}"),
            (false, _) => authority.to_owned(),
        };
        Ok(Target { http, plaintext, loopback, endpoint })
    }

    fn yaml(&self) -> String {
        // JSON strings are YAML strings.
        let endpoint = serde_json::Value::from(self.endpoint.as_str());
        let id = if self.http { "otlp_http" } else { "otlp_grpc" };
        let tls = if self.http { String::new() } else { format!(", tls: {{insecure: {}}}", self.plaintext) };
        // Compression costs more than everything else together and saves nothing on the way to the same machine.
        let compression = if self.loopback { ", compression: none" } else { "" };
        let pipelines = ["traces", "logs", "metrics"].map(|signal| format!("{signal}: {{exporters: [{id}]}}"));
        format!(
            "exporters: {{{id}: {{endpoint: {endpoint}{tls}{compression}}}}}\nservice: {{pipelines: {{{}}}}}\n",
            pipelines.join(", ")
        )
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn target(endpoint: &str) -> (bool, bool, String) {
        let target = Target::parse(endpoint).unwrap();
        (target.http, target.plaintext, target.endpoint)
    }

    #[test]
    fn protocol_and_encryption_follow_from_the_endpoint() {
        assert_eq!(target("localhost:14317"), (false, true, "localhost:14317".into()));
        assert_eq!(target("http://10.0.0.7:4317"), (false, true, "10.0.0.7:4317".into()));
        assert_eq!(target("https://otlp.example:443"), (false, false, "otlp.example:443".into()));
        assert_eq!(target("http://[::1]:4318"), (true, true, "http://[::1]:4318".into()));
        assert_eq!(target("http://localhost:6006/"), (true, true, "http://localhost:6006".into()));
        assert_eq!(target("https://x.example:443/api/otel"), (true, false, "https://x.example:443/api/otel".into()));
    }

    #[test]
    fn an_endpoint_that_leaves_things_open_is_refused() {
        for (endpoint, says) in [
            ("backend.example:4317", "TLS or not"),
            ("localhost", "missing port"),
            ("ftp://localhost:4317", "unknown scheme"),
            ("http://user:secret@localhost:4318", "credentials"),
        ] {
            let error = Target::parse(endpoint).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("secret@"), "{error}");
        }
    }
}
