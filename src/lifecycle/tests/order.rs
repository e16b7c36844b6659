//! The lists of checks: each name occurs once in its list, and each check decides in some state.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::order::trace::decided_during,
    inheritance::{former, from_cache, restored},
    *,
};
use crate::lifecycle::model;

fn with(mut observed: Observed, change: impl FnOnce(&mut Observed)) -> Observed {
    change(&mut observed);
    observed
}

fn sequence(number: u32) -> Sequence {
    Sequence::new(number).unwrap()
}

fn problem() -> Problem {
    Problem { reason: Reason::NotPermitted, message: "not now".to_owned() }
}

fn failure(attempted: Attempted) -> Failure {
    Failure { attempted, class: ErrorClass::Transient, message: "no".to_owned(), retry_after: None }
}

fn ids(plan: &str) -> PlanIds {
    PlanIds { service_id: "s-1".to_owned(), plan_id: plan.to_owned() }
}

/// A key is about to be created, with a plan of these ids.
fn of_a_plan() -> Observed {
    Observed { plan: PlanView::Known(ids("p-1")), ..asking() }
}

/// A ServiceKey without a key, whose first one has to be verified.
fn verifying() -> Observed {
    with(asking(), |observed| {
        observed.desired.verification =
            Some(VerificationPolicy { within: MINUTE, every: MINUTE, probe: "a".to_owned() });
        observed.secret = SecretView::Absent;
    })
}

/// The service did not accept the first key.
fn refused(revoked: bool) -> Verification {
    let inputs = asking().desired.inputs;
    let failed = FailedVerification { retry_at: at(3600), problem: "no".to_owned(), inputs, revoked };
    let (sequence, probe) = (Sequence::FIRST, "a".to_owned());
    Verification { sequence, since: now(), probe, failures: 1, failed: Some(failed) }
}

/// The third key was lost with its Secret, and the two before it still exist.
fn lost_with_two_before() -> Observed {
    with(holding(KeyRecord { sequence: sequence(3), ..key("now") }), |observed| {
        for number in 1..3 {
            observed.recorded.replace(sequence(number), None, None, now(), MINUTE);
        }
        observed.secret = SecretView::Absent;
        observed.run.absent.insert(sequence(3));
    })
}

fn deleting(observed: Observed) -> Observed {
    with(observed, |observed| observed.desired.deleting = true)
}

/// States that the model does not reach, each with the check that decides and its list.
fn scenarios() -> Vec<(&'static str, &'static str, Observed)> {
    let create = "Create a key";
    let restore = "Restore the Secret";
    let maintain = "Maintain the key";
    let revoke = "Revoke a replaced key";
    let verify = "Verify a key";
    let judge = "Judge a former Secret";
    let accept = "Continue with former keys";
    let marked = || Observed { marks_keys: true, ..restored() };
    let unadmitted = || Observed { admitted: false, ..restored() };
    let is_proved = |proved| with(marked(), |observed| observed.run.is_proved = Some(proved));
    vec![
        (create, "read_plan", Observed { plan: PlanView::Unknown, ..asking() }),
        (create, "read_plan_of_next_key", Observed { plan: PlanView::Unknown, ..holding(key("before")) }),
        (create, "record_plan", of_a_plan()),
        (create, "revoke_key_of_other_plan", Observed { noted_first: Some(ids("p-0")), ..of_a_plan() }),
        (
            create,
            "wait_for_definitions",
            with(of_a_plan(), |observed| observed.run.plan_recorded = Some(Sequence::FIRST)),
        ),
        ("Delete", "wait_for_the_end", deleting(with(asking(), |of| of.desired.finalizer = false))),
        ("Delete", "continue_with_former_keys", deleting(restored())),
        (
            "Delete",
            "wait_for_failed_release",
            deleting(with(holding(key("now")), |observed| {
                (observed.desired.retain, observed.marks_keys) = (true, true);
                observed.run.failure = Some(failure(Attempted::Release));
            })),
        ),
        (
            "Delete",
            "record_end_of_creation",
            deleting(with(at_work(), |observed| {
                let stage = OperationStage::Accepted { token: None, since: now(), inputs: None };
                let operation = Operation { sequence: Sequence::FIRST, plan_ids: None, stage };
                observed.recorded.operation = Some(operation);
                observed.run.completed = observed.run.pending.take();
            })),
        ),
        (
            verify,
            "refuse_foreign_staging_secret",
            with(verifying(), |observed| {
                observed.run.in_hand = Some(key("now"));
                observed.staging = StagingView::Foreign { holder: "it is taken".to_owned() };
            }),
        ),
        (
            "Create a key",
            "refuse_foreign_staging_secret",
            with(verifying(), |observed| {
                observed.staging = StagingView::Foreign { holder: "it is taken".to_owned() };
            }),
        ),
        (
            verify,
            "give_up",
            with(verifying(), |observed| {
                observed.run.in_hand = Some(key("now"));
                observed.staging = StagingView::Holds(Sequence::FIRST);
                observed.recorded.verification =
                    Some(Verification { since: now() - MINUTE, failed: None, ..refused(true) });
                let outcome = ProbeOutcome::Refused("no".to_owned());
                observed.run.verified = Some(Verified { sequence: Sequence::FIRST, at: now(), outcome });
            }),
        ),
        (
            restore,
            "discard_refused_credentials",
            with(verifying(), |observed| {
                observed.recorded.verification = Some(refused(false));
                observed.staging = StagingView::Holds(Sequence::FIRST);
            }),
        ),
        (
            restore,
            "revoke_refused_key",
            with(verifying(), |observed| observed.recorded.verification = Some(refused(false))),
        ),
        (
            restore,
            "record_refused_key",
            with(verifying(), |observed| {
                observed.recorded.verification = Some(refused(false));
                observed.run.revoked.insert(Sequence::FIRST, now());
            }),
        ),
        (
            restore,
            "wait_after_refused_key",
            with(verifying(), |observed| observed.recorded.verification = Some(refused(true))),
        ),
        ("Every ServiceKey", "judge_former_secret", restored()),
        (judge, "accept_former_keys", restored()),
        (judge, "refuse_second_set_of_keys", with(restored(), |of| of.run.in_hand = Some(key("now")))),
        (
            judge,
            "refuse_key_of_another",
            with(restored(), |observed| {
                let uid = Uuid::from_u128(7);
                observed.secret = former(uid, None, Some(problem()));
            }),
        ),
        (judge, "wait_for_provider", Observed { provider: ProviderView::Closed(problem()), ..unadmitted() }),
        (judge, "refuse_unproved_key", is_proved(false)),
        (judge, "refuse_secret", unadmitted()),
        (
            accept,
            "wait_for_spec_or_provider",
            with(restored(), |observed| observed.desired.problem = Some(problem())),
        ),
        (
            accept,
            "wait_for_failed_attempt",
            with(restored(), |observed| observed.run.failure = Some(failure(Attempted::Revoke))),
        ),
        (accept, "look_up_secret", from_cache(restored())),
        (accept, "prove_mark", marked()),
        (accept, "revoke_own_first_key", is_proved(true)),
        (
            accept,
            "wait_for_late_key",
            with(restored(), |observed| {
                observed.grace.unknown_until = Some(at(60));
                observed.run.revoked.insert(Sequence::FIRST, now());
            }),
        ),
        (accept, "record_former_uid", Observed { all_refused: true, ..restored() }),
        (
            restore,
            "look_up_contested_secret",
            with(holding(key("now")), |observed| {
                observed.secret = SecretView::Unknown;
                observed.run.failure = Some(failure(Attempted::Store));
            }),
        ),
        (restore, "wait_for_spec", with(asking(), |observed| observed.desired.problem = Some(problem()))),
        (
            restore,
            "confirm_claimed_key",
            with(holding(key("now")), |observed| {
                let claimed = KeyRecord { sequence: sequence(3), ..key("now") };
                observed.secret = SecretView::Damaged { key: Some(claimed), previous: None };
            }),
        ),
        (
            restore,
            "wait_for_late_revocation",
            with(holding(key("now")), |observed| {
                observed.secret = SecretView::Absent;
                observed.run.unsure_revocation = Some((Sequence::FIRST, now()));
                observed.grace.patience = Duration::from_secs(60);
            }),
        ),
        (restore, "wait_for_contested_secret", Observed { repair_from: Some(at(8)), ..asking() }),
        (
            restore,
            "revoke_current_key_first",
            with(holding(key("now")), |observed| {
                observed.secret = SecretView::Absent;
                observed.desired.rotation.revokes_first = true;
                observed.desired.inputs = "now+1".into();
            }),
        ),
        (
            restore,
            "replace_first_key",
            with(asking(), |observed| {
                observed.secret = SecretView::Damaged { key: None, previous: None };
                observed.run.conflicting = Some(Sequence::FIRST);
            }),
        ),
        (maintain, "wait_for_overlap", with(crowded(), |observed| observed.desired.inputs = "other".into())),
        (
            maintain,
            "wait_for_failed_write",
            with(holding(key("now")), |observed| {
                let next = Sequence::FIRST.next();
                observed.recorded.operation = Some(Operation::bind(next));
                observed.run.in_hand = Some(KeyRecord { sequence: next, ..key("now") });
                observed.run.failure = Some(failure(Attempted::Store));
            }),
        ),
        (
            revoke,
            "wait_for_late_revocation",
            with(holding(key("now")), |observed| {
                let next = Sequence::FIRST.next();
                observed.recorded.operation = Some(Operation::clean_up(next, None));
                observed.run.revoked.insert(next, now());
                observed.run.unsure_revocation = Some((next, now()));
                observed.grace.patience = Duration::from_secs(60);
            }),
        ),
        (restore, "revoke_oldest_key", lost_with_two_before()),
        (
            restore,
            "wait_for_late_oldest_key",
            with(lost_with_two_before(), |observed| {
                observed.recorded.previous[0].late_until = Some(at(60));
                observed.run.revoked.insert(Sequence::FIRST, now());
            }),
        ),
        (
            restore,
            "forget_oldest_key",
            with(lost_with_two_before(), |observed| {
                observed.run.revoked.insert(Sequence::FIRST, now());
            }),
        ),
        (maintain, "add_finalizer", with(holding(key("now")), |of| of.desired.finalizer = false)),
        (
            maintain,
            "wait_for_contested_secret",
            with(holding(key("now")), |observed| {
                let flaw = Some(Flaw::Edited);
                observed.secret = SecretView::Intact { key: key("now"), previous: None, flaw };
                observed.repair_from = Some(at(8));
            }),
        ),
        (
            maintain,
            "rehearse_secret",
            with(holding(key("now")), |observed| {
                let flaw = Some(Flaw::Outdated);
                observed.secret = SecretView::Intact { key: key("now"), previous: None, flaw };
                observed.run.conflicting = Some(Sequence::FIRST);
            }),
        ),
        (
            maintain,
            "wait_unconfirmed",
            with(holding(key("now")), |observed| {
                (observed.marks_keys, observed.missed) = (true, Some(Sequence::FIRST));
                observed.run.failure = Some(failure(Attempted::Confirm));
            }),
        ),
        (
            maintain,
            "wait_for_failed_confirmation",
            with(holding(KeyRecord { sequence: sequence(3), ..key("now") }), |observed| {
                observed.marks_keys = true;
                observed.recorded.key = None;
                observed.run.failure = Some(failure(Attempted::Confirm));
            }),
        ),
        (
            revoke,
            "follow_creation",
            with(holding(key("now")), |observed| {
                observed.recorded.operation = Some(Operation {
                    stage: OperationStage::Accepted { token: None, since: now(), inputs: None },
                    ..Operation::bind(sequence(2))
                });
            }),
        ),
        (
            revoke,
            "omit_from_secret",
            with(lost_with_two_before(), |observed| {
                // Another writer marked the first key as the one that is also in the Secret.
                observed.run.absent.clear();
                observed.desired.inputs = "others".into();
                observed.desired.keeps_previous = true;
                let key = KeyRecord { sequence: sequence(3), ..key("now") };
                observed.secret = SecretView::Intact { key, previous: Some(sequence(1)), flaw: None };
            }),
        ),
    ]
}

/// The same for a ServiceKey that is gone.
fn vanished() -> [(&'static str, Observed); 3] {
    [
        ("leave_keys_of_suspended", with(holding(key("now")), |of| of.desired.suspended = true)),
        ("leave_unknown_keys", asking()),
        ("revoke_known_keys", holding(key("now"))),
    ]
}

#[test]
fn no_name_stands_twice_in_a_list() {
    for DecisionList { title, about, checks } in order_of_decisions() {
        let names: BTreeMap<_, _> = checks.iter().copied().collect();
        assert_eq!(names.len(), checks.len(), "{title}");
        assert!(names.values().chain([&about]).all(|text| text.ends_with('.')), "{title}");
    }
}

#[test]
fn every_check_decides_somewhere() {
    let mut decided = decided_during(|| {
        model::wander();
        protection::tests::wander();
    });
    for (list, check, observed) in scenarios() {
        let by = decided_during(|| drop(decide(&observed)));
        assert!(by.contains(&(list, check)), "{check} should decide, not {by:?}");
        decided.extend(by);
    }
    for (check, observed) in vanished() {
        let by = decided_during(|| drop(clean_up_vanished(&deleting(observed))));
        assert!(by.contains(&("Clean up a vanished ServiceKey", check)), "{check} should decide, not {by:?}");
        decided.extend(by);
    }
    let lists = order_of_decisions();
    let all = lists.iter().flat_map(|list| list.checks.iter().map(|(check, _)| (list.title, *check)));
    let dead: BTreeSet<_> = all.filter(|check| !decided.contains(check)).collect();
    assert!(dead.is_empty(), "{dead:#?}");
}
