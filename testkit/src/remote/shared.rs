//! What the servers' threads and the test's handle share.

use std::{
    fmt::{self, Debug},
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
};

use axum::http::{HeaderName, Method};
use governor::{DefaultDirectRateLimiter, Quota};
use tokio::{sync::watch, time::timeout};

use super::{
    answer::{Answer, Header, Refusal},
    call::{Request, Target},
    faults::Script,
    record::{Call, Violation},
};
use crate::{
    gate::{Cut, Gates, Moment},
    wait::{PATIENCE, WaitError},
};

/// One kind of remote side: its endpoints, its rules, and what exists there.
pub(crate) trait Side: Send + 'static {
    /// Its hosts.
    type Door: Copy + Send + 'static;
    type Route: Copy + Eq + Debug + Send + Sync + 'static;
    type Rule: Copy + Eq + Debug + Send + 'static;
    /// Ways to get a token.
    type Grant: Copy + Debug + Send + 'static;
    /// A call that has passed every check that needs no state.
    type Admitted: Clone + Send + Sync + 'static;

    /// What complaints call it.
    const NAME: &'static str;
    /// The header of an answer by which a call is found in logs.
    const REQUEST_ID: HeaderName;

    fn target(door: Self::Door, method: &Method, path: &str) -> Target<Self::Route>;

    /// Whether what a route is sent is secret from its first byte to its last.
    fn is_secret(route: Self::Route) -> bool;

    /// Turns a call into what it asks for.
    fn admit(&mut self, request: &Request<Self::Route>) -> Result<Admission<Self>, Refusal<Self::Rule>>;

    /// How more requests than the limit allows are refused.
    fn over_limit() -> Refusal<Self::Rule>;

    /// The name of what is to be made.
    fn name_of(admitted: &Self::Admitted) -> Option<&str>;

    /// Carries out what is asked for.
    fn carry_out(&mut self, admitted: &Self::Admitted) -> Result<Answer, Refusal<Self::Rule>>;
}

/// A call that is let in.
pub(crate) struct Admission<S: Side + ?Sized> {
    pub admitted: S::Admitted,
    /// For the record.
    pub login: Option<String>,
    pub grant: Option<S::Grant>,
    /// For the true answer.
    pub headers: Vec<Header>,
    /// What is held against the caller although the call is carried out.
    pub reproach: Option<(S::Rule, String)>,
}

pub(crate) struct Shared<S: Side> {
    inner: Mutex<Inner<S>>,
    /// Told of everything that a test can wait for.
    changed: watch::Sender<()>,
}

pub(crate) struct Inner<S: Side> {
    pub side: S,
    pub script: Script<S::Route>,
    /// What was asked for, by which call, and is still to take effect, without anybody waiting for the answer.
    pub late: Vec<(usize, S::Admitted)>,
    pub gates: Gates<S::Route>,
    pub calls: Vec<Call<S::Route, S::Grant>>,
    pub violations: Vec<Violation<S::Rule>>,
    pub tolerated: Vec<S::Rule>,
    limit: Option<DefaultDirectRateLimiter>,
}

impl<S: Side> Shared<S> {
    pub(crate) fn new(side: S, tolerated: Vec<S::Rule>, limit: Option<NonZeroU32>) -> Self {
        let inner = Inner {
            side,
            script: Script::empty(),
            late: Vec::new(),
            gates: Gates::none(),
            calls: Vec::new(),
            violations: Vec::new(),
            tolerated,
            limit: limit.map(|limit| DefaultDirectRateLimiter::direct(Quota::per_second(limit))),
        };
        Self { inner: Mutex::new(inner), changed: watch::Sender::new(()) }
    }

    /// Reads without telling anybody.
    pub(crate) fn look(&self) -> MutexGuard<'_, Inner<S>> {
        // No code panics while it holds the lock but a recipe of a test's own, and that test is failing then.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, and tells who waits for changes.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Inner<S>) -> T) -> T {
        let result = change(&mut self.look());
        self.changed.send_replace(());
        result
    }

    /// Waits until what is read is as it should be, and gives it.
    pub(crate) async fn wait<T: Debug>(
        &self,
        read: impl Fn(&Inner<S>) -> Vec<T>,
        met: impl Fn(&[T]) -> bool,
    ) -> Result<Vec<T>, WaitError> {
        let mut changes = self.changed.subscribe();
        let look = || read(&self.look());
        let fulfilled = timeout(PATIENCE, async {
            loop {
                let seen = look();
                // The sender lives as long as `self`, so an error can't come up here.
                if met(&seen) || changes.changed().await.is_err() {
                    return seen;
                }
            }
        });
        fulfilled.await.map_err(|_| WaitError::new(format!("at the fake {} there is {:#?}", S::NAME, look())))
    }

    /// Waits until so many calls wait for their release.
    pub(crate) async fn wait_for_late(&self, count: usize) -> Result<(), WaitError> {
        self.wait(|inner| inner.late.iter().map(|(call, _)| *call).collect(), |late| late.len() >= count)
            .await
            .map(drop)
    }

    /// Records a call that came in, and gives its place in the record.
    pub(crate) fn arrived(&self, request: &Request<S::Route>, method: Method) -> usize {
        let route = request.target.route;
        let shown = request.body.as_ref().filter(|_| !S::is_secret(route));
        let call = Call {
            method,
            path: request.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            route,
            id: request.target.id.clone(),
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
    pub(crate) fn answered(&self, call: usize, status: u16) {
        self.change(|inner| {
            if let Some(call) = inner.calls.get_mut(call) {
                call.status = Some(status);
            }
        });
    }

    /// Waits at every gate that holds this route at this moment.
    pub(crate) async fn pass(&self, route: S::Route, moment: Moment) -> Result<(), Cut> {
        let bars = self.look().gates.on_the_way(moment, |held| *held == route);
        for bar in bars {
            bar.pass().await?;
        }
        Ok(())
    }

    /// Fails where [`Inner::complaints`] has something to say.
    #[track_caller]
    #[expect(clippy::panic, reason = "an assertion, for tests: they fail by panicking")]
    pub(crate) fn assert_clean(&self) {
        let complaints = self.look().complaints();
        if !complaints.is_empty() {
            panic!("the fake {} complains:\n  {}", S::NAME, complaints.join("\n  "));
        }
    }
}

impl<S: Side> Inner<S> {
    /// Admits a call, or gives the answer to it; the headers are for whatever it is answered with.
    pub(crate) fn admit(
        &mut self,
        request: &Request<S::Route>,
        number: usize,
    ) -> Result<(S::Admitted, Vec<Header>), Answer> {
        if self.limit.as_ref().is_some_and(|limit| limit.check().is_err()) {
            return Err(self.refuse(number, S::over_limit()));
        }
        let admission = self.side.admit(request).map_err(|refusal| self.refuse(number, refusal))?;
        let Admission { admitted, login, grant, headers, reproach } = admission;
        if let Some(call) = self.calls.get_mut(number) {
            (call.login, call.grant) = (login, grant);
        }
        if let Some((rule, detail)) = reproach {
            self.hold_against(number, rule, detail);
        }
        Ok((admitted, headers))
    }

    /// Records what a refused call did wrong, if anything, and gives the answer to it.
    fn refuse(&mut self, call: usize, refusal: Refusal<S::Rule>) -> Answer {
        let Refusal { answer, breach } = refusal;
        if let Some((rule, detail)) = breach {
            self.hold_against(call, rule, detail);
        }
        answer
    }

    fn hold_against(&mut self, call: usize, rule: S::Rule, detail: String) {
        if !self.tolerated.contains(&rule) {
            self.violations.push(Violation { rule, call, detail });
        }
    }

    /// Carries out what is asked for.
    pub(crate) fn carry_out(&mut self, admitted: &S::Admitted, call: usize) -> Answer {
        self.side.carry_out(admitted).unwrap_or_else(|refusal| self.refuse(call, refusal))
    }

    /// Carries out what is late, in the order in which it was asked for; says how much of it had an effect. What is
    /// impossible by now is nobody's fault.
    pub(crate) fn release_late(&mut self) -> usize {
        let late = std::mem::take(&mut self.late);
        late.iter().filter(|(call, admitted)| self.carry_out(admitted, *call).status.is_success()).count()
    }

    /// Everything that a clean test leaves empty, one line each.
    fn complaints(&self) -> Vec<String> {
        let unmet = self.script.unmet().map(|fault| format!("no call met the fault {fault:?}"));
        let late = self.late.iter().map(|_| "a late call was never released".to_owned());
        self.violations.iter().map(ToString::to_string).chain(unmet).chain(late).collect()
    }
}

impl<S: Side> Debug for Shared<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(S::NAME)
    }
}
