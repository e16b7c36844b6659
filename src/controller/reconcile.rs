//! The loop: observe, decide, carry out one effect, and again, until a decision is to rest.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt;
use jiff::Timestamp;
use kube::{
    ResourceExt,
    runtime::{controller::Action, reflector::ObjectRef},
};

use tracing::Instrument;

use super::{
    act::Flow,
    metrics,
    error::Error,
    finalizer,
    queue::{QueueEntry, Queue},
    turn::{Context, Subject, Turn},
    unread,
};
use crate::{
    api::{ServiceKey, marks},
    fair::FairPermit,
    lifecycle::{Effect, Problem, Rest, Step, Requeue, decide},
    runtime::metrics::ReconcileOutcome,
};

/// Steps in one reconcile. A rotation with a repair takes about a dozen; more than this is a mistake of ours.
pub(super) const MAX_STEPS: usize = 64;

/// Reconciles one ServiceKey.
pub async fn reconcile(woken: Arc<ServiceKey>, context: Arc<Context>) -> Result<Action, Error> {
    context.ready().await;
    let began = Instant::now();
    let result = look_at(&woken, &context).await;
    let outcome = result.as_ref().map_or(ReconcileOutcome::Error, |(_, outcome)| *outcome);
    context.metrics.reconciled("ServiceKey", outcome, began.elapsed());
    Ok(result?.0)
}

async fn look_at(woken: &ServiceKey, context: &Context) -> Result<(Action, ReconcileOutcome), Error> {
    let subject = Subject::of(woken)?;
    // A provider that is about to be loaded wakes its keys: what was said before might be wrong a moment later.
    if !context.registry.wait_known(&subject.provider).await {
        return Ok((Action::await_change(), ReconcileOutcome::Waiting));
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
) -> (Action, ReconcileOutcome) {
    let uid = subject.uid;
    let memo = context.memos.take(uid);
    let Some(cached) = context.current(woken) else {
        // It has gone away since it was woken. The watch has told of that, or is about to.
        let memo = match memo {
            Some(memo) => context.memos.put(uid, memo),
            None => context.memos.put_none(uid),
        };
        context.departures.note(woken, memo);
        return (Action::await_change(), ReconcileOutcome::Gone);
    };
    let mut memo = memo.unwrap_or_default();
    let key = memo.newest(cached);
    let mut turn = Turn::begin(context, subject, key, memo, worker);
    let result = turn.run().await;
    let outcome = match &result {
        Ok(_) => turn.outcome,
        Err(Error::Outdated) => ReconcileOutcome::Outdated,
        Err(_) => ReconcileOutcome::Error,
    };
    let key = Arc::clone(&turn.key);
    let mut memo = turn.end();
    let action = result.unwrap_or_else(|error| {
        if !matches!(error, Error::Outdated) {
            tracing::warn!(%error, "a reconcile failed");
        }
        memo.retry(None)
    });
    let memo = context.memos.put(uid, memo);
    context.departures.note(&key, memo);
    // What changed meanwhile found no memo to change. Looked at last: what changes from now on does.
    if let Some(current) = context.current(&key) {
        context.memos.shown(uid, &current);
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
                    if self.carry_out(effect).instrument(step).await? == Flow::Ended {
                        return Ok(Action::await_change());
                    }
                }
                Step::Wait(rest) => return self.rest(rest).await,
            }
        }
        Err(Error::Restless(MAX_STEPS))
    }

    /// Says what keeps the ServiceKey from being read, and does nothing else for it.
    async fn refuse(&mut self, obstacle: Problem) -> Result<Action, Error> {
        self.outcome = ReconcileOutcome::Stalled;
        let Problem { reason, message } = obstacle;
        let message = format!(
            "{message}; until then no key is created or revoked for this ServiceKey, nor is it let go"
        );
        self.show_unread(&Problem { reason, message }).await?;
        self.memo.reset_backoff();
        Ok(Action::await_change())
    }

    pub(super) async fn carry_out(&mut self, effect: Effect) -> Result<Flow, Error> {
        tracing::debug!(?effect, "carrying out");
        if effect.asks_the_remote_side() { self.ask(effect).await } else { self.act(effect).await }
    }

    /// Carries out an effect at the remote side, where there is a place. A turn that has to wait for one decides again
    /// afterwards: the world may be another then. What is known already needs no place.
    async fn ask(&mut self, effect: Effect) -> Result<Flow, Error> {
        if self.place.is_none()
            && !(effect == Effect::CheckInstance && self.knows_instance())
            && let Some(queue) = self.context.registry.queue(&self.subject.provider)
        {
            match queue.enter_now(&self.subject.lane) {
                QueueEntry::Free(place) => self.place = Some(place),
                QueueEntry::Taken if self.vanished => {
                    let lane = self.subject.lane.clone();
                    self.place = self.idle_during(queue.enter(lane)).await;
                    return Ok(Flow::Continues);
                }
                QueueEntry::Taken => return Ok(self.wait_in(queue).await),
                QueueEntry::Closed => {}
            }
        }
        self.worker = None;
        let lane = self.subject.lane.clone();
        // On the heap: what a backend does is large, and deep in what a reconcile waits for. Without its type: the compiler
        // looks no deeper.
        let after = lane.clone().scope(self.act(effect)).boxed().await;
        self.place = None;
        self.worker = self.context.work(&lane).await;
        after
    }

    /// Waits for a place, or until the ServiceKey changes, whichever comes first.
    async fn wait_in(&mut self, queue: Queue) -> Flow {
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
                Flow::Continues
            }
            None => Flow::Ended,
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
        self.outcome = metrics::outcome(&rest);
        let let_go = self.key.metadata.deletion_timestamp.is_some()
            && !finalizer::has(&self.key.metadata, marks::FINALIZER);
        if !let_go && !rest.quiet {
            self.show(&rest.report).await?;
        }
        Ok(self.next_look(&rest).map_or_else(Action::await_change, Action::requeue))
    }

    /// How long the rest lasts unless something changes; `None`: for ever.
    pub(super) fn next_look(&mut self, rest: &Rest) -> Option<Duration> {
        self.memo.rests(rest, self.round.held_back.is_some());
        match rest.wake {
            Requeue::OnChange => None,
            Requeue::Retry { not_before } => Some(self.try_again(not_before)),
            Requeue::At(time) | Requeue::PauseEnds(time) => Some(self.until(time)),
            Requeue::Poll => Some(self.schedule_poll()),
        }
    }

    /// Settles when what failed is attempted again.
    fn try_again(&mut self, not_before: Option<Duration>) -> Duration {
        let wait = self.memo.wait(not_before);
        if let Ok(until) = (self.context.clock)().checked_add(wait) {
            self.note_setback(until);
        }
        wait
    }

    /// Settles when to look next at what is under way, which is not after the end of patience.
    fn schedule_poll(&mut self) -> Duration {
        // Nothing else is polled.
        let Some(work) = &mut self.round.under_way else { return self.memo.wait(None) };
        let wait = self.memo.next_poll(work);
        let next = (self.context.clock)().checked_add(wait).unwrap_or(work.ends).min(work.ends);
        work.next_poll = Some(next);
        self.until(next)
    }

    fn until(&self, time: Timestamp) -> Duration {
        Duration::try_from(time.duration_since((self.context.clock)())).unwrap_or(Duration::ZERO)
    }
}
