//! The Collector's `debug` exporter in YAML.

use crate::{
    config::{ConfigError, named},
    exporter::{Note, queue::QueueConfig},
};
use serde::{Deserialize, Deserializer, de::Error as _};

/// `exporters: debug:`, with the Collector's keys and defaults.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How much is printed.
    pub verbosity: Verbosity,
    /// Requests printed in each second before sampling begins.
    pub sampling_initial: u64,
    /// After that, one of this many is printed; 1 means all.
    pub sampling_thereafter: u64,
    /// True: output goes to standard output, apart from the log, which has its own place. False: to `output_paths`.
    pub use_internal_logger: bool,
    /// `stdout`, `stderr` or files, which are appended to. Absent means standard output.
    pub output_paths: Option<Vec<String>>,
    /// Accepted; a thread of its own prints, and nothing waits for it.
    pub sending_queue: Option<QueueConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            verbosity: Verbosity::Basic,
            sampling_initial: 2,
            sampling_thereafter: 1,
            use_internal_logger: true,
            output_paths: None,
            sending_queue: None,
        }
    }
}

/// How much is printed of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// One line with counts.
    Basic,
    /// Every span, log record and metric, long values shortened.
    Normal,
    /// Everything, in the Collector's layout.
    Detailed,
}

impl<'de> Deserialize<'de> for Verbosity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        match name.to_ascii_lowercase().as_str() {
            "basic" => Ok(Verbosity::Basic),
            "normal" => Ok(Verbosity::Normal),
            "detailed" => Ok(Verbosity::Detailed),
            _ => Err(D::Error::custom(format_args!(
                "verbosity level{} is not supported; use basic, normal or detailed",
                named(&name)
            ))),
        }
    }
}

impl Config {
    /// Checks the values, with the Collector's texts.
    ///
    /// # Errors
    /// [`ConfigError`] with its path below the exporter.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let invalid = |what: &str| Err(ConfigError::new("", what));
        if let Some(queue) = &self.sending_queue {
            queue.validate()?;
        }
        match &self.output_paths {
            Some(_) if self.use_internal_logger => {
                invalid("output_paths is not supported when use_internal_logger is true")
            }
            Some(paths) if paths.is_empty() => {
                invalid("output_paths must not be empty when use_internal_logger is false")
            }
            Some(paths) if paths.iter().any(String::is_empty) => {
                Err(ConfigError::new("output_paths", "a path must not be empty"))
            }
            _ => Ok(()),
        }
    }

    /// Keys that are taken and have no effect.
    pub fn notes(&self) -> Vec<Note> {
        let why = "requests are printed by a thread of its own, with at most 64 MiB waiting";
        self.sending_queue.iter().map(|_| Note { key: "sending_queue", why }).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_the_collectors() {
        let read = |value| serde_json::from_value::<Config>(value);
        assert_eq!(read(json!({})).unwrap(), Config::default());
        assert_eq!(read(json!({"verbosity": "detailed"})).unwrap().verbosity, Verbosity::Detailed);
        let error = |value: &str| read(json!({ "verbosity": value })).unwrap_err().to_string();
        assert_eq!(error("loud"), "verbosity level \"loud\" is not supported; use basic, normal or detailed");
        let misplaced = "sk-live-51H8xkqYvT0m";
        assert!(!error(misplaced).contains(misplaced));
        let error = |value| read(value).unwrap().validate().unwrap_err().to_string();
        assert_eq!(
            error(json!({"output_paths": ["stdout"]})),
            "output_paths is not supported when use_internal_logger is true"
        );
        assert_eq!(
            error(json!({"use_internal_logger": false, "output_paths": []})),
            "output_paths must not be empty when use_internal_logger is false"
        );
        let queued = read(json!({"sending_queue": {}})).unwrap();
        assert!(queued.validate().is_ok() && queued.notes().len() == 1);
    }
}
