//! `pipelines/README.md` is the configuration reference. Every section and key the program accepts is in it and nothing
//! else; what it calls refused is refused; what it gives as a default is a valid value.
//!
//! The program is asked: an unknown key is answered with the valid ones. The reference is read: a heading whose code
//! spans are YAML paths, followed by a table with the columns key, type, default and effect.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tracegate::{
    config::{ConfigError, Section, Source},
    service::{Blueprint, KINDS},
};

/// A key that nothing has.
const BOGUS: &str = "zz_bogus";

type Path = Vec<String>;

fn path(text: &str) -> Path {
    if text == "(top level)" { Path::new() } else { text.split("::").map(str::to_owned).collect() }
}

fn shown(path: &Path) -> String {
    if path.is_empty() { "(top level)".to_owned() } else { path.join("::") }
}

/// A configuration with one component of every kind, each with what it cannot do without, all in use.
fn base() -> Value {
    let component = |kind: &&str| {
        let needed = match *kind {
            "otlp" => json!({"protocols": {"grpc": {}, "http": {}}}),
            "memory_limiter" => json!({"check_interval": "1s", "limit_mib": 512}),
            "otlp_grpc" => json!({"endpoint": "localhost:14317", "tls": {"insecure": true}}),
            "otlp_http" => json!({"endpoint": "http://localhost:14318"}),
            "file" => json!({"path": "out.jsonl"}),
            "basicauth" => json!({"htpasswd": {"inline": "user:password"}}),
            "bearertokenauth" => json!({"token": "a-token"}),
            _ => json!({}),
        };
        ((*kind).to_owned(), needed)
    };
    let components = |section: Section| -> Map<String, Value> { KINDS.of(section).iter().map(component).collect() };
    let names = |section: Section| json!(KINDS.of(section));
    // What only makes sense after masking stands behind it.
    let mut processors: Vec<&str> = KINDS.processors.to_vec();
    processors.sort_by_key(|kind| !["memory_limiter", "identity", "mask"].contains(kind));
    json!({
        "receivers": components(Section::Receivers),
        "processors": components(Section::Processors),
        "exporters": components(Section::Exporters),
        "extensions": components(Section::Extensions),
        "service": {
            "extensions": names(Section::Extensions),
            "pipelines": {"traces": {"receivers": names(Section::Receivers), "processors": processors, "exporters": names(Section::Exporters)}},
        },
    })
}

/// The base configuration with `value` at `path`; `0` in a path is the first item of a list.
fn with(path: &[String], value: Value) -> Value {
    let mut config = base();
    let mut place = &mut config;
    for (depth, key) in path.iter().enumerate() {
        if key == "0" {
            if !place.is_array() {
                *place = json!([{}]);
            }
            place = &mut place[0];
        } else {
            if !place.is_object() {
                *place = json!({});
            }
            // What a block cannot do without, unless it is the block itself that is set.
            let needed = match key.as_str() {
                _ if depth + 1 == path.len() => Value::Null,
                "tls" if path[0] != "exporters" => json!({"cert_file": "server.crt", "key_file": "server.key"}),
                "periodic" => json!({"exporter": {"otlp": {"protocol": "grpc", "endpoint": "localhost:1"}}}),
                _ => Value::Null,
            };
            place = place.as_object_mut().unwrap().entry(key).or_insert(needed);
        }
    }
    *place = value;
    config
}

fn read(config: &Value) -> Result<Blueprint, ConfigError> {
    Blueprint::read(&[Source::Yaml(config.to_string())], &[])
}

/// The keys of the section at `path`, if there is one: what the program says to a key it does not know.
fn keys(path: &Path) -> Option<Vec<String>> {
    let mut bogus = path.clone();
    bogus.push(BOGUS.to_owned());
    let error = read(&with(&bogus, json!(1))).err()?;
    let (_, valid) = error.hint.as_deref().and_then(|hint| hint.split_once("valid keys: "))?;
    // Somebody else's complaint is none about this section.
    if error.path != path.join("::") || !error.message.ends_with(&format!("has invalid keys: {BOGUS}")) {
        return None;
    }
    let valid = valid.trim_end_matches(')');
    Some(if valid == "none" { Vec::new() } else { valid.split(", ").map(str::to_owned).collect() })
}

/// Every section the program reads, found by asking.
fn sections() -> BTreeMap<Path, BTreeSet<String>> {
    let mut found = BTreeMap::new();
    let mut open: Vec<Path> =
        vec![path("(top level)"), path("service"), path("service::pipelines::traces"), path("service::telemetry")];
    for section in [Section::Receivers, Section::Processors, Section::Exporters, Section::Extensions] {
        open.extend(KINDS.of(section).iter().map(|kind| vec![section.key().to_owned(), (*kind).to_owned()]));
    }
    while let Some(path) = open.pop() {
        let Some(keys) = keys(&path) else {
            assert!(path.len() > 2, "{} does not say which keys it has", shown(&path));
            continue;
        };
        // The sections under these are roots of their own.
        if !path.is_empty() && path != ["service"] && path != ["service", "pipelines", "traces"] {
            for key in &keys {
                let below = |more: &[&str]| {
                    path.iter().cloned().chain([key.clone()]).chain(more.iter().map(|key| (*key).to_owned())).collect()
                };
                open.push(below(&[]));
                open.push(below(&["0"]));
            }
        }
        found.insert(path, keys.into_iter().collect());
    }
    found
}

/// A row of the reference.
#[derive(Debug)]
struct Row {
    kind: String,
    default: String,
}

/// The tables of the reference by section; headings that name several sections have one table for all of them.
fn reference() -> BTreeMap<Path, BTreeMap<String, Row>> {
    let text = std::fs::read_to_string(format!("{}/pipelines/README.md", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (_, text) = text.split_once("\n## Configuration reference\n").expect("the reference has its heading");
    let mut tables: BTreeMap<Path, BTreeMap<String, Row>> = BTreeMap::new();
    let mut current: Vec<Path> = Vec::new();
    for line in text.lines() {
        if line.starts_with('#') {
            let spans = line.split('`').skip(1).step_by(2).filter(|span| !span.contains(' ') || *span == "(top level)");
            current = spans.map(path).collect();
            for section in &current {
                assert!(tables.insert(section.clone(), BTreeMap::new()).is_none(), "twice: {}", shown(section));
            }
        } else if let Some(cells) = line.strip_prefix("| `") {
            let cells = cells.replace("\\|", "\u{1}");
            let cells: Vec<String> = cells
                .strip_suffix(" |")
                .expect("a row ends in |")
                .split(" | ")
                .map(|cell| cell.replace('\u{1}', "|"))
                .collect();
            assert_eq!(cells.len(), 4, "key, type, default, effect: {line}");
            assert!(cells.iter().all(|cell| !cell.trim().is_empty()), "{line}");
            for key in cells[0].split('`').step_by(2).filter(|key| !key.trim().trim_matches(',').is_empty()) {
                let row = || Row { kind: cells[1].trim().to_owned(), default: cells[2].trim().to_owned() };
                for section in &current {
                    let twice = tables.get_mut(section).unwrap().insert(key.to_owned(), row());
                    assert!(twice.is_none(), "twice: {} {key}", shown(section));
                }
            }
        }
    }
    tables
}

#[test]
fn the_reference_has_every_key_and_no_other() {
    let (sections, reference) = (sections(), reference());
    let mut wrong = Vec::new();
    for (path, keys) in &sections {
        let Some(rows) = reference.get(path) else {
            wrong.push(format!("no section for {} ({keys:?})", shown(path)));
            continue;
        };
        wrong.extend(
            keys.iter().filter(|key| !rows.contains_key(*key)).map(|key| format!("missing: {} `{key}`", shown(path))),
        );
        wrong.extend(
            rows.keys().filter(|key| !keys.contains(*key)).map(|key| format!("unknown: {} `{key}`", shown(path))),
        );
    }
    wrong.extend(
        reference
            .keys()
            .filter(|path| !sections.contains_key(*path))
            .map(|path| format!("not a section: {}", shown(path))),
    );
    assert!(wrong.is_empty(), "pipelines/README.md and the program disagree:\n{}", wrong.join("\n"));
    // That the asking works at all.
    assert!(sections.values().map(BTreeSet::len).sum::<usize>() > 150 && sections.len() > 20);
}

/// `refused` in the column of types means that no value is accepted, and an accepted key is not called that.
#[test]
fn what_the_reference_calls_refused_is_refused() {
    let mut wrong = Vec::new();
    for (section, rows) in reference() {
        for (key, row) in rows {
            let mut path = section.clone();
            path.push(key);
            let values =
                [json!(1), json!("1s"), json!("x"), json!(true), json!([]), json!(["x"]), json!({}), json!({"x": "y"})];
            let refused = values.iter().all(|value| {
                read(&with(&path, value.clone()))
                    .is_err_and(|error| error.path == path.join("::") && format!("{error}").contains("not supported"))
            });
            if refused != (row.kind == "refused") {
                wrong.push(format!("{}: refused is {refused}", shown(&path)));
            }
        }
    }
    assert!(wrong.is_empty(), "pipelines/README.md is wrong about what is refused:\n{}", wrong.join("\n"));
}

/// A default written out is a configuration: the value in the column can be set.
#[test]
fn the_defaults_of_the_reference_are_valid_values() {
    let (mut checked, mut wrong) = (0, Vec::new());
    for (section, rows) in reference() {
        // Nothing refers to what these two hold by default.
        if section.is_empty() || section == ["service"] {
            continue;
        }
        for (key, row) in rows {
            let Some(default) = row.default.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')) else { continue };
            let mut path = section.clone();
            path.push(key);
            let value: Value = serde_saphyr::from_str(default).unwrap_or_else(|error| panic!("{default}: {error}"));
            if let Err(error) = read(&with(&path, value)) {
                wrong.push(format!("{}: the default {default} is not accepted: {error}", shown(&path)));
            }
            checked += 1;
        }
    }
    assert!(wrong.is_empty(), "pipelines/README.md has defaults that cannot be set:\n{}", wrong.join("\n"));
    assert!(checked > 80, "{checked}");
}
