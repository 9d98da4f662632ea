//! One request through its pipelines: admission, fan-out, verdicts, refusals.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "pipeline/admission.rs"]
mod admission;
#[path = "pipeline/answers.rs"]
mod answers;
#[path = "pipeline/batching.rs"]
mod batching;
mod support;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use std::sync::Arc;
use support::{Remembering, encoded, origin, request, resource_spans, span, string};
use tracegate::{
    otlp::{Bounds, Edit, Signal},
    pipeline::{Accepted, Destination, Gateway, Ingest, Pipeline, Plan, Refusal, Request, Stage, Verdict},
};

/// A stage made of a function.
struct Does<F>(F);

impl<F: Fn(&Request, &mut Plan) -> Result<(), Refusal> + Send + Sync + 'static> Stage for Does<F> {
    fn id(&self) -> &str {
        "test"
    }

    fn apply(&self, request: &Request, plan: &mut Plan) -> Result<(), Refusal> {
        (self.0)(request, plan)
    }
}

fn stage(does: impl Fn(&Request, &mut Plan) -> Result<(), Refusal> + Send + Sync + 'static) -> Arc<dyn Stage> {
    Arc::new(Does(does))
}

fn gateway(stages: Vec<Arc<dyn Stage>>, destinations: &[&Arc<Remembering>]) -> Gateway {
    let destinations = destinations.iter().map(|&destination| destination.clone() as Arc<dyn Destination>).collect();
    let pipeline = Arc::new(Pipeline { id: "traces".into(), stages, destinations });
    Gateway::new("otlp", [(Signal::Traces, pipeline)], Bounds::default())
}

async fn export(gateway: &Gateway, body: Bytes) -> Result<Accepted, Refusal> {
    gateway.export(Signal::Traces, body, origin()).await
}

fn names(body: &[u8]) -> Vec<String> {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).map(|span| span.name).collect()
}

#[tokio::test]
async fn an_untouched_request_reaches_every_destination_as_the_received_bytes() {
    let (a, b) = (Remembering::new("a", 1 << 20), Remembering::new("b", 1 << 20));
    let body = encoded(&request(vec![span(1, "one", vec![]), span(2, "two", vec![])]));
    let answer = export(&gateway(vec![], &[&a, &b]), body.clone()).await;
    assert_eq!(answer, Ok(Accepted::default()));
    for destination in [a, b] {
        let [payload] = &destination.payloads()[..] else { panic!("one payload each") };
        assert_eq!((payload.count, payload.signal), (2, Signal::Traces));
        assert_eq!(payload.bytes.as_ptr(), body.as_ptr(), "not even a copy");
    }
}

#[tokio::test]
async fn no_room_at_one_destination_means_nothing_is_queued_anywhere() {
    let (roomy, full) = (Remembering::new("roomy", 1 << 20), Remembering::new("full", 100));
    let held = full.budget().try_reserve(90).unwrap();
    let gateway = gateway(vec![], &[&roomy, &full]);
    let body = encoded(&request(vec![span(1, "one", vec![])]));
    assert!(body.len() > 10 && body.len() <= 100);
    let Err(Refusal::Overloaded { message, .. }) = export(&gateway, body.clone()).await else { panic!("retryable") };
    assert!(message.starts_with("sending queue is full: exporter full: "), "{message}");
    assert_eq!((full.items_refused(), roomy.items_refused()), (1, 0), "counted where it was");
    assert!(roomy.payloads().is_empty());
    assert_eq!((roomy.budget().bytes(), roomy.budget().requests()), (0, 0), "its reservation is given back");
    drop(held);
    assert_eq!(export(&gateway, body).await, Ok(Accepted::default()), "the same request later is taken");
}

#[tokio::test]
async fn a_request_larger_than_a_queue_is_refused_for_good() {
    let small = Remembering::new("small", 10);
    let refusal = export(&gateway(vec![], &[&small]), encoded(&request(vec![span(1, "one", vec![])]))).await;
    assert!(matches!(refusal, Err(Refusal::TooLarge(_))), "waiting would not help: {refusal:?}");
}

#[tokio::test]
async fn room_is_taken_for_what_leaves_not_for_what_came() {
    let grow = stage(|_, plan| {
        plan.edit(Edit { start: 0, end: 0, container: 0, with: vec![0x92, 0x06, 2, b'h', b'i'] });
        Ok(())
    });
    let destination = Remembering::new("a", 1 << 20);
    let body = encoded(&request(vec![span(1, "one", vec![])]));
    export(&gateway(vec![grow], &[&destination]), body.clone()).await.unwrap();
    assert_eq!(destination.budget().bytes(), body.len() as u64 + 5);
}

#[tokio::test]
async fn a_stage_that_refuses_ends_the_whole_request() {
    let destination = Remembering::new("a", 1 << 20);
    let refuses = stage(|_, _| Err(Refusal::TooLarge("no".into())));
    let answer = export(&gateway(vec![refuses], &[&destination]), encoded(&request(vec![span(1, "x", vec![])]))).await;
    assert_eq!(answer, Err(Refusal::TooLarge("no".into())));
    assert!(destination.payloads().is_empty());
}

#[tokio::test]
async fn a_blocked_trace_delays_no_other_and_its_items_are_counted() {
    let destination = Remembering::new("a", 1 << 20);
    let block = stage(|_, plan| {
        plan.decide([2; 16], Verdict::Block);
        plan.decide([2; 16], Verdict::Pass);
        Ok(())
    });
    let body = ExportTraceServiceRequest {
        resource_spans: vec![
            resource_spans(vec![], vec![span(1, "one", vec![]), span(2, "two", vec![])]),
            resource_spans(vec![string("only", "blocked")], vec![span(2, "two again", vec![])]),
        ],
    };
    let answer = export(&gateway(vec![block], &[&destination]), encoded(&body)).await.unwrap();
    assert_eq!(answer.rejected, 2, "the strictest verdict stands");
    assert!(!answer.message.is_empty());
    let [payload] = &destination.payloads()[..] else { panic!("one payload") };
    assert_eq!((names(&payload.bytes), payload.count), (vec!["one".into()], 1));
    let left = ExportTraceServiceRequest::decode(&payload.bytes[..]).unwrap();
    assert_eq!(left.resource_spans.len(), 1, "the envelope that became empty is gone");
}

#[tokio::test]
async fn nothing_is_queued_when_everything_is_blocked() {
    let destination = Remembering::new("a", 1 << 20);
    let block = stage(|_, plan| {
        plan.decide([1; 16], Verdict::Block);
        Ok(())
    });
    let answer = export(&gateway(vec![block], &[&destination]), encoded(&request(vec![span(1, "x", vec![])]))).await;
    assert_eq!(answer.unwrap().rejected, 1);
    assert!(destination.payloads().is_empty());
}

#[tokio::test]
async fn edits_inside_a_blocked_item_go_with_it() {
    let destination = Remembering::new("a", 1 << 20);
    let both = stage(|request, plan| {
        let blocked = request.index.items[0];
        for leaf in request.index.leaves.iter().filter(|leaf| leaf.start < blocked.end && leaf.start > blocked.start) {
            plan.edit(Edit {
                start: leaf.start,
                end: leaf.start + leaf.len,
                container: leaf.start,
                with: b"m".to_vec(),
            });
        }
        plan.decide([1; 16], Verdict::Block);
        Ok(())
    });
    let body = request(vec![span(1, "gone", vec![string("a", "b")]), span(2, "stays", vec![string("c", "d")])]);
    export(&gateway(vec![both], &[&destination]), encoded(&body)).await.unwrap();
    assert_eq!(destination.payloads()[0].bytes, encoded(&request(vec![span(2, "stays", vec![string("c", "d")])])));
}

#[tokio::test]
async fn a_defect_in_a_stage_costs_its_request_only() {
    let destination = Remembering::new("a", 1 << 20);
    let breaks = stage(|request, _| match request.index.count {
        1 => panic!("a panic that quotes data"),
        _ => Ok(()),
    });
    let gateway = gateway(vec![breaks], &[&destination]);
    let one = encoded(&request(vec![span(1, "x", vec![])]));
    let Err(Refusal::Internal(message)) = export(&gateway, one).await else { panic!("internal") };
    assert!(!message.contains("quotes"), "what a panic says may quote data: {message}");
    let two = encoded(&request(vec![span(1, "x", vec![]), span(1, "y", vec![])]));
    assert!(export(&gateway, two).await.is_ok());
}

/// OTLP specification: an empty request succeeds (checklist C3); envelopes without items may be ignored (C7).
#[tokio::test]
async fn requests_without_items_succeed_and_go_nowhere() {
    let destination = Remembering::new("a", 1 << 20);
    let gateway = gateway(vec![], &[&destination]);
    let envelope = request(vec![]);
    for body in [Bytes::new(), encoded(&envelope)] {
        assert_eq!(export(&gateway, body).await, Ok(Accepted::default()));
    }
    assert!(destination.payloads().is_empty());
}

#[tokio::test]
async fn broken_framing_is_refused_with_the_place_and_without_the_payload() {
    let gateway = gateway(vec![], &[]);
    let mut body = encoded(&request(vec![span(1, "a name nobody should read", vec![])])).to_vec();
    let at = body.windows(6).position(|window| window == b"a name").unwrap();
    body[at - 1] = 0x7f;
    let Err(Refusal::Malformed(message)) = export(&gateway, body.into()).await else { panic!("malformed") };
    assert!(message.contains("resource_spans[0].scope_spans[0].spans[0]"), "{message}");
    assert!(!message.contains("nobody"), "{message}");
}

#[tokio::test]
async fn a_signal_without_a_pipeline_is_not_taken() {
    let gateway = gateway(vec![], &[]);
    assert!(gateway.takes(Signal::Traces) && !gateway.takes(Signal::Logs));
    let answer = gateway.export(Signal::Logs, Bytes::from_static(b"\x0a\x00"), origin()).await;
    assert_eq!(answer, Err(Refusal::NoPipeline(Signal::Logs)));
}

#[tokio::test]
async fn large_requests_take_the_same_path() {
    let destination = Remembering::new("a", 1 << 20);
    let large = "x".repeat(300 << 10);
    let body = encoded(&request(vec![span(1, "x", vec![string("large", &large)])]));
    export(&gateway(vec![], &[&destination]), body.clone()).await.unwrap();
    assert_eq!(destination.payloads()[0].bytes, body);
}
