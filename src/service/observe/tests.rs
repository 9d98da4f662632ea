//! What metrics and health see.

use super::*;
use crate::{
    exporter::{
        Failure, Outgoing, Sender, Sent,
        queue::{MemoryQueue, Settings},
    },
    otlp::Bounds,
    pipeline::{Metadata, Origin},
    telemetry::health::Status,
};
use bytes::Bytes;
use tokio::sync::mpsc;

/// A sender with a defect: it panics on every request but the first, and says that it was called.
struct Defective {
    calls: mpsc::UnboundedSender<()>,
    sent: std::sync::atomic::AtomicBool,
}

impl Sender for Defective {
    async fn send(&self, _: &Outgoing) -> Result<Sent, Failure> {
        let _ = self.calls.send(());
        if self.sent.swap(true, std::sync::atomic::Ordering::Relaxed) {
            // As a defect would, without a message on the test's output.
            std::panic::resume_unwind(Box::new("defect"));
        }
        Ok(Sent::default())
    }
}

#[tokio::test]
async fn a_sender_that_panics_makes_the_process_unhealthy() {
    let health = Health::new();
    health.ready();
    let metrics = ExporterMetrics::new("test", &Signal::ALL);
    let watcher = Arc::new(Watcher { metrics: metrics.clone(), health: health.clone(), id: "test".to_owned() });
    let (calls, mut called) = mpsc::unbounded_channel();
    let sender = Defective { calls, sent: false.into() };
    let queue = MemoryQueue::start("test", Settings::default(), sender, watcher);
    let measured = Measured { destination: queue, metrics };
    let send = || {
        let permit = measured.budget().try_reserve(1).unwrap();
        measured.enqueue(permit, payload());
    };
    send();
    called.recv().await.unwrap();
    assert_eq!(health.status(), Status::Ready);
    send();
    called.recv().await.unwrap();
    // The panic is caught behind the call; draining waits for the workers, so it has been reported by then.
    measured.drain(Instant::now() + Duration::from_secs(10)).await;
    assert_eq!(health.status(), Status::Unhealthy(vec!["exporter test".to_owned()]));
}

fn payload() -> Payload {
    Payload { signal: Signal::Logs, bytes: Bytes::from_static(b"\x0a\x00"), count: 1, metadata: Metadata::default() }
}

struct Refusing;

impl Stage for Refusing {
    fn id(&self) -> &str {
        "refusing"
    }

    fn apply(&self, _: &Request, _: &mut Plan) -> Result<(), Refusal> {
        Err(Refusal::Malformed("no".to_owned()))
    }
}

#[test]
fn a_measured_stage_is_the_stage() {
    let origin = Origin {
        receiver: "r".into(),
        transport: Transport::Grpc,
        peer: None,
        metadata: Metadata::default(),
        principal: None,
    };
    let request = Request::read(Signal::Logs, payload().bytes, origin, &Bounds::default()).unwrap();
    let measured = MeasuredStage::around(Arc::new(Refusing), "logs", Signal::Logs);
    assert_eq!(measured.id(), "refusing");
    assert_eq!(measured.apply(&request, &mut Plan::default()), Err(Refusal::Malformed("no".to_owned())));
}

#[test]
fn every_reason_has_its_counter() {
    for (position, why) in Rejected::ALL.into_iter().enumerate() {
        assert_eq!(why as usize, position);
    }
    for (position, transport) in Transport::ALL.into_iter().enumerate() {
        assert_eq!(transport as usize, position);
    }
}
