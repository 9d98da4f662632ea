//! The binary with `auth` on both sides: started, asked, its files changed, reloaded; and everything it writes, at the
//! most talkative level, without a credential in it.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/binary.rs"]
mod binary;
mod support;

use binary::{Gateway, http, output};
use prost::Message;
use std::{fs, net::SocketAddr, process::Command, thread, time::Duration};
use support::{request, span};
use tempfile::TempDir;

/// A post with the header `authorization: <value>`, unless that is empty.
fn post(address: SocketAddr, value: &str) -> u16 {
    let value = if value.is_empty() { String::new() } else { format!("\r\nAuthorization: {value}") };
    let head = format!("POST /v1/traces HTTP/1.1\r\nContent-Type: application/x-protobuf{value}");
    http(address, &head, &request(vec![span(1, "one", vec![])]).encode_to_vec()).0
}

/// Waits for what a file that changed brings.
fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("never came: {what}");
}

/// A receiver with `auth`, an exporter with `exporter`, and these extensions.
fn config(extensions: &str, names: &str, exporter: &str) -> String {
    format!(
        "extensions: {{{extensions}}}\n\
         receivers: {{otlp: {{protocols: {{grpc: {{endpoint: \"127.0.0.1:0\", auth: {{authenticator: bearertokenauth/in}}}}, \
           http: {{endpoint: \"127.0.0.1:0\", auth: {{authenticator: bearertokenauth/in}}}}}}}}}}\n\
         exporters: {{{exporter}}}\n\
         service: {{extensions: [{names}], telemetry: {{logs: {{level: debug}}, metrics: {{readers: [{{pull: {{exporter: \
           {{prometheus: {{host: 127.0.0.1, port: 0}}}}}}}}]}}}}, \
           pipelines: {{traces: {{receivers: [otlp], exporters: [out]}}}}}}\n"
    )
    .replace("[out]", &format!("[{}]", exporter.split(':').next().unwrap()))
}

fn spawn(directory: &TempDir, config: &str) -> Gateway {
    let path = directory.path().join("config.yaml");
    fs::write(&path, config).unwrap();
    Gateway::spawn(&["--config", path.to_str().unwrap()])
}

fn reload(directory: &TempDir, gateway: &mut Gateway, config: &str, line: &str) {
    fs::write(directory.path().join("config.yaml"), config).unwrap();
    assert!(Command::new("kill").args(["-HUP", &gateway.process.id().to_string()]).status().unwrap().success());
    gateway.wait_for(line);
}

/// tracegate in front of tracegate: one sends what the other asks for, from files.
#[test]
fn g10_h9_a_chain_authenticates_and_writes_no_credential() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    fs::write(&token, "planted-chain-1\n").unwrap();
    let file = format!("bearertokenauth/in: {{filename: {token:?}}}");
    let written = directory.path().join("out.jsonl");
    let inner = Gateway::start(&config(&file, "bearertokenauth/in", &format!("file: {{path: {written:?}}}")));

    let outer_config = |password: &str| {
        let extensions = format!(
            "bearertokenauth/in: {{token: planted-client-{password}}}, bearertokenauth/out: {{filename: {token:?}}}"
        );
        let exporter = format!(
            "otlp_grpc: {{endpoint: \"{}\", tls: {{insecure: true}}, compression: none, auth: {{authenticator: \
             bearertokenauth/out}}, sending_queue: {{enabled: false}}, retry_on_failure: {{enabled: false}}}}",
            inner.address("grpc")
        );
        config(&extensions, "bearertokenauth/in, bearertokenauth/out", &exporter)
    };
    let mut outer = spawn(&directory, &outer_config("a"));
    let address = outer.address("http");
    assert_eq!(post(address, "Bearer planted-client-a"), 200);
    for wrong in ["", "Bearer planted-wrong", "Basic planted-wrong", "planted-client-a"] {
        assert_eq!(post(address, wrong), 401, "{wrong}");
    }
    let metrics = http(outer.address("metrics"), "GET /metrics HTTP/1.1", b"").1;
    let counted =
        "tracegate_receiver_rejected_requests{receiver=\"otlp\",transport=\"http\",reason=\"unauthenticated\"} 4";
    assert!(metrics.contains(counted), "{metrics}");

    // Both read the one file: while they differ a request fails, and then they agree on the new one.
    fs::write(&token, "planted-chain-2\n").unwrap();
    until("the new token, on both sides", || {
        post(inner.address("http"), "Bearer planted-chain-2") == 200
            && post(inner.address("http"), "Bearer planted-chain-1") == 401
            && post(address, "Bearer planted-client-a") == 200
    });

    // The receiver's own section is the same; what it refers to is not.
    reload(&directory, &mut outer, &outer_config("b"), "The new configuration is in force.");
    assert_eq!(post(address, "Bearer planted-client-b"), 200);
    assert_eq!(post(address, "Bearer planted-client-a"), 401);
    assert_eq!(outer.address("http"), address, "the port stayed");

    // A configuration that cannot start changes nothing.
    let missing = outer_config("c").replace(token.to_str().unwrap(), "/nowhere/planted-file");
    reload(&directory, &mut outer, &missing, "the one before stays in force");
    assert_eq!(post(address, "Bearer planted-client-b"), 200);

    let metrics = http(outer.address("metrics"), "GET /metrics HTTP/1.1", b"").1;
    let (_, outer) = outer.stop();
    let (_, inner) = inner.stop();
    let refusals = outer.iter().filter(|line| line.contains("requests are not authenticated")).count();
    assert!((1..=4).contains(&refusals), "told, and told seldom: {refusals}");
    let all = [outer.join("\n"), inner.join("\n"), metrics, fs::read_to_string(written).unwrap()].join("\n");
    for planted in ["planted-chain", "planted-client", "planted-wrong"] {
        assert!(!all.contains(planted), "{all}");
    }
}

/// Text of the configuration, and what is said of it: one line, and nothing starts.
#[test]
fn what_is_wrong_with_authenticators_is_said_in_one_line() {
    let nop = "nop: {}";
    let token = "bearertokenauth/in: {token: planted}";
    let exporter =
        |auth: &str| format!("otlp_http: {{endpoint: \"http://localhost:1\", auth: {{authenticator: {auth}}}}}");
    let receiver = "receivers::otlp::protocols::grpc::auth: ";
    for (extensions, names, exporters, says) in [
        ("", "", nop, format!("{receiver}failed to resolve authenticator \"bearertokenauth/in\": authenticator not found (")),
        (token, "", nop, format!("{receiver}failed to resolve authenticator \"bearertokenauth/in\": authenticator not found (")),
        ("bearertokenauth/in: {}", "bearertokenauth/in", nop, "extensions::bearertokenauth/in: no bearer token provided".into()),
        (
            "bearertokenauth/in: {token: planted, tokens: [planted]}",
            "bearertokenauth/in",
            nop,
            "extensions::bearertokenauth/in: either tokens or token should be provided, not both".into(),
        ),
        (
            "bearertokenauth/in: {token: planted, filename: f}",
            "bearertokenauth/in",
            nop,
            "extensions::bearertokenauth/in: either a filename or tokens should be provided, not both".into(),
        ),
        (
            "bearertokenauth/in: {filename: /nowhere/planted-is-a-name}",
            "bearertokenauth/in",
            nop,
            "extensions::bearertokenauth/in::filename: cannot be read: ".into(),
        ),
        (
            "bearertokenauth/in: {toke: planted}",
            "bearertokenauth/in",
            nop,
            "extensions::bearertokenauth/in: 'bearertokenauth/in' has invalid keys: toke (did you mean \"token\"?".into(),
        ),
        (
            "bearertokenauth/in: {token: planted}, basicauth: {htpasswd: {inline: \"a:$apr1$planted\"}}",
            "bearertokenauth/in",
            nop,
            "extensions::basicauth::htpasswd::inline: line 1: has a hash of a kind that is not supported".into(),
        ),
        (
            "bearertokenauth/in: {token: planted}, basicauth: {htpasswd: {inline: \"a:planted\"}}",
            "bearertokenauth/in, basicauth",
            &exporter("basicauth"),
            "exporters::otlp_http::auth: requested authenticator is not a HTTP client authenticator".into(),
        ),
        (
            token,
            "bearertokenauth/in",
            &exporter("oauth2client"),
            "exporters::otlp_http::auth: failed to resolve authenticator \"oauth2client\": authenticator not found".into(),
        ),
        (
            "bearertokenauth/in: {token: planted}, oidc: {issuer_url: x}",
            "bearertokenauth/in",
            nop,
            "extensions::oidc: 'extensions' unknown type: \"oidc\" for id: \"oidc\" (valid values: [basicauth bearertokenauth \
             health_check pprof zpages]) (this version authenticates with bearertokenauth and basicauth)"
                .into(),
        ),
    ] {
        let config = config(extensions, names, exporters);
        let run = output(&["--config", &format!("yaml:{config}")], b"");
        let text = run.stderr;
        assert_eq!(run.code, Some(1), "{text}");
        let line = text.lines().find(|line| line.contains(&says)).unwrap_or_else(|| panic!("wanted {says}\n{text}"));
        assert!(!line.contains("planted") || line.contains("/nowhere/"), "{line}");
        assert!(!text.contains("planted\""), "{text}");
    }
}

#[test]
fn print_config_shows_no_credential_and_the_id_of_the_authenticator() {
    let extensions = "bearertokenauth/in: {tokens: [planted-1]}, basicauth: {htpasswd: {inline: \"a:planted-2\"}}, \
                      basicauth/out: {client_auth: {username: anna, password: planted-3}}";
    let config = config(extensions, "bearertokenauth/in", "nop: {}");
    let run = output(&["print-config", "--config", &format!("yaml:{config}")], b"");
    let text = run.stdout;
    assert!(run.code == Some(0) && text.contains("authenticator: bearertokenauth/in"), "{text}");
    assert!(!text.contains("planted") && text.contains("[REDACTED]"), "{text}");
}
