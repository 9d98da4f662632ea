//! A configuration that was checked to the last key; nothing runs yet.

use super::{
    KINDS, enforce, push,
    registry::{self, Configured, Exporter, Extension, Processor},
};
use crate::{
    auth::Authenticators,
    config::{self, ComponentId, ConfigError, Document, Layout, Node, Section, Source},
    receiver,
    telemetry::Telemetry,
};
use std::collections::BTreeMap;

/// What will run.
#[derive(Debug)]
pub struct Blueprint {
    /// The configuration as it takes effect.
    pub document: Document,
    /// Sentences for the log.
    pub warnings: Vec<String>,
    /// `service::telemetry`.
    pub telemetry: Telemetry,
    pub(super) layout: Layout,
    pub(super) receivers: BTreeMap<ComponentId, receiver::Settings>,
    pub(super) processors: BTreeMap<ComponentId, Processor>,
    pub(super) exporters: BTreeMap<ComponentId, Exporter>,
    /// Those with a port that the service starts.
    pub(super) extensions: BTreeMap<ComponentId, Extension>,
    /// Those that receivers and exporters refer to.
    pub(super) authenticators: Authenticators,
}

/// The configuration as it takes effect, merged and with its references resolved, but not checked.
///
/// # Errors
/// [`ConfigError`] when a source cannot be read or merged.
pub fn effective(sources: &[Source], sets: &[String]) -> Result<Document, ConfigError> {
    Ok(enforce::with_mask(&config::load(sources, sets)?.document))
}

impl Blueprint {
    /// Reads and checks a configuration whole. Nothing is started, opened or bound.
    ///
    /// # Errors
    /// [`ConfigError`] for the first thing that is wrong.
    pub fn read(sources: &[Source], sets: &[String]) -> Result<Blueprint, ConfigError> {
        let loaded = config::load(sources, sets)?;
        let document = enforce::with_mask(&loaded.document);
        let layout = Layout::from(&document, &KINDS)?;
        let mut warnings = loaded.warnings;
        warnings.extend(layout.warnings.iter().cloned());
        let telemetry: Telemetry = document.section(&["service", "telemetry"])?;
        telemetry.metrics.periodic.iter().try_for_each(push::validate)?;
        warnings.extend(telemetry.warnings());
        let (extensions, authenticators) = extensions(&document, &layout, &mut warnings)?;
        let blueprint = Blueprint {
            receivers: each(&layout.receivers, |id| receiver(&document, id, &authenticators, &mut warnings))?,
            processors: each(&layout.processors, |id| registry::processor(&document, id))?,
            exporters: each(&layout.exporters, |id| registry::exporter(&document, id, &authenticators))?,
            extensions,
            authenticators,
            telemetry,
            layout,
            document,
            warnings,
        };
        Ok(blueprint)
    }

    /// Whether `other` configures the component with this id just so, and the authenticators it refers to.
    pub fn has_same(&self, other: &Blueprint, section: Section, id: &ComponentId) -> bool {
        let id = id.to_string();
        let node = |blueprint: &Blueprint| blueprint.document.node(&[section.key(), &id]).cloned();
        let here = node(self);
        let referred = AUTH.iter().filter_map(|path| here.as_ref().and_then(|node| at(node, path)?.as_str()));
        let same = |authenticator: &str| {
            let node = |blueprint: &Blueprint| blueprint.document.node(&["extensions", authenticator.trim()]).cloned();
            node(self) == node(other)
        };
        here == node(other) && referred.into_iter().all(same)
    }

    /// Whether everything that passes a pipeline is masked.
    pub fn enforces(&self, pipeline: &config::Pipeline) -> bool {
        let masks = |id| matches!(self.processors.get(id), Some(Processor::Mask(mask)) if mask.enabled);
        pipeline.processors.iter().any(masks)
    }
}

/// Where a receiver or an exporter refers to an authenticator.
const AUTH: [&[&str]; 3] = [
    &["auth", "authenticator"],
    &["protocols", "grpc", "auth", "authenticator"],
    &["protocols", "http", "auth", "authenticator"],
];

fn at<'a>(node: &'a Node, path: &[&str]) -> Option<&'a Node> {
    path.iter().try_fold(node, |node, key| node.get(key))
}

fn each<T>(
    ids: &[ComponentId],
    mut read: impl FnMut(&ComponentId) -> Result<T, ConfigError>,
) -> Result<BTreeMap<ComponentId, T>, ConfigError> {
    ids.iter().map(|id| Ok((id.clone(), read(id)?))).collect()
}

fn receiver(
    document: &Document,
    id: &ComponentId,
    authenticators: &Authenticators,
    warnings: &mut Vec<String>,
) -> Result<receiver::Settings, ConfigError> {
    let name = id.to_string();
    let path = [Section::Receivers.key(), &name];
    let config: receiver::Config = document.section(&path)?;
    warnings.extend(config.notes().iter().map(|note| format!("{}::{note}", path.join("::"))));
    config.settings_with(authenticators).map_err(|error| error.under(&path))
}

/// The extensions the service starts; the others are checked all the same.
fn extensions(
    document: &Document,
    layout: &Layout,
    warnings: &mut Vec<String>,
) -> Result<(BTreeMap<ComponentId, Extension>, Authenticators), ConfigError> {
    let (mut ports, mut authenticators) = (BTreeMap::new(), Authenticators::default());
    for id in &layout.extensions {
        let extension = registry::extension(document, id)?;
        if !layout.service_extensions.contains(id) {
            continue;
        }
        let authenticator = match extension {
            Configured::Authenticator(authenticator) => Some(authenticator),
            Configured::Port(port) => {
                ports.insert(id.clone(), port);
                None
            }
            Configured::Nothing => {
                warnings.push(format!("extensions::{id}: has no effect, there is no Go runtime to look into"));
                None
            }
        };
        authenticators.insert(id.clone(), authenticator);
    }
    Ok((ports, authenticators))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// With these tokens for the receiver and for the exporter.
    fn read(inward: &str, outward: &str) -> Blueprint {
        let yaml = format!(
            "{{extensions: {{bearertokenauth/in: {{token: {inward}}}, bearertokenauth/out: {{token: {outward}}}}}, \
             receivers: {{otlp: {{protocols: {{http: {{auth: {{authenticator: bearertokenauth/in}}}}}}}}, \
               otlp/grpc: {{protocols: {{grpc: {{auth: {{authenticator: ' bearertokenauth/in '}}}}}}}}, \
               otlp/open: {{protocols: {{http: }}}}}}, \
             exporters: {{otlp_http: {{endpoint: 'http://localhost:1', auth: {{authenticator: bearertokenauth/out}}}}, \
               nop: }}, \
             service: {{extensions: [bearertokenauth/in, bearertokenauth/out], \
               pipelines: {{traces: {{receivers: [otlp, otlp/grpc, otlp/open], exporters: [otlp_http, nop]}}}}}}}}"
        );
        Blueprint::read(&[Source::Yaml(yaml)], &[]).unwrap()
    }

    #[test]
    fn what_refers_to_another_authenticator_is_not_the_same() {
        let now = read("a", "b");
        let same = |next: &Blueprint| {
            let of = |section, id: &str| now.has_same(next, section, &id.parse().unwrap());
            let receivers = ["otlp", "otlp/grpc", "otlp/open"].map(|id| of(Section::Receivers, id));
            (receivers, ["otlp_http", "nop"].map(|id| of(Section::Exporters, id)))
        };
        assert_eq!(same(&read("a", "b")), ([true; 3], [true; 2]));
        assert_eq!(same(&read("c", "b")), ([false, false, true], [true; 2]));
        assert_eq!(same(&read("a", "c")), ([true; 3], [false, true]));
    }
}
