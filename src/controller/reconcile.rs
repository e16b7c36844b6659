//! The loop: observe, decide, carry out one effect, and again, until a decision is to rest.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kube::{
    ResourceExt,
    runtime::{controller::Action, reflector::ObjectRef},
};

use tracing::Instrument;

use super::{
    act::After,
    counted,
    error::Error,
    finalizer,
    queue::{Entry, Queue},
    status,
    turn::{Context, Subject, Turn},
    unread,
};
use crate::{
    api::{ServiceKey, marks},
    fair::FairPermit,
    lifecycle::{Effect, Problem, Rest, Round, Step, Wake, decide},
    runtime::metrics::Outcome,
};

/// Steps in one reconcile. A rotation with a repair takes about a dozen; more than this is a mistake of ours.
const MAX_STEPS: usize = 64;

/// Reconciles one ServiceKey.
pub async fn reconcile(woken: Arc<ServiceKey>, context: Arc<Context>) -> Result<Action, Error> {
    context.ready().await;
    let began = Instant::now();
    let result = look_at(&woken, &context).await;
    let outcome = result.as_ref().map_or(Outcome::Error, |(_, outcome)| *outcome);
    context.metrics.reconciled("ServiceKey", outcome, began.elapsed());
    Ok(result?.0)
}

async fn look_at(woken: &ServiceKey, context: &Context) -> Result<(Action, Outcome), Error> {
    let subject = Subject::of(woken)?;
    // A provider that is about to be loaded wakes its keys: what was said before might be wrong a moment later.
    if !context.registry.knows(&subject.provider).await {
        return Ok((Action::await_change(), Outcome::Waiting));
    }
    let worker = context.work(&subject.lane).await;
    let span = subject.span();
    // Many may wait for a place: what they need once they have it is put aside until then.
    Ok(Box::pin(work(woken, subject, context, worker).instrument(span)).await)
}

async fn work(
    woken: &ServiceKey,
    subject: Subject,
    context: &Context,
    worker: Option<FairPermit>,
) -> (Action, Outcome) {
    let uid = subject.uid;
    let mut memo = context.memos.take(uid);
    // It may have gone away since it was woken, and then what the memo knew of that was forgotten.
    let Some(cached) = context.current(woken) else { return (Action::await_change(), Outcome::Gone) };
    let key = memo.newest(cached);
    let in_hand = memo.in_hand().map(|(key, _)| key.clone());
    let (under_way, given_up) = (memo.under_way.take(), memo.given_up.take());
    let stored = memo.stored.take();
    let mut turn = Turn {
        context,
        subject,
        key,
        memo,
        round: Round { in_hand, stored, under_way, given_up, ..Round::default() },
        looked_up: None,
        other_writers: None,
        distrusts_cache: false,
        wrote_secret: None,
        conflicts: 0,
        worker,
        place: None,
        outcome: Outcome::Gone,
    };
    turn.recall_unusable();
    turn.recall_setback();
    let result = turn.run().await;
    let outcome = match &result {
        Ok(_) => turn.outcome,
        Err(Error::Outdated) => Outcome::Outdated,
        Err(_) => Outcome::Error,
    };
    turn.remember_unusable();
    let Turn { mut memo, key, round, .. } = turn;
    (memo.under_way, memo.given_up) = (round.under_way, round.given_up);
    let told = status::memory(key.status.as_ref()).key;
    memo.stored = round.stored.filter(|stored| told.as_ref() != Some(stored));
    let action = result.unwrap_or_else(|error| {
        if !matches!(error, Error::Outdated) {
            tracing::warn!(%error, "a reconcile failed");
        }
        memo.retry(None)
    });
    context.memos.put(uid, memo);
    // What changed meanwhile found no memo to change. Looked at last: what changes from now on does.
    match context.current(&key) {
        Some(current) => context.memos.shown(uid, &current),
        None => context.memos.forget(uid),
    }
    (action, outcome)
}

/// What follows an error that no reconcile returns: those that happen are answered with a backoff of their own.
pub fn on_error(key: Arc<ServiceKey>, error: &Error, _: Arc<Context>) -> Action {
    tracing::error!(key = %ObjectRef::from_obj(key.as_ref()), %error, "a ServiceKey can't be reconciled");
    Action::requeue(Duration::from_secs(300))
}

impl Turn<'_> {
    async fn run(&mut self) -> Result<Action, Error> {
        for _ in 0..MAX_STEPS {
            if let Some(obstacle) = unread::obstacle(&self.key.metadata) {
                return self.refuse(obstacle).await;
            }
            let world = self.observe().await?;
            match decide(&world) {
                Step::Act(effect) => {
                    if world.repairs(&effect) {
                        self.memo.repairs.note((self.context.clock)());
                    }
                    let step = tracing::info_span!("step", effect = <&str>::from(&effect));
                    if self.carry_out(effect).instrument(step).await? == After::Ended {
                        return Ok(Action::await_change());
                    }
                }
                Step::Rest(rest) => return self.rest(rest).await,
            }
        }
        Err(Error::Restless(MAX_STEPS))
    }

    /// Says what keeps the ServiceKey from being read, and does nothing else for it.
    async fn refuse(&mut self, obstacle: Problem) -> Result<Action, Error> {
        self.outcome = Outcome::Stalled;
        let Problem { reason, message } = obstacle;
        let message = format!(
            "{message}; until then no key is created or revoked for this ServiceKey, nor is it let go"
        );
        self.show_unread(&Problem { reason, message }).await?;
        self.memo.recovered();
        Ok(Action::await_change())
    }

    async fn carry_out(&mut self, effect: Effect) -> Result<After, Error> {
        tracing::debug!(?effect, "carrying out");
        if effect.asks_the_remote_side() { self.ask(effect).await } else { self.act(effect).await }
    }

    /// Carries out an effect at the remote side, where there is a place. A turn that has to wait for one decides again
    /// afterwards: the world may be another then. What is known already needs no place.
    async fn ask(&mut self, effect: Effect) -> Result<After, Error> {
        if self.place.is_none()
            && !(effect == Effect::CheckInstance && self.knows_instance())
            && let Some(queue) = self.context.registry.queue(&self.subject.provider)
        {
            match queue.enter_now(&self.subject.lane) {
                Entry::Free(place) => self.place = Some(place),
                Entry::Taken => return Ok(self.wait_in(queue).await),
                Entry::Closed => {}
            }
        }
        self.worker = None;
        let lane = self.subject.lane.clone();
        // On the heap: what a backend does is large, and deep in what a reconcile waits for.
        let after = Box::pin(lane.clone().scope(self.act(effect))).await;
        self.place = None;
        self.worker = self.context.work(&lane).await;
        after
    }

    /// Waits for a place, or until the ServiceKey changes, whichever comes first.
    async fn wait_in(&mut self, queue: Queue) -> After {
        self.worker = None;
        let context = self.context;
        let ticket = context.waiting.ticket(&self.subject.uid);
        let mut place = pin!(queue.enter(self.subject.lane.clone()));
        self.place = loop {
            tokio::select! {
                place = &mut place => break place,
                () = ticket.changed() => if self.has_changed() { break None },
            }
        };
        self.worker = context.work(&self.subject.lane).await;
        match context.current(&self.key) {
            Some(cached) => {
                self.key = self.memo.newest(cached);
                After::Continues
            }
            None => After::Ended,
        }
    }

    /// Waits for something that takes no worker.
    pub(super) async fn idle_during<T>(&mut self, wait: impl Future<Output = T>) -> T {
        self.worker = None;
        let came = wait.await;
        self.worker = self.context.work(&self.subject.lane).await;
        came
    }

    /// Whether the ServiceKey is another than the one that is acted on, which may be ahead of the cache.
    fn has_changed(&mut self) -> bool {
        let Some(cached) = self.context.current(&self.key) else { return true };
        self.memo.newest(cached).resource_version() != self.key.resource_version()
    }

    async fn rest(&mut self, rest: Rest) -> Result<Action, Error> {
        self.outcome = counted::outcome(&rest);
        let let_go = self.key.metadata.deletion_timestamp.is_some()
            && !finalizer::has(&self.key.metadata, marks::FINALIZER);
        if !let_go && !rest.quiet {
            self.show(&rest.report).await?;
        }
        self.memo.rests(&rest, self.round.held_back.is_some());
        Ok(match rest.wake {
            Wake::OnChange => Action::await_change(),
            Wake::Retry { not_before } => self.try_again(not_before),
            Wake::At(time) | Wake::PauseEnds(time) => Action::requeue(self.until(time)),
            Wake::Poll => self.schedule_poll(),
        })
    }

    /// Settles when what failed is attempted again.
    fn try_again(&mut self, not_before: Option<Duration>) -> Action {
        let wait = self.memo.wait(not_before);
        if let Ok(until) = (self.context.clock)().checked_add(wait) {
            self.note_setback(until);
        }
        Action::requeue(wait)
    }

    /// Settles when to look next at what is under way, which is not after the end of patience.
    fn schedule_poll(&mut self) -> Action {
        // Nothing else is polled.
        let Some(work) = &mut self.round.under_way else { return self.memo.retry(None) };
        let wait = self.memo.next_poll(work);
        let next = (self.context.clock)().checked_add(wait).unwrap_or(work.ends).min(work.ends);
        work.next_poll = Some(next);
        Action::requeue(self.until(next))
    }

    fn until(&self, time: Timestamp) -> Duration {
        Duration::try_from(time.duration_since((self.context.clock)())).unwrap_or(Duration::ZERO)
    }
}
