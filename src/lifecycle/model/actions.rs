//! The possible next events: a step of the operator, an edit, or a fault.

use stateright::{Model, Property};

use super::*;

impl Model for Exploration {
    type State = ModelState;
    type Action = Action;

    fn init_states(&self) -> Vec<ModelState> {
        vec![ModelState::new(self.life, self.budget)]
    }

    fn actions(&self, state: &ModelState, actions: &mut Vec<Action>) {
        let Some(object) = &state.object else { return };
        actions.extend([Action::Step(Fate::Answered), Action::CacheCatchesUp]);
        let budget = &state.budget;
        if budget.faults > 0 {
            actions.extend(state.fates().map(Action::Step));
            let worse = [ModelProvider::Closed, ModelProvider::Down].map(Action::ProviderBecomes);
            actions.extend(worse.into_iter().filter(|_| state.provider == ModelProvider::Up));
            // Without lists, the loss of a key whose credentials are in hand, staged or in the Secret goes unnoticed.
            let (lists, intact) =
                (state.life == Life::Lost, matches!(state.secret, Some(Stored::Ours { damaged: false, .. })));
            let held = state.process.run.in_hand.as_ref().map(|key| key.sequence);
            let staged = state.staged.as_ref().map(|key| key.sequence);
            let is_known = |key: &Sequence| [held, staged].contains(&Some(*key));
            let forgettable = state.remote.keys().filter(|key| lists || !intact && !is_known(key));
            actions.extend(forgettable.map(|sequence| Action::RemoteForgets(*sequence)));
            actions.extend(state.recorded.key.as_ref().filter(|_| lists).map(|_| Action::ListMisses));
        }
        if state.life == Life::Lost {
            actions.push(Action::List);
        }
        if state.provider != ModelProvider::Up && state.life != Life::Outsider {
            actions.push(Action::ProviderBecomes(ModelProvider::Up));
        }
        if state.working.is_some() {
            actions.push(Action::WorkEnds);
        }
        if state.life == Life::Proving {
            actions.push(Action::PodsMove);
        }
        if state.late.is_some() {
            actions.push(Action::LateBindTakesEffect);
        }
        if state.late_unbind.is_some() {
            actions.push(Action::LateUnbindTakesEffect);
        }
        if budget.crashes > 0 {
            actions.push(Action::Crash);
            // A key that was requested and is recorded only in the lost status can't be known.
            let stored = state.recorded.operation.is_none() && state.process.run.in_hand.is_none();
            actions.extend(state.backup.iter().filter(|_| stored).map(|_| Action::StatusRollsBack));
        }
        if budget.hours > 0 {
            actions.push(Action::HourPasses);
        }
        if budget.edits > 0 {
            if !object.deleting {
                actions.push(Action::DeleteObject);
            } else if state.life != Life::RolledBack {
                // Abandoning keys also deletes the Secret, which is the only evidence of keys that the status no longer
                // knows.
                actions.push(Action::Abandon);
            }
            actions.push(Action::ChangeInputs);
            actions.extend(state.forgeries());
            if matches!(state.life, Life::Wavering | Life::Outsider) {
                actions.extend([Action::Retain, Action::Suspend]);
                return;
            }
            actions.extend(match &state.secret {
                None => vec![Action::PlaceForeignSecret],
                Some(Stored::Foreign) => vec![Action::RemoveForeignSecret],
                // No other source names the keys that a status from a backup does not know.
                Some(Stored::Ours { .. }) if state.life == Life::RolledBack => vec![Action::DamageSecret],
                Some(Stored::Ours { damaged, .. }) => {
                    let mut edits = vec![Action::DeleteSecret, Action::DamageSecret, Action::DamageMarks];
                    if !damaged && matches!(state.life, Life::Plain | Life::FoundAgain) {
                        edits.extend([Flaw::Edited, Flaw::Outdated].map(Action::Mar));
                    }
                    edits
                }
            });
        }
    }

    fn next_state(&self, last: &ModelState, action: Action) -> Option<ModelState> {
        let mut state = last.clone();
        match action {
            Action::Step(fate) => {
                state.budget.faults -= u8::from(fate != Fate::Answered);
                state.step(fate);
            }
            Action::CacheCatchesUp => state.process.view = state.cached(),
            Action::Crash => {
                state.budget.crashes -= 1;
                state.process = ModelProcess::started(state.hour);
            }
            Action::StatusRollsBack => {
                state.budget.crashes -= 1;
                state.process = ModelProcess::started(state.hour);
                state.recorded = state.backup.take().unwrap_or_default();
            }
            Action::HourPasses => {
                state.budget.hours -= 1;
                state.hour_passes(1);
            }
            Action::ProviderBecomes(provider) => {
                state.budget.faults -= u8::from(provider != ModelProvider::Up);
                state.provider = provider;
            }
            Action::List => state.list(),
            Action::ListMisses => {
                state.budget.faults -= 1;
                state.process.missed = state.recorded.key.as_ref().map(|key| key.sequence);
            }
            Action::WorkEnds => state.work_ends(),
            Action::PodsMove => {
                if let Some(Stored::Ours { credentials, .. }) = &state.secret {
                    state.pods = *credentials;
                }
            }
            Action::LateBindTakesEffect => {
                if let Some((sequence, inputs)) = state.late.take() {
                    // A key that is created again under its number counts as the former one, because no answer
                    // distinguishes the two.
                    let inputs = state.made_from.get(&sequence).copied().unwrap_or(inputs);
                    state.remote.entry(sequence).or_insert(inputs);
                }
            }
            Action::LateUnbindTakesEffect => {
                if let Some(sequence) = state.late_unbind.take() {
                    state.lose(sequence);
                }
            }
            Action::RemoteForgets(sequence) => {
                state.budget.faults -= 1;
                state.lose(sequence);
            }
            edit => state.edit(edit),
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no rule is broken", |_, state: &ModelState| state.broken.is_none()),
            Property::always("every key is accounted for", |_, state: &ModelState| {
                state.object.is_none() || state.remote.keys().all(|sequence| state.accounted_for(*sequence))
            }),
            Property::always("a healthy environment comes to rest", |model: &Self, state: &ModelState| {
                state.settles(&model.restful).is_ok()
            }),
        ]
    }
}

impl ModelState {
    /// The possible results of the next call, in addition to an answer. A call without an effect has only one of them.
    fn fates(&self) -> impl Iterator<Item = Fate> + use<> {
        let next = self.object.as_ref().map(|object| decide(&self.observed(object)));
        let fates: &[Fate] = match next {
            Some(Step::Execute(RemoteEffect::Bind { .. })) if self.life.finds() => {
                &[Fate::Refused, Fate::Unsure, Fate::UnsureLate, Fate::Accepted]
            }
            Some(Step::Execute(RemoteEffect::Bind { .. })) => &[
                Fate::Refused,
                Fate::LostBeforeEffect,
                Fate::LostAfterEffect,
                Fate::Late,
                Fate::Repeated,
                Fate::Accepted,
            ],
            // The id of a key that was found is never that of a later key, so no late request can revoke that one.
            Some(Step::Execute(RemoteEffect::Unbind(_))) if self.life.finds() => {
                &[Fate::Refused, Fate::LostAfterEffect, Fate::Accepted]
            }
            Some(Step::Execute(RemoteEffect::Unbind(_))) => {
                &[Fate::Refused, Fate::LostAfterEffect, Fate::Late, Fate::Accepted]
            }
            Some(Step::Execute(RemoteEffect::Fetch(_))) => &[Fate::Refused, Fate::LostBeforeEffect],
            // A repeated request that takes effect late, after a crash and a deletion, creates a key again: see
            // `docs/design.md`.
            Some(Step::Execute(RemoteEffect::Repeat(_))) => &[Fate::Refused, Fate::Unsure],
            Some(Step::Execute(RemoteEffect::Poll(_))) if self.life.finds() => {
                &[Fate::Unsure, Fate::LostBeforeEffect]
            }
            Some(Step::Execute(RemoteEffect::Poll(_))) => &[Fate::Refused, Fate::LostBeforeEffect],
            Some(
                Step::Apply(KubernetesEffect::WriteSecret { .. })
                | Step::Apply(KubernetesEffect::RehearseSecret)
                | Step::Apply(KubernetesEffect::RestartWorkloads { .. })
                | Step::Apply(KubernetesEffect::LookForConsumers(_))
                | Step::Apply(KubernetesEffect::StageCredentials(_))
                | Step::Verify(_)
                | Step::Apply(KubernetesEffect::RestoreSecret)
                | Step::Apply(KubernetesEffect::OmitPrevious)
                | Step::Execute(RemoteEffect::Release(_))
                | Step::Apply(KubernetesEffect::ReleaseSecret)
                | Step::Execute(RemoteEffect::CheckInstance)
                | Step::Execute(RemoteEffect::Confirm(_)),
            ) => &[Fate::Refused],
            _ => &[],
        };
        fates.iter().copied()
    }

    /// The marks that a forger may write into the Secret: of a key that does not exist.
    fn forgeries(&self) -> impl Iterator<Item = Action> + use<> {
        let forges = matches!(self.life, Life::Forged | Life::ForgedAndFound | Life::Outsider);
        let claimed = match &self.secret {
            Some(Stored::Ours { key: Some(key), .. }) if forges => Some(key.sequence),
            _ => None,
        };
        let forge = |claimed: Sequence, leap: u32, damages: bool| Action::ForgeMarks {
            claimed: Sequence::new(claimed.number().saturating_add(leap)).unwrap(),
            damages,
        };
        claimed.into_iter().flat_map(move |claimed| {
            [(2, false), (2, true), (u32::MAX, false)].map(|(leap, damages)| forge(claimed, leap, damages))
        })
    }

    fn edit(&mut self, action: Action) {
        self.budget.edits -= 1;
        if action == Action::ChangeInputs {
            self.process.run.unusable = None;
        }
        if let Some(object) = &mut self.object {
            match action {
                Action::ChangeInputs => object.inputs += 1,
                Action::DeleteObject if object.finalizer => object.deleting = true,
                Action::DeleteObject => self.object = None,
                Action::Abandon => object.abandon = true,
                Action::Retain => object.retain = !object.retain,
                Action::Suspend => object.suspended = !object.suspended,
                Action::DeleteSecret | Action::RemoveForeignSecret => self.secret = None,
                Action::PlaceForeignSecret => self.secret = Some(Stored::Foreign),
                Action::DamageSecret | Action::DamageMarks => {
                    if let Some(Stored::Ours { key, credentials, previous, damaged, flaw }) = &mut self.secret
                    {
                        let keeps_marks = action == Action::DamageSecret;
                        *flaw = None;
                        *damaged = true;
                        *key = key.take().filter(|_| keeps_marks);
                        *previous = previous.filter(|_| keeps_marks);
                        *credentials = None;
                    }
                }
                Action::Mar(how) => {
                    if let Some(Stored::Ours { flaw, .. }) = &mut self.secret {
                        *flaw = Some(how);
                    }
                }
                Action::ForgeMarks { claimed, damages } => {
                    let recorded = self.recorded.key.as_ref().map(|key| key.sequence);
                    if let Some(Stored::Ours { key: Some(key), credentials, damaged, .. }) = &mut self.secret
                    {
                        // Before the status names a key, only the marks show which one the Secret contains.
                        *credentials = credentials.filter(|stored| Some(*stored) == recorded);
                        **key = KeyRecord { sequence: claimed, ..KeyRecord::clone(key) }.into();
                        *damaged |= damages;
                    }
                }
                _ => unreachable!("{action:?} is not an edit"),
            }
        }
    }
}
