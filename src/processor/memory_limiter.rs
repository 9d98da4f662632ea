//! `memory_limiter`: refuses data, retryably, while the process uses more memory than it may.
//!
//! Keys, defaults and error texts are the Collector's. Garbage collection keys are accepted and do nothing: there is
//! no collector to call.

use crate::{
    config::types::Duration,
    pipeline::{Plan, Refusal, Request, Stage},
    telemetry::{MemoryLimiterMetrics, process},
};
use serde::Deserialize;
use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, Ordering},
};

const MIB: u64 = 1 << 20;
/// The Collector's default spike: this share of the limit.
const DEFAULT_SPIKE_PERCENTAGE: u64 = 20;
/// What a client is told to wait.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

/// Configuration of `memory_limiter`, as the Collector has it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How often memory is measured. Required, more than zero.
    pub check_interval: Duration,
    /// Most memory of the process, in MiB; goes before `limit_percentage`.
    pub limit_mib: u64,
    /// Expected growth between two measurements, in MiB; 20 % of the limit when 0.
    pub spike_limit_mib: u64,
    /// Most memory, in percent of what the machine or its cgroup has.
    pub limit_percentage: u64,
    /// Expected growth, in percent of the same.
    pub spike_limit_percentage: u64,
    /// Accepted for parity; there is no garbage collector.
    pub min_gc_interval_when_soft_limited: Duration,
    /// Accepted for parity; there is no garbage collector.
    pub min_gc_interval_when_hard_limited: Duration,
    /// Accepted for parity; there is no garbage collector.
    pub max_gc_interval_when_soft_limited: Duration,
    /// Accepted for parity; there is no garbage collector.
    pub max_gc_interval_when_hard_limited: Duration,
}

/// Why a configuration cannot be used; the texts are the Collector's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No interval.
    #[error("'check_interval' must be greater than zero")]
    CheckInterval,
    /// No limit.
    #[error("'limit_mib' or 'limit_percentage' must be greater than zero")]
    NoLimit,
    /// The spike leaves no room.
    #[error("'spike_limit_mib' must be smaller than 'limit_mib'")]
    Spike,
    /// Not a percentage.
    #[error(
        "'limit_percentage' and 'spike_limit_percentage' must be greater than zero and less than or equal to hundred"
    )]
    Percentage,
    /// Percentages the wrong way round.
    #[error("'spike_limit_percentage' must be smaller than 'limit_percentage'")]
    SpikePercentage,
}

/// The `memory_limiter` stage.
pub struct MemoryLimiter {
    id: String,
    limited: Arc<AtomicBool>,
    metrics: MemoryLimiterMetrics,
}

impl Config {
    /// Checks the configuration without starting anything.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.check_interval.is_zero() {
            return Err(ConfigError::CheckInterval);
        }
        if self.limit_mib == 0 && self.limit_percentage == 0 {
            return Err(ConfigError::NoLimit);
        }
        if self.limit_percentage > 100 || self.spike_limit_percentage > 100 {
            return Err(ConfigError::Percentage);
        }
        if self.limit_mib > 0 && self.spike_limit_mib >= self.limit_mib {
            return Err(ConfigError::Spike);
        }
        if self.limit_mib == 0 && self.spike_limit_percentage >= self.limit_percentage {
            return Err(ConfigError::SpikePercentage);
        }
        Ok(())
    }

    /// The resident size in bytes from which on data is refused: the limit less the expected spike.
    fn soft_limit(&self, total: u64) -> u64 {
        let percent = |share: u64| total / 100 * share;
        let (limit, spike) = match self.limit_mib {
            0 => (percent(self.limit_percentage), percent(self.spike_limit_percentage)),
            limit => (limit * MIB, self.spike_limit_mib * MIB),
        };
        limit - if spike == 0 { limit / 100 * DEFAULT_SPIKE_PERCENTAGE } else { spike }
    }
}

impl MemoryLimiter {
    /// Starts measuring; the measuring thread ends with the stage.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn new(id: impl Into<String>, config: &Config) -> Result<Self, ConfigError> {
        config.validate()?;
        let limited = Arc::new(AtomicBool::new(false));
        measure(Arc::downgrade(&limited), config.check_interval.get(), config.soft_limit(process::total_memory()));
        let id = id.into();
        Ok(MemoryLimiter { metrics: MemoryLimiterMetrics::new(&id), id, limited })
    }
}

impl Stage for MemoryLimiter {
    fn id(&self) -> &str {
        &self.id
    }

    fn apply(&self, request: &Request, _plan: &mut Plan) -> Result<(), Refusal> {
        let items = request.signal.items();
        if self.limited.load(Ordering::Relaxed) {
            self.metrics.refused(items, request.index.count);
            let message = "data refused due to high memory usage".into();
            return Err(Refusal::Overloaded { message, retry_after: RETRY_AFTER });
        }
        self.metrics.accepted(items, request.index.count);
        Ok(())
    }
}

/// A thread of its own, because a measurement must not wait for the async workers it protects.
fn measure(limited: Weak<AtomicBool>, interval: std::time::Duration, soft_limit: u64) {
    std::thread::spawn(move || {
        while let Some(limited) = limited.upgrade() {
            let now = process::resident_bytes().is_some_and(|resident| resident > soft_limit);
            if limited.swap(now, Ordering::Relaxed) != now {
                match now {
                    true => tracing::warn!(
                        soft_limit_bytes = soft_limit,
                        "memory usage is above the soft limit, refusing data"
                    ),
                    false => tracing::info!("memory usage is back below the soft limit, taking data again"),
                }
            }
            drop(limited);
            std::thread::sleep(interval);
        }
    });
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn config(limit_mib: u64, spike_limit_mib: u64, limit_percentage: u64, spike_limit_percentage: u64) -> Config {
        let check_interval = Duration::secs(1);
        Config {
            check_interval,
            limit_mib,
            spike_limit_mib,
            limit_percentage,
            spike_limit_percentage,
            ..Config::default()
        }
    }

    #[test]
    fn wrong_limits_are_refused_in_the_collectors_words() {
        assert_eq!(Config::default().validate(), Err(ConfigError::CheckInterval));
        assert_eq!(config(0, 0, 0, 0).validate(), Err(ConfigError::NoLimit));
        assert_eq!(config(100, 100, 0, 0).validate(), Err(ConfigError::Spike));
        assert_eq!(config(0, 0, 101, 0).validate(), Err(ConfigError::Percentage));
        assert_eq!(config(0, 0, 50, 50).validate(), Err(ConfigError::SpikePercentage));
        assert_eq!(config(100, 20, 0, 0).validate(), Ok(()));
    }

    #[test]
    fn the_soft_limit_is_the_limit_less_the_spike() {
        assert_eq!(config(100, 30, 0, 0).soft_limit(0), 70 * MIB);
        assert_eq!(config(0, 0, 80, 25).soft_limit(1000), 550);
        assert_eq!(config(0, 0, 50, 0).soft_limit(1000), 400);
    }
}
