//! The metrics of this process, sent to an OTLP receiver in an interval: `readers: [{periodic: …}]`.

use crate::{
    compression::{Algorithm, Compression},
    config::{ConfigError, MapList, types},
    exporter::{Failure, Outgoing, Sender, Sent, TlsClient, otlp_grpc, otlp_http},
    otlp::Signal,
    telemetry::{
        Health, Prometheus,
        settings::{PeriodicReader, Protocol},
    },
};
use std::time::Duration;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};

/// Where it stands in the configuration.
const PATH: [&str; 4] = ["service", "telemetry", "metrics", "readers"];

/// For the last request, when the service stops.
const LAST: Duration = Duration::from_secs(2);

/// Sends metrics until it is dropped or closed.
#[derive(Debug)]
pub struct Push {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// How a request leaves.
enum Channel {
    Grpc(Box<otlp_grpc::OtlpGrpc>),
    Http(Box<otlp_http::OtlpHttp>),
}

/// Checks a reader without connecting or reading a file.
///
/// # Errors
/// [`ConfigError`] with the whole path.
pub fn validate(reader: &PeriodicReader) -> Result<(), ConfigError> {
    match reader.protocol {
        Protocol::Grpc => grpc(reader).validate(),
        Protocol::Http => http(reader).validate(),
    }
    .map_err(|error| error.under(&PATH))
}

impl Push {
    /// Begins to send. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`ConfigError`] when a certificate file cannot be used.
    pub fn start(reader: &PeriodicReader, metrics: Prometheus, health: &Health) -> Result<Push, ConfigError> {
        let channel = match reader.protocol {
            Protocol::Grpc => otlp_grpc::OtlpGrpc::new(&grpc(reader)).map(|sender| Channel::Grpc(Box::new(sender))),
            Protocol::Http => otlp_http::OtlpHttp::new(&http(reader)).map(|sender| Channel::Http(Box::new(sender))),
        }
        .map_err(|error| error.under(&PATH))?;
        let (stop, mut stopped) = watch::channel(false);
        let (period, patience) = (reader.interval, reader.timeout);
        let guard = health.guard("metrics reader");
        let task = tokio::spawn(async move {
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            // The first tick is at once, when there is nothing to tell yet.
            ticks.tick().await;
            loop {
                let last = tokio::select! {
                    _ = ticks.tick() => false,
                    // An error means that the service itself is gone.
                    _ = stopped.wait_for(|stopped| *stopped) => true,
                };
                channel.push(&metrics, if last { patience.min(LAST) } else { patience }).await;
                if last {
                    break;
                }
            }
            guard.finished();
        });
        Ok(Push { stop, task })
    }

    /// Sends a last time.
    pub async fn close(self) {
        self.stop.send_replace(true);
        // A panic was reported by the guard.
        let _ = self.task.await;
    }
}

impl Channel {
    /// What does not arrive is not sent again: the next request has the same sums.
    async fn push(&self, metrics: &Prometheus, patience: Duration) {
        let request = Outgoing { signal: Signal::Metrics, parts: vec![metrics.otlp()], count: 1 };
        match timeout(patience, self.send(&request)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "tracegate's own metrics were not taken"),
            Err(_) => tracing::warn!("tracegate's own metrics were not taken in time"),
        }
    }

    async fn send(&self, request: &Outgoing) -> Result<Sent, Failure> {
        match self {
            Channel::Grpc(sender) => sender.send(request).await,
            Channel::Http(sender) => sender.send(request).await,
        }
    }
}

fn grpc(reader: &PeriodicReader) -> otlp_grpc::Config {
    otlp_grpc::Config {
        endpoint: reader.endpoint.clone(),
        timeout: types::Duration(reader.timeout),
        compression: compression(reader),
        headers: MapList(reader.headers.clone()),
        tls: TlsClient { insecure: reader.insecure, ..tls(reader) },
        ..otlp_grpc::Config::default()
    }
}

/// An endpoint with a path is used as it is; otherwise `/v1/metrics` is appended.
fn http(reader: &PeriodicReader) -> otlp_http::Config {
    let authority = reader.endpoint.split_once("://").map_or(reader.endpoint.as_str(), |(_, rest)| rest);
    let has_path = authority.split_once('/').is_some_and(|(_, path)| !path.is_empty());
    let (whole, base) = if has_path { (reader.endpoint.as_str(), "") } else { ("", reader.endpoint.as_str()) };
    otlp_http::Config {
        endpoint: base.to_owned(),
        metrics_endpoint: whole.to_owned(),
        timeout: types::Duration(reader.timeout),
        compression: compression(reader),
        headers: MapList(reader.headers.clone()),
        tls: tls(reader),
        ..otlp_http::Config::default()
    }
}

fn compression(reader: &PeriodicReader) -> Compression {
    if reader.gzip { Compression::By(Algorithm::Gzip) } else { Compression::None }
}

fn tls(reader: &PeriodicReader) -> TlsClient {
    TlsClient {
        ca_file: reader.certificate.clone(),
        cert_file: reader.client_certificate.clone(),
        key_file: reader.client_key.clone(),
        ..TlsClient::default()
    }
}
