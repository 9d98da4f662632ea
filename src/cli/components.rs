//! `tracegate components`: what a configuration may name, as YAML.

use crate::{config::Section, service::KINDS};
use std::io::{self, Write};

/// Runs `components`.
pub fn components() -> anyhow::Result<()> {
    let mut out = String::new();
    out += "buildinfo:\n";
    out += &format!("  command: {}\n", env!("CARGO_PKG_NAME"));
    // A JSON string is a YAML string; the description has a colon.
    out += &format!("  description: {}\n", serde_json::Value::from(env!("CARGO_PKG_DESCRIPTION")));
    out += &format!("  version: {}\n", env!("CARGO_PKG_VERSION"));
    for section in [Section::Receivers, Section::Processors, Section::Exporters, Section::Extensions] {
        out += &format!("{}:\n", section.key());
        for kind in KINDS.of(section) {
            out += &format!("  - name: {kind}\n");
        }
    }
    io::stdout().write_all(out.as_bytes())?;
    Ok(())
}
