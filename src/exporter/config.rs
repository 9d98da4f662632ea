//! What the exporters' configurations have in common.

use super::{
    TlsClient,
    headers::{Headers, Kind},
    queue::QueueConfig,
    retry::RetryConfig,
};
use crate::config::{ConfigError, types::ByteSize};
use serde::{Deserialize, Deserializer, de::Error as _};
use std::time;

/// A key the Collector knows and tracegate does not support. Any value is refused, so that nothing is ever silently
/// ignored; the key itself is named by the error's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Later {}

impl<'de> Deserialize<'de> for Later {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("this key of the Collector is not supported yet; remove it"))
    }
}

/// The Collector's `middlewares`: there are none here, so only an empty list is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoMiddlewares;

impl<'de> Deserialize<'de> for NoMiddlewares {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let listed = Option::<Vec<serde::de::IgnoredAny>>::deserialize(deserializer)?;
        match listed.unwrap_or_default().is_empty() {
            true => Ok(NoMiddlewares),
            false => Err(D::Error::custom("middlewares are extensions that tracegate does not have; remove them")),
        }
    }
}

/// The Collector's `timeout`, which has an error text of its own for what is below zero.
pub(super) fn timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<crate::config::types::Duration, D::Error> {
    crate::config::types::Duration::deserialize(deserializer).map_err(|error| {
        let text = error.to_string();
        let negative = text.contains("must not be negative");
        if negative { D::Error::custom("'timeout' must be non-negative") } else { error }
    })
}

/// What `otlp_grpc` and `otlp_http` have alike, seen together.
pub(super) struct Client<'a> {
    pub(super) kind: Kind,
    pub(super) tls: &'a TlsClient,
    pub(super) headers: &'a Headers,
    pub(super) sending_queue: &'a QueueConfig,
    pub(super) retry_on_failure: &'a RetryConfig,
    pub(super) max_request_bytes: ByteSize,
}

impl Client<'_> {
    /// Checks what can be checked without a file or the network.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        self.tls.validate()?;
        self.headers.to_map(self.kind)?;
        self.retry_on_failure.validate()?;
        self.sending_queue.validate()?;
        if self.max_request_bytes.0 == 0 {
            return Err(ConfigError::new("max_request_bytes", "must be positive"));
        }
        Ok(())
    }
}

/// Zero as the Collector means it: no limit.
pub(super) fn limit(time: time::Duration) -> Option<time::Duration> {
    (!time.is_zero()).then_some(time)
}

/// A key that tunes Go's own machinery: it is taken, has no effect, and the start of the exporter says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// The key, with `::` between its parts.
    pub key: &'static str,
    /// Why it has no effect here.
    pub why: &'static str,
}

/// Writes the notes on an exporter's configuration to the log.
pub(super) fn log(exporter: &str, notes: &[Note]) {
    for Note { key, why } in notes {
        tracing::warn!(%exporter, key, "the key is accepted and has no effect: {why}");
    }
}
