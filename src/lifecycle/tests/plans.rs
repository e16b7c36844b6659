//! The ids of a plan are noted before a key is created with them.

use rstest::rstest;

use super::*;

fn ids(plan: &str) -> PlanIds {
    PlanIds { service_id: "s-1".to_owned(), plan_id: plan.to_owned() }
}

fn recorded(step: Step) -> Recorded {
    match step {
        Step::Act(Effect::Record(report)) => report.memory,
        other => panic!("{other:?}"),
    }
}

const BIND: Effect = Effect::Bind { sequence: Sequence::FIRST, predecessor: None };

#[test]
fn the_first_key_is_created_without_a_write_where_its_ids_are_noted_with_the_finalizer() {
    let world = Observed { plan: PlanView::Known(ids("p-1")), noted_first: Some(ids("p-1")), ..asking() };
    assert_eq!(decide(&world), Step::Act(BIND));
}

/// Other ids than those that are noted: a key that may exist with those is revoked by them first.
#[rstest]
#[case::none(None, false, false)]
#[case::others(Some(ids("p-0")), false, true)]
#[case::others_of_a_bind_that_was_refused(Some(ids("p-0")), true, false)]
fn ids_that_are_not_noted_are_noted_first(
    #[case] noted_first: Option<PlanIds>,
    #[case] all_refused: bool,
    #[case] revokes: bool,
) {
    let mut world = Observed { plan: PlanView::Known(ids("p-1")), noted_first, all_refused, ..asking() };
    if revokes {
        assert_eq!(decide(&world), Step::Act(Effect::Unbind(Sequence::FIRST)));
        world.round.revoked.insert(Sequence::FIRST, now());
    }
    world.memory = recorded(decide(&world));
    assert_eq!(world.noted(Sequence::FIRST), Some(ids("p-1")));
    assert_eq!(decide(&world), Step::Act(BIND));
}

#[test]
fn a_catalog_that_is_not_known_is_read_first_and_once() {
    let mut world = Observed { plan: PlanView::Unknown, ..asking() };
    assert_eq!(decide(&world), Step::Act(Effect::CheckInstance));
    world.round.instance_checked = true;
    assert_eq!(rest(&world).report.ready.reason, Reason::RemoteUnreachable, "no key is created without");
}

/// Old definitions know no such field, and the API server drops it.
#[test]
fn ids_that_the_api_server_drops_are_written_once() {
    let mut world = Observed { plan: PlanView::Known(ids("p-1")), ..asking() };
    recorded(decide(&world));
    world.round.recorded = Some(Sequence::FIRST);
    assert!(rest(&world).report.ready.message.contains("CustomResourceDefinitions"));
}

#[test]
fn the_next_key_is_written_down_with_its_ids_and_the_one_before_keeps_its_own() {
    let current = KeyRecord { plan_ids: Some(ids("p-0")), ..key("before") };
    let mut world = Observed { plan: PlanView::Known(ids("p-1")), ..holding(current) };
    world.memory = recorded(decide(&world));
    let second = Sequence::FIRST.next();
    assert_eq!(world.noted(second), Some(ids("p-1")));
    assert_eq!(
        decide(&world),
        Step::Act(Effect::Bind { sequence: second, predecessor: Some(Sequence::FIRST) })
    );

    // The Secret holds it, and the status does not say so yet: the marks on a Secret hold no ids.
    let next = KeyRecord { sequence: second, ..key("now") };
    let memory = world.memory.advanced_to(&next, &world);
    assert_eq!(memory.key.and_then(|key| key.plan_ids), Some(ids("p-1")));
    assert_eq!(memory.previous[0].plan_ids, Some(ids("p-0")));
}

#[test]
fn a_lost_answer_keeps_the_ids() {
    let mut world = Observed { plan: PlanView::Unknown, noted_first: Some(ids("p-1")), ..asking() };
    world.round.lost = Some((Sequence::FIRST, now()));
    let operation = recorded(decide(&world)).operation.unwrap();
    assert_eq!((operation.kind, operation.plan_ids), (OperationKind::CleanUp, Some(ids("p-1"))));
}
