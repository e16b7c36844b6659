//! What happens in a run, drawn from its seed: who does what, and when. A failure can be replayed with a part of it.

use std::{fmt, time::Duration};

use serde_json::{Value, json};

use super::{
    Chance, Mishap, Requests, Trouble, actors::Plan, hostile::Attack, network::LATEST, sides::SideChange,
};

/// Something that happens at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The time since the start.
    pub at: Duration,
    /// What happens.
    pub what: Action,
}

/// An action of somebody other than the operator. Numbers of ServiceKeys, sides and replicas count from 0, modulo how
/// many there are.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A user applies a ServiceKey in one of its variants: creates it, or changes it.
    Apply {
        /// The ServiceKey.
        key: usize,
        /// The variant; 0 is the plain one.
        variant: u32,
    },
    /// A user creates a ServiceKey in its plain variant, if none of its name exists.
    Create {
        /// The ServiceKey.
        key: usize,
    },
    /// A user deletes a ServiceKey.
    Delete {
        /// The ServiceKey.
        key: usize,
    },
    /// A user requests the next key by an annotation.
    Rotate {
        /// The ServiceKey.
        key: usize,
    },
    /// A user suspends a ServiceKey, or resumes it.
    Suspend {
        /// The ServiceKey.
        key: usize,
        /// Whether it is suspended afterwards.
        suspended: bool,
    },
    /// A user removes all finalizers from a ServiceKey that is being deleted.
    StripFinalizers {
        /// The ServiceKey.
        key: usize,
    },
    /// A user creates a Secret of their own under the name of a ServiceKey's Secret, if none exists.
    ForeignSecret {
        /// The ServiceKey.
        key: usize,
    },
    /// A user deletes the Secret of a ServiceKey, whoever wrote it.
    DeleteSecret {
        /// The ServiceKey.
        key: usize,
    },
    /// A user changes an entry in the Secret of a ServiceKey.
    EditSecret {
        /// The ServiceKey.
        key: usize,
    },
    /// A tenant writes marks of another key into the Secret of a ServiceKey.
    ForgeMarks {
        /// The ServiceKey.
        key: usize,
        /// The sequence that the forged mark names.
        sequence: u32,
    },
    /// Another controller adds a finalizer of its own to a ServiceKey.
    Guard {
        /// The ServiceKey.
        key: usize,
        /// The time until it removes the finalizer.
        lasts: Duration,
    },
    /// A GitOps tool applies a ServiceKey again and again.
    Reapply {
        /// The ServiceKey.
        key: usize,
        /// The variant.
        variant: u32,
        /// For how long.
        lasts: Duration,
    },
    /// All ServiceKeys and their Secrets are lost, while no operator runs, and restored from a backup: with new UIDs,
    /// without statuses and owner references.
    Restore,
    /// Somebody undoes each write of a ServiceKey's Secret at once.
    SecondWriter {
        /// The ServiceKey.
        key: usize,
        /// For how long.
        lasts: Duration,
    },
    /// A policy of the cluster adds a label to each Secret.
    MutatingPolicy {
        /// For how long.
        lasts: Duration,
    },
    /// A policy of the cluster refuses each new or changed Secret.
    RefusingPolicy {
        /// For how long.
        lasts: Duration,
    },
    /// A quota permits no further Secret.
    Quota {
        /// For how long.
        lasts: Duration,
    },
    /// An administrator replaces the login Secret of a provider by a wrong or the right one.
    Login {
        /// The side.
        side: usize,
        /// Whether it works.
        right: bool,
    },
    /// An administrator deletes a provider, and creates it again later.
    ReplaceProvider {
        /// The side.
        side: usize,
        /// The time between.
        absent: Duration,
    },
    /// A namespace is deleted, and created again later with its providers.
    DeleteNamespace {
        /// The time between.
        absent: Duration,
    },
    /// Something changes at a remote side.
    Side {
        /// The side.
        side: usize,
        /// What changes.
        change: SideChange,
    },
    /// Requests to a remote side have mishaps.
    SideTrouble {
        /// The side.
        side: usize,
        /// The mishaps.
        trouble: Trouble,
    },
    /// Requests to the API server have mishaps.
    ClusterTrouble(Trouble),
    /// The watches end, and the API server has forgotten the versions that they would continue from.
    ForgetHistory,
    /// The watches show no changes for a time.
    StaleWatches {
        /// For how long.
        lasts: Duration,
    },
    /// The watches of ServiceKeys show changes in batches, and those of other objects at once.
    LateWatch {
        /// The time between two batches.
        lag: Duration,
        /// For how long.
        lasts: Duration,
    },
    /// A process of the operator is killed right after some more effects.
    Crash {
        /// The replica.
        replica: usize,
        /// How many.
        effects: u32,
    },
    /// A process of the operator stands still.
    Freeze {
        /// The replica.
        replica: usize,
        /// For how long.
        lasts: Duration,
    },
    /// A hostile tenant creates a provider, and a ServiceKey that uses it.
    Attack {
        /// The number in the names of both.
        number: usize,
        /// The provider.
        attack: Attack,
    },
    /// The events of each watch wait for a time of their own, again and again.
    ReorderWatches {
        /// For how long.
        lasts: Duration,
    },
    /// The clocks of all machines jump.
    ClockJump {
        /// By how many seconds.
        seconds: i64,
    },
    /// A user changes the content of the Secret that `parametersFrom` names in the namespace of a ServiceKey.
    ChangeParameters {
        /// The ServiceKey.
        key: usize,
        /// The content.
        size: u32,
    },
    /// A pod starts that reads the Secret of a ServiceKey into its environment. The pod before it ends.
    StartPod {
        /// The ServiceKey.
        key: usize,
        /// The age of the version of the Secret that the kubelet knows.
        late: Duration,
        /// By how much the clock of the node is ahead.
        ahead: Duration,
    },
    /// Somebody deletes the Secret with the credentials of a ServiceKey that are not published yet.
    DeleteStaged {
        /// The ServiceKey.
        key: usize,
    },
    /// Somebody changes that Secret.
    EditStaged {
        /// The ServiceKey.
        key: usize,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>8.1} s  {:?}", self.at.as_secs_f64(), self.what)
    }
}

/// How late a kubelet may learn of a new version of a Secret, in milliseconds.
const LATEST_KUBELET: u32 = 30_000;
/// How far the clock of a node may be ahead, in milliseconds. Times in the status of a pod are whole seconds.
const FASTEST_NODE: u32 = 59_000;

/// The variants of a ServiceKey.
pub const VARIANTS: u32 = 8;

/// Draws the events of a run, in the order of their time. Users are busy for this long.
#[must_use]
pub fn draw(chance: &Chance, plan: &Plan, busy: Duration) -> Vec<Event> {
    let mut events = Vec::new();
    // Each ServiceKey exists early in most runs.
    for key in 0..plan.keys.len() {
        if chance.percent(85) {
            let variant = if chance.percent(60) { 0 } else { chance.below(VARIANTS) };
            let at = chance.seconds(0..120);
            events.push(Event { at, what: Action::Apply { key, variant } });
            if chance.percent(30) {
                events.push(Event { at, what: Action::Guard { key, lasts: chance.millis(20..1500) } });
            }
        }
    }
    let last = u32::try_from(busy.as_secs()).unwrap_or(u32::MAX);
    let count = chance.within(5..40);
    // Each run has a character: a few kinds of actions dominate, so that they meet each other.
    let favourites: Vec<u32> = (0..chance.within(2..6)).map(|_| chance.below(KINDS)).collect();
    for _ in 0..count {
        let kind = if chance.percent(70) { *chance.pick(&favourites) } else { chance.below(KINDS) };
        events.push(Event { at: chance.seconds(20..last), what: action(chance, kind) });
    }
    for _ in 0..chance.below(3) {
        let began = chance.seconds(20..last);
        let encounter = encounter(chance, plan).into_iter();
        events.extend(encounter.map(|event| Event { at: began + event.at, ..event }));
    }
    events.retain(|event| event.at < busy);
    events.sort_by_key(|event| event.at);
    events
}

/// Draws the attacks of a hostile tenant, and what misleads the operator: links in answers that lead elsewhere, and
/// watches that show changes in another order. Most runs have only one of them.
#[must_use]
pub fn draw_deceptions(chance: &Chance, busy: Duration) -> Vec<Event> {
    let busy = u32::try_from(busy.as_secs()).unwrap_or(u32::MAX);
    let mut events = Vec::new();
    let number = |end| usize::try_from(chance.below(end)).unwrap_or_default();
    if chance.percent(20) {
        for of_attack in 0..chance.within(1..4) {
            let attack = match chance.below(8) {
                0..=3 => Attack::OwnSide,
                4 => Attack::OthersSide(number(4)),
                5 => Attack::OthersLogin(number(4)),
                6 => Attack::Mixed(number(4)),
                _ => Attack::ForbiddenAddress(number(4)),
            };
            let what = Action::Attack { number: usize::try_from(of_attack).unwrap_or_default(), attack };
            events.push(Event { at: chance.seconds(1..busy), what });
        }
    }
    if chance.percent(20) {
        let trouble = Trouble {
            mishap: Mishap::StrayLinks,
            percent: 60,
            lasts: chance.seconds(5..900),
            of: Requests::All,
        };
        let what = Action::SideTrouble { side: number(4), trouble };
        events.push(Event { at: chance.seconds(1..busy), what });
    }
    if chance.percent(20) {
        for _ in 0..chance.within(1..4) {
            let what = Action::ReorderWatches { lasts: chance.seconds(5..600) };
            events.push(Event { at: chance.seconds(1..busy), what });
        }
    }
    events
}

/// Draws the starts of the pods that use the ServiceKeys whose keys [wait](Plan::waits_for_pods) for them.
#[must_use]
pub fn draw_pods(chance: &Chance, plan: &Plan, busy: Duration) -> Vec<Event> {
    let busy = u32::try_from(busy.as_secs()).unwrap_or(u32::MAX);
    let mut events = Vec::new();
    for key in (0..plan.keys.len()).filter(|key| plan.waits_for_pods[*key]) {
        for _ in 0..chance.within(1..8) {
            let (late, ahead) = (chance.millis(0..LATEST_KUBELET), chance.millis(0..FASTEST_NODE));
            let what = Action::StartPod { key, late, ahead };
            events.push(Event { at: chance.seconds(60..busy), what });
        }
    }
    events
}

/// Draws the changes of the parameters that ServiceKeys [follow](Plan::follows_parameters).
#[must_use]
pub fn draw_parameters(chance: &Chance, plan: &Plan, busy: Duration) -> Vec<Event> {
    let busy = u32::try_from(busy.as_secs()).unwrap_or(u32::MAX);
    let mut events = Vec::new();
    for key in (0..plan.keys.len()).filter(|key| plan.follows_parameters[*key]) {
        for _ in 0..chance.within(1..4) {
            let what = Action::ChangeParameters { key, size: chance.within(1..5) };
            events.push(Event { at: chance.seconds(1..busy), what });
        }
    }
    events
}

/// Draws how the new keys of a ServiceKey are verified.
#[must_use]
pub fn draw_verify(chance: &Chance) -> Value {
    let mut verify = match chance.below(3) {
        0 => json!({"redis": {"address": "{{ hostname }}:6379", "password": "{{ password }}"}}),
        1 => json!({"postgres": {
            "address": "{{ hostname }}:{{ port }}",
            "user": "{{ username }}",
            "password": "{{ password }}",
            "database": "app",
        }}),
        _ => json!({"http": {"url": "https://{{ hostname }}/", "headers": {"X-Key": "{{ password }}"}}}),
    };
    if chance.percent(70) {
        verify["within"] = format!("{}s", chance.within(20..600)).into();
    }
    if chance.percent(70) {
        verify["every"] = format!("{}s", chance.within(1..60)).into();
    }
    verify
}

/// Draws the changes of the Secrets with the credentials of ServiceKeys that are [verified](Plan::verify).
#[must_use]
pub fn draw_staging(chance: &Chance, plan: &Plan, busy: Duration) -> Vec<Event> {
    let busy = u32::try_from(busy.as_secs()).unwrap_or(u32::MAX);
    let mut events = Vec::new();
    for key in (0..plan.keys.len()).filter(|key| plan.verify[*key].is_some()) {
        for _ in 0..chance.below(6) {
            let what =
                if chance.percent(50) { Action::DeleteStaged { key } } else { Action::EditStaged { key } };
            events.push(Event { at: chance.seconds(1..busy), what });
        }
    }
    events
}

/// The kinds of actions that [`action`] draws.
const KINDS: u32 = 24;

fn action(chance: &Chance, kind: u32) -> Action {
    let key = usize::try_from(chance.below(8)).unwrap_or_default();
    let side = usize::try_from(chance.below(4)).unwrap_or_default();
    let replica = usize::try_from(chance.below(2)).unwrap_or_default();
    match kind {
        0 | 1 => Action::Apply { key, variant: chance.below(VARIANTS) },
        2 => Action::Delete { key },
        3 => Action::Rotate { key },
        4 => Action::Suspend { key, suspended: chance.percent(50) },
        5 => match chance.below(6) {
            0 => Action::StripFinalizers { key },
            _ => Action::Delete { key },
        },
        6 => Action::ForeignSecret { key },
        7 => Action::DeleteSecret { key },
        8 => Action::EditSecret { key },
        9 => Action::ForgeMarks { key, sequence: chance.within(1..6) },
        10 => Action::SecondWriter { key, lasts: chance.seconds(10..900) },
        11 => match chance.below(3) {
            0 => Action::MutatingPolicy { lasts: chance.seconds(10..900) },
            1 => Action::RefusingPolicy { lasts: chance.seconds(10..900) },
            _ => Action::Quota { lasts: chance.seconds(10..900) },
        },
        12 => Action::Login { side, right: chance.percent(40) },
        13 => Action::ReplaceProvider { side, absent: chance.seconds(1..300) },
        14 if chance.percent(30) => Action::DeleteNamespace { absent: chance.seconds(60..300) },
        14 | 15 => Action::Side {
            side,
            change: match chance.below(5) {
                0 => SideChange::RefuseLogin(chance.percent(50)),
                1 => SideChange::Background(chance.percent(60)),
                2 => SideChange::OneAtATime(chance.percent(80)),
                _ => SideChange::LoseKey(usize::try_from(chance.below(4)).unwrap_or_default()),
            },
        },
        16 | 17 => Action::SideTrouble { side, trouble: trouble(chance) },
        18 => Action::ClusterTrouble(Trouble { mishap: cluster_mishap(chance), ..trouble(chance) }),
        19 => match chance.below(2) {
            0 => Action::ForgetHistory,
            _ => Action::StaleWatches { lasts: chance.seconds(1..90) },
        },
        20 => Action::Reapply { key, variant: chance.below(VARIANTS), lasts: chance.seconds(60..1200) },
        21 if chance.percent(20) => Action::Restore,
        21 | 22 => Action::Crash { replica, effects: chance.below(12) },
        _ => match chance.below(2) {
            0 => Action::Freeze { replica, lasts: chance.seconds(1..400) },
            _ => {
                let seconds = i64::from(chance.within(1..3600));
                Action::ClockJump { seconds: if chance.percent(50) { seconds } else { -seconds } }
            }
        },
    }
}

/// Actions of several actors that meet. Drawn one by one, they hardly ever would.
fn encounter(chance: &Chance, plan: &Plan) -> Vec<Event> {
    let key = usize::try_from(chance.below(8)).unwrap_or_default() % plan.keys.len();
    let mut events = match chance.below(4) {
        0 => unanswered_creation(chance, plan, key),
        1 => occupied_instance(chance, plan, key),
        2 => late_news(chance, key),
        _ => restore_with_late_news(chance, key),
    };
    if chance.percent(50) {
        events.push(Event { at: chance.seconds(30..300), what: Action::Create { key } });
    }
    events
}

/// A request for a key gets no answer or takes effect late. Within seconds the user changes their mind, or the operator
/// crashes.
fn unanswered_creation(chance: &Chance, plan: &Plan, key: usize) -> Vec<Event> {
    let mishap = match chance.below(5) {
        0 => Mishap::LostAnswer,
        1 => Mishap::Hangs,
        _ => Mishap::Late(chance.seconds(2..latest())),
    };
    let trouble = Trouble { mishap, percent: 100, lasts: chance.seconds(2..20), of: Requests::Creations };
    let start = |what| Event { at: Duration::ZERO, what };
    let mut events = vec![start(Action::SideTrouble { side: plan.keys[key].1, trouble })];
    if chance.percent(30) {
        events.push(start(Action::Apply { key, variant: chance.below(VARIANTS) }));
    } else {
        events.extend([Action::Create { key }, Action::Rotate { key }].map(start));
    }
    let (deletion, crash) = (Action::Delete { key }, Action::Crash { replica: 0, effects: 0 });
    let then = match chance.below(5) {
        0 => vec![deletion],
        1 => vec![Action::Apply { key, variant: chance.below(VARIANTS) }],
        2 => vec![crash],
        _ => vec![crash, deletion],
    };
    events.extend(then.into_iter().map(|what| Event { at: chance.millis(300..2000), what }));
    events
}

/// ServiceKeys of one instance are deleted while another client's operation is under way there.
fn occupied_instance(chance: &Chance, plan: &Plan, key: usize) -> Vec<Event> {
    let side = plan.keys[key].1;
    let change = |at, change| Event { at, what: Action::Side { side, change } };
    let mut events = vec![
        change(Duration::ZERO, SideChange::Background(chance.percent(70))),
        change(chance.seconds(0..2), SideChange::Occupied(true)),
        change(chance.seconds(5..300), SideChange::Occupied(false)),
    ];
    let is_deleted = |of: &usize| *of == key || plan.keys[*of].1 == side && chance.percent(60);
    let deleted = (0..plan.keys.len()).filter(is_deleted);
    events.extend(deleted.map(|key| Event { at: chance.seconds(0..4), what: Action::Delete { key } }));
    events
}

/// Much happens to a ServiceKey, and the operator learns of it late, also of its own writes.
fn late_news(chance: &Chance, key: usize) -> Vec<Event> {
    let (lag, lasts) = (chance.seconds(1..30), chance.seconds(20..120));
    let mut events = vec![Event { at: Duration::ZERO, what: Action::LateWatch { lag, lasts } }];
    for _ in 0..chance.within(2..7) {
        let what = match chance.below(6) {
            0 => Action::Apply { key, variant: chance.below(VARIANTS) },
            1 => Action::Rotate { key },
            2 => Action::DeleteSecret { key },
            3 => Action::EditSecret { key },
            4 => Action::Suspend { key, suspended: chance.percent(50) },
            _ => Action::Delete { key },
        };
        events.push(Event { at: chance.seconds(0..90), what });
    }
    events
}

/// All ServiceKeys are restored from a backup. The API server is so busy with it that watches lag. The user of a
/// restored ServiceKey deletes it some time later.
fn restore_with_late_news(chance: &Chance, key: usize) -> Vec<Event> {
    let (lag, lasts) = (chance.seconds(5..60), chance.seconds(30..180));
    vec![
        Event { at: Duration::ZERO, what: Action::Rotate { key } },
        Event { at: chance.seconds(10..60), what: Action::LateWatch { lag, lasts } },
        Event { at: chance.seconds(30..60), what: Action::Restore },
        Event { at: chance.seconds(200..600), what: Action::Delete { key } },
    ]
}

fn latest() -> u32 {
    u32::try_from(LATEST.as_secs()).unwrap_or(1)
}

fn trouble(chance: &Chance) -> Trouble {
    let mishap = match chance.below(9) {
        0 => Mishap::NotConnected,
        1 => Mishap::LostAnswer,
        2 => Mishap::Hangs,
        3 => Mishap::Late(chance.seconds(1..latest())),
        4 => Mishap::Refused(*chance.pick(&[400, 403, 408, 422, 429, 500, 502, 503, 504])),
        5 => Mishap::Mistaken(*chance.pick(&[408, 500, 502, 503, 504])),
        6 => Mishap::CutBody,
        7 => Mishap::WebPage,
        _ => Mishap::Slow(chance.seconds(1..30)),
    };
    let percent = *chance.pick(&[10, 30, 60, 100]);
    Trouble { mishap, percent, lasts: chance.seconds(5..900), of: Requests::All }
}

fn cluster_mishap(chance: &Chance) -> Mishap {
    match chance.below(6) {
        0 => Mishap::NotConnected,
        1 => Mishap::LostAnswer,
        2 => Mishap::Hangs,
        3 => Mishap::Refused(*chance.pick(&[429, 500, 503, 504])),
        4 => Mishap::Mistaken(*chance.pick(&[500, 503, 504])),
        _ => Mishap::Slow(chance.seconds(1..40)),
    }
}
