//! What a scraper sees.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::{
    otlp::Signal,
    telemetry::{
        BatchMetrics, ConnectionMetrics, ExporterMetrics, InHandMetrics, MaskMetrics, MemoryLimiterMetrics,
        PipelineMetrics, ReceiverMetrics, RejectedMetrics, StageMetrics,
        http::tests::{ask, get},
        names::Kind,
        recorders,
    },
};
use std::time::Duration;
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
    let (prometheus, recorder) = Prometheus::detached(&resource(), Detail::Detailed);
    metrics::with_local_recorder(&recorder, || {
        let receiver = ReceiverMetrics::new("otlp/a", "grpc");
        receiver.accepted(Signal::Traces, 3);
        receiver.blocked(Signal::Traces, 2);
        receiver.accepted(Signal::Traces, 4);
        receiver.refused(Signal::Logs, 2);
        receiver.failed(Signal::Metrics, 1);
        receiver.request_bytes(5000);
        let exporter = ExporterMetrics::new("otlp_grpc/x", &[Signal::Traces, Signal::Logs]);
        exporter.sent(Signal::Traces, 5);
        exporter.send_failed(Signal::Traces, 6);
        exporter.enqueue_failed(Signal::Traces, 7);
        exporter.rejected(Signal::Traces, 8);
        exporter.dropped(Signal::Traces, 9);
        exporter.queue_capacity(1000);
        exporter.clone().queue_size(10);
        exporter.retried();
        exporter.enqueued(Signal::Traces, 3, 300);
        exporter.sending(3, 300);
        exporter.sending(0, 0);
        exporter.answered();
        RejectedMetrics::new("otlp", "http", "slow").count();
        let connections = ConnectionMetrics::new("otlp", "http");
        drop(connections.open());
        std::mem::forget(connections.open());
        InHandMetrics::new("otlp").bytes(5, 100);
        let stage = StageMetrics::new("mask", "logs/a", Signal::Logs);
        stage.applied(10, Duration::from_millis(2), true);
        stage.applied(2, Duration::from_millis(4), false);
        let unbounded = ExporterMetrics::new("debug", &Signal::ALL);
        unbounded.queue_size(1);
        unbounded.queue_capacity(u64::MAX);
        unbounded.queue_size(1);
        let limiter = MemoryLimiterMetrics::new("memory_limiter");
        limiter.accepted(Signal::Metrics, 11);
        limiter.refused(Signal::Traces, 12);
        let mask = MaskMetrics::new([("aws-access-key-id", "credential"), ("email", "pii")]);
        mask.findings(1, 13);
        mask.findings(2, 99);
        mask.masked_bytes(14);
        mask.unscanned(15);
        mask.incoming_markers(16);
        PipelineMetrics::new("traces").enforced(true);
        PipelineMetrics::new("logs").enforced(false);
    });
    let text = prometheus.render(&Style::default());
    for want in [
        r#"otelcol_receiver_accepted_spans{receiver="otlp/a",transport="grpc"} 7"#,
        r#"otelcol_receiver_accepted_log_records{receiver="otlp/a",transport="grpc"} 0"#,
        r#"otelcol_receiver_refused_log_records{receiver="otlp/a",transport="grpc"} 2"#,
        r#"otelcol_receiver_refused_spans{receiver="otlp/a",transport="grpc"} 2"#,
        r#"tracegate_receiver_blocked_items{receiver="otlp/a",transport="grpc",otel_signal="traces"} 2"#,
        r#"otelcol_receiver_requests{receiver="otlp/a",transport="grpc",outcome="success"} 2"#,
        r#"otelcol_receiver_requests{receiver="otlp/a",transport="grpc",outcome="refused"} 1"#,
        r#"otelcol_receiver_requests{receiver="otlp/a",transport="grpc",outcome="failure"} 1"#,
        r#"otelcol_receiver_produced_items{otelcol_component_id="otlp/a",otelcol_component_kind="receiver",otelcol_signal="traces",outcome="success"} 7"#,
        r#"tracegate_receiver_rejected_requests{receiver="otlp",transport="http",reason="slow"} 1"#,
        r#"tracegate_receiver_connections{receiver="otlp",transport="http"} 1"#,
        r#"tracegate_receiver_in_hand_bytes{receiver="otlp"} 5"#,
        r#"tracegate_receiver_in_hand_limit_bytes{receiver="otlp"} 100"#,
        r#"otelcol_processor_incoming_items{processor="mask",otel_signal="logs"} 12"#,
        r#"otelcol_processor_outgoing_items{processor="mask",otel_signal="logs"} 10"#,
        r#"otelcol_processor_consumed_items{otelcol_component_id="mask",otelcol_component_kind="processor",otelcol_signal="logs",outcome="refused",otelcol_pipeline_id="logs/a"} 2"#,
        r#"otelcol_processor_produced_items{otelcol_component_id="mask",otelcol_component_kind="processor",otelcol_pipeline_id="logs/a",otelcol_signal="logs"} 10"#,
        r#"tracegate_stage_duration_count{processor="mask",otel_signal="logs"} 2"#,
        r#"otelcol_processor_internal_duration_sum{processor="mask",otel_signal="logs"} 0.006"#,
        r#"tracegate_exporter_retries{exporter="otlp_grpc/x"} 1"#,
        r#"otelcol_exporter_in_flight_requests{exporter="otlp_grpc/x"} 1"#,
        r#"otelcol_exporter_consumed_items{otelcol_component_id="otlp_grpc/x",otelcol_component_kind="exporter",otelcol_signal="traces",outcome="success"} 3"#,
        r#"otelcol_exporter_consumed_items{otelcol_component_id="otlp_grpc/x",otelcol_component_kind="exporter",otelcol_signal="traces",outcome="refused"} 7"#,
        r#"otelcol_exporter_enqueue_size_sum{exporter="otlp_grpc/x"} 3"#,
        r#"otelcol_exporter_queue_batch_send_size_bytes_sum{exporter="otlp_grpc/x"} 300"#,
        r#"otelcol_receiver_failed_metric_points{receiver="otlp/a",transport="grpc"} 1"#,
        r#"tracegate_receiver_request_bytes_bucket{receiver="otlp/a",transport="grpc",le="4096"} 0"#,
        r#"tracegate_receiver_request_bytes_bucket{receiver="otlp/a",transport="grpc",le="16384"} 1"#,
        r#"tracegate_receiver_request_bytes_sum{receiver="otlp/a",transport="grpc"} 5000"#,
        r#"otelcol_exporter_sent_spans{exporter="otlp_grpc/x"} 5"#,
        r#"otelcol_exporter_send_failed_spans{exporter="otlp_grpc/x"} 6"#,
        r#"otelcol_exporter_enqueue_failed_spans{exporter="otlp_grpc/x"} 7"#,
        r#"tracegate_exporter_rejected_spans{exporter="otlp_grpc/x"} 8"#,
        r#"tracegate_exporter_dropped_spans{exporter="otlp_grpc/x"} 9"#,
        r#"otelcol_exporter_queue_size{exporter="otlp_grpc/x",data_type="traces"} 10"#,
        r#"otelcol_exporter_queue_capacity{exporter="otlp_grpc/x",data_type="logs"} 1000"#,
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
        r#"target_info{service_instance_id="a\"b\\c\\nd",service_name="tracegate",service_version="0.1.0"} 1"#,
    ] {
        assert!(text.lines().any(|line| line == want), "no line {want:?} in\n{text}");
    }
    assert!(!text.contains("_total{") && !text.contains("_total "));
    assert_eq!(samples(&text, "otelcol_exporter_queue_size{").len(), 2);
    assert_eq!(samples(&text, "otelcol_process_uptime").len(), 1);
}

#[test]
fn every_metric_has_its_help() {
    let (prometheus, recorder) = Prometheus::detached(&resource(), Detail::Detailed);
    metrics::with_local_recorder(&recorder, || {
        let _ = ReceiverMetrics::new("r", "http");
        ExporterMetrics::new("e", &Signal::ALL).queue_capacity(1);
        let _ = MemoryLimiterMetrics::new("p");
        BatchMetrics::new("b").sent(1, 1, true);
        let _ = MaskMetrics::new([("r", "c")]);
        let _ = PipelineMetrics::new("traces");
        BatchMetrics::new("batch").sent(1, 2, true);
        recorders::config_reloaded(true);
        ReceiverMetrics::new("r", "http").request_bytes(1);
        RejectedMetrics::new("r", "http", "slow").count();
        recorders::config_reloaded(true);
        drop(ConnectionMetrics::new("r", "http").open());
        InHandMetrics::new("r").bytes(1, 2);
        StageMetrics::new("p", "traces", Signal::Traces).applied(1, Duration::ZERO, true);
    });
    let prometheus = prometheus.with_health(Health::new());
    let text = prometheus.render(&Style::default());
    for metric in Metric::ALL {
        let system = metric.name().starts_with("otelcol_process_");
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
    let (prometheus, _recorder) = Prometheus::detached(&resource(), Detail::Detailed);
    let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(async move {
        prometheus.serve(listener, Style::default(), async { drop(stopped.await) }).await;
    });
    let answer = get(address, "GET", "/metrics").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.content_type.as_deref(), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(samples(&answer.body, "target_info").len(), 1);
    let answer =
        ask(address, "GET /metrics HTTP/1.1\r\nhost: x\r\naccept: application/openmetrics-text\r\nconnection: close")
            .await;
    let open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!((answer.status, answer.content_type.as_deref()), (200, Some(open)));
    assert!(
        answer.body.contains("\notelcol_process_uptime_total ") && answer.body.ends_with("# EOF\n"),
        "{}",
        answer.body
    );
    let answer = ask(address, "GET /metrics HTTP/1.0").await;
    assert_eq!((answer.status, samples(&answer.body, "target_info").len()), (200, 1));
    assert_eq!(get(address, "GET", "/").await.status, 404);
    assert_eq!(get(address, "POST", "/metrics").await.status, 405);
    stop.send(()).unwrap();
    server.await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[test]
fn installing_twice_shares_one_recorder() {
    let first = Prometheus::install(&resource(), Detail::Normal).unwrap();
    let second = Prometheus::install(&BTreeMap::new(), Detail::Normal).unwrap();
    ExporterMetrics::new("installed", &Signal::ALL).sent(Signal::Traces, 1);
    let want = r#"otelcol_exporter_sent_spans{exporter="installed"} 1"#;
    assert_eq!(samples(&first.render(&Style::default()), "otelcol_exporter_sent_spans{exporter=\"installed\""), [want]);
    assert_eq!(
        samples(&second.render(&Style::default()), "otelcol_exporter_sent_spans{exporter=\"installed\""),
        [want]
    );
    assert_eq!(samples(&second.render(&Style::default()), "target_info"), ["target_info{} 1"]);
}

/// The names a level shows.
fn shown(detail: Detail) -> Vec<&'static str> {
    let (prometheus, recorder) = Prometheus::detached(&BTreeMap::new(), detail);
    metrics::with_local_recorder(&recorder, || {
        for metric in Metric::ALL {
            match metric.kind() {
                Kind::Counter => drop(metrics::counter!(metric.name())),
                Kind::Gauge => drop(metrics::gauge!(metric.name())),
                Kind::Histogram => drop(metrics::histogram!(metric.name())),
            }
        }
    });
    let text = prometheus.with_health(Health::new()).render(&Style::default());
    let has = |metric: &&Metric| text.contains(&format!("# TYPE {} ", metric.name()));
    Metric::ALL.iter().filter(has).map(|metric| metric.name()).collect()
}

#[test]
fn levels_add_to_each_other() {
    let [basic, normal, detailed] = [Detail::Basic, Detail::Normal, Detail::Detailed].map(shown);
    assert!(basic.contains(&"otelcol_receiver_accepted_spans") && !basic.contains(&"tracegate_stage_duration"));
    assert!(normal.contains(&"tracegate_stage_duration") && !normal.contains(&"otelcol_processor_internal_duration"));
    assert_eq!(detailed.len(), Metric::ALL.len());
    assert!(basic.iter().all(|name| normal.contains(name)) && normal.iter().all(|name| detailed.contains(name)));
}

#[test]
fn rules_beyond_the_bound_are_added_up_by_class() {
    let (prometheus, recorder) = Prometheus::detached(&BTreeMap::new(), Detail::Basic);
    let rules: Vec<String> = (0..100_000).map(|n| format!("rule-{n}")).collect();
    metrics::with_local_recorder(&recorder, || {
        let mask = MaskMetrics::new(rules.iter().map(|rule| (rule.as_str(), "credential")));
        (0..rules.len()).for_each(|rule| mask.findings(rule, 1));
    });
    let text = prometheus.render(&Style::default());
    let other = r#"tracegate_mask_findings{rule="other",class="credential"} 99000"#;
    assert!(
        text.lines().any(|line| line == other),
        "{}",
        samples(&text, "tracegate_mask_findings{rule=\"o").join("\n")
    );
    assert!(text.len() < 200_000, "{}", text.len());
}
