//! Scheduled rotations.

use std::collections::HashMap;

use jiff::{SignedDuration, ToSpan};
use proptest::prelude::*;
use rstest::rstest;

use super::{super::rotation::next_rotation, *};
use crate::{api::RotationWindow, lifecycle::Windows};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A ServiceKey whose key was created just now, with this rotation.
fn rotating(every: Option<Duration>, overlap: Duration) -> Observed {
    let observed = holding(key("now"));
    Observed {
        desired: Desired {
            rotation: RotationPolicy { every, overlap, max_overlap: None, revokes_first: false },
            ..observed.desired
        },
        ..observed
    }
}

fn due(observed: &Observed, key: &KeyRecord) -> SignedDuration {
    next_rotation(observed, key).unwrap().duration_since(key.created_at)
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
        let observed = Observed { owner: Uuid::from_u128(owner), ..rotating(Some(every), overlap) };
        let key = KeyRecord { sequence: Sequence::new(sequence).unwrap(), ..key("now") };
        let due = Duration::try_from(due(&observed, &key)).unwrap();
        prop_assert!(due <= every);
        // Times are full seconds.
        let second = Duration::from_secs(1);
        prop_assert!(due + second > every - (every / 10).min(DAY));
        prop_assert!(due + second > overlap, "the key before it would lose some of its overlap");
        prop_assert_eq!(due.subsec_nanos(), 0);
    }

    #[test]
    fn the_time_moves_with_nothing_but_the_key_and_the_spec(every in every(), owner: u128, seconds in 0..1_000_000_u32) {
        let observed = Observed { owner: Uuid::from_u128(owner), ..rotating(Some(every), Duration::ZERO) };
        let later = Observed {
            now: observed.now + i64::from(seconds).seconds(),
            recorded: Recorded::default(),
            secret: SecretView::Unknown,
            run: RunState { absent: [Sequence::FIRST].into(), ..RunState::default() },
            ..observed.clone()
        };
        prop_assert_eq!(next_rotation(&observed, &key("now")), next_rotation(&later, &key("now")));
    }
}

#[test]
fn the_time_is_the_same_in_every_release() {
    let observed = rotating(Some(720 * HOUR), DAY);
    assert_eq!(next_rotation(&observed, &key("now")), Some("2026-12-23T17:22:25Z".parse().unwrap()));
}

#[test]
fn keys_that_were_made_together_are_not_replaced_together() {
    const KEYS: u128 = 10_000;
    let mut minutes = HashMap::<i64, u128>::new();
    for owner in 0..KEYS {
        let observed = Observed { owner: Uuid::from_u128(owner), ..rotating(Some(720 * HOUR), DAY) };
        // All keys are created within a minute.
        let created_at = now() + i64::try_from(owner * 60 / KEYS).unwrap().seconds();
        let due = next_rotation(&observed, &KeyRecord { created_at, ..key("now") }).unwrap();
        *minutes.entry(due.as_second().div_euclid(60)).or_default() += 1;
    }
    // If they were spread evenly over a day, there would be seven for each minute.
    let most = minutes.values().max().unwrap();
    assert!(*most <= KEYS / 400, "{most} keys are replaced in one minute");
    assert!(minutes.len() > 1400, "all are replaced within {} minutes of a day", minutes.len());
}

/// A ServiceKey that rotates only on Saturdays, from 2 to 6 o'clock. Its key was created on a Tuesday at noon.
fn on_saturdays(every: Option<Duration>) -> Observed {
    let window = RotationWindow {
        schedule: "0 2 * * SAT".to_owned(),
        duration: "4h".parse().unwrap(),
        time_zone: None,
    };
    let mut observed = rotating(every, HOUR);
    observed.desired.windows = Windows::new(&[window]).unwrap();
    observed
}

/// The next four openings: 2 o'clock on Saturday.
const SATURDAYS: [Duration; 4] = [
    Duration::from_secs((3 * 24 + 14) * 3600),
    Duration::from_secs((10 * 24 + 14) * 3600),
    Duration::from_secs((17 * 24 + 14) * 3600),
    Duration::from_secs((24 * 24 + 14) * 3600),
];

#[rstest]
#[case::waits_for_the_window(Some(10 * DAY), told(None, None), SATURDAYS[1])]
#[case::a_third_before_the_end(None, told(Some(now() + 15 * DAY), None), SATURDAYS[1])]
#[case::no_window_before_the_end(None, told(Some(now() + 9 * DAY), None), 9 * DAY - 9 * DAY / 10)]
#[case::a_third_before_the_renewal(None, told(None, Some(now() + 15 * DAY)), SATURDAYS[1])]
#[case::no_window_before_the_renewal(None, told(None, Some(now() + 9 * DAY)), 9 * DAY)]
fn a_scheduled_rotation_waits_for_a_window_unless_the_key_expires(
    #[case] every: Option<Duration>,
    #[case] lifetime: Lifetime,
    #[case] expected: Duration,
) {
    let key = KeyRecord { lifetime, ..key("now") };
    assert_eq!(due(&on_saturdays(every), &key), SignedDuration::try_from(expected).unwrap());
}

#[test]
fn a_rotation_that_missed_its_window_waits_for_the_next_one() {
    let mut observed = on_saturdays(Some(5 * DAY));
    let due_at = |observed: &Observed| next_rotation(observed, &key("now")).unwrap();
    for (days, expected, is_begun) in [
        (Duration::ZERO, SATURDAYS[1], false),
        (6 * DAY, SATURDAYS[1], false),
        (SATURDAYS[1], SATURDAYS[1], true),
        (SATURDAYS[1] + 3 * HOUR, SATURDAYS[1], true),
        (SATURDAYS[1] + 4 * HOUR, SATURDAYS[2], false),
        (SATURDAYS[2] + HOUR, SATURDAYS[1], true),
    ] {
        observed.now = now() + days;
        assert_eq!(due_at(&observed), now() + expected, "after {days:?}");
        let begins = matches!(decide(&observed), Step::Apply(KubernetesEffect::Record(_)));
        assert_eq!(begins, is_begun, "after {days:?}");
    }

    // A rotation that has begun is completed after its window.
    observed.now = now() + SATURDAYS[1];
    observed.recorded = recorded(decide(&observed));
    observed.now += 5 * HOUR;
    assert!(matches!(decide(&observed), Step::Execute(RemoteEffect::Bind { .. })), "{:?}", decide(&observed));
}

#[test]
fn a_request_and_a_loss_do_not_wait_for_a_window() {
    let mut requested = on_saturdays(None);
    requested.desired.inputs = "other".into();
    let mut lost = on_saturdays(None);
    lost.recorded.loss = Some(Loss { since: now(), cause: LossCause::Lost });
    for observed in [requested, lost] {
        let report = recorded(decide(&observed));
        assert_eq!(report.attempt(), Sequence::new(2));
    }
}

#[test]
fn a_rotation_outside_of_all_windows_says_why() {
    let key = KeyRecord { lifetime: told(Some(now() + 9 * DAY), None), ..key("now") };
    let mut observed = on_saturdays(None);
    (observed.recorded.key, observed.secret) =
        (Some(key.clone()), SecretView::Intact { key, previous: None, flaw: None });
    observed.now = now() + 9 * DAY - DAY / 2;
    let Step::Apply(KubernetesEffect::Record(report)) = decide(&observed) else { panic!("no rotation") };
    let rotating = report.rotating.unwrap();
    assert_eq!(rotating.reason, Reason::Rotating);
    let words =
        "creating key 2 outside the windows of `spec.rotation.windows`, because key 1 is about to expire";
    assert_eq!(rotating.message, words);
}

/// The times that the remote side returns.
fn told(expires_at: Option<Timestamp>, renew_before: Option<Timestamp>) -> Lifetime {
    Lifetime::new(now(), expires_at, renew_before, vec![])
}

/// A key with the end of a certificate in its credentials.
fn certified(ends: Timestamp) -> KeyRecord {
    let source = ExpirySource::Certificate("/tls.crt".to_owned());
    let end = CredentialEnd { at: Some(ends), source };
    KeyRecord { lifetime: Lifetime::new(now(), None, None, vec![end]), ..key("now") }
}

#[rstest]
#[case::a_third_before_the_end(9 * DAY, HOUR, 6 * DAY)]
#[case::a_month_before_the_end(300 * DAY, HOUR, 270 * DAY)]
#[case::the_overlap_before_the_end(9 * DAY, 4 * DAY, 5 * DAY)]
#[case::after_half_its_life(9 * DAY, 8 * DAY, 9 * DAY / 2)]
#[case::not_in_its_first_hour(5 * HOUR / 4, MINUTE, HOUR)]
#[case::the_first_hour_ends_with_the_certificate(HOUR / 2, MINUTE, HOUR / 2)]
#[case::not_again_within_minutes(MINUTE, MINUTE, 5 * MINUTE)]
fn a_key_is_replaced_before_its_certificate_ends(
    #[case] life: Duration,
    #[case] overlap: Duration,
    #[case] expected: Duration,
) {
    let due = due(&rotating(None, overlap), &certified(now() + life));
    assert_eq!(due, SignedDuration::try_from(expected).unwrap());
}

/// The last rotation returned the same certificate.
#[rstest]
#[case::at_the_end(HOUR / 2, HOUR / 2)]
#[case::not_again_within_minutes(MINUTE, 5 * MINUTE)]
fn a_certificate_that_did_not_change_counts_at_its_end(#[case] life: Duration, #[case] expected: Duration) {
    let key = KeyRecord { same_credentials: true, ..certified(now() + life) };
    let due = due(&rotating(None, MINUTE), &key);
    assert_eq!(due, SignedDuration::try_from(expected).unwrap());
}

/// The remote side's time for a rotation is about its own expiry, which is later.
#[rstest]
#[case::earlier(5 * DAY, 5 * DAY)]
#[case::later(8 * DAY, 6 * DAY)]
fn a_certificate_counts_beside_the_time_of_the_remote_side(
    #[case] renew: Duration,
    #[case] expected: Duration,
) {
    let mut key = certified(now() + 9 * DAY);
    key.lifetime.renew_before = Some(now() + renew);
    assert_eq!(due(&rotating(None, HOUR), &key), SignedDuration::try_from(expected).unwrap());
}

/// Each key has the same certificate, which ends soon, and other passwords.
#[test]
fn an_old_certificate_causes_at_most_one_rotation_in_an_hour() {
    let ends = now() + DAY;
    let mut times = vec![now()];
    loop {
        let last = *times.last().unwrap();
        let end = CredentialEnd { at: Some(ends), source: ExpirySource::Certificate("/tls.crt".to_owned()) };
        let lifetime = Lifetime::new(last, None, None, vec![end]);
        let key = KeyRecord { created_at: last, lifetime, ..key("now") };
        let Some(next) = next_rotation(&rotating(None, HOUR), &key) else { break };
        assert!(next >= last + HOUR, "{last} {next}");
        times.push(next);
    }
    assert!(times.len() < 10, "{times:?}");
    assert!(*times.last().unwrap() >= ends, "the expired certificate does not count any more");
}

#[test]
fn an_expired_certificate_and_an_ignored_one_are_shown() {
    let mut observed = holding(certified(now() + DAY));
    observed.now = now() + 2 * DAY;
    let Step::Apply(KubernetesEffect::Record(report)) = decide(&observed) else { panic!("no rotation") };
    assert_eq!((report.ready.ready, report.ready.reason), (false, Reason::KeyExpired));
    let words = "according to the certificate at `/tls.crt`";
    assert!(report.ready.message.contains(words), "{}", report.ready.message);

    let rest = rest(&holding(certified(now() - DAY)));
    let words = "; the certificate at `/tls.crt` 2026-11-23T12:00:00Z is ignored, because it is not after";
    assert!(rest.report.ready.ready && rest.report.ready.message.contains(words), "{rest:?}");
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
#[case::not_at_once(Some(Duration::from_secs(1)), None, HOUR, MINUTE)]
fn a_key_is_replaced_as_the_remote_side_wishes_and_before_it_ends(
    #[case] renew_before: Option<Duration>,
    #[case] expires_at: Option<Duration>,
    #[case] overlap: Duration,
    #[case] expected: Duration,
) {
    let at = |time: Option<Duration>| time.map(|time| now() + time);
    let key = KeyRecord { lifetime: told(at(expires_at), at(renew_before)), ..key("now") };
    let due = due(&rotating(None, overlap), &key);
    assert_eq!(due, SignedDuration::try_from(expected).unwrap());
}

/// The status reports a remote side that gives all keys the same credentials, and scheduled rotations end. The user may
/// request another key.
#[test]
fn a_rotation_that_changed_no_credentials_ends_the_schedule() {
    let second = KeyRecord {
        sequence: Sequence::FIRST.next(),
        lifetime: told(Some(now() + DAY), None),
        same_credentials: true,
        ..key("now")
    };
    let mut observed = holding(second.clone());
    observed.desired.rotation.every = Some(HOUR);
    observed.recorded.replace(Sequence::FIRST, None, None, now(), Duration::ZERO);
    observed.recorded.previous[0].revoke_at = None;
    for later in [0, 2 * 3600] {
        observed.now = now() + later.seconds();
        let rest = rest(&observed);
        assert_eq!(rest.requeue, Requeue::At(now() + DAY), "only the expiry is to come");
        assert_eq!((rest.report.ready.ready, rest.report.next_rotation), (true, Some(now() + DAY)));
        let told = rest.report.rotating.unwrap();
        assert_eq!(told.reason, Reason::RotationIneffective);
        assert!(told.message.contains("key 1 is not revoked"), "{}", told.message);
    }
    observed.desired.inputs = "now+asked".into();
    let Step::Apply(KubernetesEffect::Record(report)) = decide(&observed) else {
        panic!("no rotation begins")
    };
    assert_eq!(report.recorded.attempt(), Some(second.sequence.next()));
    assert_eq!(report.recorded.previous[0].revoke_at, None);
}

const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

#[rstest]
#[case::zero(ZERO_TIME)]
#[case::past("2026-11-24T11:00:00Z")]
#[case::the_creation_itself("2026-11-24T12:00:00Z")]
fn a_time_that_is_not_after_the_creation_does_not_count_and_is_shown(#[case] time: &str) {
    let time: Timestamp = time.parse().unwrap();
    let ending = KeyRecord { lifetime: told(Some(time), None), ..key("now") };
    let renewed = KeyRecord { lifetime: told(None, Some(time)), ..key("now") };
    for (key, field) in [(ending, "expiresAt"), (renewed, "renewBefore")] {
        let mut observed = holding(key.clone());
        observed.now = now() + 1000 * DAY;
        assert_eq!(next_rotation(&observed, &key), None);
        let rest = rest(&observed);
        let words = format!("`{field}` {time} is ignored");
        assert!(rest.report.ready.ready && rest.report.ready.message.contains(&words), "{rest:?}");
        assert_eq!(rest.requeue, Requeue::OnChange);
    }
}

#[test]
fn a_zero_time_hides_no_real_one() {
    let zero = ZERO_TIME.parse().ok();
    let ending = KeyRecord { lifetime: told(Some(now() + 20 * DAY), zero), ..key("now") };
    let renewed = KeyRecord { lifetime: told(zero, Some(now() + 19 * DAY)), ..key("now") };
    for key in [ending, renewed] {
        assert_eq!(due(&rotating(None, HOUR), &key), SignedDuration::from_hours(19 * 24));
    }
}

#[test]
fn a_zero_time_of_creation_is_not_taken_for_the_age_of_a_key() {
    assert_eq!(created_at(ZERO_TIME.parse().ok(), now()), now());
    assert_eq!(created_at(Some(now() - DAY), now()), now() - DAY);
    assert_eq!(created_at(None, now()), now());
}

/// The key expired an hour ago, and the next one has this failure or this provider.
fn expired(failure: Option<Failure>, provider: ProviderView) -> Observed {
    let observed = holding(KeyRecord { lifetime: told(Some(now() + DAY), None), ..key("now") });
    let run = RunState { failure, ..RunState::default() };
    Observed { now: now() + DAY + HOUR, run, provider, ..observed }
}

#[test]
fn ready_is_false_with_its_reason_once_the_key_has_expired_and_the_next_one_is_made() {
    let observed = expired(None, ProviderView::Available);
    let Step::Apply(KubernetesEffect::Record(report)) = decide(&observed) else { panic!("no rotation") };
    assert_eq!((report.ready.ready, report.ready.reason), (false, Reason::KeyExpired));
    assert_eq!(report.recorded.attempt(), Sequence::new(2));
}

#[test]
fn an_expired_key_and_what_keeps_the_next_one_from_being_made_are_both_shown() {
    let failure = Failure {
        attempted: Attempted::Provision,
        class: ErrorClass::Rejected,
        message: "no".to_owned(),
        retry_after: None,
    };
    let problem = Problem { reason: Reason::ProviderNotReady, message: "no".to_owned() };
    let refused = expired(Some(failure), ProviderView::Available);
    let unavailable = expired(None, ProviderView::Unavailable(problem));
    for (observed, reason) in [(refused, Reason::BindRejected), (unavailable, Reason::ProviderNotReady)] {
        let report = rest(&observed).report;
        assert_eq!((report.ready.ready, report.ready.reason), (false, Reason::KeyExpired));
        assert_eq!(report.rotating.map(|problem| problem.reason), Some(reason));
    }
}

#[test]
fn ready_turns_false_at_the_moment_at_which_the_key_expires() {
    let problem = Problem { reason: Reason::InvalidSpec, message: "no".to_owned() };
    let mut observed = expired(None, ProviderView::Available);
    observed.desired.problem = Some(problem);
    observed.now = now() + DAY - HOUR;
    let before = rest(&observed);
    assert!(before.report.ready.ready);
    assert_eq!(before.requeue, Requeue::At(now() + DAY));
    observed.now = now() + DAY;
    let after = rest(&observed);
    assert_eq!((after.report.ready.ready, after.report.ready.reason), (false, Reason::KeyExpired));
    assert_eq!(after.requeue, Requeue::OnChange, "nothing is left that time changes");
}

#[test]
fn whichever_comes_first_replaces_a_key() {
    let key = KeyRecord { lifetime: told(None, Some(now() + 10 * DAY)), ..key("now") };
    for (every, expected) in [(9 * DAY, 9 * DAY), (30 * DAY, 10 * DAY)] {
        let due = Duration::try_from(due(&rotating(Some(every), HOUR), &key)).unwrap();
        assert!(due <= expected && due > expected - DAY, "{due:?}");
    }
}

#[test]
fn a_rest_ends_when_the_key_is_to_be_replaced() {
    let observed = rotating(Some(720 * HOUR), DAY);
    let due = next_rotation(&observed, &key("now")).unwrap();
    let rest = rest(&observed);
    assert_eq!((rest.requeue, rest.report.next_rotation), (Requeue::At(due), Some(due)));
    assert!(matches!(decide(&Observed { now: due, ..observed }), Step::Apply(KubernetesEffect::Record(_))));
}

/// The user requested a fourth key while the overlaps of two previous ones are not over.
fn requested_a_fourth() -> Observed {
    let mut observed = crowded();
    observed.desired.inputs = "other".into();
    observed
}

#[test]
fn a_fourth_key_waits_for_the_overlap_of_the_oldest() {
    let mut observed = requested_a_fourth();
    let wait = rest(&observed);
    assert_eq!(wait.requeue, Requeue::At(at(60)));
    assert!(wait.report.ready.ready);
    assert_eq!(wait.report.reconciling().unwrap().reason, Reason::WaitingForOverlap);
    assert_eq!(wait.report.rotating.unwrap().reason, Reason::WaitingForOverlap);

    observed.now = at(60);
    assert_eq!(decide(&observed), Step::Execute(RemoteEffect::Unbind(Sequence::FIRST)));
    observed.run.learn(Answer::Revoked(Sequence::FIRST, at(60)));
    observed.recorded = recorded(decide(&observed));
    assert_eq!(recorded(decide(&observed)).attempt(), Sequence::new(4));
}

/// The user shortened the overlap between two rotations, so the second key is gone before the first one. If the status
/// is lost after another rotation, nothing names the first key any more.
#[test]
fn the_next_key_waits_for_the_overlap_of_a_key_before_the_previous_one() {
    let mut observed = requested_a_fourth();
    observed.recorded.previous.truncate(1);
    let wait = rest(&observed);
    assert_eq!(wait.requeue, Requeue::At(at(60)));
    assert_eq!(wait.report.rotating.unwrap().reason, Reason::WaitingForOverlap);

    observed.now = at(60);
    assert_eq!(decide(&observed), Step::Execute(RemoteEffect::Unbind(Sequence::FIRST)));
}

/// Overlaps end in any order. The number of a new key shows which other keys may exist, even if the status is lost.
#[rstest]
fn a_lost_status_follows_from_the_number_of_the_newest_key(
    #[values(1, 60, 240)] first: u64,
    #[values(1, 60, 240)] second: u64,
    #[values(0, 90, 300)] later: u64,
) {
    let mut observed = holding(key("now"));
    for (inputs, overlap) in [("second", first), ("third", second), ("fourth", 1)] {
        observed.desired.inputs = inputs.into();
        observed.desired.rotation.overlap = Duration::from_secs(overlap);
        while observed.recorded.operation.is_none() {
            match decide(&observed) {
                Step::Apply(KubernetesEffect::Record(report)) => observed.recorded = report.recorded,
                Step::Execute(RemoteEffect::Unbind(sequence)) => {
                    observed.run.learn(Answer::Revoked(sequence, observed.now));
                }
                Step::Wait(Wait { requeue: Requeue::At(time), .. }) => observed.now = time,
                step => panic!("{step:?}"),
            }
        }
        let sequence = observed.recorded.attempt().unwrap();
        let alive = observed.recorded.sequences();
        let derived = Recorded::default().skipped(sequence);
        assert!(alive.iter().all(|key| *key == sequence || derived.contains(key)), "{alive:?}");

        let next = KeyRecord { sequence, created_at: observed.now, ..key(inputs) };
        observed.recorded = observed.recorded.advanced_to(&next, &observed);
        observed.secret = SecretView::Intact { key: next, previous: None, flaw: None };
        observed.now = observed.now.checked_add(Duration::from_secs(later)).unwrap();
    }
}

#[rstest]
#[case::the_current_key_is_gone(|observed: &mut Observed| {
    observed.recorded.loss = Some(Loss { since: now(), cause: LossCause::Lost });
})]
#[case::the_current_key_has_expired(|observed: &mut Observed| {
    let expired = KeyRecord { lifetime: told(Some(at(1)), None), ..observed.recorded.key.clone().unwrap() };
    observed.recorded.key = Some(expired.clone());
    observed.secret = SecretView::Intact { key: expired, previous: None, flaw: None };
})]
#[case::the_user_wants_no_overlap(|observed: &mut Observed| {
    observed.desired.rotation.overlap = Duration::ZERO;
})]
fn a_key_that_is_needed_at_once_ends_the_overlap_of_the_oldest(#[case] change: fn(&mut Observed)) {
    let mut observed = requested_a_fourth();
    observed.now = at(2);
    change(&mut observed);
    assert_eq!(decide(&observed), Step::Execute(RemoteEffect::Unbind(Sequence::FIRST)));
}

/// Otherwise that request could create it again while three others exist.
#[test]
fn a_key_that_is_needed_at_once_waits_for_a_late_request_for_the_oldest() {
    let mut observed = requested_a_fourth();
    observed.desired.rotation.overlap = Duration::ZERO;
    observed.recorded.previous[0].late_until = Some(at(30));
    assert_eq!(rest(&observed).requeue, Requeue::At(at(30)));
    observed.now = at(30);
    assert_eq!(decide(&observed), Step::Execute(RemoteEffect::Unbind(Sequence::FIRST)));
}

/// The next key changes nothing for the consumers of the keys before the current one.
#[test]
fn a_rotation_leaves_the_overlap_of_older_keys_as_it_is() {
    let mut observed = crowded();
    observed.recorded.previous.remove(0);
    let next = KeyRecord { sequence: Sequence::new(4).unwrap(), inputs: "other".into(), ..key("now") };
    let after = observed.recorded.advanced_to(&next, &observed);
    let ends: Vec<_> = after.previous.iter().map(|key| key.revoke_at.unwrap()).collect();
    assert_eq!(ends, [at(120), at(60)]);
    observed.desired.rotation.overlap = Duration::ZERO;
    let after = observed.recorded.advanced_to(&next, &observed);
    assert!(after.previous.iter().all(|key| key.revoke_at.unwrap() == now()));
}

/// The remote side refuses everything. The two failures must not take turns without a pause.
#[test]
fn a_failed_revocation_and_a_failed_rotation_wait_together() {
    let failed = |attempted| {
        let (class, message) = (ErrorClass::Transient, "no".to_owned());
        Answer::Failed(Failure { attempted, class, message, retry_after: None })
    };
    let mut observed = requested_a_fourth();
    observed.recorded.previous.remove(0);
    observed.now = at(120);
    assert_eq!(decide(&observed), Step::Execute(RemoteEffect::Unbind(Sequence::FIRST.next())));
    observed.run.learn(failed(Attempted::Revoke));
    observed.recorded = recorded(decide(&observed));
    assert!(matches!(decide(&observed), Step::Execute(RemoteEffect::Bind { .. })));
    observed.run.learn(failed(Attempted::Provision));
    assert_eq!(rest(&observed).requeue, Requeue::Retry { not_before: None });
}

/// After a crash, no process may poll the creation of a key that is gone.
#[test]
fn a_key_that_was_created_in_the_background_is_not_revoked_before_the_status_says_so() {
    let mut observed = Observed { marks_keys: true, ..holding(key("now")) };
    let next = Sequence::FIRST.next();
    let stage = OperationStage::Accepted { token: None, since: now(), inputs: None };
    observed.recorded.operation = Some(Operation { sequence: next, plan_ids: None, stage });
    observed.run.completed = at_work().run.pending.map(|work| PendingOperation { sequence: next, ..work });
    observed.recorded = recorded(decide(&observed));
    assert_eq!(observed.recorded.operation, Some(Operation::clean_up(next, None)));
}
