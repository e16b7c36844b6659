//! The wait for the control plane, which takes minutes the first time: a spinner on terminals, plain lines elsewhere.

use std::{
    io::{IsTerminal, stderr},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use testkit::control_plane::{Progress, Step};

use crate::output;

const REDRAW: Duration = Duration::from_millis(100);

/// Tells what is being done. All clones are one.
#[derive(Clone)]
pub struct Waiting {
    what: &'static str,
    /// Nothing where nobody could see it.
    spinner: Option<ProgressBar>,
}

impl Waiting {
    /// Begins to tell that `what` is being done.
    pub fn begin(what: &'static str) -> Self {
        Self { what, spinner: stderr().is_terminal().then(|| spinner(what)) }
    }

    /// Nothing is waited for any more.
    pub fn end(&self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

fn spinner(what: &'static str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message(what);
    // The template is constant; were it wrong, there would be a spinner all the same.
    if let Ok(style) = ProgressStyle::with_template("   {spinner:.cyan} {msg} {elapsed:.dim}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(REDRAW);
    spinner
}

impl Progress for Waiting {
    fn step(&self, step: &Step) {
        let Some(spinner) = &self.spinner else {
            output::detail(step);
            return;
        };
        match step {
            // The spinner itself tells the time.
            Step::StillBuilding { .. } => {}
            Step::Built { .. } | Step::NoArchive { .. } | Step::Kept { .. } => {
                spinner.suspend(|| output::detail(step));
                spinner.set_message(self.what);
                spinner.reset_elapsed();
            }
            _ => {
                spinner.set_message(step.to_string());
                spinner.reset_elapsed();
            }
        }
    }
}
