//! Every state that the production decisions can reach, explored exhaustively: the user edits and deletes, the
//! remote side refuses, loses answers and forgets, the process dies between any two steps, caches lag.
//!
//! The environment has a small budget of each kind of trouble; within it, no order of events is left out.

use std::collections::BTreeMap;

use jiff::Timestamp;
use stateright::{Checker, Model, Property};

use super::*;
use crate::api::Reason;

/// Steps after which a healthy environment must have led to rest.
const PATIENCE: usize = 100;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    object: Option<Object>,
    memory: Memory,
    secret: Option<Stored>,
    /// The keys that live at the remote side, each with the inputs it was made from.
    remote: BTreeMap<Sequence, u8>,
    provider: Provider,
    hour: i64,
    rotates: bool,
    process: Process,
    budget: Budget,
    /// The first rule that was broken on the way here.
    broken: Option<&'static str>,
}

/// How the provider stands to the ServiceKey.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Provider {
    Up,
    Closed,
    Down,
}

/// The ServiceKey as stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Object {
    finalizer: bool,
    deleting: bool,
    abandon: bool,
    inputs: u8,
}

/// The Secret as stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stored {
    Foreign,
    Ours { key: Option<KeyRecord>, damaged: bool },
}

/// What the operator holds in memory, and loses when it dies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Process {
    round: Round,
    view: SecretView,
}

impl Process {
    fn started() -> Self {
        Self { round: Round::default(), view: SecretView::Unknown }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Budget {
    faults: u8,
    crashes: u8,
    edits: u8,
    hours: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    Step(Fate),
    CacheCatchesUp,
    Crash,
    ChangeInputs,
    DeleteObject,
    Abandon,
    DeleteSecret,
    DamageSecret,
    DamageMarks,
    PlaceForeignSecret,
    RemoveForeignSecret,
    ProviderBecomes(Provider),
    RemoteForgets(Sequence),
    HourPasses,
}

/// What becomes of a call to the remote side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fate {
    Answered,
    Refused,
    LostBeforeEffect,
    LostAfterEffect,
}

impl State {
    fn new(rotates: bool) -> Self {
        Self {
            object: Some(Object::default()),
            memory: Memory::default(),
            secret: None,
            remote: BTreeMap::new(),
            provider: Provider::Up,
            hour: 0,
            rotates,
            process: Process::started(),
            budget: Budget { faults: 2, crashes: 1, edits: 2, hours: if rotates { 3 } else { 1 } },
            broken: None,
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.hour * 3600).unwrap()
    }

    fn world(&self, object: &Object) -> World {
        let hours = |n: u64| std::time::Duration::from_secs(n * 3600);
        World {
            desired: Desired {
                finalizer: object.finalizer,
                deleting: object.deleting,
                abandon: object.abandon,
                retain: false,
                suspended: false,
                inputs: object.inputs.to_string(),
                rotation: Rotation { every: self.rotates.then(|| hours(2)), overlap: hours(1) },
                problem: None,
            },
            memory: self.memory.clone(),
            secret: self.process.view.clone(),
            provider: match self.provider {
                Provider::Up => ProviderView::Available,
                Provider::Closed => ProviderView::Closed(problem(Reason::ProviderNotAllowed)),
                Provider::Down => ProviderView::Unavailable(problem(Reason::ProviderNotFound)),
            },
            round: self.process.round.clone(),
            now: self.now(),
        }
    }

    fn record(&self, sequence: Sequence, inputs: u8) -> KeyRecord {
        KeyRecord {
            sequence,
            id: sequence.to_string(),
            name: None,
            created_at: self.now(),
            expires_at: None,
            renew_before: None,
            inputs: inputs.to_string(),
        }
    }

    /// What a look at the Secret by name shows.
    fn truth(&self) -> SecretView {
        match &self.secret {
            None => SecretView::Absent,
            Some(Stored::Foreign) => SecretView::Foreign { holder: "somebody else".to_owned() },
            Some(Stored::Ours { key: Some(key), damaged: false }) => SecretView::Intact { key: key.clone() },
            Some(Stored::Ours { key, .. }) => SecretView::Damaged { key: key.clone() },
        }
    }

    /// What the cache shows, which holds only Secrets of ours.
    fn cached(&self) -> SecretView {
        match self.truth() {
            SecretView::Absent | SecretView::Foreign { .. } => SecretView::Unknown,
            ours => ours,
        }
    }

    fn breaks(&mut self, rule: &'static str, broken: bool) {
        if broken {
            self.broken.get_or_insert(rule);
        }
    }

    fn step(&mut self, fate: Fate) {
        let Some(object) = self.object.clone() else { return };
        match decide(&self.world(&object)) {
            Step::Rest(rest) => self.rest(&object, &rest.report),
            Step::Act(effect) => self.act(&object, effect, fate),
        }
    }

    fn rest(&mut self, object: &Object, report: &Report) {
        self.check_readiness(object, report);
        self.memory = report.memory.clone();
        self.process.round = Round { in_hand: self.process.round.in_hand.take(), ..Round::default() };
    }

    fn check_readiness(&mut self, object: &Object, report: &Report) {
        let works = match &self.process.view {
            SecretView::Intact { key } => {
                self.truth() == self.process.view
                    && self.remote.contains_key(&key.sequence)
                    && self.memory.key.as_ref().is_none_or(|known| known.sequence <= key.sequence)
            }
            _ => false,
        };
        self.breaks("6: Ready while the key works", works && !object.deleting && !report.ready.ready);
    }

    fn act(&mut self, object: &Object, effect: Effect, fate: Fate) {
        let in_hand = self.process.round.in_hand.clone();
        match effect {
            Effect::AddFinalizer => self.object = Some(Object { finalizer: true, ..object.clone() }),
            Effect::LookUpSecret => self.process.view = self.truth(),
            Effect::Record(report) => {
                self.check_readiness(object, &report);
                self.memory = report.memory;
            }
            Effect::Bind(sequence) => {
                let looked = !matches!(self.process.view, SecretView::Unknown | SecretView::Foreign { .. });
                self.breaks("1: finalizer before anything is made", !object.finalizer);
                self.breaks("4: look for a foreign Secret before a key is made", !looked);
                self.breaks("5: store what is in hand first", in_hand.is_some());
                self.breaks("a key is made for a deleted ServiceKey", object.deleting);
                self.breaks("a key is made where none may be", self.provider != Provider::Up);
                self.bind(object, sequence, fate);
            }
            Effect::Fetch(sequence) => {
                self.breaks("5: store what is in hand first", in_hand.is_some());
                self.fetch(sequence, fate);
            }
            Effect::Unbind(sequence) => {
                let current = self.holds(sequence);
                self.breaks("2: never revoke the current key", current && !object.deleting);
                self.unbind(sequence, fate);
            }
            Effect::WriteSecret(key) => self.write_secret(key, fate),
            Effect::DeleteSecret => {
                if self.truth() == self.process.view {
                    self.breaks("4: never delete a foreign Secret", self.secret == Some(Stored::Foreign));
                    self.secret = None;
                    self.process.view = SecretView::Absent;
                } else {
                    self.process.view = SecretView::Unknown;
                }
            }
            Effect::RemoveFinalizer { .. } => {
                self.breaks("3: the finalizer leaves last", !object.abandon && !self.remote.is_empty());
                self.object = None;
            }
        }
    }

    fn holds(&self, sequence: Sequence) -> bool {
        matches!(&self.secret, Some(Stored::Ours { key: Some(key), damaged: false }) if key.sequence == sequence)
    }

    fn bind(&mut self, object: &Object, sequence: Sequence, fate: Fate) {
        let existing = self.remote.get(&sequence).copied();
        if matches!(fate, Fate::Answered | Fate::LostAfterEffect) {
            self.remote.entry(sequence).or_insert(object.inputs);
        }
        let answer = match (fate, existing) {
            (Fate::Answered, Some(inputs)) if inputs != object.inputs => {
                Answer::Conflict(failure(Attempted::Provision, ErrorClass::Conflict), sequence)
            }
            (Fate::Answered, _) => Answer::Issued(self.record(sequence, object.inputs)),
            (Fate::Refused, _) => Answer::Failed(failure(Attempted::Provision, ErrorClass::Rejected)),
            _ => Answer::Failed(failure(Attempted::Provision, ErrorClass::OrphanPossible)),
        };
        self.process.round.learn(answer);
    }

    fn fetch(&mut self, sequence: Sequence, fate: Fate) {
        let answer = match (fate, self.remote.get(&sequence)) {
            (Fate::Answered, Some(inputs)) => Answer::Issued(self.record(sequence, *inputs)),
            // A remote side that does not show an existing key again answers like one that has none.
            (Fate::Answered | Fate::Refused, _) => Answer::Unreadable(sequence),
            _ => Answer::Failed(failure(Attempted::Provision, ErrorClass::Transient)),
        };
        self.process.round.learn(answer);
    }

    fn unbind(&mut self, sequence: Sequence, fate: Fate) {
        if matches!(fate, Fate::Answered | Fate::LostAfterEffect) {
            self.remote.remove(&sequence);
        }
        self.process.round.learn(match fate {
            Fate::Answered => Answer::Revoked(sequence),
            _ => Answer::Failed(failure(Attempted::Revoke, ErrorClass::OrphanPossible)),
        });
    }

    /// Every write of the Secret is conditional on what was read.
    fn write_secret(&mut self, key: KeyRecord, fate: Fate) {
        if fate == Fate::Refused {
            let failure = failure(Attempted::Render, ErrorClass::Rejected);
            return self.process.round.learn(Answer::Failed(failure));
        }
        if self.truth() != self.process.view {
            self.process.view = SecretView::Unknown;
            return;
        }
        self.breaks("4: never write a foreign Secret", self.secret == Some(Stored::Foreign));
        self.secret = Some(Stored::Ours { key: Some(key.clone()), damaged: false });
        self.process.view = SecretView::Intact { key };
        self.process.round.learn(Answer::Stored);
    }

    /// The keys whose existence can be told from what is stored.
    fn accounted_for(&self, sequence: Sequence) -> bool {
        let in_secret = match &self.secret {
            Some(Stored::Ours { key: Some(key), .. }) => Some(key.sequence),
            _ => None,
        };
        let memory = &self.memory;
        let known = memory.key.as_ref().map(|key| key.sequence);
        memory.previous.iter().any(|previous| previous.sequence == sequence)
            || [known, in_secret, memory.attempt].contains(&Some(sequence))
            || (known.is_none() && in_secret.is_none() && sequence == Sequence::FIRST)
    }

    /// Where a healthy environment leads from here.
    fn settles(&self) -> Result<(), String> {
        let mut state = self.clone();
        // Whoever is no longer served can leave all the same.
        let leaves = state.object.as_ref().is_some_and(|object| object.deleting);
        if state.provider == Provider::Down || !leaves {
            state.provider = Provider::Up;
        }
        state.rotates = false;
        state.process.view = state.cached();
        for _ in 0..PATIENCE {
            let Some(object) = state.object.clone() else { return state.ended() };
            match decide(&state.world(&object)) {
                Step::Act(effect) => state.act(&object, effect, Fate::Answered),
                Step::Rest(rest) => {
                    state.rest(&object, &rest.report);
                    match rest.wake {
                        Wake::At(time) => state.hour = state.hour.max((time.as_second() + 3599) / 3600),
                        Wake::OnChange => return state.ended(),
                        Wake::Retry { .. } if rest.report.ready.reason == Reason::SecretConflict => {
                            return state.ended();
                        }
                        Wake::Retry { .. } => state.process.view = state.cached(),
                    }
                }
            }
        }
        Err(format!("no rest after {PATIENCE} steps: {state:?}"))
    }

    fn ended(&self) -> Result<(), String> {
        let complaint = |what: &str| Err(format!("{what}: {self:?}"));
        if let Some(rule) = self.broken {
            return complaint(rule);
        }
        let Some(object) = &self.object else {
            return match &self.secret {
                Some(Stored::Ours { .. }) => complaint("the Secret outlives its ServiceKey"),
                _ => Ok(()),
            };
        };
        if object.deleting {
            return complaint("a deletion does not end");
        }
        match &self.secret {
            Some(Stored::Foreign) => Ok(()),
            Some(Stored::Ours { key: Some(key), damaged: false }) => {
                let only = BTreeMap::from([(key.sequence, object.inputs)]);
                if self.remote != only {
                    return complaint("not exactly the current key lives");
                }
                if self.memory != (Memory { key: Some(key.clone()), ..Memory::default() }) {
                    return complaint("the status tells something else");
                }
                Ok(())
            }
            _ => complaint("no good Secret"),
        }
    }
}

fn problem(reason: Reason) -> Problem {
    Problem { reason, message: "not now".to_owned() }
}

fn failure(attempted: Attempted, class: ErrorClass) -> Failure {
    Failure { attempted, class, message: "it failed".to_owned(), retry_after: None }
}

struct Life {
    rotates: bool,
}

impl Model for Life {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.rotates)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let Some(object) = &state.object else { return };
        actions.extend([Action::Step(Fate::Answered), Action::CacheCatchesUp]);
        let budget = &state.budget;
        if budget.faults > 0 {
            let fates = [Fate::Refused, Fate::LostBeforeEffect, Fate::LostAfterEffect];
            actions.extend(fates.map(Action::Step));
            let worse = [Provider::Closed, Provider::Down].map(Action::ProviderBecomes);
            actions.extend(worse.into_iter().filter(|_| state.provider == Provider::Up));
            if !matches!(state.secret, Some(Stored::Ours { damaged: false, .. })) {
                // A key whose credentials are in hand or in the Secret goes unnoticed until somebody looks.
                let held = state.process.round.in_hand.as_ref().map(|key| key.sequence);
                let forgettable = state.remote.keys().filter(|sequence| Some(**sequence) != held);
                actions.extend(forgettable.map(|sequence| Action::RemoteForgets(*sequence)));
            }
        }
        if state.provider != Provider::Up {
            actions.push(Action::ProviderBecomes(Provider::Up));
        }
        if budget.crashes > 0 {
            actions.push(Action::Crash);
        }
        if budget.hours > 0 {
            actions.push(Action::HourPasses);
        }
        if budget.edits > 0 {
            actions.push(if object.deleting { Action::Abandon } else { Action::DeleteObject });
            actions.push(Action::ChangeInputs);
            actions.extend(match &state.secret {
                None => vec![Action::PlaceForeignSecret],
                Some(Stored::Foreign) => vec![Action::RemoveForeignSecret],
                Some(Stored::Ours { .. }) => {
                    vec![Action::DeleteSecret, Action::DamageSecret, Action::DamageMarks]
                }
            });
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Step(fate) => {
                state.budget.faults -= u8::from(fate != Fate::Answered);
                state.step(fate);
            }
            Action::CacheCatchesUp => state.process.view = state.cached(),
            Action::Crash => {
                state.budget.crashes -= 1;
                state.process = Process::started();
            }
            Action::HourPasses => {
                state.budget.hours -= 1;
                state.hour += 1;
            }
            Action::ProviderBecomes(provider) => {
                state.budget.faults -= u8::from(provider != Provider::Up);
                state.provider = provider;
            }
            Action::RemoteForgets(sequence) => {
                state.budget.faults -= 1;
                state.remote.remove(&sequence);
            }
            edit => state.edit(edit),
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no rule is broken", |_, state: &State| state.broken.is_none()),
            Property::always("every key is accounted for", |_, state: &State| {
                state.object.is_none() || state.remote.keys().all(|sequence| state.accounted_for(*sequence))
            }),
            Property::always("a healthy environment leads to rest", |_, state: &State| {
                state.settles().is_ok()
            }),
        ]
    }
}

impl State {
    fn edit(&mut self, action: Action) {
        self.budget.edits -= 1;
        if let Some(object) = &mut self.object {
            match action {
                Action::ChangeInputs => object.inputs += 1,
                Action::DeleteObject if object.finalizer => object.deleting = true,
                Action::DeleteObject => self.object = None,
                Action::Abandon => object.abandon = true,
                Action::DeleteSecret | Action::RemoveForeignSecret => self.secret = None,
                Action::PlaceForeignSecret => self.secret = Some(Stored::Foreign),
                Action::DamageSecret | Action::DamageMarks => {
                    if let Some(Stored::Ours { key, damaged }) = &mut self.secret {
                        *damaged = true;
                        *key = key.take().filter(|_| action == Action::DamageSecret);
                    }
                }
                _ => unreachable!("{action:?} is no edit"),
            }
        }
    }
}

fn explore(rotates: bool) {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let checker = Life { rotates }.checker().threads(threads).spawn_bfs().join();
    if let Some((name, path)) = checker.discoveries().into_iter().next() {
        let actions: Vec<_> = path.clone().into_actions();
        let last = path.last_state();
        panic!("{name} fails after {actions:?}\n{last:?}\n{:?}", last.settles());
    }
    assert!(checker.unique_state_count() > 10_000, "the model explores next to nothing");
}

#[test]
fn a_key_lives_and_dies_by_the_rules() {
    explore(false);
}

#[test]
fn a_rotating_key_lives_and_dies_by_the_rules() {
    explore(true);
}
