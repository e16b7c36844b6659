//! The script of faults: which calls go wrong, how, and whether their effect takes place.

use std::{fmt, sync::Arc};

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Response, StatusCode, header::RETRY_AFTER},
};
use serde_json::{Value, json};

use super::{
    answer::{Answer, ApiError, Header, response, set_headers},
    route::{Route, Target},
};
use crate::gate::Moment;

const PAGE: &str = "<!DOCTYPE html><html><body><h1>No backend</h1>The router knows no way.</body></html>";

/// A way to go wrong.
#[derive(Clone)]
pub enum Fault {
    /// This status with this body.
    Status(StatusCode, Value),
    /// This status with a page of HTML, as routers send it.
    Html(StatusCode),
    /// The true answer with another body.
    Edit(Arc<dyn Fn(&mut Value) + Send + Sync>),
    /// No answer, and a connection that stays open.
    Hang,
    /// No answer, and a connection that is closed.
    Cut,
    /// No answer, a connection that is closed, and the effect when the test says so:
    /// [`release_late`](super::FakeCloudFoundry::release_late). Struck after its effect, it is no different from
    /// [`Cut`](Self::Cut).
    Late,
}

impl Fault {
    /// An error of the API, or one that looks like it.
    #[must_use]
    pub fn error(status: StatusCode, code: u32, title: &str, detail: &str) -> Self {
        Self::Status(status, json!({ "errors": [{ "code": code, "title": title, "detail": detail }] }))
    }

    /// 503: the credentials are in CredHub, and that does not answer. For [`Route::Details`].
    #[must_use]
    pub fn credhub_is_down() -> Self {
        let detail = "Fetching credentials from CredHub failed; reason: Connection refused";
        let error = ApiError::service_unavailable(detail);
        Self::Status(error.status, json!({ "errors": [error.shown()] }))
    }

    /// 429: too many requests that involve a broker are under way. For [`Route::Create`] and [`Route::Delete`].
    #[must_use]
    pub fn broker_is_busy() -> Self {
        let detail = "Service broker concurrent request limit exceeded";
        Self::error(StatusCode::TOO_MANY_REQUESTS, 10016, "CF-ServiceBrokerRateLimitExceeded", detail)
    }

    /// The true answer with its body changed: a link to elsewhere, a field that is missing.
    pub fn edit(change: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        Self::Edit(Arc::new(change))
    }

    /// Lets the next call of this route go wrong, before it takes effect; [`Edit`](Self::Edit) takes effect all the
    /// same, because the answer tells of it.
    #[must_use]
    pub const fn on(self, route: Route) -> Injection {
        Injection {
            fault: self,
            route,
            about: None,
            moment: Moment::BeforeEffect,
            headers: Vec::new(),
            left: Some(1),
            met: 0,
        }
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status, _) => write!(f, "Status({status})"),
            Self::Html(status) => write!(f, "Html({status})"),
            Self::Edit(_) => f.write_str("Edit"),
            Self::Hang => f.write_str("Hang"),
            Self::Cut => f.write_str("Cut"),
            Self::Late => f.write_str("Late"),
        }
    }
}

/// A fault with the calls that meet it.
#[derive(Clone, Debug)]
pub struct Injection {
    pub(super) fault: Fault,
    route: Route,
    about: Option<String>,
    pub(super) moment: Moment,
    headers: Vec<Header>,
    /// Nothing: every call.
    left: Option<usize>,
    met: usize,
}

impl Injection {
    /// Only calls with this GUID in their path, or that make a key of this name.
    #[must_use]
    pub fn about(mut self, guid_or_name: impl Into<String>) -> Self {
        self.about = Some(guid_or_name.into());
        self
    }

    /// Strikes after the effect has taken place instead of before.
    #[must_use]
    pub const fn after_effect(mut self) -> Self {
        self.moment = Moment::AfterEffect;
        self
    }

    /// The next so many calls instead of the next one.
    #[must_use]
    pub const fn times(mut self, count: usize) -> Self {
        self.left = Some(count);
        self
    }

    /// Every call from now on.
    #[must_use]
    pub const fn forever(mut self) -> Self {
        self.left = None;
        self
    }

    /// Sets a header of the spoiled answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Adds `Retry-After` in whole seconds; see [`Self::header`] for values that make less sense.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        self.header(RETRY_AFTER, seconds.into())
    }

    fn meets(&self, target: &Target, name: Option<&str>) -> bool {
        self.route == target.route
            && self.left != Some(0)
            && self
                .about
                .as_deref()
                .is_none_or(|about| target.guid.as_deref() == Some(about) || name == Some(about))
    }

    /// What becomes of the true answer.
    pub(super) fn spoil(self, mut answer: Answer) -> Ending {
        let mut spoiled = match self.fault {
            Fault::Status(status, body) => Answer::new(status, body).into_response(),
            Fault::Html(status) => response(status, "text/html", Body::from(PAGE)),
            Fault::Edit(change) => {
                let mut body = answer.body.take().unwrap_or_default();
                change(&mut body);
                answer.body = (!body.is_null()).then_some(body);
                answer.into_response()
            }
            Fault::Hang => return Ending::Hang,
            Fault::Cut | Fault::Late => return Ending::Cut,
        };
        set_headers(&mut spoiled, self.headers);
        Ending::Response(spoiled)
    }
}

/// How a call ends.
pub(super) enum Ending {
    Response(Response<Body>),
    /// The connection is closed without a response.
    Cut,
    /// The connection stays open without a response.
    Hang,
}

/// The faults still to come, in the order in which they were injected.
#[derive(Debug, Default)]
pub(super) struct Script(Vec<Injection>);

impl Script {
    pub fn add(&mut self, injection: Injection) {
        self.0.push(injection);
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault that this call meets, which is used up by it.
    pub fn take(&mut self, target: &Target, name: Option<&str>) -> Option<Injection> {
        let injection = self.0.iter_mut().find(|injection| injection.meets(target, name))?;
        injection.met += 1;
        if let Some(left) = &mut injection.left {
            *left -= 1;
        }
        Some(injection.clone())
    }

    /// The faults that no call has met at all.
    pub fn unmet(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter().filter(|injection| injection.met == 0).map(|injection| &injection.fault)
    }
}
