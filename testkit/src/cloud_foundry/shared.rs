//! What the servers' threads and the test's handle share.

use std::{
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
};

use governor::{DefaultDirectRateLimiter, Quota};
use hyper::Method;
use tokio::sync::watch;

use super::{
    admission::{Admitted, Request, admit},
    answer::{Answer, ApiError, Header, Refusal},
    faults::Script,
    limit::Meter,
    operation::Operation,
    record::{Call, Rule, Violation},
    route::Route,
    state::State,
    uaa::Uaa,
};
use crate::gate::{Cut, Gates, Moment};

pub(super) struct Shared {
    inner: Mutex<Inner>,
    /// Told of everything that a test can wait for.
    changed: watch::Sender<()>,
}

pub(super) struct Inner {
    pub uaa: Uaa,
    pub state: State,
    pub script: Script,
    /// What was asked for, by which call, and is still to take effect, without anybody waiting for the answer.
    pub late: Vec<(usize, Admitted)>,
    pub gates: Gates<Route>,
    pub calls: Vec<Call>,
    pub violations: Vec<Violation>,
    pub tolerated: Vec<Rule>,
    pub meter: Meter,
    /// How many look-ups of single keys and jobs are left; nothing where there is no end of them.
    pub look_ups: Option<usize>,
    limit: Option<DefaultDirectRateLimiter>,
}

impl Shared {
    pub fn new(uaa: Uaa, state: State, tolerated: Vec<Rule>, limit: Option<NonZeroU32>) -> Self {
        let inner = Inner {
            uaa,
            state,
            script: Script::default(),
            late: Vec::new(),
            gates: Gates::none(),
            calls: Vec::new(),
            violations: Vec::new(),
            tolerated,
            meter: Meter::default(),
            look_ups: None,
            limit: limit.map(|limit| DefaultDirectRateLimiter::direct(Quota::per_second(limit))),
        };
        Self { inner: Mutex::new(inner), changed: watch::Sender::new(()) }
    }

    /// Reads without telling anybody.
    pub fn look(&self) -> MutexGuard<'_, Inner> {
        // No code panics while it holds the lock but a recipe of a test's own, and that test is failing then.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, and tells who waits for changes.
    pub fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let result = change(&mut self.look());
        self.changed.send_replace(());
        result
    }

    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Records a call that came in, and gives its place in the record.
    pub fn arrived(&self, request: &Request, method: Method) -> usize {
        let route = request.target.route;
        // What the UAA is sent is secret from its first byte to its last.
        let shown = request.body.as_ref().filter(|_| route != Route::Token);
        let call = Call {
            method,
            path: request.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            route,
            guid: request.target.guid.clone(),
            login: None,
            grant: None,
            status: None,
            body: shown.and_then(|body| serde_json::from_slice(body).ok()),
        };
        self.change(|inner| {
            inner.calls.push(call);
            inner.calls.len() - 1
        })
    }

    /// Records the status that a call is answered with, just before it is sent.
    pub fn answered(&self, call: usize, status: u16) {
        self.change(|inner| {
            if let Some(call) = inner.calls.get_mut(call) {
                call.status = Some(status);
            }
        });
    }

    /// Waits at every gate that holds this route at this moment.
    pub async fn pass(&self, route: Route, moment: Moment) -> Result<(), Cut> {
        let bars = self.look().gates.on_the_way(moment, |held| *held == route);
        for bar in bars {
            bar.pass().await?;
        }
        Ok(())
    }
}

impl Inner {
    /// Admits a call, or gives the answer to it; the headers are for whatever it is answered with.
    pub fn admit(&mut self, request: &Request, number: usize) -> Result<(Admitted, Vec<Header>), Answer> {
        if self.limit.as_ref().is_some_and(|limit| limit.check().is_err()) {
            let detail = "more requests than the limit allows";
            let refusal = Refusal::breach(Rule::RateLimit, ApiError::rate_limit_exceeded(), detail);
            return Err(self.refuse(number, refusal));
        }
        let headers = match request.target.route {
            Route::Root | Route::ApiRoot | Route::Token => Vec::new(),
            _ => self.meter.count()?,
        };
        let admitted = admit(request, &self.uaa).map_err(|refusal| self.refuse(number, refusal))?;
        if let Some(call) = self.calls.get_mut(number) {
            call.login = admitted.session.as_ref().map(|session| session.login.clone());
            if let Operation::Token(request) = &admitted.operation {
                call.grant = Some(request.grant());
            }
        }
        if matches!(request.target.route, Route::Key | Route::Job) {
            self.count_look_up(number);
        }
        Ok((admitted, headers))
    }

    /// A look-up too many is answered all the same: nothing is wrong with it but that there are others.
    fn count_look_up(&mut self, call: usize) {
        match &mut self.look_ups {
            None => {}
            Some(0) => {
                let detail = "a list shows many keys at once, and this one was looked up by itself";
                self.hold_against(call, Rule::OneByOne, detail.into());
            }
            Some(left) => *left -= 1,
        }
    }

    /// Records what a refused call did wrong, if anything, and gives the answer to it.
    pub fn refuse(&mut self, call: usize, refusal: Refusal) -> Answer {
        let Refusal { answer, breach } = refusal;
        if let Some((rule, detail)) = breach {
            self.hold_against(call, rule, detail);
        }
        answer
    }

    fn hold_against(&mut self, call: usize, rule: Rule, detail: String) {
        if !self.tolerated.contains(&rule) {
            self.violations.push(Violation { rule, call, detail });
        }
    }

    /// Carries out what is asked for.
    pub fn carry_out(&mut self, admitted: &Admitted, call: usize) -> Answer {
        let Admitted { operation, session } = admitted;
        match (operation, session) {
            (Operation::Token(request), _) => {
                self.uaa.grant(request).unwrap_or_else(|refusal| self.refuse(call, refusal))
            }
            (operation, Some(session)) => self.state.apply(operation, session),
            (operation, None) => self.state.apply_openly(operation),
        }
    }

    /// Carries out what is late, in the order in which it was asked for; says how much of it had an effect. What is
    /// impossible by now is nobody's fault.
    pub fn release_late(&mut self) -> usize {
        let late = std::mem::take(&mut self.late);
        late.iter().filter(|(call, admitted)| self.carry_out(admitted, *call).status.is_success()).count()
    }

    /// Everything that a clean test leaves empty, one line each.
    pub fn complaints(&self) -> Vec<String> {
        let unmet = self.script.unmet().map(|fault| format!("no call met the fault {fault:?}"));
        let late = self.late.iter().map(|_| "a late call was never released".to_owned());
        self.violations.iter().map(ToString::to_string).chain(unmet).chain(late).collect()
    }
}
