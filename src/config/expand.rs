//! Expansion of `${…}` in strings, by the Collector's rules.
//!
//! * `${env:X}`, `${X}`, `${env:X:-default}`, `${file:path}`, `${yaml:text}`, one within another; `$$` is a dollar
//!   sign; a naked `$X` and an unclosed `${` stay as they are.
//! * A reference that is the whole string takes the type YAML gives the text (`"4"` in the environment is a number);
//!   a string target still gets the text as it was. Within other text the reference is replaced by the text.
//! * An unset variable without default is null and a warning.

use super::{
    error::{ConfigError, join},
    node::{Node, Value},
    source::{Lookup, NotUnicode, VARIABLE_NAME, is_variable_name, read_file, scheme},
    yaml,
};
use std::{collections::BTreeSet, path::Path};

/// References followed for one scalar of the configuration, as in the Collector.
const MAX_EXPANSIONS: usize = 1000;

/// References within what references bring in; keeps a variable that names itself from exhausting the stack.
const MAX_DEPTH: usize = 64;

/// Expands a whole configuration; answers the warnings, each once.
pub(super) fn expand(root: Node, variable: Lookup<'_>) -> Result<(Node, Vec<String>), ConfigError> {
    let mut expander = Expander { variable, path: Vec::new(), expansions: 0, depth: 0, unset: BTreeSet::new() };
    let node = expander.tree(root, true)?;
    let warning = |name| format!("Configuration references unset environment variable: {name}");
    Ok((node, expander.unset.into_iter().map(warning).collect()))
}

struct Expander<'a> {
    variable: Lookup<'a>,
    path: Vec<String>,
    expansions: usize,
    depth: usize,
    unset: BTreeSet<String>,
}

/// A piece of a string.
enum Part<'a> {
    Literal(&'a str),
    /// What stands between `${` and `}`.
    Reference(&'a str),
}

impl Expander<'_> {
    /// Expands every string below a node. `own` is false for what a reference brought in: its strings count against
    /// the same bound, and `$$` is resolved once, at the end.
    fn tree(&mut self, node: Node, own: bool) -> Result<Node, ConfigError> {
        match node.value {
            Value::String(text) => {
                if !own {
                    return self.string(&text);
                }
                self.expansions = 0;
                let mut node = self.string(&text)?;
                unescape(&mut node);
                Ok(node)
            }
            Value::Seq(items) => {
                let mut out = Vec::with_capacity(items.len());
                for (index, item) in items.into_iter().enumerate() {
                    self.path.push(index.to_string());
                    out.push(self.tree(item, own)?);
                    self.path.pop();
                }
                Ok(Node { value: Value::Seq(out), text: node.text })
            }
            Value::Map(map) => {
                let mut out = std::collections::BTreeMap::new();
                for (key, item) in map {
                    self.path.push(key.clone());
                    out.insert(key, self.tree(item, own)?);
                    self.path.pop();
                }
                Ok(Node { value: Value::Map(out), text: node.text })
            }
            _ => Ok(node),
        }
    }

    fn string(&mut self, text: &str) -> Result<Node, ConfigError> {
        let parts = split(text);
        match parts.as_slice() {
            [] | [Part::Literal(_)] => Ok(Node::new(Value::String(text.to_owned()))),
            [Part::Reference(inner)] => self.reference(inner),
            parts => Ok(Node::new(Value::String(self.concatenate(parts)?))),
        }
    }

    fn concatenate(&mut self, parts: &[Part<'_>]) -> Result<String, ConfigError> {
        let mut out = String::new();
        for part in parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Reference(inner) => {
                    // Whatever a reference brings has a text, except what is unset.
                    out.push_str(self.reference(inner)?.as_str().unwrap_or_default());
                }
            }
        }
        Ok(out)
    }

    fn reference(&mut self, inner: &str) -> Result<Node, ConfigError> {
        self.expansions += 1;
        self.depth += 1;
        if self.expansions > MAX_EXPANSIONS || self.depth > MAX_DEPTH {
            return Err(self.error("too many recursive expansions"));
        }
        let node = self.follow(inner)?;
        self.depth -= 1;
        Ok(node)
    }

    fn follow(&mut self, inner: &str) -> Result<Node, ConfigError> {
        let parts = split(inner);
        let target = self.concatenate(&parts)?;
        let Some(text) = self.retrieve(&target)? else { return Ok(Node::default()) };
        let node = match yaml::parse("", &text) {
            // A string keeps its quotes, and what is not YAML at all is a string: secrets arrive as they are.
            Err(_) | Ok(Node { value: Value::String(_), .. }) => Node::new(Value::String(text)),
            Ok(Node { value, .. }) => Node::with_text(value, text),
        };
        let text = match &node.text {
            Some(text) if text.contains("${") => Some(self.concatenate(&split(text))?),
            _ => node.text.clone(),
        };
        let node = self.tree(node, false)?;
        // A string that was itself a reference brought its own text along.
        Ok(Node { text: text.or(node.text), value: node.value })
    }

    /// The text behind a reference; none for an unset variable without default.
    fn retrieve(&mut self, target: &str) -> Result<Option<String>, ConfigError> {
        match scheme(target) {
            Some(("env", rest)) => self.environment(rest),
            Some(("yaml", text)) => Ok(Some(text.to_owned())),
            Some(("file", path)) => match read_file(Path::new(path)) {
                Ok(text) => Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned())),
                Err(message) => Err(self.error(format!("${{file:{path}}}: {message}"))),
            },
            Some((name, rest)) if !(rest.starts_with('-') && is_variable_name(name)) => Err(self
                .error(format!("scheme \"{name}\" is not supported"))
                .with_hint("valid schemes: env, file, yaml; write $$ for a dollar sign")),
            _ => self.environment(target),
        }
    }

    fn environment(&mut self, target: &str) -> Result<Option<String>, ConfigError> {
        let (name, default) = match target.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (target, None),
        };
        if !is_variable_name(name) {
            // The name is not repeated: a password with an unescaped dollar sign ends up here.
            return Err(self
                .error(format!("environment variable has invalid name: must match regex {VARIABLE_NAME}"))
                .with_hint("write $$ for a dollar sign"));
        }
        match (self.variable)(name) {
            Some(Ok(text)) => Ok(Some(text)),
            Some(Err(NotUnicode)) => Err(self.error(format!("environment variable {name} is not valid UTF-8"))),
            None => {
                if default.is_none() {
                    self.unset.insert(name.to_owned());
                }
                Ok(default.map(str::to_owned))
            }
        }
    }

    fn error(&self, message: impl Into<String>) -> ConfigError {
        ConfigError::new(join(&self.path), message)
    }
}

/// Splits a string at its references. `$$` and everything that is not a complete reference stays literal.
fn split(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let bytes = text.as_bytes();
    let (mut literal, mut at) = (0, 0);
    while let Some(found) = text.get(at..).and_then(|rest| rest.find('$')) {
        at += found;
        match bytes.get(at + 1) {
            Some(b'$') => at += 2,
            Some(b'{') => match closing(bytes, at + 2) {
                Some(end) => {
                    if literal < at {
                        parts.push(Part::Literal(&text[literal..at]));
                    }
                    parts.push(Part::Reference(&text[at + 2..end]));
                    at = end + 1;
                    literal = at;
                }
                None => at += 2,
            },
            _ => at += 1,
        }
    }
    if literal < text.len() {
        parts.push(Part::Literal(&text[literal..]));
    }
    parts
}

/// The brace that closes the reference whose content starts at `start`.
fn closing(bytes: &[u8], start: usize) -> Option<usize> {
    let (mut depth, mut at) = (0usize, start);
    loop {
        match (*bytes.get(at)?, bytes.get(at + 1)) {
            (b'$', Some(b'$')) => at += 1,
            (b'$', Some(b'{')) => {
                depth += 1;
                at += 1;
            }
            (b'}', _) if depth == 0 => return Some(at),
            (b'}', _) => depth -= 1,
            _ => {}
        }
        at += 1;
    }
}

fn unescape(node: &mut Node) {
    if let Some(text) = &mut node.text {
        *text = text.replace("$$", "$");
    }
    match &mut node.value {
        Value::String(text) => *text = text.replace("$$", "$"),
        Value::Seq(items) => items.iter_mut().for_each(unescape),
        Value::Map(map) => map.values_mut().for_each(unescape),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The parts of a string are the string: nothing is lost, nothing is taken twice.
        #[test]
        fn parts_make_up_the_whole(text in "[$a{}é:-]{0,24}") {
            let whole: String = split(&text)
                .iter()
                .map(|part| match part {
                    Part::Literal(literal) => (*literal).to_owned(),
                    Part::Reference(inner) => format!("${{{inner}}}"),
                })
                .collect();
            prop_assert_eq!(whole, text);
        }

        /// Doubling every dollar sign makes any text literal, also within a reference's default.
        #[test]
        fn doubled_dollars_are_literal(text in "[$a{}é]{0,24}") {
            let source = Node::new(Value::String(text.replace('$', "$$")));
            let (node, warnings) = expand(source, &|_| None).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(node.as_str(), Some(text.as_str()));
            prop_assert!(warnings.is_empty());
        }
    }
}
