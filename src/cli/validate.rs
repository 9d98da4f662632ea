//! `tracegate validate`: silent when the configuration is right.

use super::{ConfigArgs, sources};
use crate::service::Blueprint;

/// Runs `validate`.
pub fn validate(args: &ConfigArgs) -> anyhow::Result<()> {
    Blueprint::read(&sources(args)?, &args.set)?;
    Ok(())
}
