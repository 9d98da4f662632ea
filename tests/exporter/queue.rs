//! The queue, with a sender that does as the test says.

use crate::support::{PATIENCE, Tally, all_released, enqueue, names, payload, poisoned, request, soon};
use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Semaphore, watch};
use tracegate::{
    config::types,
    exporter::{
        Failure, Outcome, Outgoing, Sender, Sent,
        queue::{Batching, MemoryQueue, Settings},
        retry::RetryConfig,
    },
    otlp::Signal,
    pipeline::{Destination, Metadata, Payload, Queued, Reply},
};

type Script = dyn Fn(usize, &Bytes) -> Result<Sent, Failure> + Send + Sync;

/// Calls the script with the number of the attempt, from 0, and the bytes.
#[derive(Clone)]
struct Scripted {
    script: Arc<Script>,
    attempts: Arc<AtomicUsize>,
    taken: Arc<Mutex<Vec<Bytes>>>,
    /// Permits to go on; closed means every attempt may.
    gate: Arc<Semaphore>,
    inside: watch::Sender<usize>,
}

impl Scripted {
    fn new(script: impl Fn(usize, &Bytes) -> Result<Sent, Failure> + Send + Sync + 'static) -> Self {
        let gate = Arc::new(Semaphore::new(0));
        gate.close();
        Scripted {
            script: Arc::new(script),
            attempts: Arc::default(),
            taken: Arc::default(),
            gate,
            inside: watch::Sender::new(0),
        }
    }

    fn gated(mut self) -> Self {
        self.gate = Arc::new(Semaphore::new(0));
        self
    }

    fn attempts(&self) -> usize {
        self.attempts.load(Ordering::SeqCst)
    }

    /// Span names of every request taken.
    fn taken(&self) -> Vec<Vec<String>> {
        self.taken.lock().unwrap().iter().map(|bytes| names(bytes)).collect()
    }

    async fn inside(&self, wanted: usize) {
        let mut inside = self.inside.subscribe();
        tokio::time::timeout(PATIENCE, inside.wait_for(|&n| n == wanted)).await.unwrap().unwrap();
    }
}

impl Sender for Scripted {
    async fn send(&self, request: &Outgoing) -> Result<Sent, Failure> {
        self.inside.send_modify(|n| *n += 1);
        if let Ok(permit) = self.gate.acquire().await {
            permit.forget();
        }
        self.inside.send_modify(|n| *n -= 1);
        let bytes = request.to_bytes();
        let answer = (self.script)(self.attempts.fetch_add(1, Ordering::SeqCst), &bytes)?;
        self.taken.lock().unwrap().push(bytes);
        Ok(answer)
    }
}

fn retryable(after: Option<Duration>) -> Failure {
    Failure::Retryable { what: "not now".into(), after }
}

fn refused() -> Failure {
    Failure::Refused { what: "never".into() }
}

/// Retries after about a millisecond.
fn quick() -> RetryConfig {
    RetryConfig {
        initial_interval: types::Duration::millis(1),
        max_interval: types::Duration::millis(2),
        ..RetryConfig::default()
    }
}

fn settings() -> Settings {
    Settings { retry: quick(), ..Settings::default() }
}

/// Collects everything until `items` are together.
fn batching(items: u64) -> Settings {
    let batch = Batching {
        flush_timeout: Duration::from_secs(3600),
        by_bytes: false,
        min_size: items,
        max_size: 0,
        max_bytes: 4 << 20,
    };
    Settings { batch: Some(batch), ..settings() }
}

fn start(settings: Settings, sender: &Scripted) -> (Arc<MemoryQueue<Scripted>>, Arc<Tally>) {
    let tally = Tally::new();
    (MemoryQueue::start("test", settings, sender.clone(), tally.clone()), tally)
}

#[tokio::test]
async fn e1_a_retryable_failure_is_tried_again_until_it_is_taken() {
    let sender = Scripted::new(|n, _| if n < 3 { Err(retryable(None)) } else { Ok(Sent::default()) });
    let (queue, tally) = start(settings(), &sender);
    enqueue(&*queue, payload("a", 2)).unwrap();
    tally.ended(2).await;
    assert_eq!((tally.all(), sender.attempts(), tally.retries()), ([2, 0, 0, 0], 4, 3));
}

#[tokio::test]
async fn e1_the_backends_delay_is_a_lower_bound() {
    let delay = Duration::from_millis(80);
    let sender = Scripted::new(move |n, _| if n < 1 { Err(retryable(Some(delay))) } else { Ok(Sent::default()) });
    let (queue, tally) = start(settings(), &sender);
    let began = Instant::now();
    enqueue(&*queue, payload("a", 1)).unwrap();
    tally.ended(1).await;
    assert!(began.elapsed() >= delay, "{:?}", began.elapsed());
}

#[tokio::test]
async fn e2_a_permanent_refusal_is_dropped_and_counted() {
    let sender = Scripted::new(|_, _| Err(refused()));
    let (queue, tally) = start(settings(), &sender);
    enqueue(&*queue, payload("a", 3)).unwrap();
    tally.ended(3).await;
    assert_eq!((tally.all(), sender.attempts()), ([0, 0, 3, 0], 1));
}

#[tokio::test]
async fn e4_an_unconfirmed_success_is_not_repeated_not_even_in_parts() {
    let sender = Scripted::new(|_, _| Err(Failure::Unconfirmed { what: "what did it say?".into() }));
    let (queue, tally) = start(batching(2), &sender);
    enqueue(&*queue, payload("a", 1)).unwrap();
    enqueue(&*queue, payload("b", 1)).unwrap();
    tally.ended(2).await;
    assert_eq!((tally.all(), sender.attempts()), ([0, 0, 2, 0], 1));
}

#[tokio::test]
async fn c5_rejected_items_are_counted_and_not_repeated() {
    let sender = Scripted::new(|_, _| Ok(Sent { rejected: 2 }));
    let (queue, tally) = start(batching(5), &sender);
    enqueue(&*queue, payload("a", 1)).unwrap();
    enqueue(&*queue, payload("b", 4)).unwrap();
    tally.ended(5).await;
    assert_eq!((tally.all(), sender.attempts()), ([3, 2, 0, 0], 1));
}

#[tokio::test]
async fn a_backend_cannot_reject_more_than_it_was_given() {
    let sender = Scripted::new(|_, _| Ok(Sent { rejected: u64::MAX }));
    let (queue, tally) = start(settings(), &sender);
    enqueue(&*queue, payload("a", 3)).unwrap();
    tally.ended(3).await;
    assert_eq!(tally.all(), [0, 3, 0, 0]);
}

#[tokio::test]
async fn retries_end_after_max_elapsed_time() {
    let sender = Scripted::new(|_, _| Err(retryable(None)));
    let retry = RetryConfig { max_elapsed_time: types::Duration::millis(20), ..quick() };
    let (queue, tally) = start(Settings { retry, ..settings() }, &sender);
    enqueue(&*queue, payload("a", 1)).unwrap();
    tally.ended(1).await;
    assert_eq!(tally.all(), [0, 0, 1, 0]);
    assert!(sender.attempts() > 1);
}

#[tokio::test]
async fn without_retry_the_first_failure_is_the_last() {
    let sender = Scripted::new(|_, _| Err(retryable(None)));
    let retry = RetryConfig { enabled: false, ..quick() };
    let (queue, tally) = start(Settings { retry, ..settings() }, &sender);
    enqueue(&*queue, payload("a", 1)).unwrap();
    tally.ended(1).await;
    assert_eq!((tally.all(), sender.attempts()), ([0, 0, 1, 0], 1));
}

#[tokio::test]
async fn a_refused_batch_is_sent_as_its_requests_and_only_the_bad_one_is_dropped() {
    // As a backend on prost does: text that is not UTF-8 spoils the whole request.
    let sender = Scripted::new(|_, bytes| {
        use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
        match ExportTraceServiceRequest::decode(bytes.clone()) {
            Ok(_) => Ok(Sent::default()),
            Err(_) => Err(refused()),
        }
    });
    let (queue, tally) = start(batching(5), &sender);
    enqueue(&*queue, payload("a", 2)).unwrap();
    enqueue(&*queue, poisoned("bad")).unwrap();
    enqueue(&*queue, payload("c", 2)).unwrap();
    tally.ended(5).await;
    assert_eq!(tally.all(), [4, 0, 1, 0]);
    assert_eq!(sender.taken(), [["a-0", "a-1"], ["c-0", "c-1"]]);
    assert_eq!(sender.attempts(), 4, "once together, then one by one");
}

#[tokio::test]
async fn a_batch_that_fails_retryably_stays_together() {
    let sender = Scripted::new(|n, _| if n == 0 { Err(retryable(None)) } else { Ok(Sent::default()) });
    let (queue, tally) = start(batching(2), &sender);
    enqueue(&*queue, payload("a", 1)).unwrap();
    enqueue(&*queue, payload("b", 1)).unwrap();
    tally.ended(2).await;
    assert_eq!(sender.taken(), [["a-0", "b-0"]]);
}

#[tokio::test]
async fn a_merged_batch_is_the_concatenation_of_its_requests() {
    let sender = Scripted::new(|_, _| Ok(Sent::default()));
    let (queue, tally) = start(batching(2), &sender);
    let (a, b) = (payload("a", 1), poisoned("bad"));
    let expected = [a.bytes.clone(), b.bytes.clone()].concat();
    enqueue(&*queue, a).unwrap();
    enqueue(&*queue, b).unwrap();
    tally.ended(2).await;
    assert_eq!(sender.taken.lock().unwrap().as_slice(), [expected]);
}

#[tokio::test]
async fn time_closes_a_batch() {
    let sender = Scripted::new(|_, _| Ok(Sent::default()));
    let mut settings = batching(1000);
    settings.batch.as_mut().unwrap().flush_timeout = Duration::from_millis(5);
    let (queue, tally) = start(settings, &sender);
    for name in ["a", "b", "c"] {
        enqueue(&*queue, payload(name, 1)).unwrap();
        tally.ended(1).await;
    }
    tally.ended(3).await;
    assert_eq!(tally.all(), [3, 0, 0, 0]);
}

#[tokio::test]
async fn no_batch_has_more_items_than_max_size() {
    let sender = Scripted::new(|_, _| Ok(Sent::default()));
    let mut settings = batching(4);
    settings.batch.as_mut().unwrap().max_size = 4;
    let (queue, tally) = start(settings, &sender);
    enqueue(&*queue, payload("a", 3)).unwrap();
    enqueue(&*queue, payload("b", 103)).unwrap();
    tally.ended(104).await;
    assert_eq!(tally.all(), [104, 0, 0, 0], "what is left of a split request waits for others");
    assert_eq!(queue.drain(soon()).await, 0);
    let taken = sender.taken();
    let mut sizes: Vec<usize> = taken.iter().map(Vec::len).collect();
    assert_eq!(sizes.pop(), Some(2));
    assert_eq!(sizes, [4; 26]);
    let mut names = taken.concat();
    names.sort();
    let mut expected =
        [crate::support::names(&payload("a", 3).bytes), crate::support::names(&payload("b", 103).bytes)].concat();
    expected.sort();
    assert_eq!(names, expected);
}

#[tokio::test]
async fn c10_a_request_over_the_limit_is_split_and_one_item_over_it_is_dropped() {
    const MAX: usize = 2000;
    let sender = Scripted::new(|_, bytes| {
        assert!(bytes.len() <= MAX);
        Ok(Sent::default())
    });
    let (queue, tally) = start(Settings { max_request_bytes: MAX, ..settings() }, &sender);
    let mut whole = request("small", 30, 200);
    let huge = request("huge", 1, 5000);
    whole.resource_spans.splice(0..0, huge.resource_spans);
    let payload = Payload {
        signal: Signal::Traces,
        bytes: whole.encode_to_vec().into(),
        count: 31,
        metadata: Metadata::default(),
    };
    enqueue(&*queue, payload).unwrap();
    tally.ended(31).await;
    assert_eq!(tally.all(), [30, 0, 0, 1]);
    assert_eq!(tally.panics.load(Ordering::SeqCst), 0);
    assert_eq!(sender.taken().concat(), names(&request("small", 30, 200).encode_to_vec()));
    all_released(&*queue).await;
}

#[tokio::test]
async fn room_is_given_back_whatever_the_end() {
    let sender = Scripted::new(|n, _| if n % 2 == 0 { Ok(Sent::default()) } else { Err(refused()) });
    let (queue, tally) = start(settings(), &sender);
    for _ in 0..20 {
        enqueue(&*queue, payload("a", 1)).unwrap();
    }
    tally.ended(20).await;
    all_released(&*queue).await;
    assert_eq!(tally.all(), [10, 0, 10, 0]);
}

#[tokio::test]
async fn a_dead_backend_fills_the_queue_to_its_bound_and_no_further() {
    let sender = Scripted::new(|_, _| Err(retryable(None)));
    let one = payload("a", 1);
    let size = one.bytes.len() as u64;
    let settings = Settings { max_bytes: 10 * size, max_requests: 1000, ..settings() };
    let (queue, tally) = start(settings.clone(), &sender);
    let taken = (0..100).filter(|_| enqueue(&*queue, one.clone()).is_ok()).count();
    assert_eq!(taken, 10);
    assert_eq!(queue.budget().bytes(), 10 * size);
    let settings = Settings { max_bytes: u64::MAX, max_requests: 7, ..settings };
    let (queue, _) = start(settings, &sender);
    assert_eq!((0..100).filter(|_| enqueue(&*queue, one.clone()).is_ok()).count(), 7);
    assert_eq!(tally.all(), [0, 0, 0, 0], "nothing is lost while it waits");
}

#[tokio::test]
async fn as_many_requests_are_under_way_as_there_are_consumers() {
    let sender = Scripted::new(|_, _| Ok(Sent::default())).gated();
    let (queue, tally) = start(Settings { consumers: 3, ..settings() }, &sender);
    for _ in 0..10 {
        enqueue(&*queue, payload("a", 1)).unwrap();
    }
    sender.inside(3).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(*sender.inside.borrow(), 3);
    sender.gate.add_permits(10);
    tally.ended(10).await;
}

#[tokio::test]
async fn e9_a_drain_delivers_everything_when_the_backend_is_up() {
    let sender = Scripted::new(|n, _| if n % 3 == 0 { Err(retryable(None)) } else { Ok(Sent::default()) });
    let (queue, tally) = start(batching(7), &sender);
    for i in 0..100 {
        enqueue(&*queue, payload(&format!("r{i}"), 2)).unwrap();
    }
    assert_eq!(queue.drain(soon()).await, 0);
    assert_eq!(tally.all(), [200, 0, 0, 0]);
    assert_eq!((queue.budget().requests(), queue.budget().bytes()), (0, 0));
}

#[tokio::test]
async fn e9_a_drain_says_what_it_gave_up_when_the_backend_is_down() {
    let sender = Scripted::new(|_, _| Err(retryable(None)));
    let (queue, tally) = start(settings(), &sender);
    for _ in 0..50 {
        enqueue(&*queue, payload("a", 2)).unwrap();
    }
    let given_up = queue.drain(Instant::now() + Duration::from_millis(50)).await;
    assert_eq!(given_up, 100);
    assert_eq!(tally.all(), [0, 0, 0, 100]);
    assert_eq!((queue.budget().requests(), queue.budget().bytes()), (0, 0));
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline_when_the_backend_never_answers() {
    let sender = Scripted::new(|_, _| Ok(Sent::default())).gated();
    let (queue, tally) = start(settings(), &sender);
    for _ in 0..20 {
        enqueue(&*queue, payload("a", 1)).unwrap();
    }
    sender.inside(10).await;
    assert_eq!(queue.drain(Instant::now() + Duration::from_millis(20)).await, 20);
    assert_eq!(tally.all(), [0, 0, 0, 20]);
}

#[tokio::test]
async fn a_drain_tries_what_was_waiting_at_once() {
    let sender = Scripted::new(|n, _| if n == 0 { Err(retryable(None)) } else { Ok(Sent::default()) });
    let hour = types::Duration::secs(3600);
    let never = types::Duration::default();
    let retry =
        RetryConfig { initial_interval: hour, max_interval: hour, max_elapsed_time: never, ..RetryConfig::default() };
    let (queue, tally) = start(Settings { retry, ..settings() }, &sender);
    enqueue(&*queue, payload("a", 1)).unwrap();
    while tally.retries() == 0 {
        tokio::task::yield_now().await;
    }
    // The hour ends before this deadline, so there is no reason to give up early either.
    assert_eq!(queue.drain(Instant::now() + Duration::from_secs(4 * 3600)).await, 0);
    assert_eq!(tally.all(), [1, 0, 0, 0]);
}

#[tokio::test]
async fn a_drain_does_not_wait_for_an_attempt_behind_its_deadline() {
    let sender = Scripted::new(|_, _| Err(retryable(Some(Duration::from_secs(100)))));
    let (queue, tally) = start(settings(), &sender);
    enqueue(&*queue, payload("a", 1)).unwrap();
    let drained = tokio::time::timeout(PATIENCE, queue.drain(Instant::now() + Duration::from_secs(90))).await;
    assert_eq!(drained, Ok(1));
    assert_eq!(tally.all(), [0, 0, 0, 1]);
}

#[tokio::test]
async fn what_comes_after_a_drain_is_counted_as_dropped() {
    let sender = Scripted::new(|_, _| Ok(Sent::default()));
    let (queue, tally) = start(settings(), &sender);
    assert_eq!(queue.drain(soon()).await, 0);
    enqueue(&*queue, payload("late", 2)).unwrap();
    assert_eq!(tally.all(), [0, 0, 0, 2]);
    assert_eq!(queue.drain(soon()).await, 0, "a second drain is harmless");
}

#[tokio::test]
async fn a_panic_is_seen_and_costs_only_its_own_request() {
    let sender = Scripted::new(|n, _| {
        assert!(n != 0, "the test's own panic");
        Ok(Sent::default())
    });
    let (queue, tally) = start(Settings { consumers: 1, ..settings() }, &sender);
    enqueue(&*queue, payload("a", 2)).unwrap();
    enqueue(&*queue, payload("b", 1)).unwrap();
    tally.ended(3).await;
    assert_eq!(tally.all(), [1, 0, 0, 2]);
    assert_eq!(tally.of(Outcome::Dropped), 2);
    assert_eq!(tally.panics.load(Ordering::SeqCst), 1);
    all_released(&*queue).await;
}

/// Checklist E3, E2: what the backend refuses for good is not repeated however often it may be.
#[tokio::test]
async fn e3_a_permanent_refusal_ends_the_retries() {
    let sender = Scripted::new(|n, _| if n < 2 { Err(retryable(None)) } else { Err(refused()) });
    let (queue, tally) = start(settings(), &sender);
    enqueue(&*queue, payload("a", 1)).unwrap();
    tally.ended(1).await;
    assert_eq!((tally.all(), sender.attempts(), tally.retries()), ([0, 0, 1, 0], 3, 2));
}

/// Checklist E1: a delay that no attempt within `max_elapsed_time` could keep ends the retries, whatever it is.
#[tokio::test]
async fn e1_a_delay_of_a_year_does_not_park_the_queue() {
    let year = Duration::from_secs(365 * 24 * 3600);
    let sender = Scripted::new(move |n, _| if n == 0 { Err(retryable(Some(year))) } else { Ok(Sent::default()) });
    let (queue, tally) = start(Settings { consumers: 1, ..settings() }, &sender);
    enqueue(&*queue, payload("a", 1)).unwrap();
    enqueue(&*queue, payload("b", 1)).unwrap();
    tally.ended(2).await;
    assert_eq!((tally.all(), sender.attempts()), ([1, 0, 1, 0], 2));
}

/// Checklist E9, and what a second signal reports.
#[tokio::test]
async fn e9_what_is_left_is_known_at_any_time() {
    let sender = Scripted::new(|_, _| Ok(Sent::default())).gated();
    let (queue, tally) = start(Settings { consumers: 1, ..settings() }, &sender);
    enqueue(&*queue, payload("a", 2)).unwrap();
    enqueue(&*queue, payload("b", 3)).unwrap();
    sender.inside(1).await;
    assert_eq!(queue.left(), 5, "queued and being sent");
    sender.gate.add_permits(1);
    tally.ended(2).await;
    while queue.left() == 5 {
        tokio::task::yield_now().await;
    }
    assert_eq!(queue.left(), 3);
    assert_eq!(queue.drain(Instant::now()).await, 3);
    assert_eq!(queue.left(), 0);
}

#[tokio::test]
async fn without_a_queue_all_requests_are_under_way_at_once() {
    let sender = Scripted::new(|_, _| Ok(Sent::default())).gated();
    let (queue, tally) = start(Settings { unqueued: true, consumers: 1, ..settings() }, &sender);
    for _ in 0..30 {
        enqueue(&*queue, payload("a", 1)).unwrap();
    }
    sender.inside(30).await;
    sender.gate.close();
    tally.ended(30).await;
    assert_eq!(queue.drain(soon()).await, 0);
    enqueue(&*queue, payload("late", 2)).unwrap();
    assert_eq!(tally.all(), [30, 0, 0, 2]);
    all_released(&*queue).await;
}

#[tokio::test]
async fn the_queue_is_bounded_in_items() {
    let sender = Scripted::new(|_, _| Err(retryable(None)));
    let (queue, _tally) = start(Settings { max_items: 10, ..settings() }, &sender);
    assert_eq!((0..10).filter(|_| enqueue(&*queue, payload("a", 3)).is_ok()).count(), 3);
}

/// How the backend answers an attempt.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Taken,
    Rejects(u64),
    Later,
    Never,
    Unreadable,
    Panics,
}

fn any_answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        6 => Just(Answer::Taken),
        1 => (0..4_u64).prop_map(Answer::Rejects),
        3 => Just(Answer::Later),
        2 => Just(Answer::Never),
        1 => Just(Answer::Unreadable),
        1 => Just(Answer::Panics),
    ]
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let batch = prop::option::of((any::<bool>(), 0..8_u64, 0..8_u64, 200..5000_u64, 0..3_u64).prop_map(
        |(by_bytes, min, more, max_bytes, timeout)| {
            let scale = if by_bytes { 150 } else { 1 };
            Batching {
                flush_timeout: Duration::from_millis(timeout),
                by_bytes,
                min_size: min * scale,
                max_size: if more == 0 { 0 } else { (min + more) * scale },
                max_bytes,
            }
        },
    ));
    (batch, 1..4_usize, any::<bool>(), 300..3000_usize, 0..2_u64).prop_map(
        |(batch, consumers, unqueued, max_request_bytes, elapsed)| Settings {
            batch: batch.filter(|_| !unqueued),
            consumers,
            unqueued,
            max_request_bytes,
            retry: RetryConfig { max_elapsed_time: types::Duration::millis(elapsed * 4), ..quick() },
            ..Settings::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever comes, is answered and is given up: every item comes to exactly one end, nothing is taken twice that
    /// was not sent twice, everyone who waits is answered, and all room is given back.
    #[test]
    fn every_item_comes_to_exactly_one_end(
        settings in any_settings(),
        requests in prop::collection::vec((1..12_u64, 0..200_usize, any::<bool>()), 1..25),
        answers in prop::collection::vec(any_answer(), 1..40),
        patience in prop_oneof![Just(0), Just(30), Just(20_000)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let last = if patience == 20_000 { Answer::Taken } else { Answer::Later };
            let sender = Scripted::new(move |n, _| match answers.get(n).copied().unwrap_or(last) {
                Answer::Taken => Ok(Sent::default()),
                Answer::Rejects(rejected) => Ok(Sent { rejected }),
                Answer::Later => Err(retryable(None)),
                Answer::Never => Err(refused()),
                Answer::Unreadable => Err(Failure::Unconfirmed { what: "unreadable".into() }),
                Answer::Panics => panic!("the test's own panic"),
            });
            let (queue, tally) = start(settings, &sender);
            let mut deliveries = Vec::new();
            let mut total = 0;
            for (n, (count, size, waits)) in requests.into_iter().enumerate() {
                let bytes = request(&format!("r{n}"), count, size).encode_to_vec().into();
                let payload = Payload { bytes, count, ..payload("x", 0) };
                total += count;
                let permit = queue.budget().try_reserve_items(payload.bytes.len() as u64, count).unwrap();
                let (reply, delivery) = Reply::new();
                if waits {
                    queue.enqueue_all(vec![Queued { permit, payload, reply: Some(reply) }]);
                    deliveries.push(delivery);
                } else {
                    queue.enqueue(permit, payload);
                }
                if n % 3 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            queue.drain(Instant::now() + Duration::from_millis(patience)).await;
            let ends = tally.all();
            assert_eq!(ends.iter().sum::<u64>(), total, "{ends:?}");
            assert_eq!((queue.budget().bytes(), queue.budget().requests(), queue.left()), (0, 0, 0));
            for delivery in deliveries {
                assert!(tokio::time::timeout(PATIENCE, delivery).await.unwrap().is_ok(), "an answer for everyone");
            }
            let mut taken = sender.taken().concat();
            assert_eq!(taken.len() as u64, ends[0] + ends[1], "sent, or sent and rejected");
            taken.sort_unstable();
            let distinct = { let mut names = taken.clone(); names.dedup(); names.len() };
            assert_eq!(distinct, taken.len(), "nothing is taken twice");
        });
    }
}
