//! One paragraph per span, log record or metric, made to be read: what it is, then its attributes, long values
//! shortened.

use super::text::{Style, duration, hex, plain, timestamp};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, KeyValue},
    logs::v1::LogRecord,
    metrics::v1::{Metric, metric::Data},
    resource::v1::Resource,
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use std::io::{self, Write};

/// So many attributes are shown of one span or record.
const MAX_ATTRIBUTES: usize = 24;

pub(super) fn traces(out: &mut dyn Write, style: Style, request: &ExportTraceServiceRequest) -> io::Result<()> {
    for resource in &request.resource_spans {
        let service = service(resource.resource.as_ref());
        for span in resource.scope_spans.iter().flat_map(|scope| &scope.spans) {
            one_span(out, style, service, span)?;
        }
    }
    Ok(())
}

fn one_span(out: &mut dyn Write, style: Style, service: &str, span: &Span) -> io::Result<()> {
    let kind = match span.kind() {
        SpanKind::Unspecified | SpanKind::Internal => "span",
        SpanKind::Server => "server span",
        SpanKind::Client => "client span",
        SpanKind::Producer => "producer span",
        SpanKind::Consumer => "consumer span",
    };
    let status = match span.status.as_ref().map(|status| (status.code(), status.message.as_str())) {
        None | Some((StatusCode::Unset, _)) => String::new(),
        Some((StatusCode::Ok, _)) => " ok".to_owned(),
        Some((StatusCode::Error, "")) => " error".to_owned(),
        Some((StatusCode::Error, message)) => format!(" error: {}", style.short(message)),
    };
    writeln!(
        out,
        "  {} {} {}{status}  {}",
        style.short(service),
        style.bold(&style.short(&span.name)),
        duration(span.start_time_unix_nano, span.end_time_unix_nano),
        style.dim(&format!("{kind} {} of trace {}", hex(&span.span_id), hex(&span.trace_id))),
    )?;
    attributes(out, style, "    ", &span.attributes)?;
    for event in &span.events {
        writeln!(out, "    event {}", style.bold(&style.short(&event.name)))?;
        attributes(out, style, "      ", &event.attributes)?;
    }
    for link in &span.links {
        writeln!(out, "    link to span {} of trace {}", hex(&link.span_id), hex(&link.trace_id))?;
        attributes(out, style, "      ", &link.attributes)?;
    }
    Ok(())
}

pub(super) fn logs(out: &mut dyn Write, style: Style, request: &ExportLogsServiceRequest) -> io::Result<()> {
    for resource in &request.resource_logs {
        let service = service(resource.resource.as_ref());
        for record in resource.scope_logs.iter().flat_map(|scope| &scope.log_records) {
            one_record(out, style, service, record)?;
        }
    }
    Ok(())
}

fn one_record(out: &mut dyn Write, style: Style, service: &str, record: &LogRecord) -> io::Result<()> {
    let time = match record.time_unix_nano {
        0 => record.observed_time_unix_nano,
        time => time,
    };
    let trace = match record.trace_id.as_slice() {
        [] => String::new(),
        id => format!("  {}", style.dim(&format!("span {} of trace {}", hex(&record.span_id), hex(id)))),
    };
    writeln!(
        out,
        "  {} {} {} {}{}{trace}",
        style.short(service),
        style.dim(&timestamp(time)),
        style.bold(&style.short(&record.severity_text)),
        style.short(&record.event_name),
        style.short(&plain(record.body.as_ref())),
    )?;
    attributes(out, style, "    ", &record.attributes)
}

pub(super) fn metrics(out: &mut dyn Write, style: Style, request: &ExportMetricsServiceRequest) -> io::Result<()> {
    for resource in &request.resource_metrics {
        let service = service(resource.resource.as_ref());
        for metric in resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            one_metric(out, style, service, metric)?;
        }
    }
    Ok(())
}

fn one_metric(out: &mut dyn Write, style: Style, service: &str, metric: &Metric) -> io::Result<()> {
    let (kind, points) = match &metric.data {
        None => ("metric", 0),
        Some(Data::Gauge(data)) => ("gauge", data.data_points.len()),
        Some(Data::Sum(data)) => ("sum", data.data_points.len()),
        Some(Data::Histogram(data)) => ("histogram", data.data_points.len()),
        Some(Data::ExponentialHistogram(data)) => ("exponential histogram", data.data_points.len()),
        Some(Data::Summary(data)) => ("summary", data.data_points.len()),
    };
    let points_word = if points == 1 { "point" } else { "points" };
    writeln!(
        out,
        "  {} {} {kind} of {points} {points_word} {}",
        style.short(service),
        style.bold(&style.short(&metric.name)),
        style.dim(&style.short(&metric.unit)),
    )
}

fn attributes(out: &mut dyn Write, style: Style, indent: &str, attributes: &[KeyValue]) -> io::Result<()> {
    for KeyValue { key, value, .. } in attributes.iter().take(MAX_ATTRIBUTES) {
        writeln!(out, "{indent}{} = {}", style.short(key), style.short(&plain(value.as_ref())))?;
    }
    match attributes.len().saturating_sub(MAX_ATTRIBUTES) {
        0 => Ok(()),
        more => writeln!(out, "{indent}{}", style.dim(&format!("and {more} more attributes"))),
    }
}

fn service(resource: Option<&Resource>) -> &str {
    let value = |attribute: &'_ KeyValue| attribute.key == "service.name";
    let found = resource.and_then(|resource| resource.attributes.iter().find(|attribute| value(attribute)));
    match found.and_then(|attribute| attribute.value.as_ref()) {
        Some(AnyValue { value: Some(opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue(name)) })
            if !name.is_empty() =>
        {
            name
        }
        _ => "unknown_service",
    }
}
