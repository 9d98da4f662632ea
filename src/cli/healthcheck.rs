//! `tracegate healthcheck`: asks the running gateway how it is, for container engines and exec probes. Images that
//! have no shell and no curl have this.

use super::ConfigArgs;
use crate::{
    config::{self, Document, Layout, Section},
    service::KINDS,
    telemetry::{display_safe, health::HealthCheck},
};
use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use clap::Args;
use http::{Request, StatusCode, Uri, header, uri::Authority};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};
use tokio::net::TcpStream;

/// Where the extension listens when nothing is configured.
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:13133/";

/// An answer is some hundred bytes; a server that sends more is not read to its end.
const MAX_BODY: usize = 64 * 1024;

/// What of a reason is shown, in characters.
const MAX_REASON: usize = 200;

/// Which gateway to ask.
#[derive(Debug, Args)]
pub struct HealthcheckArgs {
    /// Where its health_check extension answers: http://HOST:PORT/PATH, or HOST:PORT
    #[arg(long, value_name = "URL", conflicts_with_all = ["config", "set"], default_value = DEFAULT_ENDPOINT)]
    endpoint: String,
    /// Seconds to wait for the answer, connection included
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Runs `healthcheck`: 0 and a line on standard output if the gateway takes requests, otherwise 1 and a line on
/// standard error that says why not.
pub fn healthcheck(args: &HealthcheckArgs) -> anyhow::Result<()> {
    let target = if args.config.config.is_empty() && args.config.set.is_empty() {
        Target::parse(&args.endpoint).context("--endpoint")?
    } else {
        configured(&args.config)?
    };
    let timeout = Duration::from_secs(args.timeout);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let answer = runtime.block_on(async { tokio::time::timeout(timeout, ask(&target)).await });
    // A name lookup that hangs must not outlive the timeout.
    runtime.shutdown_background();
    let (status, body) = match answer {
        Err(_) => bail!("unhealthy: {target} did not answer within {} s", args.timeout),
        Ok(answer) => answer.with_context(|| format!("unhealthy: {target}"))?,
    };
    if !status.is_success() {
        bail!("unhealthy: {target} answered {}{}", status.as_u16(), reason(&body));
    }
    writeln!(std::io::stdout(), "healthy: {target} answered {}", status.as_u16())?;
    Ok(())
}

/// Where to ask.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    /// Host and port.
    authority: Authority,
    path: String,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

impl Target {
    fn parse(url: &str) -> anyhow::Result<Target> {
        let absolute = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let uri: Uri = absolute.parse().map_err(|_| anyhow!("not a URL: write http://127.0.0.1:13133/"))?;
        if uri.scheme_str() != Some("http") {
            bail!("only http:// is supported; health is served without TLS");
        }
        let authority = uri.authority().ok_or_else(|| anyhow!("has no host: write http://127.0.0.1:13133/"))?;
        if authority.as_str().contains('@') {
            bail!("must not have a user name or password");
        }
        match authority.port_u16() {
            None => bail!("needs a port: write http://127.0.0.1:13133/"),
            Some(0) => bail!("port 0 is chosen when the gateway starts; name the port of its ready line"),
            Some(_) => (),
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Target { authority: authority.clone(), path })
    }

    /// Where a configured listener can be reached from this machine: one that listens on every address is asked on
    /// loopback.
    fn listening(check: &HealthCheck) -> anyhow::Result<Target> {
        let (host, port) = check.endpoint.rsplit_once(':').ok_or_else(|| anyhow!("missing port in address"))?;
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        let host = match address {
            _ if host.is_empty() => Ipv4Addr::LOCALHOST.to_string(),
            Some(IpAddr::V4(any)) if any.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
            Some(IpAddr::V6(any)) if any.is_unspecified() => format!("[{}]", Ipv6Addr::LOCALHOST),
            _ => host.to_owned(),
        };
        Target::parse(&format!("http://{host}:{port}{}", check.path))
    }
}

/// The endpoint and path of the `health_check` that the configuration starts.
fn configured(args: &ConfigArgs) -> anyhow::Result<Target> {
    let loaded = config::load(&super::sources(args)?, &args.set).context("invalid configuration")?;
    let document: Document = loaded.document;
    let layout = Layout::from(&document, &KINDS).context("invalid configuration")?;
    let id = layout
        .service_extensions
        .iter()
        .find(|id| KINDS.resolve(Section::Extensions, id) == Some("health_check"))
        .ok_or_else(|| {
            anyhow!("service::extensions: the configuration starts no health_check, so nobody can be asked")
        })?;
    let name = id.to_string();
    let path = [Section::Extensions.key(), &name];
    let check: HealthCheck = document.section(&path).context("invalid configuration")?;
    if check.tls.is_some() {
        bail!(
            "{}::tls: health is served over TLS, which healthcheck does not speak; use a probe that does",
            path.join("::")
        );
    }
    Target::listening(&check).with_context(|| format!("{}::endpoint", path.join("::")))
}

/// One request on a connection of its own. Proxies are not used and redirects are not followed.
async fn ask(target: &Target) -> anyhow::Result<(StatusCode, Bytes)> {
    let stream = TcpStream::connect(target.authority.as_str()).await.context("cannot connect")?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.context("cannot connect")?;
    let request = Request::get(&target.path)
        .header(header::HOST, target.authority.as_str())
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    // Whatever ends the connection, the exchange below learns of it.
    tokio::spawn(connection);
    let response = sender.send_request(request).await.context("no HTTP answer")?;
    let status = response.status();
    // The status is the answer; the body only explains it.
    let body = Limited::new(response.into_body(), MAX_BODY).collect().await.map(|body| body.to_bytes());
    Ok((status, body.unwrap_or_default()))
}

/// Why it is not healthy, if the answer says so.
fn reason(body: &[u8]) -> String {
    let Ok(answer) = serde_json::from_slice::<serde_json::Value>(body) else { return String::new() };
    let Some(reason) = answer.get("reason").or_else(|| answer.get("status")).and_then(|reason| reason.as_str()) else {
        return String::new();
    };
    let short: String = reason.chars().take(MAX_REASON).collect();
    format!(" ({})", display_safe(&short))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn listening(endpoint: &str, path: &str) -> String {
        let check = HealthCheck { endpoint: endpoint.to_owned(), path: path.to_owned(), ..HealthCheck::default() };
        Target::listening(&check).map_or_else(|error| error.to_string(), |target| target.to_string())
    }

    #[test]
    fn a_listener_on_every_address_is_asked_on_loopback() {
        for (endpoint, expected) in [
            ("127.0.0.1:13133", "http://127.0.0.1:13133/"),
            ("0.0.0.0:13133", "http://127.0.0.1:13133/"),
            (":13133", "http://127.0.0.1:13133/"),
            ("[::]:13133", "http://[::1]:13133/"),
            ("[::1]:1", "http://[::1]:1/"),
            ("localhost:13133", "http://localhost:13133/"),
            ("10.0.0.7:80", "http://10.0.0.7:80/"),
        ] {
            assert_eq!(listening(endpoint, "/"), expected, "{endpoint}");
        }
        assert_eq!(listening("0.0.0.0:1", "/live/z"), "http://127.0.0.1:1/live/z");
        assert_eq!(listening("nowhere", "/"), "missing port in address");
        assert!(listening("127.0.0.1:0", "/").contains("port 0"));
    }

    #[test]
    fn endpoints_that_cannot_be_asked_are_refused() {
        let parse =
            |text: &str| Target::parse(text).map_or_else(|error| error.to_string(), |target| target.to_string());
        assert_eq!(parse("127.0.0.1:13133"), "http://127.0.0.1:13133/");
        assert_eq!(parse("http://[::1]:1/a?b=c"), "http://[::1]:1/a?b=c");
        for (text, expected) in [
            ("https://localhost:13133", "only http://"),
            ("http://localhost", "needs a port"),
            ("http://localhost:0/", "port 0"),
            ("http://user:hush@localhost:13133/", "user name or password"),
            ("http://local host:1/", "not a URL"),
            ("", "not a URL"),
            ("unix:///run/health", "not a URL"),
        ] {
            let error = parse(text);
            assert!(error.contains(expected) && !error.contains("hush"), "{text}: {error}");
        }
    }

    #[test]
    fn a_reason_is_short_and_harmless() {
        assert_eq!(reason(br#"{"status":"Server not available","reason":"draining"}"#), " (draining)");
        assert_eq!(reason(br#"{"status":"Server not available"}"#), " (Server not available)");
        assert_eq!(reason("{\"reason\":\"a\\u001b[31m\\nb\"}".as_bytes()), " (a\\u{1b}[31m\\nb)");
        assert_eq!(reason(format!("{{\"reason\":\"{}\"}}", "x".repeat(5000)).as_bytes()).len(), MAX_REASON + 3);
        for other in [&b"not json"[..], b"", b"[1]", b"{\"reason\": 1}"] {
            assert_eq!(reason(other), "");
        }
    }
}
