//! `tracegate run`: the gateway, from ready to drained.

use super::{RunArgs, sources};
use crate::{
    config::ConfigError,
    service::{self, Blueprint, Service},
    telemetry,
};
use anyhow::Context;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How long stopping may take: below the 30 seconds after which Kubernetes kills.
const DRAIN: Duration = Duration::from_secs(20);

/// Runs `run`.
pub fn run(args: &RunArgs) -> anyhow::Result<()> {
    let blueprint = read(args)?;
    telemetry::logs::init(&blueprint.telemetry.logs).context("cannot set up logging")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    let outcome = runtime.block_on(serve(blueprint, args));
    // What is still blocked on a file or a name lookup must not hold up the exit.
    runtime.shutdown_background();
    outcome
}

fn read(args: &RunArgs) -> Result<Blueprint, anyhow::Error> {
    let sources = match &args.to {
        Some(endpoint) => service::forwarding_to(endpoint)?,
        None => sources(&args.config)?,
    };
    let read: Result<Blueprint, ConfigError> = Blueprint::read(&sources, &args.config.set);
    let mut blueprint = read.context("invalid configuration")?;
    if !args.config.feature_gates.is_empty() {
        blueprint.warnings.push("--feature-gates: ignored, tracegate has no feature gates".to_owned());
    }
    Ok(blueprint)
}

async fn serve(blueprint: Blueprint, args: &RunArgs) -> anyhow::Result<()> {
    // Before anything listens: a signal during the start must not kill the process halfway.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut service = Service::start(blueprint).await?;
    let cause = loop {
        tokio::select! {
            _ = terminate.recv() => break "SIGTERM",
            _ = interrupt.recv() => break "SIGINT",
            _ = hangup.recv() => {}
        }
        // Files may be slow, or pipes that nobody writes to: stopping does not wait for them.
        tokio::select! {
            biased;
            _ = terminate.recv() => break "SIGTERM",
            _ = interrupt.recv() => break "SIGINT",
            () = reload(&mut service, args) => {}
        }
    };
    tracing::info!(
        signal = cause,
        deadline_seconds = DRAIN.as_secs(),
        "stopping: no new requests, sending what is queued"
    );
    let backlog = service.backlog();
    let drain = service.drain(DRAIN);
    tokio::select! {
        given_up = drain => tracing::info!(items_given_up = given_up, "stopped"),
        // Whoever asks twice does not want to wait.
        _ = async { tokio::select! { _ = terminate.recv() => (), _ = interrupt.recv() => () } } => {
            let items = backlog.items();
            tracing::warn!(items, "stopped at once by a second signal; what was queued is lost");
        }
    }
    Ok(())
}

/// Reads the configuration again and puts it in force; one that is wrong changes nothing.
async fn reload(service: &mut Service, args: &RunArgs) {
    tracing::info!(signal = "SIGHUP", "reading the configuration again");
    let args = args.clone();
    let outcome = match tokio::task::spawn_blocking(move || read(&args)).await {
        Ok(Ok(blueprint)) => service.reload(blueprint).await.map_err(anyhow::Error::from),
        Ok(Err(error)) => Err(error),
        Err(error) => Err(error.into()),
    };
    if let Err(error) = outcome {
        telemetry::recorders::config_reloaded(false);
        tracing::error!(
            error = format!("{error:#}"),
            "the configuration was not reloaded; the one before stays in force"
        );
    }
}
