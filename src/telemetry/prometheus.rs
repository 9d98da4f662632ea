//! The metrics endpoint: the recorder behind the handles, and its text for a scraper.

use super::{
    Health,
    exposition::{Format, Style, render},
    http, logs,
    names::{Detail, Metric},
    otlp_metrics, process,
    registry::{Family, Point, Registry},
};
use axum::{
    Router,
    http::{HeaderMap, header},
    routing::get,
};
use bytes::Bytes;
use prost::Message;
use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::{Instant, SystemTime},
};
use tokio::net::TcpListener;

/// The metrics could not be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstallError {
    /// Something other than tracegate records this process's metrics.
    #[error("another metrics recorder is already installed in this process")]
    Taken,
}

/// Recorded metrics and how to show them. Clones show the same metrics.
#[derive(Clone, Debug)]
pub struct Prometheus {
    registry: Registry,
    /// Attributes of `target_info`.
    resource: Arc<[(String, String)]>,
    started: Instant,
    health: Option<Health>,
}

/// The one recorder of the process, once installed.
static INSTALLED: Mutex<Option<(Registry, Instant)>> = Mutex::new(None);

/// Forgets the series of this process that nobody holds a handle to any more, so that components which a reload took
/// out of the configuration leave no frozen numbers.
pub fn forget_unused() {
    let installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((registry, _)) = &*installed {
        registry.forget_unused();
    }
}

impl Prometheus {
    /// Makes the process record its metrics, as many as `detail` says. `resource` are attributes of `target_info`,
    /// such as `service.name`. A second call shares the first one's recorder and what it has recorded.
    ///
    /// # Errors
    /// [`InstallError`]
    pub fn install(resource: &BTreeMap<String, String>, detail: Detail) -> Result<Self, InstallError> {
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        let (registry, started) = match &*installed {
            Some((registry, started)) => (registry.clone(), *started),
            None => {
                let registry = Registry::new(detail);
                metrics::set_global_recorder(registry.clone()).map_err(|_| InstallError::Taken)?;
                installed.insert((registry, Instant::now())).clone()
            }
        };
        registry.set_detail(detail);
        Ok(Self { registry, started, resource: pairs(resource), health: None })
    }

    /// A recorder that is not the process's, with what shows it.
    #[cfg(test)]
    pub(super) fn detached(resource: &BTreeMap<String, String>, detail: Detail) -> (Self, Registry) {
        let registry = Registry::new(detail);
        let shown = registry.clone();
        (Self { registry: shown, started: Instant::now(), resource: pairs(resource), health: None }, registry)
    }

    /// The same metrics, with the number of parts that this health knows to have stopped.
    #[must_use]
    pub fn with_health(mut self, health: Health) -> Self {
        self.health = Some(health);
        self
    }

    /// Everything recorded, as text in the classic format.
    pub fn render(&self, style: &Style) -> String {
        self.text(style, Format::Classic)
    }

    fn text(&self, style: &Style, format: Format) -> String {
        render(&self.families(), &self.resource, style, format)
    }

    /// Everything recorded, and what is only read when somebody asks.
    fn families(&self) -> Vec<Family> {
        let mut families = self.registry.families();
        let mut read = |metric: Metric, value: Option<Point>| {
            // What the system does not say is left out rather than shown as zero.
            if let Some(point) = value.filter(|_| self.registry.shows(metric)) {
                families.push(Family { metric, series: vec![(Vec::new(), point)] });
            }
        };
        #[allow(clippy::cast_precision_loss)] // exact below 8 PiB
        let bytes = |bytes: Option<u64>| bytes.map(|bytes| Point::Number(bytes as f64));
        read(Metric::ProcessUptime, Some(Point::Number(self.started.elapsed().as_secs_f64())));
        read(Metric::ProcessCpuSeconds, process::cpu_time().map(|time| Point::Number(time.as_secs_f64())));
        read(Metric::ProcessMemoryRss, bytes(process::resident_bytes()));
        read(Metric::ProcessHeap, bytes(process::anonymous_bytes()));
        read(Metric::ProcessSystemMemory, bytes(process::mapped_bytes()));
        let stopped = self.health.as_ref().map(|health| health.stopped().len() as u64);
        read(Metric::UnhealthyComponents, bytes(stopped));
        if self.registry.shows(Metric::LogLinesDropped) {
            let series = logs::dropped()
                .map(|(level, lines)| (vec![("level".to_owned(), level.to_owned())], Point::Whole(lines)));
            families.push(Family { metric: Metric::LogLinesDropped, series: series.into() });
        }
        families
    }

    /// Everything recorded, as an OTLP request in protobuf.
    pub fn otlp(&self) -> Bytes {
        let now = SystemTime::now();
        let started = now - self.started.elapsed();
        otlp_metrics::request(&self.families(), &self.resource, started, now).encode_to_vec().into()
    }

    /// Answers `GET /metrics` in a reader's style until `shutdown` resolves.
    pub async fn serve(&self, listener: Arc<TcpListener>, style: Style, shutdown: impl Future<Output = ()>) {
        let (shown, style) = (self.clone(), Arc::new(style));
        let metrics = move |headers: HeaderMap| async move {
            let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
            let format = Format::negotiated(accept);
            ([(header::CONTENT_TYPE, format.content_type())], shown.text(&style, format))
        };
        http::serve(listener, Router::new().route("/metrics", get(metrics)), shutdown).await;
    }
}

fn pairs(resource: &BTreeMap<String, String>) -> Arc<[(String, String)]> {
    resource.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests;
