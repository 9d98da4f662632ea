//! The command line: what was asked for, and the exit code. 0 is success, 1 a wrong configuration or a failure, 2
//! wrong arguments.

mod components;
mod demo;
mod healthcheck;
mod mask;
mod print_config;
mod run;
mod validate;

use crate::{config, telemetry};
use clap::{Args, Parser, Subcommand};
use std::{io::Write, process::ExitCode};

/// A gateway for the traces AI systems leave behind: OTLP in, secrets and personal data masked, OTLP out.
///
/// Without a command it runs: OTLP on 127.0.0.1:4317 (gRPC) and 127.0.0.1:4318 (HTTP), everything masked, masked
/// spans printed. Try `tracegate demo` first.
#[derive(Debug, Parser)]
#[command(name = "tracegate", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway (the default)
    Run(RunArgs),
    /// Start a gateway, send it a support agent's trace with planted secrets, show what came out
    Demo,
    /// Mask secrets and personal data in text from a file or standard input
    Mask(mask::MaskArgs),
    /// Check a configuration; silent and 0 when it is right
    Validate(ConfigArgs),
    /// Print the configuration as it takes effect, with secrets redacted
    #[command(visible_alias = "print-initial-config")]
    PrintConfig(print_config::PrintConfigArgs),
    /// List the components a configuration may name
    Components,
    /// List feature gates: there are none; scripts written for the Collector ask
    Featuregate {
        /// The gate to tell about
        id: Option<String>,
    },
    /// Ask the running gateway whether it takes requests; 0 when it does. With --config, where that file says
    Healthcheck(healthcheck::HealthcheckArgs),
}

/// What to run.
#[derive(Clone, Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Forward to this OTLP backend instead of printing, without a configuration file.
    /// `host:4317` or `http://host:4317` is gRPC; `http://host:4318` or a URL with a path is HTTP; `https://` is TLS
    #[arg(long, value_name = "ENDPOINT", conflicts_with = "config")]
    to: Option<String>,
}

/// Where the configuration comes from.
#[derive(Clone, Debug, Args)]
struct ConfigArgs {
    /// Configuration in the OpenTelemetry Collector's YAML: a path, or file:PATH, env:NAME, yaml:TEXT.
    /// Several are merged, later ones win. Without any, the built-in default
    #[arg(long, value_name = "URI")]
    config: Vec<String>,
    /// Set one value after all files: --set exporters.debug.verbosity=detailed
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Accepted for scripts written for the Collector; tracegate has no feature gates
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    feature_gates: Vec<String>,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    telemetry::panics::install();
    let cli = Cli::parse();
    let outcome = match cli.command {
        None => run::run(&cli.run),
        Some(Command::Run(args)) => run::run(&args),
        Some(Command::Demo) => demo::demo(),
        Some(Command::Mask(args)) => mask::mask(&args),
        Some(Command::Validate(args)) => validate::validate(&args),
        Some(Command::PrintConfig(args)) => print_config::print_config(&args),
        Some(Command::Components) => components::components(),
        Some(Command::Featuregate { id }) => components::feature_gates(id.as_deref()),
        Some(Command::Healthcheck(args)) => healthcheck::healthcheck(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // The Collector's form, which scripts look for.
            let text = format!("{error:#}");
            let _ = writeln!(std::io::stderr(), "Error: {}", telemetry::display_safe(&text));
            ExitCode::FAILURE
        }
    }
}

/// `tracegate mask | head` is no failure.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// The configuration the arguments name.
fn sources(args: &ConfigArgs) -> anyhow::Result<Vec<config::Source>> {
    if args.config.is_empty() {
        return Ok(vec![crate::service::default_config()]);
    }
    args.config.iter().map(|uri| Ok(config::Source::parse(uri)?)).collect()
}
