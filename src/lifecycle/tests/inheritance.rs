//! Secrets of former ServiceKeys: the owner of their keys, and the steps before the operator continues with them.

use rstest::rstest;

use super::*;

const FORMER: Uuid = Uuid::from_u128(7);

/// A ServiceKey from a backup, whose Secret names the former one.
pub(super) fn restored() -> Observed {
    Observed { secret: former(FORMER, Some(Sequence::FIRST.next()), None), ..asking() }
}

/// The Secret of a former ServiceKey. The operator has read it by name.
pub(super) fn former(uid: Uuid, sequence: Option<Sequence>, obstacle: Option<Problem>) -> SecretView {
    SecretView::Former { uid, sequence, looked_up: true, obstacle }
}

/// The same, if only the cache shows the Secret.
pub(super) fn from_cache(observed: Observed) -> Observed {
    let SecretView::Former { uid, sequence, obstacle, looked_up: _ } = observed.secret else {
        panic!("the Secret is not of a former ServiceKey")
    };
    let secret = SecretView::Former { uid, sequence, looked_up: false, obstacle };
    Observed { secret, ..observed }
}

fn recorded(observed: &Observed) -> Recorded {
    match decide(observed) {
        Step::Apply(KubernetesEffect::Record(report)) => {
            assert_eq!((report.ready.ready, report.ready.reason), (false, Reason::Restoring));
            report.recorded
        }
        step => panic!("{step:?}"),
    }
}

fn inheriting() -> Recorded {
    Recorded { former: Some(FORMER), ..Recorded::default() }
}

fn failed(class: ErrorClass) -> Answer {
    let message = "no".to_owned();
    Answer::Failed(Failure { attempted: Attempted::Revoke, class, message, retry_after: None })
}

/// A ServiceKey that was deleted and created again. The cache still shows the Secret of the deleted one.
#[rstest]
fn a_secret_that_only_the_cache_shows_is_looked_up_first(#[values(false, true)] deleting: bool) {
    let mut observed = from_cache(restored());
    observed.desired.deleting = deleting;
    assert_eq!(decide(&observed), Step::Apply(KubernetesEffect::LookUpSecret));
    observed.secret = SecretView::Absent;
    let next = decide(&observed);
    assert!(!matches!(next, Step::Apply(KubernetesEffect::Record(_))), "{next:?}");
}

/// A process that crashed may have created a first key with the new UID.
#[rstest]
#[case::revoked(Answer::Revoked(Sequence::FIRST, now()))]
#[case::refused(failed(ErrorClass::Rejected))]
#[case::unknown_there(failed(ErrorClass::Gone))]
fn a_first_key_of_its_own_is_revoked_before(#[case] answer: Answer, #[values(false, true)] deleting: bool) {
    let mut observed = restored();
    observed.desired.deleting = deleting;
    assert_eq!(decide(&observed), Step::Execute(RemoteEffect::Unbind(Sequence::FIRST)));
    observed.run.learn(answer);
    assert_eq!(recorded(&observed), inheriting());
}

#[test]
fn nothing_is_taken_over_before_that_is_clear() {
    let mut observed = restored();
    observed.run.learn(failed(ErrorClass::Transient));
    assert_eq!(rest(&observed).requeue, Requeue::Retry { not_before: None });
    let problem = Problem { reason: Reason::ProviderNotReady, message: "it is away".to_owned() };
    let observed = Observed { provider: ProviderView::Unavailable(problem), ..restored() };
    assert_eq!(rest(&observed).report.ready.reason, Reason::ProviderNotReady);
}

#[rstest]
#[case::no_finalizer(|observed: &mut Observed| observed.desired.finalizer = false)]
#[case::all_refused(|observed: &mut Observed| observed.all_refused = true)]
#[case::abandoned(|observed: &mut Observed| (observed.desired.abandon, observed.desired.deleting) = (true, true))]
#[case::retained(|observed: &mut Observed| (observed.desired.retain, observed.desired.deleting) = (true, true))]
fn where_there_can_be_no_key_none_is_revoked(#[case] change: fn(&mut Observed)) {
    let mut observed = restored();
    change(&mut observed);
    assert_eq!(recorded(&observed), inheriting());
}

/// A ServiceKey that already has keys never continues with those of another one.
#[rstest]
#[case::in_the_status(|observed: &mut Observed| observed.recorded.key = Some(key("now")))]
#[case::planned(|observed: &mut Observed| observed.recorded.operation = Some(Operation::bind(Sequence::FIRST)))]
#[case::of_a_former_one(|observed: &mut Observed| observed.recorded.former = Some(Uuid::from_u128(8)))]
#[case::in_hand(|observed: &mut Observed| observed.run.in_hand = Some(key("now")))]
#[case::just_stored(|observed: &mut Observed| observed.run.stored = Some(key("now")))]
fn a_service_key_with_keys_of_its_own_takes_over_none(#[case] change: fn(&mut Observed)) {
    let mut observed = restored();
    change(&mut observed);
    assert_eq!(rest(&observed).report.ready.reason, Reason::SecretConflict);
    observed.desired.deleting = true;
    assert!(!matches!(decide(&observed), Step::Apply(KubernetesEffect::Record(_))));
}

#[test]
fn what_is_not_believed_is_a_conflict_and_holds_no_deletion_up() {
    let problem = Problem { reason: Reason::NotPermitted, message: "denied".to_owned() };
    let secret = former(FORMER, None, Some(problem));
    let mut observed = Observed { secret, ..asking() };
    assert_eq!(rest(&observed).report.ready.reason, Reason::NotPermitted);
    observed.desired.deleting = true;
    assert_eq!(decide(&observed), Step::Execute(RemoteEffect::Unbind(Sequence::FIRST)));
    observed.run.learn(Answer::Revoked(Sequence::FIRST, now()));
    assert_eq!(decide(&observed), Step::Apply(KubernetesEffect::RemoveFinalizer { left_behind: vec![] }));
}

/// The Secret may be older than the revocation of its key. After the remote side has shown the key, the Secret belongs
/// to the ServiceKey, and the operator writes it again.
#[test]
fn the_secret_of_a_former_service_key_is_repaired_and_the_key_stays() {
    let claimed = key("now");
    let secret = SecretView::Intact { key: claimed.clone(), previous: None, flaw: Some(Flaw::Edited) };
    let mut observed = Observed { recorded: inheriting(), secret, ..asking() };
    assert_eq!(decide(&observed), Step::Execute(RemoteEffect::Confirm(Sequence::FIRST)));
    let id = claimed.id.clone().unwrap();
    observed.run.learn(Answer::Present(Found { sequence: Sequence::FIRST, id, name: None }));
    let Step::Apply(KubernetesEffect::Record(report)) = decide(&observed) else {
        panic!("{:?}", decide(&observed))
    };
    assert_eq!(report.recorded, Recorded { key: Some(claimed), ..inheriting() });
    observed.recorded = report.recorded;
    assert_eq!(decide(&observed), Step::Apply(KubernetesEffect::RestoreSecret));
}

/// If keys have marks, the remote side has to show one first.
#[rstest]
fn a_mark_proves_whose_the_key_is(#[values(false, true)] deleting: bool) {
    let mut observed = Observed { marks_keys: true, ..restored() };
    observed.desired.deleting = deleting;
    let second = Sequence::FIRST.next();
    assert_eq!(decide(&observed), Step::Execute(RemoteEffect::Prove { former: FORMER, sequence: second }));
    observed.run.learn(Answer::Proved(true));
    assert_eq!(decide(&observed), Step::Execute(RemoteEffect::Unbind(Sequence::FIRST)));
    observed.run.learn(Answer::Revoked(Sequence::FIRST, now()));
    assert_eq!(recorded(&observed), inheriting());
}

#[test]
fn a_key_that_the_remote_side_does_not_show_is_a_conflict() {
    let mut observed = Observed { marks_keys: true, ..restored() };
    observed.run.learn(Answer::Proved(false));
    let rest = rest(&observed);
    assert_eq!(
        (rest.report.ready.reason, rest.report.recorded),
        (Reason::SecretConflict, Recorded::default())
    );
    observed.desired.deleting = true;
    assert_eq!(
        decide(&observed),
        Step::Execute(RemoteEffect::Unbind(Sequence::FIRST)),
        "its own, as of any other"
    );
}

#[test]
fn a_namespace_that_is_not_admitted_takes_over_nothing() {
    let problem = Problem { reason: Reason::ProviderNotAllowed, message: "no".to_owned() };
    let provider = ProviderView::Closed(problem);
    let mut observed = Observed { admitted: false, provider, ..restored() };
    for finalizer in [false, true] {
        observed.desired.finalizer = finalizer;
        assert_eq!(rest(&observed).report.ready.reason, Reason::ProviderNotAllowed);
    }
    // A status that already records the former UID causes no call either.
    observed = Observed { recorded: inheriting(), secret: SecretView::Absent, ..observed };
    observed.desired.deleting = true;
    assert_eq!(rest(&observed).report.ready.reason, Reason::ProviderNotAllowed);
}

/// A bind of a process that crashed may still take effect.
#[test]
fn a_first_key_that_may_still_come_is_waited_for() {
    let mut observed = restored();
    observed.grace.unknown_until = Some(at(60));
    observed.run.learn(Answer::Revoked(Sequence::FIRST, now()));
    assert_eq!(rest(&observed).requeue, Requeue::At(at(60)));
    observed.now = at(60);
    assert_eq!(decide(&observed), Step::Execute(RemoteEffect::Unbind(Sequence::FIRST)));
    observed.run.learn(Answer::Revoked(Sequence::FIRST, at(60)));
    assert_eq!(recorded(&observed), inheriting());
}

/// The definition of an earlier release does not have this field.
#[test]
fn what_the_api_server_does_not_store_is_not_written_without_end() {
    let mut observed = Observed { all_refused: true, ..restored() };
    let message = "it does not store `status.formerUid`".to_owned();
    let (attempted, class) = (Attempted::Store, ErrorClass::Rejected);
    observed.run.learn(Answer::Failed(Failure { attempted, class, message, retry_after: None }));
    assert_eq!(rest(&observed).report.ready.reason, Reason::SecretRejected);
}
