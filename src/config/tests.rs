//! Configuration as a whole: sources to typed sections, and bad configurations to their exact one-line errors.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::{
    types::{ByteSize, Duration, Opaque, present},
    *,
};
use proptest::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;

const VARIABLES: [(&str, &str); 19] = [
    ("PORT", "4317"),
    ("ZERO_LED", "0123"),
    ("QUOTED", "\"0123\""),
    ("EMPTY", ""),
    ("TEXT", "plain"),
    ("MAP", "{endpoint: 'localhost:1', sub: '${env:TEXT}'}"),
    ("NOT_YAML", "[half"),
    ("HASH", "#secret"),
    ("DOLLARS", "a$$b"),
    ("NAKED", "a$b"),
    ("NESTED", "${env:TEXT}"),
    ("SELF", "${env:SELF}"),
    ("NAME_OF", "PORT"),
    ("BOOL", "true"),
    ("LIST", "a, b"),
    ("MULTI", "line one\nline two\n"),
    ("DOUBLE", "${env:DOUBLE}${env:DOUBLE}"),
    ("CONFIG", "receivers: {otlp: {}}"),
    ("NULL", "null"),
];

fn variable(name: &str) -> Option<Result<String, NotUnicode>> {
    if name == "BINARY" {
        return Some(Err(NotUnicode));
    }
    VARIABLES.iter().find(|(key, _)| *key == name).map(|(_, value)| Ok((*value).to_owned()))
}

fn yaml(text: &str) -> Result<Loaded, ConfigError> {
    several(&[text], &[])
}

fn several(texts: &[&str], sets: &[&str]) -> Result<Loaded, ConfigError> {
    let sources: Vec<Source> = texts.iter().map(|text| Source::Yaml((*text).to_owned())).collect();
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    load_with(&sources, &sets, &variable)
}

fn document(text: &str) -> Document {
    yaml(text).unwrap().document
}

fn json(document: &Document) -> String {
    serde_json::to_string(document.root()).unwrap()
}

/// A file that goes with the test.
struct Temporary(std::path::PathBuf);

impl Temporary {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tracegate-config-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Receiver {
    protocols: Protocols,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Protocols {
    #[serde(deserialize_with = "present")]
    grpc: Option<Server>,
    #[serde(deserialize_with = "present")]
    http: Option<Server>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Server {
    endpoint: String,
    max_recv_msg_size_mib: u16,
    timeout: Duration,
    limit: ByteSize,
    transport: TransportKind,
    headers: BTreeMap<String, Opaque>,
    origins: Vec<String>,
    tls: Option<BTreeMap<String, String>>,
    ratio: f64,
    on: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            endpoint: "localhost:4317".to_owned(),
            max_recv_msg_size_mib: 64,
            timeout: Duration::secs(5),
            limit: ByteSize(0),
            transport: TransportKind::Tcp,
            headers: BTreeMap::new(),
            origins: Vec::new(),
            tls: None,
            ratio: 0.5,
            on: false,
        }
    }
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TransportKind {
    Tcp,
    Unix,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exporter {
    #[allow(dead_code)]
    endpoint: String,
}

const GRPC: [&str; 4] = ["receivers", "otlp", "protocols", "grpc"];

fn server(body: &str) -> Result<Server, ConfigError> {
    let text = format!("receivers:\n  otlp:\n    protocols:\n     grpc: {body}");
    yaml(&text)?.document.section::<Receiver>(&["receivers", "otlp"]).map(|r| r.protocols.grpc.unwrap())
}

// ---- merging

#[test]
fn later_sources_win_maps_merge_lists_are_replaced() {
    let first = "a: {x: 1, l: [1, 2], keep: yes}\nb: 1";
    let second = "a: {x: 2, l: [3]}\nc: {d: 4}";
    let merged = several(&[first, second], &[]).unwrap();
    assert_eq!(json(&merged.document), r#"{"a":{"keep":"yes","l":[3],"x":2},"b":1,"c":{"d":4}}"#);
}

#[test]
fn null_erases_an_earlier_map_and_a_later_map_returns() {
    let merged = several(&["processors: {batch: {timeout: 1s}}", "processors:"], &[]).unwrap();
    assert_eq!(json(&merged.document), r#"{"processors":null}"#);
    let merged = several(&["p: {a: 1}", "p:", "p: {b: 2}"], &[]).unwrap();
    assert_eq!(json(&merged.document), r#"{"p":{"b":2}}"#);
}

#[test]
fn an_empty_source_changes_nothing() {
    for empty in ["", "# nothing\n", "---\n", "null"] {
        let merged = several(&["a: 1", empty], &[]).unwrap();
        assert_eq!(json(&merged.document), r#"{"a":1}"#, "{empty:?}");
    }
}

#[test]
fn sets_apply_after_all_sources() {
    let sets = ["processors.batch.timeout=2s", "a = [1, x]", "b.c=", "receivers.otlp/2.k=true", "u=http://h:1/?a=b"];
    let merged = several(&["processors: {batch: {timeout: 1s, n: 1}}"], &sets).unwrap();
    assert_eq!(
        json(&merged.document),
        r#"{"a":[1,"x"],"b":{"c":null},"processors":{"batch":{"n":1,"timeout":"2s"}},"receivers":{"otlp/2":{"k":true}},"u":"http://h:1/?a=b"}"#
    );
}

#[test]
fn sets_expand_references() {
    let merged = several(&["a: 1"], &["a=${env:PORT}"]).unwrap();
    assert_eq!(json(&merged.document), r#"{"a":4317}"#);
}

#[test]
fn double_colons_nest_at_the_top_level_only() {
    let merged = several(&["a: {x: 1}", "a::y::z: 2\na::w: {'k::l': 3}"], &[]).unwrap();
    assert_eq!(json(&merged.document), r#"{"a":{"w":{"k::l":3},"x":1,"y":{"z":2}}}"#);
}

#[test]
fn files_variables_and_embedded_texts_are_sources() {
    let file = Temporary::new("source.yaml", "a: {x: 1}");
    let sources = [
        Source::Embedded { name: "default.yaml", text: "a: {x: 0, y: 0}" },
        Source::parse(&format!("file:{}", file.path())).unwrap(),
        Source::parse("env:CONFIG").unwrap(),
        Source::parse("yaml:a::z: 3").unwrap(),
    ];
    let loaded = load_with(&sources, &[], &variable).unwrap();
    assert_eq!(json(&loaded.document), r#"{"a":{"x":1,"y":0,"z":3},"receivers":{"otlp":{}}}"#);
}

#[test]
fn the_process_environment_is_the_default() {
    // PATH is set wherever cargo runs.
    let loaded = load(&[Source::Yaml("a: '${env:PATH}'".to_owned())], &[]).unwrap();
    assert_eq!(loaded.document.node(&["a"]).unwrap().as_str(), std::env::var("PATH").ok().as_deref());
}

// ---- expansion

#[test]
fn references_expand() {
    for (text, want) in [
        ("${env:PORT}", r#"4317"#),
        ("${PORT}", r#"4317"#),
        ("${env:BOOL}", r#"true"#),
        ("localhost:${env:PORT}", r#""localhost:4317""#),
        ("${env:TEXT}-${TEXT}", r#""plain-plain""#),
        ("${env:TEXT}${env:PORT}", r#""plain4317""#),
        ("v${env:ZERO_LED}", r#""v0123""#),
        ("${env:QUOTED}", r#""\"0123\"""#),
        ("${env:MISSING:-dflt}", r#""dflt""#),
        ("${MISSING:-dflt}", r#""dflt""#),
        ("${X:-dflt}", r#""dflt""#),
        ("${env:MISSING:-}", r#"null"#),
        ("${env:MISSING:-8}", r#"8"#),
        ("${env:MISSING:-a:-b}", r#""a:-b""#),
        ("${env:PORT:-dflt}", r#"4317"#),
        ("${env:EMPTY:-dflt}", r#"null"#),
        ("a${env:EMPTY}b", r#""ab""#),
        ("${env:MAP}", r#"{"endpoint":"localhost:1","sub":"plain"}"#),
        ("${env:NOT_YAML}", r#""[half""#),
        ("${env:HASH}x", r##""#secretx""##),
        ("${env:NESTED}", r#""plain""#),
        ("${env:${env:NAME_OF}}", r#"4317"#),
        ("${env:MISSING:-${env:PORT}}", r#"4317"#),
        ("${yaml:[1, a]}", r#"[1,"a"]"#),
        ("x${env:MAP}", r#""x{endpoint: 'localhost:1', sub: 'plain'}""#),
        // the first brace closes, as in the Collector
        ("${env:MISSING:-{}}", r#""{}""#),
        ("${env:MULTI}", r#""line one\nline two\n""#),
        // dollar signs
        ("$$", r#""$""#),
        ("$$$$", r#""$$""#),
        ("$TEXT", r#""$TEXT""#),
        ("a$", r#""a$""#),
        ("$${env:TEXT}", r#""${env:TEXT}""#),
        ("$$${env:TEXT}", r#""$plain""#),
        ("$$$${env:TEXT}", r#""$${env:TEXT}""#),
        ("${env:DOLLARS}", r#""a$b""#),
        ("${env:NAKED}", r#""a$b""#),
        ("${env:MISSING:-a$$b}", r#""a$b""#),
        ("${env:MISSING:-a$$$$b}", r#""a$$b""#),
        ("${unclosed", r#""${unclosed""#),
        ("a}b", r#""a}b""#),
        ("${", r#""${""#),
        ("é${env:TEXT}é", r#""éplainé""#),
    ] {
        let document = several(&[&format!("a: {}", serde_json::to_string(text).unwrap())], &[]).unwrap().document;
        assert_eq!(json(&document), format!("{{\"a\":{want}}}"), "{text}");
    }
}

#[test]
fn a_string_target_gets_the_text_as_it_was() {
    for (text, want) in [
        ("${env:ZERO_LED}", "0123"),
        ("${env:BOOL}", "true"),
        ("${env:HASH}", "#secret"),
        ("${env:NULL}", "null"),
        ("${env:MAP}", "{endpoint: 'localhost:1', sub: 'plain'}"),
        ("${env:MISSING:-1e3}", "1e3"),
        // written in the file itself
        ("0123", "0123"),
        ("0x1F", "0x1F"),
        ("1.50", "1.50"),
        ("true", "true"),
        ("'quoted'", "quoted"),
        ("!!str 0123", "0123"),
    ] {
        let server = server(&format!("\n      endpoint: {text}\n")).unwrap();
        assert_eq!(server.endpoint, want, "{text}");
    }
}

#[test]
fn unset_variables_are_null_and_warned_of_once() {
    let loaded = yaml("a: ${env:GONE}\nb: x${env:GONE}\nc: ${env:ALSO_GONE}\nd: ${env:EMPTY}").unwrap();
    assert_eq!(json(&loaded.document), r#"{"a":null,"b":"x","c":null,"d":null}"#);
    assert_eq!(
        loaded.warnings,
        [
            "Configuration references unset environment variable: ALSO_GONE",
            "Configuration references unset environment variable: GONE",
        ]
    );
}

#[test]
fn files_expand_without_their_last_line_end() {
    let token = Temporary::new("token", "s3cret\n");
    let part = Temporary::new("part.yaml", "otlp:\n  protocols:\n    grpc: {endpoint: 'h:${env:PORT}'}\n");
    let loaded = yaml(&format!(
        "receivers: ${{file:{}}}\nt: ${{file:{}}}\nu: Bearer ${{file:{}}}",
        part.path(),
        token.path(),
        token.path()
    ))
    .unwrap();
    assert_eq!(
        json(&loaded.document),
        r#"{"receivers":{"otlp":{"protocols":{"grpc":{"endpoint":"h:4317"}}}},"t":"s3cret","u":"Bearer s3cret"}"#
    );
}

#[test]
fn keys_are_not_expanded() {
    assert_eq!(json(&document("'${env:PORT}': 1")), r#"{"${env:PORT}":1}"#);
}

// ---- sections

#[test]
fn absent_null_and_empty_sections_have_defaults() {
    for text in ["{}", "receivers:", "receivers: {otlp: }", "receivers: {otlp: {}}", "receivers: {otlp: {protocols: }}"]
    {
        let receiver: Receiver = document(text).section(&["receivers", "otlp"]).unwrap();
        assert_eq!(receiver, Receiver::default(), "{text}");
    }
}

#[test]
fn a_key_with_nothing_behind_it_enables_with_defaults() {
    let receiver: Receiver =
        document("receivers: {otlp: {protocols: {grpc: }}}").section(&["receivers", "otlp"]).unwrap();
    assert_eq!(receiver.protocols, Protocols { grpc: Some(Server::default()), http: None });
}

#[test]
fn a_null_scalar_keeps_its_default() {
    let nulls = "{endpoint: , max_recv_msg_size_mib: , timeout: , limit: ~, transport: null, headers: , origins: , \
                 tls: , ratio: , on: '${env:MISSING}'}";
    assert_eq!(server(nulls).unwrap(), Server::default());
}

#[test]
fn a_null_does_not_satisfy_a_required_key() {
    let document = document("exporters: {otlp_grpc: {endpoint: }}");
    let error = document.section::<Exporter>(&["exporters", "otlp_grpc"]).unwrap_err();
    assert_eq!(error.to_string(), "exporters::otlp_grpc: requires the key \"endpoint\"");
}

#[test]
fn values_of_every_type() {
    let server = server(
        "{endpoint: '${env:TEXT}:${env:PORT}', max_recv_msg_size_mib: 0x10, timeout: 1m30s, limit: 64MiB, \
         transport: unix, headers: {a: 7, b: '${env:ZERO_LED}'}, origins: '${env:LIST}', tls: {k: v}, ratio: 1, \
         on: '${env:BOOL}'}",
    )
    .unwrap();
    assert_eq!(server.endpoint, "plain:4317");
    assert_eq!(server.max_recv_msg_size_mib, 16);
    assert_eq!(server.timeout, Duration::secs(90));
    assert_eq!(server.limit, ByteSize(64 << 20));
    assert_eq!(server.transport, TransportKind::Unix);
    assert_eq!(server.headers["a"].expose(), "7");
    assert_eq!(server.headers["b"].expose(), "0123");
    assert_eq!(server.origins, ["a", "b"]);
    assert_eq!(server.tls.unwrap()["k"], "v");
    assert_eq!((server.ratio, server.on), (1.0, true));
}

#[test]
fn anchors_and_merge_keys() {
    let document = document("x: &x {a: 1, b: 010}\ny: *x\nz: {<<: *x, a: 2}");
    assert_eq!(document.node(&["y", "b"]).unwrap().as_str(), Some("010"));
    assert_eq!(document.node(&["z", "b"]).unwrap().as_str(), Some("010"));
    assert_eq!(document.node(&["z", "a"]).unwrap().value, Value::Uint(2));
}

#[test]
fn access_to_raw_values() {
    let document = document("a: {c: , b: [1]}");
    assert!(document.has(&["a", "c"]) && !document.has(&["a", "d"]) && !document.has(&["a", "c", "d"]));
    assert_eq!(document.keys(&["a"]), ["b", "c"]);
    assert!(document.keys(&["a", "b"]).is_empty());
}

// ---- errors

/// Everything wrong with a file before anybody asks what it means.
#[test]
fn unreadable_yaml_names_line_and_column_and_no_value() {
    for (text, want) in [
        ("a: 1\nb: 2\na: 3", "yaml::3:1: duplicate key \"a\""),
        ("a:\n  b: 1\n  b: 2", "yaml::3:3: duplicate key \"b\""),
        ("a: [1, hunter2", "yaml::1:4: not valid YAML: unclosed bracket '['"),
        ("a: {b: hunter2", "yaml::1:4: not valid YAML: unclosed bracket '{'"),
        ("a: 'hunter2", "yaml::1:4: not valid YAML: unclosed quote"),
        ("a: hunter2: b", "yaml::1:11: not valid YAML: mapping values are not allowed in this context"),
        ("a: *hunter2", "yaml::1:4: not valid YAML: unknown anchor"),
        ("a: 1\n---\nb: 2", "yaml::3:1: several YAML documents in one source: only one is allowed"),
        (
            "hunter2",
            "yaml:: the top level must be a map, found a string (start from pipelines/default.yaml, or see print-config)",
        ),
        (
            "[hunter2]",
            "yaml:: the top level must be a map, found a list (start from pipelines/default.yaml, or see print-config)",
        ),
        ("a::::b: 1", "yaml:: the key \"a::::b\" has an empty part"),
        ("a:\n\tb: 1", "yaml::2:2: not valid YAML: tabs disallowed within this context (block indentation)"),
    ] {
        let error = yaml(text).unwrap_err().to_string();
        assert_eq!(error, want, "{text}");
        assert!(!error.contains("hunter2"));
    }
}

#[test]
fn deep_nesting_is_an_error() {
    for text in
        [format!("a: {}1{}", "[".repeat(100_000), "]".repeat(100_000)), "{a: ".repeat(100_000), "- ".repeat(100_000)]
    {
        assert!(yaml(&text).is_err());
    }
}

#[test]
fn bad_references_and_sets() {
    const DOLLAR: &str = "(write $$ for a dollar sign)";
    for (text, want) in [
        (
            "a: {b: ['${env:1X}']}",
            format!(
                "a::b::0: environment variable has invalid name: must match regex ^[a-zA-Z_][a-zA-Z0-9_]*$ {DOLLAR}"
            ),
        ),
        (
            "a: pa${ss-word}",
            format!("a: environment variable has invalid name: must match regex ^[a-zA-Z_][a-zA-Z0-9_]*$ {DOLLAR}"),
        ),
        (
            "a: ${}",
            format!("a: environment variable has invalid name: must match regex ^[a-zA-Z_][a-zA-Z0-9_]*$ {DOLLAR}"),
        ),
        (
            "a: ${https://example.com}",
            "a: scheme \"https\" is not supported (valid schemes: env, file, yaml; write $$ for a dollar sign)"
                .to_owned(),
        ),
        ("a: ${env:SELF}", "a: too many recursive expansions".to_owned()),
        ("a: ${env:DOUBLE}", "a: too many recursive expansions".to_owned()),
        ("a: ${env:BINARY}", "a: environment variable BINARY is not valid UTF-8".to_owned()),
        (
            "a: ${file:/nonexistent/x}",
            "a: ${file:/nonexistent/x}: unable to read the file: no such file or directory".to_owned(),
        ),
    ] {
        assert_eq!(yaml(text).unwrap_err().to_string(), want, "{text}");
    }
    for (set, want) in [
        ("a", "--set: missing equal sign (write --set=processors.batch.timeout=2s)"),
        ("=1", "--set: the key has an empty part (write --set=processors.batch.timeout=2s)"),
        ("a..b=1", "--set: the key has an empty part (write --set=processors.batch.timeout=2s)"),
        ("a=[hunter2", "--set=a:1:1: not valid YAML: unclosed bracket '['"),
    ] {
        assert_eq!(several(&[], &[set]).unwrap_err().to_string(), want, "{set}");
    }
}

#[test]
fn too_many_sources() {
    let sources = vec![Source::Yaml(String::new()); 101];
    let error = load_with(&sources, &[], &variable).unwrap_err();
    assert_eq!(error.to_string(), "--config: more than 100 sources");
}

#[test]
fn the_bound_on_expansions_is_per_value() {
    let text: String = (0..1500).map(|n| format!("k{n}: ${{env:PORT}}\n")).collect();
    assert_eq!(document(&text).keys(&[]).len(), 1500);
}

/// Types and keys of a component's own section.
#[test]
fn wrong_sections() {
    const DURATION: &str = "invalid duration: write a number with a unit, such as 200ms, 5s or 1m30s";
    for (body, want) in [
        (
            "{endpont: x}",
            "receivers::otlp::protocols::grpc: 'grpc' has invalid keys: endpont (did you mean \"endpoint\"?; valid keys: \
             endpoint, headers, limit, max_recv_msg_size_mib, on, origins, ratio, timeout, tls, transport)",
        ),
        (
            "{zzz: 1, aaa: 2, on: true}",
            "receivers::otlp::protocols::grpc: 'grpc' has invalid keys: aaa, zzz (valid keys: \
             endpoint, headers, limit, max_recv_msg_size_mib, on, origins, ratio, timeout, tls, transport)",
        ),
        ("hunter2", "receivers::otlp::protocols::grpc: expected a map, found a string"),
        ("[hunter2]", "receivers::otlp::protocols::grpc: expected a map, found a list"),
        ("{endpoint: [hunter2]}", "receivers::otlp::protocols::grpc::endpoint: expected a string, found a list"),
        ("{endpoint: {hunter2: 1}}", "receivers::otlp::protocols::grpc::endpoint: expected a string, found a map"),
        (
            "{max_recv_msg_size_mib: hunter2}",
            "receivers::otlp::protocols::grpc::max_recv_msg_size_mib: expected an integer from 0 to 65535, found a string",
        ),
        (
            "{max_recv_msg_size_mib: '12'}",
            "receivers::otlp::protocols::grpc::max_recv_msg_size_mib: expected an integer from 0 to 65535, found a string",
        ),
        (
            "{max_recv_msg_size_mib: -1}",
            "receivers::otlp::protocols::grpc::max_recv_msg_size_mib: the number is out of range: \
             expected an integer from 0 to 65535",
        ),
        (
            "{max_recv_msg_size_mib: 1.5}",
            "receivers::otlp::protocols::grpc::max_recv_msg_size_mib: expected an integer from 0 to 65535, \
             found a number with a fraction",
        ),
        ("{on: hunter2}", "receivers::otlp::protocols::grpc::on: expected a boolean, found a string"),
        ("{on: 1}", "receivers::otlp::protocols::grpc::on: expected a boolean, found an integer"),
        ("{ratio: hunter2}", "receivers::otlp::protocols::grpc::ratio: expected a number, found a string"),
        (
            "{timeout: [1]}",
            "receivers::otlp::protocols::grpc::timeout: expected a duration such as 200ms, 5s or 1m30s, found a list",
        ),
        ("{timeout: -5s}", "receivers::otlp::protocols::grpc::timeout: a duration must not be negative"),
        ("{timeout: -5}", "receivers::otlp::protocols::grpc::timeout: a duration must not be negative"),
        (
            "{limit: 5 bananas}",
            "receivers::otlp::protocols::grpc::limit: invalid size: write bytes, or a number with a unit such as 512KiB, 64MiB or 1GiB",
        ),
        ("{limit: -5}", "receivers::otlp::protocols::grpc::limit: a size must not be negative"),
        (
            "{transport: unx}",
            "receivers::otlp::protocols::grpc::transport: invalid value \"unx\" (did you mean \"unix\"?; valid values: tcp, unix)",
        ),
        ("{headers: hunter2}", "receivers::otlp::protocols::grpc::headers: expected a map, found a string"),
        ("{headers: {a: [hunter2]}}", "receivers::otlp::protocols::grpc::headers::a: expected a string, found a list"),
        ("{origins: {hunter2: 1}}", "receivers::otlp::protocols::grpc::origins: expected a list, found a map"),
        ("{origins: [a, [hunter2]]}", "receivers::otlp::protocols::grpc::origins::1: expected a string, found a list"),
        ("{tls: {k: {hunter2: 1}}}", "receivers::otlp::protocols::grpc::tls::k: expected a string, found a map"),
    ] {
        let error = server(body).unwrap_err().to_string();
        assert_eq!(error, want, "{body}");
        assert!(!error.contains("hunter2"), "{body}");
    }
    let error = server("{timeout: 5 hunter2}").unwrap_err().to_string();
    assert_eq!(error, format!("receivers::otlp::protocols::grpc::timeout: {DURATION}"));
    let receivers = document("receivers: {otlp: {protocols: {thrift: , grpc: }}}");
    let error = receivers.section::<Receiver>(&["receivers", "otlp"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "receivers::otlp::protocols: 'protocols' has invalid keys: thrift (valid keys: grpc, http)"
    );
    let error = receivers.section::<Server>(&GRPC[..3]).unwrap_err();
    assert!(error.to_string().starts_with("receivers::otlp::protocols: 'protocols' has invalid keys: grpc, thrift ("));
}

// ---- rendering

#[test]
fn secrets_are_hidden_when_printed() {
    let text = r#"
exporters:
  otlp_http:
    endpoint: https://user:hunter2@example.com/a
    proxy_url: http://hunter2@proxy:3128
    headers: {authorization: Bearer hunter2, x-number: 5, name: hunter2, authenticator: hunter2, nested: {deep: [hunter2]}}
    auth: {authenticator: oidc}
  otlp_http/list:
    headers: [{name: x-key, value: hunter2}]
    tls: {key_pem: hunter2, key_file: /etc/key.pem, ca_file: /etc/ca.pem}
processors:
  redaction: {hmac_key: hunter2, blocked_values: [a]}
  x: {Password: hunter2, client-secret: 12345, access_token: hunter2, db_password: hunter2, token: , tokens: [hunter2]}
  y: {max_tokens: 5, endpoint: "localhost:4317", url: "http://h/p", zero: "0123", keyword: k}
"#;
    let document = document(text);
    let shown = render(document.root(), Secrets::Redacted, Format::Yaml).unwrap();
    assert!(!shown.contains("hunter2") && !shown.contains("12345"), "{shown}");
    let again = document_of(&shown);
    let want = r#"{"exporters":{"otlp_http":{"auth":{"authenticator":"oidc"},"endpoint":"https://[REDACTED]@example.com/a","headers":{"authenticator":"[REDACTED]","authorization":"[REDACTED]","name":"[REDACTED]","nested":{"deep":["[REDACTED]"]},"x-number":"[REDACTED]"},"proxy_url":"http://[REDACTED]@proxy:3128"},"otlp_http/list":{"headers":[{"name":"x-key","value":"[REDACTED]"}],"tls":{"ca_file":"/etc/ca.pem","key_file":"/etc/key.pem","key_pem":"[REDACTED]"}}},"processors":{"redaction":{"blocked_values":["a"],"hmac_key":"[REDACTED]"},"x":{"Password":"[REDACTED]","access_token":"[REDACTED]","client-secret":"[REDACTED]","db_password":"[REDACTED]","token":null,"tokens":["[REDACTED]"]},"y":{"endpoint":"localhost:4317","keyword":"k","max_tokens":5,"url":"http://h/p","zero":"0123"}}}"#;
    assert_eq!(json(&again), want);
}

fn document_of(text: &str) -> Document {
    load_with(&[Source::Yaml(text.to_owned())], &[], &|_| None).unwrap().document
}

#[test]
fn what_is_printed_in_full_loads_as_it_was() {
    let text = "a: {s: '0123', t: 'true', n: 'null', e: '', l: [1, -2, 0.5, false, ~], m: {}, q: \"a: b\\n\\tc\", u: é, \
                c: '# no', d: '${x', star: '*x', at: '@x', pct: '%x', dash: '- x', big: 18446744073709551615, \
                inf: .inf, yes: 'yes', multi: \"one\\ntwo\\n\"}";
    let document = document(text);
    let again = document_of(&render(document.root(), Secrets::Shown, Format::Yaml).unwrap());
    assert_eq!(json(&again), json(&document));
}

/// Any value there can be, with strings that YAML would like to read as something else.
fn any_node() -> impl Strategy<Value = Node> {
    let odd = prop::sample::select(vec![
        "",
        " ",
        "~",
        "null",
        "true",
        "no",
        "0",
        "007",
        "0x1",
        "1e3",
        ".inf",
        "-",
        "- a",
        "a: b",
        "#c",
        "a #c",
        "*a",
        "&a",
        "!t",
        "%d",
        "@x",
        "`",
        "'",
        "\"",
        "\\",
        "[",
        "{}",
        "|",
        ">",
        "?",
        "---",
        "...",
        "\t",
        "a\n",
        "\n\na\n\n",
        "=",
        "<<",
        "2001-01-01",
        "1:30",
        "\u{85}",
        "\u{feff}x",
        "\u{1f600}",
        "$x",
        "\r\n",
        " lead",
        "trail ",
        "\u{7f}",
    ]);
    let text = prop_oneof![odd.prop_map(str::to_owned), "\\PC{0,12}", "[ -~\n\t]{0,40}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (i64::MIN..0).prop_map(Value::Int),
        any::<u64>().prop_map(Value::Uint),
        (-1e9..1e9f64).prop_map(Value::Float),
        text.clone().prop_map(Value::String),
    ]
    .prop_map(Node::new);
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| Node::new(Value::Seq(items))),
            prop::collection::btree_map(text.clone(), inner, 0..4).prop_map(|map| Node::new(Value::Map(map))),
        ]
    })
}

/// The value without the texts it was written as.
fn bare(node: Node) -> Node {
    Node::new(match node.value {
        Value::Seq(items) => Value::Seq(items.into_iter().map(bare).collect()),
        Value::Map(map) => Value::Map(map.into_iter().map(|(key, node)| (key, bare(node))).collect()),
        // A fraction of zero is not written, and reads as an integer.
        Value::Float(v) if v.fract() == 0.0 => Value::String(format!("{v}")),
        value => value,
    })
}

proptest! {
    /// What print-config writes, load reads as it was.
    #[test]
    fn rendered_values_parse_as_they_were(node in any_node()) {
        let text = render(&node, Secrets::Shown, Format::Yaml).unwrap();
        let again = yaml::parse("rendered", &text).map_err(|e| TestCaseError::fail(format!("{e} in {text:?}")))?;
        let (again, node) = (bare(again), bare(node));
        prop_assert!(again == node, "{:?} became {:?} by {:?}", json_of(&node), json_of(&again), text);
    }

    /// Whatever the text: an error or a value, and redaction shows no value under a key that hides.
    #[test]
    fn any_text_is_read_without_a_panic(text in "[a-c:{}\\[\\], \n\"'&*!|>%#$-]{0,60}") {
        if let Ok(loaded) = yaml(&text) {
            let _ = Layout::from(&loaded.document, &Kinds::default());
            let _ = loaded.document.section::<Receiver>(&[]);
        }
    }

    #[test]
    fn nothing_under_a_hiding_key_is_shown(node in any_node(), secret in "hunter2[a-z]{8}") {
        let inner = Node::new(Value::Seq(vec![node, Node::new(Value::String(secret.clone()))]));
        for key in ["headers", "Password", "x-api-key", "client_secret", "tokens"] {
            let node = Node::new(Value::Map([(key.to_owned(), inner.clone())].into()));
            prop_assert!(!render(&node, Secrets::Redacted, Format::Yaml).unwrap().contains(&secret));
        }
    }
}

fn json_of(node: &Node) -> String {
    serde_json::to_string(node).unwrap()
}

#[test]
fn debug_output_has_keys_and_kinds_only() {
    let loaded = yaml("a: hunter2\nb: [5, {c: true}]").unwrap();
    assert_eq!(format!("{:?}", loaded.document.root()), r#"{"a": a string, "b": [an integer, {"c": a boolean}]}"#);
    assert!(!format!("{loaded:?} {:?}", Source::Yaml("a: hunter2".to_owned())).contains("hunter2"));
}

#[test]
fn opaque_never_prints() {
    let secret = Opaque::new("hunter2");
    assert_eq!(
        format!("{secret} {secret:?} {}", serde_json::to_string(&secret).unwrap()),
        r#"[REDACTED] [REDACTED] "[REDACTED]""#
    );
    assert_eq!(secret.expose(), "hunter2");
}
