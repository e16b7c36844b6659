//! Whether a ServiceKey goes on with the keys of a former one. A backup tool restores a ServiceKey and its Secret with new
//! UIDs and without a status. The ids and names of keys follow from the UID, so the operator remembers the former one.
//!
//! Whoever may edit a Secret, or have a status restored, may have written that UID. So it counts only where
//! - no ServiceKey of this UID exists, and no other one goes on with its keys;
//! - the mark at the remote side shows the namespace and the name of this ServiceKey, which the backend checks for each
//!   key; or the login is that of the ServiceKey's own namespace; or the administrator permits it.
//!
//! This is judged anew before each decision. A ServiceKey that once went on with the keys of a former one never has others.

use jiff::Timestamp;
use uuid::Uuid;

use super::Problem;
use crate::api::Reason;

/// The claim that the keys of a former ServiceKey are those of the ServiceKey at hand, and what it is held against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inheritance<'a> {
    /// The namespace of the ServiceKey at hand.
    pub namespace: &'a str,
    /// Its place among those that go on with the same keys.
    pub heir: Heir,
    /// Whether its status says that it goes on with these keys.
    pub is_settled: bool,
    /// Whether a ServiceKey exists of a UID that is claimed.
    pub is_former_alive: bool,
    /// The first of the other ServiceKeys that go on with the same keys.
    pub other_heir: Option<Heir>,
    /// Whether the remote side shows the namespace and the name of the ServiceKey that a key was created for.
    pub is_proved_by_marks: bool,
    /// What forbids it where nothing proves it, in words.
    pub denied: Option<&'a str>,
}

/// A ServiceKey among those that claim the same keys. The one that comes first has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Heir {
    /// When it was created, by the API server's clock.
    pub created: Timestamp,
    /// Its UID.
    pub uid: Uuid,
}

impl Inheritance<'_> {
    /// Why the keys are not those of the ServiceKey at hand; `None` where they are.
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
                "the Secret is from a backup, and the namespace `{namespace}` is not permitted to continue with its key, \
                 because {denied}; ask the provider's administrator, or {way_out}; the old key then stays at the remote \
                 side"
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

    /// A claim that holds: only a mark that shows no names is missing, and the administrator permits that.
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
