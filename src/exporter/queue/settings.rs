//! The Collector's `sending_queue`, and what the queue makes of it.

use super::{batch::Batching, deliver::Bounds};
use crate::{
    config::{
        ConfigError,
        types::{ByteSize, Duration, present},
    },
    exporter::{Later, retry::RetryConfig},
};
use serde::Deserialize;

/// The largest request sent, before compression (OTLP specification, client request limit).
pub const MAX_REQUEST_BYTES: ByteSize = ByteSize(64 * 1024 * 1024);

/// The Collector's `sending_queue`, with a bound in bytes that is always on.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueConfig {
    /// Always true for now.
    pub enabled: bool,
    /// Requests sent at the same time.
    pub num_consumers: usize,
    /// The bound, in the unit of `sizer`.
    pub queue_size: u64,
    /// The unit of `queue_size`.
    pub sizer: Sizer,
    /// Our own bound in bytes, whatever the sizer: everything that waits or is being sent or retried.
    pub max_bytes: ByteSize,
    /// Not supported yet when true.
    pub block_on_overflow: bool,
    /// Not supported yet when true.
    pub wait_for_result: bool,
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
            sizer: Sizer::Requests,
            max_bytes: ByteSize(128 * 1024 * 1024),
            block_on_overflow: false,
            wait_for_result: false,
            storage: None,
            batch: None,
        }
    }
}

/// What sizes are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sizer {
    /// Export requests.
    Requests,
    /// Spans, log records or metric data points.
    Items,
    /// Bytes in protobuf form.
    Bytes,
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
    partition: Option<Later>,
}

impl Default for BatchConfig {
    fn default() -> Self {
        BatchConfig {
            flush_timeout: Duration::millis(200),
            min_size: 8192,
            max_size: 0,
            sizer: None,
            max_bytes: ByteSize(4 * 1024 * 1024),
            partition: None,
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
        let later = |key: &str, hint: &str| {
            let path = format!("sending_queue::{key}");
            Err(ConfigError::new(path, "this is not supported yet").with_hint(hint))
        };
        if !self.enabled {
            return later("enabled", "the queue is always on; remove the key");
        }
        if self.storage.as_deref().is_some_and(|id| !id.is_empty()) {
            return later("storage", "the queue is in memory and is lost when the process is killed; remove the key");
        }
        if self.block_on_overflow {
            return later("block_on_overflow", "a full queue refuses requests retryably; remove the key");
        }
        if self.wait_for_result {
            return later("wait_for_result", "requests are answered when the queue has taken them; remove the key");
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
        if self.sizer == Sizer::Items {
            return later("sizer", "use requests or bytes");
        }
        if self.max_bytes.0 == 0 {
            return invalid("`max_bytes` must be positive");
        }
        self.batch.as_ref().map_or(Ok(()), |batch| batch.validate(self))
    }
}

/// Each is a task; more is a mistake.
const MAX_CONSUMERS: usize = 10_000;

impl BatchConfig {
    fn sizer(&self, queue: &QueueConfig) -> Sizer {
        match (self.sizer, queue.sizer) {
            (Some(own), _) => own,
            (None, Sizer::Requests) => Sizer::Items,
            (None, inherited) => inherited,
        }
    }

    fn validate(&self, queue: &QueueConfig) -> Result<(), ConfigError> {
        let invalid = |what: String| Err(ConfigError::new("sending_queue::batch", what));
        if self.sizer == Some(Sizer::Requests) {
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
        if self.sizer(queue) == queue.sizer && self.min_size > queue.queue_size {
            return Err(ConfigError::new("sending_queue", "`min_size` must be less than or equal to `queue_size`"));
        }
        if self.max_bytes.0 == 0 {
            return invalid("`max_bytes` must be positive".into());
        }
        Ok(())
    }
}

/// A queue's bounds and behaviour, resolved from configuration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Workers; requests sent at the same time.
    pub consumers: usize,
    /// Bytes queued, being sent or being retried.
    pub max_bytes: u64,
    /// Requests queued, being sent or being retried.
    pub max_requests: u64,
    /// Merging, if any.
    pub batch: Option<Batching>,
    /// When to try again.
    pub retry: RetryConfig,
    /// No request sent is larger, before compression.
    pub max_request_bytes: usize,
}

impl Settings {
    /// Resolves validated configuration.
    pub fn new(queue: &QueueConfig, retry: RetryConfig, max_request_bytes: ByteSize) -> Self {
        let in_bytes = queue.sizer == Sizer::Bytes;
        let max_request_bytes = usize::try_from(max_request_bytes.0).unwrap_or(usize::MAX);
        let batch = queue.batch.as_ref().map(|batch| Batching {
            flush_timeout: batch.flush_timeout.get(),
            by_bytes: batch.sizer(queue) == Sizer::Bytes,
            min_size: batch.min_size,
            max_size: batch.max_size,
            max_bytes: batch.max_bytes.0.min(max_request_bytes as u64),
        });
        Settings {
            consumers: queue.num_consumers,
            max_bytes: if in_bytes { queue.max_bytes.0.min(queue.queue_size) } else { queue.max_bytes.0 },
            max_requests: if in_bytes { u64::MAX } else { queue.queue_size },
            batch,
            retry,
            max_request_bytes,
        }
    }

    /// What a single request has to keep; larger ones are split.
    pub(super) fn bounds(&self) -> Bounds {
        let mut bounds = Bounds { bytes: self.max_request_bytes, items: u64::MAX };
        if let Some(batch) = self.batch.filter(|batch| batch.max_size > 0) {
            if batch.by_bytes {
                bounds.bytes = bounds.bytes.min(usize::try_from(batch.max_size).unwrap_or(usize::MAX));
            } else {
                bounds.items = batch.max_size;
            }
        }
        bounds
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
        assert_eq!((queue.num_consumers, queue.queue_size, queue.sizer), (10, 1000, Sizer::Requests));
        let batch = read(json!({"batch": {}})).batch.unwrap();
        assert_eq!((batch.flush_timeout, batch.min_size, batch.max_size), (Duration::millis(200), 8192, 0));
        assert_eq!(batch.sizer(&queue), Sizer::Items);
        assert_eq!(batch.sizer(&read(json!({"sizer": "bytes"}))), Sizer::Bytes);
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
    fn what_comes_later_is_refused_by_name() {
        for (key, value) in [
            ("enabled", json!(false)),
            ("storage", json!("file_storage")),
            ("block_on_overflow", json!(true)),
            ("wait_for_result", json!(true)),
            ("sizer", json!("items")),
        ] {
            let text = error(json!({ key: value }));
            assert!(text.starts_with(&format!("sending_queue::{key}: ")), "{text}");
        }
        let partition = json!({"batch": {"partition": {"metadata_keys": ["a"]}}});
        assert!(serde_json::from_value::<QueueConfig>(partition).is_err());
        assert!(serde_json::from_value::<QueueConfig>(json!({"queue_sise": 1})).is_err());
    }

    #[test]
    fn the_byte_bound_is_always_on() {
        let settings = |value| Settings::new(&read(value), RetryConfig::default(), MAX_REQUEST_BYTES);
        assert_eq!(settings(json!({})).max_bytes, 128 << 20);
        let bytes = settings(json!({"sizer": "bytes", "queue_size": 1000}));
        assert_eq!((bytes.max_bytes, bytes.max_requests), (1000, u64::MAX));
        assert_eq!(settings(json!({"sizer": "bytes", "queue_size": u64::MAX})).max_bytes, 128 << 20);
    }
}
