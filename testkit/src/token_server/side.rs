//! A token endpoint as a remote side.

use std::time::Duration;

use axum::http::{
    HeaderValue, Method, StatusCode,
    header::{AUTHORIZATION, CACHE_CONTROL, PRAGMA, WWW_AUTHENTICATE},
};
use serde_json::json;

use super::{
    request::{GrantRule, Refusal, Request, Terms, check, refused},
    tokens::IssuedTokens,
};
use crate::remote::{Admission, Answer, Environment, Header, Side, Target};

/// An endpoint of the token server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// `POST /oauth/token`.
    Token,
    /// Everything else.
    Unknown,
}

/// A token endpoint.
pub struct TokenIssuer {
    pub(super) terms: Terms,
    /// The lifetime of new tokens in seconds; nothing if answers don't report it, and tokens are valid until revoked.
    pub(super) expires_in: Option<u64>,
    pub(super) environment: Environment,
    pub(super) tokens: IssuedTokens,
}

impl Side for TokenIssuer {
    type Door = ();
    type Route = Route;
    type Rule = GrantRule;
    type Details = ();
    /// All checks depend on the terms, which a test can change while a gate holds the request.
    type Admitted = Request;

    const NAME: &'static str = "token server";
    const DOORS: &'static [((), &'static str)] = &[((), "token-server")];
    const PATH: &'static str = "/oauth/token";
    const MAX_REQUEST_BYTES: usize = 64 * 1024;

    fn target((): (), method: &Method, path: &str) -> Target<Route> {
        let is_endpoint = method == Method::POST && path == Self::PATH;
        Target { route: if is_endpoint { Route::Token } else { Route::Unknown }, ids: Vec::new() }
    }

    fn is_secret(_route: Route) -> bool {
        true
    }

    fn headers(request: &Request, _number: usize, status: StatusCode) -> Vec<Header> {
        let challenged = status == StatusCode::UNAUTHORIZED && request.headers.contains_key(AUTHORIZATION);
        let challenge = challenged.then_some((WWW_AUTHENTICATE, "Basic realm=\"fake token server\""));
        let headers = [(CACHE_CONTROL, "no-store"), (PRAGMA, "no-cache")].into_iter().chain(challenge);
        headers.map(|(name, value)| (name, HeaderValue::from_static(value))).collect()
    }

    fn admit(&mut self, request: &Request) -> Result<Admission<Self>, Refusal> {
        Ok(Admission { admitted: request.clone(), details: None, headers: Vec::new(), reproach: None })
    }

    fn over_limit() -> Refusal {
        let detail = "more requests than the limit allows";
        refused(StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable", GrantRule::RateLimit, detail)
    }

    fn check(&self, request: &Request) -> Result<(), Refusal> {
        check(request, &self.terms)
    }

    fn carry_out(&mut self, _request: &Request) -> Result<Answer, Refusal> {
        let token = self.tokens.issue(self.expires_in.map(Duration::from_secs), &self.environment);
        // In lower case, as many servers write it: the type is compared without regard to case (section 5.1).
        let mut body = json!({ "access_token": token, "token_type": "bearer" });
        if let Some(seconds) = self.expires_in {
            body["expires_in"] = seconds.into();
        }
        Ok(Answer::ok(body))
    }
}
