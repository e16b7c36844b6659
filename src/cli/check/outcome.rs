//! The outcomes of the checks, and their output.

use anstream::println;
use owo_colors::OwoColorize;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CheckOutcome {
    Passed(String),
    /// The operator works for now, but the user should know this.
    Note(String),
    Failed(String),
}

/// Prints one line per outcome, with colours only on a terminal.
pub(super) fn print(outcomes: &[CheckOutcome]) {
    for outcome in outcomes {
        match outcome {
            CheckOutcome::Passed(what) => println!("{}      {what}", "ok".green()),
            CheckOutcome::Note(what) => println!("{}    {what}", "note".yellow()),
            CheckOutcome::Failed(what) => println!("{}  {what}", "failed".red()),
        }
    }
}
