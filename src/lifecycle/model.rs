//! Every state that the production decisions can reach, explored exhaustively: the user edits and deletes, the
//! remote side refuses, loses answers and forgets, the process dies between any two steps, caches lag.
//!
//! The environment has a small budget of each kind of trouble; within it, no order of events is left out.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    hash::{BuildHasher, RandomState},
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;
use stateright::{Checker, Model, Property};
use uuid::Uuid;

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
    /// Keys that the remote side lost, or revoked, since it gave their credentials: one that is made again has others.
    void: BTreeSet<Sequence>,
    /// Keys that bear our mark no more.
    released: BTreeSet<Sequence>,
    /// What the remote side does by itself, with the inputs of the key.
    working: Option<(Work, Sequence, u8)>,
    /// A bind that was given up, and may still take effect until an hour has passed.
    late: Option<(Sequence, u8)>,
    provider: Provider,
    /// The memory of a time at which there was one key and nothing to be done, where such a time is to come back.
    backup: Option<Memory>,
    hour: i64,
    rotates: bool,
    life: Life,
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
    /// Key and Secret are to stay.
    retain: bool,
    suspended: bool,
    inputs: u8,
}

/// The Secret as stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stored {
    Foreign,
    Ours { key: Option<Box<KeyRecord>>, previous: Option<Sequence>, damaged: bool },
}

/// What the operator holds in memory, and loses when it dies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Process {
    round: Round,
    view: SecretView,
    /// A key that the last list of all keys did not show.
    missed: Option<Sequence>,
    /// The hour in which it was started.
    since: i64,
    stored_finalizer: bool,
}

impl Process {
    fn started(hour: i64) -> Self {
        Self {
            round: Round::default(),
            view: SecretView::Unknown,
            missed: None,
            since: hour,
            stored_finalizer: false,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
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
    /// The other deletion policy.
    Retain,
    /// Or not any more.
    Suspend,
    DeleteSecret,
    DamageSecret,
    DamageMarks,
    PlaceForeignSecret,
    RemoveForeignSecret,
    ProviderBecomes(Provider),
    RemoteForgets(Sequence),
    /// All keys at the remote side are listed.
    List,
    /// A list does not show the key although it is there.
    ListMisses,
    WorkEnds,
    LateBindTakesEffect,
    HourPasses,
    /// Another process finds the status as it was at the time of the backup, and everything else as it is.
    StatusRollsBack,
}

/// What becomes of a call to the remote side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fate {
    Answered,
    Refused,
    LostBeforeEffect,
    LostAfterEffect,
    /// Given up by the caller, and acted on later.
    Late,
    /// Lost after it took effect, which the next attempt finds.
    Unsure,
    /// Given up by the caller, and acted on later, when the next attempt would find it.
    UnsureLate,
    /// The remote side does it by itself.
    Accepted,
}

fn at(hour: i64) -> Timestamp {
    Timestamp::from_second(hour * 3600).unwrap()
}

impl State {
    fn new(life: Life, budget: Budget) -> Self {
        Self {
            object: Some(Object::default()),
            memory: Memory::default(),
            secret: None,
            remote: BTreeMap::new(),
            void: BTreeSet::new(),
            released: BTreeSet::new(),
            working: None,
            late: None,
            provider: Provider::Up,
            backup: None,
            hour: 0,
            rotates: matches!(life, Life::Rotating | Life::MakingRoom),
            life,
            process: Process::started(0),
            budget,
            broken: None,
        }
    }

    fn now(&self) -> Timestamp {
        at(self.hour)
    }

    fn world(&self, object: &Object) -> World {
        let hours = |n: u64| std::time::Duration::from_secs(n * 3600);
        World {
            owner: Uuid::nil(),
            desired: Desired {
                finalizer: object.finalizer,
                deleting: object.deleting,
                abandon: object.abandon,
                retain: object.retain,
                retains_secret: object.retain,
                suspended: object.suspended,
                inputs: object.inputs.to_string(),
                rotation: Rotation {
                    every: self.rotates.then(|| hours(2)),
                    overlap: hours(1),
                    makes_room: self.life == Life::MakingRoom,
                },
                keeps_previous: self.life == Life::Rotating,
                problem: None,
            },
            memory: self.memory.clone(),
            secret: self.process.view.clone(),
            provider: match self.provider {
                Provider::Up => ProviderView::Available,
                Provider::Closed => ProviderView::Closed(problem(Reason::ProviderNotAllowed)),
                Provider::Down => ProviderView::Unavailable(problem(Reason::ProviderNotFound)),
            },
            marks_keys: self.life.finds(),
            pause: None,
            round: self.process.round.clone(),
            missed: self.process.missed,
            late: LateAnswers {
                patience: hours(1),
                unknown_until: (!self.process.stored_finalizer).then(|| at(self.process.since + 1)),
            },
            told: None,
            now: self.now(),
        }
    }

    fn record(&self, sequence: Sequence, inputs: u8) -> KeyRecord {
        KeyRecord {
            sequence,
            id: sequence.to_string(),
            name: None,
            role: None,
            created_at: self.now(),
            created_by: None,
            expires_at: None,
            renew_before: None,
            late_until: None,
            inputs: inputs.to_string(),
        }
    }

    /// What a look at the Secret by name shows.
    fn truth(&self) -> SecretView {
        match &self.secret {
            None => SecretView::Absent,
            Some(Stored::Foreign) => SecretView::Foreign { holder: "somebody else".to_owned() },
            Some(Stored::Ours { key: Some(key), previous, damaged: false }) => {
                SecretView::Intact { key: KeyRecord::clone(key), previous: *previous }
            }
            Some(Stored::Ours { key, previous, .. }) => {
                SecretView::Damaged { key: key.as_deref().cloned(), previous: *previous }
            }
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
            Step::Rest(rest) => self.rest(&object, &rest),
            Step::Act(effect) => self.act(&object, effect, fate),
        }
    }

    fn rest(&mut self, object: &Object, rest: &Rest) {
        self.check_readiness(object, &rest.report);
        if !rest.quiet {
            self.memory = rest.report.memory.clone();
        }
        if self.life == Life::RolledBack && self.holds(Sequence::FIRST) && self.ended().is_ok() {
            self.backup = Some(self.memory.clone());
        }
        let now = self.now();
        let Round { in_hand, mut under_way, given_up, .. } = std::mem::take(&mut self.process.round);
        if let (Wake::Poll, Some(work)) = (rest.wake, &mut under_way) {
            work.next_poll = Some(now);
        }
        self.process.round = Round { in_hand, under_way, given_up, ..Round::default() };
    }

    fn check_readiness(&mut self, object: &Object, report: &Report) {
        let works = match &self.process.view {
            SecretView::Intact { key, .. } => {
                self.truth() == self.process.view
                    && self.has(key.sequence)
                    && self.memory.key.as_ref().is_none_or(|known| known.sequence <= key.sequence)
            }
            _ => false,
        };
        self.breaks("6: Ready while the key works", works && !object.deleting && !report.ready.ready);
    }

    fn act(&mut self, object: &Object, effect: Effect, fate: Fate) {
        let in_hand = self.process.round.in_hand.clone();
        let records = matches!(effect, Effect::Record(_));
        self.breaks("nothing is done while the user stops it", object.suspended && !records);
        match effect {
            Effect::CheckInstance => {
                let refused = Answer::Failed(failure(Attempted::Provision, ErrorClass::Gone));
                let answer = if fate == Fate::Refused { refused } else { Answer::InstanceChecked };
                self.process.round.learn(answer);
            }
            Effect::AddFinalizer => {
                let unneeded = !self.process.round.instance_checked && self.remote.is_empty();
                let unused = unneeded && self.memory == Memory::default() && self.secret.is_none();
                self.breaks("nothing is held back that no key can be made for", unused);
                self.object = Some(Object { finalizer: true, ..object.clone() });
                self.process.stored_finalizer = true;
            }
            Effect::LookUpSecret => self.process.view = self.truth(),
            Effect::Record(report) => {
                self.check_readiness(object, &report);
                self.memory = report.memory;
            }
            Effect::Bind { sequence, predecessor } => {
                self.breaks("a key replaces itself", predecessor >= Some(sequence));
                let looked = !matches!(self.process.view, SecretView::Unknown | SecretView::Foreign { .. });
                self.breaks("1: finalizer before anything is made", !object.finalizer);
                self.breaks("4: look for a foreign Secret before a key is made", !looked);
                self.breaks("5: store what is in hand first", in_hand.is_some());
                self.breaks("a key is made for a deleted ServiceKey", object.deleting);
                self.breaks("a key is made where none may be", self.provider != Provider::Up);
                self.breaks(
                    "a key is made while it is being revoked",
                    self.waits_for_revocation_of(sequence),
                );
                self.bind(object, sequence, fate);
            }
            Effect::Fetch(sequence) => {
                self.breaks("5: store what is in hand first", in_hand.is_some());
                self.fetch(sequence, fate);
            }
            Effect::Confirm(sequence) => self.confirm(sequence, fate),
            Effect::Poll(work) => self.poll(work, fate),
            Effect::Unbind(sequence) => {
                let current = self.holds(sequence);
                let makes_room = self.life == Life::MakingRoom && self.memory.makes_room();
                self.breaks("2: never revoke the current key", current && !object.deleting && !makes_room);
                let besides = self.holds_besides(sequence);
                self.breaks(
                    "a previous key leaves the Secret before it is revoked",
                    besides && !object.deleting,
                );
                self.unbind(sequence, fate);
            }
            Effect::Release(sequence) => {
                self.breaks("a key is released that is to be revoked", !(object.deleting && object.retain));
                self.release(sequence, fate);
            }
            Effect::WriteSecret { key, previous } => self.write_secret(key, previous, fate),
            Effect::OmitPrevious => self.omit_previous(fate),
            Effect::ReleaseSecret => {
                self.breaks("a Secret is left that is to go", !(object.deleting && object.retain));
                self.release_secret(fate);
            }
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
                let left = !self.remote.is_empty() || self.late.is_some() || self.working.is_some();
                self.breaks("3: the finalizer leaves last", !object.abandon && !object.retain && left);
                let marked = self.remote.keys().any(|sequence| !self.released.contains(sequence));
                self.breaks("a key stays that bears a mark", object.retain && !object.abandon && marked);
                self.object = None;
            }
        }
    }

    /// Whether this process knows that the remote side is at work on it, and still waits for the end.
    fn waits_for_revocation_of(&self, sequence: Sequence) -> bool {
        self.process.round.under_way.as_ref().is_some_and(|known| {
            known.work == Work::Unbind && known.sequence == sequence && !known.is_given_up(self.now())
        })
    }

    fn holds(&self, sequence: Sequence) -> bool {
        let Some(Stored::Ours { key: Some(key), damaged: false, .. }) = &self.secret else { return false };
        key.sequence == sequence
    }

    fn holds_besides(&self, sequence: Sequence) -> bool {
        let Some(Stored::Ours { previous, damaged: false, .. }) = &self.secret else { return false };
        *previous == Some(sequence)
    }

    fn bind(&mut self, object: &Object, sequence: Sequence, fate: Fate) {
        let existing = self.remote.get(&sequence).copied();
        let lost = || {
            let failure = failure(Attempted::Provision, ErrorClass::OrphanPossible);
            Answer::Lost(failure, sequence, self.now())
        };
        let answer = match (fate, self.working) {
            (Fate::LostBeforeEffect | Fate::LostAfterEffect | Fate::Late, _) => lost(),
            (Fate::Unsure | Fate::UnsureLate, _) => {
                let failure = failure(Attempted::Provision, ErrorClass::Unsure);
                Answer::Unsure(failure, sequence, self.now())
            }
            (_, Some((Work::Bind, of, inputs))) if of == sequence && inputs == object.inputs => {
                self.accepted(Work::Bind, sequence, inputs)
            }
            (_, Some(_)) => Answer::Failed(failure(Attempted::Provision, ErrorClass::Transient)),
            // Also where the credentials of an existing key are not shown again.
            (Fate::Answered | Fate::Accepted | Fate::Refused, None)
                if existing.is_some_and(|inputs| inputs != object.inputs || fate == Fate::Refused) =>
            {
                Answer::Conflict(failure(Attempted::Provision, ErrorClass::Conflict), sequence)
            }
            (Fate::Accepted, None) if existing.is_none() => {
                self.accepted(Work::Bind, sequence, object.inputs)
            }
            (Fate::Refused, None) => Answer::Failed(failure(Attempted::Provision, ErrorClass::Rejected)),
            (Fate::Answered | Fate::Accepted, None) => Answer::Issued(self.record(sequence, object.inputs)),
        };
        self.gives(&answer);
        match (fate, &answer) {
            (Fate::LostAfterEffect | Fate::Unsure, _) | (_, Answer::Issued(_)) if self.working.is_none() => {
                self.remote.entry(sequence).or_insert(object.inputs);
            }
            (Fate::Late | Fate::UnsureLate, _) => self.late = Some((sequence, object.inputs)),
            (_, Answer::Accepted(_)) => self.working = Some((Work::Bind, sequence, object.inputs)),
            _ => {}
        }
        self.process.round.learn(answer);
    }

    fn accepted(&self, work: Work, sequence: Sequence, inputs: u8) -> Answer {
        Answer::Accepted(UnderWay {
            work,
            sequence,
            token: None,
            since: self.now(),
            ends: at(self.hour + 1),
            next_poll: None,
            retry_after: None,
            first_look: std::time::Duration::ZERO,
            said: None,
            inputs: inputs.to_string(),
        })
    }

    fn fetch(&mut self, sequence: Sequence, fate: Fate) {
        let answer = match (fate, self.remote.get(&sequence)) {
            (Fate::Answered | Fate::Accepted, Some(inputs)) => Answer::Issued(self.record(sequence, *inputs)),
            (Fate::Answered | Fate::Accepted, None) => Answer::Absent(sequence),
            (Fate::Refused, _) => Answer::Unreadable(sequence),
            _ => Answer::Failed(failure(Attempted::Provision, ErrorClass::Transient)),
        };
        self.gives(&answer);
        self.process.round.learn(answer);
    }

    fn lose(&mut self, sequence: Sequence) {
        self.remote.remove(&sequence);
        self.void.insert(sequence);
    }

    fn gives(&mut self, answer: &Answer) {
        if let Answer::Issued(key) = answer {
            self.void.remove(&key.sequence);
        }
    }

    fn confirm(&mut self, sequence: Sequence, fate: Fate) {
        let answer = match fate {
            Fate::Answered if self.has(sequence) => Answer::Present(sequence),
            Fate::Answered => Answer::Absent(sequence),
            _ => Answer::Failed(failure(Attempted::Confirm, ErrorClass::Gone)),
        };
        if fate == Fate::Answered {
            self.process.missed = None;
        }
        self.process.round.learn(answer);
    }

    /// What a list of all keys tells of the one that is taken to be there.
    fn list(&mut self) {
        let known = self.memory.key.as_ref().map(|key| key.sequence);
        self.process.missed = known.filter(|sequence| !self.has(*sequence));
    }

    /// Whether the key is there, and the one that it was: one that was made again has another id.
    fn has(&self, sequence: Sequence) -> bool {
        self.remote.contains_key(&sequence) && !self.void.contains(&sequence)
    }

    fn unbind(&mut self, sequence: Sequence, fate: Fate) {
        let failed = Answer::Failed(failure(Attempted::Revoke, ErrorClass::Transient));
        let answer = match (fate, self.working) {
            (Fate::Answered | Fate::Accepted, Some((Work::Unbind, of, inputs))) if of == sequence => {
                self.accepted(Work::Unbind, sequence, inputs)
            }
            (Fate::Accepted, None) if self.remote.contains_key(&sequence) => {
                self.accepted(Work::Unbind, sequence, 0)
            }
            (Fate::Answered | Fate::Accepted, None) => Answer::Revoked(sequence, self.now()),
            _ => failed,
        };
        match (fate, &answer) {
            (Fate::LostAfterEffect, _) | (_, Answer::Revoked(..)) if self.working.is_none() => {
                self.lose(sequence);
            }
            (_, Answer::Accepted(_)) => self.working = Some((Work::Unbind, sequence, 0)),
            _ => {}
        }
        self.process.round.learn(answer);
    }

    fn poll(&mut self, work: UnderWay, fate: Fate) {
        self.process.round.under_way = Some(work.clone());
        if fate == Fate::Unsure && work.work == Work::Bind {
            // The remote side gives it up, and cleans up by itself.
            self.working = None;
            let failure = failure(Attempted::Provision, ErrorClass::Unsure);
            return self.process.round.learn(Answer::Unsure(failure, work.sequence, self.now()));
        }
        if !matches!(fate, Fate::Answered | Fate::Refused) {
            return self.process.round.learn(Answer::Running { said: None, retry_after: None });
        }
        // Work that the remote side gives up may have left a key behind, or half revoked it.
        self.work_ends();
        let sequence = work.sequence;
        let exists = self.remote.contains_key(&sequence);
        let answer = match work.work {
            Work::Bind if exists && fate == Fate::Answered => Answer::Completed(work),
            Work::Bind => {
                let failure = failure(Attempted::Provision, ErrorClass::OrphanPossible);
                Answer::Lost(failure, sequence, self.now())
            }
            Work::Unbind if !exists => Answer::Revoked(sequence, self.now()),
            Work::Unbind => Answer::Failed(failure(Attempted::Revoke, ErrorClass::Transient)),
        };
        self.process.round.learn(answer);
    }

    fn release(&mut self, sequence: Sequence, fate: Fate) {
        if fate == Fate::Refused {
            let failure = failure(Attempted::Release, ErrorClass::Forbidden);
            return self.process.round.learn(Answer::Failed(failure));
        }
        self.released.insert(sequence);
        self.process.round.learn(Answer::Released(sequence));
    }

    fn release_secret(&mut self, fate: Fate) {
        if fate == Fate::Refused {
            return self.process.round.learn(Answer::Failed(failure(Attempted::Store, ErrorClass::Rejected)));
        }
        if self.truth() == self.process.view {
            // It is somebody else's from then on.
            self.secret = Some(Stored::Foreign);
            self.process.view = self.truth();
        } else {
            self.process.view = SecretView::Unknown;
        }
    }

    fn work_ends(&mut self) {
        match self.working.take() {
            Some((Work::Bind, sequence, inputs)) => drop(self.remote.insert(sequence, inputs)),
            Some((Work::Unbind, sequence, _)) => self.lose(sequence),
            None => {}
        }
    }

    fn hour_passes(&mut self, hours: i64) {
        self.hour += hours;
        if hours > 0 {
            self.late = None;
        }
    }

    /// Every write of the Secret is conditional on what was read.
    fn write_secret(&mut self, key: KeyRecord, previous: Option<Sequence>, fate: Fate) {
        if fate == Fate::Refused {
            let failure = failure(Attempted::Render, ErrorClass::Rejected);
            return self.process.round.learn(Answer::Failed(failure));
        }
        if self.truth() != self.process.view {
            self.process.view = SecretView::Unknown;
            return;
        }
        self.breaks("4: never write a foreign Secret", self.secret == Some(Stored::Foreign));
        self.breaks("a key is kept besides itself or an older one", previous >= Some(key.sequence));
        // Entries that somebody edited are not kept.
        let untouched = matches!(self.secret, Some(Stored::Ours { damaged: false, .. }));
        let previous = previous.filter(|_| untouched);
        self.secret = Some(Stored::Ours { key: Some(Box::new(key.clone())), previous, damaged: false });
        self.process.view = SecretView::Intact { key, previous };
        self.process.round.learn(Answer::Stored);
    }

    fn omit_previous(&mut self, fate: Fate) {
        if fate == Fate::Refused {
            return self.process.round.learn(Answer::Failed(failure(Attempted::Store, ErrorClass::Rejected)));
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

    /// The keys whose existence can be told from what is stored.
    fn accounted_for(&self, sequence: Sequence) -> bool {
        let in_secret = match &self.secret {
            Some(Stored::Ours { key: Some(key), .. }) => Some(key.sequence),
            _ => None,
        };
        let memory = &self.memory;
        let known = memory.key.as_ref().map(|key| key.sequence);
        let skipped = in_secret.is_some_and(|current| memory.skipped(current).contains(&sequence));
        memory.previous.iter().any(|previous| previous.sequence == sequence)
            || skipped
            || [known, in_secret, memory.attempt()].contains(&Some(sequence))
            || (known.is_none() && in_secret.is_none() && sequence == Sequence::FIRST)
    }

    /// Where a healthy environment leads from here; not beyond what is known to come to rest.
    fn settles(&self, restful: &Restful) -> Result<(), String> {
        let mut state = self.clone();
        // Whoever is no longer served can leave all the same.
        let leaves = state.object.as_ref().is_some_and(|object| object.deleting);
        if state.provider == Provider::Down || !leaves {
            state.provider = Provider::Up;
        }
        state.rotates = false;
        if let Some(object) = &mut state.object {
            object.suspended = false;
        }
        // There is no more trouble, and how much there could have been is all the same.
        state.budget = Budget::default();
        state.process.view = state.cached();
        state.work_ends();
        let mut passed = Vec::new();
        for _ in 0..PATIENCE {
            let fingerprint = restful.fingerprint(&state);
            passed.push(fingerprint);
            if restful.holds(fingerprint) || state.goes_to_rest()? {
                restful.extend(passed);
                return Ok(());
            }
        }
        Err(format!("no rest after {PATIENCE} steps: {state:?}"))
    }

    /// Goes one step further where nothing goes wrong; says whether that was the last one.
    fn goes_to_rest(&mut self) -> Result<bool, String> {
        let Some(object) = self.object.clone() else { return self.ended().map(|()| true) };
        let rest = match decide(&self.world(&object)) {
            Step::Act(effect) => {
                self.act(&object, effect, Fate::Answered);
                return Ok(false);
            }
            Step::Rest(rest) => rest,
        };
        self.rest(&object, &rest);
        match rest.wake {
            Wake::At(time) | Wake::PauseEnds(time) => {
                let hour = (time.as_second() + 3599) / 3600;
                self.hour_passes((hour - self.hour).max(0));
            }
            Wake::Poll => {}
            Wake::OnChange => {
                if self.life == Life::Lost {
                    self.list();
                }
                if self.process.missed.is_none() || object.deleting {
                    return self.ended().map(|()| true);
                }
            }
            Wake::Retry { .. } if rest.report.ready.reason == Reason::SecretConflict => {
                return self.ended().map(|()| true);
            }
            Wake::Retry { .. } => self.process.view = self.cached(),
        }
        Ok(false)
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
            Some(Stored::Ours { key: Some(key), previous: None, damaged: false }) => {
                let only = BTreeMap::from([(key.sequence, object.inputs)]);
                if self.remote != only {
                    return complaint("not exactly the current key lives");
                }
                if self.memory != (Memory { key: Some(KeyRecord::clone(key)), ..Memory::default() }) {
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

/// What an exploration is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Life {
    /// Nothing in particular.
    Plain,
    /// The key is replaced as it ages.
    Rotating,
    /// The same, and a key is revoked before the next one is made.
    MakingRoom,
    /// The remote side finds a key again that was asked for before.
    FoundAgain,
    /// The same, and the remote side loses keys, and all that it has are listed at any time.
    Lost,
    /// A status that is older than the Secret comes from a backup.
    RolledBack,
    /// The user thinks again of what is to stay, and stops everything now and then.
    Wavering,
}

impl Life {
    const fn finds(self) -> bool {
        matches!(self, Self::FoundAgain | Self::Lost | Self::Wavering)
    }
}

/// One exploration.
struct Exploration {
    life: Life,
    budget: Budget,
    restful: Restful,
}

/// The states that a healthy environment has led to rest, by their fingerprints: most ways to rest end alike.
#[derive(Default)]
struct Restful {
    fingerprints: Mutex<HashSet<u64>>,
    hasher: RandomState,
}

impl Restful {
    fn fingerprint(&self, state: &State) -> u64 {
        self.hasher.hash_one(state)
    }

    fn holds(&self, fingerprint: u64) -> bool {
        self.fingerprints.lock().unwrap_or_else(PoisonError::into_inner).contains(&fingerprint)
    }

    fn extend(&self, passed: Vec<u64>) {
        self.fingerprints.lock().unwrap_or_else(PoisonError::into_inner).extend(passed);
    }
}

impl Model for Exploration {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.life, self.budget)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let Some(object) = &state.object else { return };
        actions.extend([Action::Step(Fate::Answered), Action::CacheCatchesUp]);
        let budget = &state.budget;
        if budget.faults > 0 {
            actions.extend(state.fates().map(Action::Step));
            let worse = [Provider::Closed, Provider::Down].map(Action::ProviderBecomes);
            actions.extend(worse.into_iter().filter(|_| state.provider == Provider::Up));
            // Where nobody lists the keys, one whose credentials are in hand or in the Secret goes unnoticed.
            let (lists, intact) =
                (state.life == Life::Lost, matches!(state.secret, Some(Stored::Ours { damaged: false, .. })));
            let held = state.process.round.in_hand.as_ref().map(|key| key.sequence);
            let forgettable = state.remote.keys().filter(|key| lists || !intact && Some(**key) != held);
            actions.extend(forgettable.map(|sequence| Action::RemoteForgets(*sequence)));
            actions.extend(state.memory.key.as_ref().filter(|_| lists).map(|_| Action::ListMisses));
        }
        if state.life == Life::Lost {
            actions.push(Action::List);
        }
        if state.provider != Provider::Up {
            actions.push(Action::ProviderBecomes(Provider::Up));
        }
        if state.working.is_some() {
            actions.push(Action::WorkEnds);
        }
        if state.late.is_some() {
            actions.push(Action::LateBindTakesEffect);
        }
        if budget.crashes > 0 {
            actions.push(Action::Crash);
            // What was asked for and not stored anywhere but in the status that is lost can't be known.
            let stored = state.memory.operation.is_none() && state.process.round.in_hand.is_none();
            actions.extend(state.backup.iter().filter(|_| stored).map(|_| Action::StatusRollsBack));
        }
        if budget.hours > 0 {
            actions.push(Action::HourPasses);
        }
        if budget.edits > 0 {
            if !object.deleting {
                actions.push(Action::DeleteObject);
            } else if state.life != Life::RolledBack {
                // Whoever abandons keys has the Secret deleted that tells of those of which the status knows no more.
                actions.push(Action::Abandon);
            }
            actions.push(Action::ChangeInputs);
            if state.life == Life::Wavering {
                actions.extend([Action::Retain, Action::Suspend]);
                return;
            }
            actions.extend(match &state.secret {
                None => vec![Action::PlaceForeignSecret],
                Some(Stored::Foreign) => vec![Action::RemoveForeignSecret],
                // Nothing else tells of the keys that a status from a backup does not know.
                Some(Stored::Ours { .. }) if state.life == Life::RolledBack => vec![Action::DamageSecret],
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
                state.process = Process::started(state.hour);
            }
            Action::StatusRollsBack => {
                state.budget.crashes -= 1;
                state.process = Process::started(state.hour);
                state.memory = state.backup.take().unwrap_or_default();
            }
            Action::HourPasses => {
                state.budget.hours -= 1;
                state.hour_passes(1);
            }
            Action::ProviderBecomes(provider) => {
                state.budget.faults -= u8::from(provider != Provider::Up);
                state.provider = provider;
            }
            Action::List => state.list(),
            Action::ListMisses => {
                state.budget.faults -= 1;
                state.process.missed = state.memory.key.as_ref().map(|key| key.sequence);
            }
            Action::WorkEnds => state.work_ends(),
            Action::LateBindTakesEffect => {
                if let Some((sequence, inputs)) = state.late.take() {
                    state.remote.entry(sequence).or_insert(inputs);
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
            Property::always("no rule is broken", |_, state: &State| state.broken.is_none()),
            Property::always("every key is accounted for", |_, state: &State| {
                state.object.is_none() || state.remote.keys().all(|sequence| state.accounted_for(*sequence))
            }),
            Property::always("a healthy environment leads to rest", |model: &Self, state: &State| {
                state.settles(&model.restful).is_ok()
            }),
        ]
    }
}

impl State {
    /// What may become of the next call besides being answered; one that has no effect of its own has one of these only.
    fn fates(&self) -> impl Iterator<Item = Fate> + use<> {
        let next = self.object.as_ref().map(|object| decide(&self.world(object)));
        let fates: &[Fate] = match next {
            Some(Step::Act(Effect::Bind { .. })) if self.life.finds() => {
                &[Fate::Refused, Fate::Unsure, Fate::UnsureLate, Fate::Accepted]
            }
            Some(Step::Act(Effect::Bind { .. })) => {
                &[Fate::Refused, Fate::LostBeforeEffect, Fate::LostAfterEffect, Fate::Late, Fate::Accepted]
            }
            Some(Step::Act(Effect::Unbind(_))) => &[Fate::Refused, Fate::LostAfterEffect, Fate::Accepted],
            Some(Step::Act(Effect::Fetch(_))) => &[Fate::Refused, Fate::LostBeforeEffect],
            Some(Step::Act(Effect::Poll(_))) if self.life.finds() => &[Fate::Unsure, Fate::LostBeforeEffect],
            Some(Step::Act(Effect::Poll(_))) => &[Fate::Refused, Fate::LostBeforeEffect],
            Some(Step::Act(
                Effect::WriteSecret { .. }
                | Effect::OmitPrevious
                | Effect::Release(_)
                | Effect::ReleaseSecret
                | Effect::CheckInstance
                | Effect::Confirm(_),
            )) => &[Fate::Refused],
            _ => &[],
        };
        fates.iter().copied()
    }

    fn edit(&mut self, action: Action) {
        self.budget.edits -= 1;
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
                    if let Some(Stored::Ours { key, previous, damaged }) = &mut self.secret {
                        *damaged = true;
                        *key = key.take().filter(|_| action == Action::DamageSecret);
                        *previous = previous.filter(|_| action == Action::DamageSecret);
                    }
                }
                _ => unreachable!("{action:?} is no edit"),
            }
        }
    }
}

/// Explores all that `faults`, `crashes`, `edits` and `hours` of trouble can do to a key.
fn explore(life: Life, [faults, crashes, edits, hours]: [u8; 4]) {
    let budget = Budget { faults, crashes, edits, hours };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let model = Exploration { life, budget, restful: Restful::default() };
    let checker = model.checker().threads(threads).spawn_bfs().join();
    if let Some((name, path)) = checker.discoveries().into_iter().next() {
        let actions: Vec<_> = path.clone().into_actions();
        let last = path.last_state();
        panic!("{name} fails after {actions:?}\n{last:?}\n{:?}", last.settles(&Restful::default()));
    }
    assert!(checker.unique_state_count() > 10_000, "the model explores next to nothing");
}

#[test]
fn a_key_lives_and_dies_by_the_rules() {
    explore(Life::Plain, [2, 1, 2, 1]);
}

#[test]
fn a_rotating_key_lives_and_dies_by_the_rules() {
    explore(Life::Rotating, [1, 1, 1, 3]);
}

#[test]
fn a_rotating_key_that_is_edited_again_lives_and_dies_by_the_rules() {
    explore(Life::Rotating, [1, 0, 2, 3]);
}

#[test]
fn a_key_that_makes_room_for_the_next_one_lives_and_dies_by_the_rules() {
    explore(Life::MakingRoom, [1, 1, 1, 3]);
}

#[test]
fn a_key_that_is_found_again_lives_and_dies_by_the_rules() {
    explore(Life::FoundAgain, [2, 1, 2, 1]);
}

#[test]
fn a_key_that_is_lost_is_replaced_by_the_rules() {
    explore(Life::Lost, [2, 1, 1, 1]);
}

#[test]
fn a_key_of_a_wavering_user_lives_and_dies_by_the_rules() {
    explore(Life::Wavering, [1, 1, 3, 1]);
}

#[test]
fn a_key_whose_status_comes_from_a_backup_lives_and_dies_by_the_rules() {
    explore(Life::RolledBack, [0, 1, 3, 1]);
}
