//! Every message of the three export requests, as data: the walk, edits by location, splitting and JSON all read this
//! one table. Names and numbers are those of opentelemetry-proto v1.10; fields of later versions are unknown here.

use super::Signal;

/// The messages reachable from the three export requests. The value is the position in [`MESSAGES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Msg {
    TraceRequest,
    LogsRequest,
    MetricsRequest,
    ResourceSpans,
    ResourceLogs,
    ResourceMetrics,
    Resource,
    EntityRef,
    ScopeSpans,
    ScopeLogs,
    ScopeMetrics,
    Scope,
    Span,
    Event,
    Link,
    Status,
    LogRecord,
    Metric,
    Gauge,
    Sum,
    Histogram,
    ExponentialHistogram,
    Summary,
    NumberDataPoint,
    HistogramDataPoint,
    ExponentialHistogramDataPoint,
    Buckets,
    SummaryDataPoint,
    ValueAtQuantile,
    Exemplar,
    KeyValue,
    AnyValue,
    ArrayValue,
    KeyValueList,
}

const COUNT: usize = Msg::KeyValueList as usize + 1;

impl Msg {
    /// The export request of a signal.
    pub(super) fn request(signal: Signal) -> Msg {
        match signal {
            Signal::Traces => Msg::TraceRequest,
            Signal::Logs => Msg::LogsRequest,
            Signal::Metrics => Msg::MetricsRequest,
        }
    }

    /// Its row of the table.
    #[inline]
    pub(super) fn table(self) -> &'static Message {
        &MESSAGES[self as usize]
    }

    /// The field with this number.
    pub(super) fn field(self, number: u32) -> Option<&'static Field> {
        let message = self.table();
        let at = *message.by_number.get(number as usize)?;
        message.fields.get(at as usize)
    }
}

/// One message type.
#[derive(Debug)]
pub(super) struct Message {
    /// Its proto name, without the package.
    pub(super) name: &'static str,
    /// Its fields.
    pub(super) fields: &'static [Field],
    /// Position in `fields` by field number; `ABSENT` where there is none.
    by_number: [u8; NUMBERS],
    /// What the walk does with a tag of this value (field number and wire type), for tags below [`TAGS`].
    pub(super) ops: [Op; TAGS],
}

/// One field of a message.
#[derive(Debug)]
pub(super) struct Field {
    /// Field number.
    pub(super) number: u8,
    /// Name in the `.proto` file.
    pub(super) name: &'static str,
    /// Name in OTLP/JSON.
    pub(super) json: &'static str,
    /// Type.
    pub(super) kind: Kind,
    /// How often it may stand, and what several mean.
    pub(super) rule: Rule,
}

/// How often a field may stand in its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// At most once; the last one counts, messages merge.
    One,
    /// Member of the message's only oneof: the last member counts.
    Oneof,
    /// A list.
    Many,
}

/// The type of a field, as far as tracegate tells types apart.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A message.
    Message(Msg),
    /// A string that is neither a key nor an attribute value.
    Name,
    /// `KeyValue.key`.
    Key,
    /// `AnyValue.string_value`.
    Text,
    /// `AnyValue.bytes_value`.
    Bytes,
    /// 0 or 16 bytes.
    TraceId,
    /// 0 or 8 bytes.
    SpanId,
    /// Varints.
    Bool,
    Int32,
    /// `AnyValue.int_value`, the only int64 there is.
    Int64,
    Uint32,
    /// A list of varints, packed or not.
    Uint64,
    Sint32,
    Enum(&'static Names),
    Fixed32,
    /// One, or a list packed or not.
    Fixed64,
    Sfixed64,
    /// One, or a list packed or not.
    Double,
    /// `AnyValue.double_value`.
    ValueDouble,
}

/// The names of an enum's values, each at the position of its number. Accepted in JSON, never written.
#[derive(Debug)]
pub(super) struct Names {
    /// What all names begin with.
    pub(super) prefix: &'static str,
    /// The rest of each name.
    pub(super) names: &'static [&'static str],
}

/// What the walk does with a field. The second half is the child's message, where there is one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Op {
    pub(super) act: Act,
    pub(super) child: Msg,
}

/// The actions of the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Act {
    /// Varint, passed over.
    Varint,
    /// Eight bytes, passed over.
    Fixed64,
    /// Four bytes, passed over.
    Fixed32,
    /// Varint, listed.
    LeafInt,
    /// Eight bytes, listed.
    LeafDouble,
    /// A string of no special role, listed.
    LeafName,
    /// A key, listed, and the key of what follows.
    LeafKey,
    /// An attribute value, listed.
    LeafText,
    /// An attribute value, listed.
    LeafBytes,
    /// A length-delimited field that is not in the schema, listed.
    LeafUnknown,
    /// A message with nothing special.
    Message,
    /// A `KeyValue`.
    KeyValue,
    /// A `ResourceSpans`, `ResourceLogs` or `ResourceMetrics`.
    Envelope,
    /// Its `resource`.
    Resource,
    /// A `ScopeSpans`, `ScopeLogs` or `ScopeMetrics`.
    Scope,
    /// A span or log record.
    Item,
    /// A metric.
    Metric,
    /// A metric data point.
    Point,
    /// An id of a span or log record, noted.
    ItemTraceId,
    ItemSpanId,
    /// Any other id, its length checked.
    TraceId,
    SpanId,
    /// A packed list of eight-byte values.
    PackedFixed64,
    /// A packed list of varints.
    PackedVarint,
    /// A known field with a wire type that is not its own.
    WrongType,
    /// Wire types 3 and 4.
    Group,
    /// Wire types 6 and 7.
    NoType,
    /// Field number 0.
    NoField,
}

/// Field numbers in the schema are below this.
const NUMBERS: usize = 17;
/// Tags of the schema's fields are below this.
pub(super) const TAGS: usize = NUMBERS * 8;
const ABSENT: u8 = u8::MAX;

const VARINT: usize = 0;
const I64: usize = 1;
const LEN: usize = 2;
const I32: usize = 5;

const fn one(number: u8, name: &'static str, json: &'static str, kind: Kind) -> Field {
    Field { number, name, json, kind, rule: Rule::One }
}

const fn many(number: u8, name: &'static str, json: &'static str, kind: Kind) -> Field {
    Field { number, name, json, kind, rule: Rule::Many }
}

const fn oneof(number: u8, name: &'static str, json: &'static str, kind: Kind) -> Field {
    Field { number, name, json, kind, rule: Rule::Oneof }
}

/// What a wire type does when the field is not in the schema.
const fn unknown(wire: usize) -> Op {
    let act = match wire {
        VARINT => Act::Varint,
        I64 => Act::Fixed64,
        LEN => Act::LeafUnknown,
        I32 => Act::Fixed32,
        3 | 4 => Act::Group,
        _ => Act::NoType,
    };
    Op { act, child: Msg::AnyValue }
}

/// What the walk does with a tag that is not below [`TAGS`].
#[inline]
pub(super) fn unknown_op(tag: u32) -> Op {
    unknown((tag & 7) as usize)
}

/// The wire type a field has, and what the walk does with it.
const fn known(message: Msg, kind: Kind) -> (usize, Op) {
    let mut child = Msg::AnyValue;
    let (wire, act) = match kind {
        Kind::Message(of) => {
            child = of;
            let act = match of {
                Msg::KeyValue => Act::KeyValue,
                Msg::ResourceSpans | Msg::ResourceLogs | Msg::ResourceMetrics => Act::Envelope,
                Msg::Resource => Act::Resource,
                Msg::ScopeSpans | Msg::ScopeLogs | Msg::ScopeMetrics => Act::Scope,
                Msg::Span | Msg::LogRecord => Act::Item,
                Msg::Metric => Act::Metric,
                Msg::NumberDataPoint
                | Msg::HistogramDataPoint
                | Msg::ExponentialHistogramDataPoint
                | Msg::SummaryDataPoint => Act::Point,
                _ => Act::Message,
            };
            (LEN, act)
        }
        Kind::Name => (LEN, Act::LeafName),
        Kind::Key => (LEN, Act::LeafKey),
        Kind::Text => (LEN, Act::LeafText),
        Kind::Bytes => (LEN, Act::LeafBytes),
        Kind::TraceId => match message {
            Msg::Span | Msg::LogRecord => (LEN, Act::ItemTraceId),
            _ => (LEN, Act::TraceId),
        },
        Kind::SpanId => match message {
            Msg::Span | Msg::LogRecord => (LEN, Act::ItemSpanId),
            _ => (LEN, Act::SpanId),
        },
        Kind::Int64 => (VARINT, Act::LeafInt),
        Kind::Bool | Kind::Int32 | Kind::Uint32 | Kind::Uint64 | Kind::Sint32 | Kind::Enum(_) => (VARINT, Act::Varint),
        Kind::Fixed32 => (I32, Act::Fixed32),
        Kind::Fixed64 | Kind::Sfixed64 | Kind::Double => (I64, Act::Fixed64),
        Kind::ValueDouble => (I64, Act::LeafDouble),
    };
    (wire, Op { act, child })
}

const fn message(id: Msg, name: &'static str, fields: &'static [Field]) -> Message {
    let mut by_number = [ABSENT; NUMBERS];
    let mut ops = [unknown(0); TAGS];
    let mut tag = 0;
    while tag < TAGS {
        ops[tag] = if tag < 8 { Op { act: Act::NoField, child: id } } else { unknown(tag % 8) };
        tag += 1;
    }
    let mut at = 0;
    while at < fields.len() {
        let field = &fields[at];
        let number = field.number as usize;
        by_number[number] = at as u8;
        let (wire, mut op) = known(id, field.kind);
        // A span's parent is no id of the span itself.
        if field.number == 4 && matches!(id, Msg::Span) {
            op = Op { act: Act::SpanId, child: id };
        }
        let mut other = 0;
        while other < 8 {
            if ops[number * 8 + other].act as u8 != Act::Group as u8
                && ops[number * 8 + other].act as u8 != Act::NoType as u8
            {
                ops[number * 8 + other] = Op { act: Act::WrongType, child: id };
            }
            other += 1;
        }
        ops[number * 8 + wire] = op;
        if matches!(field.rule, Rule::Many) {
            match field.kind {
                Kind::Fixed64 | Kind::Double => {
                    ops[number * 8 + LEN] = Op { act: Act::PackedFixed64, child: id };
                }
                Kind::Uint64 => ops[number * 8 + LEN] = Op { act: Act::PackedVarint, child: id },
                _ => {}
            }
        }
        at += 1;
    }
    Message { name, fields, by_number, ops }
}

const ATTRIBUTES: Kind = Kind::Message(Msg::KeyValue);

static SPAN_KIND: Names =
    Names { prefix: "SPAN_KIND_", names: &["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"] };
static STATUS_CODE: Names = Names { prefix: "STATUS_CODE_", names: &["UNSET", "OK", "ERROR"] };
static TEMPORALITY: Names =
    Names { prefix: "AGGREGATION_TEMPORALITY_", names: &["UNSPECIFIED", "DELTA", "CUMULATIVE"] };
#[rustfmt::skip]
static SEVERITY: Names = Names {
    prefix: "SEVERITY_NUMBER_",
    names: &[
        "UNSPECIFIED",
        "TRACE", "TRACE2", "TRACE3", "TRACE4", "DEBUG", "DEBUG2", "DEBUG3", "DEBUG4",
        "INFO", "INFO2", "INFO3", "INFO4", "WARN", "WARN2", "WARN3", "WARN4",
        "ERROR", "ERROR2", "ERROR3", "ERROR4", "FATAL", "FATAL2", "FATAL3", "FATAL4",
    ],
};

#[rustfmt::skip]
pub(super) static MESSAGES: [Message; COUNT] = [
    message(Msg::TraceRequest, "ExportTraceServiceRequest", &[
        many(1, "resource_spans", "resourceSpans", Kind::Message(Msg::ResourceSpans)),
    ]),
    message(Msg::LogsRequest, "ExportLogsServiceRequest", &[
        many(1, "resource_logs", "resourceLogs", Kind::Message(Msg::ResourceLogs)),
    ]),
    message(Msg::MetricsRequest, "ExportMetricsServiceRequest", &[
        many(1, "resource_metrics", "resourceMetrics", Kind::Message(Msg::ResourceMetrics)),
    ]),
    message(Msg::ResourceSpans, "ResourceSpans", &[
        one(1, "resource", "resource", Kind::Message(Msg::Resource)),
        many(2, "scope_spans", "scopeSpans", Kind::Message(Msg::ScopeSpans)),
        one(3, "schema_url", "schemaUrl", Kind::Name),
    ]),
    message(Msg::ResourceLogs, "ResourceLogs", &[
        one(1, "resource", "resource", Kind::Message(Msg::Resource)),
        many(2, "scope_logs", "scopeLogs", Kind::Message(Msg::ScopeLogs)),
        one(3, "schema_url", "schemaUrl", Kind::Name),
    ]),
    message(Msg::ResourceMetrics, "ResourceMetrics", &[
        one(1, "resource", "resource", Kind::Message(Msg::Resource)),
        many(2, "scope_metrics", "scopeMetrics", Kind::Message(Msg::ScopeMetrics)),
        one(3, "schema_url", "schemaUrl", Kind::Name),
    ]),
    message(Msg::Resource, "Resource", &[
        many(1, "attributes", "attributes", ATTRIBUTES),
        one(2, "dropped_attributes_count", "droppedAttributesCount", Kind::Uint32),
        many(3, "entity_refs", "entityRefs", Kind::Message(Msg::EntityRef)),
    ]),
    message(Msg::EntityRef, "EntityRef", &[
        one(1, "schema_url", "schemaUrl", Kind::Name),
        one(2, "type", "type", Kind::Name),
        many(3, "id_keys", "idKeys", Kind::Name),
        many(4, "description_keys", "descriptionKeys", Kind::Name),
    ]),
    message(Msg::ScopeSpans, "ScopeSpans", &[
        one(1, "scope", "scope", Kind::Message(Msg::Scope)),
        many(2, "spans", "spans", Kind::Message(Msg::Span)),
        one(3, "schema_url", "schemaUrl", Kind::Name),
    ]),
    message(Msg::ScopeLogs, "ScopeLogs", &[
        one(1, "scope", "scope", Kind::Message(Msg::Scope)),
        many(2, "log_records", "logRecords", Kind::Message(Msg::LogRecord)),
        one(3, "schema_url", "schemaUrl", Kind::Name),
    ]),
    message(Msg::ScopeMetrics, "ScopeMetrics", &[
        one(1, "scope", "scope", Kind::Message(Msg::Scope)),
        many(2, "metrics", "metrics", Kind::Message(Msg::Metric)),
        one(3, "schema_url", "schemaUrl", Kind::Name),
    ]),
    message(Msg::Scope, "InstrumentationScope", &[
        one(1, "name", "name", Kind::Name),
        one(2, "version", "version", Kind::Name),
        many(3, "attributes", "attributes", ATTRIBUTES),
        one(4, "dropped_attributes_count", "droppedAttributesCount", Kind::Uint32),
    ]),
    message(Msg::Span, "Span", &[
        one(1, "trace_id", "traceId", Kind::TraceId),
        one(2, "span_id", "spanId", Kind::SpanId),
        one(3, "trace_state", "traceState", Kind::Name),
        one(4, "parent_span_id", "parentSpanId", Kind::SpanId),
        one(5, "name", "name", Kind::Name),
        one(6, "kind", "kind", Kind::Enum(&SPAN_KIND)),
        one(7, "start_time_unix_nano", "startTimeUnixNano", Kind::Fixed64),
        one(8, "end_time_unix_nano", "endTimeUnixNano", Kind::Fixed64),
        many(9, "attributes", "attributes", ATTRIBUTES),
        one(10, "dropped_attributes_count", "droppedAttributesCount", Kind::Uint32),
        many(11, "events", "events", Kind::Message(Msg::Event)),
        one(12, "dropped_events_count", "droppedEventsCount", Kind::Uint32),
        many(13, "links", "links", Kind::Message(Msg::Link)),
        one(14, "dropped_links_count", "droppedLinksCount", Kind::Uint32),
        one(15, "status", "status", Kind::Message(Msg::Status)),
        one(16, "flags", "flags", Kind::Fixed32),
    ]),
    message(Msg::Event, "Event", &[
        one(1, "time_unix_nano", "timeUnixNano", Kind::Fixed64),
        one(2, "name", "name", Kind::Name),
        many(3, "attributes", "attributes", ATTRIBUTES),
        one(4, "dropped_attributes_count", "droppedAttributesCount", Kind::Uint32),
    ]),
    message(Msg::Link, "Link", &[
        one(1, "trace_id", "traceId", Kind::TraceId),
        one(2, "span_id", "spanId", Kind::SpanId),
        one(3, "trace_state", "traceState", Kind::Name),
        many(4, "attributes", "attributes", ATTRIBUTES),
        one(5, "dropped_attributes_count", "droppedAttributesCount", Kind::Uint32),
        one(6, "flags", "flags", Kind::Fixed32),
    ]),
    message(Msg::Status, "Status", &[
        one(2, "message", "message", Kind::Name),
        one(3, "code", "code", Kind::Enum(&STATUS_CODE)),
    ]),
    message(Msg::LogRecord, "LogRecord", &[
        one(1, "time_unix_nano", "timeUnixNano", Kind::Fixed64),
        one(2, "severity_number", "severityNumber", Kind::Enum(&SEVERITY)),
        one(3, "severity_text", "severityText", Kind::Name),
        one(5, "body", "body", Kind::Message(Msg::AnyValue)),
        many(6, "attributes", "attributes", ATTRIBUTES),
        one(7, "dropped_attributes_count", "droppedAttributesCount", Kind::Uint32),
        one(8, "flags", "flags", Kind::Fixed32),
        one(9, "trace_id", "traceId", Kind::TraceId),
        one(10, "span_id", "spanId", Kind::SpanId),
        one(11, "observed_time_unix_nano", "observedTimeUnixNano", Kind::Fixed64),
        one(12, "event_name", "eventName", Kind::Name),
    ]),
    message(Msg::Metric, "Metric", &[
        one(1, "name", "name", Kind::Name),
        one(2, "description", "description", Kind::Name),
        one(3, "unit", "unit", Kind::Name),
        oneof(5, "gauge", "gauge", Kind::Message(Msg::Gauge)),
        oneof(7, "sum", "sum", Kind::Message(Msg::Sum)),
        oneof(9, "histogram", "histogram", Kind::Message(Msg::Histogram)),
        oneof(10, "exponential_histogram", "exponentialHistogram", Kind::Message(Msg::ExponentialHistogram)),
        oneof(11, "summary", "summary", Kind::Message(Msg::Summary)),
        many(12, "metadata", "metadata", ATTRIBUTES),
    ]),
    message(Msg::Gauge, "Gauge", &[
        many(1, "data_points", "dataPoints", Kind::Message(Msg::NumberDataPoint)),
    ]),
    message(Msg::Sum, "Sum", &[
        many(1, "data_points", "dataPoints", Kind::Message(Msg::NumberDataPoint)),
        one(2, "aggregation_temporality", "aggregationTemporality", Kind::Enum(&TEMPORALITY)),
        one(3, "is_monotonic", "isMonotonic", Kind::Bool),
    ]),
    message(Msg::Histogram, "Histogram", &[
        many(1, "data_points", "dataPoints", Kind::Message(Msg::HistogramDataPoint)),
        one(2, "aggregation_temporality", "aggregationTemporality", Kind::Enum(&TEMPORALITY)),
    ]),
    message(Msg::ExponentialHistogram, "ExponentialHistogram", &[
        many(1, "data_points", "dataPoints", Kind::Message(Msg::ExponentialHistogramDataPoint)),
        one(2, "aggregation_temporality", "aggregationTemporality", Kind::Enum(&TEMPORALITY)),
    ]),
    message(Msg::Summary, "Summary", &[
        many(1, "data_points", "dataPoints", Kind::Message(Msg::SummaryDataPoint)),
    ]),
    message(Msg::NumberDataPoint, "NumberDataPoint", &[
        one(2, "start_time_unix_nano", "startTimeUnixNano", Kind::Fixed64),
        one(3, "time_unix_nano", "timeUnixNano", Kind::Fixed64),
        oneof(4, "as_double", "asDouble", Kind::Double),
        many(5, "exemplars", "exemplars", Kind::Message(Msg::Exemplar)),
        oneof(6, "as_int", "asInt", Kind::Sfixed64),
        many(7, "attributes", "attributes", ATTRIBUTES),
        one(8, "flags", "flags", Kind::Uint32),
    ]),
    message(Msg::HistogramDataPoint, "HistogramDataPoint", &[
        one(2, "start_time_unix_nano", "startTimeUnixNano", Kind::Fixed64),
        one(3, "time_unix_nano", "timeUnixNano", Kind::Fixed64),
        one(4, "count", "count", Kind::Fixed64),
        one(5, "sum", "sum", Kind::Double),
        many(6, "bucket_counts", "bucketCounts", Kind::Fixed64),
        many(7, "explicit_bounds", "explicitBounds", Kind::Double),
        many(8, "exemplars", "exemplars", Kind::Message(Msg::Exemplar)),
        many(9, "attributes", "attributes", ATTRIBUTES),
        one(10, "flags", "flags", Kind::Uint32),
        one(11, "min", "min", Kind::Double),
        one(12, "max", "max", Kind::Double),
    ]),
    message(Msg::ExponentialHistogramDataPoint, "ExponentialHistogramDataPoint", &[
        many(1, "attributes", "attributes", ATTRIBUTES),
        one(2, "start_time_unix_nano", "startTimeUnixNano", Kind::Fixed64),
        one(3, "time_unix_nano", "timeUnixNano", Kind::Fixed64),
        one(4, "count", "count", Kind::Fixed64),
        one(5, "sum", "sum", Kind::Double),
        one(6, "scale", "scale", Kind::Sint32),
        one(7, "zero_count", "zeroCount", Kind::Fixed64),
        one(8, "positive", "positive", Kind::Message(Msg::Buckets)),
        one(9, "negative", "negative", Kind::Message(Msg::Buckets)),
        one(10, "flags", "flags", Kind::Uint32),
        many(11, "exemplars", "exemplars", Kind::Message(Msg::Exemplar)),
        one(12, "min", "min", Kind::Double),
        one(13, "max", "max", Kind::Double),
        one(14, "zero_threshold", "zeroThreshold", Kind::Double),
    ]),
    message(Msg::Buckets, "Buckets", &[
        one(1, "offset", "offset", Kind::Sint32),
        many(2, "bucket_counts", "bucketCounts", Kind::Uint64),
    ]),
    message(Msg::SummaryDataPoint, "SummaryDataPoint", &[
        one(2, "start_time_unix_nano", "startTimeUnixNano", Kind::Fixed64),
        one(3, "time_unix_nano", "timeUnixNano", Kind::Fixed64),
        one(4, "count", "count", Kind::Fixed64),
        one(5, "sum", "sum", Kind::Double),
        many(6, "quantile_values", "quantileValues", Kind::Message(Msg::ValueAtQuantile)),
        many(7, "attributes", "attributes", ATTRIBUTES),
        one(8, "flags", "flags", Kind::Uint32),
    ]),
    message(Msg::ValueAtQuantile, "ValueAtQuantile", &[
        one(1, "quantile", "quantile", Kind::Double),
        one(2, "value", "value", Kind::Double),
    ]),
    message(Msg::Exemplar, "Exemplar", &[
        one(2, "time_unix_nano", "timeUnixNano", Kind::Fixed64),
        oneof(3, "as_double", "asDouble", Kind::Double),
        one(4, "span_id", "spanId", Kind::SpanId),
        one(5, "trace_id", "traceId", Kind::TraceId),
        oneof(6, "as_int", "asInt", Kind::Sfixed64),
        many(7, "filtered_attributes", "filteredAttributes", ATTRIBUTES),
    ]),
    message(Msg::KeyValue, "KeyValue", &[
        one(1, "key", "key", Kind::Key),
        one(2, "value", "value", Kind::Message(Msg::AnyValue)),
        one(3, "key_strindex", "keyStrindex", Kind::Int32),
    ]),
    message(Msg::AnyValue, "AnyValue", &[
        oneof(1, "string_value", "stringValue", Kind::Text),
        oneof(2, "bool_value", "boolValue", Kind::Bool),
        oneof(3, "int_value", "intValue", Kind::Int64),
        oneof(4, "double_value", "doubleValue", Kind::ValueDouble),
        oneof(5, "array_value", "arrayValue", Kind::Message(Msg::ArrayValue)),
        oneof(6, "kvlist_value", "kvlistValue", Kind::Message(Msg::KeyValueList)),
        oneof(7, "bytes_value", "bytesValue", Kind::Bytes),
        oneof(8, "string_value_strindex", "stringValueStrindex", Kind::Int32),
    ]),
    message(Msg::ArrayValue, "ArrayValue", &[
        many(1, "values", "values", Kind::Message(Msg::AnyValue)),
    ]),
    message(Msg::KeyValueList, "KeyValueList", &[
        many(1, "values", "values", Kind::Message(Msg::KeyValue)),
    ]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_stands_at_its_id() {
        let names = [
            (Msg::TraceRequest, "ExportTraceServiceRequest"),
            (Msg::Scope, "InstrumentationScope"),
            (Msg::Span, "Span"),
            (Msg::Exemplar, "Exemplar"),
            (Msg::KeyValueList, "KeyValueList"),
        ];
        for (id, name) in names {
            assert_eq!(id.table().name, name);
        }
        for message in &MESSAGES {
            assert!(message.fields.is_sorted_by_key(|f| f.number), "{} is in order of numbers", message.name);
            let oneofs = message.fields.iter().filter(|f| f.rule == Rule::Oneof).count();
            assert_ne!(oneofs, 1, "a oneof of {} has several members", message.name);
        }
    }

    #[test]
    fn json_names_are_the_lower_camel_case_of_the_proto_names() {
        for field in MESSAGES.iter().flat_map(|m| m.fields) {
            let mut expected = String::new();
            for (i, part) in field.name.split('_').enumerate() {
                let (head, tail) = part.split_at(1);
                expected.push_str(&if i == 0 { head.to_owned() } else { head.to_uppercase() });
                expected.push_str(tail);
            }
            assert_eq!(field.json, expected);
        }
    }

    #[test]
    fn a_known_field_is_refused_in_every_wire_type_but_its_own() {
        for (message, field) in MESSAGES.iter().flat_map(|m| m.fields.iter().map(move |f| (m, f))) {
            let accepted = (0..8)
                .map(|wire| message.ops[field.number as usize * 8 + wire].act)
                .filter(|act| !matches!(act, Act::WrongType | Act::Group | Act::NoType))
                .count();
            let packable =
                field.rule == Rule::Many && matches!(field.kind, Kind::Fixed64 | Kind::Double | Kind::Uint64);
            assert_eq!(accepted, if packable { 2 } else { 1 }, "{}.{}", message.name, field.name);
        }
    }
}
