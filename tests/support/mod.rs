//! What several tests need: requests to send, destinations that remember.

#![allow(dead_code, clippy::unwrap_used)]

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message;
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Instant,
};
use tracegate::pipeline::{Budget, Destination, Metadata, OnFull, Origin, Payload, Permit, Transport};

/// A GitHub token in form; the checksum is not one.
pub fn token() -> String {
    format!("ghp_{}", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8")
}

pub fn string(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(Value::StringValue(value.into())) }),
        ..Default::default()
    }
}

pub fn span(trace: u8, name: &str, attributes: Vec<KeyValue>) -> Span {
    Span { trace_id: vec![trace; 16], span_id: vec![7; 8], name: name.into(), attributes, ..Default::default() }
}

pub fn resource_spans(resource: Vec<KeyValue>, spans: Vec<Span>) -> ResourceSpans {
    ResourceSpans {
        resource: Some(Resource { attributes: resource, ..Default::default() }),
        scope_spans: vec![ScopeSpans {
            scope: Some(InstrumentationScope { name: "test".into(), ..Default::default() }),
            spans,
            schema_url: String::new(),
        }],
        schema_url: String::new(),
    }
}

pub fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest { resource_spans: vec![resource_spans(vec![string("service.name", "test")], spans)] }
}

pub fn encoded(request: &impl Message) -> Bytes {
    request.encode_to_vec().into()
}

pub fn origin() -> Origin {
    Origin {
        receiver: Arc::from("otlp"),
        transport: Transport::Grpc,
        peer: None,
        metadata: Metadata::default(),
        principal: None,
    }
}

/// Keeps what it is given, with the permits.
pub struct Remembering {
    id: String,
    budget: Budget,
    on_full: OnFull,
    kept: Mutex<Vec<(Permit, Payload)>>,
    refused: Mutex<u64>,
}

impl Remembering {
    pub fn new(id: &str, max_bytes: u64) -> Arc<Remembering> {
        Remembering::that(id, max_bytes, OnFull::Refuse)
    }

    pub fn that(id: &str, max_bytes: u64, on_full: OnFull) -> Arc<Remembering> {
        let budget = Budget::new(max_bytes, 1000);
        Arc::new(Remembering { id: id.into(), budget, on_full, kept: Mutex::default(), refused: Mutex::default() })
    }

    /// Forgets what it kept, and gives the room back.
    pub fn forget(&self) {
        self.kept.lock().unwrap().clear();
    }

    /// Items for which there was no room.
    pub fn items_refused(&self) -> u64 {
        *self.refused.lock().unwrap()
    }

    pub fn payloads(&self) -> Vec<Payload> {
        self.kept.lock().unwrap().iter().map(|(_, payload)| payload.clone()).collect()
    }
}

impl Destination for Remembering {
    fn id(&self) -> &str {
        &self.id
    }

    fn budget(&self) -> &Budget {
        &self.budget
    }

    fn on_full(&self) -> OnFull {
        self.on_full
    }

    fn refused(&self, payload: &Payload) {
        *self.refused.lock().unwrap() += payload.count;
    }

    fn enqueue(&self, permit: Permit, payload: Payload) {
        self.kept.lock().unwrap().push((permit, payload));
    }

    fn drain(&self, _: Instant) -> Pin<Box<dyn Future<Output = u64> + Send + '_>> {
        Box::pin(std::future::ready(0))
    }
}
