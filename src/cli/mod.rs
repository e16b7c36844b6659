//! The command line.

mod check;
mod config;
mod crds;
mod log_level;
mod run;

use std::{env, ffi::OsString};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

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
    Check(check::CheckCommand),
    Crds(crds::Crds),
    LogLevel(log_level::LogLevelCommand),
}

impl Cli {
    /// The command line of this process, with its environment and its configuration file. Ends the process where it
    /// asks for help, or makes no sense to clap.
    ///
    /// # Errors
    /// What is wrong with the configuration file.
    pub fn of_process() -> anyhow::Result<Self> {
        Self::parse_arguments(&env::args_os().collect::<Vec<_>>())
            .map(|parsed| parsed.unwrap_or_else(|error| error.exit()))
    }

    fn parse_arguments(arguments: &[OsString]) -> anyhow::Result<Result<Self, clap::Error>> {
        let command = config::with_file(Self::command(), arguments)?;
        let matches = command.try_get_matches_from(arguments);
        Ok(matches.and_then(|matches| Self::from_arg_matches(&matches)))
    }

    /// Does what the command line asks for.
    ///
    /// # Errors
    /// What kept the command from being done, in words for the person who typed it.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Run(run) => run.run(),
            Command::Check(check) => check.run(),
            Command::Crds(crds) => crds.run(),
            Command::LogLevel(level) => level.run(),
        }
    }
}
