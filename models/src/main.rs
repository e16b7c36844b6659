//! Explores every state that the operator's decisions can reach.
//!
//! The decisions (`src/lifecycle/`) and their model (`src/lifecycle/model/`) are compiled here a second time, with
//! optimizations, because an exploration takes minutes without them. So the operator's crate need not export them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]
// In a clippy run for tests, the decisions also include the model.
#![allow(clippy::duplicate_mod)]

use std::time::Instant;

use anyhow::Context;
use clap::{Parser, builder::PossibleValuesParser};
use servicekey_operator::api;

use self::model::{Life, explore};

#[allow(dead_code, unused_imports)]
#[path = "../../src/lifecycle/mod.rs"]
mod lifecycle;
#[allow(dead_code)]
#[path = "../../src/lifecycle/model/mod.rs"]
mod model;

/// Each exploration: its name, the kind of trouble, and the maximum number of faults, crashes, edits and hours.
const EXPLORATIONS: [(&str, Life, [u8; 4]); 16] = [
    ("plain", Life::Plain, [2, 1, 2, 1]),
    ("rotating", Life::Rotating, [1, 1, 1, 3]),
    ("rotating-edited-twice", Life::Rotating, [1, 0, 2, 3]),
    ("restarting", Life::Restarting, [1, 1, 1, 3]),
    ("proving", Life::Proving, [1, 1, 0, 4]),
    ("proving-edited", Life::Proving, [1, 0, 1, 3]),
    ("verifying", Life::Verifying, [1, 1, 1, 3]),
    ("following-parameters", Life::Following, [1, 1, 2, 2]),
    ("revoked-first", Life::RevokingFirst, [1, 1, 1, 3]),
    ("found-again", Life::FoundAgain, [2, 1, 2, 1]),
    ("lost", Life::Lost, [2, 1, 1, 1]),
    ("wavering-user", Life::Wavering, [1, 1, 3, 1]),
    ("forged-marks", Life::Forged, [1, 1, 2, 1]),
    ("forged-marks-and-found-again", Life::ForgedAndFound, [1, 1, 2, 1]),
    ("namespace-never-admitted", Life::Outsider, [0, 1, 4, 1]),
    ("status-from-backup", Life::RolledBack, [0, 1, 3, 1]),
];

/// Explores every state to which the operator's decisions can lead a ServiceKey, with a limited number of faults of the
/// remote side, crashes of the operator, edits by users, and hours that pass. Each state must keep the rules of the
/// design, and must come to rest in a healthy environment. Fails with the shortest path to a state that does not.
#[derive(Parser)]
struct Arguments {
    /// The explorations to run (default: all). Each takes between seconds and a minute.
    #[arg(value_parser = PossibleValuesParser::new(EXPLORATIONS.map(|(name, ..)| name)))]
    explorations: Vec<String>,
}

fn main() -> anyhow::Result<()> {
    let Arguments { explorations } = Arguments::parse();
    let all = EXPLORATIONS.map(|(name, ..)| name.to_owned());
    for chosen in if explorations.is_empty() { all.to_vec() } else { explorations } {
        let exploration = EXPLORATIONS.iter().find(|(name, ..)| *name == chosen);
        let (name, life, trouble) = *exploration.context("not one of the explorations")?;
        let began = Instant::now();
        let states = explore(life, trouble);
        println!("{name}: {states} states in {:.1?}, and no rule is broken", began.elapsed());
    }
    Ok(())
}
