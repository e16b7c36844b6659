//! Failures of the Kubernetes API during a reconcile.

use std::time::Duration;

use kube::core::Status;
use secrecy::SecretString;

use crate::{backend, runtime::words, secret::RenderError};

/// How long one request to the Kubernetes API may take, with the client's own retries.
const PATIENCE: Duration = Duration::from_secs(30);

/// What kept a reconcile from going on. It begins again after a backoff; nothing is lost.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The Kubernetes API answered with an error, or not at all.
    #[error("the Kubernetes API could not {attempt}: {}", words(source.as_ref()))]
    Kube {
        attempt: &'static str,
        #[source]
        source: Box<kube::Error>,
    },
    /// The Kubernetes API did not answer in time.
    #[error("the Kubernetes API did not {attempt} within {} s", PATIENCE.as_secs())]
    Timeout { attempt: &'static str },
    /// Somebody wrote the object in between; the change wakes us again.
    #[error("the object changed meanwhile")]
    Outdated,
    /// An object that the API server would never store.
    #[error("the object has no usable `{0}`")]
    Malformed(&'static str),
    /// The templates of the spec could not be checked this time.
    #[error("`spec.secret` could not be checked: {0}")]
    Unchecked(#[source] RenderError),
    /// The decisions led nowhere: a mistake in the operator.
    #[error("no rest after {0} steps; please report this")]
    Restless(usize),
}

/// Waits for the Kubernetes API, but not for ever.
pub(super) async fn bounded<T>(
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
    pub(super) fn status(&self) -> Option<&Status> {
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
    pub(super) fn outdated(self) -> Self {
        if self.is(409) || self.is(404) { Self::Outdated } else { self }
    }

    /// The same without these secrets, which an admission webhook may repeat from the object that was written.
    pub(super) fn hiding(self, secrets: impl IntoIterator<Item = SecretString>) -> Self {
        match self {
            Self::Kube { attempt, source } => match *source {
                kube::Error::Api(mut status) => {
                    status.message = backend::without_secrets(&status.message, secrets);
                    status.details = None;
                    Self::Kube { attempt, source: Box::new(kube::Error::Api(status)) }
                }
                other => Self::Kube { attempt, source: Box::new(other) },
            },
            error @ (Self::Timeout { .. }
            | Self::Outdated
            | Self::Malformed(_)
            | Self::Unchecked(_)
            | Self::Restless(_)) => error,
        }
    }

    /// Whether the API server answered with this HTTP status.
    pub(super) fn is(&self, code: u16) -> bool {
        self.status().is_some_and(|status| status.code == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_repeats_no_secret() {
        let message = "denied: {\\\"password\\\": hunter22} and aHVudGVyMjI= and %68unter22";
        let status = Status::failure(message, "Invalid").with_code(422);
        let error =
            Error::Kube { attempt: "create the Secret", source: Box::new(kube::Error::Api(status.boxed())) };
        assert!(error.to_string().contains("hunter22"), "there would be nothing to hide: {error}");
        let hidden = error.hiding(["hunter22".into()]);
        assert!(hidden.is(422));
        let said = format!("{hidden} {hidden:?}");
        for secret in ["hunter22", "aHVudGVyMjI", "unter22"] {
            assert!(!said.contains(secret), "{said}");
        }
    }

    #[test]
    fn an_answer_of_an_unexpected_form_is_not_quoted() {
        let refused = serde_json::from_str::<Status>(r#"{"message": {"a": "hunter22"}}"#).unwrap_err();
        let error = Error::Kube { attempt: "read", source: Box::new(kube::Error::SerdeError(refused)) };
        assert!(error.to_string().contains("does not have the expected form"), "{error}");
        assert!(!error.to_string().contains("hunter22"), "{error}");
    }
}
