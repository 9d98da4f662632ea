//! OTLP over gRPC.
//!
//! A unary call is one POST over HTTP/2, so this is written on the HTTP client rather than on tonic's: request bytes go
//! out without being copied into an encoder, a status the backend sent can be told from a fault of the transport, an
//! oversized answer is not taken for a retryable one, and a malformed `grpc-status-details-bin` cannot panic.

mod channel;
mod config;
mod endpoint;
mod message;

pub use config::{Balancing, Config, Keepalive};

use super::{
    Failure, Observer, Outgoing, Sender, Sent, auth,
    client::{Chunks, Surroundings},
    compress, config as shared,
    headers::{Kind, user_agent},
    queue::{MemoryQueue, Settings},
    response::Rejections,
};
use crate::{auth::Client, compression::Encoder, config::ConfigError, otlp::Signal, pipeline::Destination};
use channel::Channel;
use endpoint::Endpoint;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version,
    header::{CONTENT_TYPE, TE, USER_AGENT},
};
use std::{future::Future, sync::Arc, time::Duration};

/// Starts the exporter's queue and workers. Nothing is connected before the first request. Must be called within a
/// Tokio runtime.
///
/// # Errors
/// [`ConfigError`] when the configuration is invalid or a certificate file cannot be used.
pub fn start(id: &str, config: &Config, observer: Arc<dyn Observer>) -> Result<Arc<dyn Destination>, ConfigError> {
    start_within(id, config, &Surroundings::of_process(), observer)
}

/// [`start`] with other surroundings.
///
/// # Errors
/// As [`start`], and when an authenticator cannot be used.
pub fn start_within(
    id: &str,
    config: &Config,
    surroundings: &Surroundings,
    observer: Arc<dyn Observer>,
) -> Result<Arc<dyn Destination>, ConfigError> {
    config.validate()?;
    shared::log(id, &config.notes());
    let settings = Settings::new(&config.sending_queue, config.retry_on_failure, config.max_request_bytes);
    Ok(MemoryQueue::start(id, settings, OtlpGrpc::within(config, surroundings)?.named(id), observer))
}

/// Sends export requests over gRPC.
#[derive(Debug)]
pub struct OtlpGrpc {
    channel: Channel,
    /// Where each signal goes, in the order of [`Signal::ALL`].
    uris: [Uri; 3],
    headers: HeaderMap,
    encoder: Option<Encoder>,
    /// Zero means no limit.
    timeout: Duration,
    auth: Option<Client>,
    wait_for_ready: bool,
    rejections: Rejections,
}

impl OtlpGrpc {
    /// A sender for this configuration, with the proxies and names of this process.
    ///
    /// # Errors
    /// [`ConfigError`] when the endpoint, a header or a certificate file cannot be used.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        Self::within(config, &Surroundings::of_process())
    }

    /// [`OtlpGrpc::new`] with other surroundings.
    ///
    /// # Errors
    /// As [`OtlpGrpc::new`].
    pub fn within(config: &Config, surroundings: &Surroundings) -> Result<Self, ConfigError> {
        let timeout = config.timeout.get();
        let endpoint = Endpoint::parse(&config.endpoint, config.tls.insecure)?;
        let encoder = config.encoder()?;
        let mut headers = config.headers.to_map(Kind::Grpc)?;
        headers.insert(USER_AGENT, config.user_agent()?.unwrap_or_else(user_agent));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        if let Some(encoding) = config.compression.encoding() {
            headers.insert(HeaderName::from_static("grpc-encoding"), HeaderValue::from_static(encoding));
        }
        if let Some(value) = message::timeout_header(timeout) {
            headers.insert(HeaderName::from_static("grpc-timeout"), value);
        }
        // A name given for the certificate is also what the backend is called, as in gRPC.
        let authority = match (config.authority()?, config.tls.server_name_override.as_deref()) {
            (Some(authority), _) => authority,
            (None, Some(name)) if !name.is_empty() => name
                .parse()
                .map_err(|_| ConfigError::new("tls::server_name_override", "is not a host name or address"))?,
            _ => endpoint.authority.clone(),
        };
        let uri = |signal: Signal| {
            Uri::builder()
                .scheme(endpoint.scheme.clone())
                .authority(authority.clone())
                .path_and_query(signal.grpc_path())
                .build()
                .map_err(|_| ConfigError::new("endpoint", "does not make a URI"))
        };
        Ok(OtlpGrpc {
            uris: [uri(Signal::Traces)?, uri(Signal::Logs)?, uri(Signal::Metrics)?],
            channel: Channel::new(config, &endpoint, surroundings)?,
            headers,
            encoder,
            timeout,
            auth: config.client_of(&surroundings.authenticators)?,
            wait_for_ready: config.wait_for_ready,
            rejections: Rejections::default(),
        })
    }

    /// The same with the exporter's id, for its log.
    #[must_use]
    pub fn named(mut self, id: &str) -> Self {
        self.rejections = Rejections::of(id);
        self
    }

    /// The one place where a request gets its headers.
    fn request(&self, signal: Signal, body: Chunks) -> Request<Chunks> {
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = match signal {
            Signal::Traces => self.uris[0].clone(),
            Signal::Logs => self.uris[1].clone(),
            Signal::Metrics => self.uris[2].clone(),
        };
        *request.headers_mut() = self.headers.clone();
        auth::mark(self.auth.as_ref(), request.headers_mut());
        request
    }

    async fn exchange(&self, signal: Signal, body: Chunks) -> Result<Sent, Failure> {
        auth::ready(self.auth.as_ref())?;
        let make = |body| self.request(signal, body);
        let response = match self.wait_for_ready {
            true => self.channel.request_when_ready(body, make).await?,
            false => self.channel.request(body, make).await?,
        };
        message::read(response).await
    }
}

impl Sender for OtlpGrpc {
    async fn send(&self, outgoing: &Outgoing) -> Result<Sent, Failure> {
        let parts = compress(outgoing.parts.clone(), self.encoder).await?;
        let body = Chunks::new(message::framed(parts, self.encoder.is_some())?);
        let sent = within(self.timeout, self.exchange(outgoing.signal, body)).await?;
        self.rejections.log(outgoing.signal, sent);
        Ok(sent)
    }
}

/// Ends an attempt after `timeout`; zero means no limit.
pub(super) async fn within(
    timeout: Duration,
    attempt: impl Future<Output = Result<Sent, Failure>>,
) -> Result<Sent, Failure> {
    if timeout.is_zero() {
        return attempt.await;
    }
    match tokio::time::timeout(timeout, attempt).await {
        Ok(result) => result,
        Err(_) => Err(Failure::retryable(format!("no answer within {timeout:?}"))),
    }
}
