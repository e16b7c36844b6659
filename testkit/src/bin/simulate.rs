//! Simulates the whole operator, from one seed or many.

use std::{
    collections::BTreeSet,
    env,
    io::{self, IsTerminal, Write, stderr, stdin, stdout},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Parser;
use serde_json::Value;
use servicekey_operator::api::custom_resource_definitions;
use testkit::simulation::{Report, Runner, Settings, Total, run, seed_process};

/// Simulate the operator in a world that crashes, lies and attacks
///
/// Each run has a seed that determines everything: users, faults, crashes, and what answers are lost. A run that breaks
/// a rule prints its seed, its events, and the command that repeats it.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  simulate --runs 2000
  simulate --minutes 60
  simulate --seed 57 --shrink
  simulate --seed 57 --only 3,8 --show")]
struct Options {
    /// The seed of one run, or the first seed of several
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Number of runs; without --seed from seed 1 on
    #[arg(long, value_name = "N")]
    runs: Option<u64>,

    /// Run seeds for this many minutes
    #[arg(long, value_name = "M", conflicts_with = "runs")]
    minutes: Option<u64>,

    /// Leave out events of the first failure as long as it still breaks the same rule
    #[arg(long)]
    shrink: bool,

    /// Keep only these events of the run, by their numbers
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', requires = "seed")]
    only: Option<Vec<usize>>,

    /// Print everything that happens in the run
    #[arg(long, requires = "seed")]
    show: bool,

    /// Go on after a failure, and list all of them
    #[arg(long)]
    keep_going: bool,

    /// Run one seed in this process with the definitions in the standard input, and print the report as JSON
    #[arg(long, hide = true, requires = "seed")]
    child: bool,

    /// Print the CustomResourceDefinitions as JSON
    #[arg(long, hide = true, exclusive = true)]
    definitions: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    let settings = Settings {
        seed: options.seed.unwrap_or(1),
        only: options.only.clone().map(|only| only.into_iter().collect::<BTreeSet<_>>()),
        is_shown: options.show,
    };
    if options.definitions {
        serde_json::to_writer(stdout(), &custom_resource_definitions())?;
        return Ok(ExitCode::SUCCESS);
    }
    if options.child {
        return here(&settings, &io::read_to_string(stdin())?, true);
    }
    let runner = Runner::new(env::current_exe().context("can't find the path of this program")?);
    if options.show {
        return here(&settings, str::from_utf8(runner.definitions()?)?, false);
    }
    match (options.seed, options.runs, options.minutes) {
        (Some(_), None, None) => one(&runner, &settings, options.shrink),
        (_, runs, minutes) => many(&runner, &options, runs, minutes),
    }
}

/// Runs a seed in this process, with these CustomResourceDefinitions in JSON.
fn here(settings: &Settings, definitions: &str, as_json: bool) -> anyhow::Result<ExitCode> {
    seed_process(settings.seed);
    let definitions: Vec<Value> = serde_json::from_str(definitions)?;
    let report = Report::new(settings.seed, run(settings, &definitions).map_err(anyhow::Error::msg)?);
    if as_json {
        writeln!(stdout(), "{}", serde_json::to_string(&report)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    print_verdict(&report)?;
    Ok(verdict(&report))
}

/// Runs a seed in a process of its own, and shrinks it if it fails.
fn one(runner: &Runner, settings: &Settings, shrinks: bool) -> anyhow::Result<ExitCode> {
    let report = runner.run(settings).context("can't start the run")?;
    let again = runner.run(settings).context("can't start the run")?;
    anyhow::ensure!(report.digest == again.digest, "two runs of seed {} differ", settings.seed);
    explain(runner, &report, shrinks)?;
    Ok(verdict(&report))
}

fn many(
    runner: &Runner,
    options: &Options,
    runs: Option<u64>,
    minutes: Option<u64>,
) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let end = minutes.map(|minutes| began + Duration::from_secs(60 * minutes));
    let (mut total, mut failures) = (Total::default(), Vec::new());
    let shows_progress = stderr().is_terminal();
    let see = |report: Report| {
        total.add(&report);
        if shows_progress && total.runs % 20 == 0 {
            // The runs go on if the terminal is gone.
            let _ = write!(stderr(), "\r{} runs, {} failures", total.runs, total.failures);
        }
        if !report.violations.is_empty() {
            failures.push(report);
        }
        (failures.is_empty() || options.keep_going) && end.is_none_or(|end| Instant::now() < end)
    };
    let runs = runs.unwrap_or(if minutes.is_some() { u64::MAX } else { 2000 });
    runner.run_many(options.seed.unwrap_or(1), runs, see).context("can't start a run")?;
    if shows_progress {
        writeln!(stderr())?;
    }
    writeln!(stdout(), "{total}\n{} s of real time", began.elapsed().as_secs())?;
    failures.sort_by_key(|report| report.seed);
    if options.keep_going {
        for report in &failures {
            for (rule, what) in &report.violations {
                writeln!(stdout(), "seed {}: {rule}: {what}", report.seed)?;
            }
        }
    } else if let Some(report) = failures.first() {
        explain(runner, report, options.shrink)?;
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints a run: its events, what it broke, and how to repeat it.
fn explain(runner: &Runner, report: &Report, shrinks: bool) -> anyhow::Result<()> {
    let is_shrunk = shrinks && !report.violations.is_empty();
    let report = if is_shrunk {
        let see = |shorter: &Report| {
            let _ = writeln!(stderr(), "{} events still break the rule", shorter.events.len());
        };
        &runner.shrink(report, see).context("can't start a run")?
    } else {
        report
    };
    let mut out = stdout();
    writeln!(out, "seed {}: {} events", report.seed, report.events.len())?;
    for (number, event) in &report.events {
        writeln!(out, "  {number:>3}  {event}")?;
    }
    print_verdict(report)?;
    if !report.violations.is_empty() {
        let only = if is_shrunk {
            let numbers: Vec<_> = report.events.iter().map(|(number, _)| number.to_string()).collect();
            format!(" --only {}", numbers.join(","))
        } else {
            String::new()
        };
        writeln!(out, "repeat it with all that happens:")?;
        writeln!(
            out,
            "  cargo run --release -p testkit --bin simulate -- --seed {}{only} --show",
            report.seed
        )?;
    }
    Ok(())
}

fn print_verdict(report: &Report) -> anyhow::Result<()> {
    let mut out = stdout();
    if report.violations.is_empty() {
        writeln!(out, "seed {}: every rule holds; digest {:016x}", report.seed, report.digest)?;
    }
    for (rule, what) in &report.violations {
        writeln!(out, "seed {} broke {rule}: {what}", report.seed)?;
    }
    Ok(())
}

fn verdict(report: &Report) -> ExitCode {
    if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
