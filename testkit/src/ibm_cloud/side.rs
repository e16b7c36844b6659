//! What makes a remote side IBM Cloud.

use axum::http::{HeaderName, Method, StatusCode};

use super::{
    admission::{Admitted, Request, admit},
    answer::{Answer, Refusal, controller},
    iam::{Grant, Iam},
    operation::Operation,
    record::Rule,
    route::{Door, Route, Target, target},
    state::State,
};
use crate::remote::{Admission, Side};

/// IAM and the Resource Controller.
pub(super) struct IbmCloud {
    pub iam: Iam,
    pub state: State,
}

impl Side for IbmCloud {
    type Door = Door;
    type Route = Route;
    type Rule = Rule;
    type Grant = Grant;
    type Admitted = Admitted;

    const NAME: &'static str = "IBM Cloud";
    const REQUEST_ID: HeaderName = HeaderName::from_static("transaction-id");

    fn target(door: Door, method: &Method, path: &str) -> Target {
        target(door, method, path)
    }

    fn is_secret(route: Route) -> bool {
        route == Route::Token
    }

    fn admit(&mut self, request: &Request) -> Result<Admission<Self>, Refusal> {
        let admitted = admit(request, &self.iam)?;
        let grant = match &admitted.operation {
            Operation::Token(request) => Some(request.grant()),
            _ => None,
        };
        // IAM deletes a service ID all the same, and so does the fake.
        let reproach = match &admitted.operation {
            Operation::DeleteServiceId { id } => self.state.bound_to(id).map(|key| {
                let detail = format!("the key `{key}` is still bound to the service ID `{id}`");
                (Rule::SafeOrder, detail)
            }),
            Operation::CreateKey(wish) => self.state.reproach_to_role(wish).map(|what| (Rule::Role, what)),
            _ => None,
        };
        let login = admitted.session.as_ref().map(|session| session.login.clone());
        Ok(Admission { admitted, login, grant, headers: Vec::new(), reproach })
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
            // Not reached: all but a token is asked for with a session.
            (_, None) => Err(Refusal::forbidden(Route::Unknown)),
        }
    }
}
