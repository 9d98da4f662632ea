//! `tracegate print-config`: the configuration as it takes effect.

use super::{ConfigArgs, sources};
use crate::{
    config::{Secrets, render},
    service::Blueprint,
};
use std::io::{self, Write};

/// Runs `print-config`.
pub fn print_config(args: &ConfigArgs) -> anyhow::Result<()> {
    let blueprint = Blueprint::read(&sources(args)?, &args.set)?;
    io::stdout().write_all(render(blueprint.document.root(), Secrets::Redacted)?.as_bytes())?;
    Ok(())
}
