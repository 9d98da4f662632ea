//! Whether tracegate works: one state that the service and its workers report to, and the `health_check` extension
//! that shows it to probes.

use super::{display_safe, http, timestamp::rfc3339};
use crate::net::tls::{Acceptor, TlsServer};
use axum::{
    Router,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use serde::Deserialize;
use std::{
    collections::BTreeSet,
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};
use tokio::net::TcpListener;

/// What a probe learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Not everything is up yet.
    Starting,
    /// Requests are taken.
    Ready,
    /// Shutting down: no new requests, the queues empty.
    Draining,
    /// These components have stopped although nobody asked them to.
    Unhealthy(Vec<String>),
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Status::Starting => f.write_str("starting"),
            Status::Ready => f.write_str("ready"),
            Status::Draining => f.write_str("draining"),
            Status::Unhealthy(components) => write!(f, "stopped: {}", components.join(", ")),
        }
    }
}

/// The state, shared by everybody who reports to it. Clones are the same state.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    failed: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Phase {
    #[default]
    Starting,
    Ready(SystemTime, Instant),
    Draining,
}

impl Health {
    /// A state that is starting.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything is up. Has no effect once draining began.
    pub fn ready(&self) {
        let mut state = self.state();
        if matches!(state.phase, Phase::Starting) {
            state.phase = Phase::Ready(SystemTime::now(), Instant::now());
        }
    }

    /// Shutdown began: from here on workers that end are expected to.
    pub fn draining(&self) {
        self.state().phase = Phase::Draining;
    }

    /// What holds now.
    pub fn status(&self) -> Status {
        let state = self.state();
        match state.phase {
            Phase::Draining => Status::Draining,
            _ if !state.failed.is_empty() => Status::Unhealthy(state.failed.iter().cloned().collect()),
            Phase::Starting => Status::Starting,
            Phase::Ready(..) => Status::Ready,
        }
    }

    /// Watches a worker: hold the guard as long as it runs. A guard that goes without [`Guard::finished`], because
    /// the worker returned early, panicked or was aborted, makes the state unhealthy, unless draining began.
    #[must_use = "dropping the guard reports the component as stopped"]
    pub fn guard(&self, component: impl Into<String>) -> Guard {
        Guard { health: self.clone(), component: Some(component.into()) }
    }

    /// Components that stopped although nobody asked them to.
    pub fn stopped(&self) -> Vec<String> {
        self.state().failed.iter().cloned().collect()
    }

    pub(super) fn up_since(&self) -> Option<(SystemTime, Duration)> {
        match self.state().phase {
            Phase::Ready(since, at) => Some((since, at.elapsed())),
            _ => None,
        }
    }

    /// A poisoned lock is no reason to stop telling: the state is two plain fields.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A worker's promise to run; see [`Health::guard`].
#[derive(Debug)]
pub struct Guard {
    health: Health,
    component: Option<String>,
}

impl Guard {
    /// The worker ended as it should.
    pub fn finished(mut self) {
        self.component = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(component) = self.component.take() {
            let mut state = self.health.state();
            if !matches!(state.phase, Phase::Draining) {
                state.failed.insert(component);
            }
        }
    }
}

/// Settings of the `health_check` extension.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub struct HealthCheck {
    /// Where to listen, `host:port`.
    pub endpoint: String,
    /// The path that answers; `/` answers on every path, as in the Collector.
    pub path: String,
    /// Bodies to answer with in place of the JSON.
    pub response_body: Option<ResponseBody>,
    /// TLS; without it probes are answered in the clear.
    pub tls: Option<TlsServer>,
}

/// Bodies of the answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResponseBody {
    /// With 200.
    pub healthy: String,
    /// With 503.
    pub unhealthy: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    endpoint: String,
    path: String,
    response_body: Option<ResponseBody>,
    tls: Option<TlsServer>,
    use_v2: bool,
    /// The Collector accepts this block and has long since stopped acting on it.
    #[serde(rename = "check_collector_pipeline")]
    _check_collector_pipeline: serde::de::IgnoredAny,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            endpoint: "127.0.0.1:13133".to_owned(),
            path: "/".to_owned(),
            response_body: None,
            tls: None,
            use_v2: false,
            _check_collector_pipeline: serde::de::IgnoredAny,
        }
    }
}

impl TryFrom<Raw> for HealthCheck {
    type Error = &'static str;

    fn try_from(raw: Raw) -> Result<Self, Self::Error> {
        if raw.endpoint.is_empty() {
            return Err("bad config: endpoint must be specified");
        }
        if raw.use_v2 {
            return Err("'use_v2' is not supported: remove it, and set 'endpoint' and 'path' in place of its 'http'");
        }
        if !raw.path.starts_with('/') {
            return Err("path must start with /");
        }
        if raw.path.contains(['{', '}', '?', '#']) || raw.path.contains(char::is_whitespace) {
            return Err("path must be a plain URL path");
        }
        Ok(Self { endpoint: raw.endpoint, path: raw.path, response_body: raw.response_body, tls: raw.tls })
    }
}

impl Default for HealthCheck {
    fn default() -> Self {
        let Raw { endpoint, path, response_body, tls, .. } = Raw::default();
        Self { endpoint, path, response_body, tls }
    }
}

/// Answers probes until `shutdown` resolves; over TLS where there is an acceptor.
pub async fn serve(
    listener: Arc<TcpListener>,
    tls: Option<Acceptor>,
    check: &HealthCheck,
    health: Health,
    shutdown: impl Future<Output = ()>,
) {
    let bodies = check.response_body.clone();
    let answer = any(move || {
        let answer = respond(&health, bodies.as_ref());
        async move { answer }
    });
    let router = match check.path.as_str() {
        "/" => Router::new().fallback_service(answer),
        path => Router::new().route(path, answer),
    };
    http::serve_with(tls, listener, router, shutdown).await;
}

fn respond(health: &Health, bodies: Option<&ResponseBody>) -> Response {
    let status = health.status();
    let healthy = status == Status::Ready;
    let code = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    match bodies {
        Some(bodies) => {
            let body = if healthy { &bodies.healthy } else { &bodies.unhealthy };
            (code, body.clone()).into_response()
        }
        None => {
            let json = [(header::CONTENT_TYPE, "application/json")];
            (code, json, body(&status, health.up_since().filter(|_| healthy))).into_response()
        }
    }
}

/// The Collector's body, its zero time included, and for a person who is looking for the reason, `reason`.
fn body(status: &Status, up: Option<(SystemTime, Duration)>) -> String {
    let body = match up {
        Some((since, uptime)) => serde_json::json!({
            "status": "Server available",
            "upSince": rfc3339(since),
            "uptime": go_duration(uptime),
        }),
        None => serde_json::json!({
            "status": "Server not available",
            "upSince": "0001-01-01T00:00:00Z",
            "uptime": "",
            "reason": display_safe(&status.to_string()),
        }),
    };
    body.to_string()
}

/// `1h2m3.5s`, to the millisecond.
fn go_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let (hours, minutes, seconds) = (millis / 3_600_000, millis / 60_000 % 60, millis % 60_000);
    let mut text = String::new();
    if hours > 0 {
        text.push_str(&format!("{hours}h"));
    }
    if hours > 0 || minutes > 0 {
        text.push_str(&format!("{minutes}m"));
    }
    let fraction = format!(".{:03}", seconds % 1000);
    text + &(seconds / 1000).to_string() + fraction.trim_end_matches('0').trim_end_matches('.') + "s"
}

#[cfg(test)]
mod tests;
