//! `tracegate print-config`: the configuration as it takes effect.

use super::{ConfigArgs, sources};
use crate::{
    config::{Format, Secrets, render},
    service::{self, Blueprint},
};
use clap::{Args, ValueEnum};
use std::io::{self, Write};

/// How to print it; flags and values are the Collector's.
#[derive(Debug, Args)]
pub struct PrintConfigArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Whether secrets are shown
    #[arg(long, value_enum, default_value_t = Mode::Redacted)]
    mode: Mode,
    /// What to print it as
    #[arg(long, value_enum, default_value_t = Output::Yaml)]
    format: Output,
    /// Whether to check it first; without, files are only merged and references resolved
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    validate: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Values that are secrets read `[REDACTED]`
    Redacted,
    /// Everything as configured
    Unredacted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Yaml,
    Json,
}

/// Runs `print-config`.
pub fn print_config(args: &PrintConfigArgs) -> anyhow::Result<()> {
    let (sources, sets) = (sources(&args.config)?, &args.config.set);
    let document = match args.validate {
        true => Blueprint::read(&sources, sets)?.document,
        false => service::effective(&sources, sets)?,
    };
    let secrets = match args.mode {
        Mode::Redacted => Secrets::Redacted,
        Mode::Unredacted => Secrets::Shown,
    };
    let format = match args.format {
        Output::Yaml => Format::Yaml,
        Output::Json => Format::Json,
    };
    io::stdout().write_all(render(document.root(), secrets, format)?.as_bytes())?;
    Ok(())
}
