//! Client TLS: whom to trust, and as whom to appear. rustls with ring.

use super::Later;
use crate::config::ConfigError;
use hyper_rustls::ConfigBuilderExt;
use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, SupportedProtocolVersion,
    client::WantsClientCert,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use serde::Deserialize;
use std::{path::PathBuf, sync::Arc};

/// The Collector's `tls` block of a client.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsClient {
    /// No TLS where the endpoint does not say `https://`.
    pub insecure: bool,
    /// Certificates of the authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The same, in place.
    pub ca_pem: Option<String>,
    /// Our own certificate, with its chain.
    pub cert_file: Option<PathBuf>,
    /// The key of our certificate.
    pub key_file: Option<PathBuf>,
    /// The name the server's certificate must carry, where it is not the endpoint's host.
    pub server_name_override: Option<String>,
    /// The oldest version spoken: `1.2` (default) or `1.3`.
    pub min_version: Option<String>,
    /// The newest version spoken: `1.2` or `1.3` (default).
    pub max_version: Option<String>,
    /// Refused when true: a connection that trusts anyone would carry everything to anyone.
    pub insecure_skip_verify: bool,
    cert_pem: Option<Later>,
    key_pem: Option<Later>,
    include_system_ca_certs_pool: Option<Later>,
    cipher_suites: Option<Later>,
    curve_preferences: Option<Later>,
    include_insecure_cipher_suites: Option<Later>,
    reload_interval: Option<Later>,
    tpm: Option<Later>,
}

impl TlsClient {
    /// Checks what can be checked without touching a file.
    ///
    /// # Errors
    /// [`ConfigError`] with its path below the exporter.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.insecure_skip_verify {
            return Err(ConfigError::new(
                "tls::insecure_skip_verify",
                "is not supported: give the server's authority in 'ca_file' instead",
            ));
        }
        if self.insecure && (self.ca_file.is_some() || self.ca_pem.is_some() || self.cert_file.is_some()) {
            return Err(ConfigError::new("tls", "'insecure' contradicts certificates; remove one of them"));
        }
        if self.ca_file.is_some() && self.ca_pem.is_some() {
            return Err(ConfigError::new("tls", "provide either a CA file or the PEM-encoded string, but not both"));
        }
        if self.cert_file.is_some() != self.key_file.is_some() {
            return Err(ConfigError::new("tls", "for auth via TLS, provide both certificate and key, or neither"));
        }
        self.server_name()?;
        self.versions().map(|_| ())
    }

    /// The name to verify instead of the endpoint's host.
    pub(super) fn server_name(&self) -> Result<Option<ServerName<'static>>, ConfigError> {
        let Some(name) = self.server_name_override.as_deref().filter(|name| !name.is_empty()) else { return Ok(None) };
        ServerName::try_from(name.to_owned())
            .map(Some)
            .map_err(|_| ConfigError::new("tls::server_name_override", "is not a host name or address"))
    }

    /// The rustls configuration, files read. Where nothing is `secure`, nobody needs to be trusted, and reading the
    /// system's certificates, which takes tens of milliseconds, is left out.
    pub(super) fn client_config(&self, secure: bool) -> Result<ClientConfig, ConfigError> {
        let trusting = self.roots(secure)?;
        let (Some(cert), Some(key)) = (&self.cert_file, &self.key_file) else {
            return Ok(trusting.with_no_client_auth());
        };
        let chain = certificates("tls::cert_file", CertificateDer::pem_file_iter(cert))?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable("tls::key_file", &error))?;
        trusting
            .with_client_auth_cert(chain, key)
            .map_err(|_| ConfigError::new("tls", "'cert_file' and 'key_file' do not belong together"))
    }

    fn roots(&self, secure: bool) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, ConfigError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&self.versions()?)
            .map_err(|error| ConfigError::new("tls", error.to_string()))?;
        let given = match (&self.ca_file, &self.ca_pem) {
            (Some(file), _) => certificates("tls::ca_file", CertificateDer::pem_file_iter(file))?,
            (None, Some(pem)) => certificates("tls::ca_pem", Ok(CertificateDer::pem_slice_iter(pem.as_bytes())))?,
            // A minimal image may have no certificates of its own.
            (None, None) if secure => {
                return Ok(builder.clone().with_native_roots().unwrap_or_else(|_| builder.with_webpki_roots()));
            }
            (None, None) => Vec::new(),
        };
        let mut roots = RootCertStore::empty();
        for certificate in given {
            roots.add(certificate).map_err(|_| ConfigError::new("tls", "an authority's certificate is not usable"))?;
        }
        Ok(builder.with_root_certificates(roots))
    }

    fn versions(&self) -> Result<Vec<&'static SupportedProtocolVersion>, ConfigError> {
        let version = |key: &str, text: &Option<String>, default: u8| match text.as_deref() {
            None | Some("") => Ok(default),
            Some("1.2") => Ok(2),
            Some("1.3") => Ok(3),
            Some(_) => {
                Err(ConfigError::new("tls", format!("invalid TLS {key}: unsupported TLS version; use 1.2 or 1.3")))
            }
        };
        let min = version("min_version", &self.min_version, 2)?;
        let max = version("max_version", &self.max_version, 3)?;
        match (min, max) {
            (2, 3) => Ok(vec![&rustls::version::TLS13, &rustls::version::TLS12]),
            (3, 3) => Ok(vec![&rustls::version::TLS13]),
            (2, 2) => Ok(vec![&rustls::version::TLS12]),
            _ => Err(ConfigError::new(
                "tls",
                "invalid TLS configuration: min_version cannot be greater than max_version",
            )),
        }
    }
}

type PemError = rustls::pki_types::pem::Error;

fn certificates(
    key: &str,
    found: Result<impl Iterator<Item = Result<CertificateDer<'static>, PemError>>, PemError>,
) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let all = found.and_then(|iterator| iterator.collect::<Result<Vec<_>, _>>()).map_err(|e| unreadable(key, &e))?;
    if all.is_empty() {
        return Err(ConfigError::new(key, "holds no certificate in PEM form"));
    }
    Ok(all)
}

/// Says why a file is of no use, never what is in it.
fn unreadable(key: &str, error: &PemError) -> ConfigError {
    match error {
        PemError::Io(error) => ConfigError::new(key, format!("cannot be read: {error}")),
        PemError::NoItemsFound => ConfigError::new(key, "holds nothing of this kind in PEM form"),
        _ => ConfigError::new(key, "is not in PEM form"),
    }
}
