//! ServiceKeys that are gone without the operator's removal of their finalizer: known keys are revoked, as in a
//! deletion.

use rstest::rstest;

use super::*;

/// A ServiceKey without any known key.
fn unknown() -> Observed {
    Observed { desired: Desired { deleting: true, ..asking().desired }, ..asking() }
}

/// A ServiceKey whose status records its key.
fn known() -> Observed {
    let observed = holding(key("now"));
    Observed { desired: Desired { deleting: true, ..observed.desired.clone() }, ..observed }
}

fn with_round(run: RunState) -> Observed {
    Observed { run, ..unknown() }
}

fn desired(change: impl FnOnce(&mut Desired)) -> Observed {
    let mut observed = known();
    change(&mut observed.desired);
    observed
}

fn leaving(left_behind: &[Sequence]) -> Step {
    Step::Apply(KubernetesEffect::RemoveFinalizer { left_behind: left_behind.to_vec() })
}

#[rstest]
#[case::no_key_is_known(unknown(), leaving(&[]))]
#[case::the_status_tells_of_it(known(), Step::Execute(RemoteEffect::Unbind(Sequence::FIRST)))]
#[case::its_credentials_were_just_stored(
    with_round(RunState { stored: Some(key("now")), ..RunState::default() }),
    Step::Execute(RemoteEffect::Unbind(Sequence::FIRST))
)]
#[case::its_credentials_were_not_stored_yet(
    with_round(RunState { in_hand: Some(key("now")), ..RunState::default() }),
    Step::Execute(RemoteEffect::Unbind(Sequence::FIRST))
)]
#[case::another_object_has_its_secret(
    Observed { secret: SecretView::Foreign { holder: "somebody".to_owned() }, ..known() },
    Step::Execute(RemoteEffect::Unbind(Sequence::FIRST))
)]
#[case::it_is_to_stay(desired(|desired| desired.retain = true), Step::Apply(KubernetesEffect::DeleteSecret))]
#[case::it_is_abandoned(desired(|desired| desired.abandon = true), Step::Apply(KubernetesEffect::DeleteSecret))]
#[case::it_is_suspended(desired(|desired| desired.suspended = true), leaving(&[Sequence::FIRST]))]
fn what_is_known_is_revoked_unless_the_user_wants_to_keep_it(
    #[case] observed: Observed,
    #[case] expected: Step,
) {
    assert_eq!(clean_up_vanished(&observed), expected);
}

/// The remote side may still process the request, so a revocation before that time is not the last one.
#[test]
fn a_key_whose_answer_was_lost_is_revoked_until_it_can_not_come_back() {
    let lost = with_round(RunState { given_up: Some((Sequence::FIRST, now())), ..RunState::default() });
    assert_eq!(clean_up_vanished(&lost), Step::Execute(RemoteEffect::Unbind(Sequence::FIRST)));
    let revoked = [(Sequence::FIRST, lost.now)].into();
    let early = with_round(RunState { revoked, ..lost.run });
    assert!(
        matches!(clean_up_vanished(&early), Step::Wait(Wait { requeue: Requeue::At(until), .. }) if until == now() + MINUTE)
    );
}
