//! The metrics endpoint: the recorder behind the handles, and its text for a scraper.

use super::{http, names::Metric, process, recorders};
use axum::{Router, http::header, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::{
    collections::BTreeMap,
    fmt::Write,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{net::TcpListener, time};

/// The classic text format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How often recorded distributions are folded into their buckets when nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Buckets for sizes of requests: 1 KiB to 64 MiB, each four times the one before.
const BYTES_BUCKETS: [f64; 9] =
    [1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0, 67_108_864.0];

/// The Collector's buckets for the items of a batch.
const BATCH_ITEMS_BUCKETS: [f64; 22] = [
    10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2000.0, 3000.0, 4000.0, 5000.0, 6000.0, 7000.0, 8000.0,
    9000.0, 10_000.0, 20_000.0, 30_000.0, 50_000.0, 100_000.0,
];

/// The Collector's buckets for the bytes of a batch.
const BATCH_BYTES_BUCKETS: [f64; 18] = [
    128.0,
    256.0,
    512.0,
    1024.0,
    2048.0,
    4096.0,
    8192.0,
    16_384.0,
    32_768.0,
    65_536.0,
    131_072.0,
    262_144.0,
    524_288.0,
    1_048_576.0,
    2_097_152.0,
    4_194_304.0,
    8_388_608.0,
    16_777_216.0,
];

/// The metrics could not be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstallError {
    /// Something other than tracegate records this process's metrics.
    #[error("another metrics recorder is already installed in this process")]
    Taken,
    /// A defect in the buckets above.
    #[error("the metrics buckets are invalid")]
    Buckets,
}

/// Recorded metrics and how to show them.
#[derive(Clone, Debug)]
pub struct Prometheus {
    handle: PrometheusHandle,
    target: Arc<str>,
    started: Instant,
}

/// The one recorder of the process, once installed.
static INSTALLED: Mutex<Option<(PrometheusHandle, Instant)>> = Mutex::new(None);

impl Prometheus {
    /// Makes the process record its metrics. `resource` are attributes of `target_info`, such as `service.name`. A
    /// second call shares the first one's recorder.
    pub fn install(resource: &BTreeMap<String, String>) -> Result<Self, InstallError> {
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        let (handle, started) = match &*installed {
            Some((handle, started)) => (handle.clone(), *started),
            None => {
                let recorder = recorder()?;
                let handle = recorder.handle();
                metrics::set_global_recorder(recorder).map_err(|_| InstallError::Taken)?;
                recorders::describe();
                installed.insert((handle, Instant::now())).clone()
            }
        };
        Ok(Self { handle, started, target: target_info(resource).into() })
    }

    /// A recorder that is not the process's, with what shows it.
    #[cfg(test)]
    fn detached(resource: &BTreeMap<String, String>) -> (Self, PrometheusRecorder) {
        let recorder = recorder().unwrap_or_else(|error| panic!("{error}"));
        metrics::with_local_recorder(&recorder, recorders::describe);
        let handle = recorder.handle();
        (Self { handle, started: Instant::now(), target: target_info(resource).into() }, recorder)
    }

    /// Everything recorded, as text.
    pub fn render(&self) -> String {
        let mut text = self.handle.render();
        sample(&mut text, Metric::ProcessUptime, Some(self.started.elapsed().as_secs_f64()));
        sample(&mut text, Metric::ProcessCpuSeconds, process::cpu_time().map(|time| time.as_secs_f64()));
        #[allow(clippy::cast_precision_loss)] // exact below 8 PiB
        sample(&mut text, Metric::ProcessMemoryRss, process::resident_bytes().map(|bytes| bytes as f64));
        text.push_str(&self.target);
        text
    }

    /// Answers `GET /metrics` until `shutdown` resolves.
    pub async fn serve(&self, listener: Arc<TcpListener>, shutdown: impl Future<Output = ()>) {
        let shown = self.clone();
        let metrics = move || async move { ([(header::CONTENT_TYPE, CONTENT_TYPE)], shown.render()) };
        let router = Router::new().route("/metrics", get(metrics));
        tokio::select! {
            () = http::serve(listener, router, shutdown) => {}
            () = self.upkeep() => {}
        }
    }

    /// Keeps recorded distributions from growing; part of [`Prometheus::serve`].
    pub async fn upkeep(&self) {
        let mut ticks = time::interval(UPKEEP);
        loop {
            ticks.tick().await;
            self.handle.run_upkeep();
        }
    }
}

fn recorder() -> Result<PrometheusRecorder, InstallError> {
    let full = |metric: Metric| Matcher::Full(metric.name().to_owned());
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), &BYTES_BUCKETS)
        .and_then(|builder| builder.set_buckets_for_metric(full(Metric::BatchSendSize), &BATCH_ITEMS_BUCKETS))
        .and_then(|builder| builder.set_buckets_for_metric(full(Metric::BatchSendSizeBytes), &BATCH_BYTES_BUCKETS))
        .map_err(|_| InstallError::Buckets)?;
    Ok(builder.build_recorder())
}

/// Process metrics are read when asked for; what the system does not say is left out rather than shown as zero.
fn sample(text: &mut String, metric: Metric, value: Option<f64>) {
    let Some(value) = value else { return };
    let kind = match metric.kind() {
        super::names::Kind::Counter => "counter",
        _ => "gauge",
    };
    let (name, help) = (metric.name(), metric.help());
    // Writing to a String cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
}

fn target_info(resource: &BTreeMap<String, String>) -> String {
    let label = |(key, value): (&String, &String)| format!("{}=\"{}\"", label_name(key), label_value(value));
    let labels: Vec<String> = resource.iter().map(label).collect();
    format!("# HELP target_info Target metadata\n# TYPE target_info gauge\ntarget_info{{{}}} 1\n", labels.join(","))
}

/// `service.name` becomes `service_name`.
fn label_name(key: &str) -> String {
    let mut name: String = key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

fn label_value(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests;
