//! The time of a rotation, and the overlap of the keys around it.

use std::time::Duration;

use jiff::{Timestamp, Unit};
use uuid::Uuid;

use super::{
    Desired, Expiry, ExpirySource, Identity, KeyRecord, Observed, RotationPolicy, parameters, verification,
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);
/// The shortest time between two rotations for certificates or tokens.
const SHORTEST_PAUSE: Duration = Duration::from_secs(300);
/// The parts of a span by which a rotation may come early.
const TENTH: u32 = 10;
const THIRD: u32 = 3;

/// A time at which a rotation is due, by one of the reasons.
#[derive(Clone, Copy)]
struct DueTime {
    due: Timestamp,
    /// When the rotation begins although no window is open; `None`: it waits for a window.
    urgent: Option<Timestamp>,
}

/// The time of the next scheduled rotation. It depends only on the spec, the key, and the window that is open, and is a
/// full second, as all times in statuses.
#[must_use]
pub(super) fn next_rotation(observed: &Observed, key: &KeyRecord) -> Option<Timestamp> {
    let rests_until = verification::refused(observed, key.sequence.next()).map(|refused| refused.until);
    let has_begun = observed.recorded.attempt().is_some_and(|attempt| attempt > key.sequence);
    // A rotation that has begun is completed, even if its window closes meanwhile.
    let next =
        due_times(observed, key).map(|time| if has_begun { time.due } else { begins(observed, time) }).min();
    next.max(rests_until.filter(|_| next.is_some()))
}

/// The first time that is due and at which a window is open, or that is urgent.
fn begins(observed: &Observed, DueTime { due, urgent }: DueTime) -> Timestamp {
    let Desired { windows, .. } = &observed.desired;
    let first = windows.first_open(due);
    // The rotation could not begin in its first window.
    let has_passed = first <= observed.now && !windows.is_open(observed.now);
    let opens = if has_passed { windows.first_open(observed.now) } else { first };
    urgent.map_or(opens, |urgent| opens.min(urgent.max(due)))
}

/// Whether a rotation is due outside of all windows, because the key would expire before the next one.
pub(super) fn is_urgent(observed: &Observed, key: &KeyRecord) -> bool {
    let mut urgent = due_times(observed, key).filter_map(|time| time.urgent);
    !observed.desired.windows.is_open(observed.now) && urgent.any(|urgent| urgent <= observed.now)
}

/// The times at which the key is due to be replaced: the age limit, the time that the remote side requires, some time
/// before it expires, and the change of its parameters. If the last rotation returned the same credentials, the next one
/// would as well, unless they have expired or the parameters have changed.
fn due_times(observed: &Observed, key: &KeyRecord) -> impl Iterator<Item = DueTime> {
    let Desired { rotation, windows, .. } = &observed.desired;
    let times = if key.same_credentials {
        [at_expiry(key), None, None]
    } else {
        let has_windows = !windows.is_empty();
        [
            by_age(rotation, observed.owner, key),
            by_renewal(key, has_windows),
            by_expiry(rotation, key, has_windows),
        ]
    };
    times.into_iter().chain([by_parameters(observed, key)]).flatten()
}

/// The age limit, or somewhat earlier. Each key has its own part of the spread, so that keys that were created together
/// are not replaced together. No key is replaced so early that the key before it would lose some of its overlap.
fn by_age(rotation: &RotationPolicy, owner: Uuid, key: &KeyRecord) -> Option<DueTime> {
    let every = rotation.every?;
    let spread = (every / TENTH).min(DAY).min(every.saturating_sub(rotation.overlap));
    let earlier = Identity { owner, sequence: key.sequence }.part_of(spread.as_secs());
    let due = key.created_at.checked_add(Duration::from_secs(every.as_secs() - earlier)).ok()?;
    Some(DueTime { due, urgent: None })
}

/// The content of `parametersFrom` has changed.
fn by_parameters(observed: &Observed, key: &KeyRecord) -> Option<DueTime> {
    parameters::changed_at(observed, key).map(|due| DueTime { due, urgent: None })
}

fn at_expiry(key: &KeyRecord) -> Option<DueTime> {
    let expiry = key.expiry()?;
    let due = after_shortest_use(key, expiry, expiry.at)?;
    Some(DueTime { due, urgent: Some(due) })
}

/// The time that the remote side requires, unless the key expires before. If windows limit rotations, a third of the
/// time until then remains for one of them to open.
fn by_renewal(key: &KeyRecord, has_windows: bool) -> Option<DueTime> {
    let renew = key.renewal().filter(|renew| key.expiry().is_none_or(|expiry| *renew < expiry.at))?;
    let early = if has_windows { part_of_life(key, renew, THIRD, MONTH) } else { Duration::ZERO };
    let due = not_before(key, MINUTE, before(renew, early)?)?;
    Some(DueTime { due, urgent: not_before(key, MINUTE, renew) })
}

/// Some time before the key expires, so that both keys work while consumers switch: the overlap, or a part of the key's
/// life, whichever is longer, and at most half of its life.
///
/// The part is a tenth, at most a day. If the remote side requires a rotation at an earlier time than its own expiry, only
/// that time counts. The remote side may not know of the end of a certificate or token, so there is more time for failed
/// attempts: a third, at most 30 days. The same time is there for a window to open. Without an open window, the rotation
/// begins when only a tenth is left.
fn by_expiry(rotation: &RotationPolicy, key: &KeyRecord, has_windows: bool) -> Option<DueTime> {
    let expiry = key.expiry()?;
    let Expiry { at: end, source } = expiry;
    let is_told = *source == ExpirySource::RemoteSide;
    if is_told && key.renewal().is_some_and(|renew| renew < *end) {
        return None;
    }
    let half = part_of_life(key, *end, 2, Duration::MAX);
    let earlier_by =
        |part: Duration| after_shortest_use(key, expiry, before(*end, rotation.overlap.max(part).min(half))?);
    let urgent = earlier_by(part_of_life(key, *end, TENTH, DAY))?;
    let is_early = has_windows || !is_told;
    let due = if is_early { earlier_by(part_of_life(key, *end, THIRD, MONTH))? } else { urgent };
    Some(DueTime { due, urgent: Some(urgent) })
}

/// A part of the time from the creation of the key until `end`.
fn part_of_life(key: &KeyRecord, end: Timestamp, part: u32, most: Duration) -> Duration {
    let life = Duration::try_from(end.duration_since(key.created_at)).unwrap_or_default();
    (life / part).min(most)
}

fn before(end: Timestamp, early: Duration) -> Option<Timestamp> {
    end.checked_sub(Duration::from_secs(early.as_secs())).ok()
}

/// The shortest time after its creation in which a key does not expire for the operator. Otherwise keys that are expired
/// when they are created would cause endless rotations: those of a remote side whose clock is wrong, and those of one
/// that returns the same old certificate with each key.
const fn shortest_use(source: &ExpirySource) -> Duration {
    match source {
        ExpirySource::RemoteSide => MINUTE,
        ExpirySource::Certificate(_) | ExpirySource::Token(_) => HOUR,
    }
}

/// Not before the shortest use of the key is over. That use ends with the certificate or token, because an ended one is
/// of no use. The operator may have received the key long after it was created, and then knows no other time of creation.
fn after_shortest_use(key: &KeyRecord, Expiry { at, source }: &Expiry, due: Timestamp) -> Option<Timestamp> {
    let shortest = shortest_use(source);
    let pause = not_before(key, shortest.min(SHORTEST_PAUSE), *at)?;
    Some(due.max(key.created_at.checked_add(shortest).ok()?.min(pause)))
}

fn not_before(key: &KeyRecord, use_: Duration, due: Timestamp) -> Option<Timestamp> {
    Some(due.max(key.created_at.checked_add(use_).ok()?))
}

/// When a key was created: the remote side's time, unless that is the zero value of some language. With such a time,
/// every key would reach its age limit at once.
#[must_use]
pub(crate) fn created_at(told: Option<Timestamp>, otherwise: Timestamp) -> Timestamp {
    full_second(told.filter(|time| *time > Timestamp::UNIX_EPOCH).unwrap_or(otherwise))
}

/// Whether the user requested another key than this one with the annotation, and not with a change of the spec.
pub(super) fn is_requested(observed: &Observed, key: &KeyRecord) -> bool {
    let wanted = observed.desired.inputs.request();
    wanted.is_some() && wanted != key.inputs.request()
}

/// How long a key that was replaced by `next` stays. If the user requested no other key and no rotation was due, its
/// credentials could not be read again. Consumers did not expect that replacement.
pub(super) fn overlap_of(observed: &Observed, replaced: &KeyRecord, next: &KeyRecord) -> Duration {
    let overlap = observed.desired.rotation.overlap;
    let was_due = due_times(observed, replaced).any(|time| time.due <= next.created_at);
    let is_wanted = was_due || !next.inputs.is_fulfilled_by(&replaced.inputs);
    if is_wanted { overlap } else { overlap.max(UNEXPECTED_OVERLAP) }
}

/// The shortest overlap of a key that was replaced without a request.
const UNEXPECTED_OVERLAP: Duration = HOUR;

/// Whether the key has to be replaced now.
#[must_use]
pub(super) fn is_due(observed: &Observed, key: &KeyRecord) -> bool {
    observed.desired.inputs.has_other_fields_than(&key.inputs)
        || next_rotation(observed, key).is_some_and(|due| due <= observed.now)
}

pub(super) fn after(now: Timestamp, overlap: Duration) -> Timestamp {
    now.checked_add(overlap).map_or(Timestamp::MAX, full_second)
}

/// The first full second that is not before `time`, because statuses contain no fractions.
#[must_use]
pub(crate) fn full_second(time: Timestamp) -> Timestamp {
    let truncated = time.round(Unit::Second).unwrap_or(time);
    if truncated < time {
        truncated.checked_add(jiff::SignedDuration::from_secs(1)).unwrap_or(truncated)
    } else {
        truncated
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::lifecycle::tests::asking;
    use crate::lifecycle::{Lifetime, PreviousKey, Recorded, Sequence};

    fn key(number: u32) -> KeyRecord {
        KeyRecord {
            sequence: Sequence::new(number).unwrap(),
            id: Some(number.to_string()),
            name: None,
            role: None,
            created_at: Timestamp::UNIX_EPOCH,
            created_by: None,
            lifetime: Lifetime::default(),
            late_until: None,
            inputs: number.to_string().as_str().into(),
            plan_ids: None,
            same_credentials: false,
        }
    }

    /// A Secret may be ahead of the status by more than one key if the status comes from a backup.
    #[rstest]
    #[case::nothing_new(Some(5), &[4], &[(4, 60)])]
    #[case::the_next_key(Some(4), &[3], &[(3, 60), (4, 60)])]
    #[case::one_key_was_forgotten(Some(3), &[], &[(3, 60), (4, 60)])]
    #[case::two_were(Some(2), &[1], &[(1, 0), (2, 0), (3, 60), (4, 60)])]
    #[case::more_than_there_can_be_were(Some(1), &[], &[(1, 0), (3, 60), (4, 60)])]
    #[case::all_were(None, &[], &[(3, 60), (4, 60)])]
    #[case::what_is_replaced_is_known_without_a_current_one(None, &[4], &[(4, 60)])]
    fn what_the_secret_is_ahead_by_is_replaced(
        #[case] known: Option<u32>,
        #[case] previous: &[u32],
        #[case] expected: &[(u32, i64)],
    ) {
        let rotation = RotationPolicy {
            every: None,
            overlap: Duration::from_secs(60),
            max_overlap: None,
            revokes_first: false,
        };
        let mut observed = asking();
        (observed.desired.rotation, observed.now) = (rotation, Timestamp::UNIX_EPOCH);
        let mut recorded = Recorded { key: known.map(key), ..Recorded::default() };
        for number in previous {
            recorded.replace(key(*number).sequence, None, None, Timestamp::UNIX_EPOCH, rotation.overlap);
        }
        let recorded = recorded.advanced_to(&key(5), &observed);
        let replaced =
            recorded.previous.iter().map(|key| (key.sequence.number(), key.revoke_at.unwrap().as_second()));
        assert_eq!(replaced.collect::<Vec<_>>(), expected);
    }

    /// A key with the credentials of the current one stays until a key has others, and then as long as that one.
    #[test]
    fn a_key_with_the_same_credentials_stays_with_the_current_one() {
        let mut observed = asking();
        observed.desired.rotation.overlap = Duration::from_secs(60);
        observed.now = Timestamp::UNIX_EPOCH;
        let replaced = |recorded: &Recorded| -> Vec<_> {
            let of = |key: &PreviousKey| (key.sequence.number(), key.revoke_at.map(Timestamp::as_second));
            recorded.previous.iter().map(of).collect()
        };
        let same = |number| KeyRecord { same_credentials: true, ..key(number) };
        let mut recorded = Recorded { key: Some(key(2)), ..Recorded::default() };
        recorded.replace(key(1).sequence, None, None, observed.now, Duration::from_secs(60));
        let recorded = recorded.advanced_to(&same(3), &observed);
        assert_eq!(replaced(&recorded), [(1, Some(60)), (2, None)]);
        let recorded = recorded.advanced_to(&same(4), &observed);
        assert_eq!(replaced(&recorded), [(1, Some(0)), (2, None), (3, None)]);
        let recorded = recorded.advanced_to(&key(5), &observed);
        assert_eq!(replaced(&recorded), [(1, Some(0)), (2, Some(0)), (3, Some(60)), (4, Some(60))]);
        // The status is older than the Secret.
        let older = Recorded { key: Some(key(1)), ..Recorded::default() }.advanced_to(&same(3), &observed);
        assert_eq!(replaced(&older), [(1, Some(60)), (2, None)]);
        let lost = Recorded::default().advanced_to(&same(3), &observed);
        assert_eq!(replaced(&lost), [(1, Some(60)), (2, None)]);
    }

    /// A key whose credentials are missing, or are not returned again, works for at least an hour.
    #[rstest]
    #[case::the_user_asked_for_another("other", None, 0)]
    #[case::its_time_had_come("1", Some(3600), 0)]
    #[case::nobody_asked("1", None, 3600)]
    #[case::nobody_asked_and_it_was_young("1", Some(1_000_000), 3600)]
    fn a_key_that_is_replaced_unasked_stays_for_an_hour(
        #[case] inputs: &str,
        #[case] every: Option<u64>,
        #[case] stays: i64,
    ) {
        let mut observed = asking();
        observed.desired.rotation.every = every.map(Duration::from_secs);
        observed.now = Timestamp::from_second(4000).unwrap();
        let next = KeyRecord { created_at: observed.now, inputs: inputs.into(), ..key(2) };
        let recorded = Recorded { key: Some(key(1)), ..Recorded::default() }.advanced_to(&next, &observed);
        assert_eq!(recorded.previous[0].revoke_at.unwrap().as_second(), 4000 + stays);
    }
}
