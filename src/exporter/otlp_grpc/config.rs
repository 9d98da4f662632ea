//! The Collector's `otlp_grpc` exporter in YAML.

use super::endpoint::Endpoint;
use crate::{
    auth::{Authenticators, Client as AuthClient, Reference},
    compression::{Compression, Encoder},
    config::{
        ConfigError,
        types::{ByteSize, Duration, present},
    },
    exporter::{
        TlsClient, auth,
        client::{Connections, Pings, Protocol},
        config::{Client, NoMiddlewares, Note, limit, timeout},
        headers::{Headers, Kind},
        queue::{MAX_REQUEST_BYTES, QueueConfig},
        retry::RetryConfig,
    },
};
use http::{HeaderValue, uri::Authority};
use serde::{Deserialize, Deserializer, de::Error as _};

/// `exporters: otlp_grpc:`, with the Collector's keys and defaults.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `host:port`, `http://host:port` (plaintext), `https://host:port` (TLS), `dns:///host:port`,
    /// `passthrough:///host:port`, `unix:path` or `unix:///path`.
    pub endpoint: String,
    /// Time for one attempt; 0 means no limit.
    #[serde(deserialize_with = "timeout")]
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
    /// What is done with a name that has several addresses.
    #[serde(rename = "balancer_name")]
    pub balancer: Balancing,
    /// An attempt waits for a connection within its `timeout`, instead of failing when none can be made.
    pub wait_for_ready: bool,
    /// What the backend hears as `:authority`, and whose certificate is expected, instead of the endpoint's.
    pub authority: String,
    /// Accepted; there is no such buffer.
    pub read_buffer_size: Option<i64>,
    /// Accepted; there is no such buffer.
    pub write_buffer_size: Option<i64>,
    /// Only an empty list.
    pub middlewares: NoMiddlewares,
    /// The extension whose credential every request carries.
    pub auth: Option<Reference>,
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
            balancer: Balancing::default(),
            wait_for_ready: false,
            authority: String::new(),
            read_buffer_size: None,
            write_buffer_size: None,
            middlewares: NoMiddlewares,
            auth: None,
        }
    }
}

/// The Collector's `balancer_name`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balancing {
    /// A connection to each address, requests going round them.
    #[default]
    RoundRobin,
    /// One connection, to the first address that takes it.
    PickFirst,
}

impl<'de> Deserialize<'de> for Balancing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            // gRPC's own default, where the Collector hands nothing over.
            "" | "pick_first" => Ok(Balancing::PickFirst),
            "round_robin" => Ok(Balancing::RoundRobin),
            other => {
                let shown: String = other.chars().take(40).collect();
                Err(D::Error::custom(format_args!("invalid balancer_name: {shown}; use round_robin or pick_first")))
            }
        }
    }
}

/// The Collector's `keepalive` of a gRPC client.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keepalive {
    /// Time without a frame after which a ping is sent. gRPC's own minimum of 10 s applies.
    pub time: Duration,
    /// Time without an answer after which the connection is closed; 0 means 20 s, as in gRPC.
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
        self.client().validate()?;
        self.user_agent()?;
        self.authority()?;
        self.encoder().map(|_| ())
    }

    pub(super) fn encoder(&self) -> Result<Option<Encoder>, ConfigError> {
        self.compression.for_grpc().map_err(|text| ConfigError::new("compression", text))
    }

    /// The client that `auth` refers to.
    ///
    /// # Errors
    /// [`ConfigError`] with its path below the exporter, and the Collector's text where it has one.
    pub fn client_of(&self, authenticators: &Authenticators) -> Result<Option<AuthClient>, ConfigError> {
        let client = auth::client(self.auth.as_ref(), "gRPC", &self.headers, authenticators)?;
        let endpoint = Endpoint::parse(&self.endpoint, self.tls.insecure)?;
        if client.is_some() && endpoint.is_exposed() {
            let text = "transport: cannot send secure credentials on an insecure connection";
            return Err(ConfigError::new("auth", text).with_hint("use TLS: remove tls::insecure and http://"));
        }
        Ok(client)
    }

    fn client(&self) -> Client<'_> {
        Client {
            kind: Kind::Grpc,
            tls: &self.tls,
            headers: &self.headers,
            sending_queue: &self.sending_queue,
            retry_on_failure: &self.retry_on_failure,
            max_request_bytes: self.max_request_bytes,
        }
    }

    /// Keys that are taken and have no effect.
    pub fn notes(&self) -> Vec<Note> {
        let why = "buffers grow with what is sent";
        let read = self.read_buffer_size.map(|_| Note { key: "read_buffer_size", why });
        let write = self.write_buffer_size.map(|_| Note { key: "write_buffer_size", why });
        read.into_iter().chain(write).collect()
    }

    /// What is sent as `:authority` instead of the endpoint.
    pub(super) fn authority(&self) -> Result<Option<Authority>, ConfigError> {
        if self.authority.is_empty() {
            return Ok(None);
        }
        let authority = Authority::try_from(self.authority.as_str()).ok().filter(|it| !it.as_str().contains('@'));
        authority.map(Some).ok_or_else(|| ConfigError::new("authority", "is not a host or host:port"))
    }

    pub(super) fn user_agent(&self) -> Result<Option<HeaderValue>, ConfigError> {
        let Some(text) = self.user_agent.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
        let value = HeaderValue::from_str(text)
            .map_err(|_| ConfigError::new("user_agent", "has characters that headers cannot carry"))?;
        Ok(Some(value))
    }

    pub(super) fn connections(&self) -> Connections {
        let pings = self.keepalive.as_ref().map_or_else(Pings::default, |keepalive| Pings {
            every: keepalive.time.get().max(std::time::Duration::from_secs(10)),
            timeout: limit(keepalive.timeout.get()).unwrap_or(std::time::Duration::from_secs(20)),
            while_idle: keepalive.permit_without_stream,
        });
        Connections { protocol: Protocol::Http2, pings, max_idle_per_host: usize::MAX, idle_timeout: None }
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
        assert!(with("tls", json!({"include_insecure_cipher_suites": true})).starts_with("tls::include_insecure_"));
        assert!(with("user_agent", json!("a\nb")).starts_with("user_agent: "));
        assert!(with("authority", json!("user@host")).starts_with("authority: "));
        assert!(with("compression", json!("lz4")).starts_with("compression: unsupported compression type \"lz4\""));
        assert!(with("max_request_bytes", json!(0)).starts_with("max_request_bytes: "));
        let unread = |key: &str, value: Value| read(json!({key: value})).unwrap_err().to_string();
        assert!(unread("balancer_name", json!("best")).starts_with("invalid balancer_name: best"));
        assert!(unread("timeout", json!("-1s")).starts_with("'timeout' must be non-negative"));
        assert!(unread("timeout", json!("1 s")).starts_with("invalid duration"));
    }

    #[test]
    fn keepalive_has_grpcs_defaults_and_its_least_time() {
        let pings = |value: Value| read(json!({"keepalive": value})).unwrap().connections().pings;
        let seconds = |pings: Pings| (pings.every.as_secs(), pings.timeout.as_secs(), pings.while_idle);
        assert_eq!(seconds(pings(json!({}))), (10, 10, false));
        assert_eq!(
            seconds(pings(json!({"time": "1s", "timeout": "3s", "permit_without_stream": true}))),
            (10, 3, true)
        );
        assert_eq!(seconds(pings(json!({"time": "1m", "timeout": "0s"}))), (60, 20, false));
        assert_eq!(Config::default().connections().pings, Pings::default());
        assert!(read(json!({"keepalive": {"tiem": "1s"}})).is_err());
    }

    #[test]
    fn keys_without_effect_are_noted() {
        let config = read(json!({"read_buffer_size": 1, "write_buffer_size": 524288, "middlewares": []})).unwrap();
        assert_eq!(
            config.notes().iter().map(|note| note.key).collect::<Vec<_>>(),
            ["read_buffer_size", "write_buffer_size"]
        );
        assert_eq!(Config::default().notes(), []);
    }

    #[test]
    fn balancing_is_round_robin_unless_said_otherwise() {
        let balancing = |value: Value| read(json!({"balancer_name": value})).unwrap().balancer;
        assert_eq!(Config::default().balancer, Balancing::RoundRobin);
        assert_eq!(balancing(json!("round_robin")), Balancing::RoundRobin);
        assert_eq!(balancing(json!("pick_first")), Balancing::PickFirst);
        assert_eq!(balancing(json!("")), Balancing::PickFirst);
    }

    #[test]
    fn what_never_existed_is_refused() {
        let error = |key: &str, value: Value| read(json!({key: value})).unwrap_err().to_string();
        assert!(error("middlewares", json!([{"id": "x"}])).contains("middlewares are extensions"));
        assert!(read(json!({"endpont": "localhost:4317"})).is_err());
        assert!(read(json!({"tls": {"reload_often": "1m"}})).is_err());
    }
}
