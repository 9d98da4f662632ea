//! Handles to record metrics with: made once per component, so that recording is an atomic addition.
//!
//! Labels are ids from the configuration and rule ids, never anything from a payload. A handle made before the
//! recorder is installed records nowhere; install [`super::Prometheus`] first.

mod exporter;
mod processor;
mod receiver;

pub use exporter::ExporterMetrics;
pub use processor::{BatchMetrics, MaskMetrics, MemoryLimiterMetrics, StageMetrics};
pub use receiver::{ConnectionMetrics, InHandMetrics, OpenConnection, ReceiverMetrics, RejectedMetrics};

use super::names::{Metric, PerSignal};
use crate::otlp::Signal;
use metrics::{Counter, Gauge, Histogram, Label};

/// What is recorded of a pipeline.
#[derive(Clone, Debug)]
pub struct PipelineMetrics {
    enforced: Gauge,
}

impl PipelineMetrics {
    /// For a pipeline's id.
    pub fn new(pipeline: &str) -> Self {
        Self { enforced: gauge(Metric::PipelineEnforced, &labels([("pipeline", pipeline)])) }
    }

    /// Whether the pipeline masks what passes.
    pub fn enforced(&self, enforced: bool) {
        self.enforced.set(if enforced { 1.0 } else { 0.0 });
    }
}

/// Counts a reload of the configuration.
pub fn config_reloaded(succeeded: bool) {
    let outcome = if succeeded { "success" } else { "failure" };
    counter(Metric::ConfigReloads, &labels([("outcome", outcome)])).increment(1);
}

/// What became of a request or of its items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Success,
    Refused,
    Failure,
}

impl Outcome {
    const ALL: [Outcome; 3] = [Outcome::Success, Outcome::Refused, Outcome::Failure];

    const fn name(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::Refused => "refused",
            Outcome::Failure => "failure",
        }
    }
}

/// Counters for each kind of item and outcome, of the pipeline telemetry: labels say which component, in the names of
/// the Collector's pipeline component telemetry.
#[derive(Clone, Debug)]
struct Flow([[Counter; 3]; 3]);

impl Flow {
    /// For the items a component has to do with; others are not counted.
    fn new(metric: Metric, kind: &str, id: &str, pipeline: Option<&str>, of: &[Signal]) -> Self {
        Self(Signal::ALL.map(|signal| {
            Outcome::ALL.map(|outcome| {
                if !of.contains(&signal) {
                    return Counter::noop();
                }
                let mut all = labels([
                    ("otelcol_component_id", id),
                    ("otelcol_component_kind", kind),
                    ("otelcol_signal", signal.name()),
                    ("outcome", outcome.name()),
                ]);
                all.extend(pipeline.map(|pipeline| Label::new("otelcol_pipeline_id", pipeline.to_owned())));
                counter(metric, &all)
            })
        }))
    }

    fn add(&self, signal: Signal, outcome: Outcome, count: u64) {
        self.0[signal as usize][outcome as usize].increment(count);
    }
}

/// Counters for each kind of item.
#[derive(Clone, Debug)]
struct ItemCounters([Counter; 3]);

impl ItemCounters {
    fn new(table: PerSignal, labels: &[Label]) -> Self {
        Self(table.map(|metric| counter(metric, labels)))
    }

    fn add(&self, signal: Signal, count: u64) {
        self.0[signal as usize].increment(count);
    }
}

/// One counter for each kind of item, told apart by the label `otel_signal`.
#[derive(Clone, Debug)]
struct ItemCounter([Counter; 3]);

impl ItemCounter {
    fn new(metric: Metric, labels: &[Label]) -> Self {
        Self(Signal::ALL.map(|signal| counter(metric, &with(labels, "otel_signal", signal.name()))))
    }

    fn add(&self, signal: Signal, count: u64) {
        self.0[signal as usize].increment(count);
    }
}

fn with(labels: &[Label], key: &'static str, value: &str) -> Vec<Label> {
    let mut labels = labels.to_vec();
    labels.push(Label::new(key, value.to_owned()));
    labels
}

fn labels<const N: usize>(pairs: [(&'static str, &str); N]) -> Vec<Label> {
    pairs.into_iter().map(|(key, value)| Label::new(key, value.to_owned())).collect()
}

fn counter(metric: Metric, labels: &[Label]) -> Counter {
    metrics::counter!(metric.name(), labels.to_vec())
}

fn gauge(metric: Metric, labels: &[Label]) -> Gauge {
    metrics::gauge!(metric.name(), labels.to_vec())
}

fn histogram(metric: Metric, labels: &[Label]) -> Histogram {
    metrics::histogram!(metric.name(), labels.to_vec())
}
