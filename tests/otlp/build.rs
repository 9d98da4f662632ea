//! Arbitrary requests in the oracle's types: every field of every message, driven by bytes that proptest shrinks.

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{
        Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
        NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar,
        exponential_histogram_data_point::Buckets, metric::Data, number_data_point,
        summary_data_point::ValueAtQuantile,
    },
    resource::v1::Resource,
    trace::v1::{
        ResourceSpans, ScopeSpans, Span, Status,
        span::{Event, Link},
    },
};
use proptest::prelude::*;
use prost::Message;
use tracegate::otlp::Signal;

/// A request of any signal in the oracle's types.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    Traces(ExportTraceServiceRequest),
    Logs(ExportLogsServiceRequest),
    Metrics(ExportMetricsServiceRequest),
}

impl Request {
    pub fn decode(signal: Signal, bytes: &[u8]) -> Result<Self, prost::DecodeError> {
        Ok(match signal {
            Signal::Traces => Request::Traces(ExportTraceServiceRequest::decode(bytes)?),
            Signal::Logs => Request::Logs(ExportLogsServiceRequest::decode(bytes)?),
            Signal::Metrics => Request::Metrics(ExportMetricsServiceRequest::decode(bytes)?),
        })
    }

    pub fn encode(&self) -> Bytes {
        match self {
            Request::Traces(r) => r.encode_to_vec(),
            Request::Logs(r) => r.encode_to_vec(),
            Request::Metrics(r) => r.encode_to_vec(),
        }
        .into()
    }

    pub fn signal(&self) -> Signal {
        match self {
            Request::Traces(_) => Signal::Traces,
            Request::Logs(_) => Signal::Logs,
            Request::Metrics(_) => Signal::Metrics,
        }
    }

    /// Spans, log records or data points.
    pub fn count(&self) -> u64 {
        let n = match self {
            Request::Traces(r) => {
                r.resource_spans.iter().flat_map(|r| &r.scope_spans).map(|s| s.spans.len()).sum::<usize>()
            }
            Request::Logs(r) => r.resource_logs.iter().flat_map(|r| &r.scope_logs).map(|s| s.log_records.len()).sum(),
            Request::Metrics(r) => r
                .resource_metrics
                .iter()
                .flat_map(|r| &r.scope_metrics)
                .flat_map(|s| &s.metrics)
                .map(|m| match &m.data {
                    None => 0,
                    Some(Data::Gauge(d)) => d.data_points.len(),
                    Some(Data::Sum(d)) => d.data_points.len(),
                    Some(Data::Histogram(d)) => d.data_points.len(),
                    Some(Data::ExponentialHistogram(d)) => d.data_points.len(),
                    Some(Data::Summary(d)) => d.data_points.len(),
                })
                .sum(),
        };
        n as u64
    }
}

/// Any request of any signal.
pub fn any_request() -> impl Strategy<Value = Request> {
    let signal = prop::sample::select(Signal::ALL.to_vec());
    (signal, prop::collection::vec(any::<u8>(), 0..600)).prop_map(|(signal, bytes)| build(signal, bytes))
}

/// The request that these bytes stand for; no bytes, no content.
pub fn build(signal: Signal, bytes: Vec<u8>) -> Request {
    Builder { bytes, pos: 0, full: false, strings: 0 }.request(signal)
}

/// A request with every field of every message set, and every variant of every oneof.
pub fn full(signal: Signal) -> Request {
    Builder { bytes: Vec::new(), pos: 0, full: true, strings: 0 }.request(signal)
}

struct Builder {
    bytes: Vec<u8>,
    pos: usize,
    /// Everything is set, nothing is random.
    full: bool,
    strings: u32,
}

impl Builder {
    fn byte(&mut self) -> u8 {
        let byte = self.bytes.get(self.pos).copied().unwrap_or(0);
        self.pos += 1;
        byte
    }

    fn chance(&mut self) -> bool {
        self.full || self.byte() > 100
    }

    fn u64(&mut self) -> u64 {
        if self.full {
            self.strings += 1;
            return 0x1122_3344_0000 + u64::from(self.strings);
        }
        match self.byte() % 6 {
            0 => 0,
            1 => u64::from(self.byte()),
            2 => u64::MAX,
            3 => i64::MIN as u64,
            4 => 1_700_000_000_000_000_000,
            _ => u64::from_le_bytes(std::array::from_fn(|_| self.byte())),
        }
    }

    fn u32(&mut self) -> u32 {
        (self.u64() as u32).max(u32::from(self.full))
    }

    fn f64(&mut self) -> f64 {
        if self.full {
            return self.u64() as f64 + 0.5;
        }
        let any = f64::from_bits(self.u64());
        // The oracle compares with ==.
        if any.is_nan() { 0.25 } else { any }
    }

    fn string(&mut self) -> String {
        self.strings += 1;
        if self.full {
            return format!("text {}", self.strings);
        }
        let len = match self.byte() % 8 {
            0 => 0,
            7 => 120 + usize::from(self.byte() % 20),
            6 => usize::from(self.byte()) * 80,
            _ => usize::from(self.byte() % 30),
        };
        let pattern = ["plain text ", "päß☃ ", "{\"a\": \"b\\n\"}", "\u{0}\u{1f}\u{7f}\u{2028}", "0123456789"];
        let pattern = pattern[usize::from(self.byte()) % pattern.len()];
        pattern.chars().cycle().take(len).collect()
    }

    fn id(&mut self, len: usize) -> Vec<u8> {
        if !self.chance() {
            return Vec::new();
        }
        (0..len).map(|i| if self.full { i as u8 + 1 } else { self.byte() }).collect()
    }

    fn list<T>(&mut self, max: usize, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let len = if self.full { max.min(2) } else { usize::from(self.byte()) % (max + 1) };
        (0..len).map(|_| item(self)).collect()
    }

    fn some<T>(&mut self, item: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.chance().then(|| item(self))
    }

    fn text(&mut self) -> String {
        if self.chance() { self.string() } else { String::new() }
    }

    fn value(&mut self, depth: usize) -> AnyValue {
        let kind = if self.full { 4 } else { self.byte() % 16 };
        self.value_of(kind, depth)
    }

    fn value_of(&mut self, kind: u8, depth: usize) -> AnyValue {
        let value = match kind {
            0 => return AnyValue { value: None },
            1 => Value::BoolValue(self.byte().is_multiple_of(2)),
            2 => Value::IntValue(self.u64() as i64),
            3 => Value::DoubleValue(self.f64()),
            4 if depth > 0 => Value::ArrayValue(ArrayValue { values: self.values(depth - 1) }),
            5 if depth > 0 => Value::KvlistValue(KeyValueList { values: self.attributes(depth - 1) }),
            6 => Value::BytesValue(self.string().into_bytes()),
            7 => Value::StringValueStrindex(self.u32() as i32),
            _ => Value::StringValue(self.string()),
        };
        AnyValue { value: Some(value) }
    }

    fn values(&mut self, depth: usize) -> Vec<AnyValue> {
        if self.full && depth > 0 {
            return (0..9).map(|kind| self.value_of(kind, depth)).collect();
        }
        self.list(4, |b| b.value(depth))
    }

    fn attribute(&mut self, depth: usize) -> KeyValue {
        let key_strindex = if self.full { 9 } else { 0 };
        KeyValue { key: self.string(), value: self.some(|b| b.value(depth)), key_strindex }
    }

    fn attributes(&mut self, depth: usize) -> Vec<KeyValue> {
        self.list(4, |b| b.attribute(depth))
    }

    fn resource(&mut self) -> Resource {
        Resource {
            attributes: self.attributes(3),
            dropped_attributes_count: self.u32(),
            entity_refs: self.list(2, |b| EntityRef {
                schema_url: b.text(),
                r#type: b.text(),
                id_keys: b.list(3, Self::string),
                description_keys: b.list(3, Self::string),
            }),
        }
    }

    fn scope(&mut self) -> InstrumentationScope {
        InstrumentationScope {
            name: self.text(),
            version: self.text(),
            attributes: self.attributes(2),
            dropped_attributes_count: self.u32(),
        }
    }

    fn request(&mut self, signal: Signal) -> Request {
        match signal {
            Signal::Traces => {
                Request::Traces(ExportTraceServiceRequest { resource_spans: self.list(3, Self::resource_spans) })
            }
            Signal::Logs => {
                Request::Logs(ExportLogsServiceRequest { resource_logs: self.list(3, Self::resource_logs) })
            }
            Signal::Metrics => {
                let resource_metrics = self.list(3, Self::resource_metrics);
                Request::Metrics(ExportMetricsServiceRequest { resource_metrics })
            }
        }
    }

    fn resource_spans(&mut self) -> ResourceSpans {
        ResourceSpans {
            resource: self.some(Self::resource),
            scope_spans: self.list(3, |b| ScopeSpans {
                scope: b.some(Self::scope),
                spans: b.list(4, Self::span),
                schema_url: b.text(),
            }),
            schema_url: self.text(),
        }
    }

    fn span(&mut self) -> Span {
        Span {
            trace_id: self.id(16),
            span_id: self.id(8),
            trace_state: self.text(),
            parent_span_id: self.id(8),
            flags: self.u32(),
            name: self.text(),
            kind: i32::from(self.byte() % 6) + i32::from(self.full),
            start_time_unix_nano: self.u64(),
            end_time_unix_nano: self.u64(),
            attributes: self.attributes(4),
            dropped_attributes_count: self.u32(),
            events: self.list(3, |b| Event {
                time_unix_nano: b.u64(),
                name: b.text(),
                attributes: b.attributes(2),
                dropped_attributes_count: b.u32(),
            }),
            dropped_events_count: self.u32(),
            links: self.list(3, |b| Link {
                trace_id: b.id(16),
                span_id: b.id(8),
                trace_state: b.text(),
                attributes: b.attributes(1),
                dropped_attributes_count: b.u32(),
                flags: b.u32(),
            }),
            dropped_links_count: self.u32(),
            status: self.some(|b| Status { message: b.text(), code: i32::from(b.byte() % 3) + i32::from(b.full) }),
        }
    }

    fn resource_logs(&mut self) -> ResourceLogs {
        ResourceLogs {
            resource: self.some(Self::resource),
            scope_logs: self.list(3, |b| ScopeLogs {
                scope: b.some(Self::scope),
                log_records: b.list(4, Self::log_record),
                schema_url: b.text(),
            }),
            schema_url: self.text(),
        }
    }

    fn log_record(&mut self) -> LogRecord {
        LogRecord {
            time_unix_nano: self.u64(),
            observed_time_unix_nano: self.u64(),
            severity_number: i32::from(self.byte() % 25) + i32::from(self.full),
            severity_text: self.text(),
            body: self.some(|b| b.value(4)),
            attributes: self.attributes(3),
            dropped_attributes_count: self.u32(),
            flags: self.u32(),
            trace_id: self.id(16),
            span_id: self.id(8),
            event_name: self.text(),
        }
    }

    fn resource_metrics(&mut self) -> ResourceMetrics {
        ResourceMetrics {
            resource: self.some(Self::resource),
            scope_metrics: self.list(3, |b| ScopeMetrics {
                scope: b.some(Self::scope),
                metrics: if b.full { (0..6).map(|kind| b.metric(kind)).collect() } else { b.list(4, Self::any_metric) },
                schema_url: b.text(),
            }),
            schema_url: self.text(),
        }
    }

    fn any_metric(&mut self) -> Metric {
        let kind = self.byte() % 6;
        self.metric(kind)
    }

    fn metric(&mut self, kind: u8) -> Metric {
        let data = match kind {
            0 => None,
            1 => Some(Data::Gauge(Gauge { data_points: self.list(3, Self::number) })),
            2 => Some(Data::Sum(Sum {
                data_points: self.list(3, Self::number),
                aggregation_temporality: i32::from(self.byte() % 3) + i32::from(self.full),
                is_monotonic: self.chance(),
            })),
            3 => Some(Data::Histogram(Histogram {
                data_points: self.list(3, Self::histogram),
                aggregation_temporality: i32::from(self.byte() % 3) + i32::from(self.full),
            })),
            4 => Some(Data::ExponentialHistogram(ExponentialHistogram {
                data_points: self.list(3, Self::exponential),
                aggregation_temporality: i32::from(self.byte() % 3) + i32::from(self.full),
            })),
            _ => Some(Data::Summary(Summary { data_points: self.list(3, Self::summary) })),
        };
        Metric { name: self.text(), description: self.text(), unit: self.text(), metadata: self.attributes(1), data }
    }

    fn exemplars(&mut self) -> Vec<Exemplar> {
        self.list(2, |b| Exemplar {
            filtered_attributes: b.attributes(1),
            time_unix_nano: b.u64(),
            span_id: b.id(8),
            trace_id: b.id(16),
            value: b.some(|b| {
                if b.strings % 2 == 0 {
                    exemplar::Value::AsDouble(b.f64())
                } else {
                    exemplar::Value::AsInt(b.u64() as i64)
                }
            }),
        })
    }

    fn number(&mut self) -> NumberDataPoint {
        NumberDataPoint {
            attributes: self.attributes(2),
            start_time_unix_nano: self.u64(),
            time_unix_nano: self.u64(),
            exemplars: self.exemplars(),
            flags: self.u32(),
            value: self.some(|b| {
                if b.strings % 2 == 0 {
                    number_data_point::Value::AsDouble(b.f64())
                } else {
                    number_data_point::Value::AsInt(b.u64() as i64)
                }
            }),
        }
    }

    fn histogram(&mut self) -> HistogramDataPoint {
        HistogramDataPoint {
            attributes: self.attributes(2),
            start_time_unix_nano: self.u64(),
            time_unix_nano: self.u64(),
            count: self.u64(),
            sum: self.some(Self::f64),
            bucket_counts: self.list(4, Self::u64),
            explicit_bounds: self.list(4, Self::f64),
            exemplars: self.exemplars(),
            flags: self.u32(),
            min: self.some(Self::f64),
            max: self.some(Self::f64),
        }
    }

    fn buckets(&mut self) -> Buckets {
        Buckets { offset: self.u32() as i32, bucket_counts: self.list(4, Self::u64) }
    }

    fn exponential(&mut self) -> ExponentialHistogramDataPoint {
        ExponentialHistogramDataPoint {
            attributes: self.attributes(2),
            start_time_unix_nano: self.u64(),
            time_unix_nano: self.u64(),
            count: self.u64(),
            sum: self.some(Self::f64),
            scale: self.u32() as i32,
            zero_count: self.u64(),
            positive: self.some(Self::buckets),
            negative: self.some(Self::buckets),
            flags: self.u32(),
            exemplars: self.exemplars(),
            min: self.some(Self::f64),
            max: self.some(Self::f64),
            zero_threshold: self.f64(),
        }
    }

    fn summary(&mut self) -> SummaryDataPoint {
        SummaryDataPoint {
            attributes: self.attributes(2),
            start_time_unix_nano: self.u64(),
            time_unix_nano: self.u64(),
            count: self.u64(),
            sum: self.f64(),
            quantile_values: self.list(3, |b| ValueAtQuantile { quantile: b.f64(), value: b.f64() }),
            flags: self.u32(),
        }
    }
}
