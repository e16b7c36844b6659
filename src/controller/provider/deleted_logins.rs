//! Login Secrets that were deleted, that a provider still names, and whose finalizers block the deletion.

use std::time::Duration;

use jiff::Timestamp;

use super::load::AuthSecrets;
use crate::{
    api::Reason,
    lifecycle::{LONGEST_UNEXPLAINED_PROTECTION, Problem},
};

/// The Secrets that a provider names and that are being deleted.
pub(super) struct DeletedLogins {
    names: Vec<String>,
    next_look: Option<Duration>,
}

impl DeletedLogins {
    /// Selects the Secrets that are being deleted.
    pub(super) fn new(logins: &AuthSecrets, now: Timestamp) -> Self {
        let deleted = logins
            .metadata()
            .filter_map(|(name, meta)| Some((name.to_owned(), meta.deletion_timestamp.as_ref()?.0)));
        let (names, times): (Vec<_>, Vec<_>) = deleted.unzip();
        let longest = Duration::try_from(LONGEST_UNEXPLAINED_PROTECTION).unwrap_or_default();
        let left = |at: Timestamp| {
            let left = Duration::try_from(LONGEST_UNEXPLAINED_PROTECTION - now.duration_since(at))
                .unwrap_or_default();
            // If another finalizer blocks the Secret for longer, the next checks are equally rare.
            if left.is_zero() { longest } else { left.min(longest) }
        };
        Self { names, next_look: times.into_iter().map(left).min() }
    }

    /// The wait until the operator decides again whether to protect these Secrets.
    pub(super) fn next_look(&self) -> Option<Duration> {
        self.next_look
    }

    /// The problem to report to the user.
    pub(super) fn problem(&self) -> Option<Problem> {
        let names: Vec<_> = self.names.iter().map(|name| format!("`{name}`")).collect();
        (!names.is_empty()).then(|| Problem {
            reason: Reason::LoginSecretDeleted,
            message: format!(
                "the login Secret {} was deleted, but its finalizers block the deletion; the operator releases it {} s \
                 after the deletion, unless the namespace, this provider or a ServiceKey that names it is being \
                 deleted; create the Secret again after that",
                names.join(", "),
                LONGEST_UNEXPLAINED_PROTECTION.as_secs()
            ),
        })
    }
}
