//! Simulates a year of keys whose certificates end after days.

use std::{
    io::{IsTerminal, Write, stderr, stdout},
    process::ExitCode,
    time::Instant,
};

use clap::Parser;
use testkit::simulation::{
    seed_process,
    year::{YearSettings, run_year},
};

/// Simulate a year of keys with certificates, and check that none of them ends in a Secret
///
/// The operator runs on virtual time, at a broker whose keys contain a certificate and its private key. Meanwhile the
/// operator crashes, the broker is out of order for up to a weekend, and the API server for up to an hour. The exit code
/// is 1 if a certificate ended in a Secret, or if a ServiceKey is not ready at the end.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  year
  year --keys 100 --life 2")]
struct Options {
    /// Number of ServiceKeys
    #[arg(long, value_name = "N", default_value_t = 1000)]
    keys: usize,

    /// Days that pass
    #[arg(long, value_name = "DAYS", default_value_t = 365)]
    days: u32,

    /// Days until a certificate ends
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    life: u32,

    /// The seed, which determines when something crashes
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

fn main() -> anyhow::Result<ExitCode> {
    let Options { keys, days, life, seed } = Options::parse();
    seed_process(seed);
    let (began, shows_progress) = (Instant::now(), stderr().is_terminal());
    let year = run_year(&YearSettings { seed, keys, days, life }, |day| {
        if shows_progress {
            // The run goes on if the terminal is gone.
            let _ = write!(stderr(), "\rday {day} of {days}");
        }
    });
    if shows_progress {
        writeln!(stderr())?;
    }
    let year = year.map_err(anyhow::Error::msg)?;
    writeln!(stdout(), "{keys} ServiceKeys, {days} days, certificates of {life} days\n{year}")?;
    writeln!(stdout(), "{} s of real time", began.elapsed().as_secs())?;
    Ok(if year.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
