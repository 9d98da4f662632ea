//! Everything a request holds, in the layout of the Collector's debug exporter.

use super::text::{Style, fixed, hex, timestamp, typed};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{InstrumentationScope, KeyValue},
    logs::v1::LogRecord,
    metrics::v1::{
        AggregationTemporality, Exemplar, ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint,
        SummaryDataPoint, exemplar, exponential_histogram_data_point::Buckets, metric::Data, number_data_point,
    },
    resource::v1::Resource,
    trace::v1::{
        Span,
        span::{Event, Link, SpanKind},
        status::StatusCode,
    },
};
use std::io::{self, Write};

/// Where to write, and how text is shown.
struct Page<'a> {
    out: &'a mut dyn Write,
    style: Style,
}

/// Writes one line with formatted arguments.
macro_rules! line {
    ($page:expr, $($arguments:tt)*) => { writeln!($page.out, $($arguments)*)? };
}

pub(super) fn traces(out: &mut dyn Write, style: Style, request: &ExportTraceServiceRequest) -> io::Result<()> {
    let mut page = Page { out, style };
    for (i, resource) in request.resource_spans.iter().enumerate() {
        line!(page, "ResourceSpans #{i}");
        page.resource(&resource.schema_url, resource.resource.as_ref())?;
        for (i, scope) in resource.scope_spans.iter().enumerate() {
            line!(page, "ScopeSpans #{i}");
            page.scope("ScopeSpans", &scope.schema_url, scope.scope.as_ref())?;
            for (i, span) in scope.spans.iter().enumerate() {
                line!(page, "Span #{i}");
                page.span(span)?;
            }
        }
    }
    Ok(())
}

pub(super) fn logs(out: &mut dyn Write, style: Style, request: &ExportLogsServiceRequest) -> io::Result<()> {
    let mut page = Page { out, style };
    for (i, resource) in request.resource_logs.iter().enumerate() {
        line!(page, "ResourceLog #{i}");
        page.resource(&resource.schema_url, resource.resource.as_ref())?;
        for (i, scope) in resource.scope_logs.iter().enumerate() {
            line!(page, "ScopeLogs #{i}");
            page.scope("ScopeLogs", &scope.schema_url, scope.scope.as_ref())?;
            for (i, record) in scope.log_records.iter().enumerate() {
                line!(page, "LogRecord #{i}");
                page.record(record)?;
            }
        }
    }
    Ok(())
}

pub(super) fn metrics(out: &mut dyn Write, style: Style, request: &ExportMetricsServiceRequest) -> io::Result<()> {
    let mut page = Page { out, style };
    for (i, resource) in request.resource_metrics.iter().enumerate() {
        line!(page, "ResourceMetrics #{i}");
        page.resource(&resource.schema_url, resource.resource.as_ref())?;
        for (i, scope) in resource.scope_metrics.iter().enumerate() {
            line!(page, "ScopeMetrics #{i}");
            page.scope("ScopeMetrics", &scope.schema_url, scope.scope.as_ref())?;
            for (i, metric) in scope.metrics.iter().enumerate() {
                line!(page, "Metric #{i}");
                page.metric(metric)?;
            }
        }
    }
    Ok(())
}

impl Page<'_> {
    fn safe(&self, text: &str) -> String {
        self.style.safe(text)
    }

    fn resource(&mut self, schema_url: &str, resource: Option<&Resource>) -> io::Result<()> {
        line!(self, "Resource SchemaURL: {}", self.safe(schema_url));
        match resource {
            Some(resource) => {
                self.attributes("Resource attributes:", "", &resource.attributes)?;
                self.entities(resource)
            }
            None => Ok(()),
        }
    }

    fn entities(&mut self, resource: &Resource) -> io::Result<()> {
        if resource.entity_refs.is_empty() {
            return Ok(());
        }
        line!(self, "Resource entity refs:");
        for (i, entity) in resource.entity_refs.iter().enumerate() {
            line!(self, "     -> Entity ref #{i}:");
            line!(self, "          -> Type: {}", self.safe(&entity.r#type));
            if !entity.schema_url.is_empty() {
                line!(self, "          -> Schema URL: {}", self.safe(&entity.schema_url));
            }
            for (title, keys) in [("ID keys", &entity.id_keys), ("Description keys", &entity.description_keys)] {
                if keys.is_empty() {
                    continue;
                }
                line!(self, "          -> {title}:");
                for key in keys {
                    line!(self, "               -> {}", self.safe(key));
                }
            }
        }
        Ok(())
    }

    fn scope(&mut self, title: &str, schema_url: &str, scope: Option<&InstrumentationScope>) -> io::Result<()> {
        line!(self, "{title} SchemaURL: {}", self.safe(schema_url));
        let absent = InstrumentationScope::default();
        let scope = scope.unwrap_or(&absent);
        line!(self, "InstrumentationScope {} {}", self.safe(&scope.name), self.safe(&scope.version));
        self.attributes("InstrumentationScope attributes:", "", &scope.attributes)
    }

    /// What belongs to an indented title stands further in by its indentation.
    fn attributes(&mut self, title: &str, indent: &str, attributes: &[KeyValue]) -> io::Result<()> {
        if attributes.is_empty() {
            return Ok(());
        }
        line!(self, "{title}");
        for KeyValue { key, value, .. } in attributes {
            line!(self, "{indent}     -> {}: {}", self.safe(key), self.safe(&typed(value.as_ref())));
        }
        Ok(())
    }

    fn span(&mut self, span: &Span) -> io::Result<()> {
        let kind = match span.kind() {
            SpanKind::Unspecified => "Unspecified",
            SpanKind::Internal => "Internal",
            SpanKind::Server => "Server",
            SpanKind::Client => "Client",
            SpanKind::Producer => "Producer",
            SpanKind::Consumer => "Consumer",
        };
        let (code, message) = match &span.status {
            None => ("Unset", ""),
            Some(status) => {
                let code = match status.code() {
                    StatusCode::Unset => "Unset",
                    StatusCode::Ok => "Ok",
                    StatusCode::Error => "Error",
                };
                (code, status.message.as_str())
            }
        };
        line!(self, "    Trace ID       : {}", hex(&span.trace_id));
        line!(self, "    Parent ID      : {}", hex(&span.parent_span_id));
        line!(self, "    ID             : {}", hex(&span.span_id));
        line!(self, "    Name           : {}", self.safe(&span.name));
        line!(self, "    Kind           : {kind}");
        if !span.trace_state.is_empty() {
            line!(self, "    TraceState     : {}", self.safe(&span.trace_state));
        }
        line!(self, "    Start time     : {}", timestamp(span.start_time_unix_nano));
        line!(self, "    End time       : {}", timestamp(span.end_time_unix_nano));
        line!(self, "    Status code    : {code}");
        line!(self, "    Status message : {}", self.safe(message));
        line!(self, "    DroppedAttributesCount: {}", span.dropped_attributes_count);
        line!(self, "    DroppedEventsCount: {}", span.dropped_events_count);
        line!(self, "    DroppedLinksCount: {}", span.dropped_links_count);
        self.attributes("Attributes:", "", &span.attributes)?;
        if !span.events.is_empty() {
            line!(self, "Events:");
            span.events.iter().enumerate().try_for_each(|(i, event)| self.event(i, event))?;
        }
        if !span.links.is_empty() {
            line!(self, "Links:");
            span.links.iter().enumerate().try_for_each(|(i, link)| self.link(i, link))?;
        }
        Ok(())
    }

    fn event(&mut self, i: usize, event: &Event) -> io::Result<()> {
        line!(self, "SpanEvent #{i}");
        line!(self, "     -> Name: {}", self.safe(&event.name));
        line!(self, "     -> Timestamp: {}", timestamp(event.time_unix_nano));
        line!(self, "     -> DroppedAttributesCount: {}", event.dropped_attributes_count);
        self.attributes("     -> Attributes::", INDENT, &event.attributes)
    }

    fn link(&mut self, i: usize, link: &Link) -> io::Result<()> {
        line!(self, "SpanLink #{i}");
        line!(self, "     -> Trace ID: {}", hex(&link.trace_id));
        line!(self, "     -> ID: {}", hex(&link.span_id));
        line!(self, "     -> TraceState: {}", self.safe(&link.trace_state));
        line!(self, "     -> DroppedAttributesCount: {}", link.dropped_attributes_count);
        self.attributes("     -> Attributes::", INDENT, &link.attributes)
    }

    fn record(&mut self, record: &LogRecord) -> io::Result<()> {
        line!(self, "ObservedTimestamp: {}", timestamp(record.observed_time_unix_nano));
        line!(self, "Timestamp: {}", timestamp(record.time_unix_nano));
        line!(self, "SeverityText: {}", self.safe(&record.severity_text));
        line!(self, "SeverityNumber: {}({})", severity(record.severity_number), record.severity_number);
        if !record.event_name.is_empty() {
            line!(self, "EventName: {}", self.safe(&record.event_name));
        }
        line!(self, "Body: {}", self.safe(&typed(record.body.as_ref())));
        self.attributes("Attributes:", "", &record.attributes)?;
        line!(self, "Trace ID: {}", hex(&record.trace_id));
        line!(self, "Span ID: {}", hex(&record.span_id));
        line!(self, "Flags: {}", record.flags);
        Ok(())
    }

    fn metric(&mut self, metric: &Metric) -> io::Result<()> {
        line!(self, "Descriptor:");
        line!(self, "     -> Name: {}", self.safe(&metric.name));
        line!(self, "     -> Description: {}", self.safe(&metric.description));
        line!(self, "     -> Unit: {}", self.safe(&metric.unit));
        let kind = match &metric.data {
            None => "Empty",
            Some(Data::Gauge(_)) => "Gauge",
            Some(Data::Sum(_)) => "Sum",
            Some(Data::Histogram(_)) => "Histogram",
            Some(Data::ExponentialHistogram(_)) => "ExponentialHistogram",
            Some(Data::Summary(_)) => "Summary",
        };
        line!(self, "     -> DataType: {kind}");
        self.attributes("     -> Metadata:", INDENT, &metric.metadata)?;
        match &metric.data {
            None => Ok(()),
            Some(Data::Gauge(data)) => self.points("NumberDataPoints", &data.data_points, Self::number),
            Some(Data::Sum(data)) => {
                line!(self, "     -> IsMonotonic: {}", data.is_monotonic);
                self.temporality(data.aggregation_temporality())?;
                self.points("NumberDataPoints", &data.data_points, Self::number)
            }
            Some(Data::Histogram(data)) => {
                self.temporality(data.aggregation_temporality())?;
                self.points("HistogramDataPoints", &data.data_points, Self::histogram)
            }
            Some(Data::ExponentialHistogram(data)) => {
                self.temporality(data.aggregation_temporality())?;
                self.points("ExponentialHistogramDataPoints", &data.data_points, Self::exponential)
            }
            Some(Data::Summary(data)) => self.points("SummaryDataPoints", &data.data_points, Self::summary),
        }
    }

    fn temporality(&mut self, temporality: AggregationTemporality) -> io::Result<()> {
        let name = match temporality {
            AggregationTemporality::Unspecified => "Unspecified",
            AggregationTemporality::Delta => "Delta",
            AggregationTemporality::Cumulative => "Cumulative",
        };
        line!(self, "     -> AggregationTemporality: {name}");
        Ok(())
    }

    fn points<P>(&mut self, title: &str, points: &[P], one: fn(&mut Self, &P) -> io::Result<()>) -> io::Result<()> {
        for (i, point) in points.iter().enumerate() {
            line!(self, "{title} #{i}");
            one(self, point)?;
        }
        Ok(())
    }

    fn point(&mut self, attributes: &[KeyValue], start: u64, time: u64) -> io::Result<()> {
        self.attributes("Data point attributes:", "", attributes)?;
        line!(self, "StartTimestamp: {}", timestamp(start));
        line!(self, "Timestamp: {}", timestamp(time));
        Ok(())
    }

    fn number(&mut self, point: &NumberDataPoint) -> io::Result<()> {
        self.point(&point.attributes, point.start_time_unix_nano, point.time_unix_nano)?;
        match point.value {
            None => {}
            Some(number_data_point::Value::AsInt(value)) => line!(self, "Value: {value}"),
            Some(number_data_point::Value::AsDouble(value)) => line!(self, "Value: {}", fixed(value)),
        }
        self.exemplars(&point.exemplars)
    }

    fn histogram(&mut self, point: &HistogramDataPoint) -> io::Result<()> {
        self.point(&point.attributes, point.start_time_unix_nano, point.time_unix_nano)?;
        line!(self, "Count: {}", point.count);
        self.bounds(point.sum, point.min, point.max)?;
        for (i, bound) in point.explicit_bounds.iter().enumerate() {
            line!(self, "ExplicitBounds #{i}: {}", fixed(*bound));
        }
        for (i, count) in point.bucket_counts.iter().enumerate() {
            line!(self, "Buckets #{i}, Count: {count}");
        }
        self.exemplars(&point.exemplars)
    }

    fn exponential(&mut self, point: &ExponentialHistogramDataPoint) -> io::Result<()> {
        self.point(&point.attributes, point.start_time_unix_nano, point.time_unix_nano)?;
        line!(self, "Count: {}", point.count);
        self.bounds(point.sum, point.min, point.max)?;
        // A bucket reaches from base^index to base^(index + 1), with base 2^(2^-scale).
        let bound = |index: f64| (index * std::f64::consts::LN_2 * (-f64::from(point.scale)).exp2()).exp();
        let buckets = |of: &Option<Buckets>| of.clone().unwrap_or_default();
        let (negative, positive) = (buckets(&point.negative), buckets(&point.positive));
        for (i, count) in negative.bucket_counts.iter().enumerate().rev() {
            let index = f64::from(negative.offset) + i as f64;
            let (lower, upper) = (-bound(index + 1.0), -bound(index));
            line!(self, "Bucket [{}, {}), Count: {count}", fixed(lower), fixed(upper));
        }
        if point.zero_count != 0 {
            line!(self, "Bucket [0, 0], Count: {}", point.zero_count);
        }
        for (i, count) in positive.bucket_counts.iter().enumerate() {
            let index = f64::from(positive.offset) + i as f64;
            let (lower, upper) = (bound(index), bound(index + 1.0));
            line!(self, "Bucket ({}, {}], Count: {count}", fixed(lower), fixed(upper));
        }
        self.exemplars(&point.exemplars)
    }

    fn summary(&mut self, point: &SummaryDataPoint) -> io::Result<()> {
        self.point(&point.attributes, point.start_time_unix_nano, point.time_unix_nano)?;
        line!(self, "Count: {}", point.count);
        line!(self, "Sum: {}", fixed(point.sum));
        for (i, quantile) in point.quantile_values.iter().enumerate() {
            let (which, value) = (fixed(quantile.quantile), fixed(quantile.value));
            line!(self, "QuantileValue #{i}: Quantile {which}, Value {value}");
        }
        Ok(())
    }

    fn bounds(&mut self, sum: Option<f64>, min: Option<f64>, max: Option<f64>) -> io::Result<()> {
        for (name, value) in [("Sum", sum), ("Min", min), ("Max", max)] {
            if let Some(value) = value {
                line!(self, "{name}: {}", fixed(value));
            }
        }
        Ok(())
    }

    fn exemplars(&mut self, exemplars: &[Exemplar]) -> io::Result<()> {
        if exemplars.is_empty() {
            return Ok(());
        }
        line!(self, "Exemplars:");
        for (i, exemplar) in exemplars.iter().enumerate() {
            line!(self, "Exemplar #{i}");
            line!(self, "     -> Trace ID: {}", hex(&exemplar.trace_id));
            line!(self, "     -> Span ID: {}", hex(&exemplar.span_id));
            line!(self, "     -> Timestamp: {}", timestamp(exemplar.time_unix_nano));
            match exemplar.value {
                None => {}
                Some(exemplar::Value::AsInt(value)) => line!(self, "     -> Value: {value}"),
                Some(exemplar::Value::AsDouble(value)) => line!(self, "     -> Value: {}", fixed(value)),
            }
            self.attributes("     -> FilteredAttributes:", INDENT, &exemplar.filtered_attributes)?;
        }
        Ok(())
    }
}

/// How far in the titles of an event's, a link's or an exemplar's attributes stand.
const INDENT: &str = "     ";

/// The short name of a severity; none where the data model has none.
fn severity(number: i32) -> String {
    const NAMES: [&str; 6] = ["Trace", "Debug", "Info", "Warn", "Error", "Fatal"];
    match usize::try_from(number) {
        Ok(0) => "Unspecified".to_owned(),
        Ok(number @ 1..=24) => {
            let (name, step) = (NAMES[(number - 1) / 4], (number - 1) % 4 + 1);
            if step == 1 { name.to_owned() } else { format!("{name}{step}") }
        }
        _ => String::new(),
    }
}
