//! When a key is replaced, and what is remembered of the keys around a replacement.

use std::time::Duration;

use jiff::{Timestamp, Unit};

use super::{Desired, KeyRecord, Memory, PreviousKey, Sequence};

/// When the key is to be replaced by itself: at its age limit, or when the remote side wants it, whichever
/// comes first.
#[must_use]
pub fn next_rotation(desired: &Desired, key: &KeyRecord) -> Option<Timestamp> {
    let by_age = desired.rotation.every.and_then(|every| key.created_at.checked_add(every).ok());
    [by_age, key.renew_before.or(key.expires_at)].into_iter().flatten().min()
}

/// What a key is made from: the digest of the fields of the spec, and of the user's last request for another key. Where
/// there is no request now, that of the key that is known is still good, if there was one.
#[must_use]
pub fn inputs<'a>(
    fields: String,
    request: Option<String>,
    known: impl IntoIterator<Item = &'a str>,
) -> String {
    let made_from_these = |known: &&str| known.split(REQUESTED).next() == Some(fields.as_str());
    match request {
        Some(request) => format!("{fields}{REQUESTED}{request}"),
        None => known.into_iter().find(made_from_these).map(str::to_owned).unwrap_or(fields),
    }
}

/// What parts the two digests; none of them has it.
const REQUESTED: char = '+';

/// Whether the key is to be replaced now.
#[must_use]
pub fn is_due(desired: &Desired, key: &KeyRecord, now: Timestamp) -> bool {
    desired.inputs != key.inputs || next_rotation(desired, key).is_some_and(|due| due <= now)
}

/// A full second, not before `time`: statuses hold no fractions.
#[must_use]
pub fn full_second(time: Timestamp) -> Timestamp {
    let truncated = time.round(Unit::Second).unwrap_or(time);
    if truncated < time {
        truncated.checked_add(jiff::SignedDuration::from_secs(1)).unwrap_or(truncated)
    } else {
        truncated
    }
}

impl Memory {
    /// The memory once the Secret holds the credentials of `key`: the key that was there before stays valid
    /// for the overlap, and one that was replaced even earlier is to be revoked at once, so that there never
    /// are more than the previous, the current and the next. One that is gone already has nothing to overlap; that it
    /// is, is confirmed like any revocation.
    #[must_use]
    pub fn advanced_to(&self, key: &KeyRecord, desired: &Desired, now: Timestamp) -> Self {
        let mut memory = Self {
            key: Some(key.clone()),
            previous: self.previous.clone(),
            operation: self.operation.clone().filter(|operation| operation.sequence > key.sequence),
            gone: self.gone.filter(|gone| gone.sequence == key.sequence),
        };
        if let Some(replaced) = self.key.as_ref().filter(|known| known.sequence < key.sequence) {
            for older in &mut memory.previous {
                older.revoke_at = older.revoke_at.min(full_second(now));
            }
            let is_gone = self.departure(replaced.sequence).is_some();
            let overlap = if is_gone { Duration::ZERO } else { desired.rotation.overlap };
            memory.replace(replaced.sequence, Some(replaced), replaced.late_until, now, overlap);
        }
        memory
    }

    /// Notes a key as replaced: it is revoked when the overlap is over.
    pub fn replace(
        &mut self,
        sequence: Sequence,
        key: Option<&KeyRecord>,
        late_until: Option<Timestamp>,
        now: Timestamp,
        overlap: Duration,
    ) {
        self.previous.push(PreviousKey {
            sequence,
            id: key.map(|key| key.id.clone()),
            name: key.and_then(|key| key.name.clone()),
            late_until,
            revoke_at: full_second(now).checked_add(overlap).unwrap_or(Timestamp::MAX),
        });
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::no_request_ever(None, &["fields"], "fields")]
    #[case::the_first_request(Some("one"), &["fields"], "fields+one")]
    #[case::the_same_request(Some("one"), &["fields+one"], "fields+one")]
    #[case::another_request(Some("two"), &["fields+one"], "fields+two")]
    #[case::a_request_that_was_taken_away(None, &["fields+one"], "fields+one")]
    #[case::taken_away_while_it_is_carried_out(None, &["fields+two", "fields+one"], "fields+two")]
    #[case::taken_away_with_other_fields(None, &["others+one"], "fields")]
    #[case::no_key_yet(None, &[], "fields")]
    fn another_request_makes_another_key(
        #[case] request: Option<&str>,
        #[case] known: &[&str],
        #[case] expected: &str,
    ) {
        let request = request.map(str::to_owned);
        assert_eq!(inputs("fields".to_owned(), request, known.iter().copied()), expected);
    }
}
