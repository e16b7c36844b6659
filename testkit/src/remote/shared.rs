//! The state that the threads of the servers share with the test's handle.

use std::{
    fmt::Debug,
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
};

use axum::http::{HeaderValue, Method};
use governor::Quota;
use tokio::{sync::Notify, time::timeout};

use super::{
    answer::{Answer, Header, Refusal},
    call::Request,
    environment::{Limiter, TokioClock},
    faults::Script,
    record::{Call, Violation},
    side::{Admission, Side},
};
use crate::{
    gate::{Cut, Gates, Moment},
    wait::{PATIENCE, WaitError},
};

pub(crate) struct Shared<S: Side> {
    inner: Mutex<Inner<S>>,
    /// Notified of every change that a test can wait for.
    changed: Notify,
}

pub(super) struct Inner<S: Side> {
    pub side: S,
    pub script: Script<S::Route>,
    /// Calls that met [`Fault::Late`](super::Fault::Late), by their number.
    pub late: Vec<(usize, S::Admitted)>,
    pub gates: Gates<S::Route>,
    /// The identities of the requests whose connection was cut.
    pub cut: Vec<HeaderValue>,
    pub calls: Vec<Call<S::Route, S::Details>>,
    pub violations: Vec<Violation<S::Rule>>,
    pub tolerated: Vec<S::Rule>,
    limit: Option<Limiter>,
}

impl<S: Side> Shared<S> {
    pub(super) fn new(side: S, tolerated: Vec<S::Rule>, limit: Option<NonZeroU32>) -> Self {
        let inner = Inner {
            side,
            script: Script::empty(),
            late: Vec::new(),
            gates: Gates::none(),
            cut: Vec::new(),
            calls: Vec::new(),
            violations: Vec::new(),
            tolerated,
            limit: limit
                .map(|limit| Limiter::direct_with_clock(Quota::per_second(limit), TokioClock::start())),
        };
        Self { inner: Mutex::new(inner), changed: Notify::new() }
    }

    /// Locks the state without notifying waiting tests.
    pub(super) fn look(&self) -> MutexGuard<'_, Inner<S>> {
        // Only a credentials recipe of the test itself can panic under the lock, and that test fails anyway.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and notifies waiting tests.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Inner<S>) -> T) -> T {
        let result = change(&mut self.look());
        self.changed.notify_waiters();
        result
    }

    /// Waits until the condition is met, and returns the values that met it.
    pub(super) async fn wait<T: Debug>(
        &self,
        read: impl Fn(&Inner<S>) -> Vec<T>,
        met: impl Fn(&[T]) -> bool,
    ) -> Result<Vec<T>, WaitError> {
        let look = || read(&self.look());
        let fulfilled = timeout(PATIENCE, async {
            loop {
                // A change after this line is noticed even if it comes before the look.
                let changed = self.changed.notified();
                let seen = look();
                if met(&seen) {
                    return seen;
                }
                changed.await;
            }
        });
        fulfilled.await.map_err(|_| WaitError::new(format!("at the fake {} there is {:#?}", S::NAME, look())))
    }

    /// Records a call on its arrival, and returns its number.
    pub(super) fn arrived(&self, request: &Request<S::Route>, method: Method) -> usize {
        let route = request.target.route;
        let shown = request.body.as_ref().filter(|_| !S::is_secret(route));
        let call = Call {
            method,
            path: request.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            route,
            id: request.target.id().map(str::to_owned),
            status: None,
            body: shown.and_then(|body| serde_json::from_slice(body).ok()),
            details: S::details(request),
        };
        self.change(|inner| {
            inner.calls.push(call);
            inner.calls.len() - 1
        })
    }

    /// Records the status of an answer, just before it is sent.
    pub(super) fn answered(&self, call: usize, status: u16) {
        self.change(|inner| {
            if let Some(call) = inner.calls.get_mut(call) {
                call.status = Some(status);
            }
        });
    }

    /// Waits at every gate that holds this route at this moment.
    pub(super) async fn pass(&self, route: S::Route, moment: Moment) -> Result<(), Cut> {
        let bars = self.look().gates.on_the_way(moment, |held| *held == route);
        for bar in bars {
            bar.pass().await?;
        }
        Ok(())
    }
}

impl<S: Side> Inner<S> {
    /// Whether the connection of an earlier request of this identity was cut.
    pub(super) fn was_cut(&self, identity: Option<&HeaderValue>) -> bool {
        identity.is_some_and(|identity| self.cut.contains(identity))
    }

    /// Admits a call, with headers for its true answer, or returns the answer that refuses it.
    pub(super) fn admit(
        &mut self,
        request: &Request<S::Route>,
        number: usize,
    ) -> Result<(S::Admitted, Vec<Header>), Answer> {
        if self.limit.as_ref().is_some_and(|limit| limit.check().is_err()) {
            return Err(self.refuse(number, S::over_limit()));
        }
        let admission = self.side.admit(request).map_err(|refusal| self.refuse(number, refusal))?;
        let Admission { admitted, details, headers, reproach } = admission;
        if let (Some(call), Some(details)) = (self.calls.get_mut(number), details) {
            call.details = details;
        }
        if let Some((rule, detail)) = reproach {
            self.hold_against(number, rule, detail);
        }
        Ok((admitted, headers))
    }

    /// Records the breach of a refused call, if any, and returns the answer to it.
    fn refuse(&mut self, call: usize, refusal: Refusal<S::Rule>) -> Answer {
        let Refusal { answer, breach } = refusal;
        if let Some((rule, detail)) = breach {
            self.hold_against(call, rule, detail);
        }
        S::refused(answer, call)
    }

    fn hold_against(&mut self, call: usize, rule: S::Rule, detail: String) {
        if !self.tolerated.contains(&rule) {
            self.violations.push(Violation { rule, call, detail });
        }
    }

    pub(super) fn carry_out(&mut self, admitted: &S::Admitted, call: usize) -> Answer {
        let checked = self.side.check(admitted);
        let answered = checked.and_then(|()| self.side.carry_out(admitted));
        answered.unwrap_or_else(|refusal| self.refuse(call, refusal))
    }

    /// Records the breaches of a call without effect, and returns the refusal, or an empty answer.
    pub(super) fn only_check(&mut self, admitted: &S::Admitted, call: usize) -> Result<(), Answer> {
        self.side.check(admitted).map_err(|refusal| self.refuse(call, refusal))
    }

    /// Carries out the late calls in their order, and returns how many had an effect. A call that is impossible by now
    /// breaks no rule: its check on arrival has recorded its breaches.
    pub(super) fn release_late(&mut self) -> usize {
        let late = std::mem::take(&mut self.late);
        let mut take_effect = |(call, admitted): &(usize, S::Admitted)| {
            self.side.check(admitted).is_ok() && self.carry_out(admitted, *call).status.is_success()
        };
        late.iter().filter(|late| take_effect(late)).count()
    }

    /// One line for each violation, each fault that no call met, and each late call that was not released.
    pub(super) fn complaints(&self) -> Vec<String> {
        let unmet = self.script.unmet().map(|fault| format!("no call met the fault {fault:?}"));
        let late = self.late.iter().map(|_| "a late call was never released".to_owned());
        self.violations.iter().map(ToString::to_string).chain(unmet).chain(late).collect()
    }
}
