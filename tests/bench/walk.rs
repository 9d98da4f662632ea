//! What the wire form costs, beside prost in the same run: `cargo bench --bench walk`.
//!
//! Every figure is the median of several rounds on one core, in GB of the request's protobuf form per second of CPU
//! time (of wall-clock time where the system does not tell CPU time).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::Event},
};
use prost::Message;
use std::{
    hint::black_box,
    time::{Duration, Instant},
};
use tracegate::otlp::{Bounds, Edit, Role, Signal, json, locate, render, split, walk};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_millis(120);
/// How large a request is, about.
const REQUEST: usize = 1 << 20;

fn main() {
    println!("GB/s          {:>10} {:>10} {:>10}", "0.6 KB", "5 KB", "66 KB");
    let requests = [request(140), request(4_400), request(65_400)];
    for bytes in &requests {
        let spans = walk(Signal::Traces, bytes, &Bounds::default()).unwrap().items.len();
        println!("  {} spans of {} bytes", spans, bytes.len() / spans);
    }
    row("walk", &requests, |bytes| walk(Signal::Traces, bytes, &Bounds::default()).unwrap());
    row("count", &requests, |bytes| split::count(Signal::Traces, bytes));
    row("split in 8", &requests, |bytes| split::split(Signal::Traces, bytes, bytes.len() / 8));
    let edited: Vec<_> = requests.iter().map(|bytes| (bytes.clone(), edits(bytes))).collect();
    row_of("render", &edited, |(bytes, edits)| (bytes.len(), render(Signal::Traces, bytes, edits)));
    row_of("walk+render", &edited, |(bytes, edits)| {
        black_box(walk(Signal::Traces, bytes, &Bounds::default()).unwrap());
        (bytes.len(), render(Signal::Traces, bytes, edits))
    });
    row_of("locate", &edited, |(bytes, edits)| {
        let offsets: Vec<_> = edits.iter().map(|edit| edit.start).collect();
        (bytes.len(), locate(Signal::Traces, bytes, &offsets))
    });
    row("prost decode", &requests, |bytes| ExportTraceServiceRequest::decode(bytes.clone()).unwrap());
    row("prost d+e", &requests, |bytes| ExportTraceServiceRequest::decode(bytes.clone()).unwrap().encode_to_vec());

    row("json out", &requests, |bytes| json::from_protobuf(Signal::Traces, bytes));
    let texts: Vec<_> =
        requests.iter().map(|bytes| (bytes.len(), json::from_protobuf(Signal::Traces, bytes))).collect();
    row_of("json in", &texts, |(len, text)| {
        (*len, json::to_protobuf(Signal::Traces, text, &Bounds::default()).unwrap())
    });
    row("serde out", &requests, |bytes| {
        serde_json::to_vec(&ExportTraceServiceRequest::decode(bytes.clone()).unwrap()).unwrap()
    });
    row_of("serde in", &texts, |(len, text)| {
        (*len, serde_json::from_slice::<ExportTraceServiceRequest>(text).unwrap().encode_to_vec())
    });
}

fn row<T>(name: &str, requests: &[Bytes], run: impl Fn(&Bytes) -> T) {
    row_of(name, requests, |bytes| (bytes.len(), run(bytes)));
}

fn row_of<I, T>(name: &str, inputs: &[I], run: impl Fn(&I) -> (usize, T)) {
    print!("{name:<14}");
    for input in inputs {
        print!(" {:>10.3}", median(|| run(input)));
    }
    println!();
}

/// GB/s, the median of the rounds.
fn median<T>(run: impl Fn() -> (usize, T)) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let (start, cpu) = (Instant::now(), cpu_time());
            let mut bytes = 0;
            while start.elapsed() < ROUND {
                let (len, out) = run();
                black_box(out);
                bytes += len;
            }
            let spent = cpu.and_then(|cpu| cpu_time()?.checked_sub(cpu)).unwrap_or_else(|| start.elapsed());
            bytes as f64 / spent.as_secs_f64() / 1e9
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

/// What this thread has run so far, as Linux counts it.
fn cpu_time() -> Option<Duration> {
    // A thread that gives way is accounted for up to now.
    std::thread::yield_now();
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(stat.split(' ').next()?.parse().ok()?))
}

/// One mask per 20 KB.
fn edits(bytes: &Bytes) -> Vec<Edit> {
    let mut next = 10_000;
    let mut edits = Vec::new();
    for leaf in walk(Signal::Traces, bytes, &Bounds::default()).unwrap().leaves {
        if leaf.role == Role::Text && leaf.start >= next && leaf.len >= 4 {
            let start = leaf.start + leaf.len / 2;
            edits.push(Edit { start, end: start + 2, container: leaf.start, with: b"[MASKED:github-pat]".to_vec() });
            next = leaf.start + 20_000;
        }
    }
    edits
}

/// A request of about [`REQUEST`] bytes; each span has eight small attributes, a status, and `content` bytes of text
/// in two large ones and an event.
fn request(content: usize) -> Bytes {
    let text = |key: &str, value: String| KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(Value::StringValue(value)) }),
        key_strindex: 0,
    };
    let number = |key: &str, value: i64| KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(Value::IntValue(value)) }),
        key_strindex: 0,
    };
    let prose =
        |len: usize| "The agent reads the file, then \"calls\" the tool.\\n ".chars().cycle().take(len).collect();
    let span = |i: usize| {
        let mut attributes = vec![
            text("gen_ai.operation.name", "chat".into()),
            text("gen_ai.provider.name", "openai".into()),
            text("gen_ai.request.model", "gpt-4o-mini-2024-07-18".into()),
            text("gen_ai.response.id", format!("chatcmpl-{i:024}")),
            text("session.id", format!("a3f1c2d4-{i:08}-4a5b-8c7d")),
            text("openinference.span.kind", "LLM".into()),
            number("gen_ai.usage.input_tokens", 1200 + i as i64),
            number("gen_ai.usage.output_tokens", 300),
        ];
        let mut events = Vec::new();
        if content > 0 {
            attributes.push(text("input.value", prose(content * 6 / 10)));
            attributes.push(text("output.value", prose(content * 3 / 10)));
            events.push(Event {
                time_unix_nano: 1_760_000_000_000_000_000,
                name: "gen_ai.choice".into(),
                attributes: vec![text("message", prose(content / 10))],
                dropped_attributes_count: 0,
            });
        }
        Span {
            trace_id: (i as u128 / 8 + 1).to_be_bytes().to_vec(),
            span_id: (i as u64 + 1).to_be_bytes().to_vec(),
            parent_span_id: (i as u64).to_be_bytes().to_vec(),
            name: "chat gpt-4o-mini".into(),
            kind: 3,
            flags: 0x101,
            start_time_unix_nano: 1_760_000_000_000_000_000 + i as u64,
            end_time_unix_nano: 1_760_000_001_000_000_000 + i as u64,
            attributes,
            events,
            status: Some(Status { message: String::new(), code: 1 }),
            ..Span::default()
        }
    };
    let one = span(7).encoded_len();
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![text("service.name", "support-agent".into()), text("service.version", "1.4.2".into())],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope { name: "openinference".into(), ..InstrumentationScope::default() }),
                spans: (0..REQUEST.div_ceil(one)).map(span).collect(),
                schema_url: String::new(),
            }],
            schema_url: String::new(),
        }],
    }
    .encode_to_vec()
    .into()
}
