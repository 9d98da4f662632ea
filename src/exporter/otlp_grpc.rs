//! OTLP over gRPC.
//!
//! A unary call is one POST over HTTP/2, so this is written on the HTTP client rather than on tonic's: request bytes go
//! out without being copied into an encoder, a status the backend sent can be told from a fault of the transport, an
//! oversized answer is not taken for a retryable one, and a malformed `grpc-status-details-bin` cannot panic.

mod config;
mod endpoint;
mod message;

pub use config::{Config, Keepalive};

use super::{
    Failure, Observer, Outgoing, Sender, Sent,
    client::{Chunks, HttpClient, transport_error},
    compress,
    headers::{Kind, user_agent},
    queue::{MemoryQueue, Settings},
};
use crate::{compression::Encoder, config::ConfigError, otlp::Signal, pipeline::Destination};
use endpoint::Endpoint;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version,
    header::{CONTENT_TYPE, TE, USER_AGENT},
    uri::Scheme,
};
use std::{future::Future, sync::Arc, time::Duration};

/// Starts the exporter's queue and workers. Nothing is connected before the first request. Must be called within a
/// Tokio runtime.
///
/// # Errors
/// [`ConfigError`] when the configuration is invalid or a certificate file cannot be used.
pub fn start(id: &str, config: &Config, observer: Arc<dyn Observer>) -> Result<Arc<dyn Destination>, ConfigError> {
    config.validate()?;
    let settings = Settings::new(&config.sending_queue, config.retry_on_failure, config.max_request_bytes);
    Ok(MemoryQueue::start(id, settings, OtlpGrpc::new(config)?, observer))
}

/// Sends export requests over gRPC.
#[derive(Debug)]
pub struct OtlpGrpc {
    client: HttpClient,
    endpoint: Endpoint,
    headers: HeaderMap,
    encoder: Option<Encoder>,
    /// Zero means no limit.
    timeout: Duration,
}

impl OtlpGrpc {
    /// A sender for this configuration.
    ///
    /// # Errors
    /// [`ConfigError`] when the endpoint, a header or a certificate file cannot be used.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        let timeout = config.timeout.get();
        let endpoint = Endpoint::parse(&config.endpoint, config.tls.insecure)?;
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
        Ok(OtlpGrpc {
            client: config.connections(endpoint.scheme == Scheme::HTTPS).client(&config.tls)?,
            endpoint,
            headers,
            encoder: config.encoder()?,
            timeout,
        })
    }

    async fn request(&self, outgoing: &Outgoing) -> Result<Request<Chunks>, Failure> {
        let parts = compress(outgoing.parts.clone(), self.encoder).await?;
        let body = message::framed(parts, self.encoder.is_some())?;
        let mut request = Request::new(Chunks::new(body));
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = self.uri(outgoing.signal)?;
        *request.headers_mut() = self.headers.clone();
        Ok(request)
    }

    fn uri(&self, signal: Signal) -> Result<Uri, Failure> {
        Uri::builder()
            .scheme(self.endpoint.scheme.clone())
            .authority(self.endpoint.authority.clone())
            .path_and_query(signal.grpc_path())
            .build()
            .map_err(|_| Failure::refused("the endpoint does not make a URI"))
    }

    async fn exchange(&self, request: Request<Chunks>) -> Result<Sent, Failure> {
        let response = self.client.request(request).await.map_err(|error| {
            let what = if error.is_connect() { "cannot connect to the backend" } else { "the connection failed" };
            Failure::retryable(format!("{what}: {}", transport_error(&error)))
        })?;
        message::read(response).await
    }
}

impl Sender for OtlpGrpc {
    async fn send(&self, outgoing: &Outgoing) -> Result<Sent, Failure> {
        let request = self.request(outgoing).await?;
        within(self.timeout, self.exchange(request)).await
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
