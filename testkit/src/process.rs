//! A server process that can't outlive this one.
//!
//! Each server is the child of a small shell whose stdin is a pipe from this process. This process never writes to it.
//! When this process ends, also by SIGKILL, the kernel closes the pipe. The shell reads the end and kills the server.
//! The handles are those of `std`: the runtimes of many tests use a shared plane, and it must not depend on any of
//! them.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::FileError;

/// Runs the command until it ends or stdin ends, and exits with its status. The first argument is the signal that ends
/// it; the others are the command.
const SUPERVISOR: &str = r#"
signal=$1; shift
exec 3<&0
"$@" 3<&- </dev/null & server=$!
{ read -r _ <&3; kill -s "$signal" "$server"; } 2>/dev/null & watch=$!
exec 3<&-
wait "$server"; status=$?
kill "$watch" 2>/dev/null
exit "$status"
"#;

/// The number of a log's last lines in an error.
const TAIL_LINES: usize = 20;
/// The time limit for a server to become ready, in seconds.
pub(crate) const START_SECONDS: u64 = 60;
/// The time between two checks of a server that is starting.
pub(crate) const LOOK: Duration = Duration::from_millis(50);

/// The reason why a server can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// An operation on a file or the process failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A server ended before it was ready.
    #[error("`{server}` ended with {status} before it was ready; its log ends with:\n{log}")]
    Ended {
        /// The server.
        server: &'static str,
        /// The exit status.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// A server did not become ready in time.
    #[error("`{server}` was not ready after {seconds} s; its log ends with:\n{log}")]
    NotReady {
        /// The server.
        server: &'static str,
        /// The time limit, in seconds.
        seconds: u64,
        /// The end of its log.
        log: String,
    },
}

impl ProcessError {
    /// Whether the server lost the race for its port, so that another port may work.
    pub(crate) fn is_port_taken(&self) -> bool {
        matches!(self, Self::Ended { log, .. } if log.to_lowercase().contains("address already in use"))
    }
}

/// The account of a server, and the signal that ends it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// The account that runs this process, unless another is named. Only root can name another.
    pub(crate) account: Option<Account>,
    /// The signal, without `SIG`.
    pub(crate) end: &'static str,
}

impl Manner {
    /// The server runs as this process's own user, and SIGKILL ends it. Its data are deleted, so a gentler signal has
    /// no advantage: open connections would delay it.
    pub(crate) const DEFAULT: Self = Self { account: None, end: "KILL" };
}

/// An account of this machine, by its numeric ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

impl Account {
    /// Runs a command as this account, in a folder that every account can enter.
    pub(crate) fn run(self, command: &mut Command) {
        command.uid(self.user).gid(self.group).current_dir("/");
    }
}

/// A running server; dropping it ends the server and waits for its end.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    log: PathBuf,
    supervisor: Child,
}

impl Process {
    /// Starts `program`, with stdout and stderr appended to `log`.
    pub(crate) fn start(
        name: &'static str,
        program: &Path,
        arguments: &[OsString],
        log: PathBuf,
    ) -> Result<Self, ProcessError> {
        Self::start_in(Manner::DEFAULT, name, program, arguments, log)
    }

    /// Starts `program` with another account or signal.
    pub(crate) fn start_in(
        Manner { account, end }: Manner,
        name: &'static str,
        program: &Path,
        arguments: &[OsString],
        log: PathBuf,
    ) -> Result<Self, ProcessError> {
        let output =
            File::options().create(true).append(true).open(&log).map_err(FileError::of("create", &log))?;
        let errors = output.try_clone().map_err(FileError::of("share", &log))?;
        let mut command = Command::new("sh");
        if let Some(account) = account {
            account.run(&mut command);
        }
        let supervisor = command
            .args(["-c", SUPERVISOR, name, end].map(OsStr::new))
            .arg(program)
            .args(arguments)
            // Ctrl-C in the terminal must reach only this process: the shells notice the closed pipe.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(FileError::of("start", program))?;
        Ok(Self { name, log, supervisor })
    }

    /// The error if the server has ended, which it never should without a signal.
    pub(crate) fn check(&mut self) -> Result<(), ProcessError> {
        match self.supervisor.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.ended(status)),
            Err(error) => Err(FileError::of("wait for", self.name)(error).into()),
        }
    }

    /// Waits until the log contains a match.
    pub(crate) async fn until_logged<T>(
        &mut self,
        find: impl Fn(&str) -> Option<T>,
    ) -> Result<T, ProcessError> {
        let deadline = Instant::now() + Duration::from_secs(START_SECONDS);
        while Instant::now() < deadline {
            self.check()?;
            if let Some(found) = find(&self.log()) {
                return Ok(found);
            }
            sleep(LOOK).await;
        }
        Err(self.not_ready())
    }

    fn ended(&self, status: ExitStatus) -> ProcessError {
        ProcessError::Ended { server: self.name, status, log: self.log_tail() }
    }

    /// The error of a server that did not become ready in time.
    pub(crate) fn not_ready(&self) -> ProcessError {
        ProcessError::NotReady { server: self.name, seconds: START_SECONDS, log: self.log_tail() }
    }

    /// The server's output so far.
    pub(crate) fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn log_tail(&self) -> String {
        tail(&self.log())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        // It fails only if the supervisor has already ended.
        let _ = self.supervisor.wait();
    }
}

/// The last lines of a process's output.
pub(crate) fn tail(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, folder: &Path) -> Process {
        let arguments = ["-c".into(), script.into()];
        Process::start("test", Path::new("sh"), &arguments, folder.join("log")).unwrap()
    }

    #[test]
    fn an_ended_server_is_noticed_with_its_status_and_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = sh("echo last words; exit 3", folder.path());
        let deadline = Instant::now() + Duration::from_secs(10);
        let error = loop {
            if let Err(error) = process.check() {
                break error;
            }
            assert!(Instant::now() < deadline, "the end went unnoticed");
            std::thread::yield_now();
        };
        let ProcessError::Ended { status, log, .. } = error else {
            panic!("{error}");
        };
        assert_eq!((status.code(), log.as_str()), (Some(3), "last words"));
    }

    #[test]
    fn dropping_kills_a_server_that_ignores_gentle_signals() {
        let folder = tempfile::tempdir().unwrap();
        let began = Instant::now();
        let mut process = sh("trap '' TERM HUP; exec sleep 60", folder.path());
        process.check().unwrap();
        drop(process);
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}
