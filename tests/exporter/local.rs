//! The exporters that stay on this machine: debug, file and nop.

use crate::support::{PATIENCE, Scratch, Screen, Tally, attribute, enqueue, names, payload, poisoned, request, soon};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{
        Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Metric, NumberDataPoint, ResourceMetrics,
        ScopeMetrics, Summary, SummaryDataPoint, exemplar, exponential_histogram_data_point::Buckets, metric::Data,
        number_data_point, summary_data_point::ValueAtQuantile,
    },
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
    printed_with(json!({ "verbosity": verbosity }), payloads).await
}

/// What the debug exporter prints with this configuration.
async fn printed_with(config: serde_json::Value, payloads: Vec<Payload>) -> String {
    let screen = Screen::default();
    let tally = Tally::new();
    let config = serde_json::from_value(config).unwrap();
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
    let record = LogRecord { body, severity_text: "INFO".into(), severity_number: 10, ..LogRecord::default() };
    let scope_logs = vec![ScopeLogs { log_records: vec![record], ..ScopeLogs::default() }];
    let request =
        ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }] };
    Payload { signal: Signal::Logs, bytes: request.encode_to_vec().into(), count: 1, metadata: Metadata::default() }
}

fn every_metric() -> Payload {
    let exemplar = Exemplar {
        filtered_attributes: vec![attribute("why", "slow")],
        trace_id: vec![2],
        span_id: vec![3],
        value: Some(exemplar::Value::AsDouble(1.5)),
        ..Exemplar::default()
    };
    let mut request = ExportMetricsServiceRequest::decode(metric_point().bytes).unwrap();
    let metrics = &mut request.resource_metrics[0].scope_metrics[0].metrics;
    metrics[0].metadata = vec![attribute("origin", "test")];
    let Some(Data::Gauge(gauge)) = &mut metrics[0].data else { panic!() };
    gauge.data_points[0].exemplars = vec![exemplar];
    let buckets = |offset, bucket_counts| Some(Buckets { offset, bucket_counts });
    let exponential = ExponentialHistogramDataPoint {
        count: 5,
        sum: Some(0.15),
        scale: 1,
        zero_count: 1,
        positive: buckets(1, vec![1, 1]),
        negative: buckets(-1, vec![1, 1]),
        ..ExponentialHistogramDataPoint::default()
    };
    let summary = SummaryDataPoint {
        count: 1,
        sum: 15.0,
        quantile_values: vec![ValueAtQuantile { quantile: 0.99, value: 15.0 }],
        ..SummaryDataPoint::default()
    };
    metrics.push(Metric {
        name: "spread".into(),
        data: Some(Data::ExponentialHistogram(ExponentialHistogram {
            data_points: vec![exponential],
            aggregation_temporality: 1,
        })),
        ..Metric::default()
    });
    metrics.push(Metric {
        name: "latency".into(),
        data: Some(Data::Summary(Summary { data_points: vec![summary] })),
        ..Metric::default()
    });
    Payload { signal: Signal::Metrics, bytes: request.encode_to_vec().into(), count: 3, ..payload("x", 1) }
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
    assert_eq!(
        printed("basic", vec![payload("a", 3), log_record(), metric_point()]).await,
        "Traces\t{\"resource spans\": 1, \"spans\": 3}\n\
         Logs\t{\"resource logs\": 1, \"log records\": 1}\n\
         Metrics\t{\"resource metrics\": 1, \"metrics\": 1, \"data points\": 1}\n"
    );
}

#[tokio::test]
async fn debug_samples_each_signal_by_itself() {
    let config = json!({ "sampling_initial": 1, "sampling_thereafter": 0 });
    let printed = printed_with(config, vec![log_record(), log_record(), payload("a", 3), metric_point()]).await;
    for signal in ["Traces", "Logs", "Metrics"] {
        assert!(printed.contains(signal), "{printed}");
    }
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
        "    Start time     : 2023-11-14 22:13:20 +0000 UTC",
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

/// What the Collector's exporter prints of the same span, lines in order.
#[tokio::test]
async fn debug_detailed_has_the_collectors_layout() {
    let text = printed("detailed", vec![agent_step()]).await;
    let long = "word ".repeat(100);
    let want = [
        "Traces\t{\"resource spans\": 1, \"spans\": 1}",
        "ResourceSpans #0",
        "Resource SchemaURL: ",
        "Resource attributes:",
        "     -> service.name: Str(shop)",
        "ScopeSpans #0",
        "ScopeSpans SchemaURL: ",
        "InstrumentationScope  ",
        "Span #0",
        "    Trace ID       : 01010101010101010101010101010101",
        "    Parent ID      : ",
        "    ID             : 0000000000000001",
        "    Name           : call-tool-0",
        "    Kind           : Unspecified",
        "    Start time     : 2023-11-14 22:13:20 +0000 UTC",
        "    End time       : 2023-11-14 22:13:21.5 +0000 UTC",
        "    Status code    : Error",
        "    Status message : tool failed",
        "    DroppedAttributesCount: 0",
        "    DroppedEventsCount: 0",
        "    DroppedLinksCount: 0",
        "Attributes:",
        &format!("     -> gen_ai.prompt: Str({long} use [MASKED:github-pat] please)"),
        "     -> escape: Str(a\\u{1b}[2Jb\\nc)",
        "Events:",
        "SpanEvent #0",
        "     -> Name: exception",
        "     -> Timestamp: 1970-01-01 00:00:00 +0000 UTC",
        "     -> DroppedAttributesCount: 0",
        "     -> Attributes::",
        "          -> exception.message: Str(no route)",
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), want);
}

#[tokio::test]
async fn debug_detailed_shows_logs_and_metrics_as_the_collector_does() {
    let text = printed("detailed", vec![log_record(), every_metric()]).await;
    let want = "\
Logs\t{\"resource logs\": 1, \"log records\": 1}
ResourceLog #0
Resource SchemaURL: 
ScopeLogs #0
ScopeLogs SchemaURL: 
InstrumentationScope  
LogRecord #0
ObservedTimestamp: 1970-01-01 00:00:00 +0000 UTC
Timestamp: 1970-01-01 00:00:00 +0000 UTC
SeverityText: INFO
SeverityNumber: Info2(10)
Body: Str(user [MASKED:email] logged in)
Trace ID: 
Span ID: 
Flags: 0
Metrics\t{\"resource metrics\": 1, \"metrics\": 3, \"data points\": 3}
ResourceMetrics #0
Resource SchemaURL: 
ScopeMetrics #0
ScopeMetrics SchemaURL: 
InstrumentationScope  
Metric #0
Descriptor:
     -> Name: queue.depth
     -> Description: 
     -> Unit: 1
     -> DataType: Gauge
     -> Metadata:
          -> origin: Str(test)
NumberDataPoints #0
StartTimestamp: 1970-01-01 00:00:00 +0000 UTC
Timestamp: 1970-01-01 00:00:00 +0000 UTC
Value: 42
Exemplars:
Exemplar #0
     -> Trace ID: 02
     -> Span ID: 03
     -> Timestamp: 1970-01-01 00:00:00 +0000 UTC
     -> Value: 1.500000
     -> FilteredAttributes:
          -> why: Str(slow)
Metric #1
Descriptor:
     -> Name: spread
     -> Description: 
     -> Unit: 
     -> DataType: ExponentialHistogram
     -> AggregationTemporality: Delta
ExponentialHistogramDataPoints #0
StartTimestamp: 1970-01-01 00:00:00 +0000 UTC
Timestamp: 1970-01-01 00:00:00 +0000 UTC
Count: 5
Sum: 0.150000
Bucket [-1.414214, -1.000000), Count: 1
Bucket [-1.000000, -0.707107), Count: 1
Bucket [0, 0], Count: 1
Bucket (1.414214, 2.000000], Count: 1
Bucket (2.000000, 2.828427], Count: 1
Metric #2
Descriptor:
     -> Name: latency
     -> Description: 
     -> Unit: 
     -> DataType: Summary
SummaryDataPoints #0
StartTimestamp: 1970-01-01 00:00:00 +0000 UTC
Timestamp: 1970-01-01 00:00:00 +0000 UTC
Count: 1
Sum: 15.000000
QuantileValue #0: Quantile 0.990000, Value 15.000000
";
    assert_eq!(text, want);
}

#[tokio::test]
async fn debug_prints_to_files_and_several_places() {
    let scratch = Scratch::new("debug-files");
    let (one, two) = (scratch.0.join("one.txt"), scratch.0.join("two.txt"));
    for _ in 0..2 {
        let tally = Tally::new();
        let config = json!({"use_internal_logger": false, "output_paths": [one, two]});
        let config: debug::Config = serde_json::from_value(config).unwrap();
        let exporter = debug::start("debug", &config, tally.clone()).unwrap();
        enqueue(&*exporter, payload("a", 3)).unwrap();
        assert_eq!(exporter.drain(soon()).await, 0);
    }
    let line = "Traces\t{\"resource spans\": 1, \"spans\": 3}\n";
    for path in [&one, &two] {
        assert_eq!(std::fs::read_to_string(path).unwrap(), line.repeat(2), "appended");
        #[cfg(unix)]
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions()) & 0o777,
            0o600
        );
    }
    let config = json!({"use_internal_logger": false, "output_paths": ["/proc/no/such/file"]});
    let error = debug::start("debug", &serde_json::from_value(config).unwrap(), Arc::new(())).err().unwrap();
    assert!(error.to_string().starts_with("output_paths: cannot be opened: "), "{error}");
}

/// Every place in a request where text can stand, each with an attack in it.
#[tokio::test]
async fn debug_shows_no_text_that_commands_a_terminal_or_reads_backwards() {
    let attack = "\u{1b}]0;owned\u{7}\u{202e}\u{200b}\r\n\u{9b}2J";
    let text = |value: &str| AnyValue { value: Some(Value::StringValue(value.into())) };
    let nested = AnyValue {
        value: Some(Value::KvlistValue(opentelemetry_proto::tonic::common::v1::KeyValueList {
            values: vec![KeyValue { key: attack.into(), value: Some(text(attack)), ..KeyValue::default() }],
        })),
    };
    let pairs =
        vec![attribute(attack, attack), KeyValue { key: "nested".into(), value: Some(nested), ..KeyValue::default() }];
    let mut request = request("x", 1, 10);
    let resource_spans = &mut request.resource_spans[0];
    resource_spans.schema_url = attack.into();
    let resource = resource_spans.resource.as_mut().unwrap();
    resource.attributes = pairs.clone();
    resource.entity_refs = vec![opentelemetry_proto::tonic::common::v1::EntityRef {
        schema_url: attack.into(),
        r#type: attack.into(),
        id_keys: vec![attack.into()],
        description_keys: vec![attack.into()],
    }];
    let scope = &mut resource_spans.scope_spans[0];
    scope.schema_url = attack.into();
    scope.scope = Some(opentelemetry_proto::tonic::common::v1::InstrumentationScope {
        name: attack.into(),
        version: attack.into(),
        attributes: pairs.clone(),
        ..Default::default()
    });
    let span = &mut scope.spans[0];
    span.name = attack.into();
    span.trace_state = attack.into();
    span.attributes = pairs.clone();
    span.status = Some(Status { message: attack.into(), code: StatusCode::Error.into() });
    span.events = vec![Event { name: attack.into(), attributes: pairs.clone(), ..Event::default() }];
    span.links = vec![opentelemetry_proto::tonic::trace::v1::span::Link {
        trace_state: attack.into(),
        attributes: pairs.clone(),
        ..Default::default()
    }];
    let traces = Payload { bytes: request.encode_to_vec().into(), ..payload("x", 1) };
    let record = LogRecord {
        body: Some(text(attack)),
        severity_text: attack.into(),
        event_name: attack.into(),
        attributes: pairs.clone(),
        ..LogRecord::default()
    };
    let scope_logs = vec![ScopeLogs { log_records: vec![record], ..ScopeLogs::default() }];
    let resource_logs = vec![ResourceLogs { scope_logs, schema_url: attack.into(), ..ResourceLogs::default() }];
    let logs = Payload {
        signal: Signal::Logs,
        bytes: ExportLogsServiceRequest { resource_logs }.encode_to_vec().into(),
        ..payload("x", 1)
    };
    let point = NumberDataPoint { attributes: pairs.clone(), ..NumberDataPoint::default() };
    let metric = Metric {
        name: attack.into(),
        description: attack.into(),
        unit: attack.into(),
        metadata: pairs,
        data: Some(Data::Gauge(Gauge { data_points: vec![point] })),
    };
    let scope_metrics = vec![ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() }];
    let resource_metrics = vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }];
    let metrics = Payload {
        signal: Signal::Metrics,
        bytes: ExportMetricsServiceRequest { resource_metrics }.encode_to_vec().into(),
        ..payload("x", 1)
    };
    for verbosity in ["basic", "normal", "detailed"] {
        let shown = printed(verbosity, vec![traces.clone(), logs.clone(), metrics.clone()]).await;
        let bad = shown.chars().find(|c| matches!(c, '\u{1b}' | '\u{7}' | '\u{202e}' | '\u{200b}' | '\r' | '\u{9b}'));
        assert_eq!(bad, None, "{verbosity}: {shown:?}");
        assert_eq!(shown.contains("owned"), verbosity != "basic");
    }
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
async fn file_compresses_each_request_by_itself_with_its_length_in_front() {
    let scratch = Scratch::new("zstd");
    let sent = [payload("a", 1), payload("b", 2)];
    for format in ["json", "proto"] {
        let path = scratch.0.join(format);
        write(json!({"path": path, "format": format, "compression": "zstd"}), &sent).await;
        let bytes = std::fs::read(&path).unwrap();
        let mut rest = bytes.as_slice();
        for payload in &sent {
            let (length, behind) = rest.split_first_chunk::<4>().unwrap();
            let (record, behind) = behind.split_at(u32::from_be_bytes(*length) as usize);
            let plain = zstd::decode_all(record).unwrap();
            let arrived = match format {
                "json" => serde_json::from_slice::<ExportTraceServiceRequest>(&plain).unwrap().encode_to_vec(),
                _ => plain,
            };
            assert_eq!(arrived, payload.bytes);
            rest = behind;
        }
        assert!(rest.is_empty());
    }
}

#[tokio::test]
async fn file_begins_a_new_one_before_it_would_grow_too_large() {
    let scratch = Scratch::new("rotation");
    let path = scratch.0.join("traces.bin");
    let large = |name: &str| Payload { bytes: request(name, 1, 600_000).encode_to_vec().into(), ..payload("x", 1) };
    let config = json!({"path": path, "format": "proto", "rotation": {"max_megabytes": 1, "max_backups": 2}});
    write(config.clone(), &[large("a"), large("b")]).await;
    write(config, &[large("c"), large("d"), large("e")]).await;
    let mut files: Vec<_> = std::fs::read_dir(&scratch.0).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let held: Vec<String> = files.iter().flat_map(|file| names(&std::fs::read(file).unwrap()[4..])).collect();
    assert_eq!(held, ["c-0", "d-0", "e-0"], "two set aside, and the one being written, behind them by name");
    assert_eq!(files[2], path);
    for file in &files {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(*file == path || (name.starts_with("traces-2") && name.ends_with("-size.bin")), "{name}");
    }
}

/// A request of one resource with this value, or none, of the attribute.
fn of_group(value: Option<&str>, name: &str) -> Payload {
    let mut request = request(name, 2, 10);
    let attributes = &mut request.resource_spans[0].resource.as_mut().unwrap().attributes;
    attributes.extend(value.map(|value| attribute("team", value)));
    Payload { bytes: request.encode_to_vec().into(), ..payload(name, 2) }
}

#[tokio::test]
async fn file_groups_by_a_resource_attribute_and_stays_below_its_path() {
    let scratch = Scratch::new("groups");
    let tally = Tally::new();
    let config = json!({
        "path": scratch.0.join("in/*.json"),
        "create_directory": true,
        "group_by": {"enabled": true, "resource_attribute": "team", "max_open_files": 1},
    });
    let exporter = file::start("file", &serde_json::from_value(config).unwrap(), tally.clone()).unwrap();
    let both = [of_group(Some("a"), "one").bytes, of_group(Some("b/c"), "two").bytes].concat();
    let both = Payload { bytes: both.into(), ..payload("x", 4) };
    let outside = scratch.0.join("outside");
    for payload in [
        both,
        of_group(Some("a"), "three"),
        of_group(Some("../../outside"), "four"),
        of_group(Some(outside.to_str().unwrap()), "five"),
        of_group(None, "six"),
        of_group(Some("a.json/x"), "seven"),
        of_group(Some("b/c"), "eight"),
    ] {
        enqueue(&*exporter, payload).unwrap();
    }
    assert_eq!(tokio::time::timeout(PATIENCE, exporter.drain(soon())).await, Ok(0));
    // Without the attribute, and where a file stands in the place of a directory.
    assert_eq!(tally.all(), [12, 4, 0, 0]);
    let read = |path: &str| -> Vec<String> {
        let text = std::fs::read_to_string(scratch.0.join("in").join(path)).unwrap();
        let requests = text.lines().map(|line| serde_json::from_str::<ExportTraceServiceRequest>(line).unwrap());
        requests.flat_map(|request| names(&request.encode_to_vec())).collect()
    };
    assert_eq!(read("a.json"), ["one-0", "one-1", "three-0", "three-1"], "closed and opened again, it goes on");
    assert_eq!(read("b/c.json"), ["two-0", "two-1", "eight-0", "eight-1"]);
    assert_eq!(read("outside.json"), ["four-0", "four-1"]);
    assert!(!outside.exists());
    let beside: Vec<_> = std::fs::read_dir(&scratch.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(beside, ["in"]);
}

#[cfg(unix)]
#[tokio::test]
async fn file_makes_directories_with_the_mode_asked_for() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new("directory-mode");
    let path = scratch.0.join("a/b/x.json");
    let config = json!({"path": path, "create_directory": true, "directory_permissions": "0750"});
    write(config, &[]).await;
    let mode = std::fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode & !0o750, 0, "never more than asked for: {mode:o}");
    assert_eq!(mode & 0o700, 0o700);
}

#[tokio::test]
async fn file_that_cannot_be_opened_is_an_error_at_start() {
    let config: file::Config = serde_json::from_value(json!({"path": "/proc/no/such/file"})).unwrap();
    let error = file::start("file", &config, Arc::new(())).err().unwrap().to_string();
    assert!(error.starts_with("path: cannot be opened: "), "{error}");
}
