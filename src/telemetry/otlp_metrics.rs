//! The metrics of this process as an OTLP request, in the names of OpenTelemetry rather than Prometheus.

use super::{
    names::{Kind, Metric, Unit},
    registry::{Family, Labels, Point},
};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric as OtlpMetric, NumberDataPoint,
        ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point,
    },
    resource::v1::Resource,
};
use std::time::{SystemTime, UNIX_EPOCH};

/// One request with everything, cumulative since `started`.
pub(super) fn request(
    families: &[Family],
    resource: &[(String, String)],
    started: SystemTime,
    now: SystemTime,
) -> ExportMetricsServiceRequest {
    let times = Times { start: nanos(started), now: nanos(now) };
    let scope = InstrumentationScope {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Default::default()
    };
    let metrics = families.iter().map(|family| metric(family, &times)).collect();
    let resource = Resource {
        attributes: resource.iter().map(|(key, value)| attribute(key.clone(), value.clone())).collect(),
        ..Default::default()
    };
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics, ..Default::default() }];
    let resource_metrics = vec![ResourceMetrics { resource: Some(resource), scope_metrics, ..Default::default() }];
    ExportMetricsServiceRequest { resource_metrics }
}

struct Times {
    start: u64,
    now: u64,
}

fn metric(family: &Family, times: &Times) -> OtlpMetric {
    let numbers = || family.series.iter().filter_map(|(labels, point)| number(labels, point, times)).collect();
    let temporality = AggregationTemporality::Cumulative as i32;
    let data = match family.metric.kind() {
        Kind::Counter => {
            Data::Sum(Sum { data_points: numbers(), aggregation_temporality: temporality, is_monotonic: true })
        }
        Kind::Gauge => Data::Gauge(Gauge { data_points: numbers() }),
        Kind::Histogram => {
            let points = family.series.iter().filter_map(|(labels, point)| distribution(labels, point, times));
            Data::Histogram(Histogram { data_points: points.collect(), aggregation_temporality: temporality })
        }
    };
    OtlpMetric {
        name: name(family.metric),
        description: family.metric.help().to_owned(),
        unit: match family.metric.unit() {
            Unit::Count => "1",
            Unit::Bytes => "By",
            Unit::Seconds => "s",
        }
        .to_owned(),
        data: Some(data),
        ..Default::default()
    }
}

fn number(labels: &Labels, point: &Point, times: &Times) -> Option<NumberDataPoint> {
    let value = match point {
        Point::Whole(value) => number_data_point::Value::AsInt(i64::try_from(*value).unwrap_or(i64::MAX)),
        Point::Number(value) => number_data_point::Value::AsDouble(*value),
        Point::Distribution { .. } => return None,
    };
    Some(NumberDataPoint {
        attributes: attributes(labels),
        start_time_unix_nano: times.start,
        time_unix_nano: times.now,
        value: Some(value),
        ..Default::default()
    })
}

fn distribution(labels: &Labels, point: &Point, times: &Times) -> Option<HistogramDataPoint> {
    let Point::Distribution { bounds, counts, sum } = point else { return None };
    Some(HistogramDataPoint {
        attributes: attributes(labels),
        start_time_unix_nano: times.start,
        time_unix_nano: times.now,
        count: counts.iter().sum(),
        sum: Some(*sum),
        bucket_counts: counts.clone(),
        explicit_bounds: bounds.to_vec(),
        ..Default::default()
    })
}

/// The Collector's pipeline telemetry has dots in its names, which its Prometheus page cannot show.
fn name(metric: Metric) -> String {
    let name = metric.name();
    match name.ends_with("_consumed_items") || name.ends_with("_produced_items") {
        true => name.replace('_', "."),
        false => name.to_owned(),
    }
}

fn attributes(labels: &Labels) -> Vec<KeyValue> {
    let key = |key: &str| match key.starts_with("otel") {
        true => key.replace('_', "."),
        false => key.to_owned(),
    };
    labels.iter().map(|(label, value)| attribute(key(label), value.clone())).collect()
}

fn attribute(key: String, value: String) -> KeyValue {
    KeyValue { key, value: Some(AnyValue { value: Some(Value::StringValue(value)) }), ..Default::default() }
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn sums_gauges_and_histograms_have_their_points_and_names() {
        let labels = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Labels>()
        };
        let families = [
            Family {
                metric: Metric::ReceiverAcceptedSpans,
                series: vec![(labels(&[("receiver", "otlp"), ("transport", "grpc")]), Point::Whole(7))],
            },
            Family { metric: Metric::ProcessMemoryRss, series: vec![(Vec::new(), Point::Number(1.5))] },
            Family {
                metric: Metric::ProcessorInternalDuration,
                series: vec![(
                    labels(&[("processor", "mask"), ("otel_signal", "traces")]),
                    Point::Distribution { bounds: &[0.1, 1.0], counts: vec![2, 1, 0], sum: 0.4 },
                )],
            },
        ];
        let started = UNIX_EPOCH + Duration::from_secs(1);
        let resource = [("service.name".to_owned(), "tracegate".to_owned())];
        let request = request(&families, &resource, started, started + Duration::from_secs(2));

        let resource = &request.resource_metrics[0];
        assert_eq!(resource.resource.as_ref().unwrap().attributes[0].key, "service.name");
        let metrics = &resource.scope_metrics[0].metrics;
        let Some(Data::Sum(sum)) = &metrics[0].data else { panic!("a sum") };
        assert_eq!(metrics[0].name, "otelcol_receiver_accepted_spans");
        assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
        assert_eq!(sum.data_points[0].value, Some(number_data_point::Value::AsInt(7)));
        assert_eq!(
            (sum.data_points[0].start_time_unix_nano, sum.data_points[0].time_unix_nano),
            (1_000_000_000, 3_000_000_000)
        );
        assert_eq!(sum.data_points[0].attributes[1].key, "transport");
        let Some(Data::Gauge(gauge)) = &metrics[1].data else { panic!("a gauge") };
        assert_eq!((metrics[1].unit.as_str(), gauge.data_points.len()), ("By", 1));
        let Some(Data::Histogram(histogram)) = &metrics[2].data else { panic!("a histogram") };
        let point = &histogram.data_points[0];
        assert_eq!((point.count, point.sum, point.bucket_counts.as_slice()), (3, Some(0.4), &[2, 1, 0][..]));
        assert_eq!(point.attributes[1].key, "otel.signal");
    }

    #[test]
    fn pipeline_telemetry_has_the_collectors_dots() {
        let dotted: Vec<String> =
            Metric::ALL.iter().map(|metric| name(*metric)).filter(|it| it.contains('.')).collect();
        assert!(dotted.contains(&"otelcol.processor.consumed.items".to_owned()), "{dotted:?}");
    }
}
