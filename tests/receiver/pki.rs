//! Authorities and certificates made for a test, as files and as TLS clients.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, missing_docs)]

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tracegate::net::tls::TlsServer;

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key in both forms.
pub struct Identity {
    pub certificate: CertificateDer<'static>,
    pub certificate_pem: String,
    pub key_pem: String,
    key: PrivateKeyDer<'static>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Authorities of one name would differ by their keys only, and be told apart by a bad signature.
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("authority {}", NUMBER.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// An identity for `name` that is valid now.
    pub fn issue(&self, name: &str) -> Identity {
        self.issue_for(name, (2020, 2100))
    }

    /// An identity that has expired.
    pub fn issue_expired(&self, name: &str) -> Identity {
        self.issue_for(name, (2020, 2021))
    }

    fn issue_for(&self, name: &str, (from, to): (i32, i32)) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity {
            certificate: certificate.der().clone(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        }
    }

    /// A client that trusts this authority.
    pub fn client(&self, alpn: &[&str]) -> Client {
        Client { trusts: self.0.der().clone(), identity: None, versions: rustls::ALL_VERSIONS, alpn: owned(alpn) }
    }
}

fn owned(alpn: &[&str]) -> Vec<Vec<u8>> {
    alpn.iter().map(|name| name.as_bytes().to_vec()).collect()
}

/// What a TLS client trusts, is and offers.
pub struct Client {
    trusts: CertificateDer<'static>,
    identity: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
    pub versions: &'static [&'static SupportedProtocolVersion],
    alpn: Vec<Vec<u8>>,
}

impl Client {
    #[must_use]
    pub fn with(mut self, identity: &Identity) -> Self {
        self.identity = Some((identity.certificate.clone(), identity.key.clone_key()));
        self
    }

    #[must_use]
    pub fn speaking(mut self, versions: &'static [&'static SupportedProtocolVersion]) -> Self {
        self.versions = versions;
        self
    }

    pub fn config(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.trusts.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                builder.with_client_auth_cert(vec![certificate.clone()], key.clone_key()).unwrap()
            }
        };
        config.alpn_protocols.clone_from(&self.alpn);
        Arc::new(config)
    }
}

/// The files of a server in a directory of their own.
pub struct Files(tempfile::TempDir);

impl Files {
    pub fn of(identity: &Identity) -> Self {
        let files = Files(tempfile::tempdir().unwrap());
        files.put(identity);
        files
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        // Renamed into place, as those who rotate certificates do: a reader sees one or the other.
        let path = self.path(name);
        std::fs::write(path.with_extension("new"), content).unwrap();
        std::fs::rename(path.with_extension("new"), &path).unwrap();
        path
    }

    pub fn put(&self, identity: &Identity) {
        self.write("key.pem", &identity.key_pem);
        self.write("cert.pem", &identity.certificate_pem);
    }

    /// A server with these files that looks at them all the time.
    pub fn server(&self) -> TlsServer {
        TlsServer {
            cert_file: Some(self.path("cert.pem")),
            key_file: Some(self.path("key.pem")),
            reload_interval: tracegate::config::types::Duration::millis(20),
            ..TlsServer::default()
        }
    }

    /// The same, for clients of an authority only.
    pub fn mutual(&self, clients: &Authority) -> TlsServer {
        TlsServer { client_ca_file: Some(self.write("clients.pem", &clients.pem())), ..self.server() }
    }

    pub fn directory(&self) -> &Path {
        self.0.path()
    }
}
