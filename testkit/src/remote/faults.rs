//! The script of faults: which calls fail, how, and whether they take effect.

use std::{fmt, sync::Arc, time::Duration};

use axum::http::{HeaderName, HeaderValue, StatusCode, header::RETRY_AFTER};
use serde_json::Value;

use super::{answer::Header, call::Target};
use crate::gate::Moment;

/// A way to fail. A "success" is the status of a true answer: 201 for a bind, for example. `Debug` leaves bodies out.
#[derive(Clone)]
pub enum Fault {
    /// This status with this body.
    Status(StatusCode, Value),
    /// Success with this body.
    Body(Value),
    /// This status with this text, which is declared as JSON and may not be JSON.
    Text(StatusCode, String),
    /// This status with this text, which is declared as plain text.
    PlainText(StatusCode, &'static str),
    /// This status with a page of HTML, as routers send it.
    Html(StatusCode),
    /// This status without a body.
    Empty(StatusCode),
    /// The body of the true answer with this status.
    Relabel(StatusCode),
    /// The true answer with another body; see [`Self::edit`].
    Edit(Arc<dyn Fn(&mut Value) + Send + Sync>),
    /// This status and a `description` that repeats the login, the body of the request and the credentials.
    RepeatSecrets(StatusCode),
    /// Success with 10 MiB of well-formed JSON.
    BigBody,
    /// Success with a body that does not end until the client hangs up.
    EndlessBody,
    /// No answer on a connection that stays open.
    Hang,
    /// No answer; the connection is closed. If the protocol gives requests an identity, a request of the same identity
    /// is cut too and is not recorded.
    Cut,
    /// No answer; the connection is closed, and the call takes effect at
    /// [`Fake::release_late`](super::Fake::release_late). A bind can thus take effect after the unbind that should
    /// undo it. After the effect it is the same as [`Cut`](Self::Cut).
    Late,
    /// The true answer after this time, which passes before or after the effect, as the injection says.
    Delay(Duration),
    /// The true answer with this time between any two bytes of its body.
    Drip(Duration),
    /// Half of the true answer's body; then the connection is closed.
    CutInBody,
}

impl Fault {
    /// The true answer with a changed body, such as one with a link to another host or without a field.
    pub fn edit(change: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        Self::Edit(Arc::new(change))
    }

    /// Lets the next call of this route fail before its effect.
    ///
    /// [`Delay`](Self::Delay), [`Drip`](Self::Drip), [`CutInBody`](Self::CutInBody), [`Relabel`](Self::Relabel) and
    /// [`Edit`](Self::Edit) don't prevent the effect, because their answer reports it.
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

    pub(super) const fn delay(&self) -> Duration {
        match self {
            Self::Delay(duration) => *duration,
            _ => Duration::ZERO,
        }
    }

    /// Whether the answer reports the effect, so that there must be one.
    pub(super) const fn needs_effect(&self) -> bool {
        matches!(self, Self::Delay(_) | Self::Drip(_) | Self::CutInBody | Self::Relabel(_) | Self::Edit(_))
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status, _) => write!(f, "Status({status})"),
            Self::Body(_) => f.write_str("Body"),
            Self::Text(status, _) => write!(f, "Text({status})"),
            Self::PlainText(status, _) => write!(f, "PlainText({status})"),
            Self::Html(status) => write!(f, "Html({status})"),
            Self::Empty(status) => write!(f, "Empty({status})"),
            Self::Relabel(status) => write!(f, "Relabel({status})"),
            Self::Edit(_) => f.write_str("Edit"),
            Self::RepeatSecrets(status) => write!(f, "RepeatSecrets({status})"),
            Self::BigBody => f.write_str("BigBody"),
            Self::EndlessBody => f.write_str("EndlessBody"),
            Self::Hang => f.write_str("Hang"),
            Self::Cut => f.write_str("Cut"),
            Self::Late => f.write_str("Late"),
            Self::Delay(time) => write!(f, "Delay({time:?})"),
            Self::Drip(time) => write!(f, "Drip({time:?})"),
            Self::CutInBody => f.write_str("CutInBody"),
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
    pub(super) headers: Vec<Header>,
    /// Nothing: every call.
    left: Option<usize>,
    met: usize,
}

impl<R: Copy + Eq> Injection<R> {
    /// Strikes only calls whose path ends with this id, or that create an object of this name.
    #[must_use]
    pub fn about(mut self, id_or_name: impl ToString) -> Self {
        self.about = Some(id_or_name.to_string());
        self
    }

    /// Strikes after the effect instead of before it.
    #[must_use]
    pub const fn after_effect(mut self) -> Self {
        self.moment = Moment::AfterEffect;
        self
    }

    /// Strikes this many calls instead of one.
    #[must_use]
    pub const fn times(mut self, count: usize) -> Self {
        self.left = Some(count);
        self
    }

    /// Strikes all later calls.
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

    /// Sets `Retry-After` in whole seconds; [`Self::header`] can set invalid values too.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        self.header(RETRY_AFTER, seconds.into())
    }

    fn meets(&self, target: &Target<R>, name: Option<&str>) -> bool {
        let about = self.about.as_deref();
        self.route == target.route
            && self.left != Some(0)
            && about.is_none_or(|about| [target.id(), name].contains(&Some(about)))
    }
}

/// The faults still to come, in the order of their injection.
#[derive(Debug)]
pub(super) struct Script<R>(Vec<Injection<R>>);

impl<R: Copy + Eq> Script<R> {
    pub(super) const fn empty() -> Self {
        Self(Vec::new())
    }

    pub(super) fn add(&mut self, injection: Injection<R>) {
        self.0.push(injection);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the fault that this call meets, and counts the call.
    pub(super) fn take(&mut self, target: &Target<R>, name: Option<&str>) -> Option<Injection<R>> {
        let injection = self.0.iter_mut().find(|injection| injection.meets(target, name))?;
        injection.met += 1;
        if let Some(left) = &mut injection.left {
            *left -= 1;
        }
        Some(injection.clone())
    }

    /// The faults that no call has met.
    pub(super) fn unmet(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter().filter(|injection| injection.met == 0).map(|injection| &injection.fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_meets_its_route_and_object_as_often_as_it_says() {
        let call = |route, ids: &[&str]| Target { route, ids: ids.iter().map(ToString::to_string).collect() };
        let mut script = Script::empty();
        script.add(Fault::Cut.on("bind").about("b").times(2));

        assert!(script.take(&call("bind", &["b", "c"]), None).is_none());
        assert!(script.take(&call("unbind", &["a", "b"]), None).is_none());
        assert_eq!(script.unmet().count(), 1);
        assert!(script.take(&call("bind", &["a", "b"]), None).is_some());
        assert!(script.take(&call("bind", &["a"]), Some("b")).is_some());
        assert!(script.take(&call("bind", &["a", "b"]), None).is_none());
        assert_eq!(script.unmet().count(), 0);
    }
}
