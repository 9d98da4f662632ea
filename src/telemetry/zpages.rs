//! The `zpages` extension: what is configured and running, as plain HTML for a person's browser. Ids come from the
//! configuration, and still go through [`display_safe_html`].

use super::{Health, display_safe::display_safe_html, http, timestamp::rfc3339};
use arc_swap::ArcSwap;
use axum::{
    Router,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;
use std::{
    fmt::Write,
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::net::TcpListener;

/// Settings of the `zpages` extension.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub struct Zpages {
    /// Where to listen, `host:port`.
    pub endpoint: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    endpoint: String,
    expvar: Expvar,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Expvar {
    enabled: bool,
}

impl Default for Raw {
    fn default() -> Self {
        Self { endpoint: "localhost:55679".to_owned(), expvar: Expvar::default() }
    }
}

impl TryFrom<Raw> for Zpages {
    type Error = &'static str;

    fn try_from(raw: Raw) -> Result<Self, Self::Error> {
        if raw.endpoint.is_empty() {
            return Err("\"endpoint\" is required when using the \"zpages\" extension");
        }
        if raw.expvar.enabled {
            return Err("'expvar' shows variables of the Go runtime, which is not here: remove it");
        }
        Ok(Self { endpoint: raw.endpoint })
    }
}

/// What the pages show of the service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Running {
    /// Names and values for the first page: version, addresses.
    pub facts: Vec<(String, String)>,
    /// Pipelines in order.
    pub pipelines: Vec<PipelineRow>,
    /// Ids of extensions that run.
    pub extensions: Vec<String>,
}

/// A pipeline; every text is a list of ids or a word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PipelineRow {
    /// Its id.
    pub id: String,
    /// Whether it masks.
    pub masks: bool,
    /// Its receivers.
    pub receivers: Vec<String>,
    /// Its processors, in order.
    pub processors: Vec<String>,
    /// Its exporters.
    pub exporters: Vec<String>,
}

/// Answers until `shutdown` resolves, with what `running` is at the time of a request.
pub async fn serve(
    listener: Arc<TcpListener>,
    running: Arc<ArcSwap<Running>>,
    health: Health,
    shutdown: impl Future<Output = ()>,
) {
    let page = |body: fn(&Running, &Health) -> String| {
        let (running, health) = (running.clone(), health.clone());
        get(move || async move { html(StatusCode::OK, &body(&running.load(), &health)) })
    };
    let router = Router::new()
        .route("/", page(index))
        .route("/debug/servicez", page(servicez))
        .route("/debug/pipelinez", page(pipelinez))
        .route("/debug/extensionz", page(extensionz))
        .route("/debug/featurez", page(featurez))
        .route("/debug/tracez", page(tracez))
        .fallback(|| async { html(StatusCode::NOT_FOUND, "<h1>404 page not found</h1>") });
    http::serve(listener, router, shutdown).await;
}

/// Nothing on these pages is a script, a style or a frame, and nothing may become one.
fn html(status: StatusCode, body: &str) -> Response {
    let page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>tracegate</title></head>\n\
         <body>\n{body}\n</body></html>\n"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, page).into_response()
}

fn index(_: &Running, _: &Health) -> String {
    let link = |name: &str| format!("<li><a href=\"/debug/{name}\">{name}</a></li>");
    let links: String =
        ["servicez", "pipelinez", "extensionz", "featurez", "tracez"].iter().map(|it| link(it)).collect();
    format!("<h1>tracegate</h1>\n<ul>{links}</ul>")
}

fn servicez(running: &Running, health: &Health) -> String {
    let mut rows = vec![vec!["Status".to_owned(), health.status().to_string()]];
    if let Some((since, uptime)) = health.up_since() {
        rows.push(vec!["Ready since".to_owned(), rfc3339(since)]);
        rows.push(vec!["Uptime".to_owned(), seconds(uptime)]);
    }
    rows.push(vec!["Now".to_owned(), rfc3339(SystemTime::now())]);
    rows.extend(running.facts.iter().map(|(name, value)| vec![name.clone(), value.clone()]));
    format!("<h1>Service</h1>\n{}{}", table(&["", ""], &rows), index(running, health))
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}

fn pipelinez(running: &Running, _: &Health) -> String {
    let row = |pipeline: &PipelineRow| {
        vec![
            pipeline.id.clone(),
            if pipeline.masks { "yes" } else { "no" }.to_owned(),
            pipeline.receivers.join(", "),
            pipeline.processors.join(", "),
            pipeline.exporters.join(", "),
        ]
    };
    let rows: Vec<Vec<String>> = running.pipelines.iter().map(row).collect();
    format!("<h1>Pipelines</h1>\n{}", table(&["Pipeline", "Masks", "Receivers", "Processors", "Exporters"], &rows))
}

fn extensionz(running: &Running, _: &Health) -> String {
    let rows: Vec<Vec<String>> = running.extensions.iter().map(|id| vec![id.clone()]).collect();
    format!("<h1>Extensions</h1>\n{}", table(&["Extension"], &rows))
}

fn featurez(_: &Running, _: &Health) -> String {
    "<h1>Feature gates</h1>\n<p>tracegate has none: what it does is what its configuration says.</p>".to_owned()
}

fn tracez(_: &Running, _: &Health) -> String {
    "<h1>Traces</h1>\n<p>tracegate makes no spans of its own, so there are none to show. How long its stages take is in \
     the metrics, as tracegate_stage_duration.</p>"
        .to_owned()
}

fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let mut out = "<table border=\"1\">\n<tr>".to_owned();
    for head in heads {
        // Writing to a String cannot fail.
        let _ = write!(out, "<th>{}</th>", display_safe_html(head));
    }
    out.push_str("</tr>\n");
    for row in rows {
        out.push_str("<tr>");
        for cell in row {
            let _ = write!(out, "<td>{}</td>", display_safe_html(cell));
        }
        out.push_str("</tr>\n");
    }
    out + "</table>\n"
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::telemetry::{attacks, http::tests::get};
    use tokio::sync::oneshot;

    fn read(text: &str) -> Result<Zpages, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn settings() {
        assert_eq!(read("{}").unwrap().endpoint, "localhost:55679");
        assert_eq!(
            read(r#"{"endpoint": "127.0.0.1:1", "expvar": {"enabled": false}}"#).unwrap().endpoint,
            "127.0.0.1:1"
        );
        assert!(read(r#"{"endpoint": ""}"#).unwrap_err().starts_with("\"endpoint\" is required"));
        assert!(read(r#"{"expvar": {"enabled": true}}"#).unwrap_err().starts_with("'expvar' shows"));
        assert!(read(r#"{"endpont": ""}"#).is_err());
    }

    #[tokio::test]
    async fn pages_show_what_runs_and_nothing_leaves_its_cell() {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let evil = "<script>alert(1)</script>&\"'\u{202e}\u{1b}[2J";
        let running = Running {
            facts: vec![("Version".to_owned(), "1.2.3".to_owned())],
            pipelines: vec![PipelineRow {
                id: "traces/x".to_owned(),
                masks: true,
                receivers: vec!["otlp".to_owned()],
                processors: vec!["mask".to_owned(), "identity".to_owned()],
                exporters: vec![evil.to_owned()],
            }],
            extensions: vec!["zpages".to_owned(), evil.to_owned()],
        };
        let health = Health::new();
        health.ready();
        let server = tokio::spawn(serve(listener, Arc::new(ArcSwap::from_pointee(running)), health.clone(), async {
            drop(stopped.await)
        }));
        for (path, want) in [
            ("/", "<a href=\"/debug/servicez\">"),
            ("/debug/servicez", "<td>Version</td><td>1.2.3</td>"),
            ("/debug/servicez", "<td>Status</td><td>ready</td>"),
            ("/debug/pipelinez", "<td>traces/x</td><td>yes</td><td>otlp</td><td>mask, identity</td>"),
            ("/debug/extensionz", "<td>zpages</td>"),
            ("/debug/featurez", "has none"),
            ("/debug/tracez", "no spans of its own"),
        ] {
            let answer = get(address, "GET", path).await;
            assert_eq!(answer.status, 200, "{path}");
            assert_eq!(answer.content_type.as_deref(), Some("text/html; charset=utf-8"));
            assert!(answer.body.contains(want), "{want}: {}", answer.body);
            assert!(
                !answer.body.contains("<script") && !answer.body.contains(['\u{202e}', '\u{1b}']),
                "{}",
                answer.body
            );
        }
        let evil = get(address, "GET", "/debug/extensionz").await.body;
        assert!(evil.contains("&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;&#39;\\u{202e}\\u{1b}[2J"), "{evil}");
        let missing = get(address, "GET", "/debug/%3Cscript%3E").await;
        assert!(missing.status == 404 && !missing.body.contains("<script"), "{}", missing.body);
        assert_eq!(get(address, "POST", "/debug/servicez").await.status, 405);
        stop.send(()).unwrap();
        server.await.unwrap();
    }

    #[test]
    fn every_attack_stays_in_its_cell() {
        for attack in attacks::all() {
            let row = PipelineRow {
                id: attack.clone(),
                masks: true,
                receivers: vec![attack.clone()],
                processors: vec![attack.clone(), attack.clone()],
                exporters: vec![attack.clone()],
            };
            let running = Running {
                facts: vec![(attack.clone(), attack.clone())],
                pipelines: vec![row],
                extensions: vec![attack.clone()],
            };
            let health = Health::new();
            drop(health.guard(attack.clone()));
            for page in [servicez, pipelinez, extensionz] {
                let (page, plain) = (page(&running, &health), page(&Running::default(), &Health::new()));
                attacks::assert_harmless(&page, &['\n']);
                let tags = |page: &str| {
                    let inside =
                        page.split('<').skip(1).map(|rest| rest.split('>').next().unwrap_or_default().to_owned());
                    inside.collect::<std::collections::BTreeSet<_>>()
                };
                let ours = ["tr", "/tr", "td", "/td"].map(str::to_owned);
                let foreign: Vec<_> =
                    tags(&page).into_iter().filter(|tag| !tags(&plain).contains(tag) && !ours.contains(tag)).collect();
                assert!(foreign.is_empty(), "{foreign:?}");
            }
        }
    }
}
