//! Where an `otlp_http` exporter sends to (checklist E7).

use super::Config;
use crate::{config::ConfigError, otlp::Signal};
use http::{Uri, uri::Scheme};

/// One address per signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoints {
    traces: Option<Uri>,
    logs: Option<Uri>,
    metrics: Option<Uri>,
}

impl Endpoints {
    /// `endpoint` with the signal's path appended, unless the signal has an endpoint of its own, used as it is.
    pub(super) fn of(config: &Config) -> Result<Self, ConfigError> {
        let own = [&config.traces_endpoint, &config.logs_endpoint, &config.metrics_endpoint, &config.profiles_endpoint];
        if config.endpoint.is_empty() && own.iter().all(|endpoint| endpoint.is_empty()) {
            return Err(ConfigError::new("", "at least one endpoint must be specified"));
        }
        let one = |signal: Signal, own: &str| {
            if !own.is_empty() {
                return parse(&format!("{}_endpoint", signal.name()), own).map(Some);
            }
            if config.endpoint.is_empty() {
                return Ok(None);
            }
            let base = parse("endpoint", &config.endpoint)?;
            if base.query().is_some() {
                let what = "must not have a query, because the signal's path is appended";
                return Err(ConfigError::new("endpoint", what));
            }
            let whole = format!("{}{}", config.endpoint.trim().trim_end_matches('/'), signal.http_path());
            parse("endpoint", &whole).map(Some)
        };
        Ok(Endpoints {
            traces: one(Signal::Traces, &config.traces_endpoint)?,
            logs: one(Signal::Logs, &config.logs_endpoint)?,
            metrics: one(Signal::Metrics, &config.metrics_endpoint)?,
        })
    }

    /// Whether any of them is `https://`.
    pub(super) fn secure(&self) -> bool {
        self.all().any(|uri| uri.scheme() == Some(&Scheme::HTTPS))
    }

    /// Those there are.
    pub(super) fn all(&self) -> impl Iterator<Item = &Uri> {
        [&self.traces, &self.logs, &self.metrics].into_iter().flatten()
    }

    pub(super) fn get(&self, signal: Signal) -> Option<&Uri> {
        match signal {
            Signal::Traces => self.traces.as_ref(),
            Signal::Logs => self.logs.as_ref(),
            Signal::Metrics => self.metrics.as_ref(),
        }
    }
}

fn parse(key: &str, text: &str) -> Result<Uri, ConfigError> {
    let invalid = |what: &str| Err(ConfigError::new(key, what));
    let Ok(uri) = text.trim().parse::<Uri>() else { return invalid("endpoint must be a valid URL") };
    match uri.scheme_str() {
        Some("http" | "https") => {}
        _ => return invalid("endpoint must be a valid URL that begins with http:// or https://"),
    }
    match uri.authority() {
        Some(authority) if authority.as_str().contains('@') => {
            invalid("must not carry a user or password; use 'headers'")
        }
        Some(authority) if authority.host().is_empty() => invalid("endpoint must be a valid URL with a host"),
        Some(authority) if authority.port().is_none() && authority.as_str() != authority.host() => {
            invalid("endpoint must be a valid URL, with a port up to 65535")
        }
        None => invalid("endpoint must be a valid URL with a host"),
        Some(_) => Ok(uri),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn endpoints(endpoint: &str, traces: &str) -> Result<Endpoints, ConfigError> {
        let config = serde_json::json!({"endpoint": endpoint, "traces_endpoint": traces});
        Endpoints::of(&serde_json::from_value::<Config>(config).unwrap())
    }

    #[test]
    fn the_signals_path_is_appended_to_the_endpoint() {
        for base in ["http://localhost:4318", "http://localhost:4318/"] {
            let endpoints = endpoints(base, "").unwrap();
            assert_eq!(endpoints.get(Signal::Traces).unwrap(), "http://localhost:4318/v1/traces");
            assert_eq!(endpoints.get(Signal::Logs).unwrap(), "http://localhost:4318/v1/logs");
            assert_eq!(endpoints.get(Signal::Metrics).unwrap(), "http://localhost:4318/v1/metrics");
        }
        let nested = endpoints("https://backend/otlp/", "").unwrap();
        assert_eq!(nested.get(Signal::Traces).unwrap(), "https://backend/otlp/v1/traces");
    }

    #[test]
    fn a_signals_own_endpoint_is_used_as_it_is() {
        let both = endpoints("http://a:1", "http://b:2/ingest?x=1").unwrap();
        assert_eq!(both.get(Signal::Traces).unwrap(), "http://b:2/ingest?x=1");
        assert_eq!(both.get(Signal::Logs).unwrap(), "http://a:1/v1/logs");
        assert_eq!(endpoints("", "http://b:2").unwrap().get(Signal::Logs), None);
    }

    #[test]
    fn errors_name_the_key_and_never_a_password() {
        let error = |endpoint: &str, traces: &str| endpoints(endpoint, traces).unwrap_err().to_string();
        assert_eq!(error("", ""), "at least one endpoint must be specified");
        assert!(error("localhost:4318", "").starts_with("endpoint: endpoint must be a valid URL"));
        assert!(error("ftp://localhost", "").starts_with("endpoint: "));
        assert!(error("", "http://").starts_with("traces_endpoint: "));
        assert!(error("http://a/?q=1", "").contains("query"));
        assert!(error("http://a:99999", "").contains("port"));
        assert!(error("unix:///run/otel.sock", "").contains("must be a valid URL"));
        assert!(!error("http://user:hunter2@host", "").contains("hunter2"));
    }
}
