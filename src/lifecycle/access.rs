//! Whether the remote side can be called on behalf of a ServiceKey, and the desired state from its spec.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    Allowance, Desired, GracePeriod, Inputs, Problem, ProviderView, RotationPolicy, VerificationPolicy,
    Windows,
};
use crate::api::{Adoption, DeletionPolicy, PreviousCredentials, Reason, RotationStrategy, ServiceKeySpec};

/// A ServiceKey's access to its provider, apart from the limit on the number of ServiceKeys.
#[derive(Clone, Debug)]
pub(crate) struct KeyAccess<'a> {
    /// The provider's kind and name for messages.
    pub provider: &'a str,
    /// The state of the provider for the namespace; `None` if the provider does not exist.
    pub view: Option<ProviderView>,
    /// Whether the operator serves providers of this kind.
    pub is_served: bool,
    /// Why the keys of the former ServiceKey do not belong to the one at hand.
    pub inheritance: Option<Problem>,
    /// Whether the spec has fields that apply only to keys with roles.
    pub asks_for_role: bool,
    /// Whether the provider's keys have roles, or the provider can't be called.
    pub has_roles: bool,
    /// Whether the first key may be one that another tool created.
    pub asks_for_adoption: bool,
    /// Whether keys of the provider can be adopted, or the provider can't be called.
    pub adopts_keys: bool,
    /// The first field of the spec whose value the provider does not permit the namespace.
    pub not_permitted: Option<Problem>,
}

impl KeyAccess<'_> {
    /// The provider as the decisions see it. A namespace that is not admitted gets no other information about it.
    #[must_use]
    pub(crate) fn view(self) -> ProviderView {
        let Self { provider, view, is_served, inheritance, .. } = &self;
        let Some(view) = view.clone() else {
            return ProviderView::Unavailable(Problem {
                reason: Reason::ProviderNotFound,
                message: if *is_served {
                    format!("{provider} does not exist; create it")
                } else {
                    format!(
                        "{provider} can't be used: this operator serves single namespaces; use a KeyProvider"
                    )
                },
            });
        };
        match (view, inheritance) {
            // The keys may belong to another ServiceKey, so no call may affect them.
            (ProviderView::Available, Some(problem)) => ProviderView::Unavailable(problem.clone()),
            (ProviderView::Closed(problem), Some(_)) => ProviderView::Unavailable(problem),
            (ProviderView::Available, None) => {
                self.refusal().map_or(ProviderView::Available, ProviderView::Closed)
            }
            (view @ (ProviderView::Closed(_) | ProviderView::Unavailable(_)), _) => view,
        }
    }

    /// The first field of the spec that the provider does not support or does not permit.
    fn refusal(self) -> Option<Problem> {
        let Self {
            provider, asks_for_role, has_roles, asks_for_adoption, adopts_keys, not_permitted, ..
        } = self;
        let invalid = |message| Some(Problem { reason: Reason::InvalidSpec, message });
        if asks_for_role && !has_roles {
            return invalid(format!(
                "`spec.ibmCloud` is only for keys of IBM Cloud, and {provider} creates other keys; create the \
                 ServiceKey again without it"
            ));
        }
        if asks_for_adoption && !adopts_keys {
            return invalid(format!(
                "`spec.adoption: IfExists` is only for keys of Cloud Foundry or IBM Cloud, and {provider} creates \
                 other keys; remove it"
            ));
        }
        not_permitted
    }
}

impl Desired {
    /// The desired state from a spec, as far as the provider permits it. `abandons`: the user chose to leave the remote
    /// keys behind. The caller adds the metadata and the result of the check of the spec.
    #[must_use]
    pub fn new(spec: &ServiceKeySpec, allowance: &Allowance, inputs: Inputs, abandons: bool) -> Self {
        let rotation = spec.rotation.clone().unwrap_or_default();
        let abandon_denied = allowance.abandon_denied();
        Self {
            finalizer: false,
            deleting: false,
            abandon: abandons && abandon_denied.is_none(),
            abandon_denied,
            retain: spec.deletion_policy == DeletionPolicy::Retain && allowance.retain_denied().is_none(),
            retains_secret: spec.secret.deletion_policy == DeletionPolicy::Retain,
            suspended: spec.suspend,
            inputs,
            follows_parameters: spec.follows_parameters(),
            verification: rotation.verify.as_ref().map(|verify| VerificationPolicy {
                within: verify.within(),
                every: verify.every(),
                probe: verify.probe_digest(),
            }),
            rotation: RotationPolicy {
                every: rotation.every.map(crate::api::Duration::get),
                overlap: rotation.overlap(),
                max_overlap: rotation.max_overlap(),
                revokes_first: rotation.strategy == RotationStrategy::Replace,
            },
            // The check of the spec reports windows that can't be read.
            windows: Windows::new(&rotation.windows).unwrap_or_default(),
            restarts: !rotation.restart.is_empty(),
            keeps_previous: spec.secret.previous == PreviousCredentials::Include,
            adopts: spec.adoption == Adoption::IfExists,
            problem: None,
        }
    }
}

impl GracePeriod {
    /// Assumes that the remote side gives up a request no later than the operator does, after `timeout`. A process that
    /// did not store the finalizer itself does not know the requests that another process sent before it.
    #[must_use]
    pub fn new(timeout: Duration, acquired_at: Timestamp, stored_finalizer: bool) -> Self {
        let unknown_until =
            (!stored_finalizer).then(|| acquired_at.checked_add(timeout).unwrap_or(acquired_at));
        Self { patience: timeout, unknown_until }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn problem(reason: Reason) -> Problem {
        Problem { reason, message: reason.as_str().to_owned() }
    }

    fn usable() -> KeyAccess<'static> {
        KeyAccess {
            provider: "KeyProvider `broker`",
            view: Some(ProviderView::Available),
            is_served: true,
            inheritance: None,
            asks_for_role: false,
            has_roles: false,
            asks_for_adoption: false,
            adopts_keys: false,
            not_permitted: None,
        }
    }

    fn reason(view: &ProviderView) -> Option<(bool, Reason)> {
        match view {
            ProviderView::Available => None,
            ProviderView::Closed(problem) => Some((true, problem.reason)),
            ProviderView::Unavailable(problem) => Some((false, problem.reason)),
        }
    }

    #[rstest]
    #[case::nothing_speaks_against_it(usable(), None)]
    #[case::there_is_no_provider(
        KeyAccess { view: None, ..usable() },
        Some((false, Reason::ProviderNotFound))
    )]
    #[case::a_namespace_that_is_not_admitted_learns_nothing_else(
        KeyAccess {
            view: Some(ProviderView::Unavailable(problem(Reason::ProviderNotAllowed))),
            inheritance: Some(problem(Reason::SecretConflict)),
            ..usable()
        },
        Some((false, Reason::ProviderNotAllowed))
    )]
    #[case::keys_that_may_be_of_another_are_left_alone(
        KeyAccess { inheritance: Some(problem(Reason::SecretConflict)), ..usable() },
        Some((false, Reason::SecretConflict))
    )]
    #[case::also_where_only_revocations_are_open(
        KeyAccess {
            view: Some(ProviderView::Closed(problem(Reason::LoginSecretDeleted))),
            inheritance: Some(problem(Reason::SecretConflict)),
            ..usable()
        },
        Some((false, Reason::LoginSecretDeleted))
    )]
    #[case::its_keys_have_no_role(
        KeyAccess { asks_for_role: true, not_permitted: Some(problem(Reason::NotPermitted)), ..usable() },
        Some((true, Reason::InvalidSpec))
    )]
    #[case::its_keys_can_not_be_adopted(
        KeyAccess { asks_for_adoption: true, ..usable() },
        Some((true, Reason::InvalidSpec))
    )]
    #[case::it_permits_less(
        KeyAccess {
            asks_for_role: true,
            has_roles: true,
            asks_for_adoption: true,
            adopts_keys: true,
            not_permitted: Some(problem(Reason::NotPermitted)),
            ..usable()
        },
        Some((true, Reason::NotPermitted))
    )]
    fn the_first_obstacle_counts(#[case] access: KeyAccess<'_>, #[case] expected: Option<(bool, Reason)>) {
        assert_eq!(reason(&access.view()), expected);
    }

    #[test]
    fn a_process_knows_of_no_request_before_its_lead() {
        let (timeout, lead) = (Duration::from_secs(60), Timestamp::UNIX_EPOCH);
        let until = GracePeriod::new(timeout, lead, false).unknown_until;
        assert_eq!(until.map(Timestamp::as_second), Some(60));
        assert_eq!(GracePeriod::new(timeout, lead, true).unknown_until, None);
    }
}
