//! What tracegate says about itself: metrics, health, logs. Never anything from a payload.
//!
//! * [`names`] is every metric there is; [`recorders`] are the handles that parts of the program hold to record them;
//!   [`prometheus`] offers them to a scraper.
//! * [`health`] is one state that workers report to and probes read.
//! * [`logs`] writes structured lines; [`panics`] keeps payload out of panic messages; [`settings`] is the
//!   configuration of all this (`service::telemetry`).
//! * [`display_safe()`] makes text from a payload harmless where a person reads it.

mod display_safe;
pub mod health;
mod http;
pub mod logs;
pub mod names;
pub mod panics;
pub mod process;
pub mod prometheus;
pub mod recorders;
pub mod settings;
pub(crate) mod timestamp;

pub use display_safe::{display_safe, display_safe_lines};
pub use health::Health;
pub use names::{Items, Metric};
pub use prometheus::Prometheus;
pub use recorders::{
    BatchMetrics, ExporterMetrics, MaskMetrics, MemoryLimiterMetrics, PipelineMetrics, ReceiverMetrics,
};
pub use settings::Telemetry;
