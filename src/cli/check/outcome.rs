//! What the checks found, for people.

use anstream::println;
use owo_colors::OwoColorize;

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CheckOutcome {
    Well(String),
    /// All is well for now, but somebody should know.
    Odd(String),
    Wrong(String),
}

/// Prints one line for each, with colours only on a terminal.
pub(super) fn print(outcomes: &[CheckOutcome]) {
    for outcome in outcomes {
        match outcome {
            CheckOutcome::Well(what) => println!("{}      {what}", "ok".green()),
            CheckOutcome::Odd(what) => println!("{}    {what}", "note".yellow()),
            CheckOutcome::Wrong(what) => println!("{}  {what}", "failed".red()),
        }
    }
}
