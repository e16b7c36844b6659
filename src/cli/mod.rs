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
/// For each ServiceKey the operator creates one key at the remote side and stores its credentials in one Secret. When
/// the ServiceKey is deleted, the operator revokes the key and deletes the Secret.
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
    /// Parses the command line of this process, its environment and its configuration file. Exits if the user asked for
    /// help, or if the arguments are invalid.
    ///
    /// # Errors
    /// If the configuration file can't be read or is invalid.
    pub fn of_process() -> anyhow::Result<Self> {
        Self::parse_arguments(&env::args_os().collect::<Vec<_>>())
            .map(|parsed| parsed.unwrap_or_else(|error| error.exit()))
    }

    fn parse_arguments(arguments: &[OsString]) -> anyhow::Result<Result<Self, clap::Error>> {
        let command = config::with_file(Self::command(), arguments)?;
        let matches = command.try_get_matches_from(arguments);
        Ok(matches.and_then(|matches| Self::from_arg_matches(&matches)))
    }

    /// Runs the command.
    ///
    /// # Errors
    /// If the command fails. The message is written for the user of the command line.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Run(run) => run.run(),
            Command::Check(check) => check.run(),
            Command::Crds(crds) => crds.run(),
            Command::LogLevel(level) => level.run(),
        }
    }
}
