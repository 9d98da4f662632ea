//! TLS on both ports with real handshakes: who is let in, what is agreed on, and certificates that change meanwhile.

use crate::pki::{Authority, Client, Files};
use crate::support::*;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    AlertDescription, CertificateError, ProtocolVersion, SupportedProtocolVersion,
    pki_types::{CertificateDer, ServerName},
    version::{TLS12, TLS13},
};
use std::{
    fmt::Write as _,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tracegate::{
    net::tls::TlsServer,
    otlp::Signal,
    receiver::{Receiver, Settings, StartError},
};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

const ONLY_12: &[&SupportedProtocolVersion] = &[&TLS12];
const ONLY_13: &[&SupportedProtocolVersion] = &[&TLS13];

type Tls = TlsStream<TcpStream>;

fn secure(tls: &TlsServer) -> Settings {
    let mut settings = settings();
    grpc(&mut settings).tls = Some(tls.clone());
    http(&mut settings).tls = Some(tls.clone());
    settings
}

async fn connect(address: SocketAddr, client: &Client, name: &'static str) -> io::Result<Tls> {
    let stream = TcpStream::connect(address).await?;
    let handshake = TlsConnector::from(client.config()).connect(ServerName::try_from(name).unwrap(), stream);
    timeout(SOON, handshake).await.expect("the handshake never ended")
}

async fn connected(address: SocketAddr, client: &Client) -> Tls {
    connect(address, client, "gateway.test").await.unwrap()
}

/// Why rustls on our side gave up.
fn cause(error: &io::Error) -> rustls::Error {
    error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).expect("not about TLS").clone()
}

/// Why the server sent us away. With TLS 1.3 a client learns that after its own half of the handshake.
async fn sent_away(address: SocketAddr, client: &Client) -> AlertDescription {
    let error = match connect(address, client, "gateway.test").await {
        Err(error) => error,
        Ok(mut stream) => timeout(SOON, stream.read_u8()).await.unwrap().unwrap_err(),
    };
    match cause(&error) {
        rustls::Error::AlertReceived(alert) => alert,
        other => panic!("{other}"),
    }
}

/// The certificate a new connection is shown.
async fn shown(address: SocketAddr, client: &Client) -> CertificateDer<'static> {
    connected(address, client).await.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

async fn shows(what: &str, address: SocketAddr, client: &Client, wanted: &CertificateDer<'static>) {
    let wait = async {
        while shown(address, client).await != *wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(SOON, wait).await.is_ok(), "never came: {what}");
}

fn traces() -> Request<Full<Bytes>> {
    Request::post("/v1/traces")
        .header("host", "gateway.test")
        .header("content-type", PROTOBUF)
        .body(Full::new(spans("x")))
        .unwrap()
}

fn unary() -> Request<Full<Bytes>> {
    let message = spans("x");
    Request::post(format!("https://gateway.test{}", Signal::Traces.grpc_path()))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(framed(0, message.len() as u32, &message)))
        .unwrap()
}

async fn over_http1(stream: Tls) -> http1::SendRequest<Full<Bytes>> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn over_http2(stream: Tls) -> http2::SendRequest<Full<Bytes>> {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn call_over(sender: &mut http2::SendRequest<Full<Bytes>>) -> tonic::Code {
    let response = timeout(SOON, sender.send_request(unary())).await.expect("no answer in time");
    Answer::read(response.unwrap()).await.grpc().code()
}

/// What this process logged, all tests together: each looks for its own file.
fn logged() -> &'static Mutex<String> {
    static LOG: OnceLock<Mutex<String>> = OnceLock::new();
    LOG.get_or_init(|| {
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Log)).unwrap();
        Mutex::default()
    })
}

struct Log;

impl<S: tracing::Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        struct Fields(String);
        impl tracing::field::Visit for Fields {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                write!(self.0, " {field}={value:?}").unwrap();
            }
        }
        if !event.metadata().target().starts_with("tracegate") {
            return;
        }
        let mut fields = Fields(event.metadata().level().to_string());
        event.record(&mut fields);
        logged().lock().unwrap().push_str(&(fields.0 + "\n"));
    }
}

async fn until_logged(parts: &[&str]) -> String {
    let found = || {
        let log = logged().lock().unwrap();
        log.lines().find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned)
    };
    until(&format!("a log line with {parts:?}"), || found().is_some()).await;
    found().unwrap()
}

// Who is let in.

#[tokio::test]
async fn h1_alpn_chooses_http2_or_http1_on_either_port_and_none_is_fine() {
    let authority = Authority::new();
    let files = Files::of(&authority.issue("gateway.test"));
    let server = Server::with(secure(&files.server())).await;
    for address in [server.grpc(), server.http()] {
        for (offered, agreed) in [
            (&["h2", "http/1.1"][..], Some("h2")),
            (&["http/1.1", "h2"], Some("h2")),
            (&["http/1.1"], Some("http/1.1")),
            (&[], None),
        ] {
            let stream = connected(address, &authority.client(offered)).await;
            let chosen = stream.get_ref().1.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
            assert_eq!(chosen.as_deref(), agreed, "{offered:?}");
        }
        let error = connect(address, &authority.client(&["spdy/3"]), "gateway.test").await.unwrap_err();
        assert_eq!(cause(&error), rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol));
    }

    let mut grpc = over_http2(connected(server.grpc(), &authority.client(&["h2"])).await).await;
    assert_eq!(call_over(&mut grpc).await, tonic::Code::Ok);
    for alpn in [&["http/1.1"][..], &[]] {
        let mut plain = over_http1(connected(server.http(), &authority.client(alpn)).await).await;
        assert_eq!(plain.send_request(traces()).await.unwrap().status(), 200);
    }
    let mut request = traces();
    *request.uri_mut() = "https://gateway.test/v1/traces".parse().unwrap();
    let mut multiplexed = over_http2(connected(server.http(), &authority.client(&["h2"])).await).await;
    assert_eq!(multiplexed.send_request(request).await.unwrap().status(), 200);
    assert_eq!(server.recorder.count(), 4);
    assert!(server.recorder.last().2.peer.is_some());
}

#[tokio::test]
async fn clients_see_through_a_wrong_authority_a_wrong_name_and_an_expired_certificate() {
    logged();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let files = Files::of(&authority.issue("gateway.test"));
    let server = Server::with(secure(&files.server())).await;
    let refuses = async |address, client: &Client, name| {
        let error = connect(address, client, name).await.unwrap_err();
        let rustls::Error::InvalidCertificate(error) = cause(&error) else { panic!("{error}") };
        error
    };
    assert_eq!(refuses(server.grpc(), &stranger.client(&[]), "gateway.test").await, CertificateError::UnknownIssuer);
    let error = refuses(server.http(), &authority.client(&[]), "another.test").await;
    assert!(matches!(error, CertificateError::NotValidForNameContext { .. }), "{error:?}");

    // An expired certificate is warned about and served: the new one needs no restart.
    let files = Files::of(&authority.issue_expired("gateway.test"));
    let server = Server::with(secure(&files.server())).await;
    let error = refuses(server.grpc(), &authority.client(&[]), "gateway.test").await;
    assert!(matches!(error, CertificateError::ExpiredContext { .. }), "{error:?}");
    let file = files.path("cert.pem");
    let line = until_logged(&["WARN", file.to_str().unwrap(), "expired, notAfter is 2021-01-01T00:00:00Z"]).await;
    assert!(line.contains("others will refuse it"), "{line}");
    files.put(&authority.issue("gateway.test"));
    let wait = async {
        while connect(server.grpc(), &authority.client(&[]), "gateway.test").await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, wait).await.expect("the new certificate was never used");
}

#[tokio::test]
async fn with_client_ca_file_only_clients_of_that_authority_are_let_in() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let files = Files::of(&authority.issue("gateway.test"));
    let server = Server::with(secure(&files.mutual(&clients))).await;
    for versions in [ONLY_12, ONLY_13] {
        let client = || authority.client(&["h2"]).speaking(versions);
        let ours = client().with(&clients.issue("agent.test"));
        let mut sender = over_http2(connected(server.grpc(), &ours).await).await;
        assert_eq!(call_over(&mut sender).await, tonic::Code::Ok);

        for (who, wanted) in [
            (client(), AlertDescription::CertificateRequired),
            (client().with(&authority.issue("agent.test")), AlertDescription::UnknownCA),
            (client().with(&clients.issue_expired("agent.test")), AlertDescription::CertificateExpired),
        ] {
            // Before TLS 1.3 there was no word for a missing certificate.
            let alert = sent_away(server.grpc(), &who).await;
            let missing_before = alert == AlertDescription::HandshakeFailure && versions[0] == &TLS12;
            assert!(alert == wanted || missing_before && wanted == AlertDescription::CertificateRequired, "{alert:?}");
        }
    }
    assert_eq!(server.recorder.count(), 2);
}

#[tokio::test]
async fn versions_outside_the_configured_are_not_spoken() {
    let authority = Authority::new();
    let files = Files::of(&authority.issue("gateway.test"));
    let start = async |min: Option<&str>, max: Option<&str>| {
        let versions = (min.map(str::to_owned), max.map(str::to_owned));
        let tls = TlsServer { min_version: versions.0, max_version: versions.1, ..files.server() };
        Server::with(secure(&tls)).await
    };
    let new = start(Some("1.3"), None).await;
    let old = start(None, Some("1.2")).await;
    let both = start(None, None).await;
    let agreed =
        async |server: &Server, client: Client| connected(server.grpc(), &client).await.get_ref().1.protocol_version();
    let client = || authority.client(&[]);
    assert_eq!(agreed(&new, client()).await, Some(ProtocolVersion::TLSv1_3));
    assert_eq!(agreed(&old, client()).await, Some(ProtocolVersion::TLSv1_2));
    assert_eq!(agreed(&both, client()).await, Some(ProtocolVersion::TLSv1_3));
    assert_eq!(agreed(&both, client().speaking(ONLY_12)).await, Some(ProtocolVersion::TLSv1_2));
    assert_eq!(sent_away(new.grpc(), &client().speaking(ONLY_12)).await, AlertDescription::ProtocolVersion);
    assert_eq!(sent_away(old.grpc(), &client().speaking(ONLY_13)).await, AlertDescription::ProtocolVersion);
}

#[tokio::test]
async fn suites_and_curves_are_those_configured() {
    let authority = Authority::new();
    let files = Files::of(&authority.issue("gateway.test"));
    let tls = TlsServer {
        cipher_suites: vec!["TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256".to_owned()],
        curve_preferences: vec!["P384".to_owned()],
        ..files.server()
    };
    let server = Server::with(secure(&tls)).await;
    let stream = connected(server.grpc(), &authority.client(&[]).speaking(ONLY_12)).await;
    let session = stream.get_ref().1;
    let suite = session.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256);
    assert_eq!(session.negotiated_key_exchange_group().unwrap().name(), rustls::NamedGroup::secp384r1);
}

// Who does not keep to it.

#[tokio::test]
async fn a_client_without_tls_is_told_so_in_its_own_protocol() {
    let authority = Authority::new();
    let files = Files::of(&authority.issue("gateway.test"));
    let server = Server::with(secure(&files.server())).await;
    let answer = async |sent: &[u8]| {
        let mut stream = TcpStream::connect(server.http()).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let mut answer = Vec::new();
        // A client that goes on sending may see a reset instead of the end.
        let _ = timeout(SOON, stream.read_to_end(&mut answer)).await.expect("never closed");
        String::from_utf8_lossy(&answer).into_owned()
    };
    let http1 = answer(b"POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await;
    assert!(http1.starts_with("HTTP/1.0 400 Bad Request\r\n"), "{http1}");
    assert!(http1.ends_with("Client sent an HTTP request to an HTTPS server.\n"), "{http1}");
    let http2 = answer(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    assert!(http2.ends_with("this port speaks TLS; use https://"), "{http2:?}");
    assert_eq!(answer(&[0x80, 1, 2, 3]).await, "");
    // And what begins like a handshake and is none.
    assert_eq!(answer(&[22, 3, 1, 0, 4, 1, 0, 0, 0]).await.as_bytes().first(), Some(&21), "an alert");
    assert_eq!(server.recorder.count(), 0);

    // A real client of HTTP/2 without TLS learns it from the GOAWAY.
    let stream = TcpStream::connect(server.grpc()).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let driven = tokio::spawn(connection);
    let error = timeout(SOON, sender.send_request(unary())).await.unwrap().unwrap_err();
    let ended = driven.await.unwrap();
    let texts = format!("{error:?} {ended:?}");
    assert!(texts.contains("INADEQUATE_SECURITY"), "{texts}");
}

#[tokio::test]
async fn a_handshake_has_its_time_and_takes_a_place() {
    let authority = Authority::new();
    let files = Files::of(&authority.issue("gateway.test"));
    let mut settings = secure(&files.server());
    settings.max_connections = 1;
    grpc(&mut settings).header_timeout = Duration::from_millis(300);
    let server = Server::with(settings).await;
    // One that says nothing, one that stops in the middle; each has the only place until its time is over.
    for said in [&b""[..], &[22, 3, 1, 2, 0, 1]] {
        let mut slow = TcpStream::connect(server.grpc()).await.unwrap();
        slow.write_all(said).await.unwrap();
        let mut answer = Vec::new();
        timeout(SOON, slow.read_to_end(&mut answer)).await.expect("never closed").unwrap();
    }
    let (slow, other) =
        (TcpStream::connect(server.grpc()).await.unwrap(), TcpStream::connect(server.grpc()).await.unwrap());
    let mut other = other;
    assert_eq!(timeout(SOON, other.read(&mut [0])).await.expect("not closed at once").unwrap_or(0), 0);
    drop(slow);
    let wait = async {
        while connect(server.grpc(), &authority.client(&[]), "gateway.test").await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, wait).await.expect("the place never became free");
}

#[tokio::test]
async fn draining_does_not_wait_for_handshakes() {
    let authority = Authority::new();
    let files = Files::of(&authority.issue("gateway.test"));
    let server = Server::with(secure(&files.server())).await;
    let mut half = TcpStream::connect(server.grpc()).await.unwrap();
    half.write_all(&[22, 3, 1]).await.unwrap();
    assert!(server.receiver.drain(tokio::time::Instant::now() + SOON).await);
    assert_eq!(half.read(&mut [0]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn what_cannot_be_used_is_an_error_at_start_that_names_the_key_and_not_the_content() {
    let authority = Authority::new();
    let files = Files::of(&authority.issue("gateway.test"));
    let other = authority.issue("gateway.test");
    let junk = files.write("junk.pem", "hunter2");
    let broken = files.write("broken.pem", "-----BEGIN CERTIFICATE-----\nhunter2!\n-----END CERTIFICATE-----\n");
    let fake = files.write("fake.pem", "-----BEGIN CERTIFICATE-----\naHVudGVyMg==\n-----END CERTIFICATE-----\n");
    let key = "-----BEGIN ENCRYPTED PRIVATE KEY-----\naHVudGVyMg==\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let (encrypted, other) = (files.write("encrypted.pem", key), files.write("other.pem", &other.key_pem));
    let absent = files.path("absent.pem");
    let good = files.server();
    let with = |change: &dyn Fn(&mut TlsServer)| {
        let mut tls = good.clone();
        change(&mut tls);
        tls
    };
    for (tls, text) in [
        (with(&|tls| tls.cert_file = Some(absent.clone())), "::cert_file: cannot be read: No such file or directory"),
        (with(&|tls| tls.key_file = Some(absent.clone())), "::key_file: cannot be read: No such file or directory"),
        (with(&|tls| tls.cert_file = Some(files.directory().to_owned())), "::cert_file: cannot be read: "),
        (with(&|tls| tls.cert_file = Some(junk.clone())), "::cert_file: holds no certificate in PEM form"),
        (with(&|tls| tls.cert_file = Some(broken.clone())), "::cert_file: is not in PEM form"),
        (with(&|tls| tls.cert_file = Some(fake.clone())), "::cert_file: holds a certificate that cannot be used"),
        (with(&|tls| tls.key_file = Some(junk.clone())), "::key_file: holds no private key in PEM form"),
        (with(&|tls| tls.key_file = Some(encrypted.clone())), "::key_file: holds a key that is encrypted with a pass"),
        (with(&|tls| tls.key_file = Some(other.clone())), ": 'cert_file' and 'key_file' do not belong together"),
        (with(&|tls| tls.client_ca_file = Some(absent.clone())), "::client_ca_file: cannot be read: "),
        (with(&|tls| tls.client_ca_file = Some(junk.clone())), "::client_ca_file: holds no certificate in PEM form"),
        (with(&|tls| tls.client_ca_file = Some(fake.clone())), "::client_ca_file: holds an authority's certificate"),
        (with(&|tls| tls.ca_file = Some(junk.clone())), "::ca_file: holds no certificate in PEM form"),
    ] {
        let mut settings = secure(&tls);
        settings.grpc = None;
        let started = Receiver::start("otlp/a", &settings, Recorder::new(), Arc::new(|_, _, _| ())).await;
        let error @ StartError::Tls(_) = started.unwrap_err() else { panic!("{text}") };
        let error = error.to_string();
        assert!(error.starts_with(&format!("receivers::otlp/a::protocols::http::tls{text}")), "{error}");
        assert!(!error.contains("hunter2") && error.lines().count() == 1, "{error}");
    }
}

// Certificates that change.

#[tokio::test]
async fn a_new_certificate_is_used_by_new_connections_and_old_ones_live_on() {
    let authority = Authority::new();
    let (first, second) = (authority.issue("gateway.test"), authority.issue("gateway.test"));
    let files = Files::of(&first);
    let server = Server::with(secure(&files.server())).await;
    let client = authority.client(&["h2"]);
    let mut before = over_http2(connected(server.grpc(), &client).await).await;
    assert_eq!(call_over(&mut before).await, tonic::Code::Ok);
    assert_eq!(shown(server.grpc(), &client).await, first.certificate);

    // A request is in hand while the certificate changes.
    let gate = server.recorder.close_gate();
    let held = tokio::spawn(async move {
        let code = call_over(&mut before).await;
        (before, code)
    });
    server.recorder.entered.notified().await;
    server.recorder.entered.notified().await;
    files.put(&second);
    for address in [server.grpc(), server.http()] {
        shows("the second certificate", address, &client, &second.certificate).await;
    }
    server.recorder.gate.lock().unwrap().take();
    gate.notify_waiters();
    let (mut before, code) = held.await.unwrap();
    assert_eq!(code, tonic::Code::Ok);
    assert_eq!(call_over(&mut before).await, tonic::Code::Ok, "the old connection serves on");
}

#[tokio::test]
async fn a_bad_new_certificate_changes_nothing_but_the_log() {
    logged();
    let authority = Authority::new();
    let (first, second) = (authority.issue("gateway.test"), authority.issue("gateway.test"));
    let files = Files::of(&first);
    let server = Server::with(secure(&files.server())).await;
    let client = authority.client(&[]);
    let cert = files.path("cert.pem");
    let cert = cert.to_str().unwrap();

    files.write("cert.pem", "hunter2");
    let line = until_logged(&["WARN", cert, "holds no certificate in PEM form"]).await;
    assert!(line.contains("what was in use stays"), "{line}");
    assert_eq!(shown(server.grpc(), &client).await, first.certificate);
    files.write("cert.pem", &second.certificate_pem);
    until_logged(&["WARN", cert, "'cert_file' and 'key_file' do not belong together"]).await;
    assert_eq!(shown(server.grpc(), &client).await, first.certificate);
    std::fs::remove_file(cert).unwrap();
    until_logged(&["WARN", cert, "cannot be read: No such file"]).await;
    assert_eq!(shown(server.grpc(), &client).await, first.certificate);

    files.put(&second);
    shows("the second certificate", server.grpc(), &client, &second.certificate).await;
    until_logged(&["INFO", cert, "in use from the next handshake on"]).await;
    let log = logged().lock().unwrap();
    assert!(!log.contains("hunter2") && !log.contains("PRIVATE KEY"), "{log}");
}

#[tokio::test]
async fn the_authority_of_clients_changes_too_and_no_session_survives_it() {
    let (authority, old, new) = (Authority::new(), Authority::new(), Authority::new());
    let files = Files::of(&authority.issue("gateway.test"));
    let server = Server::with(secure(&files.mutual(&old))).await;
    // One client throughout, which keeps tickets and would resume.
    let config = authority.client(&["h2"]).with(&old.issue("agent.test")).config();
    let enter = async || {
        let stream = TcpStream::connect(server.grpc()).await.unwrap();
        let name = ServerName::try_from("gateway.test").unwrap();
        let stream = TlsConnector::from(config.clone()).connect(name, stream).await?;
        let io = TokioIo::new(stream);
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        sender.send_request(unary()).await.map(|_| ()).map_err(io::Error::other)
    };
    enter().await.unwrap();
    enter().await.unwrap();
    files.write("clients.pem", &new.pem());
    let wait = async {
        while enter().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, wait).await.expect("the old authority is still trusted");
    let ours = authority.client(&["h2"]).with(&new.issue("agent.test"));
    let mut sender = over_http2(connected(server.grpc(), &ours).await).await;
    assert_eq!(call_over(&mut sender).await, tonic::Code::Ok);
}

#[tokio::test]
async fn g7_a_connection_over_tls_ends_at_its_age() {
    let authority = Authority::new();
    let files = Files::of(&authority.issue("gateway.test"));
    let mut settings = secure(&files.server());
    grpc(&mut settings).max_connection_age = Some(Duration::from_millis(300));
    let server = Server::with(settings).await;
    let stream = connected(server.grpc(), &authority.client(&["h2"])).await;
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let driven = tokio::spawn(connection);
    assert_eq!(call_over(&mut sender).await, tonic::Code::Ok);
    timeout(SOON, driven).await.expect("never closed").unwrap().unwrap();
    drop(sender);
}
