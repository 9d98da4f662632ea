//! OTLP over HTTP, in protobuf or JSON.

mod config;
mod cookies;
mod endpoint;

pub use config::{CompressionParams, Config, Cookies, Encoding};

use super::{
    Failure, Observer, Outgoing, Sender, Sent, auth, blocking,
    client::{Chunks, Dial, HttpClient, Proxy, Route, Routes, Surroundings, transport_error},
    compress, config as shared,
    headers::{Kind, user_agent},
    otlp_grpc::within,
    queue::{MemoryQueue, Settings},
    response::{ContentType, MAX_RESPONSE_BYTES, Rejections, is_encoded, redirect_host, retry_after, status_code},
};
use crate::{
    auth::Client,
    compression::Encoder,
    config::ConfigError,
    otlp::{self, Signal},
    pipeline::Destination,
};
use bytes::{Bytes, BytesMut};
use cookies::Jar;
use endpoint::Endpoints;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, COOKIE, PROXY_AUTHORIZATION, USER_AGENT},
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
    config.warnings().iter().for_each(|warning| tracing::warn!(exporter = id, "{warning}"));
    let settings = Settings::new(&config.sending_queue, config.retry_on_failure, config.max_request_bytes);
    Ok(MemoryQueue::start(id, settings, OtlpHttp::within(config, surroundings)?.named(id), observer))
}

/// Sends export requests over HTTP.
#[derive(Debug)]
pub struct OtlpHttp {
    client: HttpClient,
    endpoints: Endpoints,
    headers: HeaderMap,
    /// `Proxy-Authorization` for those requests that a proxy reads.
    proxies: Vec<(Uri, HeaderValue)>,
    cookies: Option<Jar>,
    encoding: Encoding,
    encoder: Option<Encoder>,
    /// Zero means no limit.
    timeout: Duration,
    auth: Option<Client>,
    rejections: Rejections,
}

impl OtlpHttp {
    /// A sender for this configuration, with the proxies of this process.
    ///
    /// # Errors
    /// [`ConfigError`] when an endpoint, a proxy, a header or a certificate file cannot be used.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        Self::within(config, &Surroundings::of_process())
    }

    /// [`OtlpHttp::new`] with other surroundings.
    ///
    /// # Errors
    /// As [`OtlpHttp::new`].
    pub fn within(config: &Config, surroundings: &Surroundings) -> Result<Self, ConfigError> {
        let endpoints = Endpoints::of(config)?;
        let proxies = proxies(config, &endpoints, surroundings)?;
        let mut headers = config.headers.to_map(Kind::Http)?;
        headers.entry(USER_AGENT).or_insert_with(user_agent);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(config.encoding.content_type()));
        if let Some(encoding) = config.compression.encoding() {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        if config.disable_keep_alives {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let plain = |(uri, proxy): &(Uri, Arc<Proxy>)| {
            let read = proxy.forwards() && uri.scheme_str() == Some("http");
            proxy.basic().filter(|_| read).map(|authorization| (uri.clone(), authorization))
        };
        let authorizations = proxies.iter().filter_map(plain).collect();
        let tls_to_proxy = proxies.iter().any(|(_, proxy)| proxy.is_secure());
        let tls = config.tls.client_config(endpoints.secure() || tls_to_proxy)?;
        let dial = Dial::new(Route::ByUri(Arc::new(Routes::new(proxies, config.max_connections()))), &tls);
        Ok(OtlpHttp {
            client: config.connections().client(tls, config.tls.server_name()?, dial),
            endpoints,
            headers,
            proxies: authorizations,
            cookies: config.cookies.is_some_and(|cookies| cookies.enabled).then(Jar::default),
            encoding: config.encoding,
            encoder: config.encoder()?,
            timeout: config.timeout.get(),
            auth: config.client_of(&surroundings.authenticators)?,
            rejections: Rejections::default(),
        })
    }

    /// The same with the exporter's id, for its log.
    #[must_use]
    pub fn named(mut self, id: &str) -> Self {
        self.rejections = Rejections::of(id);
        self
    }

    async fn body(&self, outgoing: &Outgoing) -> Result<Chunks, Failure> {
        let parts = match self.encoding {
            Encoding::Proto => outgoing.parts.clone(),
            Encoding::Json => vec![to_json(outgoing.signal, outgoing.to_bytes()).await?],
        };
        Ok(Chunks::new(compress(parts, self.encoder).await?))
    }

    /// The one place where a request gets its headers.
    fn request(&self, uri: &Uri, body: Chunks) -> Request<Chunks> {
        let mut headers = self.headers.clone();
        auth::mark(self.auth.as_ref(), &mut headers);
        if let Some((_, authorization)) = self.proxies.iter().find(|(of, _)| of == uri) {
            headers.insert(PROXY_AUTHORIZATION, authorization.clone());
        }
        if let Some(cookies) = self.cookies.as_ref().and_then(|jar| jar.header(uri, SystemTime::now())) {
            headers.append(COOKIE, cookies);
        }
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers;
        request
    }

    async fn exchange(&self, uri: &Uri, body: Chunks) -> Result<Sent, Failure> {
        auth::ready(self.auth.as_ref())?;
        let response = self.client.request(self.request(uri, body)).await.map_err(|error| {
            let what = if error.is_connect() { "cannot connect to the backend" } else { "the connection failed" };
            Failure::retryable(format!("{what}: {}", transport_error(&error)))
        })?;
        if let Some(jar) = &self.cookies {
            jar.store(uri, response.headers(), SystemTime::now());
        }
        read(response).await
    }
}

/// Which endpoints are reached through which proxy.
fn proxies(
    config: &Config,
    endpoints: &Endpoints,
    surroundings: &Surroundings,
) -> Result<Vec<(Uri, Arc<Proxy>)>, ConfigError> {
    let configured = config.proxy()?.map(Arc::new);
    let mut proxies = Vec::new();
    for uri in endpoints.all() {
        let secure = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or_default();
        let proxy = match &configured {
            Some(proxy) => Some(proxy.clone()),
            None if secure => surroundings.proxies.https(host, uri.port_u16().unwrap_or(443))?,
            None => surroundings.proxies.http(host, uri.port_u16().unwrap_or(80))?,
        };
        proxies.extend(proxy.map(|proxy| (uri.clone(), proxy)));
    }
    Ok(proxies)
}

impl Sender for OtlpHttp {
    async fn send(&self, outgoing: &Outgoing) -> Result<Sent, Failure> {
        let signal = outgoing.signal.name();
        let uri = self
            .endpoints
            .get(outgoing.signal)
            .ok_or_else(|| Failure::refused(format!("either endpoint or {signal}_endpoint must be specified")))?;
        let body = self.body(outgoing).await?;
        let sent = within(self.timeout, self.exchange(uri, body)).await?;
        self.rejections.log(outgoing.signal, sent);
        Ok(sent)
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
            ContentType::Protobuf | ContentType::Json if !body.is_empty() && is_encoded(&head.headers) => {
                Err(Failure::unconfirmed("the backend's answer is in a content coding that was not asked for"))
            }
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
        // Neither the body nor the credentials in its headers are for whoever the answer names.
        let host = redirect_host(&head.headers).map(|host| format!(" to {host}")).unwrap_or_default();
        what.push_str(&format!(", a redirect{host}, which is not followed"));
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
