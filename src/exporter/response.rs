//! What backends answer, as far as it matters: how many items were rejected, and with which code a request was
//! refused. Their sentences are foreign text that may repeat payload, so they are not even decoded.

use super::{Failure, Sent};
use crate::{otlp::Signal, telemetry::Seldom};
use http::{HeaderMap, header::RETRY_AFTER};
use prost::Message;
use serde_json::Value;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

/// The largest answer read (OTLP specification, client response limit).
pub(super) const MAX_RESPONSE_BYTES: usize = 4 * 1024 * 1024;

/// Tells the log when a backend rejects items, now and then: one that rejects something of every request shows in the
/// log, and does not fill it. Its own words stay out: they may repeat payload.
#[derive(Debug, Default)]
pub(super) struct Rejections {
    exporter: Arc<str>,
    log: Seldom,
}

impl Rejections {
    pub(super) fn of(exporter: &str) -> Self {
        Rejections { exporter: exporter.into(), log: Seldom::default() }
    }

    /// Takes note of an answer.
    pub(super) fn log(&self, signal: Signal, sent: Sent) {
        if sent.rejected == 0 {
            return;
        }
        if let Some(rejected) = self.log.turn(sent.rejected) {
            tracing::warn!(
                exporter = %self.exporter,
                signal = signal.name(),
                rejected,
                "the backend took a request and rejected items of it (partial_success); they are not sent again"
            );
        }
    }
}

/// `ExportTraceServiceResponse` and its twins for logs and metrics: the numbers are the same in all three.
#[derive(Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

/// Without `error_message`: an unknown field is skipped without looking at its text.
#[derive(Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
}

/// `google.rpc.Status` without its message.
#[derive(Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
}

impl Sent {
    /// From an export response in protobuf form.
    pub(super) fn from_protobuf(body: &[u8]) -> Result<Sent, Failure> {
        let response = ExportResponse::decode(body)
            .map_err(|_| Failure::unconfirmed("the backend reported success with a response that is not protobuf"))?;
        let rejected = response.partial_success.map_or(0, |partial| partial.rejected);
        Ok(Sent { rejected: u64::try_from(rejected).unwrap_or(0) })
    }

    /// From an export response in JSON form.
    pub(super) fn from_json(body: &[u8]) -> Result<Sent, Failure> {
        let unreadable = || Failure::unconfirmed("the backend reported success with a response that is not OTLP/JSON");
        let response: Value = serde_json::from_slice(body).map_err(|_| unreadable())?;
        let response = response.as_object().ok_or_else(unreadable)?;
        let Some(partial) = response.get("partialSuccess").or_else(|| response.get("partial_success")) else {
            return Ok(Sent::default());
        };
        let names = ["Spans", "LogRecords", "DataPoints"].map(|items| format!("rejected{items}"));
        let rejected = names.iter().find_map(|name| partial.get(name));
        let rejected = match rejected {
            None | Some(Value::Null) => 0,
            Some(Value::Number(number)) => number.as_i64().ok_or_else(unreadable)?,
            Some(Value::String(digits)) => digits.parse().map_err(|_| unreadable())?,
            Some(_) => return Err(unreadable()),
        };
        Ok(Sent { rejected: u64::try_from(rejected).unwrap_or(0) })
    }
}

/// The `google.rpc.Code` in the body of an HTTP error, by its content type.
pub(super) fn status_code(content_type: ContentType, body: &[u8]) -> Option<i32> {
    match content_type {
        ContentType::Protobuf => Status::decode(body).ok().map(|status| status.code),
        ContentType::Json => {
            let status: Value = serde_json::from_slice(body).ok()?;
            status.get("code")?.as_i64().and_then(|code| i32::try_from(code).ok())
        }
        ContentType::Other => None,
    }
    .filter(|&code| code != 0)
}

/// What a response body claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentType {
    Protobuf,
    Json,
    Other,
}

impl ContentType {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let value = headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = value.split(';').next().unwrap_or_default().trim();
        if media_type.eq_ignore_ascii_case("application/x-protobuf") {
            ContentType::Protobuf
        } else if media_type.eq_ignore_ascii_case("application/json") {
            ContentType::Json
        } else {
            ContentType::Other
        }
    }
}

/// Where a redirect leads: the host alone, made safe to show. The rest of an address may carry anything.
pub(super) fn redirect_host(headers: &HeaderMap) -> Option<String> {
    let location = headers.get(http::header::LOCATION)?.to_str().ok()?;
    let host = location.parse::<http::Uri>().ok()?.host()?.to_owned();
    (host.len() <= 255).then(|| crate::telemetry::display_safe(&host).into_owned())
}

/// Whether a body is in a coding we did not ask for, and so cannot be read.
pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    let encoding = headers.get(http::header::CONTENT_ENCODING).map(|value| value.as_bytes());
    encoding.is_some_and(|encoding| !encoding.is_empty() && !encoding.eq_ignore_ascii_case(b"identity"))
}

/// `Retry-After`: whole seconds, or an HTTP date (RFC 9110 §10.2.3).
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text).ok().map(|at| at.duration_since(now).unwrap_or_default()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn partial_success_is_read_in_both_encodings() {
        assert_eq!(Sent::from_protobuf(b"").unwrap().rejected, 0);
        assert_eq!(Sent::from_protobuf(b"\x0a\x06\x08\x03\x12\x02\xff\xfe").unwrap().rejected, 3, "invalid UTF-8");
        assert_eq!(Sent::from_json(b"{}").unwrap().rejected, 0);
        let json = |text: &str| Sent::from_json(text.as_bytes()).map(|sent| sent.rejected);
        assert_eq!(json(r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"x"}}"#), Ok(3));
        assert_eq!(json(r#"{"partialSuccess":{"rejectedLogRecords":4}}"#), Ok(4));
        assert_eq!(json(r#"{"partialSuccess":{"rejectedDataPoints":-4}}"#), Ok(0));
        assert_eq!(json(r#"{"partialSuccess":null}"#), Ok(0));
    }

    #[test]
    fn an_unreadable_success_is_not_repeated() {
        for bad in ["", "[]", "ok", "{", r#"{"partialSuccess":{"rejectedSpans":[]}}"#] {
            assert!(matches!(Sent::from_json(bad.as_bytes()), Err(Failure::Unconfirmed { .. })), "{bad}");
        }
        assert!(matches!(Sent::from_protobuf(b"\x0a\xff"), Err(Failure::Unconfirmed { .. })));
    }

    #[test]
    fn content_types_are_told_apart_leniently() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(text));
            ContentType::of(&headers)
        };
        assert_eq!(of("application/json; charset=utf-8"), ContentType::Json);
        assert_eq!(of("Application/X-Protobuf"), ContentType::Protobuf);
        assert_eq!(of("text/plain"), ContentType::Other);
        assert_eq!(ContentType::of(&HeaderMap::new()), ContentType::Other);
    }

    #[test]
    fn status_codes_are_read_by_content_type() {
        assert_eq!(status_code(ContentType::Protobuf, b"\x08\x03\x12\x01x"), Some(3));
        assert_eq!(status_code(ContentType::Json, br#"{"code":3,"message":"x"}"#), Some(3));
        assert_eq!(status_code(ContentType::Json, b"\x08\x03"), None);
        assert_eq!(status_code(ContentType::Other, b"\x08\x03"), None);
    }

    #[test]
    fn of_a_redirect_only_the_host_is_told() {
        let host = |location: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::LOCATION, HeaderValue::from_bytes(location.as_bytes()).unwrap());
            redirect_host(&headers)
        };
        assert_eq!(host("https://user:hunter2@Other.test:81/v1?key=hunter2#x").as_deref(), Some("Other.test"));
        assert_eq!(host("//other.test/v1"), None);
        assert_eq!(host("/v1/traces"), None);
        assert_eq!(host("http://\u{202e}x/"), None);
        assert_eq!(host(&format!("http://{}/", "x".repeat(300))), None);
        assert_eq!(redirect_host(&HeaderMap::new()), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            retry_after(&headers, SystemTime::UNIX_EPOCH + Duration::from_secs(10))
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("Thu, 01 Jan 1970 00:00:30 GMT"), Some(Duration::from_secs(20)));
        assert_eq!(read("Thu, 01 Jan 1970 00:00:05 GMT"), Some(Duration::ZERO), "already past");
        assert_eq!(read("soon"), None);
        assert_eq!(read("-1"), None);
    }
}
