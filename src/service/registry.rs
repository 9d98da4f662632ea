//! Every component type there is, and how its section of the configuration is read.

use super::ports::{Listening, Port};
use crate::{
    auth::{Authenticator, Authenticators, BasicConfig, BearerConfig},
    config::{Advice, Alias, ComponentId, ConfigError, Document, Kinds, Section},
    exporter::{debug, file, nop, otlp_grpc, otlp_http},
    net::tls::TlsServer,
    processor::{batch, identity, mask, memory_limiter},
    telemetry::{
        Health,
        health::HealthCheck,
        zpages::{Running, Zpages},
    },
};
use arc_swap::ArcSwap;
use serde::Deserialize;
use std::sync::Arc;

/// What to do with an authenticator that comes later.
const OTHER_AUTH: &str = "this version authenticates with bearertokenauth and basicauth";

/// The component types of this program.
pub const KINDS: Kinds<'static> = Kinds {
    receivers: &["otlp"],
    processors: &["batch", "identity", "mask", "memory_limiter"],
    exporters: &["debug", "file", "nop", "otlp_grpc", "otlp_http"],
    extensions: &["basicauth", "bearertokenauth", "health_check", "pprof", "zpages"],
    aliases: &[
        Alias { section: Section::Exporters, old: "otlp", new: "otlp_grpc" },
        Alias { section: Section::Exporters, old: "otlphttp", new: "otlp_http" },
    ],
    advice: &[
        Advice { section: Section::Extensions, kind: "asapclient", text: OTHER_AUTH },
        Advice { section: Section::Extensions, kind: "azureauth", text: OTHER_AUTH },
        Advice { section: Section::Extensions, kind: "googleclientauth", text: OTHER_AUTH },
        Advice {
            section: Section::Extensions,
            kind: "headers_setter",
            text: "tracegate never sends on what clients send beside their requests; set headers of the exporter",
        },
        Advice { section: Section::Extensions, kind: "oauth2client", text: OTHER_AUTH },
        Advice { section: Section::Extensions, kind: "oidc", text: OTHER_AUTH },
        Advice { section: Section::Extensions, kind: "sigv4auth", text: OTHER_AUTH },
        Advice { section: Section::Exporters, kind: "logging", text: "it was renamed: use debug" },
        Advice {
            section: Section::Extensions,
            kind: "file_storage",
            text: "this version queues in memory; remove it, and 'storage' from every sending_queue",
        },
        Advice {
            section: Section::Extensions,
            kind: "healthcheckv2",
            text: "use health_check: with its endpoint and path it tells whether every pipeline works",
        },
        Advice {
            section: Section::Extensions,
            kind: "memory_ballast",
            text: "remove it: there is no garbage collector to balance",
        },
        Advice { section: Section::Extensions, kind: "memory_limiter", text: "use the processor memory_limiter" },
        Advice { section: Section::Processors, kind: "queuebatch", text: "use sending_queue of the exporter" },
        Advice {
            section: Section::Processors,
            kind: "redaction",
            text: "mask finds secrets and personal data without patterns; for your own patterns keep it in your \
                   Collector; see pipelines/in-front-of-collector.yaml",
        },
    ],
};

/// A processor's configuration, checked.
#[derive(Clone, Debug)]
pub enum Processor {
    /// `batch`
    Batch(batch::Config),
    /// `memory_limiter`
    MemoryLimiter(memory_limiter::Config),
    /// `identity`
    Identity(identity::Config),
    /// `mask`
    Mask(mask::Config),
}

/// An exporter's configuration, checked.
#[derive(Clone, Debug)]
pub enum Exporter {
    /// `debug`
    Debug(debug::Config),
    /// `file`
    File(file::Config),
    /// `nop`
    Nop(nop::Config),
    /// `otlp_grpc`, in old configurations `otlp`
    OtlpGrpc(Box<otlp_grpc::Config>),
    /// `otlp_http`, in old configurations `otlphttp`
    OtlpHttp(Box<otlp_http::Config>),
}

/// An extension, checked.
#[derive(Clone, Debug)]
pub enum Configured {
    /// It serves a port.
    Port(Extension),
    /// Receivers and exporters refer to it.
    Authenticator(Authenticator),
    /// It is accepted and has nothing to run.
    Nothing,
}

/// The configuration of an extension with a port, checked.
#[derive(Clone, Debug)]
pub enum Extension {
    /// `health_check`
    HealthCheck(Box<HealthCheck>),
    /// `zpages`
    Zpages(Zpages),
}

/// Settings of the Collector's `pprof`, so that files that have it load. There is no Go runtime to look into.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Pprof {
    #[serde(rename = "endpoint")]
    _endpoint: String,
    #[serde(rename = "block_profile_fraction")]
    _block_profile_fraction: i64,
    #[serde(rename = "mutex_profile_fraction")]
    _mutex_profile_fraction: i64,
    #[serde(rename = "save_to_file")]
    _save_to_file: String,
}

impl Extension {
    /// Where it listens.
    pub fn endpoint(&self) -> &str {
        match self {
            Extension::HealthCheck(config) => &config.endpoint,
            Extension::Zpages(config) => &config.endpoint,
        }
    }

    /// Its `tls` block.
    pub fn tls(&self) -> Option<&TlsServer> {
        match self {
            Extension::HealthCheck(config) => config.tls.as_ref(),
            Extension::Zpages(_) => None,
        }
    }

    /// Serves it; `running` is what `zpages` shows. Must be called within a Tokio runtime.
    pub fn serve(self, listening: Listening, health: &Health, running: &Arc<ArcSwap<Running>>) -> Port {
        match self {
            Extension::HealthCheck(config) => Port::health_check(listening, *config, health),
            Extension::Zpages(_) => Port::zpages(listening, running.clone(), health),
        }
    }
}

/// Reads and checks `extensions::<id>`.
///
/// # Errors
/// With the YAML path of what is wrong.
pub fn extension(document: &Document, id: &ComponentId) -> Result<Configured, ConfigError> {
    let name = id.to_string();
    let path = [Section::Extensions.key(), &name];
    match KINDS.resolve(Section::Extensions, id) {
        Some("basicauth") => {
            let config: BasicConfig = document.section(&path)?;
            Authenticator::basic(&config).map(Configured::Authenticator).map_err(|error| error.under(&path))
        }
        Some("bearertokenauth") => {
            let config: BearerConfig = document.section(&path)?;
            Authenticator::bearer(&name, &config).map(Configured::Authenticator).map_err(|error| error.under(&path))
        }
        Some("health_check") => {
            let config: HealthCheck = document.section(&path)?;
            let check = |config: &HealthCheck| config.tls.as_ref().map_or(Ok(()), TlsServer::validate);
            checked(&path, config, check).map(|config| Configured::Port(Extension::HealthCheck(Box::new(config))))
        }
        Some("pprof") => document.section(&path).map(|_: Pprof| Configured::Nothing),
        Some("zpages") => Ok(Configured::Port(Extension::Zpages(document.section(&path)?))),
        _ => Err(ConfigError::at(&path, "unknown type")),
    }
}

/// Reads and checks `processors::<id>`.
///
/// # Errors
/// With the YAML path of what is wrong.
pub fn processor(document: &Document, id: &ComponentId) -> Result<Processor, ConfigError> {
    let name = id.to_string();
    let path = [Section::Processors.key(), &name];
    match KINDS.resolve(Section::Processors, id) {
        Some("batch") => {
            let config: batch::Config = document.section(&path)?;
            config.validate().map_err(|error| ConfigError::at(&path, error.to_string()))?;
            Ok(Processor::Batch(config))
        }
        Some("memory_limiter") => {
            let config: memory_limiter::Config = document.section(&path)?;
            config.validate().map_err(|error| ConfigError::at(&path, error.to_string()))?;
            Ok(Processor::MemoryLimiter(config))
        }
        Some("identity") => Ok(Processor::Identity(document.section(&path)?)),
        Some("mask") => Ok(Processor::Mask(document.section(&path)?)),
        _ => Err(ConfigError::at(&path, "unknown type")),
    }
}

/// Reads and checks `exporters::<id>`.
///
/// # Errors
/// With the YAML path of what is wrong.
pub fn exporter(
    document: &Document,
    id: &ComponentId,
    authenticators: &Authenticators,
) -> Result<Exporter, ConfigError> {
    let name = id.to_string();
    let path = [Section::Exporters.key(), &name];
    match KINDS.resolve(Section::Exporters, id) {
        Some("debug") => {
            checked(&path, document.section::<debug::Config>(&path)?, debug::Config::validate).map(Exporter::Debug)
        }
        Some("file") => {
            checked(&path, document.section::<file::Config>(&path)?, file::Config::validate).map(Exporter::File)
        }
        Some("nop") => Ok(Exporter::Nop(document.section(&path)?)),
        Some("otlp_grpc") => {
            let config = document.section::<otlp_grpc::Config>(&path)?;
            let check = |config: &otlp_grpc::Config| {
                config.validate().and_then(|()| config.client_of(authenticators).map(|_| ()))
            };
            checked(&path, config, check).map(|config| Exporter::OtlpGrpc(Box::new(config)))
        }
        Some("otlp_http") => {
            let config = document.section::<otlp_http::Config>(&path)?;
            let check = |config: &otlp_http::Config| {
                config.validate().and_then(|()| config.client_of(authenticators).map(|_| ()))
            };
            checked(&path, config, check).map(|config| Exporter::OtlpHttp(Box::new(config)))
        }
        _ => Err(ConfigError::at(&path, "unknown type")),
    }
}

fn checked<C>(path: &[&str], config: C, check: impl Fn(&C) -> Result<(), ConfigError>) -> Result<C, ConfigError> {
    check(&config).map_err(|error| error.under(path))?;
    Ok(config)
}
