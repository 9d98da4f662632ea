//! Certificates and keys in PEM form, from a file or from the configuration itself. Errors name the key of the
//! configuration and never the content.

use super::validity::Validity;
use crate::config::{ConfigError, types::Opaque};
use rustls::{
    InconsistentKeys, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    sign::CertifiedKey,
};
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    time::SystemTime,
};

/// The largest file that is read: a bundle of all public authorities is a quarter of this.
const MAX_BYTES: u64 = 1 << 20;

/// Where PEM comes from, with the key of the configuration that says so.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Pem {
    File(&'static str, PathBuf),
    Inline(&'static str, Opaque),
}

impl Pem {
    /// `both` is the error where a file and the text itself are given.
    pub(super) fn choose(
        (file_key, file): (&'static str, Option<&Path>),
        (text_key, text): (&'static str, Option<&Opaque>),
        both: &str,
    ) -> Result<Option<Self>, ConfigError> {
        let file = file.filter(|path| !path.as_os_str().is_empty());
        match (file, text.filter(|text| !text.is_empty())) {
            (Some(_), Some(_)) => Err(ConfigError::new("tls", both)),
            (Some(path), None) => Ok(Some(Pem::File(file_key, path.to_owned()))),
            (None, Some(text)) => Ok(Some(Pem::Inline(text_key, text.clone()))),
            (None, None) => Ok(None),
        }
    }

    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Pem::File(_, path) => Some(path),
            Pem::Inline(..) => None,
        }
    }

    fn key_name(&self) -> &'static str {
        match self {
            Pem::File(key, _) | Pem::Inline(key, _) => key,
        }
    }

    fn error(&self, text: impl Into<String>) -> ConfigError {
        ConfigError::new(format!("tls::{}", self.key_name()), text)
    }

    fn bytes(&self) -> Result<Vec<u8>, ConfigError> {
        match self {
            Pem::File(_, path) => read(path).map_err(|error| self.error(format!("cannot be read: {error}"))),
            Pem::Inline(_, text) => Ok(text.expose().as_bytes().to_vec()),
        }
    }

    /// At least one certificate.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
        let bytes = self.bytes()?;
        let all = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
        match all.map_err(|error| self.malformed(&error))? {
            none if none.is_empty() => Err(self.error("holds no certificate in PEM form")),
            all => Ok(all),
        }
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, ConfigError> {
        let bytes = self.bytes()?;
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
            pem::Error::NoItemsFound if memchr::memmem::find(&bytes, b" ENCRYPTED PRIVATE KEY-").is_some() => {
                self.error("holds a key that is encrypted with a passphrase; give the key without one")
            }
            pem::Error::NoItemsFound => self.error("holds no private key in PEM form"),
            error => self.malformed(&error),
        })
    }

    fn malformed(&self, _: &pem::Error) -> ConfigError {
        self.error("is not in PEM form")
    }
}

/// A file of at most one mebibyte.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    Ok(bytes)
}

/// A certificate with its chain, and its key.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pair {
    pub(super) certificate: Pem,
    pub(super) key: Pem,
}

impl Pair {
    /// The certificate and key of a `tls` block; `None` where neither is set.
    pub(super) fn choose(
        cert_file: Option<&Path>,
        cert_pem: Option<&Opaque>,
        key_file: Option<&Path>,
        key_pem: Option<&Opaque>,
    ) -> Result<Option<Self>, ConfigError> {
        let certificate = Pem::choose(
            ("cert_file", cert_file),
            ("cert_pem", cert_pem),
            "provide either certificate file or PEM, but not both",
        )?;
        let key =
            Pem::choose(("key_file", key_file), ("key_pem", key_pem), "provide either key file or PEM, but not both")?;
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some(Pair { certificate, key })),
            (None, None) => Ok(None),
            _ => Err(ConfigError::new("tls", "TLS configuration must include both certificate and key")
                .with_hint("set cert_file and key_file, or cert_pem and key_pem")),
        }
    }

    /// Reads both and checks that they belong together. A certificate out of its time is used and warned about: which
    /// clock is wrong is not known here, the other side decides, and a new file needs no restart.
    pub(super) fn load(&self, provider: &CryptoProvider) -> Result<CertifiedKey, ConfigError> {
        let chain = self.certificate.certificates()?;
        let key = self.key.private_key()?;
        let key = provider
            .key_provider
            .load_private_key(key)
            .map_err(|_| self.key.error("holds a key of a kind that is not supported; use RSA, ECDSA or Ed25519"))?;
        let validity = Validity::of(&chain[0]);
        let pair = CertifiedKey::new(chain, key);
        match pair.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                let (certificate, key) = (self.certificate.key_name(), self.key.key_name());
                let text = format!("'{certificate}' and '{key}' do not belong together");
                return Err(ConfigError::new("tls", text));
            }
            Err(_) => return Err(self.certificate.error("holds a certificate that cannot be used")),
        }
        if let Some(complaint) = validity.and_then(|validity| validity.complaint(SystemTime::now())) {
            let from = self
                .certificate
                .path()
                .map_or_else(|| format!("tls::{}", self.certificate.key_name()), |path| path.display().to_string());
            tracing::warn!(certificate = %from, "TLS: the certificate {complaint}; others will refuse it until it is replaced");
        }
        Ok(pair)
    }
}

/// The authorities in `pem`, and the system's as well if asked for.
pub(super) fn authorities(pem: &Pem, and_system: bool) -> Result<RootCertStore, ConfigError> {
    let mut roots = if and_system { system_authorities() } else { RootCertStore::empty() };
    for certificate in pem.certificates()? {
        roots.add(certificate).map_err(|_| pem.error("holds an authority's certificate that cannot be used"))?;
    }
    Ok(roots)
}

/// The authorities the system trusts; a minimal image may have none, then those that browsers trust. Reading them takes
/// tens of milliseconds.
pub(super) fn system_authorities() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}
