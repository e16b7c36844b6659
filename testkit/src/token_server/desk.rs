//! Where requests are answered, and what the server's thread and the test's handle share.

use std::{
    future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, to_bytes},
    http::{
        self, HeaderValue, Response, StatusCode,
        header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, PRAGMA, WWW_AUTHENTICATE},
    },
};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    faults::{Script, TokenFault},
    request::{GrantRule, GrantViolation, Refusal, Request, Terms, check},
    tokens::IssuedTokens,
};
use crate::{
    gate::{Cut, Gates, Moment},
    server::Service,
};

const MAX_REQUEST_BYTES: usize = 64 * 1024;
const PAGE: &str = "<!DOCTYPE html><html><body><h1>Please log in</h1></body></html>";

pub(super) struct Desk {
    pub tokens: IssuedTokens,
    pub granted: watch::Sender<usize>,
    inner: Mutex<Inner>,
}

pub(super) struct Inner {
    pub terms: Terms,
    /// How long tokens live, in seconds; nothing where answers don't say so, and tokens live until they are revoked.
    pub expires_in: Option<u64>,
    pub script: Script,
    pub gates: Gates<()>,
    pub requests: usize,
    pub violations: Vec<GrantViolation>,
    pub tolerated: Vec<GrantRule>,
}

impl Desk {
    pub(super) fn new(terms: Terms, expires_in: Option<u64>, tolerated: Vec<GrantRule>) -> Self {
        let inner = Inner {
            terms,
            expires_in,
            script: Script::default(),
            gates: Gates::none(),
            requests: 0,
            violations: Vec::new(),
            tolerated,
        };
        Self { tokens: IssuedTokens::default(), granted: watch::Sender::new(0), inner: Mutex::new(inner) }
    }

    pub(super) fn open(&self) -> MutexGuard<'_, Inner> {
        // No code panics while it holds the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: Request) -> Result<Response<Body>, Cut> {
        self.open().requests += 1;
        self.pass(Moment::BeforeEffect).await?;
        let fault = self.open().script.take();
        // A fault does not excuse a breach.
        let checked = self.check(&request);
        let answer = match fault {
            None => self.true_answer(&request, checked),
            Some(TokenFault::Delay(duration)) => {
                tokio::time::sleep(duration).await;
                self.true_answer(&request, checked)
            }
            Some(TokenFault::Status(status, body)) => json_response(status, &body),
            Some(TokenFault::Html) => response(StatusCode::OK, "text/html", PAGE.into()),
            Some(TokenFault::Cut) => return Err(Cut),
            Some(TokenFault::Hang) => future::pending().await,
        };
        self.pass(Moment::AfterEffect).await?;
        Ok(answer)
    }

    /// Records what a request does wrong.
    fn check(&self, request: &Request) -> Result<(), Refusal> {
        let mut inner = self.open();
        let checked = check(request, &inner.terms);
        if let Err(Refusal { violation, .. }) = &checked
            && !inner.tolerated.contains(&violation.rule)
        {
            inner.violations.push(violation.clone());
        }
        checked
    }

    fn true_answer(&self, request: &Request, checked: Result<(), Refusal>) -> Response<Body> {
        match checked {
            Ok(()) => self.grant(),
            Err(refusal) => refused(request, &refusal),
        }
    }

    fn grant(&self) -> Response<Body> {
        let expires_in = self.open().expires_in;
        let token = self.tokens.issue(expires_in.map(Duration::from_secs));
        self.granted.send_modify(|granted| *granted += 1);
        // In lower case, as many servers write it: the type is compared without regard to case (section 5.1).
        let mut body = json!({ "access_token": token, "token_type": "bearer" });
        if let Some(seconds) = expires_in {
            body["expires_in"] = seconds.into();
        }
        json_response(StatusCode::OK, &body)
    }

    async fn pass(&self, moment: Moment) -> Result<(), Cut> {
        let bars = self.open().gates.on_the_way(moment, |()| true);
        for bar in bars {
            bar.pass().await?;
        }
        Ok(())
    }
}

impl Service for Arc<Desk> {
    async fn call(self, request: http::Request<Incoming>) -> Result<Response<Body>, Cut> {
        let (head, body) = request.into_parts();
        let body = to_bytes(Body::new(body), MAX_REQUEST_BYTES).await.ok().map(Vec::from);
        self.answer(Request { method: head.method, uri: head.uri, headers: head.headers, body }).await
    }
}

fn refused(request: &Request, refusal: &Refusal) -> Response<Body> {
    let Refusal { status, error, violation } = refusal;
    let body = json!({ "error": error, "error_description": violation.detail });
    let mut response = json_response(*status, &body);
    if *status == StatusCode::UNAUTHORIZED && request.headers.contains_key(AUTHORIZATION) {
        let challenge = HeaderValue::from_static("Basic realm=\"fake token server\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

fn json_response(status: StatusCode, body: &Value) -> Response<Body> {
    response(status, "application/json", body.to_string().into())
}

fn response(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-store"), (PRAGMA, "no-cache")];
    let headers = headers.map(|(name, value)| (name, HeaderValue::from_static(value)));
    response.headers_mut().extend(headers);
    response
}
