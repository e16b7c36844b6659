//! The time of a rotation, and the overlap of the keys around it.

use std::time::Duration;

use jiff::{Timestamp, Unit};
use uuid::Uuid;

use super::{Expiry, ExpirySource, Identity, KeyRecord, Observed, RotationPolicy};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The parts of a span by which a rotation may come early.
const TENTH: u32 = 10;
const THIRD: u32 = 3;

/// The time of the next scheduled rotation: the age limit, or the time that the remote side requires, whichever comes
/// first. It depends only on the spec and the key, and is a full second, as all times in statuses. If the last rotation
/// returned the same credentials, the next one would as well, unless they have expired.
#[must_use]
pub(super) fn next_rotation(observed: &Observed, key: &KeyRecord) -> Option<Timestamp> {
    if key.same_credentials {
        let Expiry { at, source } = key.expiry()?;
        return not_before(key, shortest_use(source), *at);
    }
    let rotation = &observed.desired.rotation;
    [by_age(rotation, observed.owner, key), by_renewal(key), by_expiry(rotation, key)]
        .into_iter()
        .flatten()
        .min()
}

/// The age limit, or somewhat earlier. Each key has its own part of the spread, so that keys that were created together
/// are not replaced together. No key is replaced so early that the key before it would lose some of its overlap.
fn by_age(rotation: &RotationPolicy, owner: Uuid, key: &KeyRecord) -> Option<Timestamp> {
    let every = rotation.every?;
    let spread = (every / TENTH).min(DAY).min(every.saturating_sub(rotation.overlap));
    let earlier = Identity { owner, sequence: key.sequence }.part_of(spread.as_secs());
    key.created_at.checked_add(Duration::from_secs(every.as_secs() - earlier)).ok()
}

/// The time that the remote side requires, unless the key expires before.
fn by_renewal(key: &KeyRecord) -> Option<Timestamp> {
    let renew = key.renewal().filter(|renew| key.expiry().is_none_or(|expiry| *renew < expiry.at))?;
    not_before(key, MINUTE, renew)
}

/// Some time before the key expires, so that both keys work while consumers switch: the overlap, or a part of the key's
/// life, whichever is longer, and at most half of its life.
///
/// If the remote side tells the expiry, the part is a tenth, at most a day. If the remote side also requires a rotation
/// at an earlier time, only that time counts. The end of a certificate or token is nothing that the remote side is known
/// to care about, so there is more time for failed attempts: a third, at most 30 days.
fn by_expiry(rotation: &RotationPolicy, key: &KeyRecord) -> Option<Timestamp> {
    let Expiry { at: end, source } = key.expiry()?;
    let (part, most) = match source {
        ExpirySource::RemoteSide if key.renewal().is_some_and(|renew| renew < *end) => return None,
        ExpirySource::RemoteSide => (TENTH, DAY),
        ExpirySource::Certificate(_) | ExpirySource::Token(_) => (THIRD, 30 * DAY),
    };
    let life = Duration::try_from(end.duration_since(key.created_at)).unwrap_or_default();
    let early = rotation.overlap.max((life / part).min(most)).min(life / 2);
    not_before(key, shortest_use(source), end.checked_sub(Duration::from_secs(early.as_secs())).ok()?)
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
    let was_due = next_rotation(observed, replaced).is_some_and(|due| due <= next.created_at);
    if was_due || replaced.inputs != next.inputs { overlap } else { overlap.max(UNEXPECTED_OVERLAP) }
}

/// The shortest overlap of a key that was replaced without a request.
const UNEXPECTED_OVERLAP: Duration = HOUR;

/// Whether the key has to be replaced now.
#[must_use]
pub(super) fn is_due(observed: &Observed, key: &KeyRecord) -> bool {
    observed.desired.inputs != key.inputs
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
        let rotation = RotationPolicy { every: None, overlap: Duration::from_secs(60), revokes_first: false };
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
