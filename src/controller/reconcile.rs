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
    error::Error,
    finalizer, metrics,
    queue::{Queue, QueueEntry},
    turn::{Context, Target, Turn},
    unread,
};
use crate::{
    api::{ServiceKey, marks},
    fair::FairPermit,
    lifecycle::{Effect, Problem, Requeue, Step, Wait, decide},
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
    context.metrics.count_reconcile("ServiceKey", outcome, began.elapsed());
    Ok(result?.0)
}

async fn look_at(woken: &ServiceKey, context: &Context) -> Result<(Action, ReconcileOutcome), Error> {
    let target = Target::new(woken)?;
    // A provider that is about to be loaded wakes its keys: what was said before might be wrong a moment later.
    if !context.registry.wait_known(&target.provider).await {
        return Ok((Action::await_change(), ReconcileOutcome::Waiting));
    }
    let worker = context.work(&target.lane).await;
    let span = target.span();
    // Many may wait for a place: what they need once they have it is put aside until then.
    Ok(Box::pin(work(woken, target, context, worker).instrument(span)).await)
}

async fn work(
    woken: &ServiceKey,
    target: Target,
    context: &Context,
    worker: Option<FairPermit>,
) -> (Action, ReconcileOutcome) {
    let uid = target.uid;
    let local = context.local_states.take(uid);
    let Some(cached) = context.current(woken) else {
        // It has gone away since it was woken. The watch has told of that, or is about to.
        let local = match local {
            Some(local) => context.local_states.put(uid, local),
            None => context.local_states.put_none(uid),
        };
        context.departures.note(woken, local);
        return (Action::await_change(), ReconcileOutcome::Gone);
    };
    let mut local = local.unwrap_or_default();
    let key = local.newest(cached);
    let mut turn = Turn::begin(context, target, key, local, worker);
    let result = turn.run().await;
    let outcome = match &result {
        Ok(_) => turn.outcome,
        Err(Error::Outdated) => ReconcileOutcome::Outdated,
        Err(_) => ReconcileOutcome::Error,
    };
    let key = Arc::clone(&turn.key);
    let mut local = turn.end();
    let action = result.unwrap_or_else(|error| {
        if !matches!(error, Error::Outdated) {
            tracing::warn!(%error, "a reconcile failed");
        }
        local.retry(None)
    });
    let local = context.local_states.put(uid, local);
    context.departures.note(&key, local);
    // What changed meanwhile found no memo to change. Looked at last: what changes from now on does.
    if let Some(current) = context.current(&key) {
        context.local_states.observe(uid, &current);
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
            let observed = self.observe().await?;
            match decide(&observed) {
                Step::Act(effect) => {
                    if observed.repairs(&effect) {
                        self.local.repairs.note((self.context.clock)());
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
        self.publish_unread(&Problem { reason, message }).await?;
        self.local.reset_backoff();
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
            && let Some(queue) = self.context.registry.queue(&self.target.provider)
        {
            match queue.enter_now(&self.target.lane) {
                QueueEntry::Free(place) => self.place = Some(place),
                QueueEntry::Taken if self.vanished => {
                    let lane = self.target.lane.clone();
                    self.place = self.idle_during(queue.enter(lane)).await;
                    return Ok(Flow::Continues);
                }
                QueueEntry::Taken => return Ok(self.wait_in(queue).await),
                QueueEntry::Closed => {}
            }
        }
        self.worker = None;
        let lane = self.target.lane.clone();
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
        let ticket = context.waiting.ticket(&self.target.uid);
        let mut place = pin!(queue.enter(self.target.lane.clone()));
        self.place = loop {
            tokio::select! {
                place = &mut place => break place,
                () = ticket.wait() => if self.has_changed() { break None },
            }
        };
        self.worker = context.work(&self.target.lane).await;
        match context.current(&self.key) {
            Some(cached) => {
                self.key = self.local.newest(cached);
                Flow::Continues
            }
            None => Flow::Ended,
        }
    }

    /// Waits for something that takes no worker.
    pub(super) async fn idle_during<T>(&mut self, wait: impl Future<Output = T>) -> T {
        self.worker = None;
        let came = wait.await;
        self.worker = self.context.work(&self.target.lane).await;
        came
    }

    /// Whether the ServiceKey is another than the one that is acted on, which may be ahead of the cache.
    fn has_changed(&mut self) -> bool {
        let Some(cached) = self.context.current(&self.key) else { return true };
        self.local.newest(cached).resource_version() != self.key.resource_version()
    }

    async fn rest(&mut self, rest: Wait) -> Result<Action, Error> {
        self.outcome = metrics::outcome(&rest);
        let let_go = self.key.metadata.deletion_timestamp.is_some()
            && !finalizer::has(&self.key.metadata, marks::FINALIZER);
        if !let_go && !rest.quiet {
            self.publish_status(&rest.report).await?;
        }
        Ok(self.next_look(&rest).map_or_else(Action::await_change, Action::requeue))
    }

    /// How long the rest lasts unless something changes; `None`: for ever.
    pub(super) fn next_look(&mut self, rest: &Wait) -> Option<Duration> {
        self.local.note_wait(rest, self.run.held_back.is_some());
        match rest.requeue {
            Requeue::OnChange => None,
            Requeue::Retry { not_before } => Some(self.try_again(not_before)),
            Requeue::At(time) | Requeue::PauseEnds(time) => Some(self.until(time)),
            Requeue::Poll => Some(self.schedule_poll()),
        }
    }

    /// Settles when what failed is attempted again.
    fn try_again(&mut self, not_before: Option<Duration>) -> Duration {
        let wait = self.local.wait(not_before);
        if let Ok(until) = (self.context.clock)().checked_add(wait) {
            self.note_setback(until);
        }
        wait
    }

    /// Settles when to look next at what is under way, which is not after the end of patience.
    fn schedule_poll(&mut self) -> Duration {
        // Nothing else is polled.
        let Some(work) = &mut self.run.pending else { return self.local.wait(None) };
        let wait = self.local.next_poll(work);
        let next = (self.context.clock)().checked_add(wait).unwrap_or(work.ends).min(work.ends);
        work.next_poll = Some(next);
        self.until(next)
    }

    fn until(&self, time: Timestamp) -> Duration {
        Duration::try_from(time.duration_since((self.context.clock)())).unwrap_or(Duration::ZERO)
    }
}
