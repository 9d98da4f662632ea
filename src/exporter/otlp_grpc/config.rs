//! The Collector's `otlp_grpc` exporter in YAML.

use super::endpoint::Endpoint;
use crate::{
    compression::{Compression, Encoder},
    config::{
        ConfigError,
        types::{ByteSize, Duration, present},
    },
    exporter::{
        Later, TlsClient,
        client::{Connections, Pings, Protocol},
        headers::{Headers, Kind},
        queue::{MAX_REQUEST_BYTES, QueueConfig},
        retry::RetryConfig,
    },
};
use http::HeaderValue;
use serde::Deserialize;

/// `exporters: otlp_grpc:`, with the Collector's keys and defaults.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `host:port`, optionally with `http://` (plaintext) or `https://` (TLS) in front.
    pub endpoint: String,
    /// Time for one attempt; 0 means no limit.
    pub timeout: Duration,
    /// `gzip` (default), `snappy`, `zstd` or `none`.
    pub compression: Compression,
    /// Whom to trust, and as whom to appear.
    pub tls: TlsClient,
    /// Metadata sent with every request.
    pub headers: Headers,
    /// What the backend sees as the client's name.
    pub user_agent: Option<String>,
    /// HTTP/2 pings beyond our own.
    #[serde(deserialize_with = "present")]
    pub keepalive: Option<Keepalive>,
    /// The queue in front.
    pub sending_queue: QueueConfig,
    /// When to try again.
    pub retry_on_failure: RetryConfig,
    /// No request sent is larger before compression; larger ones are split, and a single item beyond it is dropped.
    pub max_request_bytes: ByteSize,
    /// `pick_first` is what we do.
    pub balancer_name: Option<String>,
    /// Not supported yet when true.
    pub wait_for_ready: bool,
    read_buffer_size: Option<Later>,
    write_buffer_size: Option<Later>,
    authority: Option<Later>,
    auth: Option<Later>,
    middlewares: Option<Later>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            endpoint: String::new(),
            timeout: Duration::secs(5),
            compression: Compression::default(),
            tls: TlsClient::default(),
            headers: Headers::default(),
            user_agent: None,
            keepalive: None,
            sending_queue: QueueConfig::default(),
            retry_on_failure: RetryConfig::default(),
            max_request_bytes: MAX_REQUEST_BYTES,
            balancer_name: None,
            wait_for_ready: false,
            read_buffer_size: None,
            write_buffer_size: None,
            authority: None,
            auth: None,
            middlewares: None,
        }
    }
}

/// The Collector's `keepalive` of a gRPC client.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keepalive {
    /// Time without a frame after which a ping is sent. gRPC's own minimum of 10 s applies.
    pub time: Duration,
    /// Time without an answer after which the connection is closed.
    pub timeout: Duration,
    /// Ping also while no request is under way. Servers may close connections of clients that do.
    pub permit_without_stream: bool,
}

impl Default for Keepalive {
    fn default() -> Self {
        Keepalive { time: Duration::secs(10), timeout: Duration::secs(10), permit_without_stream: false }
    }
}

impl Config {
    /// Checks everything that can be checked without a file or the network.
    ///
    /// # Errors
    /// [`ConfigError`] with its path below the exporter, and the Collector's text where it has one.
    pub fn validate(&self) -> Result<(), ConfigError> {
        Endpoint::parse(&self.endpoint, self.tls.insecure)?;
        self.tls.validate()?;
        self.headers.to_map(Kind::Grpc)?;
        self.user_agent()?;
        self.encoder()?;
        self.retry_on_failure.validate()?;
        self.sending_queue.validate()?;
        if self.max_request_bytes.0 == 0 {
            return Err(ConfigError::new("max_request_bytes", "must be positive"));
        }
        if self.wait_for_ready {
            return Err(ConfigError::new("wait_for_ready", "this is not supported yet")
                .with_hint("requests are retried while the backend is away; remove the key"));
        }
        match self.balancer_name.as_deref() {
            None | Some("" | "pick_first") => Ok(()),
            Some("round_robin") => Err(ConfigError::new("balancer_name", "round_robin is not supported yet")
                .with_hint("all requests share one connection; remove the key or say pick_first")),
            Some(name) => Err(ConfigError::new("balancer_name", format!("invalid balancer_name: {name}"))),
        }
    }

    pub(super) fn encoder(&self) -> Result<Option<Encoder>, ConfigError> {
        self.compression.for_grpc().map_err(|text| ConfigError::new("compression", text))
    }

    pub(super) fn user_agent(&self) -> Result<Option<HeaderValue>, ConfigError> {
        let Some(text) = self.user_agent.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
        let value = HeaderValue::from_str(text)
            .map_err(|_| ConfigError::new("user_agent", "has characters that headers cannot carry"))?;
        Ok(Some(value))
    }

    pub(super) fn connections(&self, secure: bool) -> Connections {
        let pings = self.keepalive.as_ref().map_or_else(Pings::default, |keepalive| Pings {
            every: keepalive.time.get().max(std::time::Duration::from_secs(10)),
            timeout: keepalive.timeout.get(),
            while_idle: keepalive.permit_without_stream,
        });
        Connections { protocol: Protocol::Http2, pings, max_idle_per_host: usize::MAX, idle_timeout: None, secure }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(value: Value) -> Result<Config, serde_json::Error> {
        serde_json::from_value(value)
    }

    fn error(value: Value) -> String {
        read(value).unwrap().validate().unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_the_collectors() {
        let config = read(json!({"endpoint": "localhost:4317"})).unwrap();
        config.validate().unwrap();
        assert_eq!(config.timeout, Duration::secs(5));
        assert_eq!(config.compression, Compression::default());
        assert!(config.sending_queue.enabled && config.retry_on_failure.enabled && !config.tls.insecure);
        assert_eq!(read(json!({"keepalive": {}})).unwrap().keepalive, Some(Keepalive::default()));
    }

    #[test]
    fn errors_name_the_key() {
        assert_eq!(error(json!({})), "requires a non-empty \"endpoint\"");
        let with = |key: &str, value: Value| error(json!({"endpoint": "localhost:4317", key: value}));
        assert_eq!(with("balancer_name", json!("best")), "balancer_name: invalid balancer_name: best");
        assert!(with("balancer_name", json!("round_robin")).starts_with("balancer_name: round_robin is not supported"));
        assert!(with("wait_for_ready", json!(true)).starts_with("wait_for_ready: this is not supported yet"));
        assert!(with("tls", json!({"include_insecure_cipher_suites": true})).starts_with("tls::include_insecure_"));
        assert!(with("user_agent", json!("a\nb")).starts_with("user_agent: "));
        assert!(with("compression", json!("lz4")).starts_with("compression: unsupported compression type \"lz4\""));
        assert!(with("max_request_bytes", json!(0)).starts_with("max_request_bytes: "));
    }

    #[test]
    fn what_comes_later_and_what_never_existed_is_refused() {
        for key in ["auth", "authority", "middlewares", "read_buffer_size", "write_buffer_size"] {
            let error = read(json!({"endpoint": "localhost:4317", key: 1})).unwrap_err().to_string();
            assert!(error.contains("not supported yet"), "{key}: {error}");
        }
        assert!(read(json!({"endpont": "localhost:4317"})).is_err());
        assert!(read(json!({"tls": {"reload_often": "1m"}})).is_err());
    }
}
