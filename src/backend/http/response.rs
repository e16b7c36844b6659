//! One answer of a server.

use std::{fmt, net::SocketAddr, time::Duration};

use jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use reqwest::{
    StatusCode,
    header::{HeaderMap, HeaderName, RETRY_AFTER},
};
use zeroize::Zeroizing;

use super::HttpFailure;
use crate::backend::memory::AllocatedMemory;

/// The most bytes of an answer, unless the request sets another limit.
pub(super) const LARGEST_BODY: usize = MIB;

pub(super) const MIB: usize = 1 << 20;

/// An answer with a status. Its body may have failed to arrive, which matters only to callers that read it.
pub(in crate::backend) struct Response {
    /// The status; never a redirect.
    pub(in crate::backend) status: StatusCode,
    /// The pause that the remote side requires: at most an hour.
    pub(in crate::backend) retry_after: Option<Duration>,
    /// The URL at which the remote side reports on an operation that it began.
    pub(in crate::backend) location: Option<String>,
    /// Whether an earlier copy of this request got no answer. It may still take effect.
    pub(in crate::backend) is_repeated: bool,
    /// The address that answered, or the proxy's address behind a proxy.
    pub(super) from: Option<SocketAddr>,
    /// The remote side's id of the request.
    pub(super) remote_request_id: Option<String>,
    pub(super) body: Result<Body, HttpFailure>,
}

/// The body of an answer. It counts as used memory until it is dropped, which also overwrites it.
pub(super) struct Body {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    pub(super) _held: AllocatedMemory,
}

impl Response {
    /// The pause for all requests, if the answer requires one instead of reporting on this request alone.
    pub(super) fn required_pause(&self) -> Option<Duration> {
        let overloaded =
            [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&self.status);
        self.retry_after.filter(|_| overloaded)
    }

    /// The body, within the request's limit.
    ///
    /// # Errors
    /// [`MaybeSent`](super::HttpFailureKind::MaybeSent) if the body was incomplete or did not end in time;
    /// [`Excessive`](super::HttpFailureKind::Excessive) if it is too large.
    pub(in crate::backend) fn body(&self) -> Result<&[u8], HttpFailure> {
        self.body.as_ref().map(|body| body.bytes.as_slice()).map_err(Clone::clone)
    }

    /// Whether this is the answer of Cloud Foundry's router, because the server behind it is down.
    pub(in crate::backend) fn is_of_a_router(&self) -> bool {
        let body = self.body.as_ref().map(|body| body.bytes.as_slice()).unwrap_or_default();
        self.status == StatusCode::NOT_FOUND && body.starts_with(UNKNOWN_ROUTE)
    }
}

/// The start of the router's answer for a host without a route.
const UNKNOWN_ROUTE: &[u8] = b"404 Not Found: Requested route (";

#[cfg(test)]
impl Response {
    pub(in crate::backend) fn new(
        status: StatusCode,
        bytes: Vec<u8>,
        share: &crate::backend::MemoryShare,
    ) -> Self {
        let body = Ok(Body { bytes: bytes.into(), _held: share.hold(|| {}) });
        Self {
            status,
            retry_after: None,
            location: None,
            is_repeated: false,
            from: None,
            remote_request_id: None,
            body,
        }
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.body.as_ref().map(|body| format!("{} bytes", body.bytes.len()));
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("retry_after", &self.retry_after)
            .field("body", &body)
            .finish()
    }
}

/// The longest pause that a remote side may require.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The time at which a rate limit resets, in seconds since the epoch.
const RATE_LIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

pub(super) fn retry_after(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = |name: HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    if let Some(wait) = value(RETRY_AFTER) {
        return parse_retry_after(wait, now);
    }
    // Successes have the header as well, without requiring a pause.
    let reset = value(RATE_LIMIT_RESET).filter(|_| status == StatusCode::TOO_MANY_REQUESTS)?;
    until_second(reset, now)
}

/// The wait until a second since the epoch, if it is not longer than the longest pause.
fn until_second(value: &str, now: Timestamp) -> Option<Duration> {
    let wait = Timestamp::from_second(value.parse().ok()?).ok()?.duration_since(now);
    let wait = wait.max(SignedDuration::ZERO).unsigned_abs();
    (wait <= LONGEST_RETRY_AFTER).then_some(wait)
}

/// A second further back than this can't be meant as a time to wait for.
const YEAR_2001: u64 = 1_000_000_000;

/// Reads seconds, even absurdly many, or an HTTP date, even a past one, and ignores anything else. Cloud Foundry sends
/// seconds since the epoch: a near one is a time to wait for, another one counts as absurdly many seconds.
fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        let is_moment = value.parse().is_ok_and(|seconds: u64| seconds >= YEAR_2001);
        if let Some(wait) = is_moment.then(|| until_second(value, now)).flatten() {
            return Some(wait);
        }
        // More digits than a u64 has are certainly more than an hour.
        let seconds = value.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER));
    }
    let date = http_date(value)?;
    let wait = date.duration_since(now).max(SignedDuration::ZERO).unsigned_abs();
    Some(wait.min(LONGEST_RETRY_AFTER))
}

/// Parses a date in one of the three forms of RFC 9110 (IMF-fixdate, RFC 850, asctime), or in a form of RFC 2822.
fn http_date(value: &str) -> Option<Timestamp> {
    rfc2822::DateTimeParser::new()
        .parse_timestamp(value)
        .ok()
        .or_else(|| Timestamp::try_from(httpdate::parse_http_date(value).ok()?).ok())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::backend::MemoryBudget;

    #[rstest]
    #[case("0", Some(0))]
    #[case("7", Some(7))]
    #[case("3600", Some(3600))]
    #[case("3601", Some(3600))]
    #[case("99999999999999999999999999", Some(3600))]
    #[case("1795521630", Some(30))]
    #[case("1795528800", Some(3600))]
    #[case("1000000000", Some(0))]
    #[case("-5", None)]
    #[case("1.5", None)]
    #[case("", None)]
    #[case("soon", None)]
    #[case("Tue, 24 Nov 2026 12:00:30 GMT", Some(30))]
    #[case("Tue, 24 Nov 2026 11:00:00 GMT", Some(0))]
    #[case("Tue, 24 Nov 2026 18:00:00 GMT", Some(3600))]
    #[case("Tuesday, 24-Nov-26 12:00:30 GMT", Some(30))]
    #[case("Tue Nov 24 12:00:30 2026", Some(30))]
    #[case("Tuesday, 99-Nov-26 12:00:30 GMT", None)]
    #[case("Tue, 99 Nov 2026 12:00:00 GMT", None)]
    fn reads_retry_after(#[case] value: &str, #[case] seconds: Option<u64>) {
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        assert_eq!(parse_retry_after(value, now), seconds.map(Duration::from_secs));
    }

    #[rstest]
    #[case(429, &[("x-ratelimit-reset", "1795521630")], Some(30))]
    #[case(429, &[("x-ratelimit-reset", "1795521630"), ("retry-after", "7")], Some(7))]
    #[case(429, &[("x-ratelimit-reset", "1895521630")], None)]
    #[case(429, &[("x-ratelimit-reset", "soon")], None)]
    #[case(200, &[("x-ratelimit-reset", "1795521630")], None)]
    fn a_limit_says_when_it_is_lifted(
        #[case] status: u16,
        #[case] sent: &[(&'static str, &'static str)],
        #[case] seconds: Option<u64>,
    ) {
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        let headers = sent.iter().map(|(name, value)| {
            (HeaderName::from_static(name), reqwest::header::HeaderValue::from_static(value))
        });
        let status = StatusCode::from_u16(status).unwrap();
        let expected = seconds.map(Duration::from_secs);
        assert_eq!(retry_after(status, &headers.collect(), now), expected);
    }

    #[test]
    fn debug_shows_no_body() {
        let response = Response {
            status: StatusCode::OK,
            retry_after: None,
            location: None,
            is_repeated: false,
            remote_request_id: None,
            from: None,
            body: Ok(Body {
                bytes: b"hunter2".to_vec().into(),
                _held: MemoryBudget::for_answers().share("the provider").hold(|| {}),
            }),
        };
        assert!(!format!("{response:?}").contains("hunter2"));
    }
}
