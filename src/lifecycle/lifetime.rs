//! When a key expires, and what says so: the remote side, or a certificate or token in the credentials.

use std::{fmt, time::Duration};

use jiff::Timestamp;

use super::{KeyRecord, full_second};

/// No credential is meant to work longer than this.
const LONGEST_LIFE: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// The part of the credentials, or the remote side, that a time comes from. A part is a JSON Pointer (RFC 6901) into
/// the credentials.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExpirySource {
    RemoteSide,
    Certificate(String),
    Token(String),
}

impl fmt::Display for ExpirySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RemoteSide => f.write_str("the remote side's `expiresAt`"),
            Self::Certificate(entry) => write!(f, "the certificate at `{entry}`"),
            Self::Token(entry) => write!(f, "the token at `{entry}`"),
        }
    }
}

/// The end of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Expiry {
    pub at: Timestamp,
    pub source: ExpirySource,
}

/// The end of a part of the credentials.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CredentialEnd {
    /// `None` if the part should have an end, and it can't be read.
    pub at: Option<Timestamp>,
    pub source: ExpirySource,
}

impl CredentialEnd {
    /// The end of an existing key that was received at `now`, at an unknown time after its creation. An end that has
    /// passed counts as the next second, so that it is after the time of creation in the record, which is `now`. Brokers
    /// write the start of 1970 for no end.
    pub(crate) fn after_receipt(self, now: Timestamp) -> Self {
        let next = full_second(now).checked_add(Duration::from_secs(1)).unwrap_or(Timestamp::MAX);
        Self { at: self.at.map(|at| if at > Timestamp::UNIX_EPOCH { at.max(next) } else { at }), ..self }
    }
}

/// The times that limit how long a key can be used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lifetime {
    /// The earliest end that counts. If none counts, one that doesn't.
    pub expires: Option<Expiry>,
    /// A further end that does not count, or can't be read.
    pub ignored: Option<CredentialEnd>,
    /// The latest time for a rotation that the remote side requires.
    pub renew_before: Option<Timestamp>,
}

impl Lifetime {
    /// The lifetime of a key that was created at that time. `told` is the expiry that the remote side returned, and
    /// `found` are the ends in the credentials.
    #[must_use]
    pub(crate) fn new(
        created_at: Timestamp,
        told: Option<Timestamp>,
        renew_before: Option<Timestamp>,
        found: Vec<CredentialEnd>,
    ) -> Self {
        let told = told.map(|at| CredentialEnd { at: Some(at), source: ExpirySource::RemoteSide });
        let ends = told.into_iter().chain(found).map(|CredentialEnd { at, source }| {
            let counts = at.is_some_and(|at| counts(created_at, at));
            (!counts, CredentialEnd { at: at.map(full_second), source })
        });
        let mut ends: Vec<_> = ends.collect();
        // Stable: of ends that don't count, the remote side's stays the first.
        ends.sort_by_key(|(is_ignored, end)| (*is_ignored, end.at.filter(|_| !is_ignored)));
        let ignored_from = ends.partition_point(|(is_ignored, _)| !is_ignored);
        let mut ignored = ends.split_off(ignored_from).into_iter().map(|(_, end)| end).peekable();
        let first = match ends.into_iter().next() {
            Some((_, end)) => Some(end),
            None => ignored.next_if(|end| end.at.is_some()),
        };
        let expires = first.and_then(|CredentialEnd { at, source }| Some(Expiry { at: at?, source }));
        Self { expires, ignored: ignored.next(), renew_before: renew_before.map(full_second) }
    }
}

/// Whether a time can be the end of a key that was created at `created_at`. A time that is not after the creation does
/// not count, because brokers write the zero value of their language if the key has no expiry.
fn counts(created_at: Timestamp, at: Timestamp) -> bool {
    let latest = created_at.checked_add(LONGEST_LIFE).unwrap_or(Timestamp::MAX);
    created_at < at && at < latest
}

impl KeyRecord {
    /// When the key expires, if the time counts.
    #[must_use]
    pub fn expiry(&self) -> Option<&Expiry> {
        self.lifetime.expires.as_ref().filter(|expiry| counts(self.created_at, expiry.at))
    }

    /// The latest time for a rotation that the remote side requires, under the same rule.
    pub(super) fn renewal(&self) -> Option<Timestamp> {
        self.lifetime.renew_before.filter(|renew| counts(self.created_at, *renew))
    }

    /// The end of a key that has expired.
    #[must_use]
    pub fn expired(&self, now: Timestamp) -> Option<&Expiry> {
        self.expiry().filter(|expiry| expiry.at <= now)
    }

    /// The times that do not count, in words.
    pub(super) fn ignored_times(&self) -> impl Iterator<Item = String> {
        let Lifetime { expires, ignored, renew_before } = &self.lifetime;
        let expires = expires.as_ref().filter(|_| self.expiry().is_none());
        let expires = expires.map(|Expiry { at, source }| self.on_ignored(source, *at));
        let ignored = ignored.as_ref().map(|CredentialEnd { at, source }| match at {
            Some(at) => self.on_ignored(source, *at),
            None => format!("the expiry of {source} can't be read"),
        });
        let renew = renew_before.filter(|_| self.renewal().is_none());
        let renew = renew.map(|at| self.on_ignored(&"the remote side's `renewBefore`", at));
        expires.into_iter().chain(ignored).chain(renew)
    }

    fn on_ignored(&self, source: &dyn fmt::Display, at: Timestamp) -> String {
        let why = if at <= self.created_at {
            "it is not after the key's creation"
        } else {
            "it is more than a hundred years away"
        };
        format!("{source} {at} is ignored, because {why}")
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const DAY: i64 = 24 * 3600;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn certificate(end: Option<i64>) -> CredentialEnd {
        CredentialEnd { at: end.map(at), source: ExpirySource::Certificate("/tls".to_owned()) }
    }

    fn token(end: Option<i64>) -> CredentialEnd {
        CredentialEnd { at: end.map(at), source: ExpirySource::Token("/jwt".to_owned()) }
    }

    /// The key is created at second 1000.
    #[rstest]
    #[case::nothing(None, vec![], None, None)]
    #[case::told(Some(5000), vec![], Some("the remote side's `expiresAt` 5000"), None)]
    #[case::found_earlier(Some(5000), vec![certificate(Some(4000))], Some("the certificate at `/tls` 4000"), None)]
    #[case::told_earlier(Some(3000), vec![certificate(Some(4000))], Some("the remote side's `expiresAt` 3000"), None)]
    #[case::the_earliest(
        None,
        vec![certificate(Some(4000)), token(Some(2000))],
        Some("the token at `/jwt` 2000"),
        None
    )]
    #[case::one_is_over(
        Some(5000),
        vec![certificate(Some(900))],
        Some("the remote side's `expiresAt` 5000"),
        Some("the certificate at `/tls` 900")
    )]
    #[case::the_zero_value(
        Some(0),
        vec![certificate(Some(4000))],
        Some("the certificate at `/tls` 4000"),
        Some("the remote side's `expiresAt` 0")
    )]
    #[case::nothing_counts(
        Some(0),
        vec![certificate(Some(900))],
        Some("the remote side's `expiresAt` 0"),
        Some("the certificate at `/tls` 900")
    )]
    #[case::unread(None, vec![token(None)], None, Some("the token at `/jwt`"))]
    #[case::one_is_unread(
        None,
        vec![token(None), certificate(Some(4000))],
        Some("the certificate at `/tls` 4000"),
        Some("the token at `/jwt`")
    )]
    fn the_earliest_end_that_counts_limits_the_key(
        #[case] told: Option<i64>,
        #[case] found: Vec<CredentialEnd>,
        #[case] expires: Option<&str>,
        #[case] ignored: Option<&str>,
    ) {
        let lifetime = Lifetime::new(at(1000), told.map(at), None, found);
        let shown = lifetime.expires.map(|Expiry { at, source }| format!("{source} {}", at.as_second()));
        assert_eq!(shown.as_deref(), expires);
        let shown = lifetime.ignored.map(|CredentialEnd { at, source }| match at {
            Some(at) => format!("{source} {}", at.as_second()),
            None => source.to_string(),
        });
        assert_eq!(shown.as_deref(), ignored);
    }

    #[rstest]
    #[case::the_creation(1000, false)]
    #[case::after_it(1001, true)]
    #[case::a_life(80 * 365 * DAY, true)]
    #[case::a_century(101 * 366 * DAY, false)]
    fn an_absurd_time_does_not_count(#[case] end: i64, #[case] expected: bool) {
        assert_eq!(counts(at(1000), at(end)), expected);
    }
}
