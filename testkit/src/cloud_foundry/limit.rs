//! The Cloud Controller's own rate limit, which also a correct client can exceed.

use std::time::Duration;

use axum::http::{
    HeaderName,
    header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER},
};

use super::answer::ApiError;
use crate::remote::{Answer, Header};

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// A limit of requests in a window of time. The answer to each further request is 429 until the next window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// The number of requests in a window.
    pub requests: u32,
    /// The length of a window from its first request; it ends at a full second.
    pub window: Duration,
}

/// The requests of the current window.
#[derive(Debug, Default)]
pub(super) struct Meter {
    limit: Option<RateLimit>,
    used: u32,
    /// In whole seconds since the epoch.
    reset: u64,
}

impl Meter {
    /// Changes the limit, and begins a new window.
    pub(super) fn change(&mut self, limit: Option<RateLimit>) {
        *self = Self { limit, ..Self::default() };
    }

    /// Counts a request at this time since the epoch. Returns the headers for the answer, or the answer 429.
    pub(super) fn count(&mut self, now: Duration) -> Result<Vec<Header>, Answer> {
        let Some(RateLimit { requests, window }) = self.limit else { return Ok(Vec::new()) };
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

    /// 429 in the form of the Cloud Controller: its JSON has the type `text/plain`. Its `Retry-After` has the value of
    /// `X-RateLimit-Reset`, in seconds since the epoch, which is not valid in HTTP.
    fn exceeded(&self, headers: Vec<Header>) -> Answer {
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        let mut answer = Answer::from(ApiError::rate_limit_exceeded());
        answer.headers = headers;
        answer.with_header(RETRY_AFTER, self.reset.into()).with_header(CONTENT_TYPE, text)
    }
}
