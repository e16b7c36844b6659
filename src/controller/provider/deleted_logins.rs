//! Login Secrets that were deleted while a provider names them, and that something holds back.

use std::time::Duration;

use jiff::Timestamp;

use super::load::AuthSecrets;
use crate::{
    api::Reason,
    lifecycle::{LONGEST_UNEXPLAINED_HOLD, Problem},
};

/// The deleted Secrets among those that a provider names.
pub(super) struct DeletedLogins {
    names: Vec<String>,
    next_look: Option<Duration>,
}

impl DeletedLogins {
    /// Those of these Secrets that are being deleted.
    pub(super) fn new(logins: &AuthSecrets, now: Timestamp) -> Self {
        let deleted = logins
            .metadata()
            .filter_map(|(name, meta)| Some((name.to_owned(), meta.deletion_timestamp.as_ref()?.0)));
        let (names, times): (Vec<_>, Vec<_>) = deleted.unzip();
        let longest = Duration::try_from(LONGEST_UNEXPLAINED_HOLD).unwrap_or_default();
        let left = |at: Timestamp| {
            let left =
                Duration::try_from(LONGEST_UNEXPLAINED_HOLD - now.duration_since(at)).unwrap_or_default();
            // What holds the Secret longer than that is looked at again as rarely.
            if left.is_zero() { longest } else { left.min(longest) }
        };
        Self { names, next_look: times.into_iter().map(left).min() }
    }

    /// How soon it is to be decided again whether they are held.
    pub(super) fn next_look(&self) -> Option<Duration> {
        self.next_look
    }

    /// What to tell the user of them.
    pub(super) fn problem(&self) -> Option<Problem> {
        let names: Vec<_> = self.names.iter().map(|name| format!("`{name}`")).collect();
        (!names.is_empty()).then(|| Problem {
            reason: Reason::LoginSecretDeleted,
            message: format!(
                "the login Secret {} was deleted and is held by its finalizers; the operator releases it {} s after the \
                 deletion, unless the namespace, this provider or a ServiceKey that names it is being deleted; create \
                 it again after that",
                names.join(", "),
                LONGEST_UNEXPLAINED_HOLD.as_secs()
            ),
        })
    }
}
