//! `auth` of an exporter: the extension whose credential every request carries.

use super::{Failure, headers::Headers};
use crate::{
    auth::{Authenticators, Client, Reference},
    config::ConfigError,
};
use http::HeaderMap;

/// The client an exporter refers to; `protocol` is `gRPC` or `HTTP`.
///
/// # Errors
/// [`ConfigError`] below the exporter, also where `headers` sets what the client sets.
pub(super) fn client(
    auth: Option<&Reference>,
    protocol: &str,
    headers: &Headers,
    authenticators: &Authenticators,
) -> Result<Option<Client>, ConfigError> {
    let Some(reference) = auth else { return Ok(None) };
    let client = authenticators.client(reference, protocol)?;
    let twice = headers.0.iter().map(|(name, _)| name).find(|name| name.eq_ignore_ascii_case(client.header().as_str()));
    match twice {
        None => Ok(Some(client)),
        Some(name) => {
            let text = format!("is also set by authenticator \"{}\"", reference.authenticator);
            Err(ConfigError::at(&["headers", name], text).with_hint("remove it, or remove auth"))
        }
    }
}

/// That there is a credential to send; without it nothing should be sent.
pub(super) fn ready(client: Option<&Client>) -> Result<(), Failure> {
    match client.is_none_or(|client| client.credential().is_some()) {
        true => Ok(()),
        false => Err(Failure::retryable("the authenticator has no credential yet")),
    }
}

/// Adds today's credential to a request's headers.
pub(super) fn mark(client: Option<&Client>, headers: &mut HeaderMap) {
    let Some(client) = client else { return };
    if let Some(credential) = client.credential() {
        headers.insert(client.header().clone(), credential);
    }
}
