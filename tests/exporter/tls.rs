//! TLS to backends, with authorities made for the test.

use crate::{
    backend::{Answer, Backend},
    support::{Scratch, payload},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use serde_json::{Value, json};
use std::{path::PathBuf, sync::Arc};
use tracegate::exporter::{Failure, Outgoing, Sender, Sent, otlp_grpc, otlp_http};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for `name`, and its key.
fn issue(authority: &Authority, name: &str, purpose: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.extended_key_usages = vec![purpose];
    (params.signed_by(&key, authority).unwrap(), key)
}

fn server(authority: &Authority, name: &str, clients: Option<&Authority>, alpn: &[&str]) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let (certificate, key) = issue(authority, name, ExtendedKeyUsagePurpose::ServerAuth);
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
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

fn file(scratch: &Scratch, name: &str, content: &str) -> PathBuf {
    let path = scratch.0.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

fn outgoing() -> Outgoing {
    let payload = payload("a", 1);
    Outgoing { signal: payload.signal, count: payload.count, parts: vec![payload.bytes] }
}

async fn grpc(backend: &Backend, tls: Value) -> Result<Sent, Failure> {
    let endpoint = format!("localhost:{}", backend.address.port());
    let config = json!({"endpoint": endpoint, "tls": tls});
    otlp_grpc::OtlpGrpc::new(&serde_json::from_value(config).unwrap()).unwrap().send(&outgoing()).await
}

async fn http(backend: &Backend, tls: Value) -> Result<Sent, Failure> {
    let endpoint = format!("https://localhost:{}", backend.address.port());
    let config = json!({"endpoint": endpoint, "tls": tls});
    otlp_http::OtlpHttp::new(&serde_json::from_value(config).unwrap()).unwrap().send(&outgoing()).await
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
        (json!({"cert_file": certificate, "key_file": junk}), "tls::key_file: holds nothing of this kind in PEM form"),
        (json!({"cert_file": certificate, "key_file": key}), "tls: 'cert_file' and 'key_file' do not belong together"),
        (json!({"cert_file": certificate}), "tls: for auth via TLS, provide both certificate and key, or neither"),
        (json!({"insecure": true, "ca_file": junk}), "tls: 'insecure' contradicts certificates"),
        (json!({"insecure_skip_verify": true}), "tls::insecure_skip_verify: "),
        (json!({"server_name_override": "not a name"}), "tls::server_name_override: "),
        (json!({"min_version": "1.0"}), "tls: invalid TLS min_version: unsupported TLS version"),
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
