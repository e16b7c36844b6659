//! Plants bugs in a copy of the operator, and counts the seeds until the simulation finds each of them.

use std::{
    env,
    io::{IsTerminal, Write, stderr, stdout},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context, ensure};
use clap::Parser;
use testkit::simulation::{
    Report, Runner, Settings,
    planted::{PlantedBug, SWITCH, copy_sources},
};

/// Measure what the simulation finds: plant bugs in a copy of the operator, and simulate it until a rule breaks
///
/// Each file in testkit/planted describes one bug: its title, the rules that it breaks, and the expressions that it
/// replaces in src. This program copies the sources to target/planted/source, replaces these expressions by ones that
/// check a switch, and builds `simulate` there once. Without a switch, the first seeds must break no rule. With the
/// switch of a bug, a seed must break one of the bug's rules, and break no rule without the switch.
///
/// The exit code is 1 if a bug was not found, or if the copy breaks a rule without a bug.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  plant
  plant --list
  plant key-storm forged-id --runs 500

To see how a bug breaks a rule, run the copy yourself:
  SIMULATION_PLANTED=key-storm target/planted/target/simulation/simulate --seed 7 --shrink")]
struct Options {
    /// The bugs to search for; without a name all of them
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// Give a bug up after this many seeds
    #[arg(long, value_name = "N", default_value_t = 5000)]
    runs: u64,

    /// Run this many seeds without a bug first
    #[arg(long, value_name = "N", default_value_t = 200)]
    control: u64,

    /// Build the copy with this profile of Cargo.toml: `simulation` runs faster, `dev` builds faster
    #[arg(long, value_name = "PROFILE", default_value = "simulation")]
    profile: String,

    /// List the bugs and the rules that they break, and run nothing
    #[arg(long)]
    list: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    let testkit = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = testkit.parent().context("the test kit is not in a workspace")?;
    let bugs = PlantedBug::read_all(&testkit.join("planted"))?;
    for name in &options.names {
        ensure!(
            bugs.iter().any(|bug| bug.name == *name),
            "no planted bug `{name}`; `plant --list` shows all"
        );
    }
    let is_wanted = |bug: &&PlantedBug| options.names.is_empty() || options.names.contains(&bug.name);
    if options.list {
        for PlantedBug { name, title, rules, places: _ } in bugs.iter().filter(is_wanted) {
            let rules: Vec<_> = rules.iter().map(String::as_str).collect();
            writeln!(stdout(), "{name}: {title} ({})", rules.join(", "))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    // The copy contains all bugs, so that another selection needs no other build.
    let program = build(workspace, &bugs, &options.profile)?;
    if let Some(report) = first_failure(&Runner::new(&program), None, options.control)? {
        writeln!(stdout(), "without a planted bug, {}", describe(&report))?;
        return Ok(ExitCode::FAILURE);
    }
    writeln!(stdout(), "without a planted bug, {} seeds break no rule\n", options.control)?;
    writeln!(stdout(), "| planted bug | what goes wrong | rule that broke | seeds |")?;
    writeln!(stdout(), "| --- | --- | --- | --- |")?;
    let mut all_found = true;
    for bug in bugs.iter().filter(is_wanted) {
        all_found &= search(bug, &program, options.runs)?;
    }
    Ok(if all_found { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Searches for a bug, and prints its row of the table. Returns whether it was found.
fn search(bug: &PlantedBug, program: &Path, runs: u64) -> anyhow::Result<bool> {
    let began = Instant::now();
    let runner = Runner::new(program).with_variable(SWITCH, &bug.name);
    let report = first_failure(&runner, Some(&Runner::new(program)), runs)?;
    let rule = report.as_ref().and_then(Report::broken_rule);
    let is_found = rule.is_some_and(|rule| bug.rules.contains(rule));
    let (rule, seeds) = match &report {
        Some(report) if is_found => (rule.unwrap_or_default().to_owned(), report.seed.to_string()),
        Some(report) => (format!("unexpected: {}", describe(report)), report.seed.to_string()),
        None => ("none".to_owned(), format!("not within {runs}")),
    };
    writeln!(stdout(), "| `{}` | {} | {rule} | {seeds} |", bug.name, bug.title)?;
    if stderr().is_terminal() {
        let what = report.as_ref().map(describe).unwrap_or_default();
        writeln!(stderr(), "{} s; {what}", began.elapsed().as_secs())?;
    }
    Ok(is_found)
}

/// The report of the first seed that breaks a rule with the bug, and none with the runner `without` it. Each seed before
/// it has been run.
fn first_failure(runner: &Runner, without: Option<&Runner>, runs: u64) -> anyhow::Result<Option<Report>> {
    let mut first: Option<Report> = None;
    let is_innocent = |seed| {
        let settings = Settings { seed, ..Settings::default() };
        without
            .is_some_and(|without| without.run(&settings).is_ok_and(|report| !report.violations.is_empty()))
    };
    let see = |report: Report| {
        let is_earlier = first.as_ref().is_none_or(|first| report.seed < first.seed);
        if !report.violations.is_empty() && is_earlier && !is_innocent(report.seed) {
            first = Some(report);
        }
        first.is_none()
    };
    runner.run_many(1, runs, see).context("can't start a run")?;
    Ok(first)
}

fn describe(report: &Report) -> String {
    let broken = report.violations.first();
    let (rule, what) = broken.map_or(("no rule", ""), |(rule, what)| (rule.as_str(), what.as_str()));
    format!("seed {} broke {rule}: {what}", report.seed)
}

/// Copies the sources with all bugs, and builds the simulation there. Returns the path of the program.
fn build(workspace: &Path, bugs: &[PlantedBug], profile: &str) -> anyhow::Result<PathBuf> {
    let folder = workspace.join("target/planted");
    let (source, target) = (folder.join("source"), folder.join("target"));
    copy_sources(workspace, &source, bugs)?;
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&source).args(["build", "--locked", "-p", "testkit", "--bin", "simulate"]);
    // Most builds follow a small change of one bug.
    cargo.args(["--profile", profile]).env("CARGO_TARGET_DIR", &target).env("CARGO_INCREMENTAL", "1");
    let status = cargo.status().context("can't run cargo")?;
    ensure!(status.success(), "the copy with the planted bugs in `{}` does not build", source.display());
    Ok(target.join(if profile == "dev" { "debug" } else { profile }).join("simulate"))
}
