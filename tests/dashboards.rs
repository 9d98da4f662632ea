//! The dashboard and the alert rules in `deploy/`: every metric, label and label value their queries name is in a
//! scrape of the binary, in each form a scrape can have.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/binary.rs"]
mod binary;
mod support;

use binary::{Gateway, http, post, project_text};
use prost::Message;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};
use support::{request, span, string, token};

/// What the server that scrapes adds to every sample.
const ADDED: [&str; 2] = ["instance", "job"];

/// Functions, aggregations and operators that our queries use. Another one is added here when a query needs it.
const FUNCTIONS: [&str; 7] = ["histogram_quantile", "increase", "max", "rate", "resets", "sum", "topk"];
const OPERATORS: [&str; 5] = ["and", "by", "on", "or", "unless"];

/// Sample names with the values of their labels.
type Scrape = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn scrape(text: &str) -> Scrape {
    let mut scrape = Scrape::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, _value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let known = scrape.entry(name.to_owned()).or_default();
        for label in labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty()) {
            let (key, value) = label.split_once("=\"").unwrap();
            known.entry(key.to_owned()).or_default().insert(value.trim_end_matches('"').to_owned());
        }
    }
    scrape
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Sign(char),
}

fn tokens(query: &str) -> Result<Vec<Token>, String> {
    let mut out = Vec::new();
    let mut chars = query.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => {}
            '"' => {
                let text: String = chars.by_ref().take_while(|c| *c != '"').collect();
                if text.contains('\\') {
                    return Err(format!("an escape in {text:?}: this check does not read them"));
                }
                out.push(Token::Text(text));
            }
            // Ranges hold a duration or a variable, nothing to check.
            '[' => {
                let range: String = chars.by_ref().take_while(|c| *c != ']').collect();
                let duration = range.trim_end_matches(['s', 'm', 'h', 'd']);
                let number = !duration.is_empty() && duration.len() < range.len() && duration.parse::<u32>().is_ok();
                if !number && !["$__rate_interval", "$__range"].contains(&range.as_str()) {
                    return Err(format!("no range: {range:?}"));
                }
            }
            c if c.is_ascii_alphanumeric() || c == '_' => {
                let mut word = c.to_string();
                while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.')) {
                    word.push(c);
                }
                out.push(Token::Word(word));
            }
            c if "(){},=~!<>+-*/".contains(c) => out.push(Token::Sign(c)),
            c => return Err(format!("unexpected {c:?}")),
        }
    }
    Ok(out)
}

/// A vector selector: what it may match, and its conditions on labels.
#[derive(Debug)]
struct Selector {
    at: usize,
    names: Vec<String>,
    /// Label and, for an exact condition, its value.
    labels: Vec<(String, Option<String>)>,
}

/// The names a regular expression of literals and `(…)?` stands for.
fn alternatives(pattern: &str) -> Result<Vec<String>, String> {
    let Some((before, rest)) = pattern.split_once('(') else {
        let literal = pattern.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        return if literal { Ok(vec![pattern.to_owned()]) } else { Err(format!("too rich a pattern: {pattern}")) };
    };
    let (optional, after) = rest.split_once(")?").ok_or_else(|| format!("too rich a pattern: {pattern}"))?;
    let mut all = alternatives(&format!("{before}{after}"))?;
    all.extend(alternatives(&format!("{before}{optional}{after}"))?);
    Ok(all)
}

fn selectors(tokens: &[Token]) -> Result<Vec<Selector>, String> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let next = tokens.get(at + 1);
        match &tokens[at] {
            Token::Word(word) if ["by", "on"].contains(&word.as_str()) => at = closing(tokens, at + 1)?,
            Token::Word(word) if next == Some(&Token::Sign('(')) => {
                if !FUNCTIONS.contains(&word.as_str()) && !OPERATORS.contains(&word.as_str()) {
                    return Err(format!("unknown function {word}"));
                }
            }
            Token::Word(word) if OPERATORS.contains(&word.as_str()) || FUNCTIONS.contains(&word.as_str()) => {}
            Token::Word(word) if word.parse::<f64>().is_ok() => {}
            Token::Word(word) => {
                let mut selector = Selector { at, names: vec![word.clone()], labels: Vec::new() };
                if next == Some(&Token::Sign('{')) {
                    at = conditions(tokens, at + 1, &mut selector)?;
                }
                found.push(selector);
            }
            Token::Sign('{') => {
                let mut selector = Selector { at, names: Vec::new(), labels: Vec::new() };
                at = conditions(tokens, at, &mut selector)?;
                found.push(selector);
            }
            Token::Text(text) => return Err(format!("a text outside of conditions: {text:?}")),
            Token::Sign(_) => {}
        }
        at += 1;
    }
    Ok(found)
}

/// Reads `{label op "value", …}` from its brace; answers where it ends.
fn conditions(tokens: &[Token], open: usize, selector: &mut Selector) -> Result<usize, String> {
    let end = open + tokens[open..].iter().position(|token| *token == Token::Sign('}')).ok_or("a brace stays open")?;
    for condition in tokens[open + 1..end].split(|token| *token == Token::Sign(',')) {
        let (Some(Token::Word(label)), Some(Token::Text(value))) = (condition.first(), condition.last()) else {
            return Err(format!("no condition: {condition:?}"));
        };
        let operator: String = condition[1..condition.len() - 1]
            .iter()
            .map(|token| if let Token::Sign(sign) = token { *sign } else { '?' })
            .collect();
        match (label.as_str(), operator.as_str()) {
            ("__name__", "=~") => selector.names = alternatives(value)?,
            (_, "=" | "!=") => selector.labels.push((label.clone(), Some(value.clone()))),
            (_, "=~" | "!~") => selector.labels.push((label.clone(), None)),
            _ => return Err(format!("no operator: {operator}")),
        }
    }
    if selector.names.is_empty() {
        return Err("a selector without a name".to_owned());
    }
    Ok(end)
}

/// Where the parenthesis that opens at `open` closes.
fn closing(tokens: &[Token], open: usize) -> Result<usize, String> {
    if tokens.get(open) != Some(&Token::Sign('(')) {
        return Err("a parenthesis is missing".to_owned());
    }
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token {
            Token::Sign('(') => depth += 1,
            Token::Sign(')') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Ok(at);
        }
    }
    Err("a parenthesis stays open".to_owned())
}

fn words(tokens: &[Token]) -> Vec<&str> {
    tokens.iter().filter_map(|token| if let Token::Word(word) = token { Some(word.as_str()) } else { None }).collect()
}

/// Checks a query; answers the labels its result may have.
fn check(query: &str, scrapes: &[Scrape]) -> Result<BTreeSet<String>, String> {
    let tokens = tokens(query)?;
    let count = |sign| tokens.iter().filter(|token| **token == Token::Sign(sign)).count();
    if count('(') != count(')') || count('{') != count('}') {
        return Err("unbalanced".to_owned());
    }
    let selectors = selectors(&tokens)?;
    let mut all: BTreeSet<String> = ADDED.map(str::to_owned).into();
    for selector in &selectors {
        all.extend(labels_of(selector, scrapes)?);
    }
    let mut grouped = BTreeSet::new();
    for (at, token) in tokens.iter().enumerate() {
        let Token::Word(word) = token else { continue };
        if !["by", "on"].contains(&word.as_str()) {
            continue;
        }
        let end = closing(&tokens, at + 1)?;
        let names = words(&tokens[at + 1..end]);
        if word == "by" {
            // `sum by (…) (…)`: every selector inside has these labels.
            let over = end + 1..closing(&tokens, end + 1)?;
            for selector in selectors.iter().filter(|selector| over.contains(&selector.at)) {
                let known = labels_of(selector, scrapes)?;
                if let Some(name) = names.iter().find(|name| !known.contains(**name)) {
                    return Err(format!("{:?} has no label {name}", selector.names));
                }
            }
            grouped.extend(names.into_iter().map(str::to_owned));
        } else if let Some(name) = names.iter().find(|name| !all.contains(**name)) {
            return Err(format!("nothing has a label {name}"));
        }
    }
    Ok(if grouped.is_empty() { all } else { grouped })
}

/// Labels of what a selector selects in the scrapes, each of which must have it.
fn labels_of(selector: &Selector, scrapes: &[Scrape]) -> Result<BTreeSet<String>, String> {
    let mut labels: BTreeSet<String> = ADDED.map(str::to_owned).into();
    // Prometheus makes this one itself.
    if selector.names == ["up"] {
        return Ok(labels);
    }
    if let Some(name) = selector.names.iter().find(|name| !scrapes.iter().any(|scrape| scrape.contains_key(*name))) {
        return Err(format!("no scrape has {name}"));
    }
    for scrape in scrapes {
        let series = selector.names.iter().find_map(|name| scrape.get(name));
        let series = series.ok_or_else(|| format!("one of the scrapes has nothing of {:?}", selector.names))?;
        for (label, value) in selector.labels.iter().filter(|(label, _)| !ADDED.contains(&label.as_str())) {
            let values = series.get(label).ok_or_else(|| format!("{:?} has no label {label}", selector.names))?;
            if value.as_ref().is_some_and(|value| !values.contains(value)) {
                return Err(format!("{:?} has no {label} that is {value:?}", selector.names));
            }
        }
        labels.extend(series.keys().cloned());
    }
    Ok(labels)
}

/// Names in `{{…}}` of a legend, or in `{{ $labels.… }}` of an annotation.
fn templated(text: &str) -> Vec<&str> {
    let inside = text.split("{{").skip(1).filter_map(|part| part.split_once("}}")).map(|(inside, _)| inside.trim());
    inside.filter(|inside| !inside.starts_with("$value")).map(|inside| inside.trim_start_matches("$labels.")).collect()
}

const CONFIG: &str = "
extensions: { health_check: { endpoint: '127.0.0.1:0' } }
receivers: { otlp: { protocols: { grpc: { endpoint: '127.0.0.1:0' }, http: { endpoint: '127.0.0.1:0' } } } }
processors: { mask: {}, identity: {}, memory_limiter: { check_interval: 1s, limit_mib: 4000 } }
exporters:
  nop: {}
  # Away, and given up soon: what is still queued at the end would be waited for.
  otlp_http:
    endpoint: 'http://127.0.0.1:9'
    sending_queue: { queue_size: 10 }
    retry_on_failure: { initial_interval: 1ms, max_interval: 2ms, max_elapsed_time: 5ms }
service:
  extensions: [health_check]
  telemetry: { metrics: { readers: [ { pull: { exporter: { prometheus: { host: 127.0.0.1, port: 0 STYLE } } } } ] } }
  pipelines:
    traces: { receivers: [otlp], processors: [memory_limiter, identity, mask], exporters: [nop, otlp_http] }
    logs: { receivers: [otlp], processors: [memory_limiter, identity, mask], exporters: [nop] }
";

/// What the binary shows after traffic that goes through, traffic that does not, and reloads of both kinds: in the
/// classic format and in OpenMetrics, which Prometheus asks for, with a reader's `style`.
fn scrapes_of(style: &str) -> [Scrape; 2] {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    let config = CONFIG.replace("STYLE", style);
    fs::write(&path, &config).unwrap();
    let mut gateway = Gateway::spawn(&["--config", path.to_str().unwrap()]);
    let body = request(vec![span(1, "one", vec![string("key", &token())])]).encode_to_vec();
    assert_eq!(post(gateway.address("http"), &body), 200);
    assert_eq!(post(gateway.address("http"), b"\xff"), 400);
    for (text, line) in [("receivers: [", "stays in force"), (&config, "The new configuration is in force.")] {
        fs::write(&path, text).unwrap();
        let id = gateway.process.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
        gateway.wait_for(line);
    }
    let metrics = gateway.address("metrics");
    let classic = http(metrics, "GET /metrics HTTP/1.1", b"").1;
    let open = http(metrics, "GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text", b"").1;
    assert!(gateway.stop().0.success());
    [scrape(&classic), scrape(&open)]
}

fn scrapes() -> Vec<Scrape> {
    let styles = ["", ", without_units: false", ", without_units: false, without_type_suffix: false"];
    let scrapes: Vec<Scrape> = styles.into_iter().flat_map(scrapes_of).collect();
    for (scrape, name) in scrapes.iter().zip([
        "otelcol_process_uptime",
        "otelcol_process_uptime_total",
        "otelcol_process_uptime_seconds",
        "otelcol_process_uptime_seconds_total",
        "otelcol_process_uptime_seconds_total",
    ]) {
        assert!(scrape.contains_key(name), "{name}");
    }
    scrapes
}

/// Every query of the dashboard with its legend: panel title, query, legend.
fn panels(dashboard: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push((text(panel, "title"), text(target, "expr"), text(target, "legendFormat")));
        }
    }
    queries
}

#[test]
fn every_query_finds_its_metrics_and_labels() {
    let scrapes = scrapes();
    let dashboard: Value = serde_json::from_str(&project_text("deploy/grafana/tracegate.json")).unwrap();
    let rules: Value = serde_saphyr::from_str(&project_text("deploy/prometheus/alerts.yaml")).unwrap();
    let mut wrong = Vec::new();
    let mut names: BTreeSet<String> = BTreeSet::new();
    let mut judge = |what: String, query: &str, texts: &[&str]| {
        match check(query, &scrapes) {
            Err(why) => wrong.push(format!("{what}: {why}\n  {query}")),
            Ok(labels) => {
                for name in texts.iter().flat_map(|text| templated(text)) {
                    if !labels.contains(name) {
                        wrong.push(format!("{what}: the result has no label {name}: {labels:?}"));
                    }
                }
            }
        }
        names.extend(
            tokens(query).into_iter().flat_map(|tokens| selectors(&tokens).unwrap_or_default()).flat_map(|it| it.names),
        );
    };
    let panels = panels(&dashboard);
    assert!(panels.len() > 30, "{}", panels.len());
    for (title, query, legend) in &panels {
        judge(format!("panel {title:?}"), query, &[legend]);
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let Some(query) = variable["query"]["query"].as_str() else { continue };
        let inside = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).unwrap();
        let (query, label) = inside.rsplit_once(", ").unwrap();
        judge(format!("variable {}", variable["name"]), query, &[&format!("{{{{{label}}}}}")]);
    }
    let mut silent = Vec::new();
    let alerts = rules["groups"][0]["rules"].as_array().unwrap();
    for alert in alerts {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (summary, todo) = (text(&alert["annotations"]["summary"]), text(&alert["annotations"]["description"]));
        judge(format!("alert {}", alert["alert"]), &text(&alert["expr"]), &[&summary, &todo]);
        if summary.is_empty() || todo.len() < 80 || text(&alert["labels"]["severity"]).is_empty() {
            silent.push(alert["alert"].to_string());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(silent.is_empty(), "these do not say what to do: {silent:?}");
    for topic in [
        "BackendDown",
        "QueueFilling",
        "Refusing",
        "UnmaskedPipeline",
        "UnscannedRising",
        "MemoryLimiterActive",
        "DroppingData",
        "NoData",
        "Restarted",
        "WorkerDied",
    ] {
        assert!(alerts.iter().any(|alert| alert["alert"] == format!("Tracegate{topic}")), "{topic}");
    }
    // What a person would look for is shown somewhere.
    for name in [
        "otelcol_receiver_accepted_spans",
        "otelcol_receiver_refused_spans",
        "tracegate_mask_findings",
        "tracegate_mask_masked_bytes",
        "otelcol_exporter_queue_size",
        "tracegate_stage_duration_bucket",
        "otelcol_process_memory_rss",
        "tracegate_pipeline_enforced",
    ] {
        assert!(names.contains(name), "{name}");
    }
}

/// A check that finds nothing wrong in anything would be no check.
#[test]
fn mistakes_are_found() {
    let scrape =
        scrape(concat!("# TYPE a counter\n", "a_total{x=\"1\",y=\"two\"} 3\n", "b_bucket{le=\"+Inf\"} 3\n", "c 1\n",));
    let scrapes = [scrape];
    for good in [
        "a_total",
        "sum by (x) (rate(a_total{y=\"two\"}[5m])) > 0",
        "histogram_quantile(0.99, sum by (le) (rate(b_bucket[$__rate_interval])))",
        "sum by (x, instance) (a_total) / on (instance) c unless on (x) c",
        "up{job=~\"t.*\"} == 0",
    ] {
        check(good, &scrapes).unwrap_or_else(|why| panic!("{good}: {why}"));
    }
    for bad in [
        "a_totl",
        "sum by (z) (a_total)",
        "sum by (x) (c)",
        "rate(a_total{z=\"1\"}[5m])",
        "rate(a_total{y=\"three\"}[5m])",
        "rat(a_total[5m])",
        "rate(a_total[5n])",
        "sum(a_total",
        "a_total{x=\"1\"",
        "{x=\"1\"}",
        "{__name__=~\"a(_totl)?\"}",
        "{__name__=~\"a.*\"}",
        "c unless on (q) c",
        "a_total §",
    ] {
        assert!(check(bad, &scrapes).is_err(), "{bad}");
    }
    assert_eq!(check("sum by (x) (a_total)", &scrapes).unwrap(), ["x".to_owned()].into());
    assert_eq!(templated("{{x}} {{ $labels.y }} {{ $value | humanize }}"), ["x", "y"]);
}
