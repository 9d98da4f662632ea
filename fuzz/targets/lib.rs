//! What the fuzz targets share.

use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest,
};
use prost::{DecodeError, Message};
use tracegate::otlp::Signal;

/// The first byte says which signal the rest is.
pub fn signal_and_rest(data: &[u8]) -> Option<(Signal, &[u8])> {
    let (first, rest) = data.split_first()?;
    Some((Signal::ALL[usize::from(*first) % 3], rest))
}

/// What the oracle makes of a request, encoded again: equal bytes mean equal requests.
pub fn oracle(signal: Signal, bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    Ok(match signal {
        Signal::Traces => ExportTraceServiceRequest::decode(bytes)?.encode_to_vec(),
        Signal::Logs => ExportLogsServiceRequest::decode(bytes)?.encode_to_vec(),
        Signal::Metrics => ExportMetricsServiceRequest::decode(bytes)?.encode_to_vec(),
    })
}
