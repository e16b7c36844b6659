//! The simulation of the whole operator: many seeds, and each seed twice the same.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use testkit::simulation::{Runner, Settings, Total};

/// The seeds of this test. A failure names the seed and what it broke; `simulate --seed N --shrink` explains it.
const RUNS: u64 = 2000;

/// The folder of the programs with optimizations: without them each run takes ten times as long. The build is that of
/// `cargo build --profile simulation -p testkit --bin simulate --bin year`.
static PROGRAMS: LazyLock<PathBuf> = LazyLock::new(|| {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--profile", "simulation", "-p", "testkit", "--bin", "simulate", "--bin", "year"]);
    assert!(build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
    // Cargo puts each profile into a folder of its own.
    let target = Path::new(env!("CARGO_BIN_EXE_simulate")).ancestors().nth(2).unwrap();
    target.join("simulation")
});

#[test]
fn every_rule_holds_in_every_run() {
    let (mut total, mut broken) = (Total::default(), Vec::new());
    Runner::new(PROGRAMS.join("simulate"))
        .run_many(1, RUNS, |report| {
            total.add(&report);
            let violations = report.violations.iter();
            broken.extend(violations.map(|(rule, what)| (report.seed, rule.clone(), what.clone())));
            broken.is_empty()
        })
        .unwrap();
    assert!(broken.is_empty(), "{broken:#?}; run `simulate --seed {} --shrink`", broken[0].0);
    assert_eq!(total.runs, RUNS);
    // A world in which nothing happens would prove nothing.
    let happened = total.happened;
    assert!(happened.crashes > RUNS / 4, "{total}");
    assert!(happened.mishaps > 10 * RUNS, "{total}");
    assert!(total.created > 3 * RUNS && total.revoked > RUNS, "{total}");
}

#[test]
fn a_run_is_the_same_again() {
    let runner = Runner::new(PROGRAMS.join("simulate"));
    for seed in 1..=20 {
        let settings = Settings { seed, ..Settings::default() };
        let [first, second] = [(); 2].map(|()| runner.run(&settings).unwrap());
        assert_eq!(first, second, "seed {seed}");
    }
}

/// Outages last up to two days, and the certificates a week.
#[test]
fn no_certificate_ends_in_a_secret_within_a_year() {
    let year = Command::new(PROGRAMS.join("year")).args(["--keys", "100"]).output().unwrap();
    let shown = String::from_utf8_lossy(&year.stdout);
    assert!(year.status.success() && shown.contains("0 failures"), "{shown}");
    // A year without rotations or outages would prove nothing.
    let number_before = |words: &str| -> u64 {
        let before = shown.split(words).next().unwrap();
        before.rsplit(|character: char| !character.is_ascii_digit()).next().unwrap().parse().unwrap()
    };
    assert!(number_before(" keys were created") > 5000, "{shown}");
    assert!(number_before(" outages") > 20 && number_before(" crashes") > 50, "{shown}");
}
