//! `tracegate mask`: the masking of the gateway as a filter.

use crate::{
    detect::{Engine, Hit, replace},
    telemetry::display_safe,
};
use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;
use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    path::PathBuf,
};

/// A text is masked whole, because a key block may span it; offsets are 32 bit.
const MAX_TEXT: u64 = u32::MAX as u64;

/// Characters of a field's path that are shown.
const MAX_PATH: usize = 1000;

/// Arguments of `mask`.
#[derive(Debug, Args)]
pub struct MaskArgs {
    /// What to mask; standard input when absent or -
    file: Option<PathBuf>,
    /// Read one JSON object a line and mask only this field of it
    #[arg(long, value_name = "NAME")]
    jsonl_field: Option<String>,
    /// Print one JSON object per finding instead of the masked text; never the value found
    #[arg(long)]
    findings: bool,
}

/// Runs `mask`.
pub fn mask(args: &MaskArgs) -> anyhow::Result<()> {
    let out = BufWriter::new(io::stdout().lock());
    match &args.file {
        Some(path) if path.as_os_str() != "-" => {
            let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
            filter(args, BufReader::new(file), out)
        }
        _ => filter(args, io::stdin().lock(), out),
    }
}

fn filter(args: &MaskArgs, input: impl BufRead, out: impl Write) -> anyhow::Result<()> {
    match &args.jsonl_field {
        Some(field) => filter_rows(args.findings, field, input, out),
        None => filter_text(args.findings, input, out),
    }
}

fn filter_text(findings: bool, input: impl Read, mut out: impl Write) -> anyhow::Result<()> {
    let mut text = Vec::new();
    input.take(MAX_TEXT + 1).read_to_end(&mut text).context("cannot read the input")?;
    if text.len() as u64 > MAX_TEXT {
        bail!("the input is larger than 4 GiB; split it at line ends, or use --jsonl-field");
    }
    let (masked, hits) = replace::mask_text(Engine::builtin(), &text);
    if findings {
        for hit in &hits {
            let mut row = finding(hit);
            let before = text.get(..hit.start as usize).unwrap_or_default();
            let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
            row["line"] = (memchr::memchr_iter(b'\n', before).count() + 1).into();
            row["column"] = (before.len() - line_start + 1).into();
            writeln!(out, "{row}")?;
        }
    } else {
        out.write_all(&masked)?;
    }
    Ok(out.flush()?)
}

fn filter_rows(findings: bool, field: &str, input: impl BufRead, mut out: impl Write) -> anyhow::Result<()> {
    for (number, line) in input.split(b'\n').enumerate() {
        let line = line.context("cannot read the input")?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        // serde_json's own message may quote the row.
        let Ok(Value::Object(mut row)) = serde_json::from_slice(&line) else {
            bail!("line {} is not a JSON object", number + 1);
        };
        let mut found = Vec::new();
        if let Some(value) = row.get_mut(field) {
            mask_value(value, field, field, &mut found);
        }
        if findings {
            for mut finding in found {
                finding["line"] = (number + 1).into();
                writeln!(out, "{finding}")?;
            }
        } else {
            serde_json::to_writer(&mut out, &row)?;
            out.write_all(b"\n")?;
        }
    }
    Ok(out.flush()?)
}

/// Masks every string below `value`; a number or flag that a secret's name stands over becomes the marker.
fn mask_value(value: &mut Value, key: &str, path: &str, found: &mut Vec<Value>) {
    match value {
        Value::Object(fields) => {
            fields.iter_mut().for_each(|(key, value)| mask_value(value, key, &format!("{path}.{key}"), found));
        }
        Value::Array(elements) => {
            let elements = elements.iter_mut().enumerate();
            elements.for_each(|(i, value)| mask_value(value, key, &format!("{path}[{i}]"), found));
        }
        Value::Null | Value::Bool(_) => {}
        Value::String(_) | Value::Number(_) => {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            // The field the user named is the text itself, not the name of a secret.
            let name = if key == path { "" } else { key };
            let (masked, hits) = replace::mask_keyed(Engine::builtin(), text.as_bytes(), name.as_bytes());
            if hits.is_empty() {
                return;
            }
            *value = Value::String(String::from_utf8_lossy(&masked).into_owned());
            found.extend(hits.iter().map(|hit| {
                let mut row = finding(hit);
                row["field"] = shown_path(path).into();
                row
            }));
        }
    }
}

/// Names come from the rows, so they may hold anything: secrets too.
fn shown_path(path: &str) -> String {
    let (masked, _) = replace::mask_text(Engine::builtin(), path.as_bytes());
    let mut shown = display_safe(&String::from_utf8_lossy(&masked)).into_owned();
    if let Some((end, _)) = shown.char_indices().nth(MAX_PATH) {
        shown.truncate(end);
        shown.push('…');
    }
    shown
}

/// What is told of a hit: the rule and the place, never the value.
fn finding(hit: &Hit) -> Value {
    let rule = &Engine::builtin().rules()[hit.rule as usize];
    serde_json::json!({
        "rule": rule.id,
        "version": rule.version,
        "title": rule.title,
        "class": rule.class.name(),
        "confidence": hit.confidence.name(),
        "offset": hit.start,
        "length": hit.len,
    })
}
