//! `tracegate demo`: the default pipeline on free loopback ports, a support agent's trace through the real OTLP port,
//! and what came out of the other side.

mod agent;
mod report;

use crate::{
    exporter::{Outgoing, Sender, otlp_grpc},
    otlp::Signal,
    pipeline::{Accepted, Ingest, Origin, Refusal},
    receiver,
    service::{self, Blueprint, Service},
};
use agent::Secrets;
use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use report::Style;
use std::{
    future::Future,
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::mpsc;

/// How long the spans may take from one port to the other.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs `demo`.
pub fn demo() -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?.block_on(play())
}

async fn play() -> anyhow::Result<()> {
    let style = Style { colour: io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() };
    let (backend, mut arrivals) = Backend::start().await?;
    let gateway = Service::start(configuration(backend.address)?).await?;
    let port = gateway.addresses().grpc.context("the gateway has no gRPC port")?;

    let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
    let secrets = Secrets::new(seed);
    let sent = agent::conversation(&secrets, seed);
    introduce(&sent, port, backend.address, style)?;
    send(port, &sent).await?;
    let arrived = tokio::time::timeout(PATIENCE, arrivals.recv()).await.ok().flatten();
    let arrived = arrived.context("nothing arrived at the backend in ten seconds")?;
    gateway.drain(PATIENCE).await;
    backend.receiver.drain(tokio::time::Instant::now() + PATIENCE).await;

    let mut out = io::stdout().lock();
    report::write(&mut out, &sent, &ExportTraceServiceRequest::decode(&arrived[..])?, style)?;
    check(&secrets, &arrived)?;
    conclude(&mut out, &secrets, style)?;
    Ok(())
}

/// The embedded default pipeline, on ports of its own, with a backend in place of the printer.
fn configuration(backend: SocketAddr) -> anyhow::Result<Blueprint> {
    let sources = service::forwarding_to(&backend.to_string())?;
    let free = "127.0.0.1:0";
    let sets = [
        format!("receivers.otlp.protocols.grpc.endpoint={free}"),
        format!("receivers.otlp.protocols.http.endpoint={free}"),
        format!("extensions.health_check.endpoint={free}"),
        "service.telemetry.metrics.level=none".to_owned(),
    ];
    Ok(Blueprint::read(&sources, &sets)?)
}

/// An OTLP backend that hands over what it is sent.
struct Backend {
    receiver: receiver::Receiver,
    address: SocketAddr,
}

struct Handover(mpsc::UnboundedSender<Bytes>);

impl Ingest for Handover {
    fn takes(&self, signal: Signal) -> bool {
        signal == Signal::Traces
    }

    fn export(
        &self,
        _: Signal,
        body: Bytes,
        _: Origin,
    ) -> Pin<Box<dyn Future<Output = Result<Accepted, Refusal>> + Send + '_>> {
        // The demo ends when it has what it waits for; later requests find nobody.
        let _ = self.0.send(body);
        Box::pin(std::future::ready(Ok(Accepted::default())))
    }
}

impl Backend {
    async fn start() -> anyhow::Result<(Backend, mpsc::UnboundedReceiver<Bytes>)> {
        let (arrive, arrivals) = mpsc::unbounded_channel();
        let settings = receiver::Settings {
            grpc: Some(receiver::settings::GrpcSettings { endpoint: "127.0.0.1:0".into(), ..Default::default() }),
            http: None,
            ..Default::default()
        };
        let ignore = Arc::new(|_, _, _| {});
        let receiver = receiver::Receiver::start("demo", &settings, Arc::new(Handover(arrive)), ignore).await?;
        let address = receiver.grpc_address().context("the demo's backend has no port")?;
        Ok((Backend { receiver, address }, arrivals))
    }
}

/// Sends the request as an SDK would: OTLP over gRPC.
async fn send(port: SocketAddr, request: &ExportTraceServiceRequest) -> anyhow::Result<()> {
    let config = otlp_grpc::Config { endpoint: format!("http://{port}"), ..otlp_grpc::Config::default() };
    let client = otlp_grpc::OtlpGrpc::new(&config).context("cannot make a client")?;
    let spans = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans).map(|scope| scope.spans.len());
    let request = Outgoing {
        signal: Signal::Traces,
        count: spans.sum::<usize>() as u64,
        parts: vec![request.encode_to_vec().into()],
    };
    client.send(&request).await.context("the gateway did not take the spans")?;
    Ok(())
}

/// Nothing planted may be anywhere in the bytes that arrived.
fn check(secrets: &Secrets, arrived: &[u8]) -> anyhow::Result<()> {
    let survives = |value: &str| arrived.windows(value.len()).any(|window| window == value.as_bytes());
    let survivors: Vec<_> = secrets.all().into_iter().filter(|planted| survives(&planted.value)).collect();
    ensure!(!arrived.is_empty(), "the request that arrived is empty");
    if !survivors.is_empty() {
        let what: Vec<_> = survivors.iter().map(|planted| planted.what).collect();
        bail!("still readable behind the gateway: {}; please report this", what.join(", "));
    }
    let changed: Vec<_> = agent::KEPT.into_iter().filter(|(_, value)| !survives(value)).map(|(what, _)| what).collect();
    ensure!(changed.is_empty(), "masked although it is no secret: {}; please report this", changed.join(", "));
    Ok(())
}

fn introduce(
    sent: &ExportTraceServiceRequest,
    gateway: SocketAddr,
    backend: SocketAddr,
    style: Style,
) -> io::Result<()> {
    let spans: usize = sent.resource_spans.iter().flat_map(|r| &r.scope_spans).map(|scope| scope.spans.len()).sum();
    let mut out = io::stdout().lock();
    writeln!(out, "\n{}", style.bold("tracegate demo"))?;
    writeln!(
        out,
        "\n  A support agent exports {spans} spans over OTLP/gRPC. Its prompt, tool arguments, tool results and an"
    )?;
    writeln!(out, "  exception carry made-up credentials and personal data.")?;
    writeln!(out, "\n  agent ──▶ tracegate {gateway} ──▶ backend {backend}")?;
    writeln!(out, "            memory_limiter ▸ identity ▸ mask")?;
    writeln!(out, "\n  What the agent sent, and what the backend received in its place:")
}

fn conclude(out: &mut impl Write, secrets: &Secrets, style: Style) -> io::Result<()> {
    let all = secrets.all();
    writeln!(
        out,
        "\n  {}",
        style.bold(&format!("None of the {} planted values is readable behind the gateway:", all.len()))
    )?;
    writeln!(out, "    {}", all.map(|planted| planted.what).join(", "))?;
    let kept = agent::KEPT.map(|(what, _)| what).join(", ");
    writeln!(out, "  Unchanged, though some look like secrets: {kept}.")?;
    writeln!(out, "\n{}", style.bold("Where to go next"))?;
    writeln!(
        out,
        "\n  tracegate                               listens on 127.0.0.1:4317 (gRPC) and :4318 (HTTP), prints masked spans"
    )?;
    writeln!(out, "  tracegate --to http://localhost:14317   forwards to your backend instead")?;
    writeln!(out, "  export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318        in the agent's environment")?;
    writeln!(out, "  tracegate mask --findings FILE          what would be masked in a file, by rule and place")?;
    writeln!(out, "  tracegate print-config > my.yaml        a configuration to start from, in the Collector's YAML\n")
}
