//! What a full destination does to the others, and to the request.

use crate::{
    export, gateway,
    support::{Remembering, encoded, request, span},
};
use bytes::Bytes;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;
use tracegate::{
    otlp::{Bounds, Signal},
    pipeline::{Accepted, Budget, Destination, Gateway, OnFull, Payload, Permit, Pipeline, Refusal},
};

/// Only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

fn body() -> Bytes {
    encoded(&request(vec![span(1, "one", vec![])]))
}

/// Checklist C8: queues are per destination.
#[tokio::test]
async fn c8_a_full_destination_that_drops_stops_no_other_and_is_counted() {
    let (alive, dead) = (Remembering::new("alive", 1 << 20), Remembering::that("dead", 100, OnFull::Drop));
    let _held = dead.budget().try_reserve(100).unwrap();
    for destinations in [[&alive, &dead], [&dead, &alive]] {
        assert_eq!(export(&gateway(vec![], &destinations), body()).await, Ok(Accepted::default()));
    }
    assert_eq!((alive.payloads().len(), dead.payloads().len()), (2, 0));
    assert_eq!((alive.items_refused(), dead.items_refused()), (0, 2));
}

#[tokio::test]
async fn what_is_refused_by_another_is_not_counted_as_dropped() {
    let (drops, refuses) = (Remembering::that("drops", 0, OnFull::Drop), Remembering::new("refuses", 0));
    let answer = export(&gateway(vec![], &[&drops, &refuses]), body()).await;
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!((drops.items_refused(), refuses.items_refused()), (0, 1), "the client sends it again");
}

#[tokio::test]
async fn a_request_larger_than_a_queue_that_drops_is_dropped_for_it_alone() {
    let (alive, small) = (Remembering::new("alive", 1 << 20), Remembering::that("small", 10, OnFull::Drop));
    assert_eq!(export(&gateway(vec![], &[&small, &alive]), body()).await, Ok(Accepted::default()));
    assert_eq!((alive.payloads().len(), small.items_refused()), (1, 1));
}

/// Waits until `count` requests wait for room at a destination, and holds what waiting does not hold.
async fn until_waiting(tasks: &JoinSet<Result<Accepted, Refusal>>, others: &[&Arc<Remembering>]) {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!tasks.is_empty());
    for other in others {
        assert_eq!((other.budget().requests(), other.budget().bytes()), (0, 0), "who waits holds no room elsewhere");
    }
}

#[tokio::test]
async fn a_request_waits_for_room_and_holds_none_meanwhile() {
    let size = body().len() as u64;
    let (blocking, other) = (Remembering::that("blocking", size, OnFull::Wait), Remembering::new("other", 1 << 20));
    let held = blocking.budget().try_reserve(size).unwrap();
    let gateway = Arc::new(gateway(vec![], &[&other, &blocking]));
    let mut tasks = JoinSet::new();
    let one = gateway.clone();
    tasks.spawn(async move { export(&one, body()).await });
    until_waiting(&tasks, &[&other]).await;
    assert!(other.payloads().is_empty() && tasks.try_join_next().is_none());
    drop(held);
    assert_eq!(tasks.join_next().await.unwrap().unwrap(), Ok(Accepted::default()));
    assert_eq!((other.payloads().len(), blocking.payloads().len()), (1, 1));
    assert_eq!(blocking.items_refused(), 0);
}

/// Pipelines name their destinations in opposite orders; there is room for one request at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn requests_that_wait_at_several_destinations_do_not_wait_for_each_other() {
    let size = body().len() as u64;
    let a = Remembering::that("a", size, OnFull::Wait);
    let b = Remembering::that("b", size, OnFull::Wait);
    let orders = [Arc::new(gateway(vec![], &[&a, &b])), Arc::new(gateway(vec![], &[&b, &a]))];
    let mut tasks = JoinSet::new();
    for n in 0..200 {
        let gateway = orders[n % 2].clone();
        tasks.spawn(async move { export(&gateway, body()).await });
    }
    let mut done = 0;
    let all = async {
        while done < 200 {
            a.forget();
            b.forget();
            while let Some(answer) = tasks.try_join_next() {
                assert_eq!(answer.unwrap(), Ok(Accepted::default()));
                done += 1;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap();
}

#[tokio::test]
async fn a_shutdown_refuses_what_waits_for_room_cleanly() {
    let blocking = Remembering::that("blocking", body().len() as u64, OnFull::Wait);
    let _held = blocking.budget().try_reserve(1).unwrap();
    let gateway = Arc::new(gateway(vec![], &[&blocking]));
    let mut tasks = JoinSet::new();
    for _ in 0..10 {
        let gateway = gateway.clone();
        tasks.spawn(async move { export(&gateway, body()).await });
    }
    until_waiting(&tasks, &[]).await;
    blocking.stop_waiting();
    while let Some(answer) = tasks.join_next().await {
        let Ok(Err(Refusal::Overloaded { message, .. })) = answer else { panic!("{answer:?}") };
        assert_eq!(message, "shutting down");
    }
    let late = export(&gateway, body()).await;
    assert!(matches!(late, Err(Refusal::Overloaded { .. })), "{late:?}");
    assert_eq!(blocking.items_refused(), 11);
}

#[tokio::test]
async fn what_can_never_fit_does_not_wait() {
    let blocking = Remembering::that("blocking", 10, OnFull::Wait);
    let answer = export(&gateway(vec![], &[&blocking]), body()).await;
    assert!(matches!(answer, Err(Refusal::TooLarge(_))), "{answer:?}");
}

/// A destination whose requests may have this many bytes.
struct Narrow(Arc<Remembering>, usize);

impl Destination for Narrow {
    fn id(&self) -> &str {
        self.0.id()
    }
    fn budget(&self) -> &Budget {
        self.0.budget()
    }
    fn max_request_bytes(&self) -> usize {
        self.1
    }
    fn refused(&self, payload: &Payload) {
        self.0.refused(payload);
    }
    fn enqueue(&self, permit: Permit, payload: Payload) {
        self.0.enqueue(permit, payload);
    }
    fn drain(&self, deadline: Instant) -> std::pin::Pin<Box<dyn Future<Output = u64> + Send + '_>> {
        self.0.drain(deadline)
    }
}

#[tokio::test]
async fn a_span_too_large_for_a_destination_is_told_before_it_is_acknowledged() {
    let behind = Remembering::new("narrow", 1 << 20);
    let pipeline = Pipeline {
        id: "traces".into(),
        stages: vec![],
        destinations: vec![Arc::new(Narrow(behind.clone(), 1000)) as Arc<dyn Destination>],
    };
    let gateway = Gateway::new("otlp", [(Signal::Traces, Arc::new(pipeline))], Bounds::default());
    let (small, large) = (|| span(1, "small", vec![]), || span(1, &"x".repeat(2000), vec![]));

    let many: Vec<_> = (0..100).map(|_| small()).collect();
    assert_eq!(export(&gateway, encoded(&request(many))).await, Ok(Accepted::default()), "it can be split");

    let mixed = export(&gateway, encoded(&request(vec![small(), large(), small()]))).await.unwrap();
    assert_eq!(mixed.rejected, 1);
    assert_eq!(mixed.message, "1 items are larger than the 1000 bytes a request to exporter narrow may have");
    assert_eq!(behind.payloads().len(), 2, "its neighbours are taken");

    let alone = export(&gateway, encoded(&request(vec![large()]))).await;
    assert!(matches!(alone, Err(Refusal::TooLarge(_))), "{alone:?}");
    assert_eq!((behind.payloads().len(), behind.items_refused()), (2, 1));
}
