//! One unary gRPC call over HTTP/2: the frame around the message, and what an answer means (gRPC over HTTP/2; OTLP
//! specification, "OTLP/gRPC Response").

use crate::exporter::{Failure, Sent, client::transport_error, response::MAX_RESPONSE_BYTES};
use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use http_body::Body;
use http_body_util::BodyExt;
use std::{error::Error as StdError, time::Duration};
use tonic::Code;
use tonic_types::StatusExt;

/// Flag and length in front of every message.
const FRAME_HEADER: usize = 5;

/// The default size of an HTTP/2 frame: pieces of at least half of it are sent as they are, smaller ones are cheaper
/// to copy together than to send one by one.
const WORTH_A_FRAME: usize = 8 * 1024;

/// Puts the frame around one message.
pub(super) fn framed(parts: Vec<Bytes>, compressed: bool) -> Result<Vec<Bytes>, Failure> {
    let len = parts.iter().map(Bytes::len).sum::<usize>();
    let declared = u32::try_from(len).map_err(|_| Failure::refused("the request is too large for gRPC"))?;
    let copied = len < WORTH_A_FRAME * parts.len().max(1);
    let mut head = BytesMut::with_capacity(FRAME_HEADER + if copied { len } else { 0 });
    head.put_u8(u8::from(compressed));
    head.put_u32(declared);
    if copied {
        parts.iter().for_each(|part| head.extend_from_slice(part));
        return Ok(vec![head.freeze()]);
    }
    let mut chunks = Vec::with_capacity(parts.len() + 1);
    chunks.push(head.freeze());
    chunks.extend(parts);
    Ok(chunks)
}

/// The value of `grpc-timeout`, at most eight digits; none without a timeout.
pub(super) fn timeout_header(timeout: Duration) -> Option<HeaderValue> {
    if timeout.is_zero() {
        return None;
    }
    let units = [(timeout.as_micros(), 'u'), (timeout.as_millis(), 'm'), (timeout.as_secs().into(), 'S')];
    let (amount, unit) = units.into_iter().find(|(amount, _)| *amount < 100_000_000).unwrap_or((99_999_999, 'S'));
    HeaderValue::try_from(format!("{}{unit}", amount.max(1))).ok()
}

/// Reads an answer to its end.
pub(super) async fn read<B>(response: Response<B>) -> Result<Sent, Failure>
where
    B: Body<Data = Bytes, Error: StdError + 'static>,
{
    let (head, body) = response.into_parts();
    if let Some(status) = Status::of(&head.headers) {
        // A response of trailers only. Success needs a message.
        status.check()?;
        return Err(Failure::unconfirmed("the backend reported success without a response"));
    }
    if head.status != StatusCode::OK {
        let status = Status { code: code_of_http(head.status), retry: None };
        return Err(status.failure(format!("HTTP status {}", head.status.as_u16())));
    }
    let content_type = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if !content_type.starts_with(b"application/grpc") {
        return Err(Failure::refused("the backend does not speak gRPC: the content type of its answer is another"));
    }
    let (message, trailers) = collect(body).await?;
    Status::of(&trailers).ok_or_else(|| Failure::retryable("the backend's answer ended without a status"))?.check()?;
    Sent::from_protobuf(unframed(&message)?)
}

/// The body and the trailers, within the limit.
async fn collect<B>(body: B) -> Result<(BytesMut, HeaderMap), Failure>
where
    B: Body<Data = Bytes, Error: StdError + 'static>,
{
    let mut body = std::pin::pin!(body);
    let (mut message, mut trailers) = (BytesMut::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Failure::retryable(format!("the connection failed within the answer: {}", transport_error(&error)))
        })?;
        match frame.into_data() {
            Ok(data) if message.len() + data.len() > MAX_RESPONSE_BYTES + FRAME_HEADER => {
                return Err(Failure::unconfirmed("the backend's answer is larger than 4 MiB"));
            }
            Ok(data) => message.extend_from_slice(&data),
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    Ok((message, trailers))
}

/// The message in a frame. Answers are not compressed: we offer no encoding.
fn unframed(body: &[u8]) -> Result<&[u8], Failure> {
    let bad = || Failure::unconfirmed("the backend reported success with a response that is not a gRPC message");
    let (header, message) = body.split_first_chunk::<FRAME_HEADER>().ok_or_else(bad)?;
    let [flag, length @ ..] = *header;
    let whole = flag == 0 && u32::from_be_bytes(length) as usize == message.len();
    whole.then_some(message).ok_or_else(bad)
}

/// A gRPC status, without its message: that is foreign text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Status {
    code: Code,
    /// `RetryInfo`, and the delay in it.
    retry: Option<Duration>,
}

impl Status {
    fn of(headers: &HeaderMap) -> Option<Status> {
        let code = Code::from_bytes(headers.get("grpc-status")?.as_bytes());
        let details = headers.get("grpc-status-details-bin").and_then(|value| BASE64.decode(value.as_bytes()).ok());
        let retry = details
            .and_then(|details| tonic::Status::with_details(code, "", details.into()).get_details_retry_info())
            .map(|info| info.retry_delay.unwrap_or_default());
        Some(Status { code, retry })
    }

    fn check(self) -> Result<(), Failure> {
        match self.code {
            Code::Ok => Ok(()),
            code => Err(self.failure(name(code))),
        }
    }

    /// Which codes are worth another attempt (OTLP specification, "Failures").
    fn failure(self, answer: impl std::fmt::Display) -> Failure {
        let what = format!("the backend answered {answer}");
        match self.code {
            Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss => Failure::Retryable { what: what.into(), after: self.retry },
            Code::ResourceExhausted if self.retry.is_some() => {
                Failure::Retryable { what: what.into(), after: self.retry }
            }
            _ => Failure::refused(what),
        }
    }
}

/// Peers may leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What an HTTP status means where a gRPC status is missing (gRPC, "HTTP to gRPC Status Code Mapping").
fn code_of_http(status: StatusCode) -> Code {
    match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use http_body::Frame;
    use http_body_util::Full;
    use std::{
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    #[test]
    fn a_frame_is_a_flag_a_length_and_the_message() {
        let small = framed(vec![Bytes::from_static(b"ab"), Bytes::from_static(b"c")], true).unwrap();
        assert_eq!(small, [&b"\x01\x00\x00\x00\x03abc"[..]]);
        let large = Bytes::from(vec![0; WORTH_A_FRAME]);
        let chunks = framed(vec![large.clone()], false).unwrap();
        assert_eq!(chunks, [Bytes::from_static(b"\x00\x00\x00\x20\x00"), large.clone()]);
        assert_eq!(chunks[1].as_ptr(), large.as_ptr(), "not copied");
        assert_eq!(framed(vec![], false).unwrap(), [&[0; 5][..]]);
    }

    #[test]
    fn timeouts_have_at_most_eight_digits() {
        let header = |timeout| timeout_header(timeout).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(header(Duration::ZERO), None);
        assert_eq!(header(Duration::from_secs(5)), Some("5000000u".into()));
        assert_eq!(header(Duration::from_secs(500)), Some("500000m".into()));
        assert_eq!(header(Duration::from_nanos(1)), Some("1u".into()));
        assert_eq!(header(Duration::MAX), Some("99999999S".into()));
    }

    #[test]
    fn codes_are_classified_as_the_specification_says() {
        let retryable =
            |code: i32, retry| matches!(Status { code: code.into(), retry }.failure("x"), Failure::Retryable { .. });
        let without: Vec<i32> = (1..=16).filter(|&code| retryable(code, None)).collect();
        assert_eq!(without, [1, 4, 10, 11, 14, 15]);
        let with: Vec<i32> = (1..=16).filter(|&code| retryable(code, Some(Duration::ZERO))).collect();
        assert_eq!(with, [1, 4, 8, 10, 11, 14, 15]);
    }

    fn response(
        trailers: &[(&'static str, &str)],
        body: &'static [u8],
    ) -> Response<impl Body<Data = Bytes, Error = Infallible>> {
        let mut map = HeaderMap::new();
        for (name, value) in trailers {
            map.insert(*name, value.parse().unwrap());
        }
        let frames = vec![Frame::data(Bytes::from_static(body)), Frame::trailers(map)];
        let mut response = Response::new(Frames(frames.into_iter()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
        response
    }

    struct Frames(std::vec::IntoIter<Frame<Bytes>>);

    impl Body for Frames {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.next().map(Ok))
        }
    }

    #[tokio::test]
    async fn a_malformed_detail_is_as_if_absent() {
        let ok = read(response(&[("grpc-status", "0")], b"\0\0\0\0\0")).await;
        assert_eq!(ok, Ok(Sent::default()));
        for details in ["%%%", "/////w", ""] {
            let answer = read(response(&[("grpc-status", "8"), ("grpc-status-details-bin", details)], b"")).await;
            assert_eq!(answer, Err(Failure::refused("the backend answered RESOURCE_EXHAUSTED")));
        }
    }

    #[tokio::test]
    async fn a_success_that_cannot_be_read_is_not_repeated() {
        for body in [&b""[..], b"\0\0\0", b"\0\0\0\0\x05abc", b"\x01\0\0\0\0", b"\0\0\0\0\x01\x0a", b"\0\0\0\0\0extra"]
        {
            let answer = read(response(&[("grpc-status", "0")], body)).await;
            assert!(matches!(answer, Err(Failure::Unconfirmed { .. })), "{body:?}: {answer:?}");
        }
    }

    #[tokio::test]
    async fn an_http_answer_without_grpc_is_mapped() {
        let answer = async |status: u16| {
            let mut response = Response::new(Full::new(Bytes::from_static(b"nope")));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            read(response).await.unwrap_err()
        };
        for status in [429, 502, 503, 504] {
            assert!(matches!(answer(status).await, Failure::Retryable { .. }), "{status}");
        }
        for status in [200, 301, 400, 401, 403, 404, 500] {
            assert!(matches!(answer(status).await, Failure::Refused { .. }), "{status}");
        }
    }
}
