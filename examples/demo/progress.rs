//! Shows the start of the control plane, which takes minutes the first time: by a spinner on a terminal, else by lines.

use std::{
    io::{IsTerminal, stderr},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use testkit::control_plane::{Progress, Step};

use crate::output;

const REDRAW: Duration = Duration::from_millis(100);

/// Shows the current step. Clones share the spinner.
#[derive(Clone)]
pub struct Waiting {
    what: &'static str,
    /// `None` if there is no terminal.
    spinner: Option<ProgressBar>,
}

impl Waiting {
    /// Shows `what` until [`Waiting::end`] is called.
    pub fn begin(what: &'static str) -> Self {
        Self { what, spinner: stderr().is_terminal().then(|| spinner(what)) }
    }

    pub fn end(&self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

fn spinner(what: &'static str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message(what);
    // If the template were invalid, the spinner would keep its default style.
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
            // The spinner already shows the elapsed time.
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
