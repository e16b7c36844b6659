//! `servicekey-operator log-level`: the log filter of a running operator.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueHint};

use crate::runtime;

/// Show or change the log filter of a running operator
///
/// The command connects to the operator's control socket, so it works only in the operator's own container. The change
/// lasts until the operator restarts.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kubectl exec deployment/servicekey-operator -- servicekey-operator log-level
  kubectl exec deployment/servicekey-operator -- servicekey-operator log-level info,servicekey_operator=debug")]
pub(super) struct LogLevelCommand {
    /// The new filter: a level, or levels by module, such as `info,servicekey_operator::backend=debug`. Without it, the
    /// command shows the current filter
    #[arg(value_name = "FILTER", default_value = "")]
    filter: String,

    /// The Unix socket of the running operator, as in `run --control-socket`
    #[arg(long, env = "CONTROL_SOCKET", value_name = "FILE", value_hint = ValueHint::FilePath)]
    control_socket: PathBuf,
}

impl LogLevelCommand {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let Self { filter, control_socket } = self;
        let level = runtime::request_log_level(control_socket, filter).with_context(|| {
            format!("can't show or change the log filter of the operator at `{}`", control_socket.display())
        })?;
        anstream::println!("{level}");
        Ok(())
    }
}
