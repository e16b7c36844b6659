//! Deletion of a ServiceKey for which there never was a key.

use rstest::rstest;

use super::*;

#[rstest]
#[case::each_was_refused(true, Effect::LookUpSecret)]
#[case::one_may_have_had_an_effect(false, Effect::Unbind(Sequence::FIRST))]
fn nothing_is_revoked_where_every_request_was_refused(#[case] all_refused: bool, #[case] expected: Effect) {
    let mut world = World { all_refused, secret: SecretView::Unknown, ..asking() };
    world.desired.deleting = true;
    assert_eq!(decide(&world), Step::Act(expected));
}

#[test]
fn a_key_that_is_known_is_revoked() {
    let mut world = World { all_refused: true, ..holding(key("now")) };
    world.desired.deleting = true;
    assert_eq!(decide(&world), Step::Act(Effect::Unbind(Sequence::FIRST)));
}
