//! Why a service does not start.

use crate::{config::ConfigError, net::ListenError, receiver, telemetry::prometheus};

/// Why a checked configuration did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A component cannot be made from its configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A receiver cannot listen.
    #[error(transparent)]
    Receiver(#[from] receiver::StartError),
    /// Metrics cannot be recorded.
    #[error(transparent)]
    Metrics(#[from] prometheus::InstallError),
    /// An address of tracegate's own cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
}
