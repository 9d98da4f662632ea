//! The Collector's `bearertokenauth`: one of several tokens, in the configuration or in a file that may change.

use super::{Denied, MAX_CREDENTIAL, Method, Principal, PrincipalKind, digest::Digest, header_value, read};
use crate::{
    config::{
        ConfigError,
        types::{Duration, Opaque},
    },
    net::tls::Reload,
};
use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};
use subtle::{Choice, ConstantTimeEq};

/// `extensions: bearertokenauth:`, with the Collector's keys and defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What stands in front of the token; `""` is nothing.
    pub scheme: String,
    /// The header that carries it.
    pub header: String,
    /// The token.
    pub token: Opaque,
    /// Tokens of which clients may show any; exporters send the first.
    pub tokens: Vec<Opaque>,
    /// A file with a token in every line. It is looked at every second.
    pub filename: PathBuf,
    /// Whether the file may be missing at the start.
    pub file_retry: FileRetry,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            scheme: "Bearer".to_owned(),
            header: "Authorization".to_owned(),
            token: Opaque::default(),
            tokens: Vec::new(),
            filename: PathBuf::new(),
            file_retry: FileRetry::default(),
        }
    }
}

/// `file_retry`. The file is looked at every second anyway, for ever.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileRetry {
    /// The file may come later. Until then nobody is let in and nothing is sent.
    pub enabled: bool,
    /// Accepted without effect.
    pub max_retries: i64,
    /// Accepted without effect.
    pub retry_interval: Duration,
}

/// Headers that HTTP and gRPC need for themselves.
const NOT_FOR_TOKENS: [&str; 10] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "user-agent",
];

/// Tokens, from wherever they come.
pub(super) struct Tokens {
    principal: Arc<Principal>,
    header: HeaderName,
    /// As it is written.
    header_text: Arc<str>,
    scheme: String,
    challenge: HeaderValue,
    source: Source,
    may_come_later: bool,
    current: ArcSwap<Current>,
}

enum Source {
    Given(Vec<Opaque>),
    File(PathBuf),
}

/// Those in use. Nobody is let in by none.
#[derive(Default)]
struct Current {
    accepted: Vec<Digest>,
    sent: Option<HeaderValue>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("id", &self.principal.id).field("header", &self.header).finish_non_exhaustive()
    }
}

impl Tokens {
    pub(super) fn new(id: &str, config: &Config) -> Result<Self, ConfigError> {
        let principal = Principal { id: id.into(), kind: PrincipalKind::TokenHolder, method: Method::Bearer };
        let source = config.source()?;
        if let Source::Given(tokens) = &source {
            let key = if config.tokens.is_empty() { "token" } else { "tokens" };
            config.made_of(key, tokens.iter().map(Opaque::expose))?;
        }
        Ok(Tokens {
            principal: Arc::new(principal),
            header: config.header()?,
            header_text: config.header.as_str().into(),
            scheme: config.scheme()?.to_owned(),
            challenge: config.challenge(),
            source,
            may_come_later: config.file_retry.enabled,
            current: ArcSwap::default(),
        })
    }

    pub(super) fn header(&self) -> &HeaderName {
        &self.header
    }

    pub(super) fn challenge(&self) -> &HeaderValue {
        &self.challenge
    }

    /// The file.
    pub(super) fn files(&self) -> Option<&Path> {
        match &self.source {
            Source::File(path) => Some(path),
            Source::Given(_) => None,
        }
    }

    /// Whether the start goes on without the file.
    pub(super) fn may_come_later(&self, _: &ConfigError) -> bool {
        self.may_come_later
    }

    /// What exporters send today.
    pub(super) fn to_send(&self) -> Option<HeaderValue> {
        self.current.load().sent.clone()
    }

    /// Who shows this value of the header. A scheme's case does not matter (RFC 9110, section 11.1).
    pub(super) fn check(&self, value: &[u8]) -> Result<Arc<Principal>, Denied> {
        if value.is_empty() {
            return Err(Denied::Missing(self.header_text.clone()));
        }
        if value.len() > MAX_CREDENTIAL {
            return Err(Denied::Token);
        }
        let token = behind(&self.scheme, value).ok_or(Denied::Token)?;
        let shown = Digest::of(token);
        // Every token is compared, so that the time does not tell which it was.
        let found = |found: Choice, accepted: &Digest| found | accepted.ct_eq(&shown);
        match self.current.load().accepted.iter().fold(Choice::from(0), found).into() {
            true => Ok(self.principal.clone()),
            false => Err(Denied::Token),
        }
    }
}

/// What follows a scheme and at least one space.
pub(super) fn behind<'a>(scheme: &str, value: &'a [u8]) -> Option<&'a [u8]> {
    if scheme.is_empty() {
        return Some(value);
    }
    let (start, rest) = value.split_at_checked(scheme.len())?;
    let rest = rest.strip_prefix(b" ")?;
    start.eq_ignore_ascii_case(scheme.as_bytes()).then(|| rest.trim_ascii_start())
}

impl Reload for Tokens {
    const WHAT: &'static str = "authentication";
    const FIRST: &'static str = "request";

    fn reload(&self) -> Result<(), ConfigError> {
        let current = match &self.source {
            Source::Given(tokens) => Current::of(&self.scheme, tokens.iter().map(Opaque::expose)),
            Source::File(path) => {
                let text = read("filename", path)?;
                let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
                if lines.is_empty() {
                    return Err(ConfigError::new("filename", "the file holds no token"));
                }
                Current::of(&self.scheme, lines.into_iter())
            }
        };
        let current = current
            .ok_or_else(|| ConfigError::new("filename", "holds a token with characters that headers cannot carry"))?;
        self.current.store(Arc::new(current));
        Ok(())
    }
}

impl Current {
    /// `None` for a token that no header can carry.
    fn of<'a>(scheme: &str, tokens: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut current = Current::default();
        for token in tokens {
            let value = if scheme.is_empty() { token.to_owned() } else { format!("{scheme} {token}") };
            let value = header_value(value.as_bytes())?;
            current.sent.get_or_insert(value);
            current.accepted.push(Digest::of(token.as_bytes()));
        }
        Some(current)
    }
}

impl Config {
    /// Exactly one of `token`, `tokens` and `filename`.
    fn source(&self) -> Result<Source, ConfigError> {
        let file = !self.filename.as_os_str().is_empty();
        match (self.token.is_empty(), self.tokens.is_empty(), file) {
            (true, true, false) => {
                Err(ConfigError::new("", "no bearer token provided").with_hint("set token, tokens or filename"))
            }
            (false, false, _) => Err(ConfigError::new("", "either tokens or token should be provided, not both")),
            (_, _, true) if !(self.token.is_empty() && self.tokens.is_empty()) => {
                Err(ConfigError::new("", "either a filename or tokens should be provided, not both")
                    .with_hint("a Collector takes the file's; remove the other"))
            }
            (_, _, true) => Ok(Source::File(self.filename.clone())),
            (false, ..) => Ok(Source::Given(vec![self.token.clone()])),
            (true, ..) => Ok(Source::Given(self.tokens.clone())),
        }
    }

    fn header(&self) -> Result<HeaderName, ConfigError> {
        let invalid = |text: &str| ConfigError::new("header", text);
        let name = HeaderName::from_bytes(self.header.as_bytes()).map_err(|_| invalid("is not a valid header name"))?;
        let taken = NOT_FOR_TOKENS.contains(&name.as_str()) || name.as_str().starts_with("grpc-");
        if taken || name.as_str().ends_with("-bin") {
            return Err(invalid("is a header that HTTP and gRPC need for themselves; use another one"));
        }
        Ok(name)
    }

    fn scheme(&self) -> Result<&str, ConfigError> {
        match self.scheme.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) && self.scheme.trim() == self.scheme {
            true => Ok(&self.scheme),
            false => Err(ConfigError::new("scheme", "has characters that headers cannot carry")),
        }
    }

    /// A scheme that is not one word cannot be asked for.
    fn challenge(&self) -> HeaderValue {
        const BEARER: HeaderValue = HeaderValue::from_static("Bearer realm=\"tracegate\"");
        let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'+');
        match !self.scheme.is_empty() && self.scheme.bytes().all(word) {
            true => HeaderValue::try_from(format!("{} realm=\"tracegate\"", self.scheme)).unwrap_or(BEARER),
            false => BEARER,
        }
    }

    /// That these can be tokens.
    fn made_of<'a>(&self, key: &str, mut tokens: impl Iterator<Item = &'a str> + Clone) -> Result<(), ConfigError> {
        if tokens.clone().any(|token| token.trim().is_empty()) {
            return Err(ConfigError::new(key, "holds an empty token"));
        }
        if tokens.clone().any(|token| token.trim() != token) {
            return Err(ConfigError::new(key, "holds a token with white space around it"));
        }
        match tokens.all(|token| header_value(token.as_bytes()).is_some()) {
            true => Ok(()),
            false => Err(ConfigError::new(key, "holds a token with characters that headers cannot carry")),
        }
    }
}
