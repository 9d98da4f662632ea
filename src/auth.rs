//! Who is calling, and as whom tracegate calls: credentials become a [`Principal`], and a principal's credential a
//! header.
//!
//! An [`Authenticator`] is an extension of the configuration, with the Collector's types and keys. Receivers ask its
//! [`Server`] side about every request before they read its body; exporters have its [`Client`] side mark every
//! request they send. A credential is compared in constant time, kept in no form but a digest under a key of this
//! process where that is enough, and never shown: not in errors, not in Debug output, not in the log.

mod basic;
mod bearer;
mod checks;
mod digest;
mod htpasswd;
#[cfg(test)]
mod tests;

pub use basic::{ClientAuth, Config as BasicConfig, Htpasswd};
pub use bearer::{Config as BearerConfig, FileRetry};

use crate::{
    config::{ComponentId, ConfigError},
    net::tls::{Files, Reload, watch},
};
use basic::Login;
use bearer::Tokens;
use checks::Accounts;
use http::{HeaderName, HeaderValue, header::AUTHORIZATION};
use serde::Deserialize;
use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

/// How often files with credentials are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The longest credential that is looked at, in bytes; a JSON Web Token with many claims has a few thousand.
const MAX_CREDENTIAL: usize = 16 * 1024;

/// Who sent a request, as its transport proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The account's name; where a token has none, the id of the authenticator that knows the token. Never a
    /// credential.
    pub id: Arc<str>,
    /// What the id names.
    pub kind: PrincipalKind,
    /// How it was proved.
    pub method: Method,
}

/// What a principal's id names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PrincipalKind {
    /// An account of its own.
    Account,
    /// Whoever holds one of the tokens of an authenticator.
    TokenHolder,
}

/// How a principal proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// A token (RFC 6750).
    Bearer,
    /// A user's name and password (RFC 7617).
    Basic,
}

/// Why a request is not let in. The texts are the Collector's where it has one; they never repeat the credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// There is no credential.
    #[error("missing or empty authorization header: {0}")]
    Missing(Arc<str>),
    /// There is more than one, and which of them counts is not for us to guess.
    #[error("more than one credential in the request")]
    Several,
    /// It is none of the tokens, or does not begin with the scheme.
    #[error("scheme or token does not match")]
    Token,
    /// There is no user and password.
    #[error("no basic auth provided")]
    NoBasic,
    /// It is not `Basic`.
    #[error("invalid authorization scheme prefix")]
    Scheme,
    /// It is not a user and password in base64.
    #[error("invalid authorization format")]
    Format,
    /// No such user, or another password.
    #[error("invalid credentials")]
    Credentials,
    /// Too many passwords wait to be checked. The same request may succeed later.
    #[error("too many credentials are being checked at once")]
    Busy,
}

/// `auth:` of a receiver or exporter.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// The id of the extension.
    pub authenticator: ComponentId,
}

/// An extension that authenticates. It knows nobody before [`Authenticator::start`].
#[derive(Clone, Debug)]
pub struct Authenticator(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Bearer(Arc<Tokens>),
    Accounts(Arc<Accounts>),
    Login(Arc<Login>),
}

impl Authenticator {
    /// `bearertokenauth`, for both sides.
    ///
    /// # Errors
    /// [`ConfigError`] with a path below the extension, and the Collector's text where it has one.
    pub fn bearer(id: &str, config: &BearerConfig) -> Result<Self, ConfigError> {
        Tokens::new(id, config).map(|tokens| Authenticator(Kind::Bearer(Arc::new(tokens))))
    }

    /// `basicauth`: with `htpasswd` for servers, with `client_auth` for clients.
    ///
    /// # Errors
    /// As [`Authenticator::bearer`].
    pub fn basic(config: &BasicConfig) -> Result<Self, ConfigError> {
        Ok(Authenticator(match config.side()? {
            basic::Side::Server(htpasswd) => Kind::Accounts(Arc::new(Accounts::new(htpasswd)?)),
            basic::Side::Client(client) => Kind::Login(Arc::new(Login::new(client)?)),
        }))
    }

    /// Reads the files, and looks at them again and again from now on. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`ConfigError`] with a path below the extension when a file cannot be used.
    pub fn start(&self) -> Result<(), ConfigError> {
        match &self.0 {
            Kind::Bearer(tokens) => start(tokens, tokens.files(), |error| tokens.may_come_later(error)),
            Kind::Accounts(accounts) => start(accounts, accounts.files(), |_| false),
            Kind::Login(login) => start(login, login.files(), |_| false),
        }
    }

    /// Its side for receivers.
    pub fn server(&self) -> Option<Server> {
        match &self.0 {
            Kind::Bearer(tokens) => Some(Server(ServerKind::Bearer(tokens.clone()))),
            Kind::Accounts(accounts) => Some(Server(ServerKind::Basic(accounts.clone()))),
            Kind::Login(_) => None,
        }
    }

    /// Its side for exporters.
    pub fn client(&self) -> Option<Client> {
        match &self.0 {
            Kind::Bearer(tokens) => Some(Client(ClientKind::Bearer(tokens.clone()))),
            Kind::Login(login) => Some(Client(ClientKind::Basic(login.clone()))),
            Kind::Accounts(_) => None,
        }
    }
}

/// Uses what the files hold, and what they come to hold. `later` says whether an error may pass with time.
fn start<'a, R: Reload>(
    made: &Arc<R>,
    files: impl IntoIterator<Item = &'a Path>,
    later: impl Fn(&ConfigError) -> bool,
) -> Result<(), ConfigError> {
    let files = Files::now(files);
    match made.reload() {
        Err(error) if later(&error) => {
            tracing::warn!(%error, "authentication: nobody is let in and nothing is sent before")
        }
        result => result?,
    }
    watch(made, files, LOOK_EVERY);
    Ok(())
}

/// Lets requests in.
#[derive(Clone, Debug)]
pub struct Server(ServerKind);

#[derive(Clone, Debug)]
enum ServerKind {
    Bearer(Arc<Tokens>),
    Basic(Arc<Accounts>),
}

impl Server {
    /// The header in which clients show their credential.
    pub fn header(&self) -> &HeaderName {
        match &self.0 {
            ServerKind::Bearer(tokens) => tokens.header(),
            ServerKind::Basic(_) => &AUTHORIZATION,
        }
    }

    /// What `WWW-Authenticate` says to those who are not let in (RFC 9110, section 11.6.1).
    pub fn challenge(&self) -> HeaderValue {
        match &self.0 {
            ServerKind::Bearer(tokens) => tokens.challenge().clone(),
            ServerKind::Basic(_) => HeaderValue::from_static("Basic realm=\"tracegate\", charset=\"UTF-8\""),
        }
    }

    /// Who shows these values of [`Server::header`].
    ///
    /// # Errors
    /// [`Denied`] unless there is exactly one value and it is good.
    pub async fn authenticate(&self, mut values: impl Iterator<Item = &[u8]>) -> Result<Arc<Principal>, Denied> {
        let value = values.next().map(<[u8]>::trim_ascii).unwrap_or_default();
        if values.next().is_some() {
            return Err(Denied::Several);
        }
        match &self.0 {
            ServerKind::Bearer(tokens) => tokens.check(value),
            ServerKind::Basic(accounts) => accounts.check(value).await,
        }
    }
}

/// Marks requests that are sent.
#[derive(Clone, Debug)]
pub struct Client(ClientKind);

#[derive(Clone, Debug)]
enum ClientKind {
    Bearer(Arc<Tokens>),
    Basic(Arc<Login>),
}

impl Client {
    /// The header that is set.
    pub fn header(&self) -> &HeaderName {
        match &self.0 {
            ClientKind::Bearer(tokens) => tokens.header(),
            ClientKind::Basic(_) => &AUTHORIZATION,
        }
    }

    /// The header's value today; `None` where there is none yet. Once there is one, there always is.
    pub fn credential(&self) -> Option<HeaderValue> {
        match &self.0 {
            ClientKind::Bearer(tokens) => tokens.to_send(),
            ClientKind::Basic(login) => login.to_send(),
        }
    }
}

/// The extensions the service starts, for those that refer to one.
#[derive(Clone, Debug, Default)]
pub struct Authenticators(BTreeMap<ComponentId, Option<Authenticator>>);

impl Authenticators {
    /// Adds an extension; `None` is one that does not authenticate.
    pub fn insert(&mut self, id: ComponentId, authenticator: Option<Authenticator>) {
        self.0.insert(id, authenticator);
    }

    /// Starts all of them.
    ///
    /// # Errors
    /// As [`Authenticator::start`], with the path of the extension.
    pub fn start(&self) -> Result<(), ConfigError> {
        for (id, authenticator) in &self.0 {
            let Some(authenticator) = authenticator else { continue };
            authenticator.start().map_err(|error| error.under(&["extensions", &id.to_string()]))?;
        }
        Ok(())
    }

    /// The server a receiver refers to.
    ///
    /// # Errors
    /// [`ConfigError`] at `auth`, with the Collector's text.
    pub fn server(&self, reference: &Reference) -> Result<Server, ConfigError> {
        self.find(reference)?
            .and_then(Authenticator::server)
            .ok_or_else(|| ConfigError::new("auth", "requested authenticator is not a server authenticator"))
    }

    /// The client an exporter refers to; `protocol` is `gRPC` or `HTTP`.
    ///
    /// # Errors
    /// As [`Authenticators::server`].
    pub fn client(&self, reference: &Reference, protocol: &str) -> Result<Client, ConfigError> {
        self.find(reference)?.and_then(Authenticator::client).ok_or_else(|| {
            ConfigError::new("auth", format!("requested authenticator is not a {protocol} client authenticator"))
        })
    }

    fn find(&self, Reference { authenticator: id }: &Reference) -> Result<Option<&Authenticator>, ConfigError> {
        self.0.get(id).map(Option::as_ref).ok_or_else(|| {
            let text = format!("failed to resolve authenticator \"{id}\": authenticator not found");
            ConfigError::new("auth", text).with_hint("configure it under extensions and list it in service::extensions")
        })
    }
}

/// A credential as a header's value, which Debug output hides.
fn header_value(bytes: &[u8]) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_bytes(bytes).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A small file as text without white space around it.
fn read(key: &str, path: &Path) -> Result<String, ConfigError> {
    let bytes =
        crate::net::tls::read_small(path).map_err(|error| ConfigError::new(key, format!("cannot be read: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|_| ConfigError::new(key, "holds bytes that are not UTF-8"))?;
    Ok(text.trim().to_owned())
}
