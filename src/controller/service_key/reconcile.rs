//! The reconcile of a ServiceKey: observe, decide, carry out one effect, and again, until the decision is to wait.
//!
//! Each row is one effect. [`lifecycle::decide`](crate::lifecycle::decide) chooses it, [`apply`] or
//! [`execute`](external::execute) carries it out, and [`Driver`] updates the state with the result. The order of the
//! rows is the order in the life of a key.
//!
//! | effect | when | needs | a crash right after it leaves |
//! |---|---|---|---|
//! | `RehearseSecret` | before the first key, and before another key that the user did not request | Kubernetes API (dry run) | nothing |
//! | `LookUpSecret` | the cache does not show a Secret that may exist | Kubernetes API (read) | nothing |
//! | `Prove` | before it continues with the keys of a former ServiceKey | remote side (read) | nothing |
//! | `CheckInstance` | before the finalizer, or when the plan is unknown | remote side (read) | nothing |
//! | `AddFinalizer` | before anything that can create a key, or after another writer removed it | Kubernetes API | the finalizer, and at a broker the plan ids as an annotation |
//! | `Record` | before an action, or after a result, that only the status shows | Kubernetes API | the recorded state |
//! | `Bind` | there is no key, or the next one is due | Kubernetes API (reads `parametersFrom`), remote side | a key with a derived id or name, which the next `Bind` finds again |
//! | `Poll` | the remote side works on a request | remote side (read) | nothing |
//! | `Fetch` | the credentials have to be read again | Kubernetes API (reads `parametersFrom`), remote side (read) | nothing |
//! | `Repeat` | the remote side shows credentials only in the answer to a bind | Kubernetes API (reads `parametersFrom`), remote side | the same key, or one with the same id |
//! | `StageCredentials` | credentials are in hand that have to be verified | Kubernetes API | a staging Secret with the credentials |
//! | `ReadStaged` | another process has staged credentials | Kubernetes API (read) | nothing |
//! | `DiscardStaged` | the staged credentials are published, or their key is about to be revoked | Kubernetes API | no staging Secret |
//! | `WriteSecret` | credentials are in hand | Kubernetes API | a Secret whose marks show which key it contains |
//! | `Confirm` | it is unknown whether the key exists, or its id | remote side (read) | nothing |
//! | `RestartWorkloads` | half a minute after a rotation, if the spec names workloads | Kubernetes API | workloads that restart; the next `RestartWorkloads` changes nothing |
//! | `ReadParameters` | every ten minutes, if the spec wants another key when the content of `parametersFrom` changes | Kubernetes API (read) | nothing |
//! | `LookForConsumers` | the overlap is over, and the user wants no key revoked that a pod may use | Kubernetes API (read) | nothing |
//! | `RestoreSecret` | the entries are right, and other parts of the Secret are not | Kubernetes API | a Secret that is right |
//! | `OmitPrevious` | the previous key is about to be revoked, or the spec excludes it from the Secret | Kubernetes API | a Secret with the current key alone |
//! | `Unbind` | the key is replaced, unusable, in conflict or no longer wanted, or no answer to its request arrived | remote side | a revoked key, or a revocation that continues; the next `Unbind` confirms it |
//! | `Release` | the key stays when the ServiceKey is deleted | remote side | a key without the operator's mark |
//! | `DeleteSecret` | all keys of a deleted ServiceKey are gone, or stay without the Secret | Kubernetes API | no Secret |
//! | `ReleaseSecret` | the Secret stays when the ServiceKey is deleted | Kubernetes API | a Secret without the operator's marks |
//! | `RemoveFinalizer` | nothing is left to revoke or to release | Kubernetes API | no ServiceKey |

use std::{mem, pin::pin, sync::Arc, time::Duration};

use futures::FutureExt;
use jiff::Timestamp;
use kube::{
    ResourceExt,
    runtime::{controller::Action, reflector::ObjectRef},
};
use tokio::time::Instant;
use tracing::Instrument;

use super::{
    Context, Worker,
    apply::{self, Applied, Change},
    external::{self, Executed},
    local_state::{Circumstances, FollowedParameters, LocalState, Occasion},
    metrics,
    observe::{self, Snapshot},
    reconciler::{CalledProvider, Reconciler, SecretNotes, Target},
    status, verification, workloads,
};
use crate::{
    api::{ServiceKey, marks},
    controller::{
        error::Error,
        finalizer,
        queue::{Queue, QueueEntry, QueueSlot},
        unread,
    },
    lifecycle::{
        Answer, KubernetesEffect, Observed, Operation, ParametersDigest, ProbeOutcome, Problem, RemoteEffect,
        Requeue, RunState, Sequence, Step, Unusable, Wait, decide, full_second,
    },
    runtime::metrics::{KeyOperation, ReconcileOutcome},
    secret::ParametersKey,
};

/// Steps in one reconcile. A rotation with a repair takes about a dozen; more steps than this are a bug in the
/// operator.
const MAX_STEPS: usize = 64;

/// Reconciles one ServiceKey.
///
/// # Errors
/// [`Error::Malformed`] for an object that the API server would never store. Other failures end in a retry.
pub(super) async fn reconcile(woken: Arc<ServiceKey>, context: Arc<Context>) -> Result<Action, Error> {
    context.wait_ready().await;
    let began = Instant::now();
    let result = reconcile_known(&woken, &context).await;
    let outcome = result.as_ref().map_or(ReconcileOutcome::Error, |(_, outcome)| *outcome);
    context.shared.metrics.count_reconcile("ServiceKey", outcome, began.elapsed());
    Ok(result?.0)
}

/// Retries a reconcile that returned an error. Most failures don't get here: the driver answers them with a backoff.
pub(super) fn on_error(key: Arc<ServiceKey>, error: &Error, _: Arc<Context>) -> Action {
    tracing::error!(key = %ObjectRef::from_obj(key.as_ref()), %error, "a ServiceKey can't be reconciled");
    Action::requeue(Duration::from_secs(300))
}

async fn reconcile_known(woken: &ServiceKey, context: &Context) -> Result<(Action, ReconcileOutcome), Error> {
    let target = Target::new(woken)?;
    // A provider that is about to be loaded requeues its keys. An earlier decision could be wrong a moment
    // later.
    if !context.shared.providers.wait_known(&target.provider).await {
        return Ok((Action::await_change(), ReconcileOutcome::Waiting));
    }
    let worker = Worker::acquire(context, target.lane.clone()).await;
    let span = target.span();
    // On the heap: many reconciles may wait for a worker.
    Ok(Box::pin(reconcile_current(woken, target, worker).instrument(span)).await)
}

/// Reconciles the ServiceKey as the cache shows it now, with the state that the last reconcile left.
async fn reconcile_current(
    woken: &ServiceKey,
    target: Target,
    worker: Worker<'_>,
) -> (Action, ReconcileOutcome) {
    let (context, uid) = (worker.context, target.uid);
    let (namespace, secret) = (target.namespace.clone(), target.secret.clone());
    let local = context.local_states.take(uid);
    let Some(cached) = context.current(woken) else {
        // The ServiceKey was deleted in the meantime. The watch has reported that, or is about to.
        let local = match local {
            Some(local) => context.local_states.put(uid, local),
            None => context.local_states.put_none(uid),
        };
        context.departures.note(woken, local);
        return (Action::await_change(), ReconcileOutcome::Gone);
    };
    let mut local = local.unwrap_or_default();
    let key = local.newest(cached);
    let mut driver = Driver::start(target, key, local, worker);
    let result = driver.run().await;
    let outcome = match &result {
        Ok(_) => driver.outcome,
        Err(Error::Outdated) => ReconcileOutcome::Outdated,
        Err(_) => ReconcileOutcome::Error,
    };
    let (key, mut local) = driver.finish();
    let action = result.unwrap_or_else(|error| {
        if !matches!(error, Error::Outdated) {
            tracing::warn!(%error, "a reconcile failed");
        }
        local.retry(None)
    });
    let local = context.local_states.put(uid, local);
    context.departures.note(&key, local);
    match context.current(&key) {
        // The watch could not update the local state while the reconcile used it.
        Some(current) => context.local_states.observe(uid, &current),
        // The watch released the Secret's name and forgot the restart, and the reconcile may have noted them again since.
        None => {
            context.reservations.release(&namespace, &secret, uid);
            context.restarts.note(&namespace, uid, None);
        }
    }
    (action, outcome)
}

/// The only part that changes the state of a reconcile.
pub(super) struct Driver<'a> {
    pub(super) reconciler: Reconciler<'a>,
    worker: Worker<'a>,
    /// The slot at the remote side, from the end of the wait for it until the call is over.
    place: Option<QueueSlot>,
    /// The outcome to count; [`ReconcileOutcome::Gone`] until the decision is to wait.
    outcome: ReconcileOutcome,
}

pub(super) enum End {
    /// The ServiceKey is gone, or about to be.
    Gone,
    /// A part of the ServiceKey can't be read.
    Unread(Problem),
    /// The decision is to wait.
    Waiting(Wait),
}

/// Whether the ServiceKey still exists after an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Continues,
    /// The ServiceKey is gone, or about to be.
    Ended,
}

/// The stages in order.
impl Driver<'_> {
    async fn run(&mut self) -> Result<Action, Error> {
        match self.drive(decide).await? {
            End::Gone => Ok(Action::await_change()),
            End::Unread(problem) => self.refuse(problem).await,
            End::Waiting(wait) => self.wait(wait).await,
        }
    }

    /// Observes, decides and carries out one effect at a time, until the decision is to wait.
    ///
    /// # Errors
    /// When the Kubernetes API fails, or [`Error::TooManySteps`] after [`MAX_STEPS`].
    pub(super) async fn drive(&mut self, decide: fn(&Observed) -> Step) -> Result<End, Error> {
        for _ in 0..MAX_STEPS {
            if let Some(problem) = unread::obstacle(&self.reconciler.key.metadata) {
                return Ok(End::Unread(problem));
            }
            let observed = self.observe().await?;
            let flow = match decide(&observed) {
                Step::Apply(effect) => {
                    let span = tracing::info_span!("step", effect = <&str>::from(&effect));
                    self.apply(&observed, effect).instrument(span).await?
                }
                Step::Execute(effect) => {
                    let span = tracing::info_span!("step", effect = <&str>::from(&effect));
                    self.execute(&observed, effect).instrument(span).await
                }
                Step::Verify(sequence) => {
                    let span = tracing::info_span!("step", effect = "Verify");
                    self.verify(sequence).instrument(span).await
                }
                Step::Wait(wait) => return Ok(End::Waiting(wait)),
            };
            if flow == Flow::Ended {
                return Ok(End::Gone);
            }
        }
        Err(Error::TooManySteps(MAX_STEPS))
    }

    /// First stage: collects the input of the decision.
    async fn observe(&mut self) -> Result<Observed, Error> {
        let problem = observe::check_spec(&self.reconciler, &mut self.worker).await?;
        let generation = self.reconciler.key.metadata.generation.unwrap_or_default();
        self.reconciler.local.checked_spec = Some((generation, problem.clone()));
        self.choose_parameters_key();
        let Snapshot { observed, intact } = observe::observe(&self.reconciler, problem).await?;
        let Reconciler { local, secret, .. } = &mut self.reconciler;
        if intact.is_some() {
            local.written = intact;
        }
        secret.other_writers.clone_from(&observed.other_writers);
        workloads::note_restart(&self.reconciler, &observed);
        Ok(observed)
    }

    /// Third stage, at the Kubernetes API.
    async fn apply(&mut self, observed: &Observed, effect: KubernetesEffect) -> Result<Flow, Error> {
        tracing::debug!(?effect, "carrying out");
        let now = self.now();
        let local = &mut self.reconciler.local;
        if observed.repairs(&effect) {
            local.repairs.note(now);
        }
        let ends = matches!(effect, KubernetesEffect::RemoveFinalizer { .. });
        // Set before the request: even if no answer arrives, the API server may have removed the finalizer.
        local.finalizer_removed |= ends;
        let applied = apply::apply(&self.reconciler, observed, effect, &mut self.worker).await?;
        self.take_in(applied);
        Ok(if ends { Flow::Ended } else { Flow::Continues })
    }

    /// Third stage, at the remote side, once the queue has a free slot. After a wait for a slot the driver
    /// decides again, because the state may have changed. An answer that the backend has cached needs no
    /// slot.
    async fn execute(&mut self, observed: &Observed, effect: RemoteEffect) -> Flow {
        tracing::debug!(?effect, "carrying out");
        let target = &self.reconciler.target;
        if self.place.is_none()
            && !(effect == RemoteEffect::CheckInstance && self.reconciler.knows_instance())
            && let Some(queue) = self.reconciler.context.shared.providers.queue(&target.provider)
        {
            match queue.enter_now(&target.lane) {
                QueueEntry::Free(place) => self.place = Some(place),
                QueueEntry::Full if self.reconciler.vanished => {
                    self.place = self.worker.idle_during(queue.enter(target.lane.clone())).await;
                    return Flow::Continues;
                }
                QueueEntry::Full => return self.wait_in(queue).await,
                QueueEntry::Closed => {}
            }
        }
        if let RemoteEffect::Poll(operation) = &effect {
            self.reconciler.run.pending = Some(operation.clone());
        }
        if self.reconciler.run.failure.is_none() {
            note_provider(&mut self.reconciler);
        }
        let call = external::execute(&self.reconciler, observed, effect);
        // Boxed and without its type: the future of a backend is large, and the compiler need not analyze it
        // here.
        let call = self.reconciler.target.lane.clone().scope(call).boxed();
        self.worker.release();
        let executed = call.await;
        // Freed before the wait for a worker, so that another reconcile gets the slot. The answer is about
        // the current provider.
        self.place = None;
        self.learn(executed);
        self.worker.reacquire().await;
        Flow::Continues
    }

    /// Third stage, at the service that the credentials are for. It needs neither the provider nor a slot there.
    async fn verify(&mut self, sequence: Sequence) -> Flow {
        let attempt = verification::verify(&self.reconciler, sequence);
        let attempt = self.reconciler.target.lane.clone().scope(attempt).boxed();
        self.worker.release();
        let verified = attempt.await;
        self.worker.reacquire().await;
        if let Some(verified) = verified {
            if verified.outcome == ProbeOutcome::Accepted {
                metrics::count_verification(&self.reconciler, true);
            }
            self.learn_answer(Answer::Verified(verified));
        } else {
            // Other credentials needed the memory. The next decision reads the staged ones.
            let run = &mut self.reconciler.run;
            (run.in_hand, run.staging_read) = (None, false);
        }
        Flow::Continues
    }

    /// Waits for a slot at the remote side, or until the ServiceKey differs from the one that the driver decided
    /// about, whichever comes first. It may have changed before the wait begins.
    async fn wait_in(&mut self, queue: Queue) -> Flow {
        let Self { reconciler, worker, place, .. } = self;
        let Reconciler { context, target, key, local, .. } = reconciler;
        let ticket = context.waiting.ticket(&target.uid);
        let enter = async {
            let mut enter = pin!(queue.enter(target.lane.clone()));
            while !has_changed(context, key, local) {
                tokio::select! {
                    biased;
                    place = &mut enter => return place,
                    () = ticket.wait() => {}
                }
            }
            None
        };
        *place = worker.idle_during(enter).await;
        match context.current(key) {
            Some(cached) => {
                *key = local.newest(cached);
                Flow::Continues
            }
            None => Flow::Ended,
        }
    }

    /// Publishes why the ServiceKey can't be read. The operator does nothing else for it.
    async fn refuse(&mut self, obstacle: Problem) -> Result<Action, Error> {
        self.outcome = ReconcileOutcome::Stalled;
        let Reconciler { context, target, .. } = &self.reconciler;
        context.restarts.note(&target.namespace, target.uid, None);
        let Problem { reason, message } = obstacle;
        let message = format!(
            "{message}; until then the operator creates and revokes no key for this ServiceKey, and keeps its finalizer"
        );
        apply::publish_unread(&self.reconciler, &Problem { reason, message }).await?;
        self.reconciler.local.reset_backoff();
        Ok(Action::await_change())
    }

    /// Last stage: publishes the status, and returns when to reconcile again.
    async fn wait(&mut self, wait: Wait) -> Result<Action, Error> {
        self.outcome = metrics::outcome(&wait);
        let metadata = &self.reconciler.key.metadata;
        let is_released =
            metadata.deletion_timestamp.is_some() && !finalizer::has(metadata, marks::FINALIZER);
        let mut published = Ok(());
        if !is_released && !wait.quiet {
            let applied = apply::publish_status(&self.reconciler, &wait.report).await;
            published = applied.map(|applied| self.take_in(applied));
        }
        // Also after a failed write: the failed attempt still has its backoff.
        let next = self.requeue_after(&wait);
        published?;
        self.note_wait(&wait);
        Ok(next.map_or_else(Action::await_change, Action::requeue))
    }
}

/// Whether the ServiceKey in the cache differs from `key`, which may be ahead of the cache.
fn has_changed(context: &Context, key: &ServiceKey, local: &mut LocalState) -> bool {
    let Some(cached) = context.current(key) else { return true };
    local.newest(cached).resource_version() != key.resource_version()
}

/// All changes of the state.
impl<'a> Driver<'a> {
    /// Starts with the state that the last reconcile left.
    pub(super) fn start(
        target: Target,
        key: Arc<ServiceKey>,
        mut local: LocalState,
        worker: Worker<'a>,
    ) -> Self {
        let run = RunState {
            in_hand: local.in_hand().map(|(key, _)| key.clone()),
            stored: local.stored.take(),
            pending: local.pending.take(),
            lost: local.lost.take(),
            given_up: local.given_up.take(),
            unsure_revocation: local.unsure_revocation.take(),
            revoked: mem::take(&mut local.revoked),
            refuted: mem::take(&mut local.refuted),
            verified: local.verified.take(),
            ..RunState::default()
        };
        let mut reconciler = Reconciler {
            context: worker.context,
            target,
            key,
            local,
            run,
            secret: SecretNotes::default(),
            called: CalledProvider::default(),
            vanished: false,
        };
        note_provider(&mut reconciler);
        let occasion = reconciler.occasion();
        recall_unusable(&mut reconciler, &occasion.circumstances);
        recall_setback(&mut reconciler, &occasion);
        Self { reconciler, worker, place: None, outcome: ReconcileOutcome::Gone }
    }

    /// Returns the newest object, and the state to keep for the next reconcile.
    pub(super) fn finish(self) -> (Arc<ServiceKey>, LocalState) {
        let Reconciler { key, mut local, run, .. } = self.reconciler;
        local.unusable = local.unusable.take().zip(run.unusable).map(|((of, _), unusable)| (of, unusable));
        (local.pending, local.given_up) = (run.pending, run.given_up);
        local.unsure_revocation = run.unsure_revocation;
        local.refuted = run.refuted;
        local.verified = run.verified;
        if key.metadata.deletion_timestamp.is_some() {
            local.revoked = run.revoked;
        }
        let recorded = status::read(key.status.as_ref());
        local.stored = run.stored.filter(|stored| recorded.key.as_ref() != Some(stored));
        let is_recorded = |lost| recorded.operation_on(lost).is_some_and(Operation::has_unknown_outcome);
        local.lost = run.lost.filter(|(lost, _)| !is_recorded(*lost));
        (key, local)
    }

    /// Updates the state with the changes of an effect.
    fn take_in(&mut self, applied: Applied) {
        let now = self.now();
        for change in applied {
            let Reconciler { key, local, run, secret, .. } = &mut self.reconciler;
            match change {
                Change::Stored(stored) => {
                    *key = Arc::new(*stored);
                    let recorded = key.status.as_ref().and_then(|status| status.key.as_ref());
                    // From now on the status knows more than this process: it may have a newer digest of the parameters.
                    run.stored.take_if(|stored| {
                        recorded.is_some_and(|recorded| recorded.sequence == stored.sequence.number())
                    });
                    local.set_own_write(Arc::clone(key));
                }
                Change::Kept(kept) => *key = Arc::new(*kept),
                Change::FinalizerAdded => local.stored_finalizer = true,
                Change::Inherited => {
                    *run = RunState::default();
                    local.written = None;
                }
                Change::PlanRecorded(sequence) => run.plan_recorded = Some(sequence),
                Change::SecretLookup(lookup) => secret.lookup = Some(lookup),
                Change::CacheOutdated => (secret.lookup, secret.distrusts_cache) = (None, true),
                Change::WriteConflict => secret.conflicts += 1,
                Change::SecretWritten(written) => {
                    (secret.lookup, secret.distrusts_cache) = (None, false);
                    secret.written_version.clone_from(&written.version);
                    local.written = Some(written);
                }
                Change::CredentialsGone => run.in_hand = None,
                Change::StagingSeen(view) => secret.staging = Some(view),
                Change::Staged => secret.staging = None,
                Change::StagingRead(read) => {
                    let key = read.as_ref().map(|(key, _)| key.clone());
                    if read.is_some() {
                        local.take_in_hand(read);
                    }
                    run.learn(Answer::StagingRead(key));
                }
                Change::ParametersRead(digest) => self.learn_parameters(digest),
                Change::ParametersUnread { is_unanswered } => {
                    local.parameters.view.read_at = Some(now);
                    local.parameters.view.is_unanswered = is_unanswered;
                    run.parameters_read = Some(false);
                }
                Change::Learned(answer) => self.learn_answer(answer),
            }
        }
    }

    /// Counts the answer of the remote side, and updates the state with it.
    fn learn(&mut self, executed: Executed) {
        let Executed { operation, given_up, answer, credentials, parameters } = executed;
        metrics::count_answer(&self.reconciler, operation, &answer);
        let local = &mut self.reconciler.local;
        local.may_have_created |= operation == KeyOperation::Bind && !answer.had_no_effect();
        if credentials.is_some() {
            local.take_in_hand(credentials);
        }
        if parameters.is_some() {
            self.learn_parameters(parameters);
        }
        for answer in given_up.into_iter().chain([answer]) {
            self.learn_answer(answer);
        }
    }

    /// Chooses the key of digests, if digests are needed. The key on the Secret is remembered, so that it survives the
    /// Secret.
    fn choose_parameters_key(&mut self) {
        if !self.reconciler.key.spec.follows_parameters() {
            self.reconciler.local.parameters = FollowedParameters::default();
            return;
        }
        let confirmed = self.reconciler.confirmed_parameters_key();
        let known = &mut self.reconciler.local.parameters.key;
        *known = confirmed.or_else(|| known.take()).or_else(|| Some(ParametersKey::random()));
    }

    /// Notes the digest of the content of `parametersFrom`.
    fn learn_parameters(&mut self, digest: Option<ParametersDigest>) {
        let now = self.now();
        let Reconciler { local, run, .. } = &mut self.reconciler;
        let FollowedParameters { digest: known, view, .. } = &mut local.parameters;
        if *known != digest {
            view.since = Some(full_second(now));
        }
        *known = digest;
        (view.read_at, view.is_unanswered) = (Some(now), false);
        run.parameters_read = Some(true);
    }

    fn learn_answer(&mut self, answer: Answer) {
        match &answer {
            Answer::Revoked(sequence, _)
                if self.reconciler.local.in_hand().is_some_and(|(key, _)| key.sequence == *sequence) =>
            {
                self.reconciler.local.take_in_hand(None);
            }
            Answer::Stored(_) => {
                self.reconciler.local.take_in_hand(None);
                self.reconciler.local.reset_backoff();
            }
            // The credentials can't be used. Another attempt follows when the circumstances change.
            Answer::Unusable(failure, sequence) => {
                let circumstances = self.reconciler.circumstances();
                let unusable = Unusable { sequence: *sequence, failure: failure.clone(), revoked: None };
                let local = &mut self.reconciler.local;
                local.take_in_hand(None);
                local.unusable = Some((circumstances, unusable));
            }
            _ => {}
        }
        self.reconciler.run.learn(answer);
    }

    /// Resets the backoff if nothing is left to attempt again.
    pub(super) fn note_wait(&mut self, wait: &Wait) {
        let Reconciler { local, run, .. } = &mut self.reconciler;
        local.note_wait(wait, run.retry_not_before.is_some());
    }

    /// How long to wait unless something changes; `None`: without limit.
    pub(super) fn requeue_after(&mut self, wait: &Wait) -> Option<Duration> {
        let next = match wait.requeue {
            Requeue::OnChange => None,
            Requeue::Retry { not_before } => Some(self.schedule_retry(not_before)),
            Requeue::At(time) | Requeue::PauseEnds(time) => Some(self.until(time)),
            Requeue::Poll => Some(self.schedule_poll()),
        };
        next.into_iter().chain(wait.not_after.map(|time| self.until(time))).min()
    }

    /// Schedules the next attempt at what failed.
    fn schedule_retry(&mut self, not_before: Option<Duration>) -> Duration {
        let wait = self.reconciler.local.wait(not_before);
        if let Ok(until) = self.now().checked_add(wait) {
            let occasion = self.reconciler.occasion();
            let Reconciler { local, run, .. } = &mut self.reconciler;
            local.set_back(run.failure.clone(), until, occasion);
        }
        wait
    }

    /// Schedules the next poll of the pending operation, at the latest at the operation's time limit.
    fn schedule_poll(&mut self) -> Duration {
        let now = self.now();
        let Reconciler { local, run, .. } = &mut self.reconciler;
        // The remote side works on nothing else that could be polled.
        let Some(operation) = &mut run.pending else { return local.wait(None) };
        let wait = local.next_poll(operation);
        let next = now.checked_add(wait).unwrap_or(operation.ends).min(operation.ends);
        operation.next_poll = Some(next);
        self.until(next)
    }

    fn until(&self, time: Timestamp) -> Duration {
        Duration::try_from(time.duration_since(self.now())).unwrap_or(Duration::ZERO)
    }

    fn now(&self) -> Timestamp {
        self.reconciler.context.shared.clock.now()
    }
}

/// Notes the provider before a call: it may change during the call.
fn note_provider(reconciler: &mut Reconciler<'_>) {
    let Reconciler { context, target, called, .. } = reconciler;
    *called = CalledProvider::now(&context.shared.providers, &target.provider);
}

/// Continues with a key that no Secret can contain, unless the circumstances have changed.
fn recall_unusable(reconciler: &mut Reconciler<'_>, circumstances: &Circumstances) {
    let Reconciler { local, run, .. } = reconciler;
    local.unusable.take_if(|(of, _)| of != circumstances);
    run.unusable = local.unusable.as_ref().map(|(_, unusable)| unusable.clone());
}

/// Counts the last failure as a failure of this reconcile until its backoff is over or the occasion has
/// changed. So an event of a watch does not shorten a backoff.
fn recall_setback(reconciler: &mut Reconciler<'_>, occasion: &Occasion) {
    let now = reconciler.context.shared.clock.now();
    let Reconciler { local, run, .. } = reconciler;
    local.setback.take_if(|setback| setback.until <= now || setback.of != *occasion);
    if let Some(setback) = &local.setback {
        run.failure = Some(setback.failure.clone());
        run.retry_not_before = Some(setback.until);
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantNames as _;

    use super::*;

    /// Each effect has one row in the table at the top of this file, and no other row exists.
    #[test]
    fn the_table_lists_each_effect() {
        let rows: Vec<_> = include_str!("reconcile.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("//! | `")?.split('`').next())
            .collect();
        let mut listed = rows.clone();
        let mut effects: Vec<_> = [KubernetesEffect::VARIANTS, RemoteEffect::VARIANTS].concat();
        listed.sort_unstable();
        effects.sort_unstable();
        assert_eq!(listed, effects);
    }
}
