//! OTLP over HTTP, in protobuf or JSON.

mod config;
mod endpoint;

pub use config::{CompressionParams, Config, Encoding};

use super::{
    Failure, Observer, Outgoing, Sender, Sent, blocking,
    client::{Chunks, HttpClient, transport_error},
    compress,
    headers::{Kind, user_agent},
    otlp_grpc::within,
    queue::{MemoryQueue, Settings},
    response::{ContentType, MAX_RESPONSE_BYTES, retry_after, status_code},
};
use crate::{
    compression::Encoder,
    config::ConfigError,
    otlp::{self, Signal},
    pipeline::Destination,
};
use bytes::{Bytes, BytesMut};
use endpoint::Endpoints;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT},
};
use http_body::Body;
use http_body_util::BodyExt;
use std::{
    error::Error as StdError,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Starts the exporter's queue and workers. Nothing is connected before the first request. Must be called within a
/// Tokio runtime.
///
/// # Errors
/// [`ConfigError`] when the configuration is invalid or a certificate file cannot be used.
pub fn start(id: &str, config: &Config, observer: Arc<dyn Observer>) -> Result<Arc<dyn Destination>, ConfigError> {
    config.validate()?;
    let settings = Settings::new(&config.sending_queue, config.retry_on_failure, config.max_request_bytes);
    Ok(MemoryQueue::start(id, settings, OtlpHttp::new(config)?, observer))
}

/// Sends export requests over HTTP.
#[derive(Debug)]
pub struct OtlpHttp {
    client: HttpClient,
    endpoints: Endpoints,
    headers: HeaderMap,
    encoding: Encoding,
    encoder: Option<Encoder>,
    /// Zero means no limit.
    timeout: Duration,
}

impl OtlpHttp {
    /// A sender for this configuration.
    ///
    /// # Errors
    /// [`ConfigError`] when an endpoint, a header or a certificate file cannot be used.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        let endpoints = Endpoints::of(config)?;
        let mut headers = config.headers.to_map(Kind::Http)?;
        headers.entry(USER_AGENT).or_insert_with(user_agent);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(config.encoding.content_type()));
        if let Some(encoding) = config.compression.encoding() {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        Ok(OtlpHttp {
            client: config.connections(endpoints.secure()).client(&config.tls)?,
            endpoints,
            headers,
            encoding: config.encoding,
            encoder: config.encoder()?,
            timeout: config.timeout.get(),
        })
    }

    async fn request(&self, outgoing: &Outgoing) -> Result<Request<Chunks>, Failure> {
        let uri = self
            .endpoints
            .get(outgoing.signal)
            .ok_or_else(|| Failure::refused(format!("no endpoint is configured for {}", outgoing.signal.name())))?;
        let parts = match self.encoding {
            Encoding::Proto => outgoing.parts.clone(),
            Encoding::Json => vec![to_json(outgoing.signal, outgoing.to_bytes()).await?],
        };
        let body = compress(parts, self.encoder).await?;
        let mut request = Request::new(Chunks::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = self.headers.clone();
        Ok(request)
    }

    async fn exchange(&self, request: Request<Chunks>) -> Result<Sent, Failure> {
        let response = self.client.request(request).await.map_err(|error| {
            let what = if error.is_connect() { "cannot connect to the backend" } else { "the connection failed" };
            Failure::retryable(format!("{what}: {}", transport_error(&error)))
        })?;
        read(response).await
    }
}

impl Sender for OtlpHttp {
    async fn send(&self, outgoing: &Outgoing) -> Result<Sent, Failure> {
        let request = self.request(outgoing).await?;
        within(self.timeout, self.exchange(request)).await
    }
}

/// Converting a large request would hold up other work on the same thread for too long.
async fn to_json(signal: Signal, bytes: Bytes) -> Result<Bytes, Failure> {
    blocking(move || otlp::json::from_protobuf(signal, &bytes).into()).await
}

/// Enough of an error's body for its code.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// What an answer means (OTLP specification, "OTLP/HTTP Response").
async fn read<B>(response: Response<B>) -> Result<Sent, Failure>
where
    B: Body<Data = Bytes, Error: StdError + 'static>,
{
    let (head, body) = response.into_parts();
    let content_type = ContentType::of(&head.headers);
    if head.status.is_success() {
        let body = match collect(body, MAX_RESPONSE_BYTES).await? {
            Collected::Whole(body) => body,
            Collected::TooLarge => return Err(Failure::unconfirmed("the backend's answer is larger than 4 MiB")),
        };
        return match content_type {
            ContentType::Protobuf => Sent::from_protobuf(&body),
            ContentType::Json => Sent::from_json(&body),
            // Without a claim to be an export response there is nothing to misread: any 2xx is success.
            ContentType::Other => Ok(Sent::default()),
        };
    }
    // Reading the rest lets the connection be used again.
    let code = match collect(body, MAX_ERROR_BYTES).await {
        Ok(Collected::Whole(body)) => status_code(content_type, &body),
        _ => None,
    };
    let mut what = format!("the backend answered HTTP status {}", head.status.as_u16());
    if head.status.is_redirection() {
        what.push_str(", a redirect, which is not followed");
    }
    if let Some(code) = code {
        what.push_str(&format!(" with code {code}"));
    }
    Err(match head.status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => {
            Failure::Retryable { what: what.into(), after: retry_after(&head.headers, SystemTime::now()) }
        }
        _ => Failure::refused(what),
    })
}

enum Collected {
    Whole(Bytes),
    TooLarge,
}

async fn collect<B>(body: B, max: usize) -> Result<Collected, Failure>
where
    B: Body<Data = Bytes, Error: StdError + 'static>,
{
    let mut body = std::pin::pin!(body);
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Failure::retryable(format!("the connection failed within the answer: {}", transport_error(&error)))
        })?;
        if let Ok(data) = frame.into_data() {
            if whole.len() + data.len() > max {
                return Ok(Collected::TooLarge);
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(Collected::Whole(whole.freeze()))
}
