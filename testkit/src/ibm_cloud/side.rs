//! IBM Cloud as a remote side.

use axum::http::{Method, StatusCode};

use super::{
    admission::{Admitted, Request, admit},
    answer::{self, Answer, Refusal, controller},
    iam::{Grant, Iam},
    operation::Operation,
    record::Rule,
    route::{Door, Route, Target, target},
    state::State,
};
use crate::remote::{Admission, Caller, Header, Side, numbered};

/// IAM and the Resource Controller.
pub struct IbmCloud {
    pub(super) iam: Iam,
    pub(super) state: State,
}

impl Side for IbmCloud {
    type Door = Door;
    type Route = Route;
    type Rule = Rule;
    type Details = Caller<Grant>;
    type Admitted = Admitted;

    const NAME: &'static str = "IBM Cloud";
    const DOORS: &'static [(Door, &'static str)] =
        &[(Door::ResourceController, "fake-resource-controller"), (Door::Iam, "fake-iam")];

    fn target(door: Door, method: &Method, path: &str) -> Target {
        target(door, method, path)
    }

    fn is_secret(route: Route) -> bool {
        route == Route::Token
    }

    fn success(route: Route) -> StatusCode {
        match route {
            Route::CreateServiceId | Route::CreatePolicy | Route::CreateKey => StatusCode::CREATED,
            Route::DeleteServiceId | Route::DeletePolicy | Route::DeleteKey => StatusCode::NO_CONTENT,
            _ => StatusCode::OK,
        }
    }

    fn headers(_request: &Request, number: usize, _status: StatusCode) -> Vec<Header> {
        numbered("transaction-id", number)
    }

    fn refused(answer: Answer, number: usize) -> Answer {
        answer::number(answer, number)
    }

    fn admit(&mut self, request: &Request) -> Result<Admission<Self>, Refusal> {
        let admitted = admit(request, &self.iam)?;
        let grant = match &admitted.operation {
            Operation::Token(request) => Some(request.grant()),
            _ => None,
        };
        // IAM carries out both calls although they break a rule, and so does the fake.
        let reproach = match &admitted.operation {
            Operation::DeleteServiceId { id } => self.state.bound_to(id).map(|key| {
                let detail = format!("the key `{key}` is still bound to the service ID `{id}`");
                (Rule::SafeOrder, detail)
            }),
            Operation::CreateKey(wish) => self.state.reproach_to_role(wish).map(|what| (Rule::Role, what)),
            _ => None,
        };
        let login = admitted.session.as_ref().map(|session| session.login.clone());
        let details = Some(Caller { login, grant });
        Ok(Admission { admitted, details, headers: Vec::new(), reproach })
    }

    fn over_limit() -> Refusal {
        let detail = "more requests than the limit allows";
        let answer = controller(StatusCode::TOO_MANY_REQUESTS, "RC-TooManyRequests", detail);
        Refusal::breach(Rule::RateLimit, answer, detail)
    }

    fn name_of(admitted: &Admitted) -> Option<&str> {
        match &admitted.operation {
            Operation::CreateKey(wish) => Some(&wish.name),
            Operation::CreateServiceId(wish) => Some(&wish.name),
            Operation::CreatePolicy(wish) => Some(&wish.description),
            _ => None,
        }
    }

    fn carry_out(&mut self, Admitted { operation, session }: &Admitted) -> Result<Answer, Refusal> {
        match (operation, session) {
            (Operation::Token(request), _) => self.iam.grant(request),
            (operation, Some(session)) => self.state.apply(operation, session),
            // Never reached: only a request for a token has no session.
            (_, None) => Err(Refusal::forbidden(Route::Unknown)),
        }
    }
}
