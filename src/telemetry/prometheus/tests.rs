//! What a scraper sees.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::telemetry::{
    BatchMetrics, ExporterMetrics, Items, MaskMetrics, MemoryLimiterMetrics, PipelineMetrics, ReceiverMetrics,
    http::tests::get,
};
use tokio::sync::oneshot;

fn resource() -> BTreeMap<String, String> {
    [("service.name", "tracegate"), ("service.version", "0.1.0"), ("service.instance.id", "a\"b\\c\nd")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// Samples (no comments) that start with a prefix, sorted.
fn samples(text: &str, prefix: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().filter(|line| line.starts_with(prefix)).map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn names_labels_and_values() {
    let (prometheus, recorder) = Prometheus::detached(&resource());
    metrics::with_local_recorder(&recorder, || {
        let receiver = ReceiverMetrics::new("otlp/a", "grpc");
        receiver.accepted(Items::Spans, 3);
        receiver.accepted(Items::Spans, 4);
        receiver.refused(Items::LogRecords, 2);
        receiver.failed(Items::MetricPoints, 1);
        receiver.request_bytes(5000);
        let exporter = ExporterMetrics::new("otlp_grpc/x");
        exporter.sent(Items::Spans, 5);
        exporter.send_failed(Items::Spans, 6);
        exporter.enqueue_failed(Items::Spans, 7);
        exporter.rejected(Items::Spans, 8);
        exporter.dropped(Items::Spans, 9);
        exporter.queue_capacity(1000);
        exporter.clone().queue_size(10);
        let unbounded = ExporterMetrics::new("debug");
        unbounded.queue_size(1);
        unbounded.queue_capacity(u64::MAX);
        unbounded.queue_size(1);
        let limiter = MemoryLimiterMetrics::new("memory_limiter");
        limiter.accepted(Items::MetricPoints, 11);
        limiter.refused(Items::Spans, 12);
        let mask = MaskMetrics::new([("aws-access-key-id", "credential"), ("email", "pii")]);
        mask.findings(1, 13);
        mask.findings(2, 99);
        mask.masked_bytes(14);
        mask.unscanned(15);
        mask.incoming_markers(16);
        PipelineMetrics::new("traces").enforced(true);
        PipelineMetrics::new("logs").enforced(false);
    });
    let text = prometheus.render();
    for want in [
        r#"otelcol_receiver_accepted_spans{receiver="otlp/a",transport="grpc"} 7"#,
        r#"otelcol_receiver_accepted_log_records{receiver="otlp/a",transport="grpc"} 0"#,
        r#"otelcol_receiver_refused_log_records{receiver="otlp/a",transport="grpc"} 2"#,
        r#"otelcol_receiver_failed_metric_points{receiver="otlp/a",transport="grpc"} 1"#,
        r#"tracegate_receiver_request_bytes_bucket{receiver="otlp/a",transport="grpc",le="4096"} 0"#,
        r#"tracegate_receiver_request_bytes_bucket{receiver="otlp/a",transport="grpc",le="16384"} 1"#,
        r#"tracegate_receiver_request_bytes_sum{receiver="otlp/a",transport="grpc"} 5000"#,
        r#"otelcol_exporter_sent_spans{exporter="otlp_grpc/x"} 5"#,
        r#"otelcol_exporter_send_failed_spans{exporter="otlp_grpc/x"} 6"#,
        r#"otelcol_exporter_enqueue_failed_spans{exporter="otlp_grpc/x"} 7"#,
        r#"tracegate_exporter_rejected_spans{exporter="otlp_grpc/x"} 8"#,
        r#"tracegate_exporter_dropped_spans{exporter="otlp_grpc/x"} 9"#,
        r#"otelcol_exporter_queue_size{exporter="otlp_grpc/x"} 10"#,
        r#"otelcol_exporter_queue_capacity{exporter="otlp_grpc/x"} 1000"#,
        r#"otelcol_processor_memory_limiter_accepted_metric_points{processor="memory_limiter"} 11"#,
        r#"otelcol_processor_memory_limiter_refused_spans{processor="memory_limiter"} 12"#,
        r#"tracegate_mask_findings{rule="email",class="pii"} 13"#,
        r#"tracegate_mask_findings{rule="aws-access-key-id",class="credential"} 0"#,
        "tracegate_mask_masked_bytes 14",
        "tracegate_mask_unscanned 15",
        "tracegate_mask_incoming_markers 16",
        r#"tracegate_pipeline_enforced{pipeline="traces"} 1"#,
        r#"tracegate_pipeline_enforced{pipeline="logs"} 0"#,
        "# TYPE otelcol_exporter_sent_spans counter",
        "# HELP otelcol_exporter_sent_spans Spans the destination took.",
        "# TYPE otelcol_exporter_queue_size gauge",
        "# TYPE otelcol_process_uptime counter",
        r#"target_info{service_instance_id="a\"b\\c\nd",service_name="tracegate",service_version="0.1.0"} 1"#,
    ] {
        assert!(text.lines().any(|line| line == want), "no line {want:?} in\n{text}");
    }
    assert!(!text.contains("_total"));
    assert_eq!(samples(&text, "otelcol_exporter_queue_").len(), 2);
    assert_eq!(samples(&text, "otelcol_process_uptime").len(), 1);
}

#[test]
fn every_metric_has_its_help() {
    let (prometheus, recorder) = Prometheus::detached(&resource());
    metrics::with_local_recorder(&recorder, || {
        let _ = ReceiverMetrics::new("r", "http");
        ExporterMetrics::new("e").queue_capacity(1);
        let _ = MemoryLimiterMetrics::new("p");
        BatchMetrics::new("b").sent(1, 1, true);
        let _ = MaskMetrics::new([("r", "c")]);
        let _ = PipelineMetrics::new("traces");
        recorders::config_reloaded(true);
        ReceiverMetrics::new("r", "http").request_bytes(1);
    });
    let text = prometheus.render();
    for metric in Metric::ALL {
        let system = matches!(metric, Metric::ProcessCpuSeconds | Metric::ProcessMemoryRss);
        if system && !cfg!(target_os = "linux") {
            continue;
        }
        let help = format!("# HELP {} {}\n", metric.name(), metric.help());
        assert!(text.contains(&help), "{help}");
        let kind = format!("{:?}", metric.kind()).to_lowercase();
        assert!(text.contains(&format!("# TYPE {} {kind}\n", metric.name())), "{}", metric.name());
    }
}

#[tokio::test]
async fn serves_metrics_and_stops() {
    let (prometheus, _recorder) = Prometheus::detached(&resource());
    let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(async move {
        prometheus.serve(listener, async { drop(stopped.await) }).await;
    });
    let answer = get(address, "GET", "/metrics").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.content_type.as_deref(), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(samples(&answer.body, "target_info").len(), 1);
    assert_eq!(get(address, "GET", "/").await.status, 404);
    assert_eq!(get(address, "POST", "/metrics").await.status, 405);
    stop.send(()).unwrap();
    server.await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[test]
fn installing_twice_shares_one_recorder() {
    let first = Prometheus::install(&resource()).unwrap();
    let second = Prometheus::install(&BTreeMap::new()).unwrap();
    ExporterMetrics::new("installed").sent(Items::Spans, 1);
    let want = r#"otelcol_exporter_sent_spans{exporter="installed"} 1"#;
    assert_eq!(samples(&first.render(), "otelcol_exporter_sent_spans{exporter=\"installed\""), [want]);
    assert_eq!(samples(&second.render(), "otelcol_exporter_sent_spans{exporter=\"installed\""), [want]);
    assert_eq!(samples(&second.render(), "target_info"), ["target_info{} 1"]);
}
