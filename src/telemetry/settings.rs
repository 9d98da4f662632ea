//! Settings of `service::telemetry`, with the Collector's keys and defaults.

use super::logs::Logs;
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
    /// The Collector's export of its own spans, which tracegate does not have; see [`Telemetry::warnings`].
    pub traces: Option<IgnoredAny>,
    /// What `target_info` says about this process.
    pub resource: Resource,
}

impl Telemetry {
    /// What is configured and has no effect.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.logs.warnings();
        if self.traces.is_some() {
            warnings.push("service::telemetry::traces: ignored, tracegate does not export its own traces".to_owned());
        }
        warnings.extend(self.metrics.warnings.iter().map(|text| format!("service::telemetry::metrics::{text}")));
        warnings
    }
}

/// Settings of `service::telemetry::metrics`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "RawMetrics")]
pub struct Metrics {
    /// How much is recorded; `none` offers no metrics at all.
    pub level: MetricsLevel,
    /// Where a scraper finds them; not empty unless the level is `none`.
    pub readers: Vec<PullReader>,
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
    /// As `normal`.
    Basic,
    /// Everything there is.
    #[default]
    Normal,
    /// As `normal`.
    Detailed,
}

/// A Prometheus endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullReader {
    /// The host to listen on.
    pub host: String,
    /// The port to listen on.
    pub port: u16,
}

impl Default for PullReader {
    fn default() -> Self {
        Self { host: "localhost".to_owned(), port: 8888 }
    }
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
}

impl Default for Metrics {
    fn default() -> Self {
        Self { level: MetricsLevel::default(), readers: vec![PullReader::default()], warnings: Vec::new() }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawMetrics {
    #[serde(deserialize_with = "lowercase")]
    level: MetricsLevel,
    readers: Option<Vec<RawReader>>,
    views: Option<IgnoredAny>,
    address: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawReader {
    pull: Option<RawPull>,
    periodic: Option<IgnoredAny>,
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
    with_resource_constant_labels: Option<IgnoredAny>,
}

impl Default for RawPrometheus {
    fn default() -> Self {
        let PullReader { host, port } = PullReader::default();
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

impl TryFrom<RawMetrics> for Metrics {
    type Error = &'static str;

    fn try_from(raw: RawMetrics) -> Result<Self, Self::Error> {
        if raw.address.is_some() {
            return Err("'address' is no longer supported: list a pull reader under 'readers' with host and port");
        }
        let mut warnings = Vec::new();
        let mut ignored = |at: &str, why: &str| warnings.push(format!("{at}: ignored, {why}"));
        if raw.views.is_some() {
            ignored("views", "metrics have no views");
        }
        let mut readers = Vec::new();
        for (index, reader) in raw.readers.unwrap_or_else(|| vec![RawReader::pull()]).into_iter().enumerate() {
            if reader.periodic.is_some() {
                return Err("periodic readers are not supported: use a pull reader and scrape it");
            }
            let Some(pull) = reader.pull else {
                return Err("a reader must be 'pull'");
            };
            let prometheus = pull.exporter.prometheus;
            for (key, value) in [
                ("without_scope_info", prometheus.without_scope_info),
                ("without_type_suffix", prometheus.without_type_suffix),
                ("without_units", prometheus.without_units),
            ] {
                if value == Some(false) {
                    let at = format!("readers::{index}::pull::exporter::prometheus::{key}");
                    ignored(&at, "names are always without scope, type and unit");
                }
            }
            if prometheus.with_resource_constant_labels.is_some() {
                let at = format!("readers::{index}::pull::exporter::prometheus::with_resource_constant_labels");
                ignored(&at, "the resource is in target_info only");
            }
            readers.push(PullReader { host: prometheus.host, port: prometheus.port });
        }
        if raw.level == MetricsLevel::None {
            readers.clear();
        } else if readers.is_empty() {
            return Err("collector telemetry metrics reader should exist when metric level is not none");
        }
        Ok(Self { level: raw.level, readers, warnings })
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
