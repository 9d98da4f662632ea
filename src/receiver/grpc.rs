//! OTLP/gRPC: one unary `Export` call per signal (OTLP specification, "OTLP/gRPC").

use super::{
    activity::InFlight,
    auth::Gate,
    body::{Pace, drain},
    codec,
    fault::{Fault, no_pipeline},
    http,
    intake::{From, Intake},
    metadata,
    reply::{self, Reply},
};
use crate::{
    auth::Principal,
    compression::{Algorithm, Encoder},
    otlp::Signal,
    pipeline::{Accepted, Metadata, Permit, Refusal, Transport},
};
use ::http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts,
};
use bytes::Bytes;
use http_body::Body;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const ACCEPTED: HeaderValue = HeaderValue::from_static("identity,gzip,zstd,snappy,deflate");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Where OTLP's fourth signal, still in development, is sent.
const PROFILES: &str = "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export";

/// What is said about it.
pub(super) const NO_PROFILES: &str = "profiles are not supported; send traces, logs and metrics";

/// The service behind the gRPC port.
pub(super) struct Grpc {
    pub(super) intake: Arc<Intake>,
    pub(super) max_message_bytes: usize,
    pub(super) read_timeout: Duration,
    pub(super) include_metadata: bool,
    pub(super) gate: Option<Gate>,
}

/// A message, the room it takes, and who sent it.
type Received = (Bytes, Permit, Option<Arc<Principal>>);

impl Grpc {
    /// Answers one call. `busy` marks the connection as in use until the request is done with.
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
            let text = if head.uri.path() == PROFILES { NO_PROFILES } else { "no such service or method here" };
            return failure(Status::unimplemented(text));
        };
        match self.call(signal, &head, &mut body, peer).await {
            Ok(accepted) => success(signal, &accepted, mirrored(&head.headers)),
            Err(fault) => {
                // An unread body would end in a reset of the stream, which some clients take for the answer.
                if !matches!(fault, Fault::Slow | Fault::Deadline | Fault::Gone) && !body.is_end_stream() {
                    tokio::spawn(drain(body, busy));
                }
                failure(status(&fault))
            }
        }
    }

    async fn call<B>(
        &self,
        signal: Signal,
        head: &Parts,
        body: &mut B,
        peer: Option<SocketAddr>,
    ) -> Result<Accepted, Fault>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if !self.intake.ingest.takes(signal) {
            return Err(no_pipeline(signal));
        }
        let observe = |fault: &Fault| (self.intake.observer)(signal, Transport::Grpc, fault.kind());
        let deadline = deadline(&head.headers).inspect_err(observe)?;
        let received = self.receive(head, body, peer);
        let received = match deadline {
            None => received.await,
            Some(deadline) => timeout_at(deadline, received).await.unwrap_or(Err(Fault::Deadline)),
        };
        let (message, permit, principal) = received.inspect_err(observe)?;
        let metadata = match self.include_metadata {
            true => metadata::of(head, self.gate.as_ref()),
            false => Metadata::default(),
        };
        let from = From { transport: Transport::Grpc, peer, metadata, principal, deadline };
        self.intake.export(signal, message, permit, from).await
    }

    /// The message as protobuf, and who sends it.
    async fn receive<B>(&self, head: &Parts, body: &mut B, peer: Option<SocketAddr>) -> Result<Received, Fault>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let principal = match &self.gate {
            Some(gate) => Some(gate.admit(head, peer).await?),
            None => None,
        };
        let coding = coding(&head.headers)?;
        let permit = self.intake.admit()?;
        let pace = Pace::new(self.read_timeout, &self.intake.budget);
        let (frame, permit) = codec::read_message(body, self.max_message_bytes, permit, pace).await?;
        match (frame.compressed, coding) {
            (false, _) => Ok((frame.message, permit, principal)),
            (true, Some(coding)) => {
                let inflated = self.intake.inflate(coding, frame.message, permit, self.max_message_bytes).await?;
                Ok((inflated.0, inflated.1, principal))
            }
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

/// When the client stops waiting (gRPC over HTTP/2, "Timeout"): at most eight digits and a unit.
fn deadline(headers: &HeaderMap) -> Result<Option<Instant>, Fault> {
    let Some(value) = headers.get(TIMEOUT) else { return Ok(None) };
    let after = parse_timeout(value.as_bytes()).ok_or_else(|| Fault::Framing("malformed grpc-timeout".to_owned()))?;
    // Beyond what a clock can say is no deadline.
    Ok(Instant::now().checked_add(after))
}

fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (&unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount = digits.iter().fold(0, |n: u64, digit| n * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Some(Duration::from_secs(amount * 3600)),
        b'M' => Some(Duration::from_secs(amount * 60)),
        b'S' => Some(Duration::from_secs(amount)),
        b'm' => Some(Duration::from_millis(amount)),
        b'u' => Some(Duration::from_micros(amount)),
        b'n' => Some(Duration::from_nanos(amount)),
        _ => None,
    }
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

/// The compression of the answer: the request's own, if the client says that it reads it.
fn mirrored(headers: &HeaderMap) -> Option<Algorithm> {
    let coding = coding(headers).ok().flatten()?;
    headers.get(ACCEPT_ENCODING)?.to_str().ok()?.split(',').any(|name| name.trim() == name_of(coding)).then_some(coding)
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
    // Named only where it is used: a client that compresses and reads no compression, such as a tonic client with
    // `send_compressed` alone, refuses every answer that names one.
    if let (Some(coding), true) = (coding, packed.is_some()) {
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
        Fault::Refused(Refusal::Internal(_) | Refusal::Undeliverable(_)) | Fault::Framing(_) => {
            Status::internal(message)
        }
        Fault::Slow | Fault::Deadline => Status::deadline_exceeded(message),
        Fault::Gone => Status::cancelled(message),
        Fault::Unauthenticated { .. } => Status::unauthenticated(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_up_to_eight_digits_and_a_unit() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("10S", Some(Duration::from_secs(10))),
            ("5m", Some(Duration::from_millis(5))),
            ("7u", Some(Duration::from_micros(7))),
            ("0n", Some(Duration::ZERO)),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("100000000n", None),
            ("1", None),
            ("S", None),
            ("", None),
            ("-1S", None),
            ("1.5S", None),
            ("1s", None),
            (" 1S", None),
        ] {
            assert_eq!(parse_timeout(text.as_bytes()), expected, "{text:?}");
        }
    }
}
