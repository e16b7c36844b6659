//! The script of faults: which calls go wrong, how, and whether their effect takes place.

use std::{fmt, sync::Arc};

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Response, StatusCode, header::RETRY_AFTER},
};
use serde_json::Value;

use super::{
    answer::{Answer, Header, response, set_headers},
    call::Target,
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
    /// This status with this line of text.
    Text(StatusCode, &'static str),
    /// The true answer with another body.
    Edit(Arc<dyn Fn(&mut Value) + Send + Sync>),
    /// No answer, and a connection that stays open.
    Hang,
    /// No answer, and a connection that is closed.
    Cut,
    /// No answer, a connection that is closed, and the effect when the test says so, by `release_late` of the fake.
    /// Struck after its effect, it is no different from [`Cut`](Self::Cut).
    Late,
}

impl Fault {
    /// The true answer with its body changed: a link to elsewhere, a field that is missing.
    pub fn edit(change: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        Self::Edit(Arc::new(change))
    }

    /// Lets the next call of this route go wrong, before it takes effect; [`Edit`](Self::Edit) takes effect all the
    /// same, because the answer tells of it.
    #[must_use]
    pub const fn on<R>(self, route: R) -> Injection<R> {
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
            Self::Text(status, _) => write!(f, "Text({status})"),
            Self::Edit(_) => f.write_str("Edit"),
            Self::Hang => f.write_str("Hang"),
            Self::Cut => f.write_str("Cut"),
            Self::Late => f.write_str("Late"),
        }
    }
}

/// A fault with the calls that meet it.
#[derive(Clone, Debug)]
pub struct Injection<R> {
    pub(super) fault: Fault,
    route: R,
    about: Option<String>,
    pub(super) moment: Moment,
    headers: Vec<Header>,
    /// Nothing: every call.
    left: Option<usize>,
    met: usize,
}

impl<R: Copy + Eq> Injection<R> {
    /// Only calls with this id in their path, or that make something of this name.
    #[must_use]
    pub fn about(mut self, id_or_name: impl Into<String>) -> Self {
        self.about = Some(id_or_name.into());
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

    fn meets(&self, target: &Target<R>, name: Option<&str>) -> bool {
        self.route == target.route
            && self.left != Some(0)
            && self
                .about
                .as_deref()
                .is_none_or(|about| target.id.as_deref() == Some(about) || name == Some(about))
    }

    /// What becomes of the true answer.
    pub(super) fn spoil(self, mut answer: Answer) -> Ending {
        let mut spoiled = match self.fault {
            Fault::Status(status, body) => Answer::new(status, body).into_response(),
            Fault::Html(status) => response(status, "text/html", Body::from(PAGE)),
            Fault::Text(status, text) => response(status, "text/plain; charset=utf-8", Body::from(text)),
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
#[derive(Debug)]
pub(crate) struct Script<R>(Vec<Injection<R>>);

impl<R: Copy + Eq> Script<R> {
    pub(crate) const fn empty() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn add(&mut self, injection: Injection<R>) {
        self.0.push(injection);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault that this call meets, which is used up by it.
    pub(crate) fn take(&mut self, target: &Target<R>, name: Option<&str>) -> Option<Injection<R>> {
        let injection = self.0.iter_mut().find(|injection| injection.meets(target, name))?;
        injection.met += 1;
        if let Some(left) = &mut injection.left {
            *left -= 1;
        }
        Some(injection.clone())
    }

    /// The faults that no call has met at all.
    pub(crate) fn unmet(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter().filter(|injection| injection.met == 0).map(|injection| &injection.fault)
    }
}
