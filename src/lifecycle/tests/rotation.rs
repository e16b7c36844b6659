//! When keys are replaced by themselves.

use std::collections::HashMap;

use jiff::{SignedDuration, ToSpan};
use proptest::prelude::*;
use rstest::rstest;

use super::{super::rotation::next_rotation, *};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A ServiceKey whose key was made just now, and that has this rotation.
fn rotating(every: Option<Duration>, overlap: Duration) -> World {
    let world = holding(key("now"));
    World {
        desired: Desired { rotation: Rotation { every, overlap, makes_room: false }, ..world.desired },
        ..world
    }
}

fn due(world: &World, key: &KeyRecord) -> SignedDuration {
    next_rotation(world, key).unwrap().duration_since(key.created_at)
}

fn every() -> impl Strategy<Value = Duration> {
    (60_000..400 * 24 * 3_600_000_u64).prop_map(Duration::from_millis)
}

proptest! {
    #[test]
    fn a_key_is_replaced_somewhat_before_its_age_limit(
        every in every(),
        shorter in 0.0..1.0_f64,
        owner: u128,
        sequence in 1..u32::MAX,
    ) {
        let overlap = every.mul_f64(shorter);
        let world = World { owner: Uuid::from_u128(owner), ..rotating(Some(every), overlap) };
        let key = KeyRecord { sequence: Sequence::new(sequence).unwrap(), ..key("now") };
        let due = Duration::try_from(due(&world, &key)).unwrap();
        prop_assert!(due <= every);
        // Times are full seconds.
        let second = Duration::from_secs(1);
        prop_assert!(due + second > every - (every / 10).min(DAY));
        prop_assert!(due + second > overlap, "the key before it would lose some of its overlap");
        prop_assert_eq!(due.subsec_nanos(), 0);
    }

    #[test]
    fn the_time_moves_with_nothing_but_the_key_and_the_spec(every in every(), owner: u128, seconds in 0..1_000_000_u32) {
        let world = World { owner: Uuid::from_u128(owner), ..rotating(Some(every), Duration::ZERO) };
        let later = World {
            now: world.now + i64::from(seconds).seconds(),
            memory: Memory::default(),
            secret: SecretView::Unknown,
            round: Round { absent: [Sequence::FIRST].into(), ..Round::default() },
            ..world.clone()
        };
        prop_assert_eq!(next_rotation(&world, &key("now")), next_rotation(&later, &key("now")));
    }
}

#[test]
fn the_time_is_the_same_in_every_release() {
    let world = rotating(Some(720 * HOUR), DAY);
    assert_eq!(next_rotation(&world, &key("now")), Some("2026-12-23T17:22:25Z".parse().unwrap()));
}

#[test]
fn keys_that_were_made_together_are_not_replaced_together() {
    const KEYS: u128 = 10_000;
    let mut minutes = HashMap::<i64, u128>::new();
    for owner in 0..KEYS {
        let world = World { owner: Uuid::from_u128(owner), ..rotating(Some(720 * HOUR), DAY) };
        // All within a minute.
        let created_at = now() + i64::try_from(owner * 60 / KEYS).unwrap().seconds();
        let due = next_rotation(&world, &KeyRecord { created_at, ..key("now") }).unwrap();
        *minutes.entry(due.as_second().div_euclid(60)).or_default() += 1;
    }
    // Spread evenly over a day, there would be seven for each minute.
    let most = minutes.values().max().unwrap();
    assert!(*most <= KEYS / 400, "{most} keys are replaced in one minute");
    assert!(minutes.len() > 1400, "all are replaced within {} minutes of a day", minutes.len());
}

#[rstest]
#[case::as_it_wishes(Some(10 * DAY), None, HOUR, 10 * DAY)]
#[case::as_it_wishes_before_the_end(Some(10 * DAY), Some(20 * DAY), HOUR, 10 * DAY)]
#[case::a_wish_for_the_end_is_none(Some(20 * DAY), Some(20 * DAY), HOUR, 19 * DAY)]
#[case::a_day_before_the_end(None, Some(20 * DAY), HOUR, 19 * DAY)]
#[case::a_tenth_before_the_end(None, Some(20 * HOUR), HOUR, 18 * HOUR)]
#[case::the_overlap_before_the_end(None, Some(20 * DAY), 3 * DAY, 17 * DAY)]
#[case::after_half_its_life(None, Some(20 * HOUR), DAY, 10 * HOUR)]
#[case::not_in_its_first_minute(None, Some(MINUTE), HOUR, MINUTE)]
#[case::not_at_once(Some(Duration::ZERO), None, HOUR, MINUTE)]
fn a_key_is_replaced_as_the_remote_side_wishes_and_before_it_ends(
    #[case] renew_before: Option<Duration>,
    #[case] expires_at: Option<Duration>,
    #[case] overlap: Duration,
    #[case] expected: Duration,
) {
    let at = |time: Option<Duration>| time.map(|time| now() + time);
    let key = KeyRecord { renew_before: at(renew_before), expires_at: at(expires_at), ..key("now") };
    let due = due(&rotating(None, overlap), &key);
    assert_eq!(due, SignedDuration::try_from(expected).unwrap());
}

#[test]
fn a_key_that_ended_before_it_was_made_is_replaced_after_a_minute() {
    let key = KeyRecord { expires_at: Some(now() - HOUR), ..key("now") };
    assert_eq!(due(&rotating(None, HOUR), &key), SignedDuration::from_mins(1));
}

#[test]
fn whichever_comes_first_replaces_a_key() {
    let key = KeyRecord { renew_before: Some(now() + 10 * DAY), ..key("now") };
    for (every, expected) in [(9 * DAY, 9 * DAY), (30 * DAY, 10 * DAY)] {
        let due = Duration::try_from(due(&rotating(Some(every), HOUR), &key)).unwrap();
        assert!(due <= expected && due > expected - DAY, "{due:?}");
    }
}

#[test]
fn a_rest_ends_when_the_key_is_to_be_replaced() {
    let world = rotating(Some(720 * HOUR), DAY);
    let due = next_rotation(&world, &key("now")).unwrap();
    let rest = rest(&world);
    assert_eq!((rest.wake, rest.report.next_rotation), (Wake::At(due), Some(due)));
    assert!(matches!(decide(&World { now: due, ..world }), Step::Act(Effect::Record(_))));
}
