//! TLS to backends, with authorities made for the test.

use crate::{
    backend::{Answer, Backend},
    support::{Scratch, outgoing, payload},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use serde_json::{Value, json};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tracegate::exporter::{Failure, Sender, Sent, otlp_grpc, otlp_http};

pub type Authority = CertifiedIssuer<'static, KeyPair>;

pub fn authority() -> Authority {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Authorities of one name would differ by their keys only, and be told apart by a bad signature.
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let name = format!("authority {}", NUMBER.fetch_add(1, Ordering::Relaxed));
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for `name`, and its key.
fn issue(authority: &Authority, name: &str, purpose: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
    issue_until(2100, authority, name, purpose)
}

fn issue_until(
    year: i32,
    authority: &Authority,
    name: &str,
    purpose: ExtendedKeyUsagePurpose,
) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.extended_key_usages = vec![purpose];
    (params.not_before, params.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(year, 1, 1));
    (params.signed_by(&key, authority).unwrap(), key)
}

pub fn server(authority: &Authority, name: &str, clients: Option<&Authority>, alpn: &[&str]) -> ServerConfig {
    let own = issue(authority, name, ExtendedKeyUsagePurpose::ServerAuth);
    server_with(own, clients, alpn, rustls::ALL_VERSIONS)
}

fn server_with(
    (certificate, key): (rcgen::Certificate, KeyPair),
    clients: Option<&Authority>,
    alpn: &[&str],
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions).unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots.add(clients.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

pub fn file(scratch: &Scratch, name: &str, content: &str) -> PathBuf {
    let path = scratch.0.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

fn replace(path: &PathBuf, content: &str) {
    // Renamed into place, as those who rotate certificates do: a reader sees one or the other.
    std::fs::write(path.with_extension("new"), content).unwrap();
    std::fs::rename(path.with_extension("new"), path).unwrap();
}

fn grpc_sender(backend: &Backend, tls: Value) -> otlp_grpc::OtlpGrpc {
    let endpoint = format!("localhost:{}", backend.address.port());
    let config: otlp_grpc::Config = serde_json::from_value(json!({"endpoint": endpoint, "tls": tls})).unwrap();
    config.validate().unwrap();
    otlp_grpc::OtlpGrpc::new(&config).unwrap()
}

/// Sends until it works: a file that changed is used by the same sender some time later.
async fn until_sent(what: &str, sender: &otlp_grpc::OtlpGrpc) {
    let wait = async {
        while sender.send(&outgoing(payload("a", 1))).await != Ok(Sent::default()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), wait).await.is_ok(), "never used: {what}");
}

async fn grpc(backend: &Backend, tls: Value) -> Result<Sent, Failure> {
    let endpoint = format!("localhost:{}", backend.address.port());
    let config = json!({"endpoint": endpoint, "tls": tls});
    otlp_grpc::OtlpGrpc::new(&serde_json::from_value(config).unwrap()).unwrap().send(&outgoing(payload("a", 1))).await
}

async fn http(backend: &Backend, tls: Value) -> Result<Sent, Failure> {
    let endpoint = format!("https://localhost:{}", backend.address.port());
    let config = json!({"endpoint": endpoint, "tls": tls});
    otlp_http::OtlpHttp::new(&serde_json::from_value(config).unwrap()).unwrap().send(&outgoing(payload("a", 1))).await
}

#[tokio::test]
async fn e10_a_backend_with_a_private_authority_is_trusted_through_ca_file() {
    let scratch = Scratch::new("tls-ca");
    let authority = authority();
    let ca = file(&scratch, "ca.pem", &authority.pem());
    let backend = Backend::secure(server(&authority, "localhost", None, &["h2"]), |_, _| Answer::grpc_ok(b"")).await;
    assert_eq!(grpc(&backend, json!({"ca_file": ca})).await, Ok(Sent::default()));
    assert_eq!(grpc(&backend, json!({"ca_pem": authority.pem()})).await, Ok(Sent::default()));
    assert_eq!(backend.seen().len(), 2);
}

#[tokio::test]
async fn an_unknown_authority_or_another_name_is_not_trusted() {
    let scratch = Scratch::new("tls-untrusted");
    let (authority, other) = (authority(), authority());
    let (ca, other) = (file(&scratch, "ca.pem", &authority.pem()), file(&scratch, "other.pem", &other.pem()));
    let backend = Backend::secure(server(&authority, "backend.test", None, &["h2"]), |_, _| Answer::grpc_ok(b"")).await;
    for tls in [
        json!({}),
        json!({"ca_file": other, "server_name_override": "backend.test"}),
        json!({"ca_file": ca}),
        json!({"ca_file": ca, "server_name_override": "another.test"}),
    ] {
        let answer = grpc(&backend, tls.clone()).await;
        let Err(Failure::Retryable { what, .. }) = answer else { panic!("{tls}: {answer:?}") };
        assert!(what.contains("certificate"), "{tls}: {what}");
    }
    assert_eq!(backend.seen().len(), 0);
    let right = json!({"ca_file": ca, "server_name_override": "backend.test"});
    assert_eq!(grpc(&backend, right).await, Ok(Sent::default()));
}

#[tokio::test]
async fn a_backend_may_ask_who_we_are() {
    let scratch = Scratch::new("tls-mutual");
    let (authority, clients) = (authority(), authority());
    let ca = file(&scratch, "ca.pem", &authority.pem());
    let (certificate, key) = issue(&clients, "tracegate", ExtendedKeyUsagePurpose::ClientAuth);
    let cert = file(&scratch, "cert.pem", &certificate.pem());
    let key = file(&scratch, "key.pem", &key.serialize_pem());
    let config = server(&authority, "localhost", Some(&clients), &["h2"]);
    let backend = Backend::secure(config, |_, _| Answer::grpc_ok(b"")).await;
    assert!(matches!(grpc(&backend, json!({"ca_file": ca})).await, Err(Failure::Retryable { .. })));
    let ours = json!({"ca_file": ca, "cert_file": cert, "key_file": key});
    assert_eq!(grpc(&backend, ours).await, Ok(Sent::default()));
}

#[tokio::test]
async fn http_speaks_what_tls_negotiates() {
    let authority = authority();
    for (alpn, version) in [("h2", http::Version::HTTP_2), ("http/1.1", http::Version::HTTP_11)] {
        let config = server(&authority, "localhost", None, &[alpn]);
        let backend = Backend::secure(config, |_, _| Answer::http(200, "text/plain", "").into()).await;
        assert_eq!(http(&backend, json!({"ca_pem": authority.pem()})).await, Ok(Sent::default()));
        assert_eq!(backend.seen()[0].version, version);
    }
}

#[tokio::test]
async fn an_expired_certificate_is_not_trusted() {
    let authority = authority();
    let expired = issue_until(2021, &authority, "localhost", ExtendedKeyUsagePurpose::ServerAuth);
    let config = server_with(expired, None, &["h2"], rustls::ALL_VERSIONS);
    let backend = Backend::secure(config, |_, _| Answer::grpc_ok(b"")).await;
    let answer = grpc(&backend, json!({"ca_pem": authority.pem()})).await;
    let Err(Failure::Retryable { what, .. }) = answer else { panic!("{answer:?}") };
    assert!(what.contains("expired"), "{what}");
    assert_eq!(backend.seen().len(), 0);
}

#[tokio::test]
async fn insecure_skip_verify_trusts_whoever_answers() {
    let authority = authority();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let expired = issue_until(2021, &authority, "another.test", ExtendedKeyUsagePurpose::ServerAuth);
        let config = server_with(expired, None, &["h2"], &[version]);
        let backend = Backend::secure(config, |_, _| Answer::grpc_ok(b"")).await;
        assert_eq!(grpc(&backend, json!({"insecure_skip_verify": true})).await, Ok(Sent::default()));
    }
}

#[tokio::test]
async fn the_system_s_authorities_can_be_trusted_beside_a_file() {
    let authority = authority();
    let backend = Backend::secure(server(&authority, "localhost", None, &["h2"]), |_, _| Answer::grpc_ok(b"")).await;
    let both = json!({"ca_pem": authority.pem(), "include_system_ca_certs_pool": true});
    assert_eq!(grpc(&backend, both).await, Ok(Sent::default()));
    let system = json!({"include_system_ca_certs_pool": true});
    assert!(matches!(grpc(&backend, system).await, Err(Failure::Retryable { .. })));
}

#[tokio::test]
async fn versions_suites_and_curves_are_those_configured() {
    let authority = authority();
    let own = issue(&authority, "localhost", ExtendedKeyUsagePurpose::ServerAuth);
    let config = server_with(own, None, &["h2"], &[&rustls::version::TLS12]);
    let backend = Backend::secure(config, |_, _| Answer::grpc_ok(b"")).await;
    let with = |more: Value| {
        let mut tls = json!({"ca_pem": authority.pem()});
        tls.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        tls
    };
    let narrow = json!({
        "max_version": "1.2",
        "cipher_suites": ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"],
        "curve_preferences": ["P384"],
    });
    assert_eq!(grpc(&backend, with(narrow)).await, Ok(Sent::default()));
    // The certificate's key is ECDSA, so a suite for RSA fits nobody.
    for none in [json!({"min_version": "1.3"}), json!({"cipher_suites": ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]})] {
        let answer = grpc(&backend, with(none.clone())).await;
        assert!(matches!(answer, Err(Failure::Retryable { .. })), "{none}: {answer:?}");
    }
}

#[tokio::test]
async fn our_certificate_is_exchanged_while_the_exporter_runs() {
    let scratch = Scratch::new("tls-rotate-own");
    let (authority, old, new) = (authority(), authority(), authority());
    let us = |clients: &Authority| issue(clients, "tracegate", ExtendedKeyUsagePurpose::ClientAuth);
    let (certificate, key) = us(&old);
    let (cert_file, key_file) =
        (file(&scratch, "cert.pem", &certificate.pem()), file(&scratch, "key.pem", &key.serialize_pem()));
    let config = server(&authority, "localhost", Some(&new), &["h2"]);
    let backend = Backend::secure(config, |_, _| Answer::grpc_ok(b"")).await;
    let tls = json!({
        "ca_pem": authority.pem(), "cert_file": cert_file, "key_file": key_file, "reload_interval": "20ms",
    });
    let sender = grpc_sender(&backend, tls);
    assert!(
        matches!(sender.send(&outgoing(payload("a", 1))).await, Err(Failure::Retryable { .. })),
        "the old one is not trusted"
    );
    // A certificate without its key yet is not used; both are.
    let (certificate, key) = us(&new);
    replace(&cert_file, &certificate.pem());
    replace(&key_file, &key.serialize_pem());
    until_sent("our new certificate", &sender).await;
}

#[tokio::test]
async fn whom_we_trust_is_exchanged_while_the_exporter_runs() {
    let scratch = Scratch::new("tls-rotate-ca");
    let (authority, other) = (authority(), authority());
    let ca_file = file(&scratch, "ca.pem", &other.pem());
    let backend = Backend::secure(server(&authority, "localhost", None, &["h2"]), |_, _| Answer::grpc_ok(b"")).await;
    let sender = grpc_sender(&backend, json!({"ca_file": ca_file, "reload_interval": "20ms"}));
    assert!(matches!(sender.send(&outgoing(payload("a", 1))).await, Err(Failure::Retryable { .. })));
    replace(&ca_file, &authority.pem());
    until_sent("the new authority", &sender).await;
}

#[tokio::test]
async fn our_certificate_may_stand_in_the_configuration() {
    let (authority, clients) = (authority(), authority());
    let (certificate, key) = issue(&clients, "tracegate", ExtendedKeyUsagePurpose::ClientAuth);
    let config = server(&authority, "localhost", Some(&clients), &["h2"]);
    let backend = Backend::secure(config, |_, _| Answer::grpc_ok(b"")).await;
    let ours = json!({"ca_pem": authority.pem(), "cert_pem": certificate.pem(), "key_pem": key.serialize_pem()});
    assert_eq!(grpc(&backend, ours).await, Ok(Sent::default()));
}

#[test]
fn unusable_files_are_errors_that_name_the_key_and_not_the_content() {
    let scratch = Scratch::new("tls-files");
    let junk = file(&scratch, "junk.pem", "hunter2");
    let broken = file(&scratch, "broken.pem", "-----BEGIN CERTIFICATE-----\nhunter2!\n-----END CERTIFICATE-----\n");
    let absent = scratch.0.join("absent.pem");
    let key = file(&scratch, "key.pem", &KeyPair::generate().unwrap().serialize_pem());
    let certificate = file(&scratch, "cert.pem", &authority().pem());
    for (tls, start) in [
        (json!({"ca_file": absent}), "tls::ca_file: cannot be read: "),
        (json!({"ca_file": junk}), "tls::ca_file: holds no certificate in PEM form"),
        (json!({"ca_file": broken}), "tls::ca_file: is not in PEM form"),
        (json!({"ca_pem": "hunter2"}), "tls::ca_pem: holds no certificate in PEM form"),
        (json!({"cert_file": certificate, "key_file": junk}), "tls::key_file: holds no private key in PEM form"),
        (json!({"cert_file": certificate, "key_file": key}), "tls: 'cert_file' and 'key_file' do not belong together"),
        (json!({"cert_file": certificate}), "tls: TLS configuration must include both certificate and key ("),
        (json!({"insecure": true, "ca_file": junk}), "tls: 'insecure' contradicts certificates"),
        (json!({"server_name_override": "not a name"}), "tls::server_name_override: "),
        (json!({"min_version": "1.0"}), "tls: invalid TLS min_version: TLS 1.0 is not safe"),
        (json!({"min_version": "1.3", "max_version": "1.2"}), "tls: invalid TLS configuration: min_version cannot"),
    ] {
        let config: otlp_grpc::Config =
            serde_json::from_value(json!({"endpoint": "localhost:4317", "tls": tls})).unwrap();
        let error = config.validate().and_then(|()| otlp_grpc::OtlpGrpc::new(&config).map(|_| ()));
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with(start), "{tls}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
