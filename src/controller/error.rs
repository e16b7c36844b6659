//! Failures of the Kubernetes API during a reconcile.

use std::time::Duration;

use kube::core::Status;
use secrecy::SecretString;

use crate::{backend, runtime::words, secret::RenderError};

/// Longest duration of one request to the Kubernetes API, including the client's own retries.
const PATIENCE: Duration = Duration::from_secs(30);

/// A failure that ends a reconcile. The operator starts the reconcile again after a backoff; no state is lost.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The Kubernetes API answered with an error, or did not answer.
    #[error("the Kubernetes API could not {attempt}: {}", words(source.as_ref()))]
    Kube {
        attempt: &'static str,
        #[source]
        source: Box<kube::Error>,
    },
    /// The Kubernetes API did not answer in time.
    #[error("the Kubernetes API did not {attempt} within {} s", PATIENCE.as_secs())]
    Timeout { attempt: &'static str },
    /// Another writer changed the object in the meantime. That change triggers the next reconcile.
    #[error("the object changed meanwhile")]
    Outdated,
    /// The object lacks a field that the API server always sets.
    #[error("the object has no usable `{0}`")]
    Malformed(&'static str),
    /// The operator could not check the templates of the spec this time.
    #[error("`spec.secret` could not be checked: {0}")]
    Unchecked(#[source] RenderError),
    /// The decisions did not end in a wait: a bug in the operator.
    #[error("the reconcile did not end after {0} steps; please report this bug")]
    TooManySteps(usize),
}

/// Waits for a request to the Kubernetes API, at most [`PATIENCE`].
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
    /// The API server's answer, if it sent one.
    pub(super) fn status(&self) -> Option<&Status> {
        match self {
            Self::Kube { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status.as_ref()),
                _ => None,
            },
            _ => None,
        }
    }

    /// Maps a conflict on the object of the reconcile, or its deletion, to [`Error::Outdated`]. That change
    /// triggers the next reconcile, so the lost write is not a failure.
    pub(super) fn outdated(self) -> Self {
        if self.is(409) || self.is(404) { Self::Outdated } else { self }
    }

    /// Removes these secrets from the message. An admission webhook may quote them from the object that was
    /// written.
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
            | Self::TooManySteps(_)) => error,
        }
    }

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
        assert!(error.to_string().contains("has an unexpected form"), "{error}");
        assert!(!error.to_string().contains("hunter22"), "{error}");
    }
}
