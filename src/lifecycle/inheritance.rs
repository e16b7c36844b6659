//! Whether a ServiceKey continues with the keys of a former one. A backup tool restores a ServiceKey and its Secret
//! with new UIDs and without a status. The ids and names of keys are derived from the UID, so the operator records the
//! former one.
//!
//! All users who may edit a Secret, or restore a status, may have written that UID. So the operator accepts it only if
//! both conditions hold:
//! - No ServiceKey of this UID exists, and no other one continues with its keys.
//! - The mark at the remote side shows the namespace and the name of this ServiceKey, which the backend checks for each
//!   key. Or the login belongs to the ServiceKey's own namespace. Or the administrator permits it.
//!
//! The operator evaluates this before each decision. A ServiceKey that once continued with the keys of a former one
//! never has others.

use jiff::Timestamp;
use uuid::Uuid;

use super::Problem;
use crate::api::Reason;

/// The claim that the keys of a former ServiceKey belong to the ServiceKey at hand, and the evidence about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inheritance<'a> {
    /// The namespace of the ServiceKey at hand.
    pub namespace: &'a str,
    /// The rank of the ServiceKey at hand among those that continue with the same keys.
    pub heir: Heir,
    /// Whether its status records that it continues with these keys.
    pub is_settled: bool,
    /// Whether a ServiceKey with the claimed UID exists.
    pub is_former_alive: bool,
    /// The first of the other ServiceKeys that continue with the same keys.
    pub other_heir: Option<Heir>,
    /// Whether the remote side shows the namespace and the name of the ServiceKey that a key was created for.
    pub is_proved_by_marks: bool,
    /// The rule that forbids the claim if no mark proves it, for messages.
    pub denied: Option<&'a str>,
}

/// A ServiceKey among those that claim the same keys. The first one gets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Heir {
    /// When it was created, by the API server's clock.
    pub created: Timestamp,
    pub uid: Uuid,
}

impl Inheritance<'_> {
    /// Why the keys do not belong to the ServiceKey at hand; `None` if they do.
    #[must_use]
    pub(crate) fn obstacle(&self) -> Option<Problem> {
        let Self { namespace, heir, is_settled, is_former_alive, other_heir, is_proved_by_marks, denied } =
            self;
        let problem = |reason, message| Some(Problem { reason, message });
        let comes_first = other_heir.is_none_or(|other| *is_settled && *heir < other);
        let way_out = if *is_settled {
            "delete this ServiceKey with the annotation `servicekeys.dev/abandon`, and create it again"
        } else {
            "delete that Secret, or create the ServiceKey again with another `spec.secret.name`"
        };
        if *is_former_alive || !comes_first {
            return problem(
                Reason::SecretConflict,
                format!(
                    "the Secret is from a backup, and its credentials belong to another ServiceKey; {way_out}"
                ),
            );
        }
        let denied = denied.filter(|_| !is_proved_by_marks)?;
        problem(
            Reason::NotPermitted,
            format!(
                "the Secret is from a backup, and the namespace `{namespace}` is not permitted to continue with its \
                 key, because {denied}; ask the provider's administrator, or {way_out}; the old key then stays at the \
                 remote side"
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn heir(second: i64, uid: u128) -> Heir {
        Heir { created: Timestamp::from_second(second).unwrap(), uid: Uuid::from_u128(uid) }
    }

    /// A valid claim. The mark shows no names, but the administrator permits the claim.
    fn claim() -> Inheritance<'static> {
        Inheritance {
            namespace: "apps",
            heir: heir(5, 5),
            is_settled: false,
            is_former_alive: false,
            other_heir: None,
            is_proved_by_marks: false,
            denied: None,
        }
    }

    #[rstest]
    #[case::permitted(claim(), None)]
    #[case::denied(Inheritance { denied: Some("it is `Deny`"), ..claim() }, Some(Reason::NotPermitted))]
    #[case::proved(Inheritance { denied: Some("it is `Deny`"), is_proved_by_marks: true, ..claim() }, None)]
    #[case::alive(
        Inheritance { is_former_alive: true, is_proved_by_marks: true, ..claim() },
        Some(Reason::SecretConflict)
    )]
    #[case::another_has_them(
        Inheritance { other_heir: Some(heir(9, 9)), ..claim() },
        Some(Reason::SecretConflict)
    )]
    #[case::a_later_one_claims_them_too(
        Inheritance { other_heir: Some(heir(9, 9)), is_settled: true, ..claim() },
        None
    )]
    #[case::a_later_one_of_the_same_second(
        Inheritance { other_heir: Some(heir(5, 9)), is_settled: true, ..claim() },
        None
    )]
    #[case::an_earlier_one_has_them(
        Inheritance { other_heir: Some(heir(1, 9)), is_settled: true, ..claim() },
        Some(Reason::SecretConflict)
    )]
    fn a_claim_is_believed_only_where_nothing_speaks_against_it(
        #[case] claim: Inheritance<'_>,
        #[case] expected: Option<Reason>,
    ) {
        assert_eq!(claim.obstacle().map(|problem| problem.reason), expected);
    }
}
