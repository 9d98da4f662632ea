//! The `batch` processor between pipelines and exporters.

use crate::{
    answers::{Backend, Shared, settings},
    export,
    support::{Remembering, encoded, origin, request, span},
};
use bytes::Bytes;
use http::HeaderMap;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tracegate::{
    config::types,
    exporter::{
        Failure, Sent,
        queue::{MemoryQueue, Settings},
    },
    otlp::{Bounds, Signal},
    pipeline::{Accepted, Destination, Gateway, Ingest, Metadata, Origin, Pipeline, Refusal, Stage},
    processor::batch::{Batch, Config},
};

fn config(send_batch_size: u32) -> Config {
    Config { timeout: types::Duration::secs(3600), send_batch_size, ..Config::default() }
}

fn body(spans: u8) -> Bytes {
    encoded(&request((0..spans).map(|n| span(n, "x", vec![])).collect()))
}

/// A pipeline with `batch` in front of its exporters.
fn batched(config: &Config, exporters: &[&Arc<dyn Destination>]) -> Gateway {
    let batch = Arc::new(Batch::new("batch", config).unwrap());
    let exporters = exporters.iter().enumerate();
    let destinations = exporters.map(|(n, &exporter)| batch.in_front_of(exporter.clone(), n == 0)).collect();
    let pipeline = Pipeline { id: "traces".into(), stages: vec![batch as Arc<dyn Stage>], destinations };
    Gateway::new("otlp", [(Signal::Traces, Arc::new(pipeline))], Bounds::default())
}

fn memory() -> Settings {
    Settings { waits_for_result: false, consumers: 1, ..settings() }
}

fn exporter(settings: Settings) -> (Arc<dyn Destination>, Shared) {
    let backend = Backend::that(|_| Ok(Sent::default()));
    (MemoryQueue::start("backend", settings, backend.clone(), Arc::new(())), backend)
}

async fn drained(exporter: &Arc<dyn Destination>) {
    assert_eq!(exporter.drain(Instant::now() + Duration::from_secs(20)).await, 0);
    assert_eq!((exporter.budget().requests(), exporter.budget().bytes(), exporter.left()), (0, 0, 0));
}

async fn send(gateway: &Gateway, spans: u8) {
    assert_eq!(export(gateway, body(spans)).await, Ok(Accepted::default()));
}

#[tokio::test]
async fn requests_leave_together_once_there_are_enough() {
    let (exporter, backend) = exporter(memory());
    let gateway = batched(&config(4), &[&exporter]);
    for spans in [1, 2, 3, 1] {
        send(&gateway, spans).await;
    }
    drop(gateway);
    drained(&exporter).await;
    assert_eq!(backend.came(), [6, 1]);
}

#[tokio::test]
async fn a_batch_is_filled_to_its_largest_size_and_the_rest_stays() {
    let (exporter, backend) = exporter(memory());
    let gateway = batched(&Config { send_batch_max_size: 4, ..config(4) }, &[&exporter]);
    for spans in [3, 10, 2] {
        send(&gateway, spans).await;
    }
    drop(gateway);
    drained(&exporter).await;
    assert_eq!(backend.came(), [4, 4, 4, 3]);
}

#[tokio::test]
async fn without_a_timeout_or_size_nothing_waits_and_large_requests_are_split() {
    for config in [Config { timeout: types::Duration::default(), ..config(2) }, config(0)] {
        let (exporter, backend) = exporter(memory());
        let gateway = batched(&Config { send_batch_max_size: 3, ..config }, &[&exporter]);
        for spans in [1, 4] {
            send(&gateway, spans).await;
        }
        drained(&exporter).await;
        assert_eq!(backend.came(), [1, 3, 1]);
    }
}

#[tokio::test]
async fn time_closes_a_batch() {
    let (exporter, backend) = exporter(settings());
    let gateway = batched(&Config { timeout: types::Duration::millis(5), ..config(1000) }, &[&exporter]);
    send(&gateway, 2).await;
    send(&gateway, 3).await;
    assert_eq!(backend.came(), [2, 3], "the answer waits for the exporter's, and that for the time");
}

/// What the Collector's own loses: a request is acknowledged only with its room in the queue, and keeps it.
#[tokio::test]
async fn an_open_batch_holds_the_room_it_takes() {
    let (exporter, backend) = exporter(Settings { max_requests: 2, ..memory() });
    let gateway = batched(&config(1000), &[&exporter]);
    send(&gateway, 1).await;
    send(&gateway, 1).await;
    assert_eq!((exporter.budget().requests(), exporter.left()), (2, 2));
    let third = export(&gateway, body(1)).await;
    assert!(matches!(third, Err(Refusal::Overloaded { .. })), "{third:?}");
    drop(gateway);
    drained(&exporter).await;
    assert_eq!(backend.came(), [2]);
}

#[tokio::test]
async fn a_stop_hands_over_what_waits_and_nothing_waits_after_it() {
    let (exporter, backend) = exporter(settings());
    let gateway = Arc::new(batched(&config(1000), &[&exporter]));
    let one = gateway.clone();
    let waiting = tokio::spawn(async move { export(&one, body(2)).await });
    while exporter.left() == 0 {
        tokio::task::yield_now().await;
    }
    exporter.stop_waiting();
    assert_eq!(waiting.await.unwrap(), Ok(Accepted::default()));
    send(&gateway, 3).await;
    assert_eq!(backend.came(), [2, 3]);
}

#[tokio::test]
async fn pipelines_that_share_an_exporter_batch_as_each_says() {
    let (exporter, backend) = exporter(memory());
    let (two, five) = (batched(&config(2), &[&exporter]), batched(&config(5), &[&exporter]));
    let none = crate::answers::in_front_of(vec![exporter.clone()]);
    for gateway in [&five, &two, &none, &two, &five] {
        send(gateway, 1).await;
    }
    drop(five);
    drop(two);
    drained(&exporter).await;
    let mut came = backend.came();
    came.sort_unstable();
    assert_eq!(came, [1, 2, 2]);
}

#[tokio::test]
async fn every_exporter_of_a_pipeline_gets_the_batches() {
    let ((one, first), (two, second)) = (exporter(memory()), exporter(memory()));
    let gateway = batched(&config(2), &[&one, &two]);
    send(&gateway, 1).await;
    send(&gateway, 1).await;
    drained(&one).await;
    drained(&two).await;
    assert_eq!((first.came(), second.came()), (vec![2], vec![2]));
}

#[tokio::test]
async fn the_exporter_may_batch_further() {
    let batch = tracegate::exporter::queue::Batching {
        flush_timeout: Duration::from_secs(3600),
        by_bytes: false,
        min_size: 6,
        max_size: 6,
        max_bytes: 1 << 20,
    };
    let (exporter, backend) = exporter(Settings { batch: Some(batch), ..memory() });
    let gateway = batched(&config(4), &[&exporter]);
    for _ in 0..10 {
        send(&gateway, 1).await;
    }
    drop(gateway);
    drained(&exporter).await;
    assert_eq!(backend.came(), [6, 4]);
}

#[tokio::test]
async fn two_processors_stand_one_behind_the_other() {
    let (exporter, backend) = exporter(memory());
    let inner = Batch::new("batch/inner", &config(5)).unwrap();
    let outer = Batch::new("batch/outer", &config(2)).unwrap();
    let both = outer.in_front_of(inner.in_front_of(exporter.clone(), true), true);
    let gateway = crate::answers::in_front_of(vec![both]);
    for _ in 0..7 {
        send(&gateway, 1).await;
    }
    drop(gateway);
    drained(&exporter).await;
    assert_eq!(backend.came(), [5, 2], "the inner one fills its batches from the outer one's");
}

fn tenant(name: &str) -> Origin {
    let mut headers = HeaderMap::new();
    headers.append("x-tenant", name.parse().unwrap());
    Origin { metadata: Metadata::new(headers), ..origin() }
}

#[tokio::test]
async fn requests_of_different_tenants_are_not_merged_and_there_are_only_so_many() {
    let (exporter, backend) = exporter(memory());
    let keys = Config { metadata_keys: vec!["X-Tenant".into()], metadata_cardinality_limit: 2, ..config(3) };
    let gateway = batched(&keys, &[&exporter]);
    let send = async |name: &str, spans| gateway.export(Signal::Traces, body(spans), tenant(name)).await;
    for (name, spans) in [("a", 1), ("b", 1), ("a", 2), ("b", 4)] {
        assert_eq!(send(name, spans).await, Ok(Accepted::default()));
    }
    let third = send("c", 1).await;
    let text = "too many batcher metadata-value combinations";
    assert_eq!(third, Err(Refusal::Undeliverable(text.into())), "for good, as in the Collector");
    assert_eq!(send("a", 3).await, Ok(Accepted::default()), "those that are known go on");
    drained(&exporter).await;
    assert_eq!(backend.came(), [3, 5, 3]);
}

/// DESIGN: one client's bad request must not cost its neighbours theirs.
#[tokio::test]
async fn a_refused_batch_is_sent_as_its_requests() {
    let backend = Backend::that(|request| match request.count {
        5 => Err(Failure::Refused { what: "never".into() }),
        _ => Ok(Sent::default()),
    });
    let exporter: Arc<dyn Destination> = MemoryQueue::start("backend", memory(), backend.clone(), Arc::new(()));
    let gateway = batched(&config(5), &[&exporter]);
    send(&gateway, 2).await;
    send(&gateway, 3).await;
    drained(&exporter).await;
    assert_eq!(backend.came(), [5, 2, 3]);
}

#[tokio::test]
async fn a_batch_in_front_of_what_has_no_queue_changes_nothing_else() {
    let remembering = Remembering::new("plain", 1 << 20);
    let gateway = batched(&config(2), &[&(remembering.clone() as Arc<dyn Destination>)]);
    send(&gateway, 1).await;
    assert!(remembering.payloads().is_empty());
    send(&gateway, 1).await;
    assert_eq!(remembering.payloads().len(), 2);
}
