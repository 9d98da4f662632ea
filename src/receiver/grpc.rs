//! OTLP/gRPC: one unary `Export` call per signal (OTLP specification, "OTLP/gRPC").

use super::{
    body::{Pace, drain},
    codec,
    fault::{Fault, no_pipeline},
    http,
    intake::Intake,
    reply::{self, Reply},
    serve::InFlight,
};
use crate::{
    compression::{Algorithm, Encoder},
    otlp::Signal,
    pipeline::{Accepted, Permit, Refusal, Transport},
};
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use bytes::Bytes;
use http_body::Body;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const ACCEPTED: HeaderValue = HeaderValue::from_static("identity,gzip,zstd,snappy,deflate");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The service behind the gRPC port.
pub(super) struct Grpc {
    pub(super) intake: Arc<Intake>,
    pub(super) max_message_bytes: usize,
    pub(super) read_timeout: Duration,
}

impl Grpc {
    /// Answers one call. `busy` marks the connection as in use until the request is done with.
    pub(super) async fn serve<B>(&self, request: Request<B>, peer: SocketAddr, busy: InFlight) -> Response<Reply>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
    {
        let (head, mut body) = request.into_parts();
        if head.version < Version::HTTP_2 {
            tokio::spawn(drain(body, busy));
            return http::wrong_port(&head.headers);
        }
        if head.method != Method::POST {
            return reply::plain(StatusCode::METHOD_NOT_ALLOWED, "");
        }
        if !is_grpc(&head.headers) {
            return reply::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "");
        }
        let Some(signal) = Signal::ALL.into_iter().find(|signal| signal.grpc_path() == head.uri.path()) else {
            tokio::spawn(drain(body, busy));
            return failure(Status::unimplemented("no such service or method here"));
        };
        match self.call(signal, &head.headers, &mut body, peer).await {
            Ok(accepted) => success(signal, &accepted, mirrored(&head.headers)),
            Err(fault) => {
                // An unread body would end in a reset of the stream, which some clients take for the answer.
                if !matches!(fault, Fault::Slow | Fault::Gone) && !body.is_end_stream() {
                    tokio::spawn(drain(body, busy));
                }
                failure(status(&fault))
            }
        }
    }

    async fn call<B>(
        &self,
        signal: Signal,
        headers: &HeaderMap,
        body: &mut B,
        peer: SocketAddr,
    ) -> Result<Accepted, Fault>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if !self.intake.ingest.takes(signal) {
            return Err(no_pipeline(signal));
        }
        let (message, permit) = self
            .receive(headers, body)
            .await
            .inspect_err(|fault| (self.intake.observer)(signal, Transport::Grpc, fault.kind()))?;
        self.intake.export(signal, message, permit, Transport::Grpc, peer).await
    }

    /// The message as protobuf.
    async fn receive<B>(&self, headers: &HeaderMap, body: &mut B) -> Result<(Bytes, Permit), Fault>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let coding = coding(headers)?;
        let permit = self.intake.admit()?;
        let pace = Pace::new(self.read_timeout, &self.intake.budget);
        let (frame, permit) = codec::read_message(body, self.max_message_bytes, permit, pace).await?;
        match (frame.compressed, coding) {
            (false, _) => Ok((frame.message, permit)),
            (true, Some(coding)) => self.intake.inflate(coding, frame.message, permit, self.max_message_bytes).await,
            // "MUST fail with INTERNAL" (gRPC, doc/compression.md).
            (true, None) => {
                Err(Fault::Framing("the frame is marked as compressed, but the call has no grpc-encoding".to_owned()))
            }
        }
    }
}

pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    value.strip_prefix(b"application/grpc").is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// The call's compression; `None` is identity.
fn coding(headers: &HeaderMap) -> Result<Option<Algorithm>, Fault> {
    match headers.get(ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity" | b"") => Ok(None),
        Some(b"gzip") => Ok(Some(Algorithm::Gzip)),
        Some(b"deflate") => Ok(Some(Algorithm::Deflate)),
        Some(b"zstd") => Ok(Some(Algorithm::Zstd)),
        // The framing format, where gRPC is concerned.
        Some(b"snappy") => Ok(Some(Algorithm::SnappyFramed)),
        Some(other) => Err(Fault::encoding(other)),
    }
}

/// The compression of the answer: the request's own, unless the client lists what it reads and that is not in it.
fn mirrored(headers: &HeaderMap) -> Option<Algorithm> {
    let coding = coding(headers).ok().flatten()?;
    let Some(list) = headers.get(ACCEPT_ENCODING) else { return Some(coding) };
    list.to_str().ok()?.split(',').any(|name| name.trim() == name_of(coding)).then_some(coding)
}

fn name_of(coding: Algorithm) -> &'static str {
    match coding {
        Algorithm::SnappyFramed => "snappy",
        coding => coding.name(),
    }
}

fn success(signal: Signal, accepted: &Accepted, coding: Option<Algorithm>) -> Response<Reply> {
    let message = reply::success_protobuf(signal, accepted);
    // Most answers are empty or a short sentence, which would only grow.
    let packed = coding
        .filter(|_| !message.is_empty())
        .and_then(|coding| Encoder::new(coding).compress(&[&message]).ok())
        .filter(|packed| packed.len() < message.len());
    let frame = match &packed {
        Some(packed) => codec::frame(true, packed),
        None => codec::frame(false, &message),
    };
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(STATUS, HeaderValue::from_static("0"));
    let mut response = Response::new(reply::with_trailers(frame, trailers));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, CONTENT_TYPE);
    headers.insert(ACCEPT_ENCODING, ACCEPTED);
    if let Some(coding) = coding {
        headers.insert(ENCODING, HeaderValue::from_static(name_of(coding)));
    }
    response
}

/// The answer to a gRPC call on the HTTP port.
pub(super) fn wrong_port() -> Response<Reply> {
    failure(Status::unimplemented("this port speaks OTLP/HTTP; send OTLP/gRPC to the gRPC port, 4317 by default"))
}

/// A status without a message: headers only.
fn failure(status: Status) -> Response<Reply> {
    let mut response = status.into_http::<()>().map(|()| reply::empty());
    response.headers_mut().insert(ACCEPT_ENCODING, ACCEPTED);
    response
}

/// The gRPC status of a fault (OTLP specification, "Failures" and "OTLP/gRPC Throttling"; gRPC, doc/statuscodes.md).
fn status(fault: &Fault) -> Status {
    let message = match fault {
        Fault::Encoding(Some(name)) => format!("unsupported grpc-encoding: {name}"),
        Fault::Encoding(None) => "unsupported grpc-encoding".to_owned(),
        other => other.message(),
    };
    match fault {
        Fault::Refused(Refusal::Malformed(_)) => {
            let details = ErrorDetails::with_bad_request_violation("request", message.clone());
            Status::with_error_details(Code::InvalidArgument, message, details)
        }
        // Without RetryInfo, which makes it permanent for the client.
        Fault::Refused(Refusal::TooLarge(_)) => Status::resource_exhausted(message),
        Fault::Refused(Refusal::Overloaded { retry_after, .. }) => {
            let details = ErrorDetails::with_retry_info(Some(*retry_after));
            Status::with_error_details(Code::Unavailable, message, details)
        }
        Fault::Refused(Refusal::NoPipeline(_)) | Fault::Encoding(_) | Fault::Messages(_) => {
            Status::unimplemented(message)
        }
        Fault::Refused(Refusal::Internal(_)) | Fault::Framing(_) => Status::internal(message),
        Fault::Slow => Status::deadline_exceeded(message),
        Fault::Gone => Status::cancelled(message),
    }
}
