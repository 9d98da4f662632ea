//! Lines `user:hash`, as Apache's `htpasswd` writes them: bcrypt, `{SHA}` and passwords in the clear.

use super::digest::Digest;
use crate::config::ConfigError;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bcrypt::HashParts;
use ring::digest;
use std::{collections::HashMap, sync::Arc};
use subtle::ConstantTimeEq;

/// The most costly bcrypt hash that is taken: each further step doubles the time, and this takes seconds.
const MAX_COST: u32 = 16;

/// A user's password, as it is known.
#[derive(Clone)]
pub(super) enum Secret {
    /// Costly to compare, on purpose.
    Bcrypt(Arc<str>),
    Sha1([u8; 20]),
    Plain(Digest),
}

/// Users by name. The last line about one counts.
#[derive(Default)]
pub(super) struct Users(HashMap<Vec<u8>, Secret>);

impl Users {
    /// Reads lines; empty ones and those that begin with `#` say nothing. Errors name the line, never what it says.
    pub(super) fn add(&mut self, key: &str, text: &str) -> Result<(), ConfigError> {
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let invalid =
                |what: &str, hint: &str| ConfigError::new(key, format!("line {}: {what}", number + 1)).with_hint(hint);
            let (user, hash) = line
                .split_once(':')
                .filter(|(user, hash)| !user.is_empty() && !hash.is_empty())
                .ok_or_else(|| invalid("is not user:password", "make it with htpasswd -nB user"))?;
            let secret = Secret::read(hash).map_err(|(what, hint)| invalid(what, hint))?;
            self.0.insert(user.as_bytes().to_vec(), secret);
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn get(&self, user: &[u8]) -> Option<&Secret> {
        self.0.get(user)
    }

    /// A hash to spend as much time on as on that of a user there is.
    pub(super) fn costly(&self) -> Option<Arc<str>> {
        self.0.values().find_map(|secret| match secret {
            Secret::Bcrypt(hash) => Some(hash.clone()),
            _ => None,
        })
    }
}

const USE_BCRYPT: &str = "make it with htpasswd -nB user";

impl Secret {
    fn read(hash: &str) -> Result<Self, (&'static str, &'static str)> {
        if let Some(sha) = hash.strip_prefix("{SHA}") {
            let bytes = STANDARD.decode(sha).ok().and_then(|bytes| bytes.try_into().ok());
            return bytes.map(Secret::Sha1).ok_or(("is not the base64 of a SHA-1 digest", USE_BCRYPT));
        }
        if ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix)) {
            let parts: HashParts = hash.parse().map_err(|_| ("is not a bcrypt hash", USE_BCRYPT))?;
            return match parts.get_cost() {
                4..=MAX_COST => Ok(Secret::Bcrypt(hash.into())),
                _ => Err(("has a bcrypt cost that is not between 4 and 16", "make it with htpasswd -nB -C 10 user")),
            };
        }
        // What begins so is a hash of another kind, not a password.
        if hash.starts_with(['$', '{']) {
            return Err(("has a hash of a kind that is not supported; bcrypt, {SHA} and plain text are", USE_BCRYPT));
        }
        Ok(Secret::Plain(Digest::of(hash.as_bytes())))
    }

    /// Whether this is the password; takes long for bcrypt.
    pub(super) fn is(&self, password: &[u8]) -> bool {
        match self {
            Secret::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Secret::Sha1(known) => {
                let shown = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, password);
                shown.as_ref().ct_eq(known).into()
            }
            Secret::Plain(known) => known.ct_eq(&Digest::of(password)).into(),
        }
    }
}
