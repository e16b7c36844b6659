//! The `servicekey-operator` command.

use clap::Parser;
use servicekey_operator::cli::Cli;

fn main() -> anyhow::Result<()> {
    Cli::parse().run()
}
