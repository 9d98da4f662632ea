//! OTLP in its wire form: read once, strictly, and changed in place without decoding.
//!
//! Everything here is pure: bytes in, values out. [`walk()`] reads one export request and lists its text-bearing leaves;
//! [`edit::render`] applies edits to the received bytes and keeps every other byte as it came.

pub mod edit;
pub mod json;
pub mod locate;
mod number;
mod schema;
pub mod split;
pub mod unknown;
pub mod walk;
mod wire;

pub use edit::{Edit, render};
pub use locate::{Location, Locator, locate};
pub use walk::{Bounds, Index, Item, Leaf, MAX_DEPTH, NO_KEY, ResourceSlot, Role, WireError, walk};

/// One of the OTLP signals tracegate carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signal {
    /// `ExportTraceServiceRequest`; its items are spans.
    Traces,
    /// `ExportLogsServiceRequest`; its items are log records.
    Logs,
    /// `ExportMetricsServiceRequest`; its items are metric data points.
    Metrics,
}

impl Signal {
    /// Every signal, in the order used for tables.
    pub const ALL: [Signal; 3] = [Signal::Traces, Signal::Logs, Signal::Metrics];

    /// The name used in configuration and metric labels: `traces`, `logs`, `metrics`.
    pub fn name(self) -> &'static str {
        match self {
            Signal::Traces => "traces",
            Signal::Logs => "logs",
            Signal::Metrics => "metrics",
        }
    }

    /// What the Collector's metric names call its items: `spans`, `log_records`, `metric_points`.
    pub fn items_name(self) -> &'static str {
        match self {
            Signal::Traces => "spans",
            Signal::Logs => "log_records",
            Signal::Metrics => "metric_points",
        }
    }

    /// The gRPC method of the signal's `Export` call (OTLP specification, "OTLP/gRPC").
    pub fn grpc_path(self) -> &'static str {
        match self {
            Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        }
    }

    /// The default HTTP path (OTLP specification, "OTLP/HTTP Request").
    pub fn http_path(self) -> &'static str {
        match self {
            Signal::Traces => "/v1/traces",
            Signal::Logs => "/v1/logs",
            Signal::Metrics => "/v1/metrics",
        }
    }
}
