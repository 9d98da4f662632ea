//! The Collector's `basicauth`: users and their passwords for servers, or one of them for clients.

use super::{header_value, read};
use crate::{
    config::{ConfigError, types::Opaque},
    net::tls::Reload,
};
use arc_swap::ArcSwapOption;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// `extensions: basicauth:`, with the Collector's keys.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whom a server lets in.
    pub htpasswd: Option<Htpasswd>,
    /// As whom a client appears.
    pub client_auth: Option<ClientAuth>,
}

/// `htpasswd`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Htpasswd {
    /// A file of lines `user:hash`. It is looked at every second.
    pub file: PathBuf,
    /// The same in place; where both have a user, this counts.
    pub inline: Opaque,
}

/// `client_auth`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientAuth {
    /// The user.
    pub username: String,
    /// A file with the user's name, in the place of `username`. It is looked at every second.
    pub username_file: PathBuf,
    /// The password.
    pub password: Opaque,
    /// A file with the password, in the place of `password`. It is looked at every second.
    pub password_file: PathBuf,
    aws_secrets_manager: Option<NoSecretsManager>,
}

/// `aws_secrets_manager`, which tracegate does not ask.
#[derive(Clone, Debug)]
enum NoSecretsManager {}

impl<'de> Deserialize<'de> for NoSecretsManager {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("this key of the Collector is not supported; mount the secret and set password_file"))
    }
}

/// What an extension is for.
pub(super) enum Side<'a> {
    Server(&'a Htpasswd),
    Client(&'a ClientAuth),
}

impl Config {
    pub(super) fn side(&self) -> Result<Side<'_>, ConfigError> {
        match (&self.htpasswd, &self.client_auth) {
            (Some(_), Some(_)) => Err(ConfigError::new("", "only one of `htpasswd` or `client_auth` can be specified")),
            (Some(htpasswd), None) if htpasswd.file.as_os_str().is_empty() && htpasswd.inline.is_empty() => {
                Err(ConfigError::new("htpasswd", NO_SOURCE).with_hint("set file or inline"))
            }
            (Some(htpasswd), None) => Ok(Side::Server(htpasswd)),
            (None, Some(client)) => Ok(Side::Client(client)),
            (None, None) => Err(ConfigError::new("", NO_SOURCE).with_hint("set htpasswd or client_auth")),
        }
    }
}

const NO_SOURCE: &str = "no credential source provided";

/// As whom an exporter appears.
pub(super) struct Login {
    config: ClientAuth,
    sent: ArcSwapOption<HeaderValue>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

impl Login {
    pub(super) fn new(config: &ClientAuth) -> Result<Self, ConfigError> {
        if config.username_file.as_os_str().is_empty() {
            if config.username.is_empty() {
                let hint = "set username or username_file";
                return Err(ConfigError::new("client_auth", NO_SOURCE).with_hint(hint));
            }
            user("client_auth::username", &config.username)?;
        }
        Ok(Login { config: config.clone(), sent: ArcSwapOption::empty() })
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        let files = [&self.config.username_file, &self.config.password_file];
        files.into_iter().map(PathBuf::as_path).filter(|path| !path.as_os_str().is_empty())
    }

    /// What exporters send today.
    pub(super) fn to_send(&self) -> Option<HeaderValue> {
        self.sent.load().as_deref().cloned()
    }
}

/// A name with a colon would end too early.
fn user(key: &str, name: &str) -> Result<(), ConfigError> {
    match name.contains(':') {
        true => Err(ConfigError::new(key, "invalid authorization format").with_hint("a user's name has no colon")),
        false => Ok(()),
    }
}

impl Reload for Login {
    const WHAT: &'static str = "authentication";
    const FIRST: &'static str = "request";

    fn reload(&self) -> Result<(), ConfigError> {
        let ClientAuth { username, username_file, password, password_file, .. } = &self.config;
        let or_file = |key: &str, text: &str, file: &Path| match file.as_os_str().is_empty() {
            true => Ok(text.to_owned()),
            false => match read(key, file)? {
                empty if empty.is_empty() => Err(ConfigError::new(key, "the file is empty")),
                text => Ok(text),
            },
        };
        let name = or_file("client_auth::username_file", username, username_file)?;
        user("client_auth::username_file", &name)?;
        let password = or_file("client_auth::password_file", password.expose(), password_file)?;
        let value = format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
        // Base64 is always fit for a header.
        self.sent.store(header_value(value.as_bytes()).map(Arc::new));
        Ok(())
    }
}
