//! A broker that runs.

use std::{ffi::OsString, fs, path::PathBuf, sync::Arc};

use tokio::{
    sync::OnceCell,
    time::{Instant, sleep},
};

use super::{Error, Kind, State, kind::Language, sources::Sources};
use crate::{
    FileError, Progress, Stderr,
    process::{LOOK, Process},
    scratch::Scratch,
    wait::{PATIENCE, WaitError},
};

const BROKER_PY: &str = include_str!("../../brokers/python/broker.py");

/// What a broker prints once it listens, before its address.
const ADDRESS: &str = "listening on ";

/// Prepared once for all tests of this process, however many begin at once.
static PYTHON: OnceCell<PathBuf> = OnceCell::const_new();
static GO_BROKER: OnceCell<PathBuf> = OnceCell::const_new();

/// A running broker; dropping it ends its process.
///
/// It has the one instance `training-app-db`, and the offerings `database` (plans `small` and `brief`, of which the
/// latter lets operations take 5 seconds), whose bindings can be read again, and `metrics` (plan `basic`), whose
/// bindings can't. The parameter `role` is `reader` or `writer` where it is given.
///
/// Where it works in the background, the second look at an operation finds it done, unless it is [held](Self::hold).
// The fields are dropped in this order, which is the order to stop in.
pub struct LibraryBroker {
    _process: Process,
    _scratch: Scratch,
    url: String,
    client: reqwest::Client,
}

impl LibraryBroker {
    /// Starts a broker that admits this user. Its library is installed first, where it is not yet.
    ///
    /// # Errors
    /// [`Error`] says what is missing, or holds the end of the log of what failed.
    pub async fn start(kind: Kind, username: &str, password: &str) -> Result<Self, Error> {
        let progress: Arc<dyn Progress> = Arc::new(Stderr);
        let scratch = Scratch::new("the broker", Arc::clone(&progress))?;
        let sources = Sources::from_environment(progress)?;
        let (name, program, mut arguments) = match kind.language() {
            Language::Python => {
                let script = scratch.path().join("broker.py");
                fs::write(&script, BROKER_PY).map_err(FileError::of("write", &script))?;
                let python = PYTHON.get_or_try_init(|| sources.python()).await?;
                ("openbrokerapi", python, vec!["-I".into(), script.into_os_string()])
            }
            Language::Go => {
                ("brokerapi", GO_BROKER.get_or_try_init(|| sources.go_broker()).await?, Vec::new())
            }
        };
        let login = ["--username", username, "--password", password];
        arguments.extend(kind.flags().iter().copied().chain(login).map(OsString::from));
        let log = scratch.path().join("broker.log");
        let mut process = Process::start(name, program, &arguments, log)?;
        let url = process.until_logged(address).await?;
        // The client needs it even where it speaks plain http.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
        Ok(Self { _process: process, _scratch: scratch, url, client })
    }

    /// The base address, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How it is.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn state(&self) -> Result<State, Error> {
        let answer = self.client.get(format!("{}/testing", self.url)).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// Waits until it is as the condition says. It can only be asked: it is a process of its own.
    ///
    /// # Errors
    /// It does not answer, or that did not come about in time.
    pub async fn wait_until(&self, what: &str, holds: impl Fn(&State) -> bool) -> Result<State, WaitError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let state = self.state().await;
            match &state {
                Ok(state) if holds(state) => return Ok(state.clone()),
                _ if Instant::now() < deadline => sleep(LOOK).await,
                seen => return Err(WaitError::new(format!("the broker never was {what}; it is {seen:#?}"))),
            }
        }
    }

    /// Keeps what is under way, and what is begun from now on, from being done.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn hold(&self) -> Result<(), Error> {
        self.order("hold").await
    }

    /// Finishes all that is under way by itself, not because somebody looks, and holds back nothing any more.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn release(&self) -> Result<(), Error> {
        self.order("release").await
    }

    async fn order(&self, order: &str) -> Result<(), Error> {
        let answer = self.client.post(format!("{}/testing/{order}", self.url)).send().await?;
        answer.error_for_status()?;
        Ok(())
    }
}

/// The address in a log, once its line is complete.
fn address(log: &str) -> Option<String> {
    let complete = &log[..log.rfind('\n')?];
    complete.lines().find_map(|line| line.strip_prefix(ADDRESS)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_when_its_line_is_complete() {
        assert_eq!(address("starting\nlistening on http://127.0.0.1:80"), None);
        let log = "starting\nlistening on http://127.0.0.1:8080\nGET";
        assert_eq!(address(log).as_deref(), Some("http://127.0.0.1:8080"));
    }
}
