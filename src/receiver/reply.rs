//! What goes back to clients: small bodies made of our own words.
//!
//! Over HTTP they are never compressed, whatever `Accept-Encoding` says: success is empty, and nothing is longer than
//! about two kilobytes.

use super::fault::bounded;
use crate::{otlp::Signal, pipeline::Accepted};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};
use opentelemetry_proto::tonic::collector::{
    logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse},
    metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceResponse},
    trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse},
};
use prost::Message;
use std::convert::Infallible;

/// The body of every answer.
pub(super) type Reply = UnsyncBoxBody<Bytes, Infallible>;

/// No body.
pub(super) fn empty() -> Reply {
    Empty::new().boxed_unsync()
}

/// A whole body.
pub(super) fn full(bytes: impl Into<Bytes>) -> Reply {
    Full::new(bytes.into()).boxed_unsync()
}

/// A whole body and trailers after it.
pub(super) fn with_trailers(bytes: Bytes, trailers: HeaderMap) -> Reply {
    Full::new(bytes).with_trailers(std::future::ready(Some(Ok(trailers)))).boxed_unsync()
}

/// An answer in plain text, for clients that do not speak OTLP. As the Collector has it, a 404 alone says its charset and
/// ends with a line feed.
pub(super) fn plain(status: StatusCode, text: &'static str) -> Response<Reply> {
    let (kind, text) = match status {
        StatusCode::NOT_FOUND => ("text/plain; charset=utf-8", Bytes::from(format!("{text}\n"))),
        _ => ("text/plain", Bytes::from_static(text.as_bytes())),
    };
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// The export response of `signal` in protobuf form; empty when there is nothing to say.
pub(super) fn success_protobuf(signal: Signal, accepted: &Accepted) -> Bytes {
    let Some((rejected, error_message)) = partial(accepted) else { return Bytes::new() };
    let bytes = match signal {
        Signal::Traces => ExportTraceServiceResponse {
            partial_success: Some(ExportTracePartialSuccess { rejected_spans: rejected, error_message }),
        }
        .encode_to_vec(),
        Signal::Logs => ExportLogsServiceResponse {
            partial_success: Some(ExportLogsPartialSuccess { rejected_log_records: rejected, error_message }),
        }
        .encode_to_vec(),
        Signal::Metrics => ExportMetricsServiceResponse {
            partial_success: Some(ExportMetricsPartialSuccess { rejected_data_points: rejected, error_message }),
        }
        .encode_to_vec(),
    };
    bytes.into()
}

/// The export response of `signal` in JSON form; `{}` when there is nothing to say.
pub(super) fn success_json(signal: Signal, accepted: &Accepted) -> Bytes {
    let Some((rejected, message)) = partial(accepted) else { return Bytes::from_static(b"{}") };
    let name = match signal {
        Signal::Traces => "rejectedSpans",
        Signal::Logs => "rejectedLogRecords",
        Signal::Metrics => "rejectedDataPoints",
    };
    let mut fields = serde_json::Map::new();
    // Defaults have no place in proto3 JSON; 64-bit integers are strings there.
    if rejected != 0 {
        fields.insert(name.to_owned(), rejected.to_string().into());
    }
    if !message.is_empty() {
        fields.insert("errorMessage".to_owned(), message.into());
    }
    serde_json::json!({ "partialSuccess": fields }).to_string().into()
}

fn partial(accepted: &Accepted) -> Option<(i64, String)> {
    let silent = accepted.rejected == 0 && accepted.message.is_empty();
    (!silent).then(|| (i64::try_from(accepted.rejected).unwrap_or(i64::MAX), bounded(accepted.message.clone())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_nothing_to_say_is_empty() {
        for signal in Signal::ALL {
            assert!(success_protobuf(signal, &Accepted::default()).is_empty());
            assert_eq!(success_json(signal, &Accepted::default()), "{}");
        }
    }

    #[test]
    fn partial_success_names_the_signals_items() {
        let some = Accepted { rejected: 3, message: "blocked".to_owned() };
        let names = ["rejectedSpans", "rejectedLogRecords", "rejectedDataPoints"];
        for (signal, name) in Signal::ALL.into_iter().zip(names) {
            let json = String::from_utf8(success_json(signal, &some).to_vec()).unwrap();
            assert_eq!(json, format!(r#"{{"partialSuccess":{{"errorMessage":"blocked","{name}":"3"}}}}"#));
        }
        let decoded = ExportTraceServiceResponse::decode(success_protobuf(Signal::Traces, &some)).unwrap();
        assert_eq!(decoded.partial_success.unwrap().rejected_spans, 3);
        let warning = Accepted { rejected: 0, message: "12 spans held".to_owned() };
        let decoded = ExportLogsServiceResponse::decode(success_protobuf(Signal::Logs, &warning)).unwrap();
        assert_eq!(decoded.partial_success.unwrap().error_message, "12 spans held");
        assert_eq!(success_json(Signal::Logs, &warning), r#"{"partialSuccess":{"errorMessage":"12 spans held"}}"#);
    }
}
