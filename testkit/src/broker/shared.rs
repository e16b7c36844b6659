//! What the server's thread and the test's handle share.

use std::{
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
};

use axum::http::{HeaderValue, StatusCode, header::RETRY_AFTER};
use governor::{DefaultDirectRateLimiter, Quota};
use tokio::sync::watch;

use super::{
    admission::{API_VERSION, Demands, REQUEST_IDENTITY, Request, originating_identity},
    answer::{Answer, Refusal},
    faults::{Injection, Script},
    login::Login,
    operation::Operation,
    record::{Call, Rule, Violation},
    route::Route,
    state::State,
};
use crate::gate::{Cut, Gates, Moment};

pub(super) struct Shared {
    inner: Mutex<Inner>,
    /// Told of everything that a test can wait for.
    changed: watch::Sender<()>,
}

pub(super) struct Inner {
    pub login: Login,
    pub demands: Demands,
    pub state: State,
    pub script: Script,
    /// What was asked for and is still to take effect, without anybody waiting for the answer.
    pub late: Vec<Operation>,
    pub gates: Gates<Route>,
    /// The identities of the requests that were cut.
    pub cut: Vec<HeaderValue>,
    pub calls: Vec<Call>,
    pub violations: Vec<Violation>,
    pub tolerated: Vec<Rule>,
    limit: Option<DefaultDirectRateLimiter>,
}

impl Shared {
    pub(super) fn new(
        login: Login,
        demands: Demands,
        state: State,
        tolerated: Vec<Rule>,
        limit: Option<NonZeroU32>,
    ) -> Self {
        let inner = Inner {
            login,
            demands,
            state,
            script: Script::default(),
            late: Vec::new(),
            gates: Gates::none(),
            cut: Vec::new(),
            calls: Vec::new(),
            violations: Vec::new(),
            tolerated,
            limit: limit.map(|limit| DefaultDirectRateLimiter::direct(Quota::per_second(limit))),
        };
        Self { inner: Mutex::new(inner), changed: watch::Sender::new(()) }
    }

    /// Reads without telling anybody.
    pub(super) fn look(&self) -> MutexGuard<'_, Inner> {
        // No code panics while it holds the lock but a recipe of a test's own, and that test is failing then.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, and tells who waits for changes.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let result = change(&mut self.look());
        self.changed.send_replace(());
        result
    }

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Records a call that came in, and gives its place in the record.
    pub(super) fn arrived(&self, request: &Request, method: hyper::Method) -> usize {
        let text = |name| request.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let call = Call {
            method,
            path: request.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            route: request.target.route,
            instance: request.target.instance.clone(),
            binding: request.target.binding.clone(),
            status: None,
            api_version: text(API_VERSION),
            request_identity: text(REQUEST_IDENTITY),
            originating_identity: originating_identity(&request.headers).ok(),
            body: request.body.as_ref().and_then(|body| serde_json::from_slice(body).ok()),
        };
        self.change(|inner| {
            inner.calls.push(call);
            inner.calls.len() - 1
        })
    }

    /// Records the status that a call is answered with, just before it is sent.
    pub(super) fn answered(&self, call: usize, status: u16) {
        self.change(|inner| {
            if let Some(call) = inner.calls.get_mut(call) {
                call.status = Some(status);
            }
        });
    }

    /// Waits at every gate that holds this route at this moment.
    pub(super) async fn pass(&self, route: Route, moment: Moment) -> Result<(), Cut> {
        let bars = self.look().gates.on_the_way(moment, |held| *held == route);
        for bar in bars {
            bar.pass().await?;
        }
        Ok(())
    }
}

impl Inner {
    /// Records what a refused call did wrong, if anything, and gives the answer to it.
    pub(super) fn refuse(&mut self, call: usize, refusal: Refusal) -> Answer {
        let Refusal { answer, breach } = refusal;
        if let Some((rule, detail)) = breach
            && !self.tolerated.contains(&rule)
        {
            self.violations.push(Violation { rule, call, detail });
        }
        answer
    }

    /// Counts a call against the limit.
    pub(super) fn within_limit(&self) -> Result<(), Refusal> {
        if self.limit.as_ref().is_none_or(|limit| limit.check().is_ok()) {
            return Ok(());
        }
        let detail = "more requests than the limit allows";
        let mut refusal = Refusal::breach(Rule::RateLimit, StatusCode::TOO_MANY_REQUESTS, detail);
        refusal.answer = refusal.answer.with_header(RETRY_AFTER, HeaderValue::from_static("1"));
        Err(refusal)
    }

    /// Carries out what is late, in the order in which it was asked for, unless that is impossible by now. It is
    /// nobody's fault then: it was judged when it came in. Says how much was carried out.
    pub(super) fn release_late(&mut self) -> usize {
        let late = std::mem::take(&mut self.late);
        late.iter().filter(|operation| self.carry_out_late(operation)).count()
    }

    fn carry_out_late(&mut self, operation: &Operation) -> bool {
        let possible = self.state.check(operation).is_ok();
        if possible {
            self.state.apply(operation);
        }
        possible
    }

    /// Everything that a clean test leaves empty, one line each.
    pub(super) fn complaints(&self) -> Vec<String> {
        let unmet = self.script.unmet();
        let unmet = unmet.iter().map(|Injection { fault, .. }| format!("no call met the fault {fault:?}"));
        let late = self.late.iter().map(|_| "a late call was never released".to_owned());
        self.violations.iter().map(ToString::to_string).chain(unmet).chain(late).collect()
    }
}
