//! The Collector's `otlp_http` exporter in YAML.

use super::endpoint::Endpoints;
use crate::{
    auth::{Authenticators, Client as AuthClient, Reference},
    compression::{Compression, Encoder},
    config::{
        ConfigError,
        types::{ByteSize, Duration, Opaque},
    },
    exporter::{
        TlsClient, auth,
        client::{Connections, Pings, Protocol, Proxy},
        config::{Client, NoMiddlewares, Note, limit, timeout},
        headers::{Headers, Kind},
        queue::{MAX_REQUEST_BYTES, QueueConfig},
        retry::RetryConfig,
    },
    net::listen::is_loopback,
};
use http::{Uri, uri::Scheme};
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
    #[serde(deserialize_with = "timeout")]
    pub timeout: Duration,
    /// `gzip` (default), `zstd`, `snappy`, `x-snappy-framed`, `zlib`, `deflate`, `lz4` or `none`.
    pub compression: Compression,
    /// How hard to compress.
    pub compression_params: CompressionParams,
    /// Whom to trust, and as whom to appear.
    pub tls: TlsClient,
    /// Headers sent with every request.
    pub headers: Headers,
    /// Idle connections kept; 0 means no limit.
    pub max_idle_conns: usize,
    /// Idle connections kept to one host; absent or 0, as many as `max_idle_conns` says.
    pub max_idle_conns_per_host: usize,
    /// Connections to one host at the same time, idle ones among them; 0 means no limit.
    pub max_conns_per_host: usize,
    /// Time after which an idle connection is closed; 0 means never.
    pub idle_conn_timeout: Duration,
    /// A connection for every request.
    pub disable_keep_alives: bool,
    /// HTTP/2 is used where TLS negotiates it.
    pub force_attempt_http2: bool,
    /// Time without a frame after which an HTTP/2 connection is asked whether it is alive; 0 leaves that to us, who ask
    /// while a request waits.
    pub http2_read_idle_timeout: Duration,
    /// Time after which such a question without an answer ends the connection; 0 means 15 s.
    pub http2_ping_timeout: Duration,
    /// The proxy for all requests, instead of those in the environment. May carry a password.
    pub proxy_url: Opaque,
    /// Whether cookies are kept and sent back.
    pub cookies: Option<Cookies>,
    /// The queue in front.
    pub sending_queue: QueueConfig,
    /// When to try again.
    pub retry_on_failure: RetryConfig,
    /// No request sent is larger before compression; larger ones are split, and a single item beyond it is dropped.
    pub max_request_bytes: ByteSize,
    /// Accepted; profiles are not carried.
    pub profiles_endpoint: String,
    /// Accepted; there is no such buffer.
    pub read_buffer_size: Option<i64>,
    /// Accepted; there is no such buffer.
    pub write_buffer_size: Option<i64>,
    /// Only an empty list.
    pub middlewares: NoMiddlewares,
    /// The extension whose credential every request carries.
    pub auth: Option<Reference>,
}

/// The Collector's `cookies`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cookies {
    /// True where the key is given without it.
    pub enabled: bool,
}

impl Default for Cookies {
    fn default() -> Self {
        Cookies { enabled: true }
    }
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
            max_idle_conns_per_host: 0,
            max_conns_per_host: 0,
            idle_conn_timeout: Duration::secs(90),
            disable_keep_alives: false,
            force_attempt_http2: true,
            http2_read_idle_timeout: Duration::default(),
            http2_ping_timeout: Duration::default(),
            proxy_url: Opaque::default(),
            cookies: None,
            sending_queue: QueueConfig::default(),
            retry_on_failure: RetryConfig::default(),
            max_request_bytes: MAX_REQUEST_BYTES,
            profiles_endpoint: String::new(),
            read_buffer_size: None,
            write_buffer_size: None,
            middlewares: NoMiddlewares,
            auth: None,
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
        self.client().validate()?;
        self.proxy()?;
        self.encoder().map(|_| ())
    }

    /// The client that `auth` refers to.
    ///
    /// # Errors
    /// [`ConfigError`] with its path below the exporter, and the Collector's text where it has one.
    pub fn client_of(&self, authenticators: &Authenticators) -> Result<Option<AuthClient>, ConfigError> {
        auth::client(self.auth.as_ref(), "HTTP", &self.headers, authenticators)
    }

    fn client(&self) -> Client<'_> {
        Client {
            kind: Kind::Http,
            tls: &self.tls,
            headers: &self.headers,
            sending_queue: &self.sending_queue,
            retry_on_failure: &self.retry_on_failure,
            max_request_bytes: self.max_request_bytes,
        }
    }

    /// Keys that are taken and have no effect.
    pub fn notes(&self) -> Vec<Note> {
        let buffers = "buffers grow with what is sent";
        let notes = [
            (self.read_buffer_size.is_some(), Note { key: "read_buffer_size", why: buffers }),
            (self.write_buffer_size.is_some(), Note { key: "write_buffer_size", why: buffers }),
            (
                !self.profiles_endpoint.is_empty(),
                Note { key: "profiles_endpoint", why: "profiles are not carried, only traces, logs and metrics" },
            ),
        ];
        notes.into_iter().filter(|(given, _)| *given).map(|(_, note)| note).collect()
    }

    /// What is dangerous in this configuration, for the log.
    pub fn warnings(&self) -> Vec<String> {
        let Ok(endpoints) = Endpoints::of(self) else { return Vec::new() };
        let exposed = |uri: &&Uri| uri.scheme() == Some(&Scheme::HTTP) && !is_loopback(uri.host().unwrap_or_default());
        match self.auth.is_some() && endpoints.all().any(|uri| exposed(&uri)) {
            true => vec!["auth: credentials are sent over connections that are not encrypted; use https://".to_owned()],
            false => Vec::new(),
        }
    }

    /// The configured proxy.
    pub(super) fn proxy(&self) -> Result<Option<Proxy>, ConfigError> {
        if self.proxy_url.is_empty() {
            return Ok(None);
        }
        Proxy::parse(self.proxy_url.expose()).map(Some).map_err(|what| ConfigError::new("proxy_url", what))
    }

    pub(super) fn encoder(&self) -> Result<Option<Encoder>, ConfigError> {
        let level = self.compression_params.level;
        self.compression.for_http(level).map_err(|text| ConfigError::new("compression_params::level", text))
    }

    /// Connections to one host.
    pub(super) fn max_connections(&self) -> Option<usize> {
        // More than a semaphore counts is no limit.
        (1..=MAX_COUNTED).contains(&self.max_conns_per_host).then_some(self.max_conns_per_host)
    }

    pub(super) fn connections(&self) -> Connections {
        // A host of one's own choice has no place in HTTP/2, where it is part of the address.
        let own_host = self.headers.0.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
        let many = |limit: usize| if limit == 0 { usize::MAX } else { limit };
        let pings = match limit(self.http2_read_idle_timeout.get()) {
            None => Pings::default(),
            Some(every) => {
                let timeout = limit(self.http2_ping_timeout.get()).unwrap_or(std::time::Duration::from_secs(15));
                Pings { every, timeout, while_idle: true }
            }
        };
        Connections {
            protocol: match self.force_attempt_http2 && !own_host {
                true => Protocol::Http1OrNegotiated,
                false => Protocol::Http1,
            },
            pings,
            max_idle_per_host: match self.disable_keep_alives {
                true => 0,
                false => many(self.max_idle_conns).min(many(self.max_idle_conns_per_host)),
            },
            idle_timeout: limit(self.idle_conn_timeout.get()),
        }
    }
}

const MAX_COUNTED: usize = 1 << 20;

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
        let error = |key: &str, value| with(key, value).unwrap().validate().unwrap_err().to_string();
        assert!(error("proxy_url", json!("ftp://user:hunter2@h")).starts_with("proxy_url: is not a proxy's URL"));
        assert!(!error("proxy_url", json!("ftp://user:hunter2@h")).contains("hunter2"));
        assert!(error("max_request_bytes", json!(0)).starts_with("max_request_bytes: "));
        assert!(with("timeout", json!("-1s")).unwrap_err().to_string().starts_with("'timeout' must be non-negative"));
        assert!(with("compression_params", json!({"level": -1})).unwrap().validate().is_ok());
    }

    #[test]
    fn connections_are_kept_as_configured() {
        let connections = |key: &str, value: Value| with(key, value).unwrap().connections();
        let plain = Config::default().connections();
        assert_eq!((plain.protocol, plain.max_idle_per_host), (Protocol::Http1OrNegotiated, 100));
        assert_eq!(plain.pings, Pings::default());
        assert_eq!(connections("max_idle_conns", json!(0)).max_idle_per_host, usize::MAX);
        assert_eq!(connections("max_idle_conns_per_host", json!(7)).max_idle_per_host, 7);
        assert_eq!(connections("max_idle_conns_per_host", json!(700)).max_idle_per_host, 100);
        assert_eq!(connections("disable_keep_alives", json!(true)).max_idle_per_host, 0);
        assert_eq!(connections("force_attempt_http2", json!(false)).protocol, Protocol::Http1);
        assert_eq!(connections("headers", json!({"Host": "other.test"})).protocol, Protocol::Http1);
        assert_eq!(connections("idle_conn_timeout", json!("0s")).idle_timeout, None);
        let pings = connections("http2_read_idle_timeout", json!("7s")).pings;
        assert_eq!((pings.every.as_secs(), pings.timeout.as_secs(), pings.while_idle), (7, 15, true));
        assert_eq!(with("max_conns_per_host", json!(0)).unwrap().max_connections(), None);
        assert_eq!(with("max_conns_per_host", json!(3)).unwrap().max_connections(), Some(3));
    }

    #[test]
    fn cookies_are_kept_where_the_key_is_given() {
        let cookies = |value: Value| with("cookies", value).unwrap().cookies.is_some_and(|cookies| cookies.enabled);
        assert!(cookies(json!({})) && cookies(json!({"enabled": true})));
        assert!(!cookies(json!({"enabled": false})) && !cookies(json!(null)));
        assert_eq!(Config::default().cookies, None);
    }

    #[test]
    fn keys_without_effect_are_noted() {
        let notes =
            |key: &str, value: Value| with(key, value).unwrap().notes().iter().map(|note| note.key).collect::<Vec<_>>();
        assert_eq!(notes("write_buffer_size", json!(524288)), ["write_buffer_size"]);
        assert_eq!(notes("profiles_endpoint", json!("http://localhost:1")), ["profiles_endpoint"]);
        assert_eq!(notes("middlewares", json!([])), [""; 0]);
    }

    #[test]
    fn what_never_existed_is_refused() {
        assert!(with("middlewares", json!([{"id": "x"}])).unwrap_err().to_string().contains("middlewares are"));
        assert!(with("cookies", json!({"jar": 1})).is_err());
        assert!(with("endpont", json!("x")).is_err());
    }
}
