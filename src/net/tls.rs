//! TLS on both sides: rustls with ring, from the Collector's keys, with certificates that may change at any time.
//!
//! Every file is looked at again and again, as often as `reload_interval` says and every ten seconds where it is not
//! set; what changed is used from the next handshake on. New files that cannot be used change nothing but the log. The
//! Collector looks only where `reload_interval` or `client_ca_file_reload` is set, never at a client's `ca_file`, and
//! refuses handshakes while a new certificate is broken.

mod accept;
mod client;
mod parameters;
mod pem;
mod server;
mod validity;
mod watch;

pub use accept::{Acceptor, HandshakeError, secured};
pub use client::TlsClient;
pub(crate) use pem::read as read_small;
pub use server::TlsServer;
pub use watch::DEFAULT_RELOAD_INTERVAL;
pub(crate) use watch::{Files, Reload, watch};

use crate::config::{ConfigError, types::Opaque};
use serde::Deserialize;

/// The Collector's `tpm` block: a key inside a trusted platform module. tracegate has no way to such a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tpm {
    /// Refused when true.
    pub enabled: bool,
    path: String,
    auth: Opaque,
    owner_auth: Opaque,
}

impl Tpm {
    fn check(&self) -> Result<(), ConfigError> {
        if !self.enabled {
            return Ok(());
        }
        let hint = "set it to false and give the key in 'key_file'";
        Err(ConfigError::new("tls::tpm::enabled", "keys in a trusted platform module are not supported")
            .with_hint(hint))
    }
}

/// `include_insecure_cipher_suites`, which both sides have.
fn secure_suites_only(include_insecure: bool) -> Result<(), ConfigError> {
    if !include_insecure {
        return Ok(());
    }
    let hint = "remove it; every suite of tracegate has forward secrecy and authenticated encryption";
    Err(ConfigError::new("tls::include_insecure_cipher_suites", "there are no insecure cipher suites").with_hint(hint))
}
