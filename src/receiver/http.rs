//! OTLP/HTTP: protobuf and JSON on configurable paths (OTLP specification, "OTLP/HTTP").

use super::{
    activity::InFlight,
    auth::Gate,
    body::{Pace, drain, read_all},
    cors::Cors,
    fault::Fault,
    grpc,
    intake::{From, Intake},
    metadata,
    reply::{self, Reply},
};
use crate::{
    auth::Principal,
    compression::Algorithm,
    otlp::Signal,
    pipeline::{Accepted, Metadata, Permit, Refusal, Transport},
};
use ::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts};
use bytes::Bytes;
use http_body::Body;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tonic_types::{ErrorDetails, StatusExt};

/// The service behind the HTTP port.
pub(super) struct Http {
    pub(super) intake: Arc<Intake>,
    pub(super) paths: Vec<(String, Signal)>,
    pub(super) codings: Vec<Algorithm>,
    pub(super) max_body_bytes: usize,
    pub(super) read_timeout: Duration,
    pub(super) response_headers: HeaderMap,
    pub(super) cors: Option<Cors>,
    pub(super) include_metadata: bool,
    pub(super) gate: Option<Gate>,
}

/// Where OTLP's fourth signal, still in development, is posted.
const PROFILES: &str = "/v1development/profiles";

/// How a request's body, and so its answer, is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        // Parameters such as `charset=utf-8` are tolerated.
        let essence = value.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("application/x-protobuf") {
            Some(Encoding::Protobuf)
        } else if essence.eq_ignore_ascii_case("application/json") {
            Some(Encoding::Json)
        } else {
            None
        }
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Encoding::Protobuf => "application/x-protobuf",
            Encoding::Json => "application/json",
        })
    }
}

impl Http {
    /// Answers one request. `busy` marks the connection as in use until the request is done with.
    pub(super) async fn serve<B>(
        &self,
        request: Request<B>,
        peer: Option<SocketAddr>,
        busy: InFlight,
    ) -> Response<Reply>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
    {
        let (head, mut body) = request.into_parts();
        if head.version == Version::HTTP_2 && grpc::is_grpc(&head.headers) {
            tokio::spawn(drain(body, busy));
            return grpc::wrong_port();
        }
        let mut read = Progress::default();
        let mut response = match &self.cors {
            Some(cors) if Cors::is_preflight(&head) => preflight(cors, &head.headers),
            cors => {
                let mut response = self.answer(&head, &mut body, peer, &mut read).await;
                if let Some(cors) = cors {
                    cors.mark(&head.method, &head.headers, response.headers_mut());
                }
                response
            }
        };
        // A client that waits for `100 Continue` has sent nothing yet: reading would ask for the body it can spare.
        let waits = head.headers.contains_key(header::EXPECT) && !read.begun;
        if !(body.is_end_stream() || waits || read.give_up) {
            tokio::spawn(drain(body, busy));
        }
        for (name, value) in &self.response_headers {
            response.headers_mut().insert(name, value.clone());
        }
        response
    }

    async fn answer<B>(
        &self,
        head: &Parts,
        body: &mut B,
        peer: Option<SocketAddr>,
        read: &mut Progress,
    ) -> Response<Reply>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let principal = match &self.gate {
            None => None,
            // Whoever is not known learns nothing, not even which paths there are.
            Some(gate) => match gate.admit(head, peer).await {
                Ok(principal) => Some(principal),
                Err(fault) => return self.turned_away(head, &fault),
            },
        };
        let (signal, encoding) = match self.route(head) {
            Ok(routed) => routed,
            Err(response) => return *response,
        };
        match self.export(signal, encoding, head, body, (peer, principal), read).await {
            Ok(accepted) => success(signal, encoding, &accepted),
            Err(fault) => {
                if matches!(fault, Fault::Slow | Fault::Gone) {
                    read.give_up = true;
                }
                failure(encoding, &fault)
            }
        }
    }

    /// The answer to a request that is not let in.
    fn turned_away(&self, head: &Parts, fault: &Fault) -> Response<Reply> {
        if let Some(signal) = self.signal(head) {
            (self.intake.observer)(signal, Transport::Http, fault.kind());
        }
        match Encoding::of(&head.headers) {
            Some(encoding) => failure(encoding, fault),
            None => {
                let mut response = failure(Encoding::Json, fault);
                *response.body_mut() = reply::full(fault.message());
                let plain = HeaderValue::from_static("text/plain; charset=utf-8");
                response.headers_mut().insert(header::CONTENT_TYPE, plain);
                response
            }
        }
    }

    fn signal(&self, head: &Parts) -> Option<Signal> {
        self.paths.iter().find(|(path, _)| path == head.uri.path()).map(|&(_, signal)| signal)
    }

    fn route(&self, head: &Parts) -> Result<(Signal, Encoding), Box<Response<Reply>>> {
        let encoding = Encoding::of(&head.headers);
        let Some(signal) = self.signal(head).filter(|&signal| self.intake.ingest.takes(signal)) else {
            let text = if head.uri.path() == PROFILES { grpc::NO_PROFILES } else { "404 page not found" };
            return Err(refusal(encoding, StatusCode::NOT_FOUND, text).into());
        };
        if head.method != Method::POST {
            let text = "405 method not allowed, supported: [POST]";
            let mut response = refusal(encoding, StatusCode::METHOD_NOT_ALLOWED, text);
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            return Err(response.into());
        }
        let Some(encoding) = encoding else {
            let text = "415 unsupported media type, supported: [application/json, application/x-protobuf]";
            return Err(reply::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into());
        };
        if self.include_metadata && !metadata::fits(&head.headers) {
            let text = "the request's headers are larger than the limit of 16384 bytes";
            return Err(with_status(encoding, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text, false).into());
        }
        Ok((signal, encoding))
    }

    async fn export<B>(
        &self,
        signal: Signal,
        encoding: Encoding,
        head: &Parts,
        body: &mut B,
        (peer, principal): (Option<SocketAddr>, Option<Arc<Principal>>),
        read: &mut Progress,
    ) -> Result<Accepted, Fault>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let (message, permit) = self
            .receive(signal, encoding, &head.headers, body, read)
            .await
            .inspect_err(|fault| (self.intake.observer)(signal, Transport::Http, fault.kind()))?;
        let metadata = match self.include_metadata {
            true => metadata::of(head, self.gate.as_ref()),
            false => Metadata::default(),
        };
        let from = From { transport: Transport::Http, peer, metadata, principal, deadline: None };
        self.intake.export(signal, message, permit, from).await
    }

    /// The request as protobuf.
    async fn receive<B>(
        &self,
        signal: Signal,
        encoding: Encoding,
        headers: &HeaderMap,
        body: &mut B,
        read: &mut Progress,
    ) -> Result<(Bytes, Permit), Fault>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let coding = self.coding(headers)?;
        let permit = self.intake.admit()?;
        let announced = body.size_hint().exact();
        if announced.is_some_and(|n| n > self.max_body_bytes as u64) {
            return Err(Fault::too_large(self.max_body_bytes));
        }
        read.begun = true;
        let pace = Pace::new(self.read_timeout, &self.intake.budget);
        let (bytes, permit) = read_all(body, announced, self.max_body_bytes, permit, pace).await?;
        let (bytes, permit) = match coding {
            None => (bytes, permit),
            Some(coding) => self.intake.inflate(coding, bytes, permit, self.max_body_bytes).await?,
        };
        match encoding {
            Encoding::Protobuf => Ok((bytes, permit)),
            Encoding::Json => self.intake.convert(signal, bytes, permit, self.max_body_bytes).await,
        }
    }

    /// The body's compression; `None` is identity.
    fn coding(&self, headers: &HeaderMap) -> Result<Option<Algorithm>, Fault> {
        let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(Fault::encoding(b""));
        }
        let name = value.as_bytes().trim_ascii();
        if name.is_empty() || name.eq_ignore_ascii_case(b"identity") {
            return Ok(None);
        }
        let known = self.codings.iter().find(|coding| name.eq_ignore_ascii_case(coding.name().as_bytes()));
        known.map(|&coding| Some(coding)).ok_or_else(|| Fault::encoding(name))
    }
}

/// The answer to HTTP/1 on the gRPC port, a mistake every newcomer makes once.
pub(super) fn wrong_port(headers: &HeaderMap) -> Response<Reply> {
    let text = "this port speaks OTLP/gRPC; send OTLP/HTTP to the HTTP port, 4318 by default";
    refusal(Encoding::of(headers), StatusCode::BAD_REQUEST, text)
}

/// How far a request's body was read.
#[derive(Debug, Default)]
struct Progress {
    begun: bool,
    give_up: bool,
}

/// The answer to a browser's question what a page may send.
fn preflight(cors: &Cors, asked: &HeaderMap) -> Response<Reply> {
    let mut response = Response::new(reply::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    *response.headers_mut() = cors.preflight(asked);
    response
}

fn success(signal: Signal, encoding: Encoding, accepted: &Accepted) -> Response<Reply> {
    let body = match encoding {
        Encoding::Protobuf => reply::success_protobuf(signal, accepted),
        Encoding::Json => reply::success_json(signal, accepted),
    };
    let mut response = Response::new(reply::full(body));
    response.headers_mut().insert(header::CONTENT_TYPE, encoding.content_type());
    response
}

/// A refusal before the body matters: a `Status` where the client said what it speaks, else the Collector's text.
fn refusal(encoding: Option<Encoding>, status: StatusCode, text: &'static str) -> Response<Reply> {
    match encoding {
        Some(encoding) => with_status(encoding, status, text, false),
        None => reply::plain(status, text),
    }
}

fn failure(encoding: Encoding, fault: &Fault) -> Response<Reply> {
    let (status, bad_request) = match fault {
        Fault::Refused(Refusal::Malformed(_)) | Fault::Framing(_) => (StatusCode::BAD_REQUEST, true),
        Fault::Encoding(_) | Fault::Messages(_) | Fault::Gone => (StatusCode::BAD_REQUEST, false),
        Fault::Refused(Refusal::TooLarge(_)) => (StatusCode::PAYLOAD_TOO_LARGE, false),
        Fault::Refused(Refusal::Overloaded { .. }) => (StatusCode::SERVICE_UNAVAILABLE, false),
        Fault::Refused(Refusal::NoPipeline(_)) => (StatusCode::NOT_FOUND, false),
        Fault::Refused(Refusal::Internal(_) | Refusal::Undeliverable(_)) => (StatusCode::INTERNAL_SERVER_ERROR, false),
        // 408 would be the word for it, but OTLP clients do not retry that, and the data was fine.
        Fault::Slow | Fault::Deadline => (StatusCode::SERVICE_UNAVAILABLE, false),
        Fault::Unauthenticated { .. } => (StatusCode::UNAUTHORIZED, false),
    };
    let mut response = with_status(encoding, status, &fault.message(), bad_request);
    if let Some(after) = fault.retry_after() {
        // Whole seconds, rounded up: sooner would be too soon.
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    if let Fault::Unauthenticated { challenge, .. } = fault {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge.clone());
    }
    if matches!(fault, Fault::Slow | Fault::Gone) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// An answer whose body is a `google.rpc.Status` in the request's encoding.
fn with_status(encoding: Encoding, status: StatusCode, message: &str, bad_request: bool) -> Response<Reply> {
    let code = rpc_code(status);
    let body = match encoding {
        Encoding::Protobuf => {
            let mut details = ErrorDetails::new();
            if bad_request {
                details.add_bad_request_violation("request", message);
            }
            // tonic keeps a whole encoded google.rpc.Status, code and message included, as its details.
            tonic::Status::with_error_details(code.into(), message, details).details().to_vec()
        }
        Encoding::Json => {
            let mut body = serde_json::json!({ "code": code, "message": message });
            if bad_request {
                body["details"] = serde_json::json!([{
                    "@type": "type.googleapis.com/google.rpc.BadRequest",
                    "fieldViolations": [{ "field": "request", "description": message }],
                }]);
            }
            body.to_string().into_bytes()
        }
    };
    let mut response = Response::new(reply::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, encoding.content_type());
    response
}

/// The `code` of a `Status` body, as the Collector fills it.
fn rpc_code(status: StatusCode) -> i32 {
    match status.as_u16() {
        400 => 3,
        401 => 16,
        403 => 7,
        404 => 12,
        429 => 8,
        502..=504 => 14,
        _ => 2,
    }
}
