//! The time that the broker takes for a bind or an unbind, and its answers meanwhile.

use std::{fmt, sync::Arc};

use axum::http::HeaderValue;
use serde::Deserialize;

/// The kinds of work of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// The creation of a binding.
    Bind,
    /// The deletion of a binding.
    Unbind,
}

/// Creates the token of an operation from its number.
type Tokens = dyn Fn(u64) -> String + Send + Sync;

/// The duration of work (section Asynchronous Operations). It never depends on a clock.
///
/// Work that takes time is asynchronous for clients that send `accepts_incomplete=true`. For others it is done at once,
/// unless it is [required](Self::required). `Debug` omits the tokens.
#[derive(Clone)]
#[must_use]
pub struct Pace {
    /// The kinds of work that take time.
    pub(super) slow: &'static [Work],
    pub(super) required: bool,
    /// The number of polls that find an operation in progress; `None` if the test ends it.
    pub(super) polls: Option<usize>,
    tokens: Option<Arc<Tokens>>,
    pub(super) retry_after: Option<HeaderValue>,
    pub(super) forgets_unbinds: bool,
}

impl Pace {
    /// All work is done at once.
    pub const fn at_once() -> Self {
        Self {
            slow: &[],
            required: false,
            polls: None,
            tokens: None,
            retry_after: None,
            forgets_unbinds: false,
        }
    }

    /// Binds and unbinds last until the test ends them: [`FakeBroker::finish`](super::FakeBroker::finish),
    /// [`fail`](super::FakeBroker::fail).
    pub fn until_told() -> Self {
        // A client that does not escape the token, or escapes it twice, sends another token back.
        let tokens: Arc<Tokens> = Arc::new(|number| format!("task {number}/a+b=c&d%20"));
        Self { slow: &[Work::Bind, Work::Unbind], tokens: Some(tokens), ..Self::at_once() }
    }

    /// Binds and unbinds are in progress for this many polls. The next poll ends them, unless the test has ended them
    /// before.
    pub fn polls(count: usize) -> Self {
        Self { polls: Some(count), ..Self::until_told() }
    }

    /// Only this work takes time; the other kind is done at once.
    pub const fn only(mut self, work: Work) -> Self {
        self.slow = match work {
            Work::Bind => &[Work::Bind],
            Work::Unbind => &[Work::Unbind],
        };
        self
    }

    /// Refuses clients that don't accept asynchronous work, with `AsyncRequired`.
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Creates tokens from the number of the operation: 1 for the first one of this broker. Two operations should not
    /// have the same token. The specification allows up to 10,000 characters.
    pub fn tokens(mut self, make: impl Fn(u64) -> String + Send + Sync + 'static) -> Self {
        self.tokens = Some(Arc::new(make));
        self
    }

    /// Sends no tokens.
    pub fn without_tokens(mut self) -> Self {
        self.tokens = None;
        self
    }

    /// Adds `Retry-After` with any value to each 202 and to each answer "in progress".
    ///
    /// # Panics
    /// The value contains characters that are invalid in a header.
    pub fn retry_after(mut self, value: &'static str) -> Self {
        self.retry_after = Some(HeaderValue::from_static(value));
        self
    }

    /// Reports the end of an unbind by 410 from the first poll on. Otherwise the first poll reports success, and later
    /// ones get 410.
    pub const fn forgetting_unbinds(mut self) -> Self {
        self.forgets_unbinds = true;
        self
    }

    pub(super) fn token(&self, number: u64) -> Option<String> {
        self.tokens.as_ref().map(|make| make(number))
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::at_once()
    }
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { slow, required, polls, tokens: _, retry_after, forgets_unbinds } = self;
        f.debug_struct("Pace")
            .field("slow", slow)
            .field("required", required)
            .field("polls", polls)
            .field("retry_after", retry_after)
            .field("forgets_unbinds", forgets_unbinds)
            .finish_non_exhaustive()
    }
}
