//! Wrong configurations, and the one line each gets: `configurations/wrong.txt`. To write the lines anew after a
//! change of texts, and then read them: `UPDATE_TEXTS=1 cargo test --test wrong_configurations`.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/binary.rs"]
mod binary;

use binary::{READY, output};
use std::fmt::Write;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/configurations/wrong.txt");
const BASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/configurations/base.yaml");

struct Case {
    title: String,
    yaml: String,
    error: String,
}

fn read(text: &str) -> (String, Vec<Case>) {
    let mut parts = text.split("\n## ");
    let head = parts.next().unwrap().to_owned();
    let case = |part: &str| {
        let (title, rest) = part.split_once('\n').unwrap();
        let (yaml, error) = rest.split_once("=> ").unwrap();
        Case { title: title.to_owned(), yaml: yaml.to_owned(), error: error.trim_end().to_owned() }
    };
    (head, parts.map(case).collect())
}

/// What the program says of it, asked for a check and told to run; it starts nothing.
fn error_of(yaml: &str) -> String {
    let over = format!("yaml:{yaml}");
    let config = ["--config", BASE, "--config", &over];
    let checked = output(&[&["validate"], &config[..]].concat(), b"");
    if checked.code == Some(0) {
        return "(accepted)".to_owned();
    }
    let run = output(&config, b"");
    assert_eq!((checked.code, run.code), (Some(1), Some(1)), "{yaml}");
    let text = run.stderr;
    assert!(!text.contains(READY), "{yaml}: {text}");
    let text = text.strip_prefix("Error: invalid configuration: ").unwrap_or_else(|| panic!("{yaml}: {text}"));
    assert_eq!(checked.stderr, format!("Error: {text}"), "{yaml}");
    text.trim_end().to_owned()
}

#[test]
fn the_base_is_right() {
    let output = output(&["validate", "--config", BASE], b"");
    assert!(output.code == Some(0), "{}", output.stderr);
}

#[test]
fn every_wrong_configuration_gets_one_line_that_says_where_what_and_what_to_do() {
    let text = std::fs::read_to_string(FILE).unwrap();
    let (head, cases) = read(&text);
    assert!(cases.len() >= 90, "{}", cases.len());
    let mut written = head;
    let mut different = Vec::new();
    for case in &cases {
        let error = error_of(&case.yaml);
        assert_eq!(error.lines().count(), 1, "{}: {error}", case.title);
        assert!(error.chars().all(|c| !c.is_control()), "{}: {error:?}", case.title);
        assert!(!error.contains("hunter2"), "{error}");
        if error != case.error {
            different.push(format!("{}:\n  is     {error}\n  wanted {}", case.title, case.error));
        }
        write!(written, "\n## {}\n{}=> {error}\n", case.title, case.yaml).unwrap();
    }
    if std::env::var_os("UPDATE_TEXTS").is_some() {
        std::fs::write(FILE, written).unwrap();
    } else {
        assert!(different.is_empty(), "{}", different.join("\n"));
    }
}
