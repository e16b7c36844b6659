//! The claim in a Secret's marks, and the conditions for believing it.
//!
//! All users who may edit the Secret may write its annotations, so the annotations never identify an object at the
//! remote side. The operator derives ids, or finds them by the mark that the remote side shows. The status takes
//! precedence over the Secret. A claim matters only if the status does not name the key. That happens after a crash
//! between the two writes, or if the status is missing or comes from a backup.

use std::{ops::Deref, time::Duration};

use jiff::Timestamp;
use uuid::Uuid;

use super::{Identity, KeyRecord, Recorded, RunState, SecretView, Sequence};

/// The largest number of keys by which a Secret may be ahead of the status. A status from a backup may be older than
/// the Secret by as many rotations. A larger number is forged or corrupt.
const LONGEST_LEAP: u32 = 1000;

/// The longest time for which a request may still take effect after the operator gave it up: the longest timeout that a
/// provider may have.
const LONGEST_LATENESS: Duration = Duration::from_secs(600);

/// How far the remote side's clock may be ahead of the operator's. Times of creation come from the remote side.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// The key in a Secret according to its marks: a record without the id and the name, which marks never contain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim(KeyRecord);

impl From<KeyRecord> for Claim {
    fn from(key: KeyRecord) -> Self {
        Self(KeyRecord { id: None, name: None, plan_ids: None, ..key })
    }
}

impl Deref for Claim {
    type Target = KeyRecord;

    fn deref(&self) -> &KeyRecord {
        &self.0
    }
}

/// The evidence for or against a claim.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The UID that the ids of the ServiceKey's keys are derived from.
    pub owner: Uuid,
    pub recorded: &'a Recorded,
    pub run: &'a RunState,
    /// Whether the provider admits the ServiceKey's namespace.
    pub admitted: bool,
    /// Whether the remote side shows the owner of a key by a mark. Otherwise ids are derived.
    pub marks_keys: bool,
    pub now: Timestamp,
}

impl SecretView<Claim> {
    /// The Secret, as far as the operator believes it. If it does not believe the claim, the Secret counts as damaged
    /// and without a known key.
    #[must_use]
    pub fn believed(self, evidence: &Evidence<'_>) -> SecretView {
        match self {
            Self::Unknown => SecretView::Unknown,
            Self::Absent => SecretView::Absent,
            Self::Foreign { holder } => SecretView::Foreign { holder },
            Self::Former { uid, sequence, looked_up, obstacle } => {
                SecretView::Former { uid, sequence, looked_up, obstacle }
            }
            Self::Damaged { key, previous } => {
                let claim = key.filter(|claim| !evidence.may_be_unfinished(claim.sequence));
                let key = claim.and_then(|claim| evidence.believe(claim));
                SecretView::Damaged { previous: previous.filter(|_| key.is_some()), key }
            }
            Self::Intact { key, previous, flaw } => match evidence.believe(key) {
                Some(key) => SecretView::Intact { key, previous, flaw },
                None => SecretView::Damaged { key: None, previous: None },
            },
        }
    }
}

impl Evidence<'_> {
    /// Whether the status names an older key, and this one only as an attempt. In a damaged Secret, another user may have
    /// changed the number. The key may not exist yet, so the operator revokes no key because of it, and completes the
    /// attempt.
    fn may_be_unfinished(&self, sequence: Sequence) -> bool {
        let Self { recorded, run, .. } = self;
        let is_stored = run.stored.as_ref().is_some_and(|stored| stored.sequence == sequence);
        let has_older = recorded.key.as_ref().is_some_and(|key| key.sequence < sequence);
        has_older && !is_stored && recorded.attempt() == Some(sequence)
    }

    /// The record of the claimed key; `None` if the claim is not believed.
    fn believe(&self, claim: Claim) -> Option<KeyRecord> {
        let sequence = claim.sequence;
        let known = [self.run.stored.as_ref(), self.recorded.key.as_ref()];
        if let Some(known) = known.into_iter().flatten().find(|key| key.sequence == sequence) {
            return Some(known.clone());
        }
        let Self { owner, recorded, run, admitted, marks_keys, now } = self;
        let newest = recorded.newest();
        let explained = recorded.explains(sequence);
        let reached = newest.map_or(0, Sequence::number).saturating_add(LONGEST_LEAP);
        // A process that has just received a key would know of a later one.
        let got = [run.in_hand.as_ref(), run.stored.as_ref()];
        let knows_better = got.into_iter().flatten().any(|key| key.sequence < sequence);
        let is_denied = knows_better || run.absent.contains(&sequence);
        let refuted = !explained && (sequence.number() > reached || is_denied);
        // A namespace that is not admitted has had keys only if the status names them.
        let impossible = !admitted && (newest.is_none() || !explained);
        // This process has revoked the key, and has not created it again. Or the remote side had no such key, and this
        // process has stored none since.
        let is_gone = run.revoked.contains_key(&sequence) || run.refuted.contains(&sequence);
        if refuted || impossible || is_gone {
            return None;
        }
        let latest = now.checked_add(LONGEST_LATENESS).unwrap_or(*now);
        let Claim(claimed) = claim;
        Some(KeyRecord {
            id: (!marks_keys).then(|| Identity { owner: *owner, sequence }.binding_id().to_string()),
            created_at: claimed.created_at.min(now.checked_add(CLOCK_SKEW).unwrap_or(*now)),
            late_until: claimed.late_until.map(|late| late.min(latest)),
            ..claimed
        })
    }
}

impl Recorded {
    /// The number of the newest key that is recorded, or may have been created.
    fn newest(&self) -> Option<Sequence> {
        let previous = self.previous.iter().map(|key| key.sequence);
        let current = self.key.as_ref().map(|key| key.sequence);
        let verified = self.verification.as_ref().filter(|verification| verification.failed.is_none());
        let verified = verified.map(|verification| verification.sequence);
        previous.chain(current).chain(self.attempted_bind()).chain(verified).max()
    }

    /// Whether the record explains that a Secret contains this key. The operator records a key before it creates it,
    /// except the first one. A ServiceKey that continues with the keys of a former one has created none of them, and the
    /// key in a Secret from a backup may be gone.
    #[must_use]
    pub fn explains(&self, sequence: Sequence) -> bool {
        let first = self.former.is_none().then_some(Sequence::FIRST);
        self.newest().or(first).is_some_and(|newest| sequence <= newest)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rstest::rstest;

    use super::*;
    use crate::lifecycle::{Answer, Lifetime, Operation};

    const OWNER: Uuid = Uuid::from_u128(1);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn sequence(number: u32) -> Sequence {
        Sequence::new(number).unwrap()
    }

    fn key(number: u32) -> KeyRecord {
        KeyRecord {
            sequence: sequence(number),
            id: Some("known".to_owned()),
            name: Some("creds".to_owned()),
            role: None,
            created_at: at(10),
            created_by: None,
            lifetime: Lifetime::default(),
            late_until: None,
            inputs: "known".into(),
            plan_ids: None,
            same_credentials: false,
        }
    }

    /// A claim that contradicts the status in every field in which it may.
    fn claim(number: u32) -> Claim {
        Claim::from(KeyRecord {
            created_at: at(1_000_000),
            late_until: Some(Timestamp::MAX),
            inputs: "claimed".into(),
            ..key(number)
        })
    }

    fn recorded(key_number: Option<u32>, attempt: Option<u32>) -> Recorded {
        let operation = attempt.map(|number| Operation::bind(sequence(number)));
        Recorded { key: key_number.map(key), operation, ..Recorded::default() }
    }

    fn believed(
        claim: Claim,
        recorded: &Recorded,
        run: &RunState,
        admitted: bool,
        marks_keys: bool,
    ) -> SecretView {
        let evidence = Evidence { owner: OWNER, recorded, run, admitted, marks_keys, now: at(100) };
        SecretView::Intact { key: claim, previous: None, flaw: None }.believed(&evidence)
    }

    const UNBELIEVED: SecretView = SecretView::Damaged { key: None, previous: None };

    #[test]
    fn what_the_status_says_of_a_key_counts_more_than_what_the_secret_says() {
        let view = believed(claim(2), &recorded(Some(2), None), &RunState::default(), true, true);
        assert_eq!(view, SecretView::Intact { key: key(2), previous: None, flaw: None });
    }

    #[test]
    fn what_this_process_has_stored_counts_most() {
        let stored = KeyRecord { id: Some("stored".to_owned()), ..key(2) };
        let run = RunState { stored: Some(stored.clone()), ..RunState::default() };
        let view = believed(claim(2), &recorded(Some(2), None), &run, false, true);
        assert_eq!(view, SecretView::Intact { key: stored, previous: None, flaw: None });
    }

    #[rstest]
    #[case::found_by_its_mark(true, None)]
    #[case::derived(false, Some(Identity { owner: OWNER, sequence: Sequence::FIRST }.binding_id().to_string()))]
    fn no_id_comes_from_a_claim(#[case] marks_keys: bool, #[case] id: Option<String>) {
        let view = believed(claim(1), &Recorded::default(), &RunState::default(), true, marks_keys);
        let key = view.key().unwrap();
        assert_eq!((&key.id, &key.name, key.inputs.to_string().as_str()), (&id, &None, "claimed"));
        assert_eq!(key.created_at, at(160), "no key is from the future, except for clock skew");
        assert_eq!(key.late_until, Some(at(700)));
    }

    #[rstest]
    //                              key,     attempt, claimed,  admitted
    #[case::after_the_first_write(  None,    None,    1,        true,  true)]
    #[case::never_admitted(         None,    None,    1,        false, false)]
    #[case::the_status_was_lost(    None,    None,    7,        true,  true)]
    #[case::after_a_rotation(       Some(2), Some(3), 3,        true,  true)]
    #[case::admitted_then(          Some(2), Some(3), 3,        false, true)]
    #[case::an_older_status(        Some(2), None,    5,        true,  true)]
    #[case::nothing_to_explain_it(  Some(2), None,    5,        false, false)]
    #[case::the_longest_leap(       Some(2), None,    1002,     true,  true)]
    #[case::a_longer_one(           Some(2), None,    1003,     true,  false)]
    #[case::the_longest_of_all(     Some(2), None,    u32::MAX, true,  false)]
    #[case::the_last_without_any(   None,    None,    u32::MAX, true,  false)]
    #[case::an_older_secret(        Some(9), None,    3,        true,  true)]
    #[rustfmt::skip]
    fn a_claim_is_believed_as_far_as_it_can_be_true(
        #[case] key: Option<u32>,
        #[case] attempt: Option<u32>,
        #[case] claimed: u32,
        #[case] admitted: bool,
        #[case] expected: bool,
    ) {
        let view = believed(claim(claimed), &recorded(key, attempt), &RunState::default(), admitted, true);
        assert_eq!(view != UNBELIEVED, expected, "{view:?}");
    }

    #[test]
    fn who_has_just_got_a_key_believes_in_no_later_one() {
        let run = RunState { in_hand: Some(key(1)), ..RunState::default() };
        assert_eq!(believed(claim(3), &Recorded::default(), &run, true, true), UNBELIEVED);
        let run = RunState { in_hand: Some(key(3)), ..RunState::default() };
        assert!(
            believed(claim(3), &Recorded::default(), &run, true, true) != UNBELIEVED,
            "the key in hand is believed"
        );
    }

    /// The Secret from a backup may be older than the revocation of its key.
    #[rstest]
    #[case::nothing_is_known_yet([].into(), true)]
    #[case::the_remote_side_denies_it([Sequence::FIRST].into(), false)]
    fn a_restored_status_explains_no_key(#[case] absent: BTreeSet<Sequence>, #[case] expected: bool) {
        let recorded = Recorded { former: Some(OWNER), ..Recorded::default() };
        assert!(!recorded.explains(Sequence::FIRST) && Recorded::default().explains(Sequence::FIRST));
        let run = RunState { absent, ..RunState::default() };
        let view = believed(claim(1), &recorded, &run, true, false);
        assert_eq!(view != UNBELIEVED, expected);
    }

    /// A tenant wrote the number of the next key into the Secret while no operator ran, and the operator has revoked
    /// that key after a request without an answer.
    #[test]
    fn a_key_that_this_process_has_revoked_is_in_no_secret() {
        let mut run = RunState::default();
        run.learn(Answer::Revoked(sequence(3), at(90)));
        assert_eq!(believed(claim(3), &recorded(Some(2), Some(3)), &run, true, false), UNBELIEVED);
    }

    /// The remote side had no key of the number in the Secret. Then the operator planned a key of that number.
    #[test]
    fn a_number_that_was_refuted_stays_so_when_it_is_planned() {
        let mut run = RunState::default();
        run.learn(Answer::Absent(sequence(4)));
        run.absent.clear();
        let recorded = recorded(Some(3), Some(4));
        assert_eq!(believed(claim(4), &recorded, &run, true, false), UNBELIEVED);
        run.in_hand = Some(key(4));
        assert_eq!(believed(claim(4), &recorded, &run, true, false), UNBELIEVED);
        run.learn(Answer::Stored(key(4)));
        assert_ne!(believed(claim(4), &recorded, &run, true, false), UNBELIEVED);
    }

    #[test]
    fn few_refuted_numbers_are_kept() {
        let mut run = RunState::default();
        (1..100).for_each(|number| run.learn(Answer::Absent(sequence(number))));
        assert_eq!(run.refuted.len(), 16);
    }

    /// Another user wrote the number of the next key into the Secret. The operator creates that key only after the current
    /// one is revoked, and records that before.
    #[test]
    fn the_next_key_does_not_exist_before_the_current_one_is_revoked() {
        let operation = Some(Operation::revoke_first(sequence(3)));
        let recorded = Recorded { operation, ..recorded(Some(2), None) };
        assert!(recorded.explains(sequence(2)) && !recorded.explains(sequence(3)));
        let run = RunState { absent: [sequence(3)].into(), ..RunState::default() };
        assert_eq!(believed(claim(3), &recorded, &run, true, true), UNBELIEVED);
    }

    /// Another user wrote the number of the next key into the Secret while the remote side was still creating that key.
    #[rstest]
    #[case::a_key_is_recorded(recorded(Some(2), Some(3)), RunState::default(), false)]
    #[case::this_process_has_stored_it(
        recorded(Some(2), Some(3)),
        RunState { stored: Some(key(3)), ..RunState::default() },
        true
    )]
    #[case::no_other_key_is_known(recorded(None, Some(3)), RunState::default(), true)]
    fn a_damaged_secret_does_not_complete_an_attempt(
        #[case] recorded: Recorded,
        #[case] run: RunState,
        #[case] expected: bool,
    ) {
        let evidence = Evidence {
            owner: OWNER,
            recorded: &recorded,
            run: &run,
            admitted: true,
            marks_keys: true,
            now: at(100),
        };
        let view = SecretView::Damaged { key: Some(claim(3)), previous: None }.believed(&evidence);
        assert_eq!(view.key().is_some(), expected);
    }

    #[rstest]
    #[case::a_leap(5, false)]
    #[case::one_that_is_explained(3, true)]
    fn a_leap_that_the_remote_side_denies_is_not_believed(#[case] claimed: u32, #[case] expected: bool) {
        let run = RunState { absent: [sequence(claimed)].into(), ..RunState::default() };
        let view = believed(claim(claimed), &recorded(Some(2), Some(3)), &run, true, true);
        assert_eq!(view != UNBELIEVED, expected);
    }
}
