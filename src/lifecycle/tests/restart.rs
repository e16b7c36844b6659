//! Restarts of workloads after rotations.

use rstest::rstest;

use super::*;

const SECOND: Sequence = Sequence::FIRST.next();

/// A ServiceKey with workloads whose Secret contains the second key, while the status names the first one.
fn rotated() -> Observed {
    let next = KeyRecord { sequence: SECOND, ..key("now") };
    let mut observed = holding(next);
    observed.recorded =
        Recorded { key: Some(key("now")), operation: Some(Operation::bind(SECOND)), ..Recorded::default() };
    observed.desired.rotation.overlap = 600 * MINUTE;
    observed.desired.restarts = true;
    observed
}

/// The restart that the next record begins.
fn begun(observed: &Observed) -> Option<WorkloadRestart> {
    recorded(decide(observed)).restart
}

/// A ServiceKey half a minute after its rotation.
fn settled() -> Observed {
    let mut observed = rotated();
    observed.recorded = recorded(decide(&observed));
    observed.now = at(30);
    observed
}

/// The step that carries out the recorded restart.
fn restarts(observed: &Observed) -> Step {
    let (restart, companions) = (observed.recorded.restart.clone().unwrap(), vec![]);
    Step::Apply(KubernetesEffect::RestartWorkloads { restart, companions })
}

/// Learns the result of an attempt at the recorded restart.
fn attempt(observed: &mut Observed, problem: Option<&str>) {
    let restart = observed.recorded.restart.clone().unwrap();
    observed.run.learn(Answer::Restarted(restart, problem.map(str::to_owned)));
}

#[test]
fn workloads_restart_half_a_minute_after_a_rotation() {
    let mut observed = rotated();
    observed.recorded = recorded(decide(&observed));
    let expected = WorkloadRestart { sequence: SECOND, due: at(30), attempts: 0, problem: None };
    assert_eq!(observed.recorded.restart, Some(expected));
    assert_eq!(rest(&observed).not_after, Some(at(30)));
    observed.now = at(30);
    assert_eq!(decide(&observed), restarts(&observed));

    attempt(&mut observed, None);
    observed.recorded = recorded(decide(&observed));
    assert_eq!(observed.recorded.restart, None);
    assert_eq!(rest(&observed).not_after, None);
}

/// A restart belongs to a rotation. Whatever else happens to the status or the Secret restarts nothing.
#[rstest]
#[case::no_workloads(|observed: &mut Observed| observed.desired.restarts = false)]
#[case::the_first_key(|observed: &mut Observed| {
    *observed = Observed { recorded: Recorded::default(), ..holding(key("now")) };
    observed.desired.restarts = true;
})]
#[case::the_same_credentials(|observed: &mut Observed| {
    let SecretView::Intact { key, .. } = &mut observed.secret else { panic!("{:?}", observed.secret) };
    key.same_credentials = true;
})]
fn nothing_restarts_without_another_key(#[case] change: fn(&mut Observed)) {
    let mut observed = rotated();
    change(&mut observed);
    assert_eq!(begun(&observed), None);
}

#[test]
fn workloads_that_are_named_later_restart_after_the_next_rotation() {
    let mut observed = rotated();
    observed.desired.restarts = false;
    observed.recorded = recorded(decide(&observed));
    observed.desired.restarts = true;
    assert_eq!(rest(&observed).not_after, None);
}

#[test]
fn a_failed_restart_is_tried_again_and_told() {
    let mut observed = settled();
    let problem = "Deployment `orders` does not exist".to_owned();
    let mut waits = Vec::new();
    for _ in 0..9 {
        attempt(&mut observed, Some(&problem));
        let report = match decide(&observed) {
            Step::Apply(KubernetesEffect::Record(report)) => report,
            step => panic!("{step:?}"),
        };
        let told = report.rotating.clone().unwrap();
        assert_eq!(told.reason, Reason::RestartFailed);
        assert!(told.message.contains(&problem), "{}", told.message);
        assert!(report.ready.ready, "the Secret has a key that works");
        observed.recorded = report.recorded;
        let next = observed.recorded.restart.clone().unwrap().due;
        waits.push(next.duration_since(observed.now).as_secs() / 60);
        observed.run = RunState::default();
        assert_eq!(rest(&observed).not_after, Some(next));
        observed.now = next;
        assert_eq!(decide(&observed), restarts(&observed));
    }
    assert_eq!(waits, [1, 2, 4, 8, 10, 10, 10, 10, 10]);
}

/// The provider is not needed for a restart.
#[test]
fn a_provider_in_trouble_delays_no_restart() {
    let mut observed = settled();
    let problem = Problem { reason: Reason::RemoteUnreachable, message: "no answer".to_owned() };
    observed.provider = ProviderView::Unavailable(problem);
    observed.pause = Some(at(3600));
    observed.now = at(29);
    assert_eq!(rest(&observed).not_after, Some(at(30)));
    observed.now = at(30);
    assert_eq!(decide(&observed), restarts(&observed));
}

#[rstest]
#[case::suspended(|observed: &mut Observed| observed.desired.suspended = true)]
#[case::deleted(|observed: &mut Observed| observed.desired.deleting = true)]
#[case::the_secret_is_damaged(|observed: &mut Observed| {
    let key = observed.secret.key().cloned();
    observed.secret = SecretView::Damaged { key, previous: None };
})]
fn a_restart_waits_for_better_times(#[case] change: fn(&mut Observed)) {
    let mut observed = settled();
    change(&mut observed);
    let step = decide(&observed);
    assert!(!matches!(step, Step::Apply(KubernetesEffect::RestartWorkloads { .. })), "{step:?}");
    if let Step::Wait(wait) = step {
        assert_eq!(wait.not_after, None, "a time that has passed would end each wait at once");
    }
}

/// The next key came before the workloads restarted with the last one: they restart with the newest.
#[test]
fn the_next_rotation_begins_its_own_restart() {
    let mut observed = settled();
    observed.recorded.operation = Some(Operation::bind(SECOND.next()));
    let third = KeyRecord { sequence: SECOND.next(), ..key("now") };
    observed.secret = SecretView::Intact { key: third, previous: None, flaw: None };
    let expected = WorkloadRestart { sequence: SECOND.next(), due: at(60), attempts: 0, problem: None };
    assert_eq!(begun(&observed), Some(expected));
}

/// No operator ran until long after the overlap. The pods still use the first key.
#[test]
fn the_overlap_counts_from_a_late_restart() {
    let mut observed = settled();
    observed.now = at(24 * 3600);
    assert_eq!(decide(&observed), restarts(&observed));
    attempt(&mut observed, None);
    observed.recorded = recorded(decide(&observed));
    let expected = at(24 * 3600 + 600 * 60);
    assert_eq!(observed.recorded.previous[0].revoke_at, Some(expected));
    assert_eq!(rest(&observed).requeue, Requeue::At(expected));
}

/// Another ServiceKey that names the same workload, as it is at the time of the restart.
#[rstest]
#[case::its_next_key_is_being_created(Companion::Rotating, Some(40))]
#[case::it_is_due_soon(Companion::Due(at(45)), Some(45))]
#[case::it_is_due_at_the_last_moment(Companion::Due(at(330)), Some(330))]
#[case::it_is_due_too_late(Companion::Due(at(331)), None)]
#[case::it_is_due(Companion::Due(at(30)), None)]
#[case::it_failed(Companion::Failed, None)]
fn a_restart_waits_for_those_of_others(#[case] companion: Companion, #[case] wait: Option<i64>) {
    let mut observed = settled();
    observed.companions = [(Uuid::from_u128(7), companion)].into();
    let step = decide(&observed);
    match wait {
        Some(second) => assert_eq!(rest(&observed).not_after, Some(at(second)), "{step:?}"),
        None => assert!(matches!(step, Step::Apply(KubernetesEffect::RestartWorkloads { .. })), "{step:?}"),
    }
}

/// Neither an endless rotation of another ServiceKey nor many short waits delay a restart for more than five minutes, and
/// none delays it beyond the overlap of the previous key.
#[rstest]
#[case::five_minutes(600 * MINUTE, 330)]
#[case::the_overlap(2 * MINUTE, 120)]
#[case::no_overlap(Duration::ZERO, 30)]
fn a_restart_waits_for_a_bounded_time(#[case] overlap: Duration, #[case] latest: i64) {
    let mut observed = rotated();
    observed.desired.rotation.overlap = overlap;
    observed.recorded.key = Some(key("before"));
    observed.recorded = recorded(decide(&observed));
    observed.now = at(30);
    loop {
        let soon = observed.now.checked_add(Duration::from_secs(3)).unwrap();
        observed.companions =
            [(Uuid::from_u128(7), Companion::Rotating), (Uuid::from_u128(8), Companion::Due(soon))].into();
        match decide(&observed) {
            Step::Wait(wait) => observed.now = wait.not_after.unwrap(),
            step => {
                break assert!(
                    matches!(step, Step::Apply(KubernetesEffect::RestartWorkloads { .. })),
                    "{step:?}"
                );
            }
        }
    }
    assert_eq!(observed.now, at(latest));
}

/// Those whose Secrets have their next keys, as far as the kubelets know them.
#[test]
fn one_patch_restarts_a_workload_for_all_that_are_due() {
    let mut observed = settled();
    let companions =
        [Companion::Due(at(30)), Companion::Failed, Companion::Due(at(10)), Companion::Due(at(1000))];
    let companions =
        companions.into_iter().zip(1..).map(|(companion, number)| (Uuid::from_u128(number), companion));
    observed.companions = companions.collect();
    let Step::Apply(KubernetesEffect::RestartWorkloads { companions, .. }) = decide(&observed) else {
        panic!("{:?}", decide(&observed))
    };
    assert_eq!(companions, [1, 2, 3].map(Uuid::from_u128));
}

/// An attempt that failed has waited before, and may have failed because of the others.
#[test]
fn a_repeated_attempt_is_about_the_own_key_only() {
    let mut observed = settled();
    observed.recorded.restart.as_mut().unwrap().attempts = 1;
    let companions = [(Uuid::from_u128(7), Companion::Rotating), (Uuid::from_u128(8), Companion::Failed)];
    observed.companions = companions.into();
    assert_eq!(decide(&observed), restarts(&observed));
}

#[rstest]
#[case::the_key_is_stored(|_: &mut Observed| {}, Some(Companion::Due(at(30))))]
#[case::an_attempt_failed(
    |observed: &mut Observed| observed.recorded.restart.as_mut().unwrap().attempts = 1,
    Some(Companion::Failed)
)]
#[case::the_key_is_being_created(rotates, Some(Companion::Rotating))]
#[case::the_key_could_not_be_created(
    |observed: &mut Observed| {
        rotates(observed);
        let message = "no".to_owned();
        let (attempted, class) = (Attempted::Provision, ErrorClass::Rejected);
        observed.run.failure = Some(Failure { attempted, class, message, retry_after: None });
    },
    None
)]
#[case::nothing_is_due(|observed: &mut Observed| observed.recorded.restart = None, None)]
#[case::it_is_suspended(|observed: &mut Observed| observed.desired.suspended = true, None)]
#[case::it_is_deleted(|observed: &mut Observed| observed.desired.deleting = true, None)]
#[case::it_names_no_workloads(|observed: &mut Observed| observed.desired.restarts = false, None)]
fn others_see_the_restart(#[case] change: fn(&mut Observed), #[case] expected: Option<Companion>) {
    let mut observed = settled();
    change(&mut observed);
    assert_eq!(as_companion(&observed), expected);
}

fn rotates(observed: &mut Observed) {
    observed.recorded.restart = None;
    observed.recorded.operation = Some(Operation::bind(SECOND.next()));
}

/// A second attempt in one reconcile has a result of its own.
#[test]
fn the_result_of_an_attempt_counts_once() {
    let mut observed = settled();
    attempt(&mut observed, Some("it is paused"));
    observed.recorded = recorded(decide(&observed));
    observed.now = at(3600);
    assert_eq!(decide(&observed), restarts(&observed));
}
