//! Requests to send, and an observer that can be waited for.

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message;
use std::{
    io::{self, Write},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tracegate::{
    exporter::{Observer, Outcome, Outgoing},
    otlp::Signal,
    pipeline::{Destination, Full, Metadata, Payload},
};

/// Long enough for any machine; only a failing test waits for it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Remembers what became of items.
#[derive(Debug)]
pub struct Tally {
    ends: Mutex<Vec<(Outcome, u64)>>,
    total: watch::Sender<u64>,
    pub retries: AtomicU64,
    pub panics: AtomicU64,
}

impl Tally {
    pub fn new() -> Arc<Self> {
        Arc::new(Tally {
            ends: Mutex::default(),
            total: watch::Sender::new(0),
            retries: AtomicU64::new(0),
            panics: AtomicU64::new(0),
        })
    }

    pub fn of(&self, outcome: Outcome) -> u64 {
        self.ends.lock().unwrap().iter().filter(|end| end.0 == outcome).map(|end| end.1).sum()
    }

    /// Sent, rejected, send failed, dropped.
    pub fn all(&self) -> [u64; 4] {
        [Outcome::Sent, Outcome::Rejected, Outcome::SendFailed, Outcome::Dropped].map(|outcome| self.of(outcome))
    }

    /// Waits until `items` have come to an end.
    pub async fn ended(&self, items: u64) {
        let mut total = self.total.subscribe();
        let wait = total.wait_for(|&total| total >= items);
        let reached = tokio::time::timeout(PATIENCE, wait).await.map(|result| result.is_ok());
        assert_eq!(reached, Ok(true), "waiting for {items} items, got {:?}", self.all());
    }

    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::SeqCst)
    }
}

impl Observer for Tally {
    fn items(&self, outcome: Outcome, _signal: Signal, items: u64) {
        self.ends.lock().unwrap().push((outcome, items));
        self.total.send_modify(|total| *total += items);
    }

    fn retried(&self, _signal: Signal) {
        self.retries.fetch_add(1, Ordering::SeqCst);
    }

    fn worker_panicked(&self) {
        self.panics.fetch_add(1, Ordering::SeqCst);
    }
}

pub fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

/// A request of `count` spans, named `{name}-0` and so on, each with a text of `size` bytes.
pub fn request(name: &str, count: u64, size: usize) -> ExportTraceServiceRequest {
    let spans = (0..count).map(|i| Span {
        trace_id: vec![1; 16],
        span_id: (i + 1).to_be_bytes().to_vec(),
        name: format!("{name}-{i}"),
        start_time_unix_nano: 1_700_000_000_000_000_000,
        end_time_unix_nano: 1_700_000_001_500_000_000,
        attributes: vec![attribute("text", &"x".repeat(size))],
        ..Span::default()
    });
    let resource = Resource { attributes: vec![attribute("service.name", "shop")], ..Resource::default() };
    let scope = ScopeSpans { spans: spans.collect(), ..ScopeSpans::default() };
    let resource_spans =
        ResourceSpans { resource: Some(resource), scope_spans: vec![scope], ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }
}

pub fn payload(name: &str, count: u64) -> Payload {
    Payload {
        signal: Signal::Traces,
        bytes: request(name, count, 10).encode_to_vec().into(),
        count,
        metadata: Metadata::default(),
    }
}

/// A payload as it is handed to a sender.
pub fn outgoing(payload: Payload) -> Outgoing {
    Outgoing { signal: payload.signal, count: payload.count, parts: vec![payload.bytes] }
}

/// A payload whose span name is not UTF-8: what one careless client may send.
pub fn poisoned(name: &str) -> Payload {
    let mut bytes = request(name, 1, 10).encode_to_vec();
    let at = bytes.windows(name.len()).position(|window| window == name.as_bytes()).unwrap();
    bytes[at] = 0xff;
    Payload { signal: Signal::Traces, bytes: bytes.into(), count: 1, metadata: Metadata::default() }
}

/// Names of the spans in a request, in order.
pub fn names(bytes: &[u8]) -> Vec<String> {
    let request = ExportTraceServiceRequest::decode(bytes).unwrap();
    let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).map(|span| span.name).collect()
}

/// What the pipeline does: reserve, then enqueue.
pub fn enqueue(destination: &dyn Destination, payload: Payload) -> Result<(), Full> {
    let permit = destination.budget().try_reserve_items(payload.bytes.len() as u64, payload.count)?;
    destination.enqueue(permit, payload);
    Ok(())
}

pub fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// Waits until all permits are back.
pub async fn all_released(destination: &dyn Destination) {
    let until = soon();
    while destination.budget().requests() > 0 || destination.budget().bytes() > 0 {
        assert!(Instant::now() < until, "permits were not given back");
        tokio::task::yield_now().await;
    }
}

/// `bytes` gunzipped.
pub fn gunzip(bytes: &[u8]) -> Bytes {
    let mut out = Vec::new();
    io::Read::read_to_end(&mut flate2::read::GzDecoder::new(bytes), &mut out).unwrap();
    out.into()
}

/// A directory of its own, gone afterwards.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tracegate-exporter-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _best_effort = std::fs::remove_dir_all(&self.0);
    }
}

/// Keeps what is written to it.
#[derive(Clone, Default)]
pub struct Screen(Arc<Mutex<Vec<u8>>>);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Screen {
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// A log that keeps every event of every level with all its fields.
#[derive(Clone, Default)]
pub struct Log(pub Screen);

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_event()
    }
    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.0.clone());
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

impl tracing::field::Visit for Screen {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        writeln!(self, "{field}={value:?}").unwrap();
    }
}
