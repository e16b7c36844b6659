//! `servicekey-operator log-level`: what a running operator logs.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueHint};

use crate::runtime;

/// Show or change what a running operator logs
///
/// It reaches the operator by its control socket, and so works only in the operator's own container.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kubectl exec deployment/servicekey-operator -- servicekey-operator log-level
  kubectl exec deployment/servicekey-operator -- servicekey-operator log-level info,servicekey_operator=debug")]
pub(super) struct LogLevelCommand {
    /// A level, or levels by part, such as `info,servicekey_operator::backend=debug`; without it, show the present one
    #[arg(value_name = "FILTER", default_value = "")]
    filter: String,

    /// The control socket of the operator
    #[arg(long, env = "CONTROL_SOCKET", value_name = "FILE", value_hint = ValueHint::FilePath)]
    control_socket: PathBuf,
}

impl LogLevelCommand {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let Self { filter, control_socket } = self;
        let level = runtime::request_log_level(control_socket, filter).with_context(|| {
            format!("can't change what the operator at `{}` logs", control_socket.display())
        })?;
        anstream::println!("{level}");
        Ok(())
    }
}
