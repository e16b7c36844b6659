//! An Open Service Broker as a remote side.

use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{RETRY_AFTER, WWW_AUTHENTICATE},
};

use super::{
    admission::{API_VERSION, Demands, REQUEST_IDENTITY, Request, admit, originating_identity, text},
    answer::{Answer, Refusal},
    login::Login,
    operation::Operation,
    record::{CallDetails, Rule},
    route::{Route, Target, target},
    state::State,
};
use crate::remote::{Admission, Header, Side};

/// A broker of the Open Service Broker API.
pub struct ServiceBroker {
    pub(super) login: Login,
    pub(super) demands: Demands,
    pub(super) state: State,
}

impl Side for ServiceBroker {
    type Door = ();
    type Route = Route;
    type Rule = Rule;
    type Details = CallDetails;
    type Admitted = Operation;

    const NAME: &'static str = "broker";
    const DOORS: &'static [((), &'static str)] = &[((), "fake-broker")];

    fn target((): (), method: &Method, path: &str) -> Target {
        target(method, path)
    }

    fn details(request: &Request) -> CallDetails {
        let Request { target: Target { ids, .. }, headers, .. } = request;
        CallDetails {
            instance: ids.first().cloned(),
            binding: ids.get(1).cloned(),
            api_version: text(headers, API_VERSION).map(str::to_owned),
            request_identity: text(headers, REQUEST_IDENTITY).map(str::to_owned),
            originating_identity: originating_identity(headers).ok(),
        }
    }

    fn identity(headers: &HeaderMap) -> Option<HeaderValue> {
        headers.get(REQUEST_IDENTITY).cloned()
    }

    fn success(route: Route) -> StatusCode {
        if route == Route::Bind { StatusCode::CREATED } else { StatusCode::OK }
    }

    fn headers(request: &Request, _number: usize, status: StatusCode) -> Vec<Header> {
        let identity = Self::identity(&request.headers);
        let identity = identity.map(|value| (HeaderName::from_static(REQUEST_IDENTITY), value));
        let challenge = (status == StatusCode::UNAUTHORIZED)
            .then_some((WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"fake broker\"")));
        identity.into_iter().chain(challenge).collect()
    }

    fn admit(&mut self, request: &Request) -> Result<Admission<Self>, Refusal> {
        let admitted = admit(request, &self.login, &self.demands)?;
        Ok(Admission { admitted, details: None, headers: Vec::new(), reproach: None })
    }

    fn over_limit() -> Refusal {
        let detail = "more requests than the limit allows";
        let answer = Answer::error(StatusCode::TOO_MANY_REQUESTS, detail);
        Refusal::breach(Rule::RateLimit, answer.with_header(RETRY_AFTER, 1.into()), detail)
    }

    fn check(&self, operation: &Operation) -> Result<(), Refusal> {
        self.state.check(operation)
    }

    fn carry_out(&mut self, operation: &Operation) -> Result<Answer, Refusal> {
        Ok(self.state.apply(operation))
    }
}
