//! Requests whose answers were lost, and which may still take effect.

use super::*;

/// The client sent the bind twice: the second one was answered, and the first one may be acted on after a revocation.
#[test]
fn a_revocation_outlasts_the_first_of_two_binds() {
    let late = Some(full_second(now().checked_add(MINUTE).unwrap()));
    let mut world = asking();
    world.round.learn(Answer::GivenUp(Sequence::FIRST, now()));
    world.round.learn(Answer::Issued(key("now")));
    let Step::Act(Effect::WriteSecret { key, .. }) = decide(&world) else { panic!("{:?}", decide(&world)) };
    assert_eq!(key.late_until, late);

    // Also by a process that knows nothing of it but what is stored.
    let mut world = holding(key);
    world.desired.deleting = true;
    assert_eq!(decide(&world), Step::Act(Effect::Unbind(Sequence::FIRST)));
    world.round.learn(Answer::Revoked(Sequence::FIRST, now()));
    let Step::Rest(rest) = decide(&world) else { panic!("{:?}", decide(&world)) };
    assert_eq!(Some(rest.wake), late.map(Wake::At));
}
