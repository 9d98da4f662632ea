//! The `tls` block of a server.

use super::{
    Acceptor, Tpm,
    parameters::Parameters,
    pem::{Pair, Pem, authorities},
    secure_suites_only,
    watch::{Files, Reload, watch},
};
use crate::config::{
    ConfigError,
    types::{Duration, Opaque},
};
use arc_swap::ArcSwap;
use rustls::{ServerConfig, server::WebPkiClientVerifier, sign::SingleCertAndKey};
use serde::Deserialize;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// The Collector's `tls` block of a server: `configtls.ServerConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsServer {
    /// The server's certificate, with its chain behind it.
    pub cert_file: Option<PathBuf>,
    /// The same, in place.
    pub cert_pem: Option<Opaque>,
    /// The key of the certificate: PKCS #8, PKCS #1 or SEC 1, not encrypted.
    pub key_file: Option<PathBuf>,
    /// The same, in place.
    pub key_pem: Option<Opaque>,
    /// Authorities of clients. When set, every client must show a certificate of one of them.
    pub client_ca_file: Option<PathBuf>,
    /// Accepted: files are always watched.
    pub client_ca_file_reload: bool,
    /// Checked but not used, as in the Collector: a server trusts nobody but `client_ca_file`.
    pub ca_file: Option<PathBuf>,
    /// The same, in place.
    pub ca_pem: Option<Opaque>,
    /// Without effect in a server, as in the Collector.
    pub include_system_ca_certs_pool: bool,
    /// The oldest version spoken: `1.2` (default) or `1.3`.
    pub min_version: Option<String>,
    /// The newest version spoken: `1.2` or `1.3` (default).
    pub max_version: Option<String>,
    /// Suites for TLS 1.2 by Go's names; those of TLS 1.3 are always on. Default: all.
    pub cipher_suites: Vec<String>,
    /// Curves in order of preference: X25519, P256, P384.
    pub curve_preferences: Vec<String>,
    /// How often the files are looked at. Default 10s.
    pub reload_interval: Duration,
    /// Refused when true: there are none.
    pub include_insecure_cipher_suites: bool,
    /// Refused when enabled.
    pub tpm: Option<Tpm>,
}

impl TlsServer {
    /// Checks what can be checked without touching a file.
    ///
    /// # Errors
    /// [`ConfigError`] with a path relative to the server's section.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.plan(&[]).map(|_| ())
    }

    /// Reads the files and makes the acceptor, which watches them from then on. `alpn` are the protocols spoken behind
    /// TLS, the preferred one first.
    ///
    /// # Errors
    /// [`ConfigError`] with a path relative to the server's section, such as `tls::cert_file`.
    pub fn acceptor(&self, alpn: &[&str]) -> Result<Acceptor, ConfigError> {
        let plan = self.plan(alpn)?;
        let files = Files::now(plan.files());
        let server = Arc::new(Server { current: ArcSwap::from_pointee(plan.load()?), plan });
        watch(&server, files, self.reload_interval.get());
        Ok(Acceptor(server))
    }

    /// Sentences about keys that are set and have no effect, for the log; each begins with its path.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.ca_file.is_some() || self.ca_pem.is_some() || self.include_system_ca_certs_pool {
            notes.push(
                "tls: authorities other than client_ca_file have no effect in a server; to ask clients for certificates, \
                 set client_ca_file"
                    .to_owned(),
            );
        }
        notes
    }

    fn plan(&self, alpn: &[&str]) -> Result<Plan, ConfigError> {
        self.tpm.as_ref().map_or(Ok(()), Tpm::check)?;
        secure_suites_only(self.include_insecure_cipher_suites)?;
        let pair = Pair::choose(
            self.cert_file.as_deref(),
            self.cert_pem.as_ref(),
            self.key_file.as_deref(),
            self.key_pem.as_ref(),
        )?;
        let pair = pair.ok_or_else(|| {
            let text = "TLS configuration must include both certificate and key for server connections";
            ConfigError::new("tls", text).with_hint("set cert_file and key_file")
        })?;
        let unused = Pem::choose(
            ("ca_file", self.ca_file.as_deref()),
            ("ca_pem", self.ca_pem.as_ref()),
            "provide either a CA file or the PEM-encoded string, but not both",
        )?;
        let clients = self.client_ca_file.clone().filter(|path| !path.as_os_str().is_empty());
        Ok(Plan {
            pair,
            clients: clients.map(|path| Pem::File("client_ca_file", path)),
            unused,
            parameters: Parameters::new(
                self.min_version.as_deref(),
                self.max_version.as_deref(),
                &self.cipher_suites,
                &self.curve_preferences,
            )?,
            alpn: alpn.iter().map(|name| name.as_bytes().to_vec()).collect(),
        })
    }
}

/// A checked block.
#[derive(Debug)]
struct Plan {
    pair: Pair,
    clients: Option<Pem>,
    unused: Option<Pem>,
    parameters: Parameters,
    alpn: Vec<Vec<u8>>,
}

impl Plan {
    fn files(&self) -> impl Iterator<Item = &Path> {
        [Some(&self.pair.certificate), Some(&self.pair.key), self.clients.as_ref()]
            .into_iter()
            .flatten()
            .filter_map(Pem::path)
    }

    fn load(&self) -> Result<ServerConfig, ConfigError> {
        if let Some(unused) = &self.unused {
            authorities(unused, false)?;
        }
        let Parameters { provider, versions } = &self.parameters;
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(|error| ConfigError::new("tls", error.to_string()))?;
        let builder = match &self.clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let roots = Arc::new(authorities(clients, false)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
                    .build()
                    .map_err(|error| ConfigError::new("tls::client_ca_file", error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let pair = self.pair.load(provider)?;
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
        config.alpn_protocols.clone_from(&self.alpn);
        Ok(config)
    }
}

/// What an acceptor shares with the watch over its files.
#[derive(Debug)]
pub(super) struct Server {
    plan: Plan,
    /// The whole configuration is exchanged, so that sessions of the one before are not resumed under the new one.
    pub(super) current: ArcSwap<ServerConfig>,
}

impl Reload for Server {
    const WHAT: &'static str = "TLS";
    const FIRST: &'static str = "handshake";

    fn reload(&self) -> Result<(), ConfigError> {
        self.current.store(Arc::new(self.plan.load()?));
        Ok(())
    }
}
