//! Lines of the checklist that the receiver and the pipeline behind it keep together.

use crate::support::*;
use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message;
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Instant,
};
use tonic::Code;
use tracegate::{
    otlp::{Bounds, Signal},
    pipeline::{Budget, Destination, Gateway, Payload, Permit, Pipeline},
};

/// A destination that keeps what leaves.
struct Keeps(Budget, Mutex<Vec<Payload>>);

impl Destination for Keeps {
    fn id(&self) -> &str {
        "keeps"
    }

    fn budget(&self) -> &Budget {
        &self.0
    }

    fn refused(&self, _: &Payload) {}

    fn enqueue(&self, _: Permit, payload: Payload) {
        self.1.lock().unwrap().push(payload);
    }

    fn drain(&self, _: Instant) -> Pin<Box<dyn Future<Output = u64> + Send + '_>> {
        Box::pin(std::future::ready(0))
    }
}

struct Whole {
    server: Server,
    keeps: Arc<Keeps>,
}

impl Whole {
    async fn start(room: u64) -> Self {
        let keeps = Arc::new(Keeps(Budget::new(room, 1000), Mutex::default()));
        let destinations = vec![keeps.clone() as Arc<dyn Destination>];
        let pipeline = Arc::new(Pipeline { id: "traces".into(), stages: Vec::new(), destinations });
        let gateway = Gateway::new("otlp", [(Signal::Traces, pipeline)], Bounds::default());
        Whole { server: Server::before(Arc::new(gateway), Recorder::new(), settings()).await, keeps }
    }

    async fn call(&self, message: &Bytes) -> tonic::Status {
        let body = framed(0, message.len() as u32, message);
        raw_call(&self.server, call(&self.server, Signal::Traces).body(body).unwrap()).await.grpc()
    }

    fn left(&self) -> Vec<Bytes> {
        self.keeps.1.lock().unwrap().iter().map(|payload| payload.bytes.clone()).collect()
    }
}

fn with_ids(trace_id: usize, span_id: usize) -> Bytes {
    let spans = vec![Span { trace_id: vec![1; trace_id], span_id: vec![2; span_id], ..Span::default() }];
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec().into()
}

#[tokio::test]
async fn c6_unknown_fields_are_taken_and_leave_as_they_came() {
    let whole = Whole::start(1 << 20).await;
    // A field 1000 of the request, behind its spans.
    let message = Bytes::from([&spans("x")[..], &[0xc2, 0x3e, 3, b'n', b'e', b'w']].concat());
    assert_eq!(whole.call(&message).await.code(), Code::Ok);
    assert_eq!(post_traces(&whole.server, PROTOBUF, message.clone()).await.status(), 200);
    assert_eq!(whole.left(), [message.clone(), message]);
}

#[tokio::test]
async fn c7_envelopes_without_spans_succeed_and_go_nowhere() {
    let whole = Whole::start(1 << 20).await;
    let empty = ExportTraceServiceRequest { resource_spans: vec![ResourceSpans::default()] };
    assert_eq!(whole.call(&empty.encode_to_vec().into()).await.code(), Code::Ok);
    let answer = post_traces(&whole.server, JSON, r#"{"resourceSpans":[{"scopeSpans":[{"spans":[]}]}]}"#).await;
    assert_eq!((answer.status(), &answer.body[..]), (200, &b"{}"[..]));
    assert!(whole.left().is_empty());
}

/// Success is what this hop has taken over, no more; a client that asks again is served again.
#[tokio::test]
async fn c8_the_answer_is_this_hops_own_and_a_repetition_is_a_request_like_another() {
    let whole = Whole::start(1 << 20).await;
    for _ in 0..2 {
        assert_eq!(whole.call(&spans("x")).await.code(), Code::Ok);
    }
    assert_eq!(whole.left(), [spans("x"), spans("x")]);
}

/// As the Collector: an identifier of another length refuses the whole request.
#[tokio::test]
async fn g9_identifiers_of_a_wrong_length_refuse_the_whole_request() {
    let whole = Whole::start(1 << 20).await;
    for (trace_id, span_id) in [(15, 8), (17, 8), (1, 8), (16, 7), (16, 9), (8, 16)] {
        let status = whole.call(&with_ids(trace_id, span_id)).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{trace_id} {span_id}: {status:?}");
        let answer = post_traces(&whole.server, PROTOBUF, with_ids(trace_id, span_id)).await;
        assert_eq!((answer.status(), answer.status_body().code), (400, 3), "{trace_id} {span_id}");
    }
    assert!(whole.left().is_empty());
    for (trace_id, span_id) in [(16, 8), (0, 0), (16, 0), (0, 8)] {
        assert_eq!(whole.call(&with_ids(trace_id, span_id)).await.code(), Code::Ok, "{trace_id} {span_id}");
    }
}

#[tokio::test]
async fn h4_what_is_no_otlp_is_refused_in_both_protocols() {
    let whole = Whole::start(1 << 20).await;
    let spans = spans("x");
    for body in [Bytes::from_static(b"\xff\xff"), spans.slice(..spans.len() - 1), Bytes::from_static(b"<html>")] {
        let status = whole.call(&body).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        let answer = post_traces(&whole.server, PROTOBUF, body).await;
        assert_eq!((answer.status(), answer.status_body().code), (400, 3));
    }
    assert!(whole.left().is_empty());
    whole.server.at_rest().await;
}

#[tokio::test]
async fn g3_a_full_queue_is_pressure_in_both_protocols() {
    use tonic_types::StatusExt;
    let whole = Whole::start(1000).await;
    let held = whole.keeps.0.try_reserve(990).unwrap();
    let status = whole.call(&spans("x")).await;
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.get_error_details().retry_info().unwrap().retry_delay.is_some());
    let answer = post_traces(&whole.server, PROTOBUF, spans("x")).await;
    assert_eq!(answer.status(), 503);
    assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
    drop(held);
    assert_eq!(whole.call(&spans("x")).await.code(), Code::Ok);
}
