//! What every Collector configuration has in common: sections, components, pipelines, and the references between
//! them. Knows ids, not the components' own settings.

use super::{
    ComponentId, ConfigError, Document,
    error::{choices, nearest},
    node::{Node, Value},
};
use crate::otlp::Signal;
use std::{collections::BTreeSet, fmt, str::FromStr};

/// Top-level sections that hold components.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// `receivers`
    Receivers,
    /// `processors`
    Processors,
    /// `exporters`
    Exporters,
    /// `extensions`
    Extensions,
}

impl Section {
    /// The top-level key.
    pub const fn key(self) -> &'static str {
        match self {
            Section::Receivers => "receivers",
            Section::Processors => "processors",
            Section::Exporters => "exporters",
            Section::Extensions => "extensions",
        }
    }

    /// One of them, as error texts name it.
    const fn singular(self) -> &'static str {
        match self {
            Section::Receivers => "receiver",
            Section::Processors => "processor",
            Section::Exporters => "exporter",
            Section::Extensions => "extension",
        }
    }
}

/// What to do with what this program does not have.
const KEEP: &str = "keep it in your Collector; see pipelines/in-front-of-collector.yaml";

const TOP_LEVEL: [&str; 6] = ["connectors", "exporters", "extensions", "processors", "receivers", "service"];
const SERVICE: [&str; 3] = ["extensions", "pipelines", "telemetry"];

/// An old name of a component type that is still accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alias {
    /// Where it is used.
    pub section: Section,
    /// The old name.
    pub old: &'static str,
    /// The type it stands for.
    pub new: &'static str,
}

/// What to do instead of naming a type of the Collector that this program has another way for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    /// Where it is used.
    pub section: Section,
    /// The Collector's type.
    pub kind: &'static str,
    /// What to do.
    pub text: &'static str,
}

/// The component types this program has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kinds<'a> {
    /// Types of receivers.
    pub receivers: &'a [&'static str],
    /// Types of processors.
    pub processors: &'a [&'static str],
    /// Types of exporters.
    pub exporters: &'a [&'static str],
    /// Types of extensions.
    pub extensions: &'a [&'static str],
    /// Old names.
    pub aliases: &'a [Alias],
    /// For types of the Collector that are done otherwise here.
    pub advice: &'a [Advice],
}

impl Kinds<'_> {
    /// The types of a section, without old names.
    pub fn of(&self, section: Section) -> &[&'static str] {
        match section {
            Section::Receivers => self.receivers,
            Section::Processors => self.processors,
            Section::Exporters => self.exporters,
            Section::Extensions => self.extensions,
        }
    }

    /// The type an id stands for, old names resolved; none if it is unknown.
    pub fn resolve(&self, section: Section, id: &ComponentId) -> Option<&'static str> {
        let known = self.of(section).iter().copied().find(|kind| *kind == id.kind());
        known.or_else(|| self.alias(section, id).map(|alias| alias.new))
    }

    fn alias(&self, section: Section, id: &ComponentId) -> Option<&Alias> {
        self.aliases.iter().find(|alias| alias.section == section && alias.old == id.kind())
    }
}

/// The id of a pipeline: `traces`, `logs/internal`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PipelineId {
    /// What it carries.
    pub signal: Signal,
    /// What follows the slash.
    pub name: Option<String>,
}

impl FromStr for PipelineId {
    type Err = (String, Option<String>);

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let id: ComponentId = text.parse().map_err(|message| (message, None))?;
        let signal = match id.kind() {
            "traces" => Signal::Traces,
            "logs" => Signal::Logs,
            "metrics" => Signal::Metrics,
            "profiles" => {
                let hint = "keep the profiles pipeline in your Collector";
                return Err(("profiles are not supported".to_owned(), Some(hint.to_owned())));
            }
            other => {
                let hint = choices(other, &["traces", "logs", "metrics"], "signals");
                return Err((format!("unknown pipeline signal: \"{other}\""), Some(hint)));
            }
        };
        Ok(Self { signal, name: id.name().map(str::to_owned) })
    }
}

impl fmt::Display for PipelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.signal.name())?;
        match &self.name {
            Some(name) => write!(f, "/{name}"),
            None => Ok(()),
        }
    }
}

/// One pipeline; every id in it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pipeline {
    /// Its id.
    pub id: PipelineId,
    /// Where requests come from; at least one, each once.
    pub receivers: Vec<ComponentId>,
    /// What they pass through, in order; each once.
    pub processors: Vec<ComponentId>,
    /// Where they go; at least one, each once.
    pub exporters: Vec<ComponentId>,
}

impl Pipeline {
    /// Its YAML path: `service::pipelines::traces`.
    pub fn path(&self) -> String {
        format!("service::pipelines::{}", self.id)
    }
}

/// A configuration whose references are all good. Component ids are in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Configured receivers.
    pub receivers: Vec<ComponentId>,
    /// Configured processors.
    pub processors: Vec<ComponentId>,
    /// Configured exporters.
    pub exporters: Vec<ComponentId>,
    /// Configured extensions.
    pub extensions: Vec<ComponentId>,
    /// `service::extensions`: those that are started, in this order.
    pub service_extensions: Vec<ComponentId>,
    /// Pipelines in order of their ids.
    pub pipelines: Vec<Pipeline>,
    /// Sentences for the log.
    pub warnings: Vec<String>,
}

impl Layout {
    /// Checks a configuration against the component types there are.
    pub fn from(document: &Document, kinds: &Kinds<'_>) -> Result<Self, ConfigError> {
        check_top_level(document)?;
        let mut warnings = Vec::new();
        let receivers = components(document, kinds, Section::Receivers, &mut warnings)?;
        let processors = components(document, kinds, Section::Processors, &mut warnings)?;
        let exporters = components(document, kinds, Section::Exporters, &mut warnings)?;
        let extensions = components(document, kinds, Section::Extensions, &mut warnings)?;
        for (ids, section) in [(&receivers, Section::Receivers), (&exporters, Section::Exporters)] {
            if ids.is_empty() {
                let message = format!("no {} configuration specified in config", section.singular());
                return Err(ConfigError::new(section.key(), message));
            }
        }
        let mut layout = Self {
            receivers,
            processors,
            exporters,
            extensions,
            service_extensions: Vec::new(),
            pipelines: Vec::new(),
            warnings,
        };
        let path = ["service", "extensions"];
        layout.service_extensions = layout.references(document, &path, Section::Extensions, Twice::Once)?;
        layout.read_pipelines(document)?;
        layout.warn_of_unused();
        Ok(layout)
    }

    /// The configured components of a section.
    pub fn configured(&self, section: Section) -> &[ComponentId] {
        match section {
            Section::Receivers => &self.receivers,
            Section::Processors => &self.processors,
            Section::Exporters => &self.exporters,
            Section::Extensions => &self.extensions,
        }
    }

    fn read_pipelines(&mut self, document: &Document) -> Result<(), ConfigError> {
        expect_map(document, &["service", "pipelines"])?;
        let keys: Vec<String> = document.keys(&["service", "pipelines"]).into_iter().map(str::to_owned).collect();
        if keys.is_empty() {
            return Err(ConfigError::at(&["service", "pipelines"], "service must have at least one pipeline"));
        }
        let mut seen = BTreeSet::new();
        for key in &keys {
            let path = ["service", "pipelines", key];
            let id: PipelineId =
                key.parse().map_err(|(message, hint)| ConfigError { hint, ..ConfigError::at(&path, message) })?;
            if !seen.insert(id.clone()) {
                return Err(ConfigError::at(&path, format!("duplicate name \"{id}\" after space trimming")));
            }
            let pipeline = self.read_pipeline(document, id, key)?;
            self.pipelines.push(pipeline);
        }
        self.pipelines.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(())
    }

    fn read_pipeline(&mut self, document: &Document, id: PipelineId, key: &str) -> Result<Pipeline, ConfigError> {
        let path = ["service", "pipelines", key];
        expect_map(document, &path)?;
        check_keys(document, &path, &["receivers", "processors", "exporters"])?;
        let mut list = |section: Section, twice| {
            self.references(document, &["service", "pipelines", key, section.key()], section, twice)
        };
        let receivers = list(Section::Receivers, Twice::Once)?;
        let processors = list(Section::Processors, Twice::Refuse)?;
        let exporters = list(Section::Exporters, Twice::Once)?;
        for (ids, section) in [(&receivers, Section::Receivers), (&exporters, Section::Exporters)] {
            if ids.is_empty() {
                return Err(ConfigError::at(&path, format!("must have at least one {}", section.singular())));
            }
        }
        Ok(Pipeline { id, receivers, processors, exporters })
    }

    /// Reads a list of ids and checks that each is configured. An error stands at the list's owner, as in the
    /// Collector, except for `service::extensions`.
    fn references(
        &mut self,
        document: &Document,
        path: &[&str],
        section: Section,
        twice: Twice,
    ) -> Result<Vec<ComponentId>, ConfigError> {
        let Some(node) = document.node(path) else { return Ok(Vec::new()) };
        let owner = if section == Section::Extensions { path } else { &path[..path.len() - 1] };
        let mut ids = Vec::new();
        for text in strings(node, path)? {
            let id: ComponentId = text.parse().map_err(|message| ConfigError::at(path, message))?;
            let (singular, configured) = (section.singular(), self.configured(section));
            if !configured.contains(&id) {
                let names: Vec<String> = configured.iter().map(ToString::to_string).collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let message = format!("references {singular} \"{id}\" which is not configured");
                let error = ConfigError::at(owner, message);
                return Err(match nearest(&id.to_string(), &names) {
                    Some(near) => error.with_hint(format!("did you mean \"{near}\"?")),
                    None => error.with_hint(format!("add it under {}", section.key())),
                });
            }
            match (ids.contains(&id), twice) {
                (false, _) => ids.push(id),
                (true, Twice::Refuse) => {
                    return Err(ConfigError::at(owner, format!("references {singular} \"{id}\" multiple times")));
                }
                (true, Twice::Once) => self.warnings.push(format!(
                    "{}: references {singular} \"{id}\" multiple times; it is used once",
                    path[..path.len() - 1].join("::")
                )),
            }
        }
        Ok(ids)
    }

    fn warn_of_unused(&mut self) {
        let mut unused = Vec::new();
        for section in [Section::Receivers, Section::Processors, Section::Exporters] {
            for id in self.configured(section) {
                let used = self.pipelines.iter().any(|pipeline| match section {
                    Section::Receivers => pipeline.receivers.contains(id),
                    Section::Processors => pipeline.processors.contains(id),
                    _ => pipeline.exporters.contains(id),
                });
                if !used {
                    unused.push(format!("{}::{id}: configured but used by no pipeline", section.key()));
                }
            }
        }
        for id in &self.extensions {
            if !self.service_extensions.contains(id) {
                unused.push(format!("extensions::{id}: configured but not listed in service::extensions"));
            }
        }
        self.warnings.append(&mut unused);
    }
}

/// What to do with an id that a list names twice.
#[derive(Clone, Copy)]
enum Twice {
    Refuse,
    Once,
}

fn check_top_level(document: &Document) -> Result<(), ConfigError> {
    if document.keys(&[]).is_empty() {
        return Err(ConfigError::new("", "empty configuration file"));
    }
    check_keys(document, &[], &TOP_LEVEL)?;
    if document.node(&["connectors"]).is_some_and(|node| match &node.value {
        Value::Null => false,
        Value::Map(map) => !map.is_empty(),
        _ => true,
    }) {
        return Err(ConfigError::new("connectors", "connectors are not supported").with_hint(KEEP));
    }
    expect_map(document, &["service"])?;
    check_keys(document, &["service"], &SERVICE)
}

/// The ids under a top-level section, each of a known type.
fn components(
    document: &Document,
    kinds: &Kinds<'_>,
    section: Section,
    warnings: &mut Vec<String>,
) -> Result<Vec<ComponentId>, ConfigError> {
    let key = section.key();
    expect_map(document, &[key])?;
    let mut ids = BTreeSet::new();
    for text in document.keys(&[key]) {
        let path = [key, text];
        let id: ComponentId = text.parse().map_err(|message| ConfigError::at(&[key], message))?;
        if kinds.resolve(section, &id).is_none() {
            return Err(unknown_type(kinds, section, &id).under(&path));
        }
        if let Some(alias) = kinds.alias(section, &id) {
            warnings.push(format!("{key}::{id}: \"{}\" is a deprecated name; use \"{}\"", alias.old, alias.new));
        }
        if !ids.insert(id.clone()) {
            return Err(ConfigError::at(&[key], format!("duplicate name \"{id}\" after space trimming")));
        }
    }
    Ok(ids.into_iter().collect())
}

fn unknown_type(kinds: &Kinds<'_>, section: Section, id: &ComponentId) -> ConfigError {
    let mut valid = kinds.of(section).to_vec();
    valid.sort_unstable();
    let message = format!(
        "'{}' unknown type: \"{}\" for id: \"{id}\" (valid values: [{}])",
        section.key(),
        id.kind(),
        valid.join(" ")
    );
    let advice = kinds.advice.iter().find(|advice| advice.section == section && advice.kind == id.kind());
    let hint = match (advice, nearest(id.kind(), &valid)) {
        (Some(advice), _) => advice.text.to_owned(),
        (None, Some(near)) => format!("did you mean \"{near}\"?"),
        (None, None) => KEEP.to_owned(),
    };
    ConfigError::new("", message).with_hint(hint)
}

fn check_keys(document: &Document, path: &[&str], valid: &[&str]) -> Result<(), ConfigError> {
    let unknown: Vec<&str> = document.keys(path).into_iter().filter(|key| !valid.contains(key)).collect();
    let Some(first) = unknown.first() else { return Ok(()) };
    let message = format!("'{}' has invalid keys: {}", path.last().unwrap_or(&""), unknown.join(", "));
    Err(ConfigError::at(path, message).with_hint(choices(first, valid, "keys")))
}

/// Absent and null are as good as an empty map.
fn expect_map(document: &Document, path: &[&str]) -> Result<(), ConfigError> {
    match document.node(path) {
        Some(node) if !node.is_null() && !matches!(node.value, Value::Map(_)) => {
            Err(ConfigError::at(path, format!("expected a map, found {}", node.kind())))
        }
        _ => Ok(()),
    }
}

fn strings(node: &Node, path: &[&str]) -> Result<Vec<String>, ConfigError> {
    if node.is_null() {
        return Ok(Vec::new());
    }
    let expected = |found: &Node| ConfigError::at(path, format!("expected a list of ids, found {}", found.kind()));
    match &node.value {
        Value::Seq(items) => items
            .iter()
            .filter(|item| !item.is_null())
            .map(|item| item.as_str().map(str::to_owned).ok_or_else(|| expected(item)))
            .collect(),
        Value::String(text) => {
            Ok(text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect())
        }
        _ => Err(expected(node)),
    }
}

#[cfg(test)]
mod tests;
