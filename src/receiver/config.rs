//! The `receivers::otlp` section as it is written: the Collector's keys, checked and turned into [`Settings`].
//!
//! Zero means "not set", as in the Collector; where the Collector then has no bound, tracegate has its own default,
//! because nothing here waits or grows for ever. Keys of the Collector that tracegate does not support yet are errors
//! that say so; keys that tune Go's machinery are accepted and named by [`Config::notes`].

use super::{
    auth::Auth,
    cors::{self, Allowed},
    settings::{GrpcSettings, HttpSettings, MAX_CONCURRENT_BYTES, MAX_CONNECTIONS, Settings},
};
use crate::{
    auth::{Authenticators, Reference},
    compression::Algorithm,
    config::{
        ComponentId, ConfigError, MapList, named,
        types::{ByteSize, Duration, present},
    },
    net::{Transport, listen::is_loopback, tls::TlsServer},
    otlp::Signal,
};
use ::http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Deserializer, de};

/// The largest message that can be configured, in MiB. A gRPC frame and the index of a request count in 32 bits.
const MAX_MIB: u64 = 4095;

const MIB: u64 = 1024 * 1024;

/// How often the largest request must fit into the bytes in hand: as it came, decompressed, as JSON's protobuf, and
/// room for others.
const REQUESTS_IN_HAND: u64 = 4;

/// The section.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The servers. A key that is present, even with nothing behind it, switches its server on.
    pub protocols: Protocols,
    /// Bytes of requests in hand at one time, over both servers; beyond it requests are refused retryably. Default:
    /// 256 MiB, or four times the largest request if that is more.
    pub max_concurrent_bytes: Option<ByteSize>,
    /// Connections per server; further ones are closed at once. Default 1024.
    pub max_connections: Option<u32>,
}

/// `protocols`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Protocols {
    /// The gRPC server.
    #[serde(deserialize_with = "present")]
    pub grpc: Option<Grpc>,
    /// The HTTP server.
    #[serde(deserialize_with = "present")]
    pub http: Option<Http>,
}

/// `protocols::grpc`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grpc {
    /// Where to listen. Default `127.0.0.1:4317`.
    pub endpoint: Option<String>,
    /// `tcp` (default), `tcp4`, `tcp6` or `unix`; then `endpoint` is the path of a socket.
    pub transport: Option<String>,
    /// TLS; without it connections are not encrypted.
    pub tls: Option<TlsServer>,
    /// The largest message after decompression, in MiB. Default 64.
    pub max_recv_msg_size_mib: i64,
    /// Concurrent calls per connection. Default 128.
    pub max_concurrent_streams: u32,
    /// How long a message may take to arrive; tracegate's own key. Default 30s.
    pub read_timeout: Duration,
    /// Keepalive.
    pub keepalive: Option<Keepalive>,
    read_buffer_size: Option<ByteSize>,
    write_buffer_size: Option<ByteSize>,
    /// Whether the call's metadata travels with its request, for batching by it. Default false.
    pub include_metadata: bool,
    /// Who may call. Default: everybody.
    pub auth: Option<Reference>,
    middlewares: Middlewares,
}

/// `protocols::grpc::keepalive`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keepalive {
    /// What the server does.
    pub server_parameters: ServerParameters,
    /// What clients may do.
    pub enforcement_policy: EnforcementPolicy,
}

/// `protocols::grpc::keepalive::server_parameters`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerParameters {
    /// After how long without calls a connection is ended. Default: never.
    pub max_connection_idle: Duration,
    /// After how long a connection is ended. Default: never.
    pub max_connection_age: Duration,
    /// How long calls may go on after that. Default 30s.
    pub max_connection_age_grace: Duration,
    /// After how much silence a peer is pinged. Default 30s.
    pub time: Duration,
    /// How long it may take to answer a ping. Default 20s.
    pub timeout: Duration,
}

/// `protocols::grpc::keepalive::enforcement_policy`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnforcementPolicy {
    /// The least time between two pings of a client; who pings faster is sent away. Default 5m.
    pub min_time: Duration,
    /// Whether a client may ping that often without a call in hand, too. Default false.
    pub permit_without_stream: bool,
}

/// `protocols::http`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Where to listen. Default `127.0.0.1:4318`.
    pub endpoint: Option<String>,
    /// Where traces are posted. Default `/v1/traces`.
    pub traces_url_path: Option<String>,
    /// Where logs are posted. Default `/v1/logs`.
    pub logs_url_path: Option<String>,
    /// Where metrics are posted. Default `/v1/metrics`.
    pub metrics_url_path: Option<String>,
    /// The largest body after decompression. Default 64 MiB.
    pub max_request_body_size: ByteSize,
    /// Accepted compressions. Default: all that tracegate knows; `[]` is none. Uncompressed bodies are always accepted,
    /// also when `""`, the Collector's name for them, is not in the list: the specification says so.
    pub compression_algorithms: Option<Vec<String>>,
    /// Headers on every answer, as a map or as a list of `name` and `value`.
    pub response_headers: MapList,
    /// Which pages may send requests from browsers. Default: none.
    pub cors: Option<Cors>,
    /// How long a body may take to arrive. Default 30s.
    pub read_timeout: Duration,
    /// How long a head may take to arrive. Default 10s.
    pub read_header_timeout: Duration,
    /// How long a write may wait for a client that does not read. Default 30s.
    pub write_timeout: Duration,
    /// How long a connection may be without a request. Default 5m.
    pub idle_timeout: Duration,
    /// Whether connections are kept for further requests. Default true.
    pub keep_alives_enabled: Option<bool>,
    /// `tcp` (default), `tcp4`, `tcp6` or `unix`; then `endpoint` is the path of a socket.
    pub transport: Option<String>,
    /// TLS; without it connections are not encrypted.
    pub tls: Option<TlsServer>,
    /// Whether the request's headers travel with it, for batching by them. Default false.
    pub include_metadata: bool,
    /// Who may post. Default: everybody.
    pub auth: Option<HttpAuth>,
    middlewares: Middlewares,
}

/// `protocols::http::auth`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpAuth {
    /// The id of the extension.
    pub authenticator: ComponentId,
    /// Query parameters that are taken for headers, such as `authorization`, for clients that cannot set headers.
    #[serde(default)]
    pub request_params: Vec<String>,
}

/// `protocols::http::cors`. Without `allowed_origins` it has no effect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cors {
    /// Origins of pages that may send requests: `https://app.example.com`, `https://*.example.com`, or `*`.
    pub allowed_origins: Vec<String>,
    /// Headers they may send; `*` is any. Default: accept, content-type, x-requested-with.
    pub allowed_headers: Vec<String>,
    /// Headers of answers they may see.
    pub exposed_headers: Vec<String>,
    /// Seconds for which browsers may keep a permission; negative for not at all. Default: as the browser likes.
    pub max_age: i64,
}

/// `middlewares`, a list of extensions: only the empty list.
#[derive(Clone, Debug, Default)]
struct Middlewares;

impl<'de> Deserialize<'de> for Middlewares {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !Option::<Vec<de::IgnoredAny>>::deserialize(deserializer)?.unwrap_or_default().is_empty() {
            return Err(de::Error::custom(
                "tracegate has no middleware extensions; remove the list, or keep them in a Collector in front",
            ));
        }
        Ok(Middlewares)
    }
}

impl Config {
    /// Both servers with their defaults, as `protocols: {grpc: {}, http: {}}` says it.
    pub fn with_defaults() -> Self {
        let protocols = Protocols { grpc: Some(Grpc::default()), http: Some(Http::default()) };
        Config { protocols, ..Config::default() }
    }

    /// Checks the section and fills in defaults, where there are no extensions.
    ///
    /// # Errors
    /// As [`Config::settings_with`].
    pub fn settings(&self) -> Result<Settings, ConfigError> {
        self.settings_with(&Authenticators::default())
    }

    /// Checks the section, finds the extensions it refers to, and fills in defaults.
    ///
    /// # Errors
    /// [`ConfigError`] with a path relative to the receiver's section.
    pub fn settings_with(&self, authenticators: &Authenticators) -> Result<Settings, ConfigError> {
        let Protocols { grpc, http } = &self.protocols;
        if grpc.is_none() && http.is_none() {
            let hint = "write protocols: {grpc: {}, http: {}}";
            return Err(
                ConfigError::new("", "must specify at least one protocol when using the OTLP receiver").with_hint(hint)
            );
        }
        let under = |key: &'static str| move |error: ConfigError| error.under(&["protocols", key]);
        let grpc = grpc.as_ref().map(|grpc| grpc.settings(authenticators).map_err(under("grpc"))).transpose()?;
        let http = http.as_ref().map(|http| http.settings(authenticators).map_err(under("http"))).transpose()?;
        let largest = [grpc.as_ref().map(|grpc| grpc.max_message_bytes), http.as_ref().map(|http| http.max_body_bytes)];
        let least = REQUESTS_IN_HAND * largest.into_iter().flatten().max().unwrap_or_default() as u64;
        let max_concurrent_bytes = match self.max_concurrent_bytes {
            None | Some(ByteSize(0)) => MAX_CONCURRENT_BYTES.max(least),
            Some(ByteSize(bytes)) if bytes < least => {
                let text = format!("must be at least {REQUESTS_IN_HAND} times the largest request, {least} bytes");
                let hint = "a request is held as it came, decompressed and converted; lower max_recv_msg_size_mib and \
                            max_request_body_size to go below";
                return Err(ConfigError::new("max_concurrent_bytes", text).with_hint(hint));
            }
            Some(ByteSize(bytes)) => bytes,
        };
        let max_connections = match self.max_connections {
            None | Some(0) => MAX_CONNECTIONS,
            Some(n) => n as usize,
        };
        Ok(Settings { grpc, http, max_concurrent_bytes, max_connections })
    }

    /// Sentences about keys that are set and have no effect, for the log.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let mut note = |set: bool, key: &str| {
            if set {
                notes.push(format!("protocols::grpc::{key} has no effect in tracegate"));
            }
        };
        if let Some(grpc) = &self.protocols.grpc {
            note(grpc.read_buffer_size.is_some(), "read_buffer_size");
            note(grpc.write_buffer_size.is_some(), "write_buffer_size");
        }
        let Protocols { grpc, http } = &self.protocols;
        let servers = [
            ("grpc", grpc.as_ref().and_then(|grpc| grpc.tls.as_ref())),
            ("http", http.as_ref().and_then(|http| http.tls.as_ref())),
        ];
        for (protocol, tls) in servers {
            let tls = tls.map(TlsServer::notes).unwrap_or_default();
            notes.extend(tls.iter().map(|note| format!("protocols::{protocol}::{note}")));
        }
        let open = [
            (
                "grpc",
                grpc.as_ref()
                    .is_some_and(|grpc| grpc.auth.is_some() && exposed(&grpc.endpoint, &grpc.transport, &grpc.tls)),
            ),
            (
                "http",
                http.as_ref()
                    .is_some_and(|http| http.auth.is_some() && exposed(&http.endpoint, &http.transport, &http.tls)),
            ),
        ];
        for (protocol, _) in open.iter().filter(|(_, open)| *open) {
            notes.push(format!(
                "protocols::{protocol}::auth: credentials come in over connections that are not encrypted; set tls"
            ));
        }
        let cors = self.protocols.http.as_ref().and_then(|http| http.cors.as_ref());
        if cors.is_some_and(|cors| cors.allowed_origins.is_empty() && *cors != Cors::default()) {
            notes.push("protocols::http::cors has no allowed_origins, and is therefore ignored".to_owned());
        }
        notes
    }
}

impl Grpc {
    fn settings(&self, authenticators: &Authenticators) -> Result<GrpcSettings, ConfigError> {
        let defaults = GrpcSettings::default();
        let transport = Transport::parse(self.transport.as_deref())?;
        self.tls.as_ref().map_or(Ok(()), TlsServer::validate)?;
        let max_message_bytes = match u64::try_from(self.max_recv_msg_size_mib) {
            Ok(0) => defaults.max_message_bytes,
            Ok(mib @ 1..=MAX_MIB) => usize::try_from(mib * MIB).unwrap_or(usize::MAX),
            _ => {
                let text = format!(
                    "invalid max_recv_msg_size_mib value, must be between 1 and {MAX_MIB}: {}",
                    self.max_recv_msg_size_mib
                );
                return Err(ConfigError::new("max_recv_msg_size_mib", text));
            }
        };
        let Keepalive { server_parameters: keepalive, enforcement_policy } = self.keepalive.clone().unwrap_or_default();
        Ok(GrpcSettings {
            endpoint: endpoint(transport, self.endpoint.as_deref(), defaults.endpoint)?,
            transport,
            tls: self.tls.clone(),
            max_message_bytes,
            max_concurrent_streams: match self.max_concurrent_streams {
                0 => defaults.max_concurrent_streams,
                n => n,
            },
            read_timeout: or(self.read_timeout, defaults.read_timeout),
            header_timeout: defaults.header_timeout,
            max_connection_idle: limit(keepalive.max_connection_idle),
            max_connection_age: limit(keepalive.max_connection_age),
            max_connection_age_grace: or(keepalive.max_connection_age_grace, defaults.max_connection_age_grace),
            ping_interval: or(keepalive.time, defaults.ping_interval),
            ping_timeout: or(keepalive.timeout, defaults.ping_timeout),
            include_metadata: self.include_metadata,
            auth: self.auth.as_ref().map(|auth| auth_of(authenticators, auth, &[])).transpose()?,
            ping_min_time: or(enforcement_policy.min_time, defaults.ping_min_time),
            ping_without_stream: enforcement_policy.permit_without_stream,
        })
    }
}

impl Http {
    fn settings(&self, authenticators: &Authenticators) -> Result<HttpSettings, ConfigError> {
        let defaults = HttpSettings::default();
        let transport = Transport::parse(self.transport.as_deref())?;
        self.tls.as_ref().map_or(Ok(()), TlsServer::validate)?;
        let max_body_bytes = match self.max_request_body_size.0 {
            0 => defaults.max_body_bytes,
            bytes if bytes <= MAX_MIB * MIB => usize::try_from(bytes).unwrap_or(usize::MAX),
            _ => {
                let text = format!("must not be more than {} bytes", MAX_MIB * MIB);
                return Err(ConfigError::new("max_request_body_size", text));
            }
        };
        Ok(HttpSettings {
            endpoint: endpoint(transport, self.endpoint.as_deref(), defaults.endpoint)?,
            transport,
            tls: self.tls.clone(),
            paths: self.paths()?,
            max_body_bytes,
            codings: self.codings()?,
            keep_alive: self.keep_alives_enabled.unwrap_or(defaults.keep_alive),
            read_timeout: or(self.read_timeout, defaults.read_timeout),
            header_timeout: or(self.read_header_timeout, defaults.header_timeout),
            write_timeout: or(self.write_timeout, defaults.write_timeout),
            idle_timeout: or(self.idle_timeout, defaults.idle_timeout),
            response_headers: self.response_headers()?,
            cors: self.cors.as_ref().map(Cors::settings).transpose().map_err(|e| e.under(&["cors"]))?.flatten(),
            include_metadata: self.include_metadata,
            auth: self.auth(authenticators)?,
        })
    }

    fn auth(&self, authenticators: &Authenticators) -> Result<Option<Auth>, ConfigError> {
        let Some(HttpAuth { authenticator, request_params }) = &self.auth else { return Ok(None) };
        let reference = Reference { authenticator: authenticator.clone() };
        auth_of(authenticators, &reference, request_params).map(Some)
    }

    fn paths(&self) -> Result<Vec<(String, Signal)>, ConfigError> {
        let mut paths: Vec<(String, Signal)> = Vec::new();
        for signal in Signal::ALL {
            let (key, path) = match signal {
                Signal::Traces => ("traces_url_path", &self.traces_url_path),
                Signal::Logs => ("logs_url_path", &self.logs_url_path),
                Signal::Metrics => ("metrics_url_path", &self.metrics_url_path),
            };
            let path = match path {
                None => signal.http_path().to_owned(),
                Some(path) => url_path(path).map_err(|why| {
                    ConfigError::new(key, format!("invalid HTTP URL path set for signal: {why}"))
                        .with_hint("write a path such as /v1/traces")
                })?,
            };
            if let Some((_, other)) = paths.iter().find(|(taken, _)| *taken == path) {
                let text = format!("the same path is set for {} and {}", other.name(), signal.name());
                return Err(ConfigError::new(key, text));
            }
            paths.push((path, signal));
        }
        Ok(paths)
    }

    fn codings(&self) -> Result<Vec<Algorithm>, ConfigError> {
        let Some(names) = &self.compression_algorithms else { return Ok(Algorithm::ALL.to_vec()) };
        let mut codings = Vec::new();
        for name in names {
            match Algorithm::named(name) {
                Some(algorithm) => codings.push(algorithm),
                // No compression at all, which every server must take (OTLP specification, "OTLP/HTTP Request").
                None if name.is_empty() => {}
                None => {
                    let supported = Algorithm::ALL.map(Algorithm::name).join(", ");
                    let message = format!("unsupported compression algorithm{}", named(name));
                    return Err(ConfigError::new("compression_algorithms", message)
                        .with_hint(format!("supported: {supported}; [] for none")));
                }
            }
        }
        Ok(codings)
    }

    fn response_headers(&self) -> Result<HeaderMap, ConfigError> {
        let MapList(pairs) = &self.response_headers;
        if let Some(name) = self.response_headers.duplicate() {
            let text = format!("duplicate keys in map-style list: [{name}]");
            return Err(ConfigError::new("response_headers", text));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let error = |text| ConfigError::at(&["response_headers", name], text);
            let name = HeaderName::try_from(name).map_err(|_| error("not a header name"))?;
            let mut value = HeaderValue::try_from(value.expose()).map_err(|_| error("not a header value"))?;
            // Configured as opaque; this keeps it out of Debug output.
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(headers)
    }
}

impl Cors {
    /// `None` when there is no origin to allow.
    fn settings(&self) -> Result<Option<cors::Cors>, ConfigError> {
        for origin in &self.allowed_origins {
            let error = |text| {
                ConfigError::new("allowed_origins", text)
                    .with_hint("write https://app.example.com, https://*.example.com or *")
            };
            if origin.matches('*').count() > 1 {
                return Err(error("more than one * in an origin"));
            }
            if origin.is_empty() || !origin.bytes().all(|b| b.is_ascii_graphic()) || origin.ends_with('/') {
                return Err(error("not an origin: it has a scheme and a host, and no path"));
            }
        }
        if self.allowed_origins.is_empty() {
            return Ok(None);
        }
        let exposed = names("exposed_headers", &self.exposed_headers)?;
        let headers = match &self.allowed_headers[..] {
            [] => Some(cors::Cors::default_headers()),
            list if list.iter().any(|name| name == "*") => None,
            list => {
                let names = names("allowed_headers", list)?;
                Some(names.iter().map(|name| name.as_str().to_owned()).collect())
            }
        };
        Ok(Some(cors::Cors {
            origins: self.allowed_origins.iter().map(|origin| Allowed::new(origin)).collect(),
            headers,
            exposed: cors::joined(&exposed),
            max_age: (self.max_age != 0).then(|| u64::try_from(self.max_age).unwrap_or(0)),
        }))
    }
}

fn auth_of(authenticators: &Authenticators, auth: &Reference, request_params: &[String]) -> Result<Auth, ConfigError> {
    Ok(Auth { server: authenticators.server(auth)?, request_params: request_params.to_vec() })
}

fn names(key: &str, list: &[String]) -> Result<Vec<HeaderName>, ConfigError> {
    let parsed = list.iter().map(|name| HeaderName::try_from(name.as_str()));
    parsed.collect::<Result<_, _>>().map_err(|_| ConfigError::new(key, "not a header name"))
}

/// Whether clients beyond this machine speak to it in the clear.
fn exposed(endpoint: &Option<String>, transport: &Option<String>, tls: &Option<TlsServer>) -> bool {
    let host = endpoint.as_deref().and_then(|endpoint| endpoint.rsplit_once(':')).map(|(host, _)| host);
    tls.is_none() && transport.as_deref() != Some("unix") && host.is_some_and(|host| !is_loopback(host))
}

fn or(configured: Duration, default: std::time::Duration) -> std::time::Duration {
    limit(configured).unwrap_or(default)
}

fn limit(configured: Duration) -> Option<std::time::Duration> {
    (!configured.is_zero()).then_some(configured.get())
}

/// Whether the host exists is seen when it is bound. A socket has no default path.
fn endpoint(transport: Transport, configured: Option<&str>, default: String) -> Result<String, ConfigError> {
    let endpoint = match configured.filter(|endpoint| !endpoint.is_empty()) {
        None if transport == Transport::Unix => "",
        None => return Ok(default),
        Some(endpoint) => endpoint,
    };
    transport.check(endpoint)?;
    Ok(endpoint.to_owned())
}

/// A path with its leading slash, as the Collector makes it.
fn url_path(path: &str) -> Result<String, &'static str> {
    let first = path.split('/').next().unwrap_or_default();
    if first.contains(':') {
        return Err("missing protocol scheme");
    }
    if !path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#')) {
        return Err("a path has no spaces, control characters, query or fragment");
    }
    Ok(if path.starts_with('/') { path.to_owned() } else { format!("/{path}") })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
