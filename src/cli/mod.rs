//! The command line.

mod crds;
mod run;

use clap::{Parser, Subcommand};

/// Keeps service keys of Open Service Brokers, Cloud Foundry and IBM Cloud in Kubernetes Secrets.
///
/// Users declare a ServiceKey; the operator keeps exactly one live key for it at the remote side, its credentials in
/// one Secret, and nothing anywhere once it is deleted.
#[derive(Debug, Parser)]
#[command(
    name = "servicekey-operator",
    version,
    after_help = "Install the custom resources with `servicekey-operator crds | kubectl apply --server-side -f -`."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Crds(crds::Crds),
}

impl Cli {
    /// Does what the command line asks for.
    ///
    /// # Errors
    /// What kept the command from being done, in words for the person who typed it.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Run(run) => run.run(),
            Command::Crds(crds) => crds.run(),
        }
    }
}
