//! Where configuration comes from: the URIs of `--config`, and the text behind each.

use super::error::ConfigError;
use std::{
    fmt,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

/// No configuration a person writes comes near this; it keeps `/dev/zero` from filling memory.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// One place to read configuration from. Later sources override earlier ones.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// A YAML file.
    File(PathBuf),
    /// YAML given on the command line; `a::b: v` at its top level stands for nested maps.
    Yaml(String),
    /// An environment variable that holds YAML.
    Env(String),
    /// YAML compiled into the program.
    Embedded {
        /// What errors call it.
        name: &'static str,
        /// The YAML.
        text: &'static str,
    },
}

impl Source {
    /// Reads the value of `--config`: `file:/path`, `/path`, `path`, `env:VARIABLE`, or `yaml:TEXT`.
    pub fn parse(uri: &str) -> Result<Self, ConfigError> {
        let refused = |message: String| {
            Err(ConfigError::new("--config", message)
                .with_hint("use a path, file:PATH, env:VARIABLE, or yaml:KEY::KEY: VALUE"))
        };
        match scheme(uri) {
            _ if uri.trim().is_empty() => refused("the value is empty".to_owned()),
            Some(("file", "")) => refused("file: needs a path".to_owned()),
            Some(("file", path)) => Ok(Source::File(PathBuf::from(path))),
            Some(("env", name)) if !is_variable_name(name) => {
                refused(format!("environment variable has invalid name: must match regex {VARIABLE_NAME}"))
            }
            Some(("env", name)) => Ok(Source::Env(name.to_owned())),
            Some(("yaml", text)) => Ok(Source::Yaml(text.to_owned())),
            Some((other, _)) => refused(format!("scheme \"{other}\" is not supported")),
            None => Ok(Source::File(PathBuf::from(uri))),
        }
    }

    /// What errors call this source.
    pub fn name(&self) -> String {
        match self {
            Source::File(path) => path.display().to_string(),
            Source::Yaml(_) => "yaml:".to_owned(),
            Source::Env(name) => format!("env:{name}"),
            Source::Embedded { name, .. } => (*name).to_owned(),
        }
    }

    /// The YAML text. `variable` looks environment variables up.
    pub(super) fn text(&self, variable: Lookup<'_>) -> Result<String, ConfigError> {
        match self {
            Source::File(path) => read_file(path).map_err(|message| {
                ConfigError::new(self.name(), message).with_hint("--config takes the path of a YAML file")
            }),
            Source::Yaml(text) => Ok(text.clone()),
            Source::Env(name) => match variable(name) {
                Some(Ok(text)) => Ok(text),
                Some(Err(NotUnicode)) => Err(ConfigError::new(self.name(), "the value is not valid UTF-8")),
                None => Err(ConfigError::new(self.name(), "the environment variable is not set")),
            },
            Source::Embedded { text, .. } => Ok((*text).to_owned()),
        }
    }
}

/// Only where it is: YAML may hold secrets.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// What a valid name of an environment variable looks like, in the Collector's words.
pub(super) const VARIABLE_NAME: &str = "^[a-zA-Z_][a-zA-Z0-9_]*$";

/// Whether a reference may name this variable.
pub(super) fn is_variable_name(name: &str) -> bool {
    let head = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let bytes = name.as_bytes();
    bytes.first().is_some_and(|b| head(*b)) && bytes.iter().all(|b| head(*b) || b.is_ascii_digit())
}

/// A variable that exists but is not text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotUnicode;

/// Looks up an environment variable; injected so that tests need not change the process's own.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<Result<String, NotUnicode>>;

/// The process's environment.
pub(super) fn process_environment(name: &str) -> Option<Result<String, NotUnicode>> {
    Some(std::env::var_os(name)?.into_string().map_err(|_| NotUnicode))
}

/// Splits `scheme:rest`. A scheme has at least two characters.
pub(super) fn scheme(uri: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = uri.split_once(':')?;
    let mut bytes = scheme.bytes();
    let valid = scheme.len() > 1
        && bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"+.-".contains(&b));
    valid.then_some((scheme, rest))
}

/// Reads a text file of at most [`MAX_FILE_BYTES`]; the error is a sentence without the path.
pub(super) fn read_file(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("unable to read the file: {}", io_reason(&error));
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("the file is larger than {} MiB", MAX_FILE_BYTES >> 20));
    }
    String::from_utf8(bytes).map_err(|_| "the file is not valid UTF-8".to_owned())
}

/// The operating system's reason in lower case, without Rust's "(os error 2)".
fn io_reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_ascii_lowercase()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn uris() {
        for (uri, want) in [
            ("file:/etc/x.yaml", Source::File("/etc/x.yaml".into())),
            ("/etc/x.yaml", Source::File("/etc/x.yaml".into())),
            ("x.yaml", Source::File("x.yaml".into())),
            ("./a:b.yaml", Source::File("./a:b.yaml".into())),
            ("env:CONFIG", Source::Env("CONFIG".into())),
            ("yaml:a::b: c", Source::Yaml("a::b: c".into())),
        ] {
            assert_eq!(Source::parse(uri).unwrap(), want, "{uri}");
        }
    }

    #[test]
    fn refused_uris() {
        const HINT: &str = "(use a path, file:PATH, env:VARIABLE, or yaml:KEY::KEY: VALUE)";
        for (uri, want) in [
            ("", "--config: the value is empty"),
            ("file:", "--config: file: needs a path"),
            ("env:1X", "--config: environment variable has invalid name: must match regex ^[a-zA-Z_][a-zA-Z0-9_]*$"),
            ("https://example.com/c.yaml", "--config: scheme \"https\" is not supported"),
        ] {
            assert_eq!(Source::parse(uri).unwrap_err().to_string(), format!("{want} {HINT}"));
        }
    }

    #[test]
    fn unreadable_sources() {
        let error = Source::File("/nonexistent/tracegate.yaml".into()).text(&|_| None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/nonexistent/tracegate.yaml: unable to read the file: no such file or directory \
             (--config takes the path of a YAML file)"
        );
        let error = Source::Env("UNSET".into()).text(&|_| None).unwrap_err();
        assert_eq!(error.to_string(), "env:UNSET: the environment variable is not set");
        let error = Source::Env("BINARY".into()).text(&|_| Some(Err(NotUnicode))).unwrap_err();
        assert_eq!(error.to_string(), "env:BINARY: the value is not valid UTF-8");
    }
}
