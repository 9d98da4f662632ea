//! The Collector's `otlp_http` exporter in YAML.

use super::endpoint::Endpoints;
use crate::{
    compression::{Compression, Encoder},
    config::{
        ConfigError,
        types::{ByteSize, Duration},
    },
    exporter::{
        Later, TlsClient,
        client::{Connections, Pings, Protocol},
        headers::{Headers, Kind},
        queue::{MAX_REQUEST_BYTES, QueueConfig},
        retry::RetryConfig,
    },
};
use serde::{Deserialize, Deserializer, de::Error as _};

/// `exporters: otlp_http:`, with the Collector's keys and defaults.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Base URL; `/v1/traces` and its like are appended.
    pub endpoint: String,
    /// URL for traces, used as it is.
    pub traces_endpoint: String,
    /// URL for metrics, used as it is.
    pub metrics_endpoint: String,
    /// URL for logs, used as it is.
    pub logs_endpoint: String,
    /// `proto` (default) or `json`.
    pub encoding: Encoding,
    /// Time for one attempt; 0 means no limit.
    pub timeout: Duration,
    /// `gzip` (default), `zstd`, `snappy`, `x-snappy-framed`, `zlib`, `deflate`, `lz4` or `none`.
    pub compression: Compression,
    /// How hard to compress.
    pub compression_params: CompressionParams,
    /// Whom to trust, and as whom to appear.
    pub tls: TlsClient,
    /// Headers sent with every request.
    pub headers: Headers,
    /// Idle connections kept.
    pub max_idle_conns: usize,
    /// Idle connections kept; the smaller of the two counts, since all go to one host.
    pub max_idle_conns_per_host: Option<usize>,
    /// Time after which an idle connection is closed; 0 means never.
    pub idle_conn_timeout: Duration,
    /// The queue in front.
    pub sending_queue: QueueConfig,
    /// When to try again.
    pub retry_on_failure: RetryConfig,
    /// No request sent is larger before compression; larger ones are split, and a single item beyond it is dropped.
    pub max_request_bytes: ByteSize,
    /// HTTP/2 is used where TLS negotiates it; `false` is not supported yet.
    pub force_attempt_http2: Option<bool>,
    /// Not supported yet when true.
    pub disable_keep_alives: bool,
    profiles_endpoint: Option<Later>,
    max_conns_per_host: Option<Later>,
    http2_read_idle_timeout: Option<Later>,
    http2_ping_timeout: Option<Later>,
    read_buffer_size: Option<Later>,
    write_buffer_size: Option<Later>,
    proxy_url: Option<Later>,
    cookies: Option<Later>,
    auth: Option<Later>,
    middlewares: Option<Later>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            endpoint: String::new(),
            traces_endpoint: String::new(),
            metrics_endpoint: String::new(),
            logs_endpoint: String::new(),
            encoding: Encoding::default(),
            timeout: Duration::secs(30),
            compression: Compression::default(),
            compression_params: CompressionParams::default(),
            tls: TlsClient::default(),
            headers: Headers::default(),
            max_idle_conns: 100,
            max_idle_conns_per_host: None,
            idle_conn_timeout: Duration::secs(90),
            sending_queue: QueueConfig::default(),
            retry_on_failure: RetryConfig::default(),
            max_request_bytes: MAX_REQUEST_BYTES,
            force_attempt_http2: None,
            disable_keep_alives: false,
            profiles_endpoint: None,
            max_conns_per_host: None,
            http2_read_idle_timeout: None,
            http2_ping_timeout: None,
            read_buffer_size: None,
            write_buffer_size: None,
            proxy_url: None,
            cookies: None,
            auth: None,
            middlewares: None,
        }
    }
}

/// The form of a request's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// `application/x-protobuf`.
    #[default]
    Proto,
    /// `application/json`. Unknown fields have no JSON form and are left out.
    Json,
}

impl Encoding {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Encoding::Proto => "application/x-protobuf",
            Encoding::Json => "application/json",
        }
    }
}

impl<'de> Deserialize<'de> for Encoding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "proto" => Ok(Encoding::Proto),
            "json" => Ok(Encoding::Json),
            other => {
                let shown: String = other.chars().take(40).collect();
                Err(D::Error::custom(format_args!("invalid encoding type: {shown}; use proto or json")))
            }
        }
    }
}

/// The Collector's `compression_params`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CompressionParams {
    /// gzip, zlib and deflate: 1 to 9; zstd: 1 to 22; the others have none. The algorithm's default when absent or 0.
    pub level: i32,
}

impl Config {
    /// Checks everything that can be checked without a file or the network.
    ///
    /// # Errors
    /// [`ConfigError`] with its path below the exporter, and the Collector's text where it has one.
    pub fn validate(&self) -> Result<(), ConfigError> {
        Endpoints::of(self)?;
        self.tls.validate()?;
        self.headers.to_map(Kind::Http)?;
        self.retry_on_failure.validate()?;
        self.sending_queue.validate()?;
        if self.max_request_bytes.0 == 0 {
            return Err(ConfigError::new("max_request_bytes", "must be positive"));
        }
        self.encoder()?;
        let later = |key: &str, hint: &str| Err(ConfigError::new(key, "this is not supported yet").with_hint(hint));
        if self.disable_keep_alives {
            return later("disable_keep_alives", "connections are kept; remove the key");
        }
        if self.force_attempt_http2 == Some(false) {
            return later("force_attempt_http2", "HTTP/2 is used where TLS negotiates it; remove the key");
        }
        Ok(())
    }

    pub(super) fn encoder(&self) -> Result<Option<Encoder>, ConfigError> {
        let level = self.compression_params.level;
        self.compression.for_http(level).map_err(|text| ConfigError::new("compression_params::level", text))
    }

    pub(super) fn connections(&self, secure: bool) -> Connections {
        let idle = self.idle_conn_timeout.get();
        Connections {
            protocol: Protocol::Http1OrNegotiated,
            pings: Pings::default(),
            max_idle_per_host: self.max_idle_conns_per_host.unwrap_or(usize::MAX).min(self.max_idle_conns),
            idle_timeout: (!idle.is_zero()).then_some(idle),
            secure,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn with(key: &str, value: Value) -> Result<Config, serde_json::Error> {
        serde_json::from_value(json!({"endpoint": "http://localhost:4318", key: value}))
    }

    #[test]
    fn defaults_are_the_collectors() {
        let config = Config::default();
        assert_eq!(config.timeout, Duration::secs(30));
        assert_eq!((config.encoding, config.compression), (Encoding::Proto, Compression::default()));
        assert_eq!(config.idle_conn_timeout, Duration::secs(90));
        assert_eq!(config.validate().unwrap_err().to_string(), "at least one endpoint must be specified");
    }

    #[test]
    fn errors_name_the_key() {
        assert!(with("encoding", json!("xml")).unwrap_err().to_string().contains("invalid encoding type: xml"));
        let error = |key: &str, value| with(key, value).unwrap().validate().unwrap_err().to_string();
        assert_eq!(
            error("compression_params", json!({"level": 10})),
            "compression_params::level: unsupported parameters {Level:10} for compression type \"gzip\""
        );
        assert!(error("disable_keep_alives", json!(true)).starts_with("disable_keep_alives: "));
        assert!(error("force_attempt_http2", json!(false)).starts_with("force_attempt_http2: "));
        assert!(with("compression_params", json!({"level": -1})).unwrap().validate().is_ok());
    }

    #[test]
    fn what_comes_later_and_what_never_existed_is_refused() {
        for key in ["auth", "proxy_url", "cookies", "profiles_endpoint", "max_conns_per_host", "middlewares"] {
            let error = with(key, json!(1)).unwrap_err().to_string();
            assert!(error.contains("not supported yet"), "{key}: {error}");
        }
        assert!(with("endpont", json!("x")).is_err());
    }
}
