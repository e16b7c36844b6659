//! The Cloud Controller's own rate limit, which an honest client can meet.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{
    HeaderName,
    header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER},
};

use super::answer::ApiError;
use crate::remote::{Answer, Header};

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// So many requests in a window of time; whoever asks for more is answered 429 until the next window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// How many requests a window has.
    pub requests: u32,
    /// How long a window is, from its first request on; it ends with a whole second.
    pub window: Duration,
}

/// The requests of the window that is open.
#[derive(Debug, Default)]
pub(super) struct Meter {
    limit: Option<RateLimit>,
    used: u32,
    /// In whole seconds since the epoch.
    reset: u64,
}

impl Meter {
    /// Changes the limit, and opens a new window.
    pub(super) fn change(&mut self, limit: Option<RateLimit>) {
        *self = Self { limit, ..Self::default() };
    }

    /// Counts a request; gives the headers for the answer, or the answer.
    pub(super) fn count(&mut self) -> Result<Vec<Header>, Answer> {
        let Some(RateLimit { requests, window }) = self.limit else { return Ok(Vec::new()) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if now.as_secs() >= self.reset {
            self.reset = (now + window).as_secs() + 1;
            self.used = 0;
        }
        self.used = self.used.saturating_add(1);
        let headers = vec![
            (LIMIT, requests.into()),
            (REMAINING, requests.saturating_sub(self.used).into()),
            (RESET, self.reset.into()),
        ];
        if self.used <= requests { Ok(headers) } else { Err(self.exceeded(headers)) }
    }

    /// 429 as the Cloud Controller writes it: its JSON is called text, and `Retry-After` is the same moment as
    /// `X-RateLimit-Reset`, in seconds since the epoch, which the specification of HTTP does not know.
    fn exceeded(&self, headers: Vec<Header>) -> Answer {
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        let mut answer = Answer::from(ApiError::rate_limit_exceeded());
        answer.headers = headers;
        answer.with_header(RETRY_AFTER, self.reset.into()).with_header(CONTENT_TYPE, text)
    }
}
