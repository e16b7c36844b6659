//! The script of faults: which calls go wrong, how, and whether their effect takes place.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode, header::RETRY_AFTER};
use serde_json::{Value, json};

use super::{
    answer::Header,
    route::{Route, Target},
};
use crate::gate::Moment;

/// A way to go wrong. "Success" below is 201 for a bind and 200 for everything else.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// This status with this body.
    Status(StatusCode, Value),
    /// Success with this body.
    Body(Value),
    /// This status with this text, which may be no JSON.
    Text(StatusCode, String),
    /// This status with a page of HTML.
    Html(StatusCode),
    /// This status without a body.
    Empty(StatusCode),
    /// The true answer's body under this status.
    Relabel(StatusCode),
    /// This status, and a `description` that repeats the login, the request's body and the credentials.
    RepeatSecrets(StatusCode),
    /// Success with 10 MiB of well-formed JSON.
    BigBody,
    /// Success with a body that ends when the client hangs up.
    EndlessBody,
    /// No answer, and a connection that stays open.
    Hang,
    /// No answer, and a connection that is closed. A request of the same `X-Broker-API-Request-Identity` is cut as well, and
    /// is not a call of its own.
    Cut,
    /// No answer, a connection that is closed, and the effect when the test says so:
    /// [`FakeBroker::release_late`](super::FakeBroker::release_late). So a bind can take effect after the unbind
    /// that was to undo it. Struck after its effect, it is no different from [`Cut`](Self::Cut).
    Late,
    /// The true answer, this time later; the time passes before or after the effect, as the injection says.
    Delay(Duration),
    /// The true answer, with this time between any two bytes of its body.
    Drip(Duration),
    /// Half of the true answer's body, and a connection that is closed.
    CutInBody,
}

impl Fault {
    /// Success with credentials of another type than an object.
    #[must_use]
    pub fn credentials(credentials: &Value) -> Self {
        Self::Body(json!({ "credentials": credentials }))
    }

    /// Lets the next call of this route go wrong, before it takes effect.
    ///
    /// With [`Delay`](Self::Delay), [`Drip`](Self::Drip), [`CutInBody`](Self::CutInBody) and
    /// [`Relabel`](Self::Relabel) the effect takes place all the same: the answer tells of it.
    #[must_use]
    pub const fn on(self, route: Route) -> Injection {
        Injection {
            fault: self,
            route,
            binding: None,
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

    /// Whether the answer tells of the effect, so that there must be one.
    pub(super) const fn needs_effect(&self) -> bool {
        matches!(self, Self::Delay(_) | Self::Drip(_) | Self::CutInBody | Self::Relabel(_))
    }
}

/// A fault with the calls that meet it.
#[derive(Clone, Debug, PartialEq)]
pub struct Injection {
    pub(super) fault: Fault,
    route: Route,
    binding: Option<String>,
    pub(super) moment: Moment,
    pub(super) headers: Vec<Header>,
    /// Nothing: every call.
    left: Option<usize>,
    met: usize,
}

impl Injection {
    /// Only calls for this binding.
    #[must_use]
    pub fn binding(mut self, id: impl ToString) -> Self {
        self.binding = Some(id.to_string());
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

    /// Adds a header to the spoiled answer.
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

    fn meets(&self, target: &Target) -> bool {
        self.route == target.route
            && self.left != Some(0)
            && self.binding.as_ref().is_none_or(|id| target.binding.as_ref() == Some(id))
    }
}

/// The faults still to come, in the order in which they were injected.
#[derive(Debug, Default)]
pub(super) struct Script(Vec<Injection>);

impl Script {
    pub(super) fn add(&mut self, injection: Injection) {
        self.0.push(injection);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault that this call meets, which is used up by it.
    pub(super) fn take(&mut self, target: &Target) -> Option<Injection> {
        let injection = self.0.iter_mut().find(|injection| injection.meets(target))?;
        injection.met += 1;
        if let Some(left) = &mut injection.left {
            *left -= 1;
        }
        Some(injection.clone())
    }

    /// The faults that no call has met at all.
    pub(super) fn unmet(&self) -> Vec<Injection> {
        self.0.iter().filter(|injection| injection.met == 0).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Method;

    use super::*;

    #[test]
    fn a_fault_meets_its_route_and_binding_as_often_as_it_says() {
        let of_b = Target::read(&Method::PUT, "/v2/service_instances/a/service_bindings/b");
        let of_c = Target::read(&Method::PUT, "/v2/service_instances/a/service_bindings/c");
        let mut script = Script::default();
        script.add(Fault::Cut.on(Route::Bind).binding("b").times(2));

        assert_eq!(script.take(&of_c), None);
        assert_eq!(script.unmet().len(), 1);
        assert!(script.take(&of_b).is_some());
        assert!(script.take(&of_b).is_some());
        assert_eq!(script.take(&of_b), None);
        assert_eq!(script.unmet(), []);
    }
}
