//! `cargo run --example demo`: shows the operator on a real Kubernetes API server with an embedded broker.

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

/// Show the operator at work, from an empty machine to a Secret with credentials and back
///
/// The demo starts etcd and kube-apiserver on free loopback ports, an Open Service Broker with the instance
/// `training-app-db`, and the operator, and applies examples/manifests. It shows that the operator creates keys, stores
/// their credentials in Secrets, repairs damaged Secrets, and revokes the keys of deleted ServiceKeys. It also measures
/// how long each of these takes. It changes nothing outside of its own processes and temporary folders.
///
/// The first run downloads the binaries of the control plane, or builds them with Go, which takes minutes.
///
/// The operator logs nothing unless RUST_LOG sets a filter.
#[derive(Debug, Parser)]
#[command(
    name = "demo",
    bin_name = "cargo run --example demo --",
    after_help = "Examples:
  cargo run --example demo                          # the whole tour, about 20 seconds
  cargo run --example demo -- --keep                # keep it running, to try it with kubectl
  cargo run --example demo -- --broker postgres     # with logins to a real database
  cargo run --release --example demo                # measure a release build
  RUST_LOG=debug cargo run --example demo -- --keys 0"
)]
struct Cli {
    /// The broker that creates the keys
    #[arg(long, value_enum, default_value_t)]
    broker: broker::Kind,

    /// Keep everything running until Ctrl-C, and print kubectl commands to try
    #[arg(long)]
    keep: bool,

    /// Print credentials instead of their lengths
    #[arg(long)]
    show_secrets: bool,

    /// Number of ServiceKeys to create at once for the measurement; 0 skips the measurement
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(..=5000))]
    keys: u16,

    /// Port of the API server on 127.0.0.1 [default: a free port]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
}

enum Ending {
    Finished,
    Interrupted,
}

/// The exit code of a program that Ctrl-C ended: 128 plus the number of SIGINT.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(Ending::Finished) => ExitCode::SUCCESS,
        Ok(Ending::Interrupted) => {
            say("interrupted: everything is stopped");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            // If a server or `go` failed, its last output follows the line.
            say(format!("error: {error:#}").replace('\n', "\n    "));
            ExitCode::FAILURE
        }
    }
}

/// If this fails, only the exit code reports the error.
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
    // A drop would wait for a thread that may still wait for another process to fill the cache.
    threads.shutdown_background();
    ending
}

/// Plays the scenario until it ends or the user presses Ctrl-C. In both cases all processes have ended on return,
/// because the scenario stops them when it is dropped.
async fn play(cli: &Cli) -> anyhow::Result<Ending> {
    tokio::select! {
        result = scenario::play(cli) => result.map(|()| Ending::Finished),
        interrupt = tokio::signal::ctrl_c() => {
            interrupt.context("can't wait for Ctrl-C")?;
            Ok(Ending::Interrupted)
        }
    }
}
