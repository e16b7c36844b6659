//! Explores exhaustively every state that the production decisions can reach. The user edits and deletes, the remote
//! side refuses, loses keys and does not answer, the process crashes between any two steps, and caches lag.
//!
//! The environment has a small budget of each kind of trouble. Within it, the model covers every order of events.

mod actions;
mod operator;
mod remote_side;
mod settling;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use stateright::{Checker, Model};
use uuid::Uuid;

use self::settling::Restful;
use crate::{api::Reason, lifecycle::*};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ModelState {
    object: Option<Object>,
    recorded: Recorded,
    secret: Option<Stored>,
    /// The keys that exist at the remote side, each with the inputs that it was created from.
    remote: BTreeMap<Sequence, u8>,
    /// Keys that the remote side lost, or revoked, since it returned their credentials. A key that is created again has
    /// others.
    void: BTreeSet<Sequence>,
    /// The inputs of the last key of each number that is gone.
    made_from: BTreeMap<Sequence, u8>,
    /// Keys that no longer have the operator's mark.
    released: BTreeSet<Sequence>,
    /// The pending operation of the remote side, with the inputs of the key.
    working: Option<(RemoteOperation, Sequence, u8)>,
    /// A bind that the operator gave up. It may still take effect until an hour has passed.
    late: Option<(Sequence, u8)>,
    /// The same of an unbind.
    late_unbind: Option<Sequence>,
    provider: ModelProvider,
    /// The record from a time with one key and no pending work, in lives in which a backup is restored.
    backup: Option<Recorded>,
    hour: i64,
    rotates: bool,
    /// The last key with which all workloads were restarted.
    restarted: Option<Sequence>,
    /// The key that the pods use.
    pods: Option<Sequence>,
    /// The key whose credentials are staged.
    staged: Option<Box<KeyRecord>>,
    life: Life,
    process: ModelProcess,
    budget: ExplorationBudget,
    /// The first rule that was broken on the way to this state.
    broken: Option<&'static str>,
}

/// The state of the provider for the ServiceKey.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum ModelProvider {
    Up,
    Closed,
    Down,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Object {
    finalizer: bool,
    deleting: bool,
    abandon: bool,
    /// The user wants to keep the key and the Secret.
    retain: bool,
    suspended: bool,
    inputs: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stored {
    Foreign,
    Ours {
        /// The key that the marks name.
        key: Option<Box<Claim>>,
        /// The key whose credentials the Secret contains.
        credentials: Option<Sequence>,
        previous: Option<Sequence>,
        damaged: bool,
        flaw: Option<Flaw>,
    },
}

/// The operator's memory, which a crash loses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ModelProcess {
    run: RunState,
    view: SecretView<Claim>,
    /// A key that was missing in the last list of all keys.
    missed: Option<Sequence>,
    /// The hour in which the process started.
    since: i64,
    stored_finalizer: bool,
    /// Whether a bind of this process may have created a key.
    may_have_created: bool,
    /// The content of `parametersFrom` that the process read last, and the hour.
    seen: Option<(u8, i64)>,
}

impl ModelProcess {
    fn started(hour: i64) -> Self {
        Self {
            run: RunState::default(),
            view: SecretView::Unknown,
            missed: None,
            since: hour,
            stored_finalizer: false,
            may_have_created: false,
            seen: None,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct ExplorationBudget {
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
    Retain,
    Suspend,
    DeleteSecret,
    DamageSecret,
    DamageMarks,
    /// Another writer changes metadata, or the user wants other templates.
    Mar(Flaw),
    /// The Secret's marks name the key of this number.
    ForgeMarks {
        claimed: Sequence,
        /// Whether the marks do not fit the entries, which stay as they are.
        damages: bool,
    },
    PlaceForeignSecret,
    RemoveForeignSecret,
    ProviderBecomes(ModelProvider),
    RemoteForgets(Sequence),
    /// The operator lists all keys at the remote side.
    List,
    /// A list does not contain the key although the key exists.
    ListMisses,
    WorkEnds,
    /// The pods start again, and use the key in the Secret.
    PodsMove,
    LateBindTakesEffect,
    LateUnbindTakesEffect,
    HourPasses,
    /// Another process reads the status of the backup. Everything else is unchanged.
    StatusRollsBack,
}

/// The result of a call to the remote side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fate {
    Answered,
    Refused,
    LostBeforeEffect,
    LostAfterEffect,
    /// The caller gave up, and the call takes effect later.
    Late,
    /// The call was sent twice: the second one is answered, and the first one takes effect later.
    Repeated,
    /// The call took effect but got no answer, and the next attempt finds its result.
    Unsure,
    /// The caller gave up, and the call takes effect later. The next attempt would find its result.
    UnsureLate,
    /// The remote side completes the call asynchronously.
    Accepted,
}

/// How many hours a previous key stays at most while pods use it.
const KEPT_FOR: u64 = 3;

fn at(hour: i64) -> Timestamp {
    Timestamp::from_second(hour * 3600).unwrap()
}

impl ModelState {
    fn new(life: Life, budget: ExplorationBudget) -> Self {
        let is_outsider = life == Life::Outsider;
        // Every user of the namespace may write a finalizer, and a Secret with marks.
        let forged = KeyRecord {
            sequence: Sequence::FIRST,
            id: None,
            name: None,
            role: None,
            created_at: at(0),
            created_by: None,
            lifetime: Lifetime::default(),
            late_until: None,
            inputs: "0".into(),
            plan_ids: None,
            same_credentials: false,
        };
        let forged = Stored::Ours {
            key: Some(Box::new(forged.into())),
            credentials: None,
            previous: None,
            damaged: false,
            flaw: None,
        };
        Self {
            object: Some(Object { finalizer: is_outsider, ..Object::default() }),
            recorded: Recorded::default(),
            secret: is_outsider.then_some(forged),
            remote: BTreeMap::new(),
            void: BTreeSet::new(),
            made_from: BTreeMap::new(),
            released: BTreeSet::new(),
            working: None,
            late: None,
            late_unbind: None,
            provider: if is_outsider { ModelProvider::Closed } else { ModelProvider::Up },
            backup: None,
            hour: 0,
            rotates: matches!(
                life,
                Life::Rotating | Life::Restarting | Life::Proving | Life::Verifying | Life::RevokingFirst
            ),
            restarted: None,
            pods: None,
            staged: None,
            life,
            process: ModelProcess::started(0),
            budget,
            broken: None,
        }
    }

    fn now(&self) -> Timestamp {
        at(self.hour)
    }

    fn observed(&self, object: &Object) -> Observed {
        let hours = |n: u64| std::time::Duration::from_secs(n * 3600);
        let evidence = self.evidence();
        Observed {
            owner: Uuid::nil(),
            desired: Desired {
                finalizer: object.finalizer,
                deleting: object.deleting,
                abandon: object.abandon,
                abandon_denied: None,
                retain: object.retain,
                retains_secret: object.retain,
                suspended: object.suspended,
                inputs: self.desired_inputs(object),
                follows_parameters: self.life == Life::Following,
                verification: (self.life == Life::Verifying).then(|| VerificationPolicy {
                    within: hours(1),
                    every: hours(1),
                    probe: "a".to_owned(),
                }),
                rotation: RotationPolicy {
                    every: self.rotates.then(|| hours(2)),
                    overlap: hours(1),
                    max_overlap: (self.life == Life::Proving).then(|| hours(KEPT_FOR)),
                    revokes_first: self.life == Life::RevokingFirst,
                },
                windows: Windows::default(),
                restarts: self.life == Life::Restarting,
                keeps_previous: self.life == Life::Rotating,
                adopts: false,
                problem: None,
            },
            recorded: self.recorded.clone(),
            plan: PlanView::NotNeeded,
            noted_first: None,
            secret: self.process.view.clone().believed(&evidence),
            staging: self.staged.as_ref().map_or(StagingView::Absent, |key| StagingView::Holds(key.sequence)),
            provider: match self.provider {
                ModelProvider::Up => ProviderView::Available,
                ModelProvider::Closed => ProviderView::Closed(problem(Reason::ProviderNotAllowed)),
                ModelProvider::Down => ProviderView::Unavailable(problem(Reason::ProviderNotFound)),
            },
            admitted: evidence.admitted,
            marks_keys: evidence.marks_keys,
            pause: None,
            run: self.process.run.clone(),
            missed: self.process.missed,
            grace: GracePeriod {
                patience: hours(1),
                unknown_until: (!self.process.stored_finalizer).then(|| at(self.process.since + 1)),
            },
            all_refused: self.process.stored_finalizer && !self.process.may_have_created,
            repair_from: None,
            other_writers: None,
            companions: BTreeMap::new(),
            parameters: ParametersView {
                read_at: self.process.seen.map(|(_, hour)| at(hour)),
                ..ParametersView::default()
            },
            published: None,
            now: self.now(),
        }
    }

    /// The inputs of a key that is created now. With [`Life::Following`] they are the content of `parametersFrom`.
    fn inputs(&self, inputs: u8) -> Inputs {
        let text = inputs.to_string();
        if self.life != Life::Following {
            return text.as_str().into();
        }
        let digest = ParametersDigest { key_id: "k".to_owned(), digest: text };
        Inputs::new("fields".to_owned(), Some(digest), None, [])
    }

    /// The inputs that the operator wants, as far as it has read them.
    fn desired_inputs(&self, object: &Object) -> Inputs {
        match (self.life, self.process.seen) {
            (Life::Following, Some((seen, _))) => self.inputs(seen),
            (Life::Following, None) => {
                let known = self.recorded.key.as_ref().map(|key| key.inputs.clone());
                Inputs::new("fields".to_owned(), None, None, known)
            }
            _ => self.inputs(object.inputs),
        }
    }

    fn evidence(&self) -> Evidence<'_> {
        Evidence {
            owner: Uuid::nil(),
            recorded: &self.recorded,
            run: &self.process.run,
            admitted: self.provider != ModelProvider::Closed,
            marks_keys: self.life.finds(),
            now: self.now(),
        }
    }

    fn record(&self, sequence: Sequence, inputs: u8) -> KeyRecord {
        KeyRecord {
            sequence,
            id: Some(sequence.to_string()),
            name: None,
            role: None,
            created_at: self.now(),
            created_by: None,
            lifetime: Lifetime::default(),
            late_until: None,
            inputs: self.inputs(inputs),
            plan_ids: None,
            same_credentials: false,
        }
    }

    /// The result of reading the Secret by name.
    fn truth(&self) -> SecretView<Claim> {
        match &self.secret {
            None => SecretView::Absent,
            Some(Stored::Foreign) => {
                SecretView::Foreign { holder: "a Secret that does not belong to a ServiceKey".to_owned() }
            }
            Some(Stored::Ours { key: Some(key), previous, damaged: false, flaw, .. }) => {
                SecretView::Intact { key: Claim::clone(key), previous: *previous, flaw: *flaw }
            }
            Some(Stored::Ours { key, previous, .. }) => {
                SecretView::Damaged { key: key.as_deref().cloned(), previous: *previous }
            }
        }
    }

    /// The content of the cache, which contains only Secrets of the operator.
    fn cached(&self) -> SecretView<Claim> {
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
}

fn problem(reason: Reason) -> Problem {
    Problem { reason, message: "not now".to_owned() }
}

fn failure(attempted: Attempted, class: ErrorClass) -> Failure {
    Failure { attempted, class, message: "it failed".to_owned(), retry_after: None }
}

/// The kinds of trouble that an exploration is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Life {
    /// The key is created, edited and deleted.
    Plain,
    /// The key is rotated by age.
    Rotating,
    /// Like `Rotating`, and workloads restart after each rotation.
    Restarting,
    /// Like `Rotating`, and the operator revokes a previous key only when no pod uses it.
    Proving,
    /// Like `Rotating`, and new credentials are published only after the service has accepted them.
    Verifying,
    /// The edits change the content of `parametersFrom`, which no watch shows, and the user wants another key then.
    Following,
    /// Like `Rotating`, but the operator revokes a key before it creates the next one.
    RevokingFirst,
    /// A repeated request returns the key that the first one created.
    FoundAgain,
    /// Like `FoundAgain`, but the remote side also loses keys, and the operator may list all keys at any time.
    Lost,
    /// A status from a backup is older than the Secret.
    RolledBack,
    /// The user changes the deletion policy repeatedly, and suspends the ServiceKey now and then.
    Wavering,
    /// A tenant forges the marks on the Secret.
    Forged,
    /// Like `Forged`, but a repeated request returns the key that the first one created.
    ForgedAndFound,
    /// The provider never admits the namespace, and a tenant forges marks there.
    Outsider,
}

impl Life {
    const fn finds(self) -> bool {
        matches!(self, Self::FoundAgain | Self::Lost | Self::Wavering | Self::ForgedAndFound)
    }
}

struct Exploration {
    life: Life,
    budget: ExplorationBudget,
    restful: Restful,
}

/// Visits every state of a key that so many `faults`, `crashes`, `edits` and `hours` of trouble can lead to.
///
/// # Panics
/// A rule is broken in one of them, or a healthy environment does not lead to rest from there.
#[allow(dead_code, reason = "the package `lifecycle-models` calls it")]
pub(crate) fn explore(life: Life, [faults, crashes, edits, hours]: [u8; 4]) -> usize {
    let budget = ExplorationBudget { faults, crashes, edits, hours };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let model = Exploration { life, budget, restful: Restful::default() };
    let checker = model.checker().threads(threads).spawn_bfs().join();
    if let Some((name, path)) = checker.discoveries().into_iter().next() {
        let actions: Vec<_> = path.clone().into_actions();
        let last = path.last_state();
        panic!("{name} fails after {actions:?}\n{last:?}\n{:?}", last.settles(&Restful::default()));
    }
    let fewest = if life == Life::Outsider { 100 } else { 10_000 };
    let states = checker.unique_state_count();
    assert!(states > fewest, "the model explores too few states: {states}");
    states
}

/// The seed of the walks, so that each run takes the same ones.
const SEED: u64 = 1;
const WALKS: usize = 500;
const STEPS: usize = 60;

/// Walks through some of the states of each life. The package `lifecycle-models` visits all of them.
pub(super) fn wander() {
    let mut random = fastrand::Rng::with_seed(SEED);
    let lives = [
        Life::Plain,
        Life::Rotating,
        Life::Restarting,
        Life::Proving,
        Life::Verifying,
        Life::Following,
        Life::RevokingFirst,
        Life::FoundAgain,
        Life::Lost,
        Life::RolledBack,
        Life::Wavering,
        Life::Forged,
        Life::ForgedAndFound,
        Life::Outsider,
    ];
    for life in lives {
        let budget = ExplorationBudget { faults: 2, crashes: 1, edits: 2, hours: 3 };
        let model = Exploration { life, budget, restful: Restful::default() };
        for _ in 0..WALKS {
            let mut state = ModelState::new(life, budget);
            for _ in 0..STEPS {
                let mut actions = vec![Action::Step(Fate::Answered)];
                if random.u8(..3) == 0 {
                    model.actions(&state, &mut actions);
                }
                let action = random.choice(actions);
                let next = action.and_then(|action| model.next_state(&state, action));
                state = next.unwrap_or(state);
            }
        }
    }
}
