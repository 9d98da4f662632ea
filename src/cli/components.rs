//! `tracegate components` and `tracegate featuregate`: what a configuration may name, in the Collector's YAML.

use crate::{config::Section, service::KINDS};
use anyhow::bail;
use std::io::{self, Write};

/// Runs `components`.
pub fn components() -> anyhow::Result<()> {
    let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    let mut out = String::new();
    out += "buildinfo:\n";
    out += &format!("  command: {name}\n");
    // A JSON string is a YAML string; the description has a colon.
    out += &format!("  description: {}\n", serde_json::Value::from(env!("CARGO_PKG_DESCRIPTION")));
    out += &format!("  version: {version}\n");
    for section in [Section::Receivers, Section::Processors, Section::Exporters, Section::Extensions] {
        out += &format!("{}:\n", section.key());
        for kind in KINDS.of(section) {
            out += &format!("  - name: {kind}\n    module: {name} v{version}\n    stability:\n");
            let what: &[&str] =
                if section == Section::Extensions { &["extension"] } else { &["logs", "metrics", "traces"] };
            what.iter().for_each(|what| out += &format!("      {what}: Beta\n"));
        }
    }
    out += "connectors: []\nproviders:\n";
    for scheme in ["env", "file", "yaml"] {
        out += &format!("  - scheme: {scheme}\n    module: {name} v{version}\n");
    }
    io::stdout().write_all(out.as_bytes())?;
    Ok(())
}

/// Runs `featuregate`.
pub fn feature_gates(id: Option<&str>) -> anyhow::Result<()> {
    match id {
        None => Ok(io::stdout().write_all(b"ID  Enabled  Stage  Description\n")?),
        Some(id) => bail!("feature gate \"{}\" not found: tracegate has none", crate::telemetry::display_safe(id)),
    }
}
