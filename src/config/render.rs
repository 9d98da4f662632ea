//! A configuration back to YAML, for `print-config`, with secrets hidden.

use super::{
    ConfigError, REDACTED,
    node::{Node, Value},
};
use serde::Deserialize;
use std::sync::LazyLock;

/// Whether secrets are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// Values of keys that name a secret, all headers, and credentials in URLs read `[REDACTED]`.
    Redacted,
    /// Everything as configured.
    Shown,
}

/// What a configuration is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// YAML, which loads again.
    Yaml,
    /// JSON over several lines.
    Json,
}

/// Writes a node.
///
/// # Errors
/// When a value has no form in the format, such as an infinite number in JSON.
pub fn render(node: &Node, secrets: Secrets, format: Format) -> Result<String, ConfigError> {
    let node = match secrets {
        Secrets::Redacted => redact(node.clone(), false),
        Secrets::Shown => node.clone(),
    };
    // The libraries' own errors may carry the value they failed on.
    let failed = |format: &str| ConfigError::new("", format!("the configuration cannot be written as {format}"));
    match format {
        Format::Yaml => serde_saphyr::to_string(&node).map_err(|_| failed("YAML")),
        Format::Json => serde_json::to_string_pretty(&node).map(|json| json + "\n").map_err(|_| failed("JSON")),
    }
}

/// Which keys hold secrets: `redacted.toml`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    keys: Vec<String>,
    suffixes: Vec<String>,
    subtrees: Vec<String>,
}

/// None if the data file were broken, which a test forbids; then everything is hidden.
static RULES: LazyLock<Option<Rules>> = LazyLock::new(|| toml::from_str(include_str!("redacted.toml")).ok());

fn hides(key: &str) -> bool {
    let Some(rules) = RULES.as_ref() else { return true };
    let key = key.to_ascii_lowercase().replace('-', "_");
    let is = |names: &[String]| names.contains(&key);
    is(&rules.keys) || is(&rules.subtrees) || rules.suffixes.iter().any(|suffix| key.ends_with(suffix.as_str()))
}

fn redact(node: Node, hidden: bool) -> Node {
    match node.value {
        Value::Map(map) => {
            let step = |(key, value): (String, Node)| {
                // `auth: {authenticator: id}` names a component.
                let is_reference = key == "auth" && value.get("authenticator").is_some();
                let value = redact(value, hidden || (hides(&key) && !is_reference));
                (key, value)
            };
            Node::new(Value::Map(map.into_iter().map(step).collect()))
        }
        Value::Seq(items) => Node::new(Value::Seq(items.into_iter().map(|item| redact_item(item, hidden)).collect())),
        Value::Null => Node::default(),
        // A number or boolean under such a key is as secret as a string.
        _ if hidden => Node::new(Value::String(REDACTED.to_owned())),
        Value::String(text) => Node::new(Value::String(without_credentials(&text))),
        value => Node::new(value),
    }
}

/// In `headers: [{name: x, value: y}]` the name is no secret.
fn redact_item(item: Node, hidden: bool) -> Node {
    let name = item.get("name").filter(|_| item.get("value").is_some()).cloned();
    let mut item = redact(item, hidden);
    if let (Value::Map(map), Some(name)) = (&mut item.value, name) {
        map.insert("name".to_owned(), redact(name, false));
    }
    item
}

/// A URL or connection string without what stands before its `@`, and without the parameters that hold a secret.
fn without_credentials(text: &str) -> String {
    let start = text.find("://").map(|at| at + 3);
    let (scheme, rest) = text.split_at(start.unwrap_or(0));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    // A password may hold an unescaped slash, so an @ later on counts too; hiding too much is the safe side.
    let at = rest[..end].rfind('@').or_else(|| rest.find('@'));
    let is_credentials = |at: &usize| start.is_some() || (rest[..*at].contains(':') && !rest.contains(' '));
    let (user, rest) = match at.filter(is_credentials) {
        Some(at) => (REDACTED, &rest[at..]),
        None => ("", rest),
    };
    format!("{scheme}{user}{}", without_secret_parameters(rest))
}

/// `a?token=x&b=1` with `token=[REDACTED]`.
fn without_secret_parameters(text: &str) -> String {
    let Some((path, query)) = text.split_once('?') else { return text.to_owned() };
    let parameter = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if hides(name) => format!("{name}={REDACTED}"),
        _ => pair.to_owned(),
    };
    format!("{path}?{}", query.split('&').map(parameter).collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_file_is_good() {
        assert!(toml::from_str::<Rules>(include_str!("redacted.toml")).is_ok());
    }

    #[test]
    fn credentials_in_urls_and_connection_strings() {
        for (text, want) in [
            ("localhost:4317", "localhost:4317"),
            ("http://localhost:4318/v1/traces?a=b", "http://localhost:4318/v1/traces?a=b"),
            ("https://u:p@h:1/x", "https://[REDACTED]@h:1/x"),
            ("https://p@h", "https://[REDACTED]@h"),
            ("postgres://u:p/w?x@h/db", "postgres://[REDACTED]@h/db"),
            ("user:pass@tcp(h:3306)/db", "[REDACTED]@tcp(h:3306)/db"),
            ("a@example.com", "a@example.com"),
            ("mail: a@example.com", "mail: a@example.com"),
            ("https://h/x?api_key=p&b=1&token=", "https://h/x?api_key=[REDACTED]&b=1&token=[REDACTED]"),
            ("what?", "what?"),
            ("é@ü", "é@ü"),
        ] {
            assert_eq!(without_credentials(text), want);
        }
    }
}
