//! Requests without an answer, which may still take effect.

use rstest::rstest;

use super::*;

/// The client sent the bind twice. The second request was answered, and the first one may take effect after a
/// revocation.
#[test]
fn a_revocation_outlasts_the_first_of_two_binds() {
    let late = Some(full_second(now().checked_add(MINUTE).unwrap()));
    let mut observed = asking();
    observed.run.learn(Answer::GivenUp(Sequence::FIRST, now()));
    observed.run.learn(Answer::Issued(key("now")));
    let Step::Apply(KubernetesEffect::WriteSecret { key, .. }) = decide(&observed) else {
        panic!("{:?}", decide(&observed))
    };
    assert_eq!(key.late_until, late);

    // A process that knows only the stored state decides the same.
    let mut observed = holding(*key);
    observed.desired.deleting = true;
    assert_eq!(decide(&observed), Step::Execute(RemoteEffect::Unbind(Sequence::FIRST)));
    observed.run.learn(Answer::Revoked(Sequence::FIRST, now()));
    let Step::Wait(rest) = decide(&observed) else { panic!("{:?}", decide(&observed)) };
    assert_eq!(Some(rest.requeue), late.map(Requeue::At));
}

/// A request to revoke the key got no answer. If it takes effect after the operator has created the key again with the
/// same id, it revokes the new key, and no watch or list shows that.
#[rstest]
#[case::derived_ids(false)]
#[case::ids_of_the_remote_side(true)]
fn a_key_is_not_created_again_while_a_request_to_revoke_it_may_take_effect(#[case] marks_keys: bool) {
    let bind = Step::Execute(RemoteEffect::Bind { sequence: Sequence::FIRST, predecessor: None });
    let mut observed = Observed { marks_keys, ..asking() };
    observed.recorded.operation = Some(Operation::clean_up(Sequence::FIRST, None));
    assert_eq!(decide(&observed), Step::Execute(RemoteEffect::Unbind(Sequence::FIRST)));
    let (attempted, class) = (Attempted::Revoke, ErrorClass::Transient);
    let failure = Failure { attempted, class, message: "no answer".to_owned(), retry_after: None };
    observed.run.learn(Answer::UnsureRevocation(failure, Sequence::FIRST, now()));
    observed.run.failure = None;
    observed.run.learn(Answer::Revoked(Sequence::FIRST, now()));
    if !marks_keys {
        let until = now().checked_add(MINUTE).unwrap();
        assert_eq!(rest(&observed).requeue, Requeue::At(until));
        observed.now = until;
    }
    assert_eq!(decide(&observed), bind);
}

/// No process may create a key with an id that an earlier process was about to revoke.
#[test]
fn a_revocation_of_a_key_that_may_be_created_again_is_recorded_first() {
    let mut observed = asking();
    observed.run.conflicting = Some(Sequence::FIRST);
    observed.recorded = recorded(decide(&observed));
    assert_eq!(observed.recorded.operation, Some(Operation::clean_up(Sequence::FIRST, None)));
    let operation = observed.recorded.operation_on(Sequence::FIRST).unwrap();
    assert!(!operation.has_unknown_outcome(), "its revocation is no orphan mitigation");
    assert_eq!(decide(&observed), Step::Execute(RemoteEffect::Unbind(Sequence::FIRST)));
    // After a crash, that request may still take effect.
    observed.run = RunState::default();
    observed.grace.unknown_until = Some(at(60));
    assert_eq!(decide(&observed), Step::Execute(RemoteEffect::Unbind(Sequence::FIRST)));
    observed.run.learn(Answer::Revoked(Sequence::FIRST, now()));
    assert_eq!(rest(&observed).requeue, Requeue::At(at(60)));
}

/// The next key exists already, created from other fields, and the remote side refuses to revoke it. The operator tries
/// again after a backoff, and not at once.
#[rstest]
fn a_refused_revocation_of_a_conflicting_key_has_a_backoff(#[values(false, true)] marks_keys: bool) {
    let next = Sequence::FIRST.next();
    let mut observed = Observed { marks_keys, ..holding(key("before")) };
    observed.recorded.operation = Some(Operation::bind(next));
    observed.run.conflicting = Some(next);
    if !marks_keys {
        observed.recorded = recorded(decide(&observed));
    }
    assert_eq!(decide(&observed), Step::Execute(RemoteEffect::Unbind(next)));
    let (attempted, class) = (Attempted::Revoke, ErrorClass::Rejected);
    let failure = Failure { attempted, class, message: "no".to_owned(), retry_after: None };
    observed.run.learn(Answer::Failed(failure));
    assert_eq!(rest(&observed).requeue, Requeue::Retry { not_before: None });
    assert!(rest(&observed).report.ready.ready, "the credentials of key 1 work");
}

/// A broker reports the end of the operation, and then loses the key.
#[test]
fn a_key_that_the_remote_side_never_returns_is_revoked_and_created_again() {
    let mut observed = at_work();
    let Step::Execute(RemoteEffect::Poll(work)) = decide(&observed) else {
        panic!("{:?}", decide(&observed))
    };
    observed.run.learn(Answer::Completed(work.clone()));
    assert_eq!(decide(&observed), Step::Execute(RemoteEffect::Fetch(Sequence::FIRST)));
    observed.run.learn(Answer::Absent(Sequence::FIRST));
    assert_eq!(rest(&observed).report.ready.reason, Reason::UnexpectedAnswer, "it may be returned later");
    observed.now = work.ends;
    observed.recorded = recorded(decide(&observed));
    assert!(matches!(decide(&observed), Step::Wait(_)));

    observed.run = RunState::default();
    assert_eq!(decide(&observed), Step::Execute(RemoteEffect::Unbind(Sequence::FIRST)));
    observed.run.learn(Answer::Revoked(Sequence::FIRST, observed.now));
    assert_eq!(
        decide(&observed),
        Step::Execute(RemoteEffect::Bind { sequence: Sequence::FIRST, predecessor: None })
    );
}

fn unheard(observed: &mut Observed, class: ErrorClass) {
    observed.run.learn(Answer::PollFailed { class, message: "400".to_owned(), retry_after: None });
}

/// The broker will never report the state of the operation. The key may exist already, or be created later.
#[rstest]
#[case(ErrorClass::Rejected)]
#[case(ErrorClass::Gone)]
#[case(ErrorClass::Forbidden)]
fn a_deletion_does_not_wait_for_a_bind_that_the_remote_side_says_nothing_of(#[case] class: ErrorClass) {
    let mut observed = at_work();
    observed.desired.deleting = true;
    assert!(matches!(decide(&observed), Step::Execute(RemoteEffect::Poll(_))));
    unheard(&mut observed, class);
    let Step::Apply(KubernetesEffect::Record(report)) = decide(&observed) else {
        panic!("{:?}", decide(&observed))
    };
    assert!(
        report.ready.message.contains("the remote side refuses to report the state of the operation: 400"),
        "{report:?}"
    );
    observed.recorded = report.recorded;
    assert_eq!(decide(&observed), Step::Execute(RemoteEffect::Unbind(Sequence::FIRST)));
    observed.run.learn(Answer::Revoked(Sequence::FIRST, now()));
    let late = full_second(now().checked_add(MINUTE).unwrap());
    assert!(
        matches!(decide(&observed), Step::Wait(rest) if rest.requeue == Requeue::At(late)),
        "it may still be created"
    );
}

#[rstest]
#[case::that_is_wanted(ErrorClass::Rejected, false, false)]
#[case::that_is_to_stay(ErrorClass::Rejected, true, true)]
#[case::that_may_be_heard_of_later(ErrorClass::Transient, true, false)]
#[case::whose_remote_side_is_busy(ErrorClass::Throttled, true, false)]
fn any_other_bind_is_followed(#[case] class: ErrorClass, #[case] deleting: bool, #[case] retain: bool) {
    let mut observed = at_work();
    (observed.desired.deleting, observed.desired.retain) = (deleting, retain);
    unheard(&mut observed, class);
    assert!(
        !matches!(
            decide(&observed),
            Step::Apply(KubernetesEffect::Record(_)) | Step::Execute(RemoteEffect::Unbind(_))
        ),
        "{:?}",
        decide(&observed)
    );
}

/// Anybody who may edit the Secret can write another sequence into it. The status names the first key and announces no
/// other one, so the remote side has to show the other key before the first one counts as replaced.
#[rstest]
fn a_key_that_only_the_secret_names_is_confirmed_first(#[values(false, true)] marks_keys: bool) {
    let fifth = Sequence::new(5).unwrap();
    let claimed = KeyRecord { sequence: fifth, ..key("now") };
    let secret = SecretView::Intact { key: claimed, previous: None, flaw: None };
    let mut observed = Observed { marks_keys, secret, ..holding(key("now")) };
    assert_eq!(decide(&observed), Step::Execute(RemoteEffect::Confirm(fifth)));
    observed.run.learn(Answer::Present(Found { sequence: fifth, id: "5".to_owned(), name: None }));
    assert!(matches!(decide(&observed), Step::Apply(KubernetesEffect::Record(_))), "{:?}", decide(&observed));
}

/// The broker created the next key and answered with a failure, and so does the revocation of that key. If the operator
/// requested the key again at once, it would never end.
#[test]
fn a_key_that_can_not_be_revoked_is_not_requested_again_at_once() {
    let second = Sequence::FIRST.next();
    let mut observed = holding(key("before"));
    observed.recorded.operation =
        Some(Operation { stage: OperationStage::CleanUp { since: Some(now()) }, ..Operation::bind(second) });
    assert_eq!(decide(&observed), Step::Execute(RemoteEffect::Unbind(second)));
    let failure = Failure {
        attempted: Attempted::Revoke,
        class: ErrorClass::Transient,
        message: "502".to_owned(),
        retry_after: None,
    };
    observed.run.learn(Answer::Failed(failure));
    assert!(matches!(decide(&observed), Step::Wait(_)), "{:?}", decide(&observed));
}

/// The check of a key that only the Secret names comes before the clean-up. While it fails, both wait.
#[test]
fn a_failed_check_is_not_repeated_at_once_because_a_request_was_lost() {
    let [second, third, fifth] = [2, 3, 5].map(|number| Sequence::new(number).unwrap());
    let mut observed = holding(KeyRecord { sequence: second, ..key("now") });
    observed.recorded.operation = Some(Operation::clean_up(third, None));
    let claimed = KeyRecord { sequence: fifth, ..key("now") };
    observed.secret = SecretView::Damaged { key: Some(claimed), previous: None };
    assert_eq!(decide(&observed), Step::Execute(RemoteEffect::Confirm(fifth)));
    observed.run.learn(Answer::Failed(Failure {
        attempted: Attempted::Confirm,
        class: ErrorClass::Transient,
        message: "no answer".to_owned(),
        retry_after: None,
    }));
    assert!(matches!(rest(&observed).requeue, Requeue::Retry { .. }));
}
