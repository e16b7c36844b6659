//! `cargo run --example demo`: the operator's main job, on a real Kubernetes API server and an embedded broker.

mod broker;
mod login;
mod manifests;
mod output;
#[path = "../postgres-broker/broker/mod.rs"]
mod postgres_broker;
mod progress;
mod scenario;
mod stage;
mod timings;
mod watch;

use std::{
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Context;
use clap::Parser;
use servicekey_operator::testing::{LogFormat, start_logging};

/// Show what the operator does, from an empty machine to a Secret with credentials and back
///
/// Starts etcd and kube-apiserver on free loopback ports, an Open Service Broker with the instance
/// `training-app-db`, and the operator; applies examples/manifests; shows the credentials arrive, damage to their
/// Secret repaired, and nothing left once the ServiceKeys are deleted; and measures how long each takes. Nothing
/// outside of this process and temporary folders is touched. The first run has to get the control plane's
/// binaries, by download or by building them with Go, which takes minutes.
///
/// The operator logs nothing here unless RUST_LOG says what.
#[derive(Debug, Parser)]
#[command(
    name = "demo",
    bin_name = "cargo run --example demo --",
    after_help = "Examples:
  cargo run --example demo                          # the whole tour, some 20 seconds
  cargo run --example demo -- --keep                # and then try it yourself with kubectl
  cargo run --example demo -- --broker postgres     # with logins to a real database
  cargo run --release --example demo                # with the times of a release build
  RUST_LOG=debug cargo run --example demo -- --keys 0"
)]
struct Cli {
    /// What hands out the keys
    #[arg(long, value_enum, default_value_t)]
    broker: broker::Kind,

    /// Leave everything running, and print what to try with kubectl; Ctrl-C ends it
    #[arg(long)]
    keep: bool,

    /// Print credentials instead of their lengths
    #[arg(long)]
    show_secrets: bool,

    /// ServiceKeys to create at once when times are measured; 0 measures nothing
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(..=5000))]
    keys: u16,

    /// Where the API server listens on 127.0.0.1 [default: a free port]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
}

/// How the demo came to its end.
enum Ending {
    Finished,
    Interrupted,
}

/// The exit code of a program that Ctrl-C has ended: 128 and the number of SIGINT.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(Ending::Finished) => ExitCode::SUCCESS,
        Ok(Ending::Interrupted) => {
            say("interrupted: everything is stopped");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            // Where a server or `go` has failed, what it printed last follows the line.
            say(format!("error: {error:#}").replace('\n', "\n    "));
            ExitCode::FAILURE
        }
    }
}

/// Where even this can't be written, the exit code still tells.
fn say(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn run(cli: &Cli) -> anyhow::Result<Ending> {
    if let Ok(filter) = std::env::var("RUST_LOG") {
        start_logging(LogFormat::Auto, &filter.parse()?)?;
    }
    let threads = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let threads = threads.context("can't start the runtime")?;
    let ending = threads.block_on(play(cli));
    // Not a mere drop, which would wait for a thread that waits for another process to fill the cache.
    threads.shutdown_background();
    ending
}

/// Plays the scenario until it ends or Ctrl-C does. Either way all that was started has ended on return: whatever
/// the scenario holds is stopped where it is dropped.
async fn play(cli: &Cli) -> anyhow::Result<Ending> {
    tokio::select! {
        result = scenario::play(cli) => result.map(|()| Ending::Finished),
        interrupt = tokio::signal::ctrl_c() => {
            interrupt.context("can't wait for Ctrl-C")?;
            Ok(Ending::Interrupted)
        }
    }
}
