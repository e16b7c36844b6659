//! The operator records the ids of a plan before it creates a key with them.

use rstest::rstest;

use super::*;

fn ids(plan: &str) -> PlanIds {
    PlanIds { service_id: "s-1".to_owned(), plan_id: plan.to_owned() }
}

const BIND: Step = Step::Execute(RemoteEffect::Bind { sequence: Sequence::FIRST, predecessor: None });

#[test]
fn the_first_key_is_created_without_a_write_where_its_ids_are_noted_with_the_finalizer() {
    let observed = Observed { plan: PlanView::Known(ids("p-1")), noted_first: Some(ids("p-1")), ..asking() };
    assert_eq!(decide(&observed), BIND);
}

/// The current ids differ from the recorded ones. A key that may exist with the recorded ids is first revoked by them.
#[rstest]
#[case::none(None, false, false)]
#[case::others(Some(ids("p-0")), false, true)]
#[case::others_of_a_bind_that_was_refused(Some(ids("p-0")), true, false)]
fn ids_that_are_not_noted_are_noted_first(
    #[case] noted_first: Option<PlanIds>,
    #[case] all_refused: bool,
    #[case] revokes: bool,
) {
    let mut observed = Observed { plan: PlanView::Known(ids("p-1")), noted_first, all_refused, ..asking() };
    if revokes {
        assert_eq!(decide(&observed), Step::Execute(RemoteEffect::Unbind(Sequence::FIRST)));
        observed.run.revoked.insert(Sequence::FIRST, now());
    }
    observed.recorded = recorded(decide(&observed));
    assert_eq!(observed.noted(Sequence::FIRST), Some(ids("p-1")));
    assert_eq!(decide(&observed), BIND);
}

#[test]
fn a_catalog_that_is_not_known_is_read_first_and_once() {
    let mut observed = Observed { plan: PlanView::Unknown, ..asking() };
    assert_eq!(decide(&observed), Step::Execute(RemoteEffect::CheckInstance));
    observed.run.instance_checked = true;
    assert_eq!(rest(&observed).report.ready.reason, Reason::RemoteUnreachable, "no key is created without");
}

/// Old definitions do not have this field, and the API server drops it.
#[test]
fn ids_that_the_api_server_drops_are_written_once() {
    let mut observed = Observed { plan: PlanView::Known(ids("p-1")), ..asking() };
    recorded(decide(&observed));
    observed.run.plan_recorded = Some(Sequence::FIRST);
    assert!(rest(&observed).report.ready.message.contains("CustomResourceDefinitions"));
}

#[test]
fn the_next_key_is_written_down_with_its_ids_and_the_one_before_keeps_its_own() {
    let current = KeyRecord { plan_ids: Some(ids("p-0")), ..key("before") };
    let mut observed = Observed { plan: PlanView::Known(ids("p-1")), ..holding(current) };
    observed.recorded = recorded(decide(&observed));
    let second = Sequence::FIRST.next();
    assert_eq!(observed.noted(second), Some(ids("p-1")));
    assert_eq!(
        decide(&observed),
        Step::Execute(RemoteEffect::Bind { sequence: second, predecessor: Some(Sequence::FIRST) })
    );

    // The Secret contains the key, and the status does not record it yet. The marks on a Secret contain no ids.
    let next = KeyRecord { sequence: second, ..key("now") };
    let recorded = observed.recorded.advanced_to(&next, &observed);
    assert_eq!(recorded.key.and_then(|key| key.plan_ids), Some(ids("p-1")));
    assert_eq!(recorded.previous[0].plan_ids, Some(ids("p-0")));
}

#[test]
fn a_lost_answer_keeps_the_ids() {
    let mut observed = Observed { plan: PlanView::Unknown, noted_first: Some(ids("p-1")), ..asking() };
    observed.run.lost = Some((Sequence::FIRST, now()));
    let operation = recorded(decide(&observed)).operation.unwrap();
    assert!(operation.cleans_up());
    assert_eq!(operation.plan_ids, Some(ids("p-1")));
}
