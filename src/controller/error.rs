//! Failures of the Kubernetes API during a reconcile.

use std::time::Duration;

use kube::core::Status;

/// How long one request to the Kubernetes API may take, with the client's own retries.
const PATIENCE: Duration = Duration::from_secs(30);

/// What kept a reconcile from going on. It begins again after a backoff; nothing is lost.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Kubernetes API answered with an error, or not at all.
    #[error("the Kubernetes API could not {attempt}: {source}")]
    Kube {
        /// What was tried.
        attempt: &'static str,
        /// What came back.
        #[source]
        source: Box<kube::Error>,
    },
    /// The Kubernetes API did not answer in time.
    #[error("the Kubernetes API did not {attempt} within {} s", PATIENCE.as_secs())]
    Timeout {
        /// What was tried.
        attempt: &'static str,
    },
    /// Somebody wrote the object in between; the change wakes us again.
    #[error("the object changed meanwhile")]
    Outdated,
    /// An object that the API server would never store.
    #[error("the object has no usable `{0}`")]
    Malformed(&'static str),
    /// The decisions led nowhere: a mistake in the operator.
    #[error("no rest after {0} steps; please report this")]
    Restless(usize),
}

/// Waits for the Kubernetes API, but not for ever.
pub async fn bounded<T>(
    attempt: &'static str,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, Error> {
    match tokio::time::timeout(PATIENCE, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(Error::Kube { attempt, source: Box::new(source) }),
        Err(_) => Err(Error::Timeout { attempt }),
    }
}

impl Error {
    /// The API server's answer, where there was one.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Kube { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status.as_ref()),
                _ => None,
            },
            _ => None,
        }
    }

    /// The failure of a write of an object that the reconcile is about: one that came too late is no failure, for the
    /// change that was faster wakes us.
    pub fn outdated(self) -> Self {
        if self.is(409) || self.is(404) { Self::Outdated } else { self }
    }

    /// Whether the API server answered with this HTTP status.
    pub fn is(&self, code: u16) -> bool {
        self.status().is_some_and(|status| status.code == code)
    }
}
