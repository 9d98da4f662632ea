//! What tracegate says about itself: metrics, health, logs. Never anything from a payload.
//!
//! * [`names`] is every metric there is; [`recorders`] are the handles that parts of the program hold to record them;
//!   `registry` keeps their values; [`prometheus`] offers them to a scraper, as `exposition` writes them.
//! * [`health`] is one state that workers report to and probes read; [`zpages`] shows a person what runs.
//! * [`logs`] writes structured lines; [`panics`] keeps payload out of panic messages; [`settings`] is the
//!   configuration of all this (`service::telemetry`).
//! * [`display_safe()`] makes text from a payload harmless where a person reads it.

#[cfg(test)]
#[path = "../tests/support/attacks.rs"]
pub(crate) mod attacks;
mod display_safe;
mod exposition;
pub mod health;
mod http;
pub mod logs;
pub mod names;
mod otlp_metrics;
pub mod panics;
pub mod process;
pub mod prometheus;
pub mod recorders;
mod registry;
mod seldom;
pub mod settings;
pub(crate) mod timestamp;
pub mod zpages;

pub use display_safe::{display_safe, display_safe_html, display_safe_lines};
pub use exposition::Style;
pub use health::Health;
pub use names::{Detail, Metric};
pub use prometheus::Prometheus;
pub use recorders::{
    BatchMetrics, ConnectionMetrics, ExporterMetrics, InHandMetrics, MaskMetrics, MemoryLimiterMetrics, OpenConnection,
    PipelineMetrics, ReceiverMetrics, RejectedMetrics, StageMetrics,
};
pub use seldom::Seldom;
pub use settings::Telemetry;
