//! What stands between a pipeline and unmasked data: a pipeline that names no `mask` gets one in front.

use crate::config::{Document, Node, Value};
use std::collections::BTreeMap;

const MASK: &str = "mask";
const MEMORY_LIMITER: &str = "memory_limiter";

/// The configuration as it takes effect. Shapes that are not what a configuration has are left for the checks that
/// follow, which have better words for them.
pub fn with_mask(document: &Document) -> Document {
    let mut root = document.root().clone();
    let Value::Map(top) = &mut root.value else { return document.clone() };
    let mut inserted = false;
    if let Some(pipelines) = top.get_mut("service").and_then(|service| map(service)?.get_mut("pipelines")).and_then(map)
    {
        for pipeline in pipelines.values_mut() {
            inserted |= insert_mask(pipeline);
        }
    }
    if inserted {
        let processors = top.entry("processors".into()).or_default();
        if processors.is_null() {
            *processors = Node::new(Value::Map(BTreeMap::new()));
        }
        if let Some(processors) = map(processors) {
            processors.entry(MASK.into()).or_insert_with(|| Node::new(Value::Map(BTreeMap::new())));
        }
    }
    Document::new(root)
}

/// Puts `mask` in front of a pipeline that names none; answers whether it did.
fn insert_mask(pipeline: &mut Node) -> bool {
    if pipeline.is_null() {
        return false;
    }
    let Some(pipeline) = map(pipeline) else { return false };
    let processors = pipeline.entry("processors".into()).or_default();
    if processors.is_null() {
        *processors = Node::new(Value::Seq(Vec::new()));
    }
    let Value::Seq(list) = &mut processors.value else { return false };
    let is = |node: &Node, kind: &str| node.as_str().and_then(|id| id.split('/').next()).map(str::trim) == Some(kind);
    if list.iter().any(|id| is(id, MASK)) {
        return false;
    }
    // A memory limiter looks at no data, and what it refuses need not be masked first.
    let at = list.iter().position(|id| !is(id, MEMORY_LIMITER)).unwrap_or(list.len());
    list.insert(at, Node::new(Value::String(MASK.into())));
    true
}

fn map(node: &mut Node) -> Option<&mut BTreeMap<String, Node>> {
    match &mut node.value {
        Value::Map(map) => Some(map),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::{Source, load};

    fn effective(text: &'static str) -> Document {
        with_mask(&load(&[Source::Yaml(text.into())], &[]).unwrap().document)
    }

    fn processors(document: &Document, pipeline: &str) -> Vec<String> {
        let list = document.node(&["service", "pipelines", pipeline, "processors"]).unwrap();
        let Value::Seq(list) = &list.value else { panic!("a list") };
        list.iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_pipeline_without_mask_gets_it_in_front() {
        let document =
            effective("{service: {pipelines: {traces: {processors: [identity]}, logs: {receivers: [otlp]}}}}");
        assert_eq!(processors(&document, "traces"), ["mask", "identity"]);
        assert_eq!(processors(&document, "logs"), ["mask"]);
        let limited = "{service: {pipelines: {traces: {processors: [memory_limiter, batch]}, \
                       logs: {processors: [memory_limiter/a]}}}}";
        let document = effective(limited);
        assert_eq!(processors(&document, "traces"), ["memory_limiter", "mask", "batch"]);
        assert_eq!(processors(&document, "logs"), ["memory_limiter/a", "mask"]);
        assert!(document.has(&["processors", "mask"]));
    }

    #[test]
    fn a_pipeline_that_names_mask_stays_as_it_is() {
        let text = "{processors: {mask/own: {}}, service: {pipelines: {traces: {processors: [identity, mask/own]}}}}";
        let document = effective(text);
        assert_eq!(processors(&document, "traces"), ["identity", "mask/own"]);
        assert!(!document.has(&["processors", "mask"]));
    }

    #[test]
    fn a_configured_mask_is_the_one_inserted() {
        let text = "{processors: {mask: {unknown_fields: drop}}, service: {pipelines: {traces: {processors: []}}}}";
        let document = effective(text);
        assert_eq!(processors(&document, "traces"), ["mask"]);
        assert!(document.has(&["processors", "mask", "unknown_fields"]));
    }
}
