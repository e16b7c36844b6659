//! A running broker.

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

/// The broker prints its address after this text once it listens.
const ADDRESS: &str = "listening on ";

/// Installed once for all tests of this process, even if many begin at once.
static PYTHON: OnceCell<PathBuf> = OnceCell::const_new();
static GO_BROKER: OnceCell<PathBuf> = OnceCell::const_new();

/// A running broker; dropping it ends its process.
///
/// It has the one instance `training-app-db` and two offerings. The bindings of `database` (plans `small` and `brief`)
/// can be read again; `brief` limits operations to 5 seconds. The bindings of `metrics` (plan `basic`) can't be read
/// again. The parameter `role` is optional: `reader` or `writer`.
///
/// If it works in the background, the second poll finds an operation done, unless the test [delays](Self::hold) it.
// Rust drops the fields in this order, and the parts must stop in this order.
pub struct LibraryBroker {
    _process: Process,
    _scratch: Scratch,
    url: String,
    client: reqwest::Client,
}

impl LibraryBroker {
    /// Starts a broker that admits this user. Installs its library first if necessary.
    ///
    /// # Errors
    /// [`Error`] names what is missing, or contains the end of the log of the failure.
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
        // The client needs it even for plain http.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
        Ok(Self { _process: process, _scratch: scratch, url, client })
    }

    /// The base URL, without a trailing slash.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The state of the broker.
    ///
    /// # Errors
    /// The broker does not answer.
    pub async fn state(&self) -> Result<State, Error> {
        let answer = self.client.get(format!("{}/testing", self.url)).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// Waits until the state meets the condition. It polls, because the broker is a separate process.
    ///
    /// # Errors
    /// The broker does not answer, or the state does not meet the condition in time.
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

    /// Keeps current and later operations from completing.
    ///
    /// # Errors
    /// The broker does not answer.
    pub async fn hold(&self) -> Result<(), Error> {
        self.order("hold").await
    }

    /// Completes all current operations without a poll, and no longer delays later ones.
    ///
    /// # Errors
    /// The broker does not answer.
    pub async fn release(&self) -> Result<(), Error> {
        self.order("release").await
    }

    async fn order(&self, order: &str) -> Result<(), Error> {
        let answer = self.client.post(format!("{}/testing/{order}", self.url)).send().await?;
        answer.error_for_status()?;
        Ok(())
    }
}

/// The address in a log, if its line is complete.
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
