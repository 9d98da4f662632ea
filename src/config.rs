//! Configuration: files, environment and `--set` become values with YAML paths; each component owns its types.
//!
//! [`load`] merges [`Source`]s in order (the later wins), expands `${…}` and answers a [`Document`]. [`Layout::from`]
//! checks what every OpenTelemetry Collector configuration has in common: components, pipelines, references between
//! them. The types of a component's own section belong to the component, which reads them with
//! [`Document::section`]; they use `#[serde(deny_unknown_fields)]` and no `flatten`, which would lose paths.
//!
//! Keys, defaults and error texts are those of the OpenTelemetry Collector. Errors are one line,
//! [`ConfigError`], and never carry a configured value, because any value may be a secret; only where a choice is meant
//! may a short word be shown ([`named`]).

mod de;
mod document;
mod error;
mod expand;
mod id;
mod layout;
mod map_list;
mod node;
mod render;
mod source;
pub mod types;
mod yaml;

pub use document::Document;
pub use error::{ConfigError, named};
pub use id::ComponentId;
pub use layout::{Advice, Alias, Kinds, Layout, Pipeline, PipelineId, Section};
pub use map_list::MapList;
pub use node::{Node, Value};
pub use render::{Format, Secrets, render};
pub use source::{Lookup, NotUnicode, Source};

/// What stands in the place of a secret.
pub const REDACTED: &str = "[REDACTED]";

/// The Collector's bound on `--config` and `--set` together.
const MAX_SOURCES: usize = 100;

/// A configuration that was read, merged and expanded.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub document: Document,
    /// Sentences for the log.
    pub warnings: Vec<String>,
}

/// Reads and merges sources in order, applies `sets` (`processors.batch.timeout=2s`) over them, and expands
/// references with the process's environment.
pub fn load(sources: &[Source], sets: &[String]) -> Result<Loaded, ConfigError> {
    load_with(sources, sets, &source::process_environment)
}

/// As [`load`], with environment variables from `variable`.
pub fn load_with(sources: &[Source], sets: &[String], variable: Lookup<'_>) -> Result<Loaded, ConfigError> {
    if sources.len() + sets.len() > MAX_SOURCES {
        return Err(ConfigError::new("--config", format!("more than {MAX_SOURCES} sources")));
    }
    let mut merged = yaml::Merged::default();
    for source in sources {
        let name = source.name();
        let node = yaml::parse(&name, &source.text(variable)?)?;
        merged.add(&name, node)?;
    }
    for set in sets {
        merged.add("--set", parse_set(set)?)?;
    }
    let (root, warnings) = expand::expand(merged.finish()?, variable)?;
    Ok(Loaded { document: Document::new(root), warnings })
}

/// `a.b.c=value`; dots separate keys, the value is YAML.
fn parse_set(set: &str) -> Result<Node, ConfigError> {
    let hint = "write --set=processors.batch.timeout=2s";
    let Some((path, value)) = set.split_once('=') else {
        return Err(ConfigError::new("--set", "missing equal sign").with_hint(hint));
    };
    let key = path.trim().replace('.', "::");
    if key.split("::").any(|part| part.trim().is_empty()) {
        return Err(ConfigError::new("--set", "the key has an empty part").with_hint(hint));
    }
    let value = yaml::parse(&format!("--set={}", path.trim()), value.trim())?;
    Ok(Node::new(Value::Map([(key, value)].into())))
}

#[cfg(test)]
mod tests;
