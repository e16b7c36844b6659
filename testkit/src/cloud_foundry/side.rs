//! Cloud Foundry as a remote side.

use axum::http::{Method, StatusCode};

use super::{
    admission::{Admitted, Request, admit},
    answer::{Answer, ApiError, Refusal},
    limit::Meter,
    operation::Operation,
    record::Rule,
    route::{Door, Route, Target, target},
    state::State,
    uaa::{Grant, Uaa},
};
use crate::remote::{Admission, Caller, Header, Side, numbered};

/// The Cloud Controller and the UAA.
pub struct CloudFoundry {
    pub(super) uaa: Uaa,
    pub(super) state: State,
    pub(super) meter: Meter,
    /// The number of remaining look-ups of single keys and jobs; `None` without a limit.
    pub(super) look_ups: Option<usize>,
}

impl CloudFoundry {
    pub(super) fn new(uaa: Uaa, state: State, look_ups: Option<usize>) -> Self {
        Self { uaa, state, meter: Meter::default(), look_ups }
    }

    /// Counts a look-up. The fake answers a look-up over the limit anyway: only its number is wrong.
    fn count_look_up(&mut self, route: Route) -> Option<(Rule, String)> {
        if !matches!(route, Route::Key | Route::Job) {
            return None;
        }
        match &mut self.look_ups {
            None => None,
            Some(0) => {
                let detail = "a list shows many keys at once, and this one was looked up by itself";
                Some((Rule::OneByOne, detail.into()))
            }
            Some(left) => {
                *left -= 1;
                None
            }
        }
    }
}

impl Side for CloudFoundry {
    type Door = Door;
    type Route = Route;
    type Rule = Rule;
    type Details = Caller<Grant>;
    type Admitted = Admitted;

    const NAME: &'static str = "Cloud Foundry";
    const DOORS: &'static [(Door, &'static str)] =
        &[(Door::Api, "fake-cloud-controller"), (Door::Uaa, "fake-uaa")];

    fn target(door: Door, method: &Method, path: &str) -> Target {
        target(door, method, path)
    }

    fn is_secret(route: Route) -> bool {
        route == Route::Token
    }

    fn success(route: Route) -> StatusCode {
        match route {
            Route::Create | Route::Delete => StatusCode::ACCEPTED,
            _ => StatusCode::OK,
        }
    }

    fn headers(_request: &Request, number: usize, _status: StatusCode) -> Vec<Header> {
        numbered("x-vcap-request-id", number)
    }

    fn admit(&mut self, request: &Request) -> Result<Admission<Self>, Refusal> {
        let route = request.target.route;
        let headers = match route {
            Route::Root | Route::ApiRoot | Route::Token => Vec::new(),
            _ => self.meter.count(self.state.environment.epoch()).map_err(Refusal::blameless)?,
        };
        let admitted = admit(request, &self.uaa)?;
        let grant = match &admitted.operation {
            Operation::Token(request) => Some(request.grant()),
            _ => None,
        };
        let login = admitted.session.as_ref().map(|session| session.login.clone());
        let details = Some(Caller { login, grant });
        Ok(Admission { admitted, details, headers, reproach: self.count_look_up(route) })
    }

    fn over_limit() -> Refusal {
        let detail = "more requests than the limit allows";
        Refusal::breach(Rule::RateLimit, ApiError::rate_limit_exceeded(), detail)
    }

    fn name_of(admitted: &Admitted) -> Option<&str> {
        match &admitted.operation {
            Operation::Create(wish) => Some(&wish.name),
            _ => None,
        }
    }

    fn carry_out(&mut self, Admitted { operation, session }: &Admitted) -> Result<Answer, Refusal> {
        match (operation, session) {
            (Operation::Token(request), _) => self.uaa.grant(request),
            (operation, Some(session)) => Ok(self.state.apply(operation, session)),
            (operation, None) => Ok(self.state.apply_openly(operation)),
        }
    }
}
