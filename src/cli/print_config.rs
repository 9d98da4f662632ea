//! `tracegate print-config`: the configuration as it takes effect.

use super::{ConfigArgs, sources};
use crate::{
    config::{Format, Secrets, render},
    service::{self, Blueprint},
    telemetry::display_safe_lines,
};
use clap::{Args, ValueEnum};
use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
};

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
    let text = render(document.root(), secrets, format)?;
    io::stdout().write_all(shown(&text, io::stdout().is_terminal()).as_bytes())?;
    Ok(())
}

/// A file gets the configuration as it is; a person at a terminal sees what would act on it.
fn shown(text: &str, terminal: bool) -> Cow<'_, str> {
    if terminal { display_safe_lines(text) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::attacks;

    #[test]
    fn nothing_acts_on_a_terminal_and_a_file_is_what_was_configured() {
        for attack in attacks::all() {
            attacks::assert_harmless(&shown(&attack, true), &['\n', '\t']);
            assert_eq!(shown(&attack, false), attack);
        }
    }
}
