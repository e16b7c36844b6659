//! The operator: one decision, carried out like in production, and the rules that must never be broken.

use super::*;

impl ModelState {
    pub(super) fn step(&mut self, fate: Fate) {
        let Some(object) = self.object.clone() else { return };
        match decide(&self.observed(&object)) {
            Step::Wait(rest) => self.rest(&object, &rest),
            step => {
                let call = matches!(step, Step::Execute(_)).then(|| step.clone());
                self.act(&object, step, fate);
                if fate == Fate::Refused && call.is_some() {
                    let next = self.object.as_ref().map(|object| decide(&self.observed(object)));
                    self.breaks("a refused call is not repeated at once", next == call);
                }
            }
        }
    }

    pub(super) fn rest(&mut self, object: &Object, rest: &Wait) {
        self.check_readiness(object, &rest.report);
        if !rest.quiet {
            self.recorded = rest.report.recorded.clone();
        }
        if self.life == Life::RolledBack && self.holds(Sequence::FIRST) && self.ended().is_ok() {
            self.backup = Some(self.recorded.clone());
        }
        let now = self.now();
        let RunState {
            in_hand,
            stored,
            pending: mut under_way,
            given_up,
            unsure_revocation,
            unusable,
            mut revoked,
            refuted,
            verified,
            ..
        } = std::mem::take(&mut self.process.run);
        if let (Requeue::Poll, Some(work)) = (rest.requeue, &mut under_way) {
            work.next_poll = Some(now);
        }
        if !object.deleting {
            revoked.clear();
        }
        let stored = stored.filter(|stored| self.recorded.key.as_ref() != Some(stored));
        self.process.run = RunState {
            in_hand,
            stored,
            pending: under_way,
            given_up,
            unsure_revocation,
            unusable,
            revoked,
            refuted,
            verified,
            ..RunState::default()
        };
    }

    fn has_staged(&self, sequence: Sequence) -> bool {
        self.staged.as_ref().is_some_and(|key| key.sequence == sequence)
    }

    /// Whether no Secret has the credentials in hand, and the service has not refused them.
    fn is_unstored(&self, in_hand: Option<&KeyRecord>) -> bool {
        let refused =
            self.recorded.verification.as_ref().filter(|verification| verification.failed.is_some());
        in_hand.is_some_and(|key| {
            !self.has_staged(key.sequence) && refused.is_none_or(|refused| refused.sequence != key.sequence)
        })
    }

    /// Whether a previous key may stay for the pods that use it.
    fn may_stay(&self, sequence: Sequence) -> bool {
        let previous = self.recorded.previous.iter().find(|previous| previous.sequence == sequence);
        let replaced_at = previous.and_then(|previous| previous.replaced_at);
        replaced_at.is_some_and(|time| self.now() < time + std::time::Duration::from_secs(3600 * KEPT_FOR))
    }

    fn check_readiness(&mut self, object: &Object, report: &Report) {
        let works = match &self.process.view {
            SecretView::Intact { key, .. } => {
                self.truth() == self.process.view
                    && self.has(key.sequence)
                    && self.recorded.key.as_ref().is_none_or(|known| known.sequence <= key.sequence)
            }
            _ => false,
        };
        let is_outsider = self.life == Life::Outsider;
        // No evidence shows that the namespace was ever admitted, and the status has not recorded this key yet.
        let is_unproven = self.provider == ModelProvider::Closed && self.recorded == Recorded::default();
        self.breaks(
            "6: the ServiceKey is ready while the key works",
            works && !is_unproven && !object.deleting && !report.ready.ready,
        );
        self.breaks(
            "7: a namespace that was never admitted is never ready",
            is_outsider && report.ready.ready,
        );
    }

    pub(super) fn act(&mut self, object: &Object, step: Step, fate: Fate) {
        let in_hand = self.process.run.in_hand.clone();
        let records = matches!(step, Step::Apply(KubernetesEffect::Record(_)));
        self.breaks("a suspended ServiceKey causes no effect", object.suspended && !records);
        let is_outsider = self.life == Life::Outsider;
        self.breaks(
            "7: a namespace that was never admitted causes no call",
            is_outsider && matches!(step, Step::Execute(_)),
        );
        match step {
            Step::Wait(_) => self.breaks("a wait is not an effect", true),
            Step::Execute(RemoteEffect::CheckInstance) => {
                let refused = Answer::Failed(failure(Attempted::Provision, ErrorClass::Gone));
                let answer = if fate == Fate::Refused { refused } else { Answer::InstanceChecked };
                self.process.run.learn(answer);
            }
            Step::Execute(RemoteEffect::Prove { .. }) => {
                self.breaks("no Secret in this model belongs to a former ServiceKey", true)
            }
            Step::Apply(KubernetesEffect::AddFinalizer) => {
                let unneeded = !self.process.run.instance_checked && self.remote.is_empty();
                let unused = unneeded && self.recorded == Recorded::default() && self.secret.is_none();
                self.breaks("a ServiceKey that can't get a key gets no finalizer", unused);
                self.object = Some(Object { finalizer: true, ..object.clone() });
                self.process.stored_finalizer = true;
            }
            Step::Apply(KubernetesEffect::LookUpSecret) => self.process.view = self.truth(),
            Step::Apply(KubernetesEffect::RehearseSecret) => {
                let refused = Answer::Failed(failure(Attempted::Store, ErrorClass::Rejected));
                let answer = if fate == Fate::Refused { refused } else { Answer::Rehearsed };
                if self.process.view == SecretView::Unknown {
                    self.process.view = self.truth();
                }
                self.process.run.learn(answer);
            }
            Step::Apply(KubernetesEffect::Record(report)) => {
                self.check_readiness(object, &report);
                let is_restarted = |restart: &&WorkloadRestart| {
                    let key = report.recorded.key.as_ref().map(|key| key.sequence);
                    report.recorded.restart.is_none() && key == Some(restart.sequence)
                };
                if let Some(restart) = self.recorded.restart.as_ref().filter(is_restarted) {
                    self.restarted = Some(restart.sequence);
                }
                self.recorded = report.recorded;
            }
            Step::Execute(RemoteEffect::Bind { sequence, predecessor }) => {
                self.breaks("a key replaces itself", predecessor >= Some(sequence));
                let looked = !matches!(self.process.view, SecretView::Unknown | SecretView::Foreign { .. });
                self.breaks("1: store the finalizer before a key is created", !object.finalizer);
                self.breaks("4: look for a foreign Secret before a key is created", !looked);
                self.breaks("5: store credentials in hand first", self.is_unstored(in_hand.as_ref()));
                self.breaks(
                    "the staged credentials of a key that is gone are discarded before its number is used again",
                    self.has_staged(sequence) && self.process.run.revoked.contains_key(&sequence),
                );
                self.breaks("a key is created for a deleted ServiceKey", object.deleting);
                self.breaks(
                    "a key is created that the provider does not permit",
                    self.provider != ModelProvider::Up,
                );
                self.breaks(
                    "a key is created while it is being revoked",
                    self.waits_for_revocation_of(sequence),
                );
                self.bind(object, sequence, fate);
            }
            Step::Execute(RemoteEffect::Fetch(sequence)) => {
                self.breaks("5: store credentials in hand first", self.is_unstored(in_hand.as_ref()));
                self.fetch(sequence, fate);
            }
            Step::Execute(RemoteEffect::Repeat(sequence)) => {
                self.breaks("5: store credentials in hand first", self.is_unstored(in_hand.as_ref()));
                self.breaks("a request is repeated that would create another key", self.life.finds());
                self.repeat(sequence, fate);
            }
            Step::Execute(RemoteEffect::Confirm(sequence)) => self.confirm(sequence, fate),
            Step::Execute(RemoteEffect::Poll(work)) => self.poll(work, fate),
            Step::Execute(RemoteEffect::Unbind(sequence)) => {
                let current = self.holds(sequence);
                let revokes_first = self.life == Life::RevokingFirst && self.recorded.revokes_first();
                self.breaks("2: never revoke the current key", current && !object.deleting && !revokes_first);
                let besides = self.holds_besides(sequence);
                self.breaks(
                    "a previous key is removed from the Secret before it is revoked",
                    besides && !object.deleting,
                );
                // A replacement of a lost key needs room.
                let is_current_lost = self.recorded.key.as_ref().is_some_and(|key| !self.has(key.sequence));
                let is_used = self.pods == Some(sequence) && self.may_stay(sequence) && !is_current_lost;
                self.breaks("2: no key is revoked under a pod", is_used && !object.deleting);
                self.unbind(sequence, fate);
            }
            Step::Execute(RemoteEffect::Release(sequence)) => {
                self.breaks("a key is released that has to be revoked", !(object.deleting && object.retain));
                self.release(sequence, fate);
            }
            Step::Apply(KubernetesEffect::WriteSecret { key, previous }) => {
                let verified = self.process.run.verified.as_ref();
                let is_accepted = verified.is_some_and(|last| {
                    last.sequence == key.sequence && last.outcome == ProbeOutcome::Accepted
                });
                let is_known = self.recorded.key.as_ref().is_some_and(|known| known.sequence >= key.sequence);
                let is_held = matches!(&self.secret, Some(Stored::Ours { key: Some(held), .. }) if held.sequence >= key.sequence);
                self.breaks(
                    "no credentials are published before the service has accepted them",
                    self.life == Life::Verifying && !is_accepted && !is_known && !is_held,
                );
                self.write_secret(*key, previous, fate)
            }
            Step::Apply(KubernetesEffect::RestartWorkloads { restart, .. }) => {
                let sequence = restart.sequence;
                let is_again = self.restarted >= Some(sequence) || sequence == Sequence::FIRST;
                self.breaks("workloads restart once for each rotation", is_again);
                self.breaks("no workload restarts for a deleted ServiceKey", object.deleting);
                let problem = (fate == Fate::Refused).then(|| "it failed".to_owned());
                self.process.run.learn(Answer::Restarted(restart, problem));
            }
            Step::Apply(KubernetesEffect::LookForConsumers(change)) => {
                let mut consumers = Consumers::default();
                if self.pods == Some(change.replaced) {
                    consumers.add("app".to_owned());
                }
                consumers.problem = (fate == Fate::Refused).then(|| "it failed".to_owned());
                self.process.run.learn(Answer::Consumers(change, consumers));
            }
            Step::Verify(sequence) => {
                self.breaks("credentials are stored before they are verified", !self.has_staged(sequence));
                let outcome = match fate {
                    Fate::Refused => ProbeOutcome::Refused("it is refused".to_owned()),
                    _ => ProbeOutcome::Accepted,
                };
                self.process.run.learn(Answer::Verified(Verified { sequence, at: self.now(), outcome }));
            }
            Step::Apply(KubernetesEffect::StageCredentials(_)) if fate == Fate::Refused => {
                self.process.run.learn(Answer::Failed(failure(Attempted::Store, ErrorClass::Rejected)));
            }
            Step::Apply(KubernetesEffect::StageCredentials(key)) => self.staged = Some(key),
            Step::Apply(KubernetesEffect::ReadStaged(sequence)) => {
                let read = self.staged.clone().filter(|key| key.sequence == sequence);
                self.process.run.learn(Answer::StagingRead(read.map(|key| *key)));
            }
            Step::Apply(KubernetesEffect::DiscardStaged) => self.staged = None,
            Step::Apply(KubernetesEffect::ReadParameters) => {
                self.breaks("content is read that does not matter", self.life != Life::Following);
                self.process.seen = Some((object.inputs, self.hour));
            }
            Step::Apply(KubernetesEffect::RestoreSecret) => self.restore_secret(fate),
            Step::Apply(KubernetesEffect::OmitPrevious) => self.omit_previous(fate),
            Step::Apply(KubernetesEffect::ReleaseSecret) => {
                self.breaks(
                    "a Secret is released that has to be deleted",
                    !(object.deleting && object.retain),
                );
                self.release_secret(fate);
            }
            Step::Apply(KubernetesEffect::DeleteSecret) => {
                if self.truth() == self.process.view {
                    self.breaks("4: never delete a foreign Secret", self.secret == Some(Stored::Foreign));
                    self.secret = None;
                    self.process.view = SecretView::Absent;
                } else {
                    self.process.view = SecretView::Unknown;
                }
            }
            Step::Apply(KubernetesEffect::RemoveFinalizer { .. }) => {
                let left = !self.remote.is_empty() || self.late.is_some() || self.working.is_some();
                self.breaks("3: the finalizer is removed last", !object.abandon && !object.retain && left);
                let marked = self.remote.keys().any(|sequence| !self.released.contains(sequence));
                self.breaks("a retained key still has a mark", object.retain && !object.abandon && marked);
                self.object = None;
            }
        }
    }

    /// Whether this process waits for the remote side to revoke the key.
    fn waits_for_revocation_of(&self, sequence: Sequence) -> bool {
        self.process.run.pending.as_ref().is_some_and(|known| {
            known.operation == RemoteOperation::Unbind
                && known.sequence == sequence
                && !known.is_given_up(self.now())
        })
    }

    pub(super) fn holds(&self, sequence: Sequence) -> bool {
        let Some(Stored::Ours { credentials, .. }) = &self.secret else { return false };
        *credentials == Some(sequence)
    }

    fn holds_besides(&self, sequence: Sequence) -> bool {
        let Some(Stored::Ours { previous, damaged: false, .. }) = &self.secret else { return false };
        *previous == Some(sequence)
    }

    /// Every write of the Secret is conditional on the version that the operator read.
    fn write_secret(&mut self, key: KeyRecord, previous: Option<Sequence>, fate: Fate) {
        if fate == Fate::Refused {
            let failure = failure(Attempted::Render, ErrorClass::Rejected);
            return self.process.run.learn(Answer::Unusable(failure, key.sequence));
        }
        if self.truth() != self.process.view {
            self.process.view = SecretView::Unknown;
            return;
        }
        self.breaks("4: never write a foreign Secret", self.secret == Some(Stored::Foreign));
        self.breaks("a key is kept beside itself or an older one", previous >= Some(key.sequence));
        // The operator does not keep entries that another writer edited.
        let untouched = matches!(self.secret, Some(Stored::Ours { damaged: false, .. }));
        let previous = previous.filter(|_| untouched);
        let claim = Claim::from(key.clone());
        self.secret = Some(Stored::Ours {
            key: Some(Box::new(claim.clone())),
            credentials: Some(claim.sequence),
            previous,
            damaged: false,
            flaw: None,
        });
        self.process.view = SecretView::Intact { key: claim, previous, flaw: None };
        self.process.run.learn(Answer::Stored(key));
    }

    fn restore_secret(&mut self, fate: Fate) {
        if fate == Fate::Refused {
            return self.process.run.learn(Answer::Failed(failure(Attempted::Store, ErrorClass::Rejected)));
        }
        if self.truth() != self.process.view {
            self.process.view = SecretView::Unknown;
            return;
        }
        if let Some(Stored::Ours { flaw, .. }) = &mut self.secret {
            self.broken =
                self.broken.or((*flaw == Some(Flaw::Outdated)).then_some("templates need credentials"));
            *flaw = None;
        }
        self.process.view = self.truth();
    }

    fn omit_previous(&mut self, fate: Fate) {
        if fate == Fate::Refused {
            return self.process.run.learn(Answer::Failed(failure(Attempted::Store, ErrorClass::Rejected)));
        }
        if self.truth() != self.process.view {
            self.process.view = SecretView::Unknown;
            return;
        }
        if let Some(Stored::Ours { previous, .. }) = &mut self.secret {
            *previous = None;
        }
        self.process.view = self.truth();
    }

    fn release_secret(&mut self, fate: Fate) {
        if fate == Fate::Refused {
            return self.process.run.learn(Answer::Failed(failure(Attempted::Store, ErrorClass::Rejected)));
        }
        if self.truth() == self.process.view {
            // The Secret has another owner afterwards.
            self.secret = Some(Stored::Foreign);
            self.process.view = self.truth();
        } else {
            self.process.view = SecretView::Unknown;
        }
    }
}
