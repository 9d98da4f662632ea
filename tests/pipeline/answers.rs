//! Answers that wait for the backend's: `wait_for_result` and `enabled: false`.

use crate::{
    export,
    support::{Remembering, encoded, request, span},
};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;
use tracegate::{
    config::types,
    exporter::{
        Failure, Outgoing, Sender, Sent,
        queue::{Batching, MemoryQueue, Settings},
        retry::RetryConfig,
    },
    otlp::{Bounds, Signal},
    pipeline::{Accepted, Destination, Gateway, Pipeline, Refusal},
};

type Answers = dyn Fn(&Outgoing) -> Result<Sent, Failure> + Send + Sync;

/// Answers what it is told, once the gate has a permit.
pub struct Backend {
    pub answers: Box<Answers>,
    pub gate: Semaphore,
    /// The item counts of the requests that came.
    pub came: Mutex<Vec<u64>>,
}

impl Backend {
    /// Answers at once.
    pub fn that(answers: impl Fn(&Outgoing) -> Result<Sent, Failure> + Send + Sync + 'static) -> Shared {
        let gate = Semaphore::new(0);
        gate.close();
        Shared(Arc::new(Backend { answers: Box::new(answers), gate, came: Mutex::default() }))
    }

    /// Answers when it is let.
    pub fn gated(answers: impl Fn(&Outgoing) -> Result<Sent, Failure> + Send + Sync + 'static) -> Shared {
        let gate = Semaphore::new(0);
        Shared(Arc::new(Backend { answers: Box::new(answers), gate, came: Mutex::default() }))
    }
}

#[derive(Clone)]
pub struct Shared(pub Arc<Backend>);

impl Shared {
    pub fn came(&self) -> Vec<u64> {
        self.0.came.lock().unwrap().clone()
    }
}

impl Sender for Shared {
    async fn send(&self, request: &Outgoing) -> Result<Sent, Failure> {
        if let Ok(permit) = self.0.gate.acquire().await {
            permit.forget();
        }
        self.0.came.lock().unwrap().push(request.count);
        (self.0.answers)(request)
    }
}

pub fn settings() -> Settings {
    let retry = RetryConfig { enabled: false, ..RetryConfig::default() };
    Settings { waits_for_result: true, retry, ..Settings::default() }
}

fn both() -> [Settings; 2] {
    [settings(), Settings { unqueued: true, ..settings() }]
}

fn queue(id: &str, settings: Settings, backend: &Shared) -> Arc<dyn Destination> {
    MemoryQueue::start(id, settings, backend.clone(), Arc::new(()))
}

pub fn in_front_of(destinations: Vec<Arc<dyn Destination>>) -> Gateway {
    let pipeline = Arc::new(Pipeline { id: "traces".into(), stages: vec![], destinations });
    Gateway::new("otlp", [(Signal::Traces, pipeline)], Bounds::default())
}

async fn answer(settings: Settings, backend: &Shared, spans: u8) -> Result<Accepted, Refusal> {
    let gateway = in_front_of(vec![queue("backend", settings, backend)]);
    let spans = (0..spans).map(|n| span(n, "x", vec![])).collect();
    export(&gateway, encoded(&request(spans))).await
}

#[tokio::test]
async fn success_is_answered_when_the_backend_has_answered() {
    for settings in both() {
        let backend = Backend::gated(|_| Ok(Sent::default()));
        let gateway = Arc::new(in_front_of(vec![queue("backend", settings, &backend)]));
        let exporting =
            tokio::spawn(async move { export(&gateway, encoded(&request(vec![span(1, "x", vec![])]))).await });
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(!exporting.is_finished());
        backend.0.gate.add_permits(1);
        assert_eq!(exporting.await.unwrap(), Ok(Accepted::default()));
    }
}

/// Checklist G5, H7: a retryable failure is UNAVAILABLE, 503; the backend's own delay is passed on.
#[tokio::test]
async fn a_retryable_failure_is_answered_retryably() {
    for settings in both() {
        let after = Some(Duration::from_secs(7));
        let backend = Backend::that(move |_| Err(Failure::Retryable { what: "away".into(), after }));
        let expected =
            Refusal::Overloaded { message: "exporter backend: away".into(), retry_after: Duration::from_secs(7) };
        assert_eq!(answer(settings, &backend, 1).await, Err(expected));
    }
}

#[tokio::test]
async fn retries_happen_within_the_answer() {
    let quick = types::Duration::millis(1);
    for settings in both() {
        let tried = Mutex::new(0);
        let backend = Backend::that(move |_| {
            let mut tried = tried.lock().unwrap();
            *tried += 1;
            if *tried < 3 { Err(Failure::Retryable { what: "away".into(), after: None }) } else { Ok(Sent::default()) }
        });
        let retry = RetryConfig { initial_interval: quick, max_interval: quick, ..RetryConfig::default() };
        assert_eq!(answer(Settings { retry, ..settings }, &backend, 1).await, Ok(Accepted::default()));
        assert_eq!(backend.came().len(), 3);
    }
}

#[tokio::test]
async fn retries_that_end_are_answered_in_the_collectors_words() {
    let quick = types::Duration::millis(1);
    let backend = Backend::that(|_| Err(Failure::Retryable { what: "away".into(), after: None }));
    let retry = RetryConfig {
        initial_interval: quick,
        max_interval: quick,
        max_elapsed_time: types::Duration::millis(5),
        ..RetryConfig::default()
    };
    let Err(Refusal::Overloaded { message, .. }) = answer(Settings { retry, ..settings() }, &backend, 1).await else {
        panic!("retryable")
    };
    assert_eq!(message, "exporter backend: no more retries left: away");
}

/// Checklist G5: a permanent failure without a status of its own is INTERNAL.
#[tokio::test]
async fn a_permanent_failure_is_answered_permanently() {
    for settings in both() {
        for failure in [Failure::Refused { what: "never".into() }, Failure::Unconfirmed { what: "never".into() }] {
            let backend = Backend::that(move |_| Err(failure.clone()));
            let expected = Refusal::Undeliverable("exporter backend: not retryable error: never".into());
            assert_eq!(answer(settings.clone(), &backend, 1).await, Err(expected));
        }
    }
}

/// Checklist C4: what the backend took in part is taken in part.
#[tokio::test]
async fn partial_success_is_passed_on() {
    for settings in both() {
        let backend = Backend::that(|_| Ok(Sent { rejected: 2 }));
        let accepted = answer(settings, &backend, 5).await.unwrap();
        assert_eq!(accepted.rejected, 2);
        assert_eq!(accepted.message, "exporter backend: the destination rejected them");
    }
}

#[tokio::test]
async fn an_item_too_large_is_rejected_and_the_others_arrive() {
    for settings in both() {
        let backend = Backend::that(|_| Ok(Sent::default()));
        let settings = Settings { max_request_bytes: 1000, ..settings };
        let gateway = in_front_of(vec![queue("backend", settings, &backend)]);
        let spans = vec![span(1, "x", vec![]), span(1, &"x".repeat(2000), vec![]), span(1, "y", vec![])];
        let accepted = export(&gateway, encoded(&request(spans))).await.unwrap();
        assert_eq!(accepted.rejected, 1);
        assert!(accepted.message.contains("beyond the limit of 1000"), "{}", accepted.message);
        assert_eq!(backend.came().iter().sum::<u64>(), 2);
    }
}

#[tokio::test]
async fn a_defect_is_answered_as_one() {
    for settings in both() {
        let backend = Backend::that(|_| panic!("the test's own panic"));
        let answer = answer(settings, &backend, 1).await;
        let Err(Refusal::Internal(message)) = answer else { panic!("{answer:?}") };
        assert!(!message.contains("own panic"), "{message}");
    }
}

#[tokio::test]
async fn one_refused_request_of_a_batch_is_answered_alone() {
    let batch = Batching {
        flush_timeout: Duration::from_secs(3600),
        by_bytes: false,
        min_size: 3,
        max_size: 0,
        max_bytes: 1 << 20,
    };
    // The backend refuses what has two items or more than two.
    let backend = Backend::that(|request| match request.count {
        1 => Ok(Sent::default()),
        _ => Err(Failure::Refused { what: "never".into() }),
    });
    let gateway =
        Arc::new(in_front_of(vec![queue("backend", Settings { batch: Some(batch), ..settings() }, &backend)]));
    let send = |spans: u8| {
        let gateway = gateway.clone();
        let spans = (0..spans).map(|n| span(n, "x", vec![])).collect();
        tokio::spawn(async move { export(&gateway, encoded(&request(spans))).await })
    };
    let (good, bad) = (send(1), send(2));
    assert_eq!(good.await.unwrap(), Ok(Accepted::default()));
    assert!(matches!(bad.await.unwrap(), Err(Refusal::Undeliverable(_))));
    assert_eq!(backend.came()[0], 3, "together first");
}

#[tokio::test]
async fn a_drain_answers_who_waits() {
    for settings in both() {
        let backend = Backend::gated(|_| Ok(Sent::default()));
        let destination = queue("backend", settings, &backend);
        let gateway = Arc::new(in_front_of(vec![destination.clone()]));
        let exporting =
            tokio::spawn(async move { export(&gateway, encoded(&request(vec![span(1, "x", vec![])]))).await });
        while destination.left() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(destination.left(), 1);
        assert_eq!(destination.drain(Instant::now() + Duration::from_millis(20)).await, 1);
        let answer = exporting.await.unwrap();
        let Err(Refusal::Overloaded { message, .. }) = answer else { panic!("{answer:?}") };
        assert_eq!(message, "exporter backend: shutting down");
        assert_eq!(destination.left(), 0);
    }
}

#[tokio::test]
async fn an_answer_waits_only_for_destinations_that_ask_for_it() {
    let (slow, backend) = (Remembering::new("slow", 1 << 20), Backend::that(|_| Ok(Sent::default())));
    let gateway = in_front_of(vec![slow.clone(), queue("backend", settings(), &backend)]);
    assert_eq!(export(&gateway, encoded(&request(vec![span(1, "x", vec![])]))).await, Ok(Accepted::default()));
    assert_eq!((slow.payloads().len(), backend.came()), (1, vec![1]));
}

/// Checklist C8: a slow destination holds up neither the answer nor the others.
#[tokio::test]
async fn c8_a_slow_destination_does_not_slow_the_others() {
    let (slow, quick) = (Backend::gated(|_| Ok(Sent::default())), Backend::that(|_| Ok(Sent::default())));
    let memory = || Settings { waits_for_result: false, ..settings() };
    let slow_queue = queue("slow", memory(), &slow);
    let gateway = in_front_of(vec![slow_queue.clone(), queue("quick", settings(), &quick)]);
    for _ in 0..50 {
        assert_eq!(export(&gateway, encoded(&request(vec![span(1, "x", vec![])]))).await, Ok(Accepted::default()));
    }
    assert_eq!((quick.came().len(), slow.came().len()), (50, 0));
    assert_eq!(slow_queue.left(), 50);
}
