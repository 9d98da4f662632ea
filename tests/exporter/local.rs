//! The exporters that stay on this machine: debug, file and nop.

use crate::support::{PATIENCE, Scratch, Screen, Tally, attribute, enqueue, names, payload, poisoned, request, soon};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data, number_data_point},
    trace::v1::{Status, span::Event, status::StatusCode},
};
use prost::Message;
use serde_json::json;
use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};
use tracegate::{
    exporter::{debug, file, nop},
    otlp::Signal,
    pipeline::{Metadata, Payload},
};

/// What the debug exporter prints of these payloads.
async fn printed(verbosity: &str, payloads: Vec<Payload>) -> String {
    let screen = Screen::default();
    let tally = Tally::new();
    let config = serde_json::from_value(json!({ "verbosity": verbosity })).unwrap();
    let output = debug::Output { writer: Box::new(screen.clone()), color: false };
    let exporter = debug::start_with("debug", &config, output, tally.clone()).unwrap();
    let count = payloads.iter().map(|payload| payload.count).sum();
    for payload in payloads {
        enqueue(&*exporter, payload).unwrap();
    }
    assert_eq!(exporter.drain(soon()).await, 0);
    assert_eq!(tally.all(), [count, 0, 0, 0]);
    screen.text()
}

fn agent_step() -> Payload {
    let mut request = request("call-tool", 1, 10);
    let span = &mut request.resource_spans[0].scope_spans[0].spans[0];
    span.attributes = vec![
        attribute("gen_ai.prompt", &format!("{} use [MASKED:github-pat] please", "word ".repeat(100))),
        attribute("escape", "a\u{1b}[2Jb\nc"),
    ];
    span.status = Some(Status { message: "tool failed".into(), code: StatusCode::Error.into() });
    span.events = vec![Event {
        name: "exception".into(),
        attributes: vec![attribute("exception.message", "no route")],
        ..Event::default()
    }];
    Payload { signal: Signal::Traces, bytes: request.encode_to_vec().into(), count: 1, metadata: Metadata::default() }
}

fn log_record() -> Payload {
    let body = Some(AnyValue { value: Some(Value::StringValue("user [MASKED:email] logged in".into())) });
    let record = LogRecord { body, severity_text: "INFO".into(), ..LogRecord::default() };
    let scope_logs = vec![ScopeLogs { log_records: vec![record], ..ScopeLogs::default() }];
    let request =
        ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }] };
    Payload { signal: Signal::Logs, bytes: request.encode_to_vec().into(), count: 1, metadata: Metadata::default() }
}

fn metric_point() -> Payload {
    let point = NumberDataPoint { value: Some(number_data_point::Value::AsInt(42)), ..NumberDataPoint::default() };
    let data = Some(Data::Gauge(Gauge { data_points: vec![point] }));
    let metric = Metric { name: "queue.depth".into(), unit: "1".into(), data, ..Metric::default() };
    let scope_metrics = vec![ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() }];
    let resource_metrics = vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }];
    let request = ExportMetricsServiceRequest { resource_metrics };
    Payload { signal: Signal::Metrics, bytes: request.encode_to_vec().into(), count: 1, metadata: Metadata::default() }
}

#[tokio::test]
async fn debug_basic_is_one_line_of_counts() {
    let a = payload("a", 3);
    let size = a.bytes.len();
    assert_eq!(printed("basic", vec![a]).await, format!("traces: 3 spans, {size} bytes\n"));
}

#[tokio::test]
async fn debug_normal_shows_what_a_newcomer_wants_to_see() {
    let text = printed("normal", vec![agent_step(), log_record(), metric_point()]).await;
    for part in [
        "shop call-tool-0 1.50s error: tool failed",
        "[MASKED:github-pat]",
        "word word",
        "bytes)",
        "event exception",
        "exception.message = no route",
        "INFO user [MASKED:email] logged in",
        "queue.depth gauge of 1 point",
    ] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    assert!(text.contains("escape = a\\u{1b}[2Jb\\nc"), "{text}");
    assert!(!text.contains('\u{1b}'), "nothing from a payload may command the terminal");
    assert!(text.lines().all(|line| line.len() < 400), "long values are shortened");
}

#[tokio::test]
async fn debug_detailed_shows_everything() {
    let text = printed("detailed", vec![agent_step(), log_record(), metric_point()]).await;
    for part in [
        "ResourceSpans #0",
        "     -> service.name: Str(shop)",
        "    Name           : call-tool-0",
        "    Start time     : 2023-11-14 22:13:20.000000000 UTC",
        "    Status code    : Error",
        "SpanEvent #0",
        "Body: Str(user [MASKED:email] logged in)",
        "     -> DataType: Gauge",
        "Value: 42",
    ] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    assert!(text.contains(&"word ".repeat(100)), "nothing is shortened");
    assert!(!text.contains('\u{1b}'));
}

#[tokio::test]
async fn debug_says_when_it_cannot_show_a_request() {
    let text = printed("normal", vec![poisoned("bad")]).await;
    assert!(text.contains("not UTF-8"), "{text}");
}

/// Never gets anything written, until told.
struct Stuck(mpsc::Receiver<()>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _until_told = self.0.recv();
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn debug_never_holds_the_pipeline_up() {
    let (tell, told) = mpsc::channel();
    let tally = Tally::new();
    let output = debug::Output { writer: Box::new(Stuck(told)), color: false };
    let exporter = debug::start_with("debug", &debug::Config::default(), output, tally.clone()).unwrap();
    // Far more than the bound of 64 MiB; none is refused, and what has no room is counted.
    let large = Payload { bytes: vec![0; 1 << 20].into(), ..payload("a", 1) };
    for _ in 0..200 {
        enqueue(&*exporter, large.clone()).unwrap();
    }
    assert!(tally.all()[3] >= 200 - 65, "{:?}", tally.all());
    let given_up = exporter.drain(Instant::now() + Duration::from_millis(10)).await;
    assert_eq!(given_up + tally.all()[3], 200, "every item is accounted for");
    drop(tell);
}

struct Closed(Arc<AtomicU64>);

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn debug_tolerates_a_closed_output() {
    let tally = Tally::new();
    let writes = Arc::new(AtomicU64::new(0));
    let output = debug::Output { writer: Box::new(Closed(writes.clone())), color: false };
    let exporter = debug::start_with("debug", &debug::Config::default(), output, tally.clone()).unwrap();
    for _ in 0..5 {
        enqueue(&*exporter, payload("a", 1)).unwrap();
    }
    assert_eq!(exporter.drain(soon()).await, 0);
    assert_eq!(tally.all(), [5, 0, 0, 0]);
    assert_eq!(tally.panics.load(Ordering::SeqCst), 0);
    assert!(writes.load(Ordering::SeqCst) >= 1);
}

#[tokio::test]
async fn nop_takes_everything_and_keeps_nothing() {
    let tally = Tally::new();
    let exporter = nop::start("nop", &nop::Config::default(), tally.clone());
    for _ in 0..5 {
        enqueue(&*exporter, payload("a", 2)).unwrap();
    }
    assert_eq!((tally.all(), exporter.budget().bytes()), ([10, 0, 0, 0], 0));
    assert_eq!(exporter.drain(soon()).await, 0);
}

/// Writes payloads to a file, one exporter's life long.
async fn write(config: serde_json::Value, payloads: &[Payload]) {
    let tally = Tally::new();
    let config: file::Config = serde_json::from_value(config).unwrap();
    let exporter = file::start("file", &config, tally.clone()).unwrap();
    for payload in payloads {
        enqueue(&*exporter, payload.clone()).unwrap();
    }
    assert_eq!(tokio::time::timeout(PATIENCE, exporter.drain(soon())).await, Ok(0));
    assert_eq!(tally.all()[0], payloads.iter().map(|payload| payload.count).sum::<u64>());
}

#[tokio::test]
async fn file_writes_one_json_request_per_line_and_appends_when_asked() {
    let scratch = Scratch::new("json");
    let path = scratch.0.join("new/traces.json");
    let config = |append: bool| json!({"path": path, "append": append, "create_directory": true});
    write(config(false), &[payload("a", 1), payload("b", 2)]).await;
    write(config(true), &[payload("c", 1)]).await;
    let read = || -> Vec<Vec<String>> {
        let text = std::fs::read_to_string(&path).unwrap();
        let requests = text.lines().map(|line| serde_json::from_str::<ExportTraceServiceRequest>(line).unwrap());
        requests.map(|request| names(&request.encode_to_vec())).collect()
    };
    assert_eq!(read(), [vec!["a-0"], vec!["b-0", "b-1"], vec!["c-0"]]);
    write(config(false), &[payload("d", 1)]).await;
    assert_eq!(read(), [["d-0"]]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    }
}

#[tokio::test]
async fn file_writes_protobuf_with_lengths() {
    let scratch = Scratch::new("proto");
    let path = scratch.0.join("traces.bin");
    let sent = [payload("a", 1), poisoned("bad")];
    write(json!({"path": path, "format": "proto"}), &sent).await;
    let bytes = std::fs::read(&path).unwrap();
    let mut rest = bytes.as_slice();
    for payload in &sent {
        let (length, behind) = rest.split_first_chunk::<4>().unwrap();
        let (record, behind) = behind.split_at(u32::from_be_bytes(*length) as usize);
        assert_eq!(record, payload.bytes);
        rest = behind;
    }
    assert!(rest.is_empty());
}

#[tokio::test]
async fn file_that_cannot_be_opened_is_an_error_at_start() {
    let config: file::Config = serde_json::from_value(json!({"path": "/proc/no/such/file"})).unwrap();
    let error = file::start("file", &config, Arc::new(())).err().unwrap().to_string();
    assert!(error.starts_with("path: cannot be opened: "), "{error}");
}
