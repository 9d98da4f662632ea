//! The Collector's `sending_queue`, and what the queue makes of it.

use crate::{
    config::{
        ConfigError,
        types::{ByteSize, Duration, present},
    },
    exporter::retry::RetryConfig,
    pipeline::{OnFull, Sizer, gather::Batching},
};
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{collections::HashSet, sync::Arc};

/// The largest request sent, before compression (OTLP specification, client request limit).
pub const MAX_REQUEST_BYTES: ByteSize = ByteSize(64 * 1024 * 1024);

/// A queue whose sizer does not count requests still has some overhead for each: no more of them than this share of the
/// byte bound.
const BYTES_PER_REQUEST: u64 = 256;

/// The Collector's `sending_queue`, with a bound in bytes that is always on.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueConfig {
    /// Without a queue every request is sent at once and its answer waits for the backend's.
    pub enabled: bool,
    /// Requests sent at the same time.
    pub num_consumers: usize,
    /// The bound, in the unit of `sizer`.
    pub queue_size: u64,
    /// The unit of `queue_size`; requests when absent.
    pub sizer: Option<Sizer>,
    /// Our own bound in bytes, whatever the sizer: everything that waits or is being sent or retried.
    pub max_bytes: ByteSize,
    /// A request that finds no room waits for it, for at most 30 seconds.
    pub block_on_overflow: bool,
    /// The answer waits until the backend has answered, and is like it.
    pub wait_for_result: bool,
    /// Our own: what happens to a request that finds no room.
    #[serde(deserialize_with = "on_full")]
    pub on_full: OnFull,
    /// Not supported yet: the queue is in memory.
    pub storage: Option<String>,
    /// Merges requests before they are sent; absent means every request leaves as it came.
    #[serde(deserialize_with = "present")]
    pub batch: Option<BatchConfig>,
}

impl Default for QueueConfig {
    fn default() -> Self {
        QueueConfig {
            enabled: true,
            num_consumers: 10,
            queue_size: 1000,
            sizer: None,
            max_bytes: ByteSize(128 * 1024 * 1024),
            block_on_overflow: false,
            wait_for_result: false,
            on_full: OnFull::Refuse,
            storage: None,
            batch: None,
        }
    }
}

fn on_full<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OnFull, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "refuse" => Ok(OnFull::Refuse),
        "drop" => Ok(OnFull::Drop),
        "dead_letter" => Err(D::Error::custom("dead_letter is not in this version; use refuse or drop")),
        _ => Err(D::Error::custom("unknown choice; use refuse or drop")),
    }
}

/// The Collector's `sending_queue.batch`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchConfig {
    /// The longest a request waits for others.
    pub flush_timeout: Duration,
    /// A batch of this size leaves at once.
    pub min_size: u64,
    /// No batch is larger; 0 means no bound.
    pub max_size: u64,
    /// The unit of both sizes; the queue's own when absent, or items where that counts requests.
    pub sizer: Option<Sizer>,
    /// Our own bound: requests are not merged beyond this many bytes. The default is what a gRPC server takes when
    /// nobody configured it.
    pub max_bytes: ByteSize,
    /// Requests that differ in this are not merged.
    pub partition: Partition,
}

/// The Collector's `sending_queue.batch.partition`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Partition {
    /// Names of the client's metadata, where a receiver's `include_metadata` keeps it.
    pub metadata_keys: Vec<String>,
}

impl Default for BatchConfig {
    fn default() -> Self {
        BatchConfig {
            flush_timeout: Duration::millis(200),
            min_size: 8192,
            max_size: 0,
            sizer: None,
            max_bytes: ByteSize(4 * 1024 * 1024),
            partition: Partition::default(),
        }
    }
}

impl QueueConfig {
    /// Checks the values against each other, with the Collector's texts.
    ///
    /// # Errors
    /// [`ConfigError`] with its path below the exporter.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let invalid = |what: &str| Err(ConfigError::new("sending_queue", what));
        if self.max_bytes.0 == 0 {
            return invalid("`max_bytes` must be positive");
        }
        if !self.enabled {
            return self.on_full_alone();
        }
        if self.num_consumers == 0 {
            return invalid("`num_consumers` must be positive");
        }
        if self.num_consumers > MAX_CONSUMERS {
            return invalid("`num_consumers` must not be more than 10000");
        }
        if self.queue_size == 0 {
            return invalid("`queue_size` must be positive");
        }
        if self.storage.as_deref().is_some_and(|id| !id.is_empty()) {
            if self.wait_for_result {
                return invalid("`wait_for_result` is not supported with a persistent queue configured with `storage`");
            }
            return Err(ConfigError::new("sending_queue::storage", "not in this version; remove it")
                .with_hint("the queue is in memory and is lost when the process is killed"));
        }
        self.on_full_alone()?;
        self.batch.as_ref().map_or(Ok(()), |batch| batch.validate(self))
    }

    /// A destination that drops what finds no room is independent of the answer, so the answer cannot wait for it.
    fn on_full_alone(&self) -> Result<(), ConfigError> {
        let with = match self.on_full {
            OnFull::Drop if !self.enabled => "enabled: false",
            OnFull::Drop if self.wait_for_result => "wait_for_result",
            OnFull::Drop if self.block_on_overflow => "block_on_overflow",
            _ => return Ok(()),
        };
        let what = format!("`drop` lets nobody wait for this exporter and cannot be combined with `{with}`");
        Err(ConfigError::new("sending_queue::on_full", what).with_hint("remove one of them"))
    }

    fn sizer(&self) -> Sizer {
        self.sizer.unwrap_or(Sizer::Requests)
    }
}

/// Each is a task; more is a mistake.
const MAX_CONSUMERS: usize = 10_000;

impl BatchConfig {
    /// An absent sizer is the queue's own, or items where that counts requests.
    fn sizer(&self, queue: &QueueConfig) -> Sizer {
        self.sizer.or(queue.sizer.filter(|&sizer| sizer != Sizer::Requests)).unwrap_or(Sizer::Items)
    }

    fn validate(&self, queue: &QueueConfig) -> Result<(), ConfigError> {
        let invalid = |what: String| Err(ConfigError::new("sending_queue::batch", what));
        if self.sizer(queue) == Sizer::Requests {
            return invalid("`batch` supports only `items` or `bytes` sizer, found \"requests\"".into());
        }
        if self.flush_timeout.is_zero() {
            return invalid(format!("`flush_timeout` must be positive, found {}", self.flush_timeout.0.as_nanos()));
        }
        if self.max_size > 0 && self.max_size < self.min_size {
            return invalid(format!(
                "`max_size` ({}) must be greater or equal to `min_size` ({})",
                self.max_size, self.min_size
            ));
        }
        if self.sizer(queue) == queue.sizer() && self.min_size > queue.queue_size {
            return Err(ConfigError::new("sending_queue", "`min_size` must be less than or equal to `queue_size`"));
        }
        if self.max_bytes.0 == 0 {
            return invalid("`max_bytes` must be positive".into());
        }
        distinct(&self.partition.metadata_keys).map_err(|error| error.under(&["sending_queue", "batch", "partition"]))
    }
}

/// Refuses a list of metadata keys that names one twice.
///
/// # Errors
/// [`ConfigError`] with the Collector's text.
pub fn distinct(keys: &[String]) -> Result<(), ConfigError> {
    let mut seen = HashSet::new();
    for key in keys {
        let key = key.to_ascii_lowercase();
        if !seen.insert(key.clone()) {
            let what = format!("duplicate entry in metadata_keys: {key:?} (case-insensitive)");
            return Err(ConfigError::new("", what));
        }
    }
    Ok(())
}

/// A queue's bounds and behaviour, resolved from configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Workers; requests sent at the same time.
    pub consumers: usize,
    /// Nothing is queued: every request is sent at once, beside all others.
    pub unqueued: bool,
    /// What the queue's size is shown in.
    pub sizer: Sizer,
    /// Bytes queued, being sent or being retried.
    pub max_bytes: u64,
    /// Requests queued, being sent or being retried.
    pub max_requests: u64,
    /// Spans, log records and metric data points queued, being sent or being retried.
    pub max_items: u64,
    /// What happens to a request that finds no room.
    pub on_full: OnFull,
    /// Answers wait for the backend's.
    pub waits_for_result: bool,
    /// Merging, if any.
    pub batch: Option<Batching>,
    /// Names of the client's metadata; requests that differ in its values are not merged.
    pub partition: Arc<[String]>,
    /// When to try again.
    pub retry: RetryConfig,
    /// No request sent is larger, before compression.
    pub max_request_bytes: usize,
}

impl Settings {
    /// Resolves validated configuration.
    pub fn new(queue: &QueueConfig, retry: RetryConfig, max_request_bytes: ByteSize) -> Self {
        let max_request_bytes = usize::try_from(max_request_bytes.0).unwrap_or(usize::MAX);
        let batch = queue.batch.as_ref().filter(|_| queue.enabled);
        let max_bytes = queue.max_bytes.0;
        let many_requests = (max_bytes / BYTES_PER_REQUEST).max(1);
        let (max_bytes, max_requests, max_items) = match queue.sizer() {
            // Without a queue there is no capacity to show; receivers bound the requests in hand.
            _ if !queue.enabled => (max_bytes, u64::MAX, u64::MAX),
            Sizer::Requests => (max_bytes, queue.queue_size, u64::MAX),
            Sizer::Items => (max_bytes, many_requests, queue.queue_size),
            Sizer::Bytes => (max_bytes.min(queue.queue_size), many_requests, u64::MAX),
        };
        let keys = batch.map(|batch| batch.partition.metadata_keys.iter().map(|key| key.to_ascii_lowercase()));
        Settings {
            consumers: queue.num_consumers,
            unqueued: !queue.enabled,
            sizer: queue.sizer(),
            max_bytes,
            max_requests,
            max_items,
            on_full: if queue.block_on_overflow && queue.enabled { OnFull::Wait } else { queue.on_full },
            waits_for_result: queue.wait_for_result || !queue.enabled,
            batch: batch.map(|batch| Batching {
                flush_timeout: batch.flush_timeout.get(),
                by_bytes: batch.sizer(queue) == Sizer::Bytes,
                min_size: batch.min_size,
                max_size: batch.max_size,
                max_bytes: batch.max_bytes.0.min(max_request_bytes as u64),
            }),
            partition: keys.into_iter().flatten().collect(),
            retry,
            max_request_bytes,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings::new(&QueueConfig::default(), RetryConfig::default(), MAX_REQUEST_BYTES)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(value: Value) -> QueueConfig {
        serde_json::from_value(value).unwrap()
    }

    fn error(value: Value) -> String {
        read(value).validate().unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_the_collectors() {
        let queue = read(json!({}));
        assert!(queue.enabled && queue.batch.is_none());
        assert_eq!((queue.num_consumers, queue.queue_size, queue.sizer()), (10, 1000, Sizer::Requests));
        let batch = read(json!({"batch": {}})).batch.unwrap();
        assert_eq!((batch.flush_timeout, batch.min_size, batch.max_size), (Duration::millis(200), 8192, 0));
        assert_eq!(batch.sizer(&queue), Sizer::Items);
        assert_eq!(batch.sizer(&read(json!({"sizer": "bytes"}))), Sizer::Bytes);
        assert_eq!(batch.partition.metadata_keys, Vec::<String>::new());
        assert!(queue.validate().is_ok());
    }

    #[test]
    fn errors_have_the_collectors_texts() {
        assert_eq!(error(json!({"num_consumers": 0})), "sending_queue: `num_consumers` must be positive");
        assert_eq!(error(json!({"queue_size": 0})), "sending_queue: `queue_size` must be positive");
        assert_eq!(
            error(json!({"batch": {"sizer": "requests"}})),
            "sending_queue::batch: `batch` supports only `items` or `bytes` sizer, found \"requests\""
        );
        assert_eq!(
            error(json!({"batch": {"flush_timeout": "0s"}})),
            "sending_queue::batch: `flush_timeout` must be positive, found 0"
        );
        assert_eq!(
            error(json!({"batch": {"max_size": 5, "min_size": 6}})),
            "sending_queue::batch: `max_size` (5) must be greater or equal to `min_size` (6)"
        );
        assert_eq!(
            error(json!({"sizer": "bytes", "queue_size": 5, "batch": {"min_size": 6}})),
            "sending_queue: `min_size` must be less than or equal to `queue_size`"
        );
    }

    #[test]
    fn storage_and_dead_letter_come_later_and_are_refused_by_name() {
        let storage = error(json!({"storage": "file_storage"}));
        assert!(storage.starts_with("sending_queue::storage: not in this version; remove it"), "{storage}");
        assert_eq!(
            error(json!({"storage": "file_storage", "wait_for_result": true})),
            "sending_queue: `wait_for_result` is not supported with a persistent queue configured with `storage`"
        );
        let dead = serde_json::from_value::<QueueConfig>(json!({"on_full": "dead_letter"})).unwrap_err().to_string();
        assert!(dead.contains("dead_letter is not in this version"), "{dead}");
        assert!(serde_json::from_value::<QueueConfig>(json!({"on_full": "dorp"})).is_err());
        assert!(serde_json::from_value::<QueueConfig>(json!({"queue_sise": 1})).is_err());
        assert!(serde_json::from_value::<QueueConfig>(json!({"batch": {"partition": {"metadata_key": []}}})).is_err());
    }

    #[test]
    fn metadata_keys_are_distinct_in_any_case() {
        let partition = json!({"batch": {"partition": {"metadata_keys": ["X-Tenant", "a", "x-tenant"]}}});
        assert_eq!(
            error(partition),
            "sending_queue::batch::partition: duplicate entry in metadata_keys: \"x-tenant\" (case-insensitive)"
        );
    }

    #[test]
    fn nobody_waits_for_a_destination_that_drops() {
        for (key, value) in [("enabled", false), ("wait_for_result", true), ("block_on_overflow", true)] {
            let text = error(json!({"on_full": "drop", key: value}));
            assert!(
                text.starts_with("sending_queue::on_full: `drop` lets nobody wait") && text.contains(key),
                "{text}"
            );
        }
        assert!(read(json!({"on_full": "drop"})).validate().is_ok());
    }

    /// As in the Collector, which does not look at a queue that is off.
    #[test]
    fn without_a_queue_its_other_keys_do_not_count() {
        let off =
            read(json!({"enabled": false, "num_consumers": 0, "queue_size": 0, "batch": {"flush_timeout": "0s"}}));
        assert!(off.validate().is_ok());
        let settings = Settings::new(&off, RetryConfig::default(), MAX_REQUEST_BYTES);
        assert!(settings.unqueued && settings.waits_for_result && settings.batch.is_none());
    }

    #[test]
    fn the_byte_bound_is_always_on() {
        let settings = |value| Settings::new(&read(value), RetryConfig::default(), MAX_REQUEST_BYTES);
        let all = |value| {
            let settings = settings(value);
            (settings.max_bytes, settings.max_requests, settings.max_items)
        };
        let (whole, many) = (128 << 20, (128 << 20) / 256);
        assert_eq!(all(json!({})), (whole, 1000, u64::MAX));
        assert_eq!(all(json!({"sizer": "bytes", "queue_size": 1000})), (1000, many, u64::MAX));
        assert_eq!(all(json!({"sizer": "bytes", "queue_size": u64::MAX})), (whole, many, u64::MAX));
        assert_eq!(all(json!({"sizer": "items", "queue_size": 1000})), (whole, many, 1000));
        assert_eq!(settings(json!({"block_on_overflow": true})).on_full, OnFull::Wait);
        assert_eq!(settings(json!({"on_full": "drop"})).on_full, OnFull::Drop);
        assert!(settings(json!({"wait_for_result": true})).waits_for_result);
    }
}
