//! The `servicekey-operator` command.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use servicekey_operator::cli::Cli;

fn main() -> ExitCode {
    match Cli::of_process().and_then(Cli::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If even this can't be written, the exit code still reports the failure.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
