//! The `tls` block of a client: whom to trust, and as whom to appear.

use super::{
    Tpm,
    parameters::Parameters,
    pem::{Pair, Pem, authorities, system_authorities},
    secure_suites_only,
    watch::{Files, Reload, watch},
};
use crate::config::{
    ConfigError,
    types::{Duration, Opaque},
};
use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        ResolvesClientCert, Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::CertifiedKey,
};
use serde::Deserialize;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// The Collector's `tls` block of a client: `configtls.ClientConfig`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsClient {
    /// No TLS where the endpoint does not say `https://`.
    pub insecure: bool,
    /// Trusts every server, whoever it is. Everything sent can be read by whoever is in between.
    pub insecure_skip_verify: bool,
    /// The name the server's certificate must carry, where it is not the endpoint's host.
    pub server_name_override: Option<String>,
    /// Certificates of the authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The same, in place.
    pub ca_pem: Option<Opaque>,
    /// Trust the system's authorities too where `ca_file` or `ca_pem` is set.
    pub include_system_ca_certs_pool: bool,
    /// Our own certificate, with its chain behind it.
    pub cert_file: Option<PathBuf>,
    /// The same, in place.
    pub cert_pem: Option<Opaque>,
    /// The key of our certificate: PKCS #8, PKCS #1 or SEC 1, not encrypted.
    pub key_file: Option<PathBuf>,
    /// The same, in place.
    pub key_pem: Option<Opaque>,
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

impl TlsClient {
    /// Checks what can be checked without touching a file.
    ///
    /// # Errors
    /// [`ConfigError`] with its path below the exporter.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let plan = self.plan()?;
        if self.insecure && (plan.authorities.is_some() || plan.pair.is_some()) {
            return Err(ConfigError::new("tls", "'insecure' contradicts certificates; remove one of them"));
        }
        self.server_name().map(|_| ())
    }

    /// The name to verify instead of the endpoint's host.
    ///
    /// # Errors
    /// [`ConfigError`] when it is not a name.
    pub fn server_name(&self) -> Result<Option<ServerName<'static>>, ConfigError> {
        let Some(name) = self.server_name_override.as_deref().filter(|name| !name.is_empty()) else { return Ok(None) };
        ServerName::try_from(name.to_owned())
            .map(Some)
            .map_err(|_| ConfigError::new("tls::server_name_override", "is not a host name or address"))
    }

    /// The rustls configuration, files read. The files are watched from then on; what changes there is used by the same
    /// configuration in its next handshake. Where nothing is `secure`, nobody needs to be trusted, and reading the
    /// system's certificates, which takes tens of milliseconds, is left out.
    ///
    /// # Errors
    /// [`ConfigError`] with its path below the exporter, such as `tls::ca_file`.
    pub fn client_config(&self, secure: bool) -> Result<ClientConfig, ConfigError> {
        let plan = self.plan()?;
        if secure && self.insecure_skip_verify {
            tracing::warn!(
                "tls::insecure_skip_verify is on: every server is trusted, and whoever is on the way can read and change \
                 everything sent; give the server's authority in 'ca_file' instead"
            );
        }
        let Parameters { provider, versions } = plan.parameters.clone();
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(|error| ConfigError::new("tls", error.to_string()))?;
        if !secure && plan.authorities.is_none() && plan.pair.is_none() {
            return Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth());
        }

        let files = Files::now(plan.files());
        let (watched, interval) = (!files.is_empty(), self.reload_interval.get());
        let parties = Arc::new(Parties::new(plan)?);
        watch(&parties, files, interval);
        let mut config =
            builder.dangerous().with_custom_certificate_verifier(parties.clone()).with_client_cert_resolver(parties);
        if watched {
            // A session that is resumed would carry the trust and the identity of before over into after.
            config.resumption = Resumption::disabled();
        }
        Ok(config)
    }

    fn plan(&self) -> Result<Plan, ConfigError> {
        self.tpm.as_ref().map_or(Ok(()), Tpm::check)?;
        secure_suites_only(self.include_insecure_cipher_suites)?;
        Ok(Plan {
            trust_anyone: self.insecure_skip_verify,
            authorities: Pem::choose(
                ("ca_file", self.ca_file.as_deref()),
                ("ca_pem", self.ca_pem.as_ref()),
                "provide either a CA file or the PEM-encoded string, but not both",
            )?,
            and_system: self.include_system_ca_certs_pool,
            pair: Pair::choose(
                self.cert_file.as_deref(),
                self.cert_pem.as_ref(),
                self.key_file.as_deref(),
                self.key_pem.as_ref(),
            )?,
            parameters: Parameters::new(
                self.min_version.as_deref(),
                self.max_version.as_deref(),
                &self.cipher_suites,
                &self.curve_preferences,
            )?,
        })
    }
}

/// A checked block.
#[derive(Debug)]
struct Plan {
    trust_anyone: bool,
    authorities: Option<Pem>,
    and_system: bool,
    pair: Option<Pair>,
    parameters: Parameters,
}

impl Plan {
    fn files(&self) -> impl Iterator<Item = &Path> {
        let pair = self.pair.as_ref();
        let all = [self.authorities.as_ref(), pair.map(|pair| &pair.certificate), pair.map(|pair| &pair.key)];
        all.into_iter().flatten().filter_map(Pem::path)
    }

    fn verifier(&self) -> Result<Arc<dyn ServerCertVerifier>, ConfigError> {
        let provider = self.parameters.provider.clone();
        let roots = match &self.authorities {
            Some(pem) => authorities(pem, self.and_system)?,
            None if self.trust_anyone => RootCertStore::empty(),
            None => system_authorities(),
        };
        if self.trust_anyone {
            return Ok(Arc::new(Anyone(provider)));
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        verifier
            .map(|verifier| verifier as Arc<dyn ServerCertVerifier>)
            .map_err(|error| ConfigError::new("tls", error.to_string()))
    }

    fn identity(&self) -> Result<Option<Arc<CertifiedKey>>, ConfigError> {
        let pair = self.pair.as_ref().map(|pair| pair.load(&self.parameters.provider));
        Ok(pair.transpose()?.map(Arc::new))
    }
}

/// Whom a client trusts and who it is, both as of now.
#[derive(Debug)]
struct Parties {
    plan: Plan,
    /// Two steps, because a pointer that is exchanged must be to something of known size.
    trusted: ArcSwap<Arc<dyn ServerCertVerifier>>,
    ours: ArcSwapOption<CertifiedKey>,
}

impl Parties {
    fn new(plan: Plan) -> Result<Self, ConfigError> {
        let (trusted, ours) = (plan.verifier()?, plan.identity()?);
        Ok(Parties { plan, trusted: ArcSwap::from_pointee(trusted), ours: ArcSwapOption::new(ours) })
    }
}

impl Reload for Parties {
    const WHAT: &'static str = "TLS";
    const FIRST: &'static str = "handshake";

    fn reload(&self) -> Result<(), ConfigError> {
        let (trusted, ours) = (self.plan.verifier()?, self.plan.identity()?);
        self.trusted.store(Arc::new(trusted));
        self.ours.store(ours);
        Ok(())
    }
}

impl ResolvesClientCert for Parties {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.ours.load_full()
    }

    fn has_certs(&self) -> bool {
        self.plan.pair.is_some()
    }
}

impl ServerCertVerifier for Parties {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.trusted.load().verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trusted.load().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trusted.load().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trusted.load().supported_verify_schemes()
    }
}

/// Trusts every certificate; the server must still have its key.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
