//! Readers that push: `service::telemetry::metrics::readers: [{periodic: …}]`, in the keys of OpenTelemetry's
//! declarative configuration as the Collector takes them.

use crate::config::{MapList, types::Opaque};
use serde::{Deserialize, de::IgnoredAny};
use std::{path::PathBuf, time::Duration};

/// Where the metrics of this process are sent, and how often.
#[derive(Clone, Debug, PartialEq)]
pub struct PeriodicReader {
    /// Between two requests; 60 s unless said otherwise.
    pub interval: Duration,
    /// For one request; the shorter of the reader's and the exporter's.
    pub timeout: Duration,
    /// How the receiver is spoken to.
    pub protocol: Protocol,
    /// The receiver: `http://host:port`, with a path that is used as it is, or for gRPC `host:port`.
    pub endpoint: String,
    /// Whether a gRPC endpoint without a scheme is spoken to in plaintext.
    pub insecure: bool,
    /// Headers or metadata of every request.
    pub headers: Vec<(String, Opaque)>,
    /// Whether requests are compressed with gzip.
    pub gzip: bool,
    /// Certificates of the authorities to trust instead of the system's.
    pub certificate: Option<PathBuf>,
    /// Our own certificate.
    pub client_certificate: Option<PathBuf>,
    /// The key of our certificate.
    pub client_key: Option<PathBuf>,
}

/// How OTLP is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `grpc`
    Grpc,
    /// `http/protobuf`
    Http,
}

/// `periodic`, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Raw {
    /// Milliseconds.
    interval: u64,
    /// Milliseconds.
    timeout: u64,
    exporter: RawExporter,
}

impl Default for Raw {
    fn default() -> Self {
        Self { interval: 60_000, timeout: 30_000, exporter: RawExporter::default() }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawExporter {
    otlp: Option<RawOtlp>,
    console: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawOtlp {
    protocol: String,
    endpoint: String,
    insecure: bool,
    headers: MapList,
    headers_list: Option<IgnoredAny>,
    compression: Option<String>,
    /// Milliseconds.
    timeout: Option<u64>,
    certificate: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_key: Option<PathBuf>,
    temporality_preference: Option<String>,
    default_histogram_aggregation: Option<String>,
}

/// The declarative configuration's default for one request of an OTLP exporter.
const TIMEOUT: u64 = 10_000;

impl TryFrom<Raw> for PeriodicReader {
    type Error = &'static str;

    fn try_from(raw: Raw) -> Result<Self, Self::Error> {
        if raw.exporter.console.is_some() {
            return Err("periodic: exporter: console is not supported: use otlp");
        }
        let otlp = raw.exporter.otlp.ok_or("periodic: no exporter: use otlp")?;
        let protocol = match otlp.protocol.as_str() {
            "grpc" => Protocol::Grpc,
            "http/protobuf" => Protocol::Http,
            _ => return Err("periodic: unsupported protocol: use grpc or http/protobuf"),
        };
        if otlp.endpoint.is_empty() {
            return Err("periodic: exporter: otlp: 'endpoint' must be specified");
        }
        if raw.interval == 0 {
            return Err("periodic: 'interval' must be greater than zero");
        }
        if otlp.headers_list.is_some() {
            return Err("periodic: 'headers_list' is not supported: use 'headers'");
        }
        if !matches!(otlp.temporality_preference.as_deref(), None | Some("" | "cumulative")) {
            return Err("periodic: 'temporality_preference' must be cumulative");
        }
        if !matches!(otlp.default_histogram_aggregation.as_deref(), None | Some("" | "explicit_bucket_histogram")) {
            return Err("periodic: 'default_histogram_aggregation' must be explicit_bucket_histogram");
        }
        let gzip = match otlp.compression.as_deref() {
            None | Some("" | "none") => false,
            Some("gzip") => true,
            Some(_) => return Err("periodic: unsupported compression: use gzip or none"),
        };
        let timeouts = [raw.timeout, otlp.timeout.unwrap_or(TIMEOUT)];
        let timeout = timeouts.into_iter().filter(|millis| *millis > 0).min().unwrap_or(TIMEOUT);
        Ok(Self {
            interval: Duration::from_millis(raw.interval),
            timeout: Duration::from_millis(timeout),
            protocol,
            endpoint: otlp.endpoint,
            insecure: otlp.insecure,
            headers: otlp.headers.0,
            gzip,
            certificate: otlp.certificate,
            client_certificate: otlp.client_certificate,
            client_key: otlp.client_key,
        })
    }
}
