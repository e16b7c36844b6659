//! Previous keys that stay while pods may use them.

use rstest::rstest;

use super::*;

const SECOND: Sequence = Sequence::FIRST.next();
const MOST: Duration = Duration::from_secs(24 * 3600);

/// A ServiceKey at the end of an overlap of an hour. The user wants no key revoked that a pod may use.
fn overlapped() -> Observed {
    let mut observed = holding(KeyRecord { sequence: SECOND, ..key("now") });
    observed.desired.rotation.overlap = 60 * MINUTE;
    observed.desired.rotation.max_overlap = Some(MOST);
    observed.recorded.replace(Sequence::FIRST, None, None, now(), 60 * MINUTE);
    observed.now = at(3600);
    observed
}

fn change() -> KeyChange {
    KeyChange { replaced: Sequence::FIRST, at: now() }
}

fn looks() -> Step {
    Step::Apply(KubernetesEffect::LookForConsumers(change()))
}

fn revokes(observed: &Observed) -> bool {
    match decide(observed) {
        Step::Execute(RemoteEffect::Unbind(sequence)) => sequence == Sequence::FIRST,
        step => panic!("{step:?}"),
    }
}

fn one_pod() -> Consumers {
    let mut consumers = Consumers::default();
    consumers.add("app".to_owned());
    consumers
}

#[test]
fn a_key_is_revoked_if_no_pod_uses_it() {
    let mut observed = overlapped();
    observed.now = at(3599);
    assert_eq!(rest(&observed).requeue, Requeue::At(at(3600)));
    observed.now = at(3600);
    assert_eq!(decide(&observed), looks());
    observed.run.learn(Answer::Consumers(change(), Consumers::default()));
    assert!(revokes(&observed));
}

/// The looks become rarer, and end with the longest overlap.
#[test]
fn a_key_stays_while_pods_use_it() {
    let mut observed = overlapped();
    let mut looked = 0;
    let mut waits = Vec::new();
    while decide(&observed) == looks() {
        looked += 1;
        observed.run.learn(Answer::Consumers(change(), one_pod()));
        let Step::Apply(KubernetesEffect::Record(report)) = decide(&observed) else { panic!("no record") };
        assert!(report.ready.ready);
        assert_eq!(report.rotating.as_ref().unwrap().reason, Reason::ConsumersNotMoved);
        observed.recorded = report.recorded;
        observed.run = RunState::default();
        let next = observed.recorded.previous[0].revoke_at.unwrap();
        assert_eq!(rest(&observed).requeue, Requeue::At(next));
        waits.push(next.duration_since(observed.now).as_secs() / 60);
        observed.now = next;
    }
    assert_eq!(waits[..4], [6, 6, 7, 8]);
    assert!(waits.iter().all(|wait| *wait <= 10) && looked < 150, "{waits:?}");
    assert_eq!(observed.now, at(24 * 3600));
    assert!(revokes(&observed));
}

#[test]
fn a_key_stays_if_the_pods_are_unknown() {
    let mut observed = overlapped();
    let problem = Some("no answer".to_owned());
    observed.run.learn(Answer::Consumers(change(), Consumers { problem, ..Consumers::default() }));
    let recorded = recorded(decide(&observed));
    assert!(recorded.previous[0].revoke_at > Some(observed.now));
}

#[rstest]
#[case::the_user_did_not_ask(|observed: &mut Observed| observed.desired.rotation.max_overlap = None)]
#[case::the_status_has_no_time(|observed: &mut Observed| observed.recorded.previous[0].replaced_at = None)]
#[case::the_longest_overlap_is_over(|observed: &mut Observed| observed.now = at(24 * 3600))]
#[case::it_is_deleted(|observed: &mut Observed| observed.desired.deleting = true)]
fn nobody_looks(#[case] change: fn(&mut Observed)) {
    let mut observed = overlapped();
    change(&mut observed);
    assert!(revokes(&observed));
}

/// A look has found no pod, and the revocation has begun. A failed list must not make the key stay again.
#[rstest]
#[case::it_is_confirmed(|observed: &mut Observed| observed.run.learn(Answer::Revoked(Sequence::FIRST, now())))]
#[case::its_outcome_is_unknown(|observed: &mut Observed| {
    observed.run.unsure_revocation = Some((Sequence::FIRST, now()));
})]
fn nobody_looks_once_the_revocation_has_begun(#[case] change: fn(&mut Observed)) {
    let mut observed = overlapped();
    change(&mut observed);
    assert_ne!(decide(&observed), looks());
}

/// The previous credentials stay in the Secret as long as the key stays.
#[test]
fn previous_credentials_stay_with_the_key() {
    let mut observed = overlapped();
    observed.desired.keeps_previous = true;
    let SecretView::Intact { previous, .. } = &mut observed.secret else { panic!("{:?}", observed.secret) };
    *previous = Some(Sequence::FIRST);
    assert_eq!(decide(&observed), looks());
    let mut used = observed.clone();
    used.run.learn(Answer::Consumers(change(), one_pod()));
    assert!(matches!(decide(&used), Step::Apply(KubernetesEffect::Record(_))));
    observed.run.learn(Answer::Consumers(change(), Consumers::default()));
    assert_eq!(decide(&observed), Step::Apply(KubernetesEffect::OmitPrevious));
}

/// The overlap is zero, and the third key before the next one is still used.
#[test]
fn the_next_rotation_waits_for_the_consumers_of_the_oldest_key() {
    let mut observed = crowded();
    observed.desired.rotation.overlap = Duration::ZERO;
    observed.desired.rotation.max_overlap = Some(MOST);
    observed.desired.inputs = "other".into();
    let wait = rest(&observed);
    assert_eq!(wait.report.rotating.unwrap().reason, Reason::WaitingForOverlap);
}

/// The next key has the same credentials as the one before, so pods use them until the key after it.
#[test]
fn a_twin_is_replaced_with_its_other() {
    let mut observed = holding(KeyRecord { sequence: SECOND.next(), ..key("now") });
    observed.recorded.key = Some(KeyRecord { sequence: SECOND, same_credentials: true, ..key("now") });
    observed.recorded.replace(Sequence::FIRST, None, None, now(), MINUTE).revoke_at = None;
    observed.recorded.operation = Some(Operation::bind(SECOND.next()));
    observed.now = at(7200);
    let recorded = recorded(decide(&observed));
    let replaced: Vec<_> = recorded.previous.iter().map(|previous| previous.replaced_at).collect();
    assert_eq!(replaced, [Some(at(7200)); 2]);
}

/// No pod can use a key that the remote side has lost.
#[test]
fn a_lost_key_has_no_consumers() {
    let mut observed = holding(KeyRecord { sequence: SECOND, ..key("now") });
    observed.recorded.key = Some(key("now"));
    observed.recorded.loss = Some(Loss { cause: LossCause::Lost, since: now() });
    observed.recorded.operation = Some(Operation::bind(SECOND));
    let recorded = recorded(decide(&observed));
    assert_eq!(recorded.previous[0].replaced_at, None);
}

/// No operator ran until long after the overlap, so the workloads restarted late.
#[test]
fn the_longest_overlap_counts_from_a_late_restart() {
    let mut observed = overlapped();
    observed.now = at(48 * 3600);
    observed.recorded.previous[0].revoke_at = Some(observed.now);
    assert_eq!(decide(&observed), looks());
    observed.run.learn(Answer::Consumers(change(), one_pod()));
    let kept = recorded(decide(&observed)).previous[0].kept_until;
    assert_eq!(kept, Some(at(47 * 3600 + 24 * 3600)));
}

/// The result of a look is about one change of the Secret.
#[test]
fn a_look_at_another_change_does_not_count() {
    let mut observed = overlapped();
    let other = KeyChange { at: at(1), ..change() };
    observed.run.learn(Answer::Consumers(other, Consumers::default()));
    assert_eq!(decide(&observed), looks());
}
