//! Runs many seeds, each in a process of its own: only a fresh process has no chance left that the seed does not
//! determine.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use parking_lot::Mutex;

use super::{Report, Settings};

/// Runs seeds with a program that understands two kinds of arguments:
/// - `--definitions`: it prints the CustomResourceDefinitions as a JSON array,
/// - `--child --seed N [--only 1,2]`: it reads that array from its standard input, and prints a [`Report`].
///
/// So the definitions are derived from the Rust types once, and not for each run.
#[derive(Clone, Debug)]
pub struct Runner {
    program: PathBuf,
    variables: Vec<(String, String)>,
    definitions: OnceLock<Vec<u8>>,
}

impl Runner {
    /// A runner with this program.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), variables: Vec::new(), definitions: OnceLock::new() }
    }

    /// Sets an environment variable of each run.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The CustomResourceDefinitions of the program, as a JSON array.
    ///
    /// # Errors
    /// The program can't be started, or fails.
    pub fn definitions(&self) -> io::Result<&[u8]> {
        if let Some(definitions) = self.definitions.get() {
            return Ok(definitions);
        }
        let mut command = Command::new(&self.program);
        let output = command.arg("--definitions").stdin(Stdio::null()).output()?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            return Err(io::Error::other(format!("`--definitions`: {}: {errors}", output.status)));
        }
        Ok(self.definitions.get_or_init(|| output.stdout))
    }

    /// Runs one seed.
    ///
    /// # Errors
    /// The program can't be started.
    pub fn run(&self, settings: &Settings) -> io::Result<Report> {
        let mut command = Command::new(&self.program);
        command.args(["--child", "--seed", &settings.seed.to_string()]);
        // No request uses TLS, and each provider would read all root certificates of the system.
        for roots in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
            command.env(roots, "/dev/null");
        }
        if let Some(only) = &settings.only {
            let only: Vec<_> = only.iter().map(ToString::to_string).collect();
            command.args(["--only", &only.join(",")]);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let output = output_with_input(&mut command, self.definitions()?)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let report = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
        Ok(report.unwrap_or_else(|| {
            let errors = String::from_utf8_lossy(&output.stderr);
            let last: Vec<_> = errors.lines().rev().take(5).collect();
            let last: Vec<_> = last.into_iter().rev().collect();
            Report::broken_off(settings.seed, &format!("{}: {}", output.status, last.join(" | ")))
        }))
    }

    /// Runs seeds on all processors, from `first` on, until `see` returns false or `runs` have ended. It sees the
    /// reports in the order in which they arrive.
    ///
    /// # Errors
    /// The program can't be started.
    pub fn run_many(&self, first: u64, runs: u64, see: impl FnMut(Report) -> bool + Send) -> io::Result<()> {
        let (next, stop, see) = (AtomicU64::new(0), AtomicBool::new(false), Mutex::new(see));
        let work = || -> io::Result<()> {
            while !stop.load(Ordering::SeqCst) {
                let number = next.fetch_add(1, Ordering::SeqCst);
                if number >= runs {
                    break;
                }
                let report = self.run(&Settings { seed: first + number, ..Settings::default() });
                let goes_on = report.map(|report| (see.lock())(report));
                if !matches!(goes_on, Ok(true)) {
                    stop.store(true, Ordering::SeqCst);
                }
                goes_on?;
            }
            Ok(())
        };
        let processors = thread::available_parallelism()?.get();
        thread::scope(|scope| {
            let workers: Vec<_> = (0..processors).map(|_| scope.spawn(work)).collect();
            let ends = workers.into_iter().map(|worker| match worker.join() {
                Ok(end) => end,
                Err(_) => Err(io::Error::other("a worker of the runner panicked")),
            });
            ends.collect::<Vec<_>>().into_iter().collect()
        })
    }

    /// Leaves out events as long as the run still breaks the same rule. Returns the shortest report that it finds.
    ///
    /// # Errors
    /// The program can't be started.
    pub fn shrink(&self, report: &Report, mut see: impl FnMut(&Report)) -> io::Result<Report> {
        let mut best = report.clone();
        let mut part = best.events.len().div_ceil(2);
        while part > 0 {
            let mut start = 0;
            while start < best.events.len() {
                let kept = best.events.iter().enumerate();
                let kept = kept.filter(|(place, _)| !(start..start + part).contains(place));
                let only: BTreeSet<_> = kept.map(|(_, (number, _))| *number).collect();
                let shorter = self.run(&Settings { seed: best.seed, only: Some(only), is_shown: false })?;
                if shorter.broken_rule() == best.broken_rule() {
                    best = shorter;
                    see(&best);
                } else {
                    start += part;
                }
            }
            part /= 2;
        }
        Ok(best)
    }
}

/// Runs a program that reads its whole input before it prints anything.
fn output_with_input(command: &mut Command, input: &[u8]) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take()
        && let Err(error) = stdin.write_all(input)
        // A program that ended before has printed why.
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return Err(error);
    }
    child.wait_with_output()
}
