//! The section as people write it, and the exact texts for what they get wrong.

use super::*;
use crate::config::{Source, load};
use std::time::Duration;

fn read(yaml: &str) -> Result<(Config, Settings), String> {
    let source = Source::Yaml(format!("receivers: {{otlp: {yaml}}}"));
    let path = ["receivers", "otlp"];
    let document = load(&[source], &[]).unwrap().document;
    let config: Config = document.section(&path).map_err(|error| error.to_string())?;
    let settings = config.settings().map_err(|error| error.under(&path).to_string())?;
    Ok((config, settings))
}

/// The notes on a section, whatever it refers to.
fn read_notes(yaml: &str) -> Vec<String> {
    let document = load(&[Source::Yaml(format!("receivers: {{otlp: {yaml}}}"))], &[]).unwrap().document;
    document.section::<Config>(&["receivers", "otlp"]).unwrap().notes()
}

fn settings(yaml: &str) -> Settings {
    read(yaml).unwrap().1
}

fn grpc(yaml: &str) -> Result<GrpcSettings, String> {
    read(&format!("{{protocols: {{grpc: {yaml}}}}}")).map(|(_, settings)| settings.grpc.unwrap())
}

fn http(yaml: &str) -> Result<HttpSettings, String> {
    read(&format!("{{protocols: {{http: {yaml}}}}}")).map(|(_, settings)| settings.http.unwrap())
}

#[test]
fn a_protocol_is_on_when_its_key_is_there() {
    let both = settings("{protocols: {grpc: , http: }}");
    assert!(both.grpc.is_some() && both.http.is_some());
    let one = settings("{protocols: {http: {}}}");
    assert!(one.grpc.is_none() && one.http.is_some());
    for none in ["", "{protocols: }", "{protocols: {}}", "{}"] {
        assert_eq!(
            read(none).unwrap_err(),
            "receivers::otlp: must specify at least one protocol when using the OTLP receiver (write protocols: \
             {grpc: {}, http: {}})"
        );
    }
}

#[test]
fn defaults_are_loopback_and_64_mebibytes() {
    let Settings { grpc, http, max_concurrent_bytes, max_connections } = settings("{protocols: {grpc: , http: }}");
    let (grpc, http) = (grpc.unwrap(), http.unwrap());
    assert_eq!((grpc.endpoint.as_str(), http.endpoint.as_str()), ("127.0.0.1:4317", "127.0.0.1:4318"));
    assert_eq!((grpc.max_message_bytes, http.max_body_bytes), (64 << 20, 64 << 20));
    assert_eq!((max_concurrent_bytes, max_connections), (256 << 20, 1024));
    assert_eq!(http.paths[1], ("/v1/logs".to_owned(), Signal::Logs));
    let written = Config::with_defaults().settings().unwrap();
    assert_eq!(format!("{written:?}"), format!("{:?}", Settings::default()), "one set of defaults");
}

#[test]
fn zero_is_the_default_and_never_unbounded() {
    let zero =
        http("{read_timeout: 0, read_header_timeout: 0s, write_timeout: 0, idle_timeout: 0, max_request_body_size: 0}");
    assert_eq!(format!("{:?}", zero.unwrap()), format!("{:?}", HttpSettings::default()));
    let zero = grpc("{max_recv_msg_size_mib: 0, max_concurrent_streams: 0, keepalive: {server_parameters: {time: 0}}}");
    assert_eq!(format!("{:?}", zero.unwrap()), format!("{:?}", GrpcSettings::default()));
}

#[test]
fn every_key_arrives() {
    let grpc = grpc(
        "{endpoint: '0.0.0.0:1', transport: tcp, max_recv_msg_size_mib: 16, max_concurrent_streams: 7, read_timeout: 3s, \
         include_metadata: true, keepalive: {server_parameters: {max_connection_idle: 1m, max_connection_age: 2m, \
         max_connection_age_grace: 3m, time: 4m, timeout: 5m}, enforcement_policy: {min_time: 6m, \
         permit_without_stream: true}}, tls: , auth: null}",
    )
    .unwrap();
    let minutes = |n: u64| Duration::from_secs(60 * n);
    assert_eq!(
        (grpc.endpoint.as_str(), grpc.max_message_bytes, grpc.max_concurrent_streams),
        ("0.0.0.0:1", 16 << 20, 7)
    );
    assert_eq!((grpc.max_connection_idle, grpc.max_connection_age), (Some(minutes(1)), Some(minutes(2))));
    assert_eq!(
        (grpc.max_connection_age_grace, grpc.ping_interval, grpc.ping_timeout),
        (minutes(3), minutes(4), minutes(5))
    );
    assert_eq!((grpc.read_timeout, grpc.include_metadata), (Duration::from_secs(3), true));
    assert_eq!((grpc.ping_min_time, grpc.ping_without_stream, grpc.tls), (minutes(6), true, None));
    let http = http(
        "{endpoint: 'localhost:2', traces_url_path: t, logs_url_path: /l, metrics_url_path: /m/, max_request_body_size: \
         1MiB, compression_algorithms: ['', gzip], response_headers: {X-A: b}, read_timeout: 1s, read_header_timeout: \
         2s, write_timeout: 3s, idle_timeout: 4s, keep_alives_enabled: false, include_metadata: true}",
    )
    .unwrap();
    let paths: Vec<&str> = http.paths.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!((http.endpoint.as_str(), paths), ("localhost:2", vec!["/t", "/l", "/m/"]));
    assert_eq!((http.max_body_bytes, &http.codings[..], http.keep_alive), (1 << 20, &[Algorithm::Gzip][..], false));
    let times = [http.read_timeout, http.header_timeout, http.write_timeout, http.idle_timeout];
    assert_eq!(times.map(|time| time.as_secs()), [1, 2, 3, 4]);
    assert!(http.include_metadata && http.cors.is_none());
    assert_eq!(http.response_headers["x-a"], "b");
    assert!(!format!("{http:?}").contains("\"b\""), "configured as opaque");
    let ours =
        settings("{protocols: {http: {max_request_body_size: 1MiB}}, max_concurrent_bytes: 8MiB, max_connections: 5}");
    assert_eq!((ours.max_concurrent_bytes, ours.max_connections), (8 << 20, 5));
    assert_eq!(http_codings("[]"), [], "none but identity");
    assert_eq!(http_codings(""), Algorithm::ALL, "null is absence");
    let all = "['', gzip, zstd, zlib, snappy, deflate, lz4, x-snappy-framed]";
    assert_eq!(http_codings(all), Algorithm::ALL, "the Collector's default, written out");
}

fn http_codings(list: &str) -> Vec<Algorithm> {
    http(&format!("{{compression_algorithms: {list}}}")).unwrap().codings
}

#[test]
fn room_grows_with_the_largest_request() {
    let large = settings("{protocols: {grpc: {max_recv_msg_size_mib: 100}}}");
    assert_eq!(large.max_concurrent_bytes, 400 << 20);
    let error = read("{protocols: {grpc: {}}, max_concurrent_bytes: 100MiB}").unwrap_err();
    assert!(
        error.starts_with(
            "receivers::otlp::max_concurrent_bytes: must be at least 4 times the largest request, 268435456 bytes ("
        ),
        "{error}"
    );
}

#[test]
fn an_authenticator_has_to_be_there() {
    let under = |protocol: &str, value: &str| {
        let read = read(&format!("{{protocols: {{{protocol}: {{auth: {value}}}}}}}")).unwrap_err();
        read.strip_prefix(&format!("receivers::otlp::protocols::{protocol}::auth: ")).unwrap().to_owned()
    };
    for protocol in ["grpc", "http"] {
        assert_eq!(
            under(protocol, "{authenticator: oidc/people}"),
            "failed to resolve authenticator \"oidc/people\": authenticator not found (configure it under extensions and \
             list it in service::extensions)"
        );
        assert!(under(protocol, "{authentikator: x}").starts_with("'auth' has invalid keys: authentikator"));
        assert!(under(protocol, "{}").contains("authenticator"));
    }
    assert!(
        under("grpc", "{authenticator: x, request_params: [a]}").starts_with("'auth' has invalid keys: request_params")
    );
}

#[test]
fn a_server_that_many_reach_is_told_to_encrypt_credentials() {
    let notes = |yaml: &str| read_notes(&format!("{{protocols: {{{yaml}}}}}"));
    let said = "protocols::grpc::auth: credentials come in over connections that are not encrypted; set tls";
    assert_eq!(notes("grpc: {endpoint: '0.0.0.0:4317', auth: {authenticator: x}}"), [said]);
    for quiet in [
        "grpc: {auth: {authenticator: x}}",
        "grpc: {endpoint: 'localhost:4317', auth: {authenticator: x}}",
        "grpc: {endpoint: '[::1]:4317', auth: {authenticator: x}}",
        "grpc: {endpoint: '0.0.0.0:4317'}",
        "grpc: {endpoint: /run/a.sock, transport: unix, auth: {authenticator: x}}",
        "http: {endpoint: '0.0.0.0:4318', auth: {authenticator: x}, tls: {cert_file: a, key_file: b}}",
    ] {
        assert_eq!(notes(quiet), [""; 0], "{quiet}");
    }
}

#[test]
fn there_is_no_middleware() {
    for protocol in ["grpc", "http"] {
        let error = read(&format!("{{protocols: {{{protocol}: {{middlewares: [{{id: limits}}]}}}}}}")).unwrap_err();
        assert_eq!(
            error,
            format!(
                "receivers::otlp::protocols::{protocol}::middlewares: tracegate has no middleware extensions; remove the \
                 list, or keep them in a Collector in front"
            )
        );
        for none in ["", "[]"] {
            assert!(read(&format!("{{protocols: {{{protocol}: {{middlewares: {none}}}}}}}")).is_ok(), "{none:?}");
        }
    }
}

#[test]
fn what_is_wrong_says_where() {
    let paths = "receivers::otlp::protocols";
    for (yaml, text) in [
        (
            "grpc: {max_recv_msg_size_mib: -1}",
            "grpc::max_recv_msg_size_mib: invalid max_recv_msg_size_mib value, must be between 1 and 4095: -1",
        ),
        (
            "grpc: {max_recv_msg_size_mib: 4096}",
            "grpc::max_recv_msg_size_mib: invalid max_recv_msg_size_mib value, must be between 1 and 4095: 4096",
        ),
        ("grpc: {endpoint: localhost}", "grpc::endpoint: missing port in address"),
        ("grpc: {endpoint: '[::1]'}", "grpc::endpoint: missing port in address"),
        ("grpc: {endpoint: '::1:4317'}", "grpc::endpoint: too many colons in address"),
        ("grpc: {endpoint: 'a:b'}", "grpc::endpoint: invalid port"),
        ("grpc: {endpoint: 'a:65536'}", "grpc::endpoint: invalid port"),
        ("grpc: {transport: pigeon}", "grpc::transport: invalid transport type (write tcp, tcp4, tcp6 or unix)"),
        ("http: {transport: unix}", "http::endpoint: unix socket path cannot be empty (write a path"),
        (
            "grpc: {tls: {}}",
            "grpc::tls: TLS configuration must include both certificate and key for server connections (set cert_file",
        ),
        ("http: {tls: {cert_file: a}}", "http::tls: TLS configuration must include both certificate and key (set"),
        (
            "http: {tls: {cert_file: a, cert_pem: b, key_file: c}}",
            "http::tls: provide either certificate file or PEM, but not both",
        ),
        (
            "http: {tls: {cert_file: a, key_file: b, key_pem: c}}",
            "http::tls: provide either key file or PEM, but not both",
        ),
        (
            "grpc: {tls: {cert_file: a, key_file: b, ca_file: c, ca_pem: d}}",
            "grpc::tls: provide either a CA file or the PEM-encoded string, but not both",
        ),
        (
            "grpc: {tls: {cert_file: a, key_file: b, min_version: asd}}",
            "grpc::tls: invalid TLS min_version: unsupported TLS version: \"asd\" (write 1.2 or 1.3)",
        ),
        (
            "grpc: {tls: {cert_file: a, key_file: b, cipher_suites: [RC4]}}",
            "grpc::tls::cipher_suites: invalid TLS cipher suite: \"RC4\" (supported: ",
        ),
        (
            "grpc: {tls: {cert_file: a, key_file: b, curve_preferences: [P521]}}",
            "grpc::tls::curve_preferences: curve type P521 is not supported by tracegate; remove it (supported: ",
        ),
        (
            "grpc: {tls: {cert_file: a, key_file: b, tpm: {enabled: true}}}",
            "grpc::tls::tpm::enabled: keys in a trusted platform module are not supported (set it to false",
        ),
        (
            "grpc: {tls: {cert_file: a, key_file: b, include_insecure_cipher_suites: true}}",
            "grpc::tls::include_insecure_cipher_suites: there are no insecure cipher suites (remove it",
        ),
        ("grpc: {tls: {cert_fil: a}}", "grpc::tls: 'tls' has invalid keys: cert_fil (did you mean \"cert_file\"?"),
        ("grpc: {keepalive: {enforcement_policy: {min_time: x}}}", "grpc::keepalive::enforcement_policy::min_time: "),
        ("grpc: {endpont: a}", "grpc: 'grpc' has invalid keys: endpont (did you mean \"endpoint\"?"),
        ("thrift: ", ": 'protocols' has invalid keys: thrift"),
        (
            "http: {traces_url_path: ':invalid'}",
            "http::traces_url_path: invalid HTTP URL path set for signal: missing protocol scheme",
        ),
        (
            "http: {logs_url_path: '/a b'}",
            "http::logs_url_path: invalid HTTP URL path set for signal: a path has no spaces",
        ),
        ("http: {logs_url_path: '/a?b'}", "http::logs_url_path: invalid HTTP URL path set for signal: a path has no"),
        ("http: {metrics_url_path: v1/traces}", "http::metrics_url_path: the same path is set for traces and metrics"),
        ("http: {max_request_body_size: 5GiB}", "http::max_request_body_size: must not be more than 4293918720 bytes"),
        ("http: {max_request_body_size: -1}", "http::max_request_body_size: a size must not be negative"),
        (
            "http: {compression_algorithms: [rot13]}",
            "http::compression_algorithms: unsupported compression algorithm \"rot13\" (supported: gzip, zstd, zlib, snappy, deflate, lz4, x-snappy-framed; [] for none)",
        ),
        (
            "http: {response_headers: [{name: a, value: b}, {name: A, value: c}]}",
            "http::response_headers: duplicate keys in map-style list: [A]",
        ),
        (
            "http: {cors: {allowed_origins: ['https://*.*.b']}}",
            "http::cors::allowed_origins: more than one * in an origin",
        ),
        ("http: {cors: {allowed_origins: ['https://a/']}}", "http::cors::allowed_origins: not an origin"),
        ("http: {cors: {allowed_origins: ['']}}", "http::cors::allowed_origins: not an origin"),
        (
            "http: {cors: {allowed_origins: [a], allowed_headers: ['a b']}}",
            "http::cors::allowed_headers: not a header name",
        ),
        (
            "http: {cors: {allowed_origins: [a], exposed_headers: ['é']}}",
            "http::cors::exposed_headers: not a header name",
        ),
        ("http: {cors: {allow_origins: [a]}}", "http::cors: 'cors' has invalid keys: allow_origins"),
        ("http: {response_headers: {'a b': c}}", "http::response_headers::a b: not a header name"),
        ("http: {response_headers: {a: \"c\\n\"}}", "http::response_headers::a: not a header value"),
        ("http: {read_timeout: soon}", "http::read_timeout: invalid duration"),
    ] {
        let error = read(&format!("{{protocols: {{{yaml}}}}}")).unwrap_err();
        let rest = error.strip_prefix(paths).unwrap_or_else(|| panic!("{error}"));
        let rest = rest.strip_prefix("::").unwrap_or(rest);
        assert!(rest.starts_with(text), "{error}\nwanted {text}");
    }
}

#[test]
fn g11_a_socket_and_a_certificate_arrive() {
    let socket = grpc("{transport: unix, endpoint: /run/a.sock}").unwrap();
    assert_eq!((socket.transport, socket.endpoint.as_str()), (Transport::Unix, "/run/a.sock"));
    let tls = http(
        "{tls: {cert_file: c, key_pem: k, client_ca_file: a, client_ca_file_reload: true, min_version: 1.2, max_version: \
         '1.3', cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256], curve_preferences: [X25519], reload_interval: 1m, \
         include_insecure_cipher_suites: false, tpm: {enabled: false, path: /dev/tpmrm0, auth: a, owner_auth: b}}}",
    );
    let tls = tls.unwrap().tls.unwrap();
    assert_eq!((tls.cert_file.unwrap().to_str(), tls.key_pem.unwrap().expose()), (Some("c"), "k"));
    assert_eq!(tls.reload_interval.get(), Duration::from_secs(60));
}

#[test]
fn keys_without_effect_are_named() {
    let (config, _) =
        read("{protocols: {grpc: {read_buffer_size: 524288}, http: {tls: {cert_file: a, key_file: b, ca_file: c}}}}")
            .unwrap();
    assert_eq!(
        config.notes(),
        [
            "protocols::grpc::read_buffer_size has no effect in tracegate",
            "protocols::http::tls: authorities other than client_ca_file have no effect in a server; to ask clients for \
             certificates, set client_ca_file"
        ]
    );
    assert!(read("{protocols: {grpc: , http: }}").unwrap().0.notes().is_empty());
}

#[test]
fn response_headers_are_a_map_or_a_list() {
    let map = http("{response_headers: {X-A: b, x-c: d}}").unwrap().response_headers;
    let list = http("{response_headers: [{name: X-A, value: b}, {name: x-c, value: d}]}").unwrap().response_headers;
    assert_eq!((map.len(), &map), (2, &list));
    assert!(http("{response_headers: }").unwrap().response_headers.is_empty());
}

#[test]
fn cors_is_off_without_origins_and_has_the_collectors_defaults_with_them() {
    let cors = |yaml: &str| http(&format!("{{cors: {yaml}}}")).unwrap().cors;
    for off in ["", "{}", "{allowed_headers: [x-a], max_age: 7}", "{allowed_origins: []}"] {
        assert_eq!(cors(off), None, "{off}");
    }
    let some = cors("{allowed_origins: ['https://*.Example.com', a, '*']}").unwrap();
    let between = Allowed::Between("https://".to_owned(), ".example.com".to_owned());
    assert_eq!(some.origins, [between, Allowed::Exactly("a".to_owned()), Allowed::Any]);
    assert_eq!(some.headers.unwrap(), ["accept", "content-type", "x-requested-with"]);
    assert_eq!((some.exposed, some.max_age), (None, None));
    let all = "{allowed_origins: [a], allowed_headers: [X-A, X-B], exposed_headers: [X-C, x-d], max_age: 7200}";
    let all = cors(all).unwrap();
    assert_eq!(all.headers.unwrap(), ["x-a", "x-b"]);
    assert_eq!((all.exposed.unwrap(), all.max_age), (HeaderValue::from_static("x-c, x-d"), Some(7200)));
    let any = cors("{allowed_origins: [a], allowed_headers: [X-A, '*'], max_age: -1}").unwrap();
    assert_eq!((any.headers, any.max_age), (None, Some(0)), "negative is: do not keep it");

    let (config, _) = read("{protocols: {http: {cors: {allowed_headers: [x-a]}}}}").unwrap();
    assert_eq!(config.notes(), ["protocols::http::cors has no allowed_origins, and is therefore ignored"]);
    assert!(read("{protocols: {http: {cors: {allowed_origins: [a]}}}}").unwrap().0.notes().is_empty());
}

#[test]
fn the_paths_of_well_known_backends_are_taken() {
    let langfuse = http("{traces_url_path: api/public/otel/v1/traces}").unwrap();
    assert_eq!(langfuse.paths[0], ("/api/public/otel/v1/traces".to_owned(), Signal::Traces));
}
