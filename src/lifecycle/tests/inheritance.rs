//! Secrets of former ServiceKeys: whose keys they tell of, and what comes before the operator goes on with those.

use rstest::rstest;

use super::*;

const FORMER: Uuid = Uuid::from_u128(7);

/// A ServiceKey from a backup, whose Secret names the former one.
fn restored() -> Observed {
    Observed {
        secret: SecretView::Former { uid: FORMER, sequence: Some(Sequence::FIRST.next()), obstacle: None },
        ..asking()
    }
}

fn recorded(world: &Observed) -> Recorded {
    match decide(world) {
        Step::Act(Effect::Record(report)) => {
            assert_eq!((report.ready.ready, report.ready.reason), (false, Reason::Restoring));
            report.memory
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

/// A process that crashed may have created a first key of its own.
#[rstest]
#[case::revoked(Answer::Revoked(Sequence::FIRST, now()))]
#[case::refused(failed(ErrorClass::Rejected))]
#[case::unknown_there(failed(ErrorClass::Gone))]
fn a_first_key_of_its_own_is_revoked_before(#[case] answer: Answer, #[values(false, true)] deleting: bool) {
    let mut world = restored();
    world.desired.deleting = deleting;
    assert_eq!(decide(&world), Step::Act(Effect::Unbind(Sequence::FIRST)));
    world.round.learn(answer);
    assert_eq!(recorded(&world), inheriting());
}

#[test]
fn nothing_is_taken_over_before_that_is_clear() {
    let mut world = restored();
    world.round.learn(failed(ErrorClass::Transient));
    assert_eq!(rest(&world).wake, Requeue::Retry { not_before: None });
    let problem = Problem { reason: Reason::ProviderNotReady, message: "it is away".to_owned() };
    let world = Observed { provider: ProviderView::Unavailable(problem), ..restored() };
    assert_eq!(rest(&world).report.ready.reason, Reason::ProviderNotReady);
}

#[rstest]
#[case::no_finalizer(|world: &mut Observed| world.desired.finalizer = false)]
#[case::all_refused(|world: &mut Observed| world.all_refused = true)]
#[case::abandoned(|world: &mut Observed| (world.desired.abandon, world.desired.deleting) = (true, true))]
#[case::retained(|world: &mut Observed| (world.desired.retain, world.desired.deleting) = (true, true))]
fn where_there_can_be_no_key_none_is_revoked(#[case] change: fn(&mut Observed)) {
    let mut world = restored();
    change(&mut world);
    assert_eq!(recorded(&world), inheriting());
}

/// Whoever has keys already never goes on with those of another one.
#[rstest]
#[case::in_the_status(|world: &mut Observed| world.memory.key = Some(key("now")))]
#[case::planned(|world: &mut Observed| world.memory.operation = Some(Operation::bind(Sequence::FIRST)))]
#[case::of_a_former_one(|world: &mut Observed| world.memory.former = Some(Uuid::from_u128(8)))]
#[case::in_hand(|world: &mut Observed| world.round.in_hand = Some(key("now")))]
#[case::just_stored(|world: &mut Observed| world.round.stored = Some(key("now")))]
fn a_service_key_with_keys_of_its_own_takes_over_none(#[case] change: fn(&mut Observed)) {
    let mut world = restored();
    change(&mut world);
    assert_eq!(rest(&world).report.ready.reason, Reason::SecretConflict);
    world.desired.deleting = true;
    assert!(!matches!(decide(&world), Step::Act(Effect::Record(_))));
}

#[test]
fn what_is_not_believed_is_a_conflict_and_holds_no_deletion_up() {
    let problem = Problem { reason: Reason::NotPermitted, message: "denied".to_owned() };
    let secret = SecretView::Former { uid: FORMER, sequence: None, obstacle: Some(problem) };
    let mut world = Observed { secret, ..asking() };
    assert_eq!(rest(&world).report.ready.reason, Reason::NotPermitted);
    world.desired.deleting = true;
    assert_eq!(decide(&world), Step::Act(Effect::Unbind(Sequence::FIRST)));
    world.round.learn(Answer::Revoked(Sequence::FIRST, now()));
    assert_eq!(decide(&world), Step::Act(Effect::RemoveFinalizer { left_behind: vec![] }));
}

/// From then on the Secret is the ServiceKey's own, and is first of all written again.
#[test]
fn the_secret_of_a_former_service_key_is_repaired_and_the_key_stays() {
    let claimed = key("now");
    let secret = SecretView::Intact { key: claimed.clone(), previous: None, flaw: Some(Flaw::Edited) };
    let mut world = Observed { memory: inheriting(), secret, ..asking() };
    let Step::Act(Effect::Record(report)) = decide(&world) else { panic!("{:?}", decide(&world)) };
    assert_eq!(report.memory, Recorded { key: Some(claimed), ..inheriting() });
    world.memory = report.memory;
    assert_eq!(decide(&world), Step::Act(Effect::RestoreSecret));
}

/// Where keys have marks, the remote side has to show one before anything else.
#[rstest]
fn a_mark_proves_whose_the_key_is(#[values(false, true)] deleting: bool) {
    let mut world = Observed { marks_keys: true, ..restored() };
    world.desired.deleting = deleting;
    let second = Sequence::FIRST.next();
    assert_eq!(decide(&world), Step::Act(Effect::Prove { former: FORMER, sequence: second }));
    world.round.learn(Answer::Proved(true));
    assert_eq!(decide(&world), Step::Act(Effect::Unbind(Sequence::FIRST)));
    world.round.learn(Answer::Revoked(Sequence::FIRST, now()));
    assert_eq!(recorded(&world), inheriting());
}

#[test]
fn a_key_that_the_remote_side_does_not_show_is_a_conflict() {
    let mut world = Observed { marks_keys: true, ..restored() };
    world.round.learn(Answer::Proved(false));
    let rest = rest(&world);
    assert_eq!((rest.report.ready.reason, rest.report.memory), (Reason::SecretConflict, Recorded::default()));
    world.desired.deleting = true;
    assert_eq!(decide(&world), Step::Act(Effect::Unbind(Sequence::FIRST)), "its own, as of any other");
}

#[test]
fn a_namespace_that_is_not_admitted_takes_over_nothing() {
    let problem = Problem { reason: Reason::ProviderNotAllowed, message: "no".to_owned() };
    let provider = ProviderView::Closed(problem);
    let mut world = Observed { admitted: false, provider, ..restored() };
    for finalizer in [false, true] {
        world.desired.finalizer = finalizer;
        assert_eq!(rest(&world).report.ready.reason, Reason::ProviderNotAllowed);
    }
    // Also a status that says so already causes no call.
    world = Observed { memory: inheriting(), secret: SecretView::Absent, ..world };
    world.desired.deleting = true;
    assert_eq!(rest(&world).report.ready.reason, Reason::ProviderNotAllowed);
}

/// A bind of a process that crashed may still take effect.
#[test]
fn a_first_key_that_may_still_come_is_waited_for() {
    let mut world = restored();
    world.late.unknown_until = Some(at(60));
    world.round.learn(Answer::Revoked(Sequence::FIRST, now()));
    assert_eq!(rest(&world).wake, Requeue::At(at(60)));
    world.now = at(60);
    assert_eq!(decide(&world), Step::Act(Effect::Unbind(Sequence::FIRST)));
    world.round.learn(Answer::Revoked(Sequence::FIRST, at(60)));
    assert_eq!(recorded(&world), inheriting());
}

/// A definition of an earlier release has no such field.
#[test]
fn what_the_api_server_does_not_store_is_not_written_without_end() {
    let mut world = Observed { all_refused: true, ..restored() };
    let message = "it does not store `status.formerUid`".to_owned();
    let (attempted, class) = (Attempted::Store, ErrorClass::Rejected);
    world.round.learn(Answer::Failed(Failure { attempted, class, message, retry_after: None }));
    assert_eq!(rest(&world).report.ready.reason, Reason::SecretRejected);
}
