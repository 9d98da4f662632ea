//! When to try again: exponential backoff with jitter (OTLP specification, "Failures"), the Collector's
//! `retry_on_failure`.

use crate::config::{ConfigError, types};
use serde::Deserialize;
use std::time::Duration;

/// The longest a backend's `RetryInfo` or `Retry-After` can hold a request back.
const MAX_THROTTLE: Duration = Duration::from_secs(3600);

/// How often and how long to try again.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryConfig {
    /// Whether to try again at all.
    pub enabled: bool,
    /// The first delay.
    pub initial_interval: types::Duration,
    /// Each delay is spread by this share in both directions.
    pub randomization_factor: f64,
    /// Growth from one delay to the next.
    pub multiplier: f64,
    /// The longest delay before spreading.
    pub max_interval: types::Duration,
    /// Total time after which the request is given up; zero means never.
    pub max_elapsed_time: types::Duration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        RetryConfig {
            enabled: true,
            initial_interval: types::Duration::secs(5),
            randomization_factor: 0.5,
            multiplier: 1.5,
            max_interval: types::Duration::secs(30),
            max_elapsed_time: types::Duration::secs(300),
        }
    }
}

impl RetryConfig {
    /// Checks the values against each other, with the Collector's texts.
    ///
    /// # Errors
    /// [`ConfigError`] with its path below the exporter.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let invalid = |what: &str| Err(ConfigError::new("retry_on_failure", what));
        if !self.enabled {
            return Ok(());
        }
        if self.randomization_factor.is_nan() || self.randomization_factor < 0.0 {
            return invalid("randomization_factor value must be greater than or equal to 0");
        }
        if self.randomization_factor > 1.0 {
            return invalid("randomization_factor value must be less than or equal to 1");
        }
        if self.multiplier < 0.0 || !self.multiplier.is_finite() {
            return invalid("multiplier value must be greater than or equal to 0");
        }
        if !self.max_elapsed_time.is_zero() {
            if self.max_elapsed_time < self.initial_interval {
                return invalid("'max_elapsed_time' must not be less than 'initial_interval'");
            }
            if self.max_elapsed_time < self.max_interval {
                return invalid("'max_elapsed_time' must not be less than 'max_interval'");
            }
        }
        Ok(())
    }
}

/// The delays of one request.
#[derive(Debug)]
pub(super) struct Backoff<'a> {
    config: &'a RetryConfig,
    interval: Duration,
}

impl<'a> Backoff<'a> {
    pub(super) fn new(config: &'a RetryConfig) -> Self {
        Backoff { config, interval: config.initial_interval.get() }
    }

    /// The delay before the next attempt, or `None` to give up. `elapsed` is the time since the first attempt began,
    /// `after` the backend's own wish, which is a lower bound.
    pub(super) fn next(&mut self, elapsed: Duration, after: Option<Duration>) -> Option<Duration> {
        self.next_with(elapsed, after, rand::random::<f64>())
    }

    fn next_with(&mut self, elapsed: Duration, after: Option<Duration>, random: f64) -> Option<Duration> {
        let config = self.config;
        if !config.enabled {
            return None;
        }
        let spread = 1.0 + config.randomization_factor * (2.0 * random - 1.0);
        let own = scale(self.interval, spread);
        self.interval = scale(self.interval, config.multiplier).min(config.max_interval.get());
        let delay = own.max(after.unwrap_or_default().min(MAX_THROTTLE));
        let ends = config.max_elapsed_time.get();
        (ends.is_zero() || elapsed.saturating_add(delay) <= ends).then_some(delay)
    }
}

/// `duration * factor`, saturating; `Duration::mul_f64` panics where a configured factor overflows it.
fn scale(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn secs(n: f64) -> Duration {
        Duration::from_secs_f64(n)
    }

    #[test]
    fn delays_grow_by_the_multiplier_to_the_longest() {
        let config = RetryConfig { max_elapsed_time: types::Duration::default(), ..RetryConfig::default() };
        let mut backoff = Backoff::new(&config);
        let delays: Vec<_> = (0..7).map(|_| backoff.next_with(Duration::ZERO, None, 0.5).unwrap()).collect();
        assert_eq!(delays, [5.0, 7.5, 11.25, 16.875, 25.3125, 30.0, 30.0].map(secs));
    }

    #[test]
    fn jitter_spreads_both_ways() {
        let config = RetryConfig::default();
        assert_eq!(Backoff::new(&config).next_with(Duration::ZERO, None, 0.0), Some(secs(2.5)));
        assert_eq!(Backoff::new(&config).next_with(Duration::ZERO, None, 1.0), Some(secs(7.5)));
    }

    #[test]
    fn the_backends_wish_is_a_lower_bound() {
        let config = RetryConfig { max_elapsed_time: types::Duration::default(), ..RetryConfig::default() };
        let next = |after| Backoff::new(&config).next_with(Duration::ZERO, Some(after), 0.5);
        assert_eq!(next(secs(20.0)), Some(secs(20.0)));
        assert_eq!(next(secs(1.0)), Some(secs(5.0)));
        assert_eq!(next(Duration::MAX), Some(MAX_THROTTLE));
    }

    #[test]
    fn gives_up_when_the_next_attempt_would_be_too_late() {
        let config = RetryConfig::default();
        let next = |elapsed, after| Backoff::new(&config).next_with(secs(elapsed), after, 0.5);
        assert!(next(295.0, None).is_some());
        assert_eq!(next(295.1, None), None);
        assert_eq!(next(0.0, Some(secs(301.0))), None);
        let off = RetryConfig { enabled: false, ..config };
        assert_eq!(Backoff::new(&off).next_with(Duration::ZERO, None, 0.5), None);
    }

    #[test]
    fn absurd_values_saturate() {
        let config = RetryConfig {
            multiplier: f64::MAX,
            max_interval: types::Duration(Duration::MAX),
            ..RetryConfig::default()
        };
        let mut backoff = Backoff::new(&config);
        backoff.next_with(Duration::ZERO, None, 0.5);
        assert_eq!(backoff.interval, Duration::MAX);
        assert_eq!(backoff.next_with(Duration::ZERO, None, 1.0), None);
    }

    #[test]
    fn validate_has_the_collectors_texts() {
        let text = |config: RetryConfig| config.validate().unwrap_err().to_string();
        let base = RetryConfig::default();
        assert_eq!(
            text(RetryConfig { max_elapsed_time: types::Duration::secs(4), ..base }),
            "retry_on_failure: 'max_elapsed_time' must not be less than 'initial_interval'"
        );
        assert_eq!(
            text(RetryConfig { max_elapsed_time: types::Duration::secs(29), ..base }),
            "retry_on_failure: 'max_elapsed_time' must not be less than 'max_interval'"
        );
        assert_eq!(
            text(RetryConfig { randomization_factor: -0.1, ..base }),
            "retry_on_failure: randomization_factor value must be greater than or equal to 0"
        );
        assert!(RetryConfig { randomization_factor: f64::NAN, ..base }.validate().is_err());
        assert!(RetryConfig { enabled: false, randomization_factor: -1.0, ..base }.validate().is_ok());
        assert!(RetryConfig { max_elapsed_time: types::Duration::default(), ..base }.validate().is_ok());
    }
}
