//! A day at a remote side that always fails, in virtual time: the operator's decisions and local state,
//! without a control plane. The test counts how often the operator requests a key.

use std::time::Duration;

use jiff::Timestamp;
use rstest::rstest;

use super::local_state::{LocalState, Occasion};
use crate::lifecycle::{
    Answer, Attempted, ErrorClass, Failure, Inputs, KubernetesEffect, Observed, PendingOperation,
    RemoteEffect, RemoteOperation, Requeue, RunState, SecretView, Sequence, Step, Wait, decide,
    tests::asking,
};

const DAY: i64 = 24 * 3600;
const FIRST: Sequence = Sequence::FIRST;

/// How a remote side fails.
#[derive(Clone, Copy, Debug)]
enum Fails {
    /// It refuses at once, as IBM Cloud does.
    AtOnce,
    /// It accepts the request, works for two seconds and fails without leaving a key, as Cloud Foundry does.
    Later,
    /// The same, but a key may be left and is revoked first, as at an Open Service Broker.
    LaterWithAnOrphan,
}

/// One ServiceKey, and the process that serves it.
struct Day {
    fails: Fails,
    observed: Observed,
    local: LocalState,
    began: Timestamp,
    binds: usize,
}

impl Day {
    fn new(fails: Fails) -> Self {
        let mut observed = asking();
        observed.secret = SecretView::Absent;
        Self { fails, began: observed.now, observed, local: LocalState::default(), binds: 0 }
    }

    fn failure(&self, class: ErrorClass) -> Failure {
        Failure { attempted: Attempted::Provision, class, message: "it failed".to_owned(), retry_after: None }
    }

    fn act(&mut self, effect: RemoteEffect) -> Answer {
        let now = self.observed.now;
        match effect {
            RemoteEffect::Bind { sequence, .. } => {
                self.binds += 1;
                match self.fails {
                    Fails::AtOnce => Answer::Failed(self.failure(ErrorClass::Rejected)),
                    Fails::Later | Fails::LaterWithAnOrphan => Answer::Accepted(PendingOperation {
                        operation: RemoteOperation::Bind,
                        sequence,
                        token: None,
                        since: now,
                        ends: now.checked_add(Duration::from_secs(3600)).unwrap(),
                        next_poll: None,
                        retry_after: None,
                        first_poll: Duration::from_secs(2),
                        said: None,
                        is_refused: false,
                        inputs: Inputs::default(),
                    }),
                }
            }
            RemoteEffect::Poll(work) => match self.fails {
                Fails::LaterWithAnOrphan => {
                    Answer::Lost(self.failure(ErrorClass::OrphanPossible), work.sequence, now)
                }
                _ => Answer::Unsure(self.failure(ErrorClass::Unsure), work.sequence, now),
            },
            RemoteEffect::Unbind(sequence) => Answer::Revoked(sequence, now),
            effect => panic!("{effect:?}"),
        }
    }

    /// Runs one reconcile as the driver does. Returns the wait until the next one.
    fn reconcile(&mut self) -> Option<Duration> {
        let held = self.local.setback.clone().filter(|setback| setback.until > self.observed.now);
        self.observed.run.failure = held.as_ref().map(|setback| setback.failure.clone());
        self.observed.run.retry_not_before = held.map(|setback| setback.until);
        loop {
            match decide(&self.observed) {
                Step::Apply(KubernetesEffect::Record(report)) => self.observed.recorded = report.recorded,
                step @ (Step::Apply(_) | Step::Verify(_)) => panic!("{step:?}"),
                Step::Execute(effect) => {
                    let answer = self.act(effect);
                    self.observed.run.learn(answer);
                }
                Step::Wait(rest) => return self.rest(&rest),
            }
        }
    }

    fn rest(&mut self, rest: &Wait) -> Option<Duration> {
        if !rest.quiet {
            self.observed.recorded = rest.report.recorded.clone();
        }
        let now = self.observed.now;
        let run = std::mem::take(&mut self.observed.run);
        self.local.note_wait(rest, run.retry_not_before.is_some());
        let mut under_way = run.pending;
        let wait = match rest.requeue {
            Requeue::OnChange => None,
            Requeue::At(time) | Requeue::PauseEnds(time) => Duration::try_from(time.duration_since(now)).ok(),
            Requeue::Retry { not_before } => {
                let wait = self.local.wait(not_before);
                self.local.set_back(run.failure, now.checked_add(wait).unwrap(), Occasion::default());
                Some(wait)
            }
            Requeue::Poll => {
                let work = under_way.as_mut().unwrap();
                let wait = self.local.next_poll(work);
                work.next_poll = now.checked_add(wait).ok();
                Some(wait)
            }
        };
        self.observed.run = RunState { pending: under_way, given_up: run.given_up, ..RunState::default() };
        wait
    }

    /// Runs until the end of the day. If `busy`, an event of a watch triggers a reconcile each second.
    fn live(&mut self, busy: bool) {
        while self.observed.now.duration_since(self.began).as_secs() < DAY {
            let wait = self.reconcile().expect("something is still to be done");
            let wait = if busy { wait.min(Duration::from_secs(1)) } else { wait };
            self.observed.now = self.observed.now.checked_add(wait.max(Duration::from_millis(1))).unwrap();
        }
    }
}

#[rstest]
fn a_day_of_failures_is_a_few_hundred_attempts(
    #[values(Fails::AtOnce, Fails::Later, Fails::LaterWithAnOrphan)] fails: Fails,
    #[values(false, true)] busy: bool,
) {
    let mut day = Day::new(fails);
    day.live(busy);
    // After the first dozen, one attempt every five to ten minutes: waits have jitter.
    assert!((140..310).contains(&day.binds), "{} attempts", day.binds);
    assert_eq!(day.observed.recorded.attempt().unwrap_or(FIRST), FIRST, "it is the same key each time");
}
