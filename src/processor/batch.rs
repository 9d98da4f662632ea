//! `batch`: merges requests before they are handed to the exporters of a pipeline.
//!
//! Keys, defaults and error texts are the Collector's. The Collector's own acknowledges a request and may lose it
//! afterwards; here a request has its room in every exporter's queue before it is acknowledged, and keeps it while it
//! waits to be batched. Its answer waits where an exporter's configuration asks for that.
//!
//! The processor has two sides: a [`Stage`] that refuses a request with too many different metadata, and a
//! [`Destination`] in front of each exporter of the pipeline that collects what comes.

use crate::{
    config::types::Duration,
    pipeline::{
        Budget, Destination, Holder, OnFull, Payload, Permit, Plan, Queued, Refusal, Request, Stage,
        gather::{Batching, Closed, Gather, Partition, Trigger},
    },
    telemetry::BatchMetrics,
};
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{
    collections::HashSet,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Instant,
};
use tokio::sync::Notify;

/// Requests are not merged beyond this many bytes: what a gRPC server takes when nobody configured it.
const MAX_BYTES: u64 = 4 << 20;

/// Configuration of `batch`, as the Collector has it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The longest a request waits for others; with 0 none waits.
    #[serde(deserialize_with = "timeout")]
    pub timeout: Duration,
    /// A batch of this many spans, log records or metric data points leaves at once; with 0 every request does.
    pub send_batch_size: u32,
    /// No batch is larger, larger requests are split; 0 means no bound.
    pub send_batch_max_size: u32,
    /// Names of the client's metadata, where a receiver's `include_metadata` keeps it; requests that differ in the
    /// values are not merged.
    pub metadata_keys: Vec<String>,
    /// The most combinations of values there may ever be; 0 means no bound.
    pub metadata_cardinality_limit: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            timeout: Duration::millis(200),
            send_batch_size: 8192,
            send_batch_max_size: 0,
            metadata_keys: Vec::new(),
            metadata_cardinality_limit: 1000,
        }
    }
}

/// The Collector has a text of its own for a time below zero.
fn timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Duration::deserialize(deserializer).map_err(|error| {
        let negative = error.to_string().contains("must not be negative");
        if negative { D::Error::custom("timeout must be greater or equal to 0") } else { error }
    })
}

/// Why a configuration cannot be used; the texts are the Collector's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The sizes contradict each other.
    #[error("send_batch_max_size must be greater or equal to send_batch_size")]
    MaxSize,
    /// A key is named twice.
    #[error("duplicate entry in metadata_keys: {0:?} (case-insensitive)")]
    Duplicate(String),
}

impl Config {
    /// Checks the configuration.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.send_batch_max_size > 0 && self.send_batch_max_size < self.send_batch_size {
            return Err(ConfigError::MaxSize);
        }
        let mut seen = HashSet::new();
        self.keys().find(|key| !seen.insert(key.clone())).map_or(Ok(()), |twice| Err(ConfigError::Duplicate(twice)))
    }

    fn keys(&self) -> impl Iterator<Item = String> + '_ {
        self.metadata_keys.iter().map(|key| key.to_ascii_lowercase())
    }

    fn batching(&self) -> Batching {
        let min_size = if self.timeout.is_zero() { 0 } else { u64::from(self.send_batch_size) };
        Batching {
            flush_timeout: self.timeout.get(),
            by_bytes: false,
            min_size,
            max_size: u64::from(self.send_batch_max_size),
            max_bytes: MAX_BYTES,
        }
    }
}

/// The `batch` processor of one configuration, shared by the pipelines that name it.
pub struct Batch {
    id: String,
    keys: Arc<[String]>,
    limit: usize,
    batching: Batching,
    /// Every combination that came; none are kept where there is no limit.
    seen: Mutex<HashSet<Partition>>,
    metrics: BatchMetrics,
}

impl Batch {
    /// The processor with this id. Nothing is batched before it stands in front of an exporter.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn new(id: impl Into<String>, config: &Config) -> Result<Self, ConfigError> {
        config.validate()?;
        let id = id.into();
        let metrics = BatchMetrics::new(&id);
        let keys: Arc<[String]> = config.keys().collect();
        metrics.metadata_cardinality(usize::from(keys.is_empty()));
        let limit = usize::try_from(config.metadata_cardinality_limit).unwrap_or(usize::MAX);
        Ok(Batch { id, keys, limit, batching: config.batching(), seen: Mutex::default(), metrics })
    }

    /// An exporter behind this processor. `first` says whether it is the first of its pipeline: every exporter of a
    /// pipeline gets the same batches, and they count once. Must be called within a Tokio runtime.
    pub fn in_front_of(&self, destination: Arc<dyn Destination>, first: bool) -> Arc<dyn Destination> {
        let opened = Arc::new(Notify::new());
        let budget = destination.budget().clone();
        let batched = Arc::new(Batched {
            destination,
            gather: Mutex::new(Gather::new(self.batching, self.keys.clone())),
            opened: opened.clone(),
            holder: Mutex::new(Some(budget.holder())),
            metrics: first.then(|| self.metrics.clone()),
        });
        tokio::spawn(keep_time(Arc::downgrade(&batched), opened, budget));
        batched
    }
}

impl Stage for Batch {
    fn id(&self) -> &str {
        &self.id
    }

    /// Refuses what would be one combination of metadata too many. As in the Collector it is refused for good.
    fn apply(&self, request: &Request, _plan: &mut Plan) -> Result<(), Refusal> {
        if self.keys.is_empty() || self.limit == 0 {
            return Ok(());
        }
        let partition = Partition::of(&request.origin.metadata, &self.keys);
        let mut seen = locked(&self.seen);
        if seen.contains(&partition) {
            return Ok(());
        }
        if seen.len() >= self.limit {
            return Err(Refusal::Undeliverable("too many batcher metadata-value combinations".into()));
        }
        seen.insert(partition);
        self.metrics.metadata_cardinality(seen.len());
        Ok(())
    }
}

/// An exporter with open batches in front of it. Going, it hands over what is in them.
struct Batched {
    destination: Arc<dyn Destination>,
    gather: Mutex<Gather<Queued>>,
    /// A batch was opened and its time runs, or this goes.
    opened: Arc<Notify>,
    /// Keeps the exporter's queue open until the last batch was handed over.
    holder: Mutex<Option<Holder>>,
    metrics: Option<BatchMetrics>,
}

impl Batched {
    fn add(&self, batch: Vec<Queued>) {
        let mut closed = Vec::new();
        let mut opened = false;
        {
            let mut gather = locked(&self.gather);
            let now = Instant::now();
            for queued in batch {
                opened |= gather.add(queued, now, &mut |batch| closed.push(batch));
            }
            // Once the process stops nothing waits for others.
            if self.budget().has_stopped_waiting() {
                gather.close_all(&mut |batch| closed.push(batch));
            }
        }
        self.hand_over(closed);
        if opened {
            self.opened.notify_one();
        }
    }

    /// Hands over the batches whose time is up; when the next one's is.
    fn flush_due(&self) -> Option<Instant> {
        let mut closed = Vec::new();
        let next = locked(&self.gather).close_due(Instant::now(), &mut |batch| closed.push(batch));
        self.hand_over(closed);
        next
    }

    fn flush(&self) {
        let mut closed = Vec::new();
        locked(&self.gather).close_all(&mut |batch| closed.push(batch));
        self.hand_over(closed);
    }

    /// The last flush: from here on nothing is kept back.
    fn finish(&self) {
        self.flush();
        drop(locked(&self.holder).take());
    }

    fn hand_over(&self, closed: Vec<Closed<Queued>>) {
        for Closed { pieces, trigger } in closed {
            if let Some(metrics) = &self.metrics {
                let sum = |of: fn(&Payload) -> u64| pieces.iter().map(|queued| of(&queued.payload)).sum();
                let (items, bytes) = (sum(|payload| payload.count), sum(|payload| payload.bytes.len() as u64));
                metrics.sent(items, bytes, trigger == Trigger::Time);
            }
            self.destination.enqueue_all(pieces);
        }
    }
}

impl Destination for Batched {
    fn id(&self) -> &str {
        self.destination.id()
    }

    fn budget(&self) -> &Budget {
        self.destination.budget()
    }

    fn on_full(&self) -> OnFull {
        self.destination.on_full()
    }

    fn max_request_bytes(&self) -> usize {
        self.destination.max_request_bytes()
    }

    fn waits_for_result(&self) -> bool {
        self.destination.waits_for_result()
    }

    fn refused(&self, payload: &Payload) {
        self.destination.refused(payload);
    }

    fn enqueue(&self, permit: Permit, payload: Payload) {
        self.add(vec![Queued { payload, permit, reply: None }]);
    }

    fn enqueue_all(&self, batch: Vec<Queued>) {
        self.add(batch);
    }

    fn drain(&self, deadline: Instant) -> Pin<Box<dyn Future<Output = u64> + Send + '_>> {
        self.flush();
        self.destination.drain(deadline)
    }
}

impl Drop for Batched {
    fn drop(&mut self) {
        self.flush();
        self.opened.notify_one();
    }
}

/// Hands over batches in time, until the exporter stops waiting or nobody hands it anything any more. Waiting keeps
/// nothing alive.
async fn keep_time(batched: Weak<Batched>, opened: Arc<Notify>, budget: Budget) {
    let mut stopped = std::pin::pin!(budget.stopped_waiting());
    loop {
        let Some(next) = batched.upgrade().map(|batched| batched.flush_due()) else { return };
        let due = async {
            match next {
                None => opened.notified().await,
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => {}
                    // Nothing opened now is due earlier, but it may be that everything is gone.
                    () = opened.notified() => {}
                },
            }
        };
        tokio::select! {
            () = due => {}
            () = &mut stopped => return batched.upgrade().iter().for_each(|batched| batched.finish()),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(value: Value) -> Config {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn defaults_are_the_collectors() {
        let config = read(json!({}));
        assert_eq!((config.send_batch_size, config.send_batch_max_size), (8192, 0));
        assert_eq!((config.timeout, config.metadata_cardinality_limit), (Duration::millis(200), 1000));
        assert!(config.metadata_keys.is_empty() && config.validate().is_ok());
        assert!(serde_json::from_value::<Config>(json!({"send_batch_sise": 1})).is_err());
        let negative = serde_json::from_value::<Config>(json!({"timeout": "-1s"})).unwrap_err().to_string();
        assert!(negative.starts_with("timeout must be greater or equal to 0"), "{negative}");
    }

    #[test]
    fn what_is_wrong_is_refused_in_the_collectors_words() {
        let error = |value| read(value).validate().unwrap_err().to_string();
        assert_eq!(
            error(json!({"send_batch_size": 10, "send_batch_max_size": 9})),
            "send_batch_max_size must be greater or equal to send_batch_size"
        );
        assert_eq!(
            error(json!({"metadata_keys": ["a", "X-Tenant", "x-tenant"]})),
            "duplicate entry in metadata_keys: \"x-tenant\" (case-insensitive)"
        );
        assert!(read(json!({"send_batch_size": 10, "send_batch_max_size": 10})).validate().is_ok());
    }

    #[test]
    fn without_a_timeout_nothing_waits() {
        assert_eq!(read(json!({"timeout": "0s", "send_batch_size": 10})).batching().min_size, 0);
        assert_eq!(read(json!({"send_batch_size": 10})).batching().min_size, 10);
    }
}
