//! Settings of `service::telemetry`, with the Collector's keys and defaults.

mod periodic;

pub use periodic::{PeriodicReader, Protocol};

use super::{exposition::Style, logs::Logs, names::Detail};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, IntoDeserializer},
};
use serde_json::Value;
use std::collections::BTreeMap;

/// Settings of `service::telemetry`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// Log lines.
    pub logs: Logs,
    /// Metrics.
    pub metrics: Metrics,
    /// Spans of its own, which tracegate does not have.
    pub traces: Traces,
    /// What `target_info` says about this process.
    pub resource: Resource,
}

impl Telemetry {
    /// What is configured and has no effect.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.logs.warnings();
        if self.traces.propagators.as_ref().is_some_and(|propagators| !propagators.is_empty()) {
            warnings.push(
                "service::telemetry::traces::propagators: has no effect, tracegate makes no spans of its own"
                    .to_owned(),
            );
        }
        warnings.extend(self.metrics.warnings.iter().map(|text| format!("service::telemetry::metrics::{text}")));
        warnings
    }
}

/// Settings of `service::telemetry::traces`. tracegate makes no spans of its own: a processor would never see one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Traces {
    #[serde(rename = "level", deserialize_with = "trace_level")]
    _level: (),
    propagators: Option<Vec<String>>,
    #[serde(rename = "processors", deserialize_with = "no_span_processors")]
    _processors: (),
}

fn trace_level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    match String::deserialize(deserializer)?.to_ascii_lowercase().as_str() {
        "none" | "basic" | "normal" | "detailed" => Ok(()),
        _ => Err(serde::de::Error::custom("level must be none, basic, normal or detailed")),
    }
}

fn no_span_processors<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    match Option::<Vec<IgnoredAny>>::deserialize(deserializer)? {
        Some(processors) if !processors.is_empty() => Err(serde::de::Error::custom(
            "tracegate makes no spans of its own to export: remove 'processors', and scrape its metrics instead",
        )),
        _ => Ok(()),
    }
}

/// Settings of `service::telemetry::metrics`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "RawMetrics")]
pub struct Metrics {
    /// How much is recorded; `none` offers no metrics at all.
    pub level: MetricsLevel,
    /// Where a scraper finds them; at level `none`, nowhere.
    pub readers: Vec<PullReader>,
    /// Where they are sent; at level `none`, nowhere.
    pub periodic: Vec<PeriodicReader>,
    warnings: Vec<String>,
}

/// Reads the name of a choice in any case, as the Collector does for levels.
pub(super) fn lowercase<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::deserialize(String::deserialize(deserializer)?.to_ascii_lowercase().into_deserializer())
}

/// How much is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricsLevel {
    /// Nothing.
    None,
    /// What everybody needs.
    Basic,
    /// What each part of the pipelines did, and how long it took.
    #[default]
    Normal,
    /// Everything there is.
    Detailed,
}

impl MetricsLevel {
    /// How much is recorded; none at level `none`.
    pub const fn detail(self) -> Option<Detail> {
        match self {
            MetricsLevel::None => None,
            MetricsLevel::Basic => Some(Detail::Basic),
            MetricsLevel::Normal => Some(Detail::Normal),
            MetricsLevel::Detailed => Some(Detail::Detailed),
        }
    }
}

/// A Prometheus endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullReader {
    /// The host to listen on.
    pub host: String,
    /// The port to listen on.
    pub port: u16,
    /// Leaves out the labels that name the instrumentation scope.
    pub without_scope_info: bool,
    /// Leaves out the ending `_total`.
    pub without_type_suffix: bool,
    /// Leaves out the ending that names the unit.
    pub without_units: bool,
    /// Which attributes of the resource every sample carries.
    pub resource_labels: Option<Chosen>,
}

impl Default for PullReader {
    fn default() -> Self {
        Self {
            host: "localhost".to_owned(),
            port: 8888,
            without_scope_info: true,
            without_type_suffix: true,
            without_units: true,
            resource_labels: None,
        }
    }
}

/// Names chosen by patterns in which `*` stands for any characters and `?` for one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Chosen {
    /// What is in; everything when absent.
    included: Option<Vec<String>>,
    /// What is out all the same.
    excluded: Vec<String>,
}

impl Chosen {
    fn has(&self, name: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, name));
        self.included.as_deref().is_none_or(any) && !any(&self.excluded)
    }
}

/// Goes back to the last `*` when the rest does not fit, so that no pattern takes more than length times length steps.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, n) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

impl PullReader {
    /// `host:port`, with brackets around an IPv6 address.
    pub fn endpoint(&self) -> String {
        if self.host.contains(':') && !self.host.starts_with('[') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// How it wants names and labels written, given the attributes of the resource.
    pub fn style(&self, resource: &BTreeMap<String, String>) -> Style {
        let asked_for = |(key, _): &(&String, &String)| self.resource_labels.as_ref().is_some_and(|it| it.has(key));
        let labels = resource.iter().filter(asked_for);
        Style {
            without_scope_info: self.without_scope_info,
            without_type_suffix: self.without_type_suffix,
            without_units: self.without_units,
            constant_labels: labels.map(|(key, value)| (key.clone(), value.clone())).collect(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            level: MetricsLevel::default(),
            readers: vec![PullReader::default()],
            periodic: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawMetrics {
    #[serde(deserialize_with = "lowercase")]
    level: MetricsLevel,
    readers: Option<Vec<RawReader>>,
    views: Option<Vec<IgnoredAny>>,
    address: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawReader {
    pull: Option<RawPull>,
    periodic: Option<periodic::Raw>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawPull {
    exporter: RawExporter,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawExporter {
    prometheus: RawPrometheus,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawPrometheus {
    host: String,
    port: u16,
    without_scope_info: Option<bool>,
    without_type_suffix: Option<bool>,
    without_units: Option<bool>,
    with_resource_constant_labels: Option<Chosen>,
}

impl Default for RawPrometheus {
    fn default() -> Self {
        let PullReader { host, port, .. } = PullReader::default();
        Self {
            host,
            port,
            without_scope_info: None,
            without_type_suffix: None,
            without_units: None,
            with_resource_constant_labels: None,
        }
    }
}

impl From<RawPrometheus> for PullReader {
    /// The three `without_` keys are on where a configuration does not say otherwise, also beside others of its own,
    /// as in the Collector.
    fn from(raw: RawPrometheus) -> Self {
        Self {
            host: raw.host,
            port: raw.port,
            without_scope_info: raw.without_scope_info.unwrap_or(true),
            without_type_suffix: raw.without_type_suffix.unwrap_or(true),
            without_units: raw.without_units.unwrap_or(true),
            resource_labels: raw.with_resource_constant_labels,
        }
    }
}

impl TryFrom<RawMetrics> for Metrics {
    type Error = &'static str;

    fn try_from(raw: RawMetrics) -> Result<Self, Self::Error> {
        let mut warnings = Vec::new();
        if raw.address.is_some() {
            warnings.push(
                "address: ignored, as in the Collector since 0.123: list a pull reader under 'readers' with host and port"
                    .to_owned(),
            );
        }
        if raw.views.is_some_and(|views| !views.is_empty()) {
            return Err("views are not supported: remove 'views' and choose metrics where they are scraped");
        }
        let (mut readers, mut periodic) = (Vec::<PullReader>::new(), Vec::<PeriodicReader>::new());
        for reader in raw.readers.unwrap_or_else(|| vec![RawReader::pull()]) {
            match (reader.pull, reader.periodic) {
                (Some(pull), None) => readers.push(pull.exporter.prometheus.into()),
                (None, Some(raw)) => periodic.push(raw.try_into()?),
                _ => return Err("a reader must be either 'pull' or 'periodic'"),
            }
        }
        if raw.level == MetricsLevel::None {
            readers.clear();
            periodic.clear();
        } else if readers.is_empty() && periodic.is_empty() {
            return Err("collector telemetry metrics reader should exist when metric level is not none");
        }
        Ok(Self { level: raw.level, readers, periodic, warnings })
    }
}

impl RawReader {
    fn pull() -> Self {
        Self { pull: Some(RawPull::default()), periodic: None }
    }
}

/// Attributes of this process, as a map, or as `attributes: [{name, value}]`. A null removes a default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "BTreeMap<String, Value>")]
pub struct Resource(BTreeMap<String, Option<String>>);

impl Resource {
    /// The configured attributes over `defaults`.
    pub fn over<'a>(&self, defaults: impl IntoIterator<Item = (&'a str, String)>) -> BTreeMap<String, String> {
        let mut out: BTreeMap<String, String> =
            defaults.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        for (key, value) in &self.0 {
            match value {
                Some(value) => drop(out.insert(key.clone(), value.clone())),
                None => drop(out.remove(key)),
            }
        }
        out
    }
}

impl TryFrom<BTreeMap<String, Value>> for Resource {
    type Error = String;

    fn try_from(map: BTreeMap<String, Value>) -> Result<Self, String> {
        let mut out = BTreeMap::new();
        for (key, value) in map {
            match value {
                Value::Array(items) if key == "attributes" => {
                    for item in items {
                        let (name, value) = attribute(item).ok_or("'attributes' must be a list of name and value")?;
                        out.insert(name, value);
                    }
                }
                Value::Null if key == "attributes" => {}
                value => {
                    let text = text(value).ok_or_else(|| format!("'{key}' must be a string, a number or a boolean"))?;
                    out.insert(key, text);
                }
            }
        }
        Ok(Self(out))
    }
}

fn attribute(item: Value) -> Option<(String, Option<String>)> {
    let Value::Object(mut item) = item else { return None };
    let Some(Value::String(name)) = item.remove("name") else { return None };
    let value = text(item.remove("value")?)?;
    item.remove("type");
    item.is_empty().then_some((name, value))
}

/// The outer option is whether the value is a scalar, the inner whether it is there.
fn text(value: Value) -> Option<Option<String>> {
    match value {
        Value::Null => Some(None),
        Value::String(text) => Some(Some(text)),
        Value::Bool(_) | Value::Number(_) => Some(Some(value.to_string())),
        Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests;
