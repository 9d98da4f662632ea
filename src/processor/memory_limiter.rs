//! `memory_limiter`: refuses data, retryably, while the process uses more memory than it may.
//!
//! Keys, defaults and error texts are the Collector's, and so are the two limits: from the soft limit on (the limit
//! less the expected spike) data is refused; from the hard limit on clients are also told to stay away for longer. What
//! is measured is the resident memory of the process. There is no garbage collector to call: the keys that tune the
//! Collector's are checked as there, and do nothing.

mod total;

use crate::{
    config::types::Duration,
    pipeline::{Plan, Refusal, Request, Stage},
    telemetry::{MemoryLimiterMetrics, process},
};
use serde::Deserialize;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time,
};

const MIB: u64 = 1 << 20;
/// What a client is told to wait above the soft limit.
const RETRY_AFTER_SOFT: time::Duration = time::Duration::from_secs(1);
/// What a client is told to wait above the hard limit.
const RETRY_AFTER_HARD: time::Duration = time::Duration::from_secs(5);
/// The Collector's text.
const REFUSED: &str = "data refused due to high memory usage";

/// Configuration of `memory_limiter`, as the Collector has it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How often memory is measured. Required, more than zero.
    pub check_interval: Duration,
    /// Most memory of the process, in MiB; goes before `limit_percentage`.
    pub limit_mib: u32,
    /// Expected growth between two measurements, in MiB; 20 % of the limit when 0.
    pub spike_limit_mib: u32,
    /// Most memory, in percent of what the machine or its cgroup has.
    pub limit_percentage: u32,
    /// Expected growth, in percent of the same.
    pub spike_limit_percentage: u32,
    /// Checked for parity; there is no garbage collector.
    pub min_gc_interval_when_soft_limited: Duration,
    /// Checked for parity; there is no garbage collector.
    pub min_gc_interval_when_hard_limited: Duration,
    /// Checked for parity; there is no garbage collector.
    pub max_gc_interval_when_soft_limited: Duration,
    /// Checked for parity; there is no garbage collector.
    pub max_gc_interval_when_hard_limited: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            check_interval: Duration::default(),
            limit_mib: 0,
            spike_limit_mib: 0,
            limit_percentage: 0,
            spike_limit_percentage: 0,
            min_gc_interval_when_soft_limited: Duration::secs(10),
            min_gc_interval_when_hard_limited: Duration::default(),
            max_gc_interval_when_soft_limited: Duration::secs(30),
            max_gc_interval_when_hard_limited: Duration::secs(30),
        }
    }
}

/// Why a configuration cannot be used; the texts are the Collector's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No interval.
    #[error("'check_interval' must be greater than zero")]
    CheckInterval,
    /// The soft minimum is the smaller one.
    #[error("'min_gc_interval_when_soft_limited' should be larger than 'min_gc_interval_when_hard_limited'")]
    GcMin,
    /// The soft maximum is below its minimum.
    #[error(
        "'max_gc_interval_when_soft_limited' must be greater than or equal to 'min_gc_interval_when_soft_limited' (or \
         0 to disable)"
    )]
    GcMaxSoft,
    /// The hard maximum is below its minimum.
    #[error(
        "'max_gc_interval_when_hard_limited' must be greater than or equal to 'min_gc_interval_when_hard_limited' (or \
         0 to disable)"
    )]
    GcMaxHard,
    /// The soft maximum is the smaller one.
    #[error(
        "'max_gc_interval_when_soft_limited' should be larger than or equal to 'max_gc_interval_when_hard_limited' \
         (when both are set)"
    )]
    GcMax,
    /// No limit.
    #[error("'limit_mib' or 'limit_percentage' must be greater than zero")]
    NoLimit,
    /// Not a percentage.
    #[error(
        "'limit_percentage' and 'spike_limit_percentage' must be greater than zero and less than or equal to hundred"
    )]
    Percentage,
    /// The spike leaves no room.
    #[error("'spike_limit_mib' must be smaller than 'limit_mib'")]
    Spike,
    /// Percentages the wrong way round.
    #[error("'spike_limit_percentage' must be smaller than 'limit_percentage'")]
    SpikePercentage,
    /// A percentage of nobody knows what.
    #[error("failed to get total memory, use fixed memory settings (limit_mib)")]
    UnknownTotal,
}

/// The `memory_limiter` stage.
pub struct MemoryLimiter {
    id: String,
    level: Arc<Level>,
    metrics: MemoryLimiterMetrics,
}

impl Config {
    /// Checks the configuration without starting anything, in the order the Collector does.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn validate(&self) -> Result<(), ConfigError> {
        let (min_soft, min_hard) = (self.min_gc_interval_when_soft_limited, self.min_gc_interval_when_hard_limited);
        let (max_soft, max_hard) = (self.max_gc_interval_when_soft_limited, self.max_gc_interval_when_hard_limited);
        let wrong = [
            (self.check_interval.is_zero(), ConfigError::CheckInterval),
            (min_soft < min_hard, ConfigError::GcMin),
            (!max_soft.is_zero() && max_soft < min_soft, ConfigError::GcMaxSoft),
            (!max_hard.is_zero() && max_hard < min_hard, ConfigError::GcMaxHard),
            (!max_soft.is_zero() && !max_hard.is_zero() && max_soft < max_hard, ConfigError::GcMax),
            (self.limit_mib == 0 && self.limit_percentage == 0, ConfigError::NoLimit),
            (self.limit_percentage > 100 || self.spike_limit_percentage > 100, ConfigError::Percentage),
            (self.limit_mib > 0 && self.limit_mib <= self.spike_limit_mib, ConfigError::Spike),
            (
                self.limit_percentage > 0 && self.limit_percentage <= self.spike_limit_percentage,
                ConfigError::SpikePercentage,
            ),
        ];
        wrong.into_iter().find(|(is_so, _)| *is_so).map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Whether a key has another value than its default that only tunes the Collector's garbage collector.
    fn tunes_garbage_collection(&self) -> bool {
        let intervals = |config: &Config| {
            [
                config.min_gc_interval_when_soft_limited,
                config.min_gc_interval_when_hard_limited,
                config.max_gc_interval_when_soft_limited,
                config.max_gc_interval_when_hard_limited,
            ]
        };
        intervals(self) != intervals(&Config::default())
    }

    /// `total` is what percentages are of.
    fn limits(&self, total: Option<u64>) -> Result<Limits, ConfigError> {
        let (hard, spike) = match (self.limit_mib, total) {
            (0, None) => return Err(ConfigError::UnknownTotal),
            (0, Some(total)) => {
                let percent = |share: u32| {
                    let bytes = u128::from(share) * u128::from(total) / 100;
                    u64::try_from(bytes).unwrap_or(u64::MAX)
                };
                (percent(self.limit_percentage), percent(self.spike_limit_percentage))
            }
            (limit, _) => (u64::from(limit) * MIB, u64::from(self.spike_limit_mib) * MIB),
        };
        let spike = if spike == 0 { hard / 5 } else { spike };
        Ok(Limits { soft: hard.saturating_sub(spike), hard })
    }
}

/// Resident bytes from which on there is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    soft: u64,
    hard: u64,
}

/// How it stood at the last measurement.
#[derive(Debug)]
struct Level {
    limits: Limits,
    now: AtomicU8,
}

const NORMAL: u8 = 0;
const SOFT: u8 = 1;
const HARD: u8 = 2;

impl Level {
    fn new(limits: Limits) -> Self {
        Level { limits, now: AtomicU8::new(NORMAL) }
    }

    /// Takes a measurement in, and logs what changed by it.
    fn check(&self, resident: u64) {
        let Limits { soft, hard } = self.limits;
        let level = if resident >= hard { HARD } else { u8::from(resident >= soft) };
        let before = self.now.swap(level, Ordering::Relaxed);
        let resident_mib = resident / MIB;
        match level {
            _ if level == before => {}
            HARD => tracing::error!(
                resident_mib,
                hard_limit_mib = hard / MIB,
                "Memory usage is above hard limit. {REFUSED}"
            ),
            SOFT => tracing::warn!(
                resident_mib,
                soft_limit_mib = soft / MIB,
                "Memory usage is above soft limit. Refusing data."
            ),
            _ => tracing::info!(resident_mib, "Memory usage back within limits. Resuming normal operation."),
        }
    }

    /// How long clients are to stay away, if they are.
    fn refuses(&self) -> Option<time::Duration> {
        match self.now.load(Ordering::Relaxed) {
            NORMAL => None,
            SOFT => Some(RETRY_AFTER_SOFT),
            _ => Some(RETRY_AFTER_HARD),
        }
    }
}

impl MemoryLimiter {
    /// Starts measuring; the measuring thread ends with the stage.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn new(id: impl Into<String>, config: &Config) -> Result<Self, ConfigError> {
        config.validate()?;
        let limits = config.limits(total::total_memory())?;
        let id = id.into();
        tracing::info!(
            processor = id,
            soft_limit_mib = limits.soft / MIB,
            limit_mib = limits.hard / MIB,
            check_interval = ?config.check_interval.get(),
            "Memory limiter configured"
        );
        if config.tunes_garbage_collection() {
            tracing::warn!("processors::{id}: the gc intervals have no effect; there is no garbage collector");
        }
        let limiter =
            MemoryLimiter { metrics: MemoryLimiterMetrics::new(&id), id, level: Arc::new(Level::new(limits)) };
        // Once before the first request: a configuration is put in force again while memory is short.
        process::resident_bytes().into_iter().for_each(|resident| limiter.level.check(resident));
        limiter.measure(config.check_interval.get());
        Ok(limiter)
    }

    /// A thread of its own, because a measurement must not wait for the async workers it protects.
    fn measure(&self, interval: time::Duration) {
        let level = Arc::downgrade(&self.level);
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(interval);
                let Some(level) = level.upgrade() else { return };
                process::resident_bytes().into_iter().for_each(|resident| level.check(resident));
            }
        });
    }
}

impl Stage for MemoryLimiter {
    fn id(&self) -> &str {
        &self.id
    }

    fn apply(&self, request: &Request, _plan: &mut Plan) -> Result<(), Refusal> {
        let (signal, items) = (request.signal, request.index.count);
        if let Some(retry_after) = self.level.refuses() {
            self.metrics.refused(signal, items);
            return Err(Refusal::Overloaded { message: REFUSED.into(), retry_after });
        }
        self.metrics.accepted(signal, items);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{
        otlp::{Bounds, Signal},
        pipeline::{Metadata, Origin, Transport},
    };
    use serde_json::{Value, json};

    fn read(value: Value) -> Config {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn defaults_are_the_collectors() {
        let config = read(json!({}));
        assert_eq!(config.check_interval, Duration::default());
        assert_eq!(config.min_gc_interval_when_soft_limited, Duration::secs(10));
        assert_eq!(config.min_gc_interval_when_hard_limited, Duration::default());
        assert_eq!(config.max_gc_interval_when_soft_limited, Duration::secs(30));
        assert_eq!(config.max_gc_interval_when_hard_limited, Duration::secs(30));
    }

    #[test]
    fn what_is_wrong_is_refused_in_the_collectors_words() {
        let ok = json!({"check_interval": "1s", "limit_mib": 100, "spike_limit_mib": 20});
        read(ok.clone()).validate().unwrap();
        for (change, text) in [
            (json!({"check_interval": "0s"}), "'check_interval' must be greater than zero"),
            (
                json!({"min_gc_interval_when_hard_limited": "11s"}),
                "'min_gc_interval_when_soft_limited' should be larger than 'min_gc_interval_when_hard_limited'",
            ),
            (
                json!({"max_gc_interval_when_soft_limited": "9s"}),
                "'max_gc_interval_when_soft_limited' must be greater than or equal to \
                 'min_gc_interval_when_soft_limited' (or 0 to disable)",
            ),
            (
                json!({"min_gc_interval_when_hard_limited": "5s", "max_gc_interval_when_hard_limited": "4s"}),
                "'max_gc_interval_when_hard_limited' must be greater than or equal to \
                 'min_gc_interval_when_hard_limited' (or 0 to disable)",
            ),
            (
                json!({"max_gc_interval_when_hard_limited": "31s"}),
                "'max_gc_interval_when_soft_limited' should be larger than or equal to \
                 'max_gc_interval_when_hard_limited' (when both are set)",
            ),
            (
                json!({"limit_mib": 0, "spike_limit_mib": 0}),
                "'limit_mib' or 'limit_percentage' must be greater than zero",
            ),
            (
                json!({"limit_percentage": 101}),
                "'limit_percentage' and 'spike_limit_percentage' must be greater than zero and less than or equal to \
                 hundred",
            ),
            (json!({"spike_limit_mib": 100}), "'spike_limit_mib' must be smaller than 'limit_mib'"),
            (
                json!({"limit_percentage": 50, "spike_limit_percentage": 50}),
                "'spike_limit_percentage' must be smaller than 'limit_percentage'",
            ),
        ] {
            let mut value = ok.clone();
            value.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            assert_eq!(read(value).validate().unwrap_err().to_string(), text);
        }
        assert!(serde_json::from_value::<Config>(json!({"limit_mb": 1})).is_err());
    }

    #[test]
    fn the_soft_limit_is_the_limit_less_the_spike() {
        let limits = |value: Value, total| read(value).limits(total);
        let (mib, whole) = (|n| n * MIB, Some(1000));
        assert_eq!(
            limits(json!({"limit_mib": 100, "spike_limit_mib": 30}), None),
            Ok(Limits { soft: mib(70), hard: mib(100) })
        );
        assert_eq!(limits(json!({"limit_mib": 100}), whole), Ok(Limits { soft: mib(80), hard: mib(100) }));
        let percent = json!({"limit_percentage": 80, "spike_limit_percentage": 25});
        assert_eq!(limits(percent.clone(), whole), Ok(Limits { soft: 550, hard: 800 }));
        assert_eq!(limits(json!({"limit_percentage": 50}), whole), Ok(Limits { soft: 400, hard: 500 }));
        assert_eq!(limits(percent, None), Err(ConfigError::UnknownTotal));
        let both = json!({"limit_mib": 1, "limit_percentage": 50});
        assert_eq!(limits(both, whole), Ok(Limits { soft: MIB - MIB / 5, hard: MIB }), "the fixed one goes first");
    }

    #[test]
    fn data_is_refused_from_the_soft_limit_on_and_taken_again_below_it() {
        let level = Arc::new(Level::new(Limits { soft: 70, hard: 100 }));
        let limiter =
            MemoryLimiter { id: "memory_limiter".into(), level, metrics: MemoryLimiterMetrics::new("memory_limiter") };
        let origin = Origin {
            receiver: "otlp".into(),
            transport: Transport::Grpc,
            peer: None,
            metadata: Metadata::default(),
            principal: None,
        };
        let request = Request::read(Signal::Traces, bytes::Bytes::new(), origin, &Bounds::default()).unwrap();
        let refused = |resident| {
            limiter.level.check(resident);
            match limiter.apply(&request, &mut Plan::default()) {
                Ok(()) => None,
                Err(Refusal::Overloaded { message, retry_after }) => {
                    assert_eq!(message, "data refused due to high memory usage");
                    Some(retry_after)
                }
                Err(other) => panic!("{other:?}"),
            }
        };
        assert_eq!(refused(69), None);
        assert_eq!(refused(70), Some(RETRY_AFTER_SOFT));
        assert_eq!(refused(100), Some(RETRY_AFTER_HARD));
        assert_eq!(refused(99), Some(RETRY_AFTER_SOFT));
        assert_eq!(refused(69), None);
    }
}
