//! The rules that hold at every step. The checks see each change of the cluster and of the remote sides right after it
//! happened, and know its author. They read only the objects that the operator wrote, and nothing of its memory.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    net::IpAddr,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, Uri};
use serde_json::Value;
use servicekey_operator::api::marks::{ABANDON_ANNOTATION, FINALIZER, MANAGED_BY, MANAGED_BY_LABEL};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    actors::PARAMETERS,
    budget::{Budgets, count_within, forget_older, uuids},
    custody::{Custody, Sent},
    logins::Logins,
    sides::SideKey,
    world::WorldClock,
};

/// The most keys of one ServiceKey that may be alive.
const MOST_KEYS: usize = 3;
/// The most keys that may be created for one ServiceKey within an hour, in addition to two for each change by a user.
const MOST_CREATED: usize = 40;
/// The period of [`MOST_CREATED`].
const HOUR: Duration = Duration::from_secs(3600);
/// The longest time in which the operator repairs a Secret that another writer changed. `Ready` may be false meanwhile.
const REPAIR: Duration = Duration::from_secs(3600);
/// How long the Secret contains a key before workloads restart with it.
const SETTLING: Duration = Duration::from_secs(29);
/// The most writes of one Secret by the operator within an hour. Users and other writers cause fewer.
const MOST_WRITTEN: usize = 400;
/// The most calls to a remote side within a minute.
const MOST_CALLS: usize = 360;
/// The shortest time between two logins with the credentials of one key. Users choose one second or more.
const BETWEEN_LOGINS: Duration = Duration::from_millis(900);
/// The longest time for which an effect may follow its decision, apart from pauses of the process.
const IN_FLIGHT: Duration = Duration::from_secs(10);
/// The longest time for which the operator may not know of a change of a ServiceKey, because watches lag.
const UNKNOWN: Duration = Duration::from_secs(120);
/// The time between two reads of the content of parameters.
const READING: Duration = Duration::from_secs(600);
/// How much earlier an overlap may end, because times are full seconds.
const ROUNDING: Duration = Duration::from_secs(3);
/// The annotation by which a user requests another key, as a path.
const ROTATE: &str = "/metadata/annotations/servicekeys.dev~1rotate";
/// The period of [`MOST_CALLS`].
const MINUTE: Duration = Duration::from_secs(60);
/// The time after which a refusal to write Secrets is not news any more.
const KNOWN_REFUSAL: Duration = Duration::from_secs(180);
/// The overlap of a ServiceKey that names none.
const DEFAULT_OVERLAP: Duration = Duration::from_secs(3600);
/// The time in which a key is not replaced for its certificate.
const SHORTEST_USE: Duration = Duration::from_secs(3600);
/// The sequences of one ServiceKey whose ids are known in advance.
const SEQUENCES: u32 = 400;

/// A rule of `docs/design.md`, or a promise that follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Nothing is created at a remote side before the finalizer is stored.
    FinalizerFirst,
    /// No key is revoked while its credentials are in the Secret.
    CurrentKeyStays,
    /// The ServiceKey stays until all its keys are gone.
    NothingLeft,
    /// A Secret of another owner is never written or deleted.
    ForeignSecret,
    /// No Secret contains credentials of another namespace.
    Isolation,
    /// At most three keys of one ServiceKey are alive.
    ThreeKeys,
    /// Nobody can make the operator create key after key, or write a Secret again and again.
    NoStorm,
    /// `Ready` does not turn false while the Secret contains a key that works.
    StaysReady,
    /// The operator waits between attempts.
    NoFlood,
    /// No ServiceKey and no remote side costs more calls within an hour than its budget, whatever others do.
    CallBudget,
    /// No ServiceKey and no provider costs more writes to the API server within an hour than its budget.
    WriteBudget,
    /// The credentials of a new key are stored before the operator changes anything else for its ServiceKey, and before
    /// it uses them.
    StoredFirst,
    /// If a user wants the service to accept new keys first, the Secret contains no key that it did not accept.
    NeverUnverified,
    /// A login is sent only to its own remote side.
    LoginStays,
    /// No request is sent to an address that the policy forbids.
    ForbiddenAddress,
    /// Only the leader changes a remote side.
    OneLeader,
    /// No key is revoked for another one while the Secret can't be written.
    WritableFirst,
    /// No key is replaced without a reason.
    NoNeedlessKey,
    /// A replaced key works until its overlap is over.
    Overlap,
    /// A replaced key works as long as a pod may use it, up to the longest overlap, if its user wants that.
    UnderAPod,
    /// After the trouble, no Secret contains a certificate that has ended.
    Expiry,
    /// Workloads restart once for each rotation, half a minute after the Secret contains the key, and nothing else of
    /// them changes.
    RestartsOnce,
    /// The finalizers of other controllers stay as they are.
    ForeignFinalizer,
    /// The operator follows the protocol of the remote side.
    Protocol,
    /// After the trouble, each ServiceKey is ready or says why not.
    Settles,
    /// After the trouble, nothing is at a remote side without a ServiceKey.
    NoOrphan,
    /// After the trouble, each Secret of the operator has its ServiceKey, and none contains credentials that are not
    /// published.
    NoStraySecret,
    /// After the trouble, nothing happens any more.
    Rest,
    /// The operator keeps nothing in memory about objects that are gone.
    Forgets,
    /// The model of the API server knows all that the operator does.
    Modelled,
}

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// What happened, to which object.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.what)
    }
}

/// A change of one object of the cluster.
#[derive(Clone, Copy, Debug)]
pub struct ClusterChange<'a> {
    /// The resource, such as `secrets`.
    pub resource: &'a str,
    /// The object before; `None`: it was created.
    pub before: Option<&'a Value>,
    /// The object now; `None`: it is gone.
    pub after: Option<&'a Value>,
}

/// The author of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    /// A process of the operator.
    Operator,
    /// Anybody else.
    Other,
}

/// The knowledge of the checks.
#[derive(Debug, Default)]
pub struct Checks {
    clock: WorldClock,
    service_keys: BTreeMap<Uuid, KnownServiceKey>,
    /// The ServiceKeys that continue with the keys of a former one, by its UID.
    heirs: BTreeMap<Uuid, Uuid>,
    /// The providers of all ServiceKeys that ever continued with the keys of a former one, by its UID.
    continued_through: BTreeMap<Uuid, BTreeSet<(String, String)>>,
    /// The ids that keys have at brokers, by UID and sequence of the ServiceKey.
    derived: BTreeMap<String, (Uuid, u32)>,
    alive: BTreeMap<(usize, String), SideKey>,
    /// The ServiceKey of each secret text that a remote side ever created.
    issued: BTreeMap<String, Uuid>,
    /// The ServiceKeys that lost a key at a broker. A broker can't list its keys, so the operator can't notice the loss.
    robbed: BTreeSet<Uuid>,
    /// The texts in each Secret of the operator, by namespace and name, and those of the current key alone.
    secrets: BTreeMap<(String, String), [BTreeSet<String>; 2]>,
    /// The texts in each Secret with credentials that are not published yet, by namespace and name.
    staged: BTreeMap<(String, String), BTreeSet<String>>,
    /// The secret texts with which a service accepted a login.
    accepted: BTreeSet<String>,
    /// The process that last logged in to a service with each secret text, and when.
    tried: BTreeMap<String, (String, Instant)>,
    /// The Secrets of a backup that the operator has not taken up. Nothing proves that they are its own.
    backups: BTreeSet<(String, String)>,
    /// The texts of the current key that each running pod read from a Secret, by namespace and name.
    pods: BTreeMap<(String, String), BTreeSet<String>>,
    /// The parameters of each namespace, which its ServiceKeys may follow.
    parameters: BTreeMap<String, Value>,
    /// When another writer last changed each Secret.
    touched: BTreeMap<(String, String), Instant>,
    /// The Secrets whose number another writer changed. Nothing else names the keys of a restored ServiceKey, so it may
    /// begin anew.
    forged: BTreeSet<(String, String)>,
    /// The last writes of each Secret by the operator.
    written: BTreeMap<(String, String), VecDeque<Instant>>,
    /// The last calls to each remote side.
    calls: BTreeMap<usize, VecDeque<Instant>>,
    /// The requests of the last hour.
    budgets: Budgets,
    /// The ServiceKey of each key with a mark, by the id of the key.
    marked: BTreeMap<Uuid, Uuid>,
    /// The credentials that only a process of the operator knows.
    custody: Custody,
    /// The request whose effect is seen now.
    cause: Option<Sent>,
    /// The logins of all remote sides.
    pub logins: Logins,
    /// The holder of the Lease, and since when.
    leader: Option<(String, Instant)>,
    /// Since when a policy refuses Secrets.
    refused_since: Option<Instant>,
    /// The end of the last pause in which a process of the operator stood still.
    frozen_until: Option<Instant>,
    /// Whether the clocks have jumped.
    has_jumped: bool,
    violations: Vec<Violation>,
    /// The keys that were ever created.
    pub created: u64,
    /// The keys that were ever revoked by the operator.
    pub revoked: u64,
}

#[derive(Debug, Default)]
struct KnownServiceKey {
    namespace: String,
    name: String,
    has_finalizer: bool,
    is_deleting: bool,
    is_gone: bool,
    /// The keys may stay or be revoked early: the user chose it.
    retains: bool,
    replaces: bool,
    is_released: bool,
    /// A request for a key took effect after the operator looked for its keys for the last time.
    has_late_key: bool,
    created: VecDeque<Instant>,
    /// The changes by users.
    changed: VecDeque<Instant>,
    /// The fields that a key is created from, when they last changed, and those of each key.
    inputs: Value,
    follows_parameters: bool,
    edited: Option<Instant>,
    /// When the content of its parameters last changed.
    parameters_edited: Option<Instant>,
    created_from: BTreeMap<u32, Value>,
    /// When each key was created.
    began: BTreeMap<u32, Instant>,
    /// Keys are replaced by age, or somebody else touched a key or the Secret.
    is_disturbed: bool,
    /// Somebody else touched a key or the Secret.
    is_touched: bool,
    /// The shortest overlap that the user ever wanted.
    overlap: Option<Duration>,
    /// The shortest time for which the user ever wanted a key to stay for pods.
    max_overlap: Option<Duration>,
    /// When the Secret first contained each key.
    stored: BTreeMap<u32, Instant>,
    /// The number of the current key in the status.
    current: Option<u32>,
    /// Since when each process knows that the user wants new keys to be verified.
    verifies_from: Option<Instant>,
    /// The numbers of the keys that were created since then.
    to_verify: BTreeSet<u32>,
}

/// The inputs and the strategy that the user of a ServiceKey wants for its next key.
struct Wishes {
    inputs: Value,
    /// Whether the inputs have just changed, so that a key may have the former ones.
    is_edited: bool,
    replaces: bool,
}

impl KnownServiceKey {
    fn title(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Its namespace and name, which are also those of its Secret.
    fn place(&self) -> (String, String) {
        (self.namespace.clone(), self.name.clone())
    }

    fn wishes(&self) -> Wishes {
        Wishes {
            inputs: self.inputs.clone(),
            is_edited: self.edited.is_some_and(|edited| edited.elapsed() < UNKNOWN),
            replaces: self.replaces,
        }
    }

    /// Whether the operator may still act on content of its parameters that the user has undone since.
    fn has_old_reading(&self) -> bool {
        self.parameters_edited.is_some_and(|edited| edited.elapsed() < READING + UNKNOWN)
    }

    const fn is_protected(&self) -> bool {
        self.has_finalizer && !self.is_gone
    }

    /// Records that somebody else touched a key or the Secret.
    const fn disturb(&mut self) {
        self.is_disturbed = true;
        self.is_touched = true;
    }
}

impl Checks {
    /// The checks of a world with this clock.
    #[must_use]
    pub fn new(clock: WorldClock) -> Self {
        Self { clock, ..Self::default() }
    }

    /// Records that a rule was broken.
    pub fn report(&mut self, rule: Rule, what: impl Into<String>) {
        self.violations.push(Violation { rule, what: what.into() });
    }

    /// The rules that were broken, in order.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Sees a change in the cluster.
    pub fn cluster_changed(&mut self, change: ClusterChange<'_>, by: Author) {
        match change.resource {
            "servicekeys" => self.service_key_changed(change, by),
            "secrets" => self.secret_changed(change, by),
            "leases" => self.lease_changed(change),
            "deployments" if by == Author::Operator => self.workload_changed(change),
            "pods" if change.after.is_none() => self.pod_ended(change.before),
            _ => {}
        }
        if let Some(shown) = change.after.or(change.before).filter(|_| by == Author::Other) {
            self.note_change(change.resource, shown);
        }
    }

    /// Sees a change of a workload by the operator.
    fn workload_changed(&mut self, change: ClusterChange<'_>) {
        let (Some(before), Some(after)) = (change.before, change.after) else {
            return self.report(Rule::RestartsOnce, "the operator created or deleted a workload");
        };
        let (namespace, name) = place(after);
        let title = format!("{namespace}/{name}");
        if without_restarts(before) != without_restarts(after) {
            self.report(Rule::RestartsOnce, format!("the operator changed more of {title} than it may"));
        }
        let (old, new) = (restarts(before), restarts(after));
        for (key, value) in new.iter().filter(|(key, value)| old.get(*key) != Some(value)) {
            let Some((number, owner)) = number_and_owner(value) else {
                self.report(Rule::RestartsOnce, format!("{title} restarts with `{value}`"));
                continue;
            };
            let last = old.get(key).and_then(|value| number_and_owner(value));
            let last = last.filter(|(_, of)| *of == owner).map(|(last, _)| last);
            // A forged mark can make the numbers of a restored ServiceKey begin again.
            let is_touched = self.touched.contains_key(&(namespace.clone(), key.clone()));
            let is_restored = self.heirs.keys().any(|uid| uid.simple().to_string().starts_with(owner));
            if last >= Some(number) && !(is_touched && is_restored) {
                let last = last.unwrap_or_default();
                let what = format!("{title} restarts with key {number} of {key} after key {last}");
                self.report(Rule::RestartsOnce, what);
            }
            let of_owner = |(uid, _): &(&Uuid, _)| uid.simple().to_string().starts_with(owner);
            let known = self.service_keys.iter().find(of_owner).filter(|_| !is_touched && !self.has_jumped);
            let stored = known.map(|(_, known)| known.stored.get(&number).map(Instant::elapsed));
            if let Some(stored) = stored.filter(|stored| stored.is_none_or(|time| time < SETTLING)) {
                let what =
                    format!("{title} restarts with key {number} of {key}, in the Secret since {stored:?}");
                self.report(Rule::RestartsOnce, what);
            }
        }
    }

    /// Sees a pod that starts with these texts of the current key in its environment.
    pub fn start_pod(&mut self, place: (String, String), texts: BTreeSet<String>) {
        self.pods.insert(place, texts);
    }

    fn pod_ended(&mut self, pod: Option<&Value>) {
        if let Some(pod) = pod {
            self.pods.remove(&place(pod));
        }
    }

    /// Notes a change by a user, which justifies requests. Changes of the operator's own Secrets justify none.
    fn note_change(&mut self, resource: &str, object: &Value) {
        let place = place(object);
        let side = match resource {
            "servicekeys" => text(object, "/spec/providerRef/name").map(str::to_owned),
            "keyproviders" | "clusterkeyproviders" => Some(place.1.clone()),
            "secrets" => place.1.strip_suffix("-login").map(str::to_owned),
            _ => None,
        };
        if let Some(side) = side {
            self.budgets.change(place, side);
        }
    }

    fn lease_changed(&mut self, change: ClusterChange<'_>) {
        let holder = change.after.and_then(|lease| text(lease, "/spec/holderIdentity"));
        if self.leader.as_ref().map(|(leader, _)| leader.as_str()) != holder {
            self.leader = holder.map(|holder| (holder.to_owned(), Instant::now()));
            self.budgets.start();
        }
    }

    /// Sees a call of a process of the operator to a remote side.
    pub fn called(&mut self, side: usize, process: &str, changes: bool) {
        let calls = self.calls.entry(side).or_default();
        let count = count_within(calls, MINUTE);
        if count > MOST_CALLS {
            self.report(Rule::NoFlood, format!("{count} calls to the remote side {side} within a minute"));
        }
        let Some((leader, since)) = self.leader.as_ref().filter(|_| changes) else { return };
        let has_led = since.elapsed() > IN_FLIGHT && !self.was_frozen_within(IN_FLIGHT);
        if has_led && leader.rsplit_once('_').is_none_or(|(leader, _)| leader != process) {
            let what = format!("{process} changed a remote side, and {leader} holds the Lease");
            self.report(Rule::OneLeader, what);
        }
    }

    /// Sees a request to a remote side when a process of the operator sends it. `target`: the name of the side; `None`:
    /// no side has that host.
    pub fn sent(&mut self, target: Option<&str>, request: &Request<Bytes>) {
        let uri = request.uri().to_string();
        if let Some(side) = self.logins.leaked(request, target) {
            let what =
                format!("the login of {side} was sent to {}", uri.split('?').next().unwrap_or_default());
            self.report(Rule::LoginStays, what);
        }
        let host = request.uri().host().unwrap_or_default().trim_matches(['[', ']']);
        if host.parse::<IpAddr>().is_ok() {
            self.report(Rule::ForbiddenAddress, format!("a request was sent to {uri}"));
        }
        let Some(side) = target else { return };
        let ids = uuids(uri.as_bytes()).chain(uuids(request.body()));
        let owners: BTreeSet<_> = ids.filter_map(|id| self.owner_of(id)).collect();
        let over = match owners.first().filter(|_| owners.len() == 1) {
            Some(owner) => {
                let known = self.service_keys.get(owner);
                let place = known.map(|known| (known.namespace.clone(), known.name.clone()));
                let over = self.budgets.call_for(*owner, &place.unwrap_or_default());
                over.map(|count| {
                    format!("{count} calls for {}", known.map(KnownServiceKey::title).unwrap_or_default())
                })
            }
            // A list is for all ServiceKeys that wait for it.
            None => self
                .budgets
                .call_to(side)
                .map(|count| format!("{count} calls to {side} for all its ServiceKeys")),
        };
        if let Some(what) = over {
            self.report(Rule::CallBudget, format!("{what} within an hour"));
        }
    }

    /// The ServiceKey that this id belongs to: its own, or that of one of its keys.
    fn owner_of(&self, id: Uuid) -> Option<Uuid> {
        let of_key = || self.derived.get(&id.to_string()).map(|(owner, _)| *owner);
        let owner = if self.service_keys.contains_key(&id) { Some(id) } else { of_key() };
        let owner = owner.or_else(|| self.marked.get(&id).copied())?;
        Some(self.heirs.get(&owner).copied().unwrap_or(owner))
    }

    /// Sees a write of the operator to the API server when it is sent: the namespace and the name of the object.
    pub fn wrote(&mut self, place: (String, String)) {
        let title = format!("{}/{}", place.0, place.1);
        let is_contested = self.touched.get(&place).is_some_and(|at| at.elapsed() <= HOUR);
        if let Some(count) = self.budgets.write_about(place, is_contested) {
            self.report(Rule::WriteBudget, format!("{count} writes about {title} within an hour"));
        }
    }

    /// Sees the answer of a remote side to a request that creates something, when a process receives it.
    pub fn received(&mut self, process: &str, side: usize, answer: &[u8]) {
        let text = String::from_utf8_lossy(answer);
        let shown = self.alive.iter().filter(|((of, _), _)| *of == side).map(|(_, key)| key);
        let shown = shown.filter(|key| !key.secret.is_empty() && text.contains(&key.secret));
        let unstored: Vec<_> = shown.filter(|key| !self.is_stored(&key.secret)).cloned().collect();
        for key in unstored {
            if let Some((owner, _)) = key.mark {
                self.custody.receive(process, owner, &key.id, &key.secret);
            }
        }
    }

    /// Whether a Secret contains this text.
    fn is_stored(&self, secret: &str) -> bool {
        let published = self.secrets.values().map(|[texts, _]| texts);
        published.chain(self.staged.values()).any(|texts| texts.contains(secret))
    }

    /// Sees a login to a service with this password when the service answers it.
    pub fn tried(&mut self, process: &str, password: &str, is_accepted: bool) {
        if is_accepted {
            self.accepted.insert(password.to_owned());
        }
        let before = self.tried.insert(password.to_owned(), (process.to_owned(), Instant::now()));
        let is_flood = before.is_some_and(|(of, at)| of == process && at.elapsed() < BETWEEN_LOGINS);
        if is_flood && !self.has_jumped {
            self.report(Rule::NoFlood, format!("{process} logged in to a service again at once"));
        }
        let key = self.alive.values().find(|key| key.secret == password);
        let Some((uid, sequence)) = key.and_then(|key| key.mark) else { return };
        let of = self.heirs.get(&uid).copied().unwrap_or(uid);
        let staging = staging_name(&of.to_string());
        let is_touched = self.touched.keys().any(|(_, name)| *name == staging);
        if let Some(known) = self.service_keys.get(&of).filter(|_| !is_touched)
            && !self.is_stored(password)
        {
            let title = known.title();
            self.report(
                Rule::StoredFirst,
                format!("key {sequence} of {title} was used before it was stored"),
            );
        }
    }

    /// Records that the next effects at a remote side follow from this request, or from none.
    pub fn caused_by(&mut self, cause: Option<Sent>) {
        self.cause = cause;
    }

    /// Reports a change for a ServiceKey whose process has credentials that it did not store yet.
    fn check_custody(&mut self, owner: Uuid, key: &SideKey, what: &str) {
        let Some(cause) = &self.cause else { return };
        let Some(held) = self.custody.neglected(owner, &key.id, cause) else { return };
        let Some(known) = self.service_keys.get(&owner) else { return };
        if !(known.is_deleting || known.is_gone || known.is_released) {
            let title = known.title();
            let what =
                format!("{} of {title} was {what} before the credentials of {held} were stored", key.id);
            self.report(Rule::StoredFirst, what);
        }
    }

    /// Records that a process of the operator starts.
    pub fn start(&mut self) {
        self.budgets.start();
    }

    /// Records that a process of the operator has ended.
    pub fn end(&mut self, process: &str) {
        self.custody.end(process);
    }

    /// The most calls for one ServiceKey, calls to one remote side, and writes about one object, within an hour and
    /// without those that changes and restarts justify.
    #[must_use]
    pub fn most(&self) -> [usize; 3] {
        self.budgets.most()
    }

    /// Records that a policy refuses each write of a Secret, or that none does.
    pub fn refuse_secrets(&mut self, refused: bool) {
        self.refused_since = refused.then(Instant::now);
    }

    /// Records that a process of the operator stands still until this instant.
    pub fn freeze(&mut self, until: Instant) {
        self.frozen_until = self.frozen_until.max(Some(until));
    }

    /// Records that the clocks have jumped.
    pub const fn jump(&mut self) {
        self.has_jumped = true;
    }

    fn was_frozen_within(&self, time: Duration) -> bool {
        self.frozen_until.is_some_and(|until| Instant::now() < until + time)
    }

    fn service_key_changed(&mut self, change: ClusterChange<'_>, by: Author) {
        let Some(shown) = change.after.or(change.before) else { return };
        let Some(uid) = text(shown, "/metadata/uid").and_then(|uid| Uuid::parse_str(uid).ok()) else {
            return;
        };
        if !self.service_keys.contains_key(&uid) {
            for sequence in 1..=SEQUENCES {
                let id = Uuid::new_v5(&uid, sequence.to_string().as_bytes());
                self.derived.insert(id.to_string(), (uid, sequence));
            }
        }
        let known = self.service_keys.entry(uid).or_default();
        let (namespace, name) = place(shown);
        (known.namespace, known.name) = (namespace, name);
        let Some(after) = change.after else {
            known.is_gone = true;
            known.is_released |= by == Author::Other && known.has_finalizer;
            let (title, may_stay) = (known.title(), known.retains || known.is_released);
            let left: Vec<_> = self.alive_of(uid).map(|key| key.id.clone()).collect();
            if !may_stay && !left.is_empty() {
                self.report(Rule::NothingLeft, format!("{title} is gone, and its keys {left:?} are not"));
            }
            return;
        };
        if let Some(former) = text(after, "/status/formerUid").and_then(|uid| Uuid::parse_str(uid).ok()) {
            self.heirs.insert(former, uid);
            self.continued_through.entry(former).or_default().insert(provider(after));
        }
        if by == Author::Other {
            known.changed.push_back(Instant::now());
        }
        let had_finalizer = known.has_finalizer;
        known.has_finalizer = contains(after, "/metadata/finalizers", FINALIZER);
        known.is_deleting = after.pointer("/metadata/deletionTimestamp").is_some();
        known.retains |= text(after, "/spec/deletionPolicy") == Some("Retain");
        known.replaces |= text(after, "/spec/rotation/strategy") == Some("Replace");
        let is_abandoned =
            after.pointer("/metadata/annotations").and_then(|all| all.get(ABANDON_ANNOTATION)).is_some();
        let is_stripped = had_finalizer && !known.has_finalizer && by == Author::Other;
        known.is_released |= is_abandoned || is_stripped;
        let fields = ["/spec/parameters", "/spec/instance", "/spec/providerRef", ROTATE];
        let mut inputs: Vec<_> =
            fields.iter().map(|path| after.pointer(path).cloned().unwrap_or_default()).collect();
        known.follows_parameters = after.pointer("/spec/parametersFrom").is_some();
        if known.follows_parameters {
            inputs.push(self.parameters.get(&known.namespace).cloned().unwrap_or_default());
        }
        let inputs = Value::Array(inputs);
        if known.inputs != inputs {
            (known.inputs, known.edited) = (inputs, change.before.map(|_| Instant::now()));
        }
        if after.pointer("/spec/rotation/verify").is_some() {
            let unknown = if change.before.is_some() { UNKNOWN } else { Duration::ZERO };
            known.verifies_from = known.verifies_from.or(Some(Instant::now() + unknown));
        } else {
            known.verifies_from = None;
            known.to_verify.clear();
        }
        known.is_disturbed |= after.pointer("/spec/rotation/every").is_some();
        let current = after.pointer("/status/key/sequence").and_then(Value::as_u64);
        known.current = current.and_then(|current| u32::try_from(current).ok());
        known.overlap = known.overlap.into_iter().chain([overlap(after)]).min();
        known.max_overlap = known.max_overlap.into_iter().chain([max_overlap(after)]).min();
        let (title, is_deleting) = (known.title(), known.is_deleting);
        if by == Author::Operator
            && let Some(before) = change.before
            && others_finalizers(before) != others_finalizers(after)
        {
            self.report(
                Rule::ForeignFinalizer,
                format!("the operator changed the finalizers of others at {title}"),
            );
        }
        let was_ready = change.before.is_some_and(is_ready);
        if by == Author::Operator && was_ready && !is_ready(after) && !is_deleting {
            self.stays_ready(uid, after);
        }
    }

    /// Whether the certificate of a key has ended, by a clock that may have jumped.
    fn may_have_ended(&self, key: &SideKey) -> bool {
        key.ends.is_some_and(|end| self.has_jumped || end <= self.clock.now())
    }

    /// Judges a ServiceKey whose `Ready` has just turned false.
    fn stays_ready(&mut self, uid: Uuid, after: &Value) {
        let place = place(after);
        let is_touched = self.touched.get(&place).is_some_and(|at| at.elapsed() < REPAIR);
        let former = text(after, "/status/formerUid").and_then(|uid| Uuid::parse_str(uid).ok());
        let Some([_, texts]) = self.secrets.get(&place).filter(|_| !is_touched) else { return };
        let works = [Some(uid), former].into_iter().flatten().any(|uid| {
            self.alive_of(uid).any(|key| texts.contains(&key.secret) && !self.may_have_ended(key))
        });
        if works {
            let (namespace, name) = place;
            let what = format!("{namespace}/{name} is not ready, and its key works: {}", ready(after));
            self.report(Rule::StaysReady, what);
        }
    }

    fn secret_changed(&mut self, change: ClusterChange<'_>, by: Author) {
        let Some(shown) = change.after.or(change.before) else { return };
        let place = place(shown);
        let title = format!("{}/{}", place.0, place.1);
        if place.1 == PARAMETERS {
            self.parameters_changed(&place.0, change.after);
        }
        if by == Author::Other {
            self.touched.insert(place.clone(), Instant::now());
            if change.before.zip(change.after).is_some_and(|(before, after)| number(before) != number(after))
            {
                self.forged.insert(place.clone());
            }
        }
        if by == Author::Operator || change.after.is_none() {
            self.backups.remove(&place);
        } else if change.before.is_none() {
            self.backups.insert(place.clone());
        }
        if by == Author::Operator
            && let Some(before) = change.before
            && text(before, "/metadata/labels/example.com~1foreign").is_some()
            && is_another(before, change.after)
        {
            self.report(Rule::ForeignSecret, format!("the operator changed the Secret {title}"));
        }
        let Some(after) = change.after.filter(|after| is_managed(after)) else {
            self.secrets.remove(&place);
            self.staged.remove(&place);
            if by == Author::Other {
                let of_place =
                    |known: &&mut KnownServiceKey| (&known.namespace, &known.name) == (&place.0, &place.1);
                self.service_keys.values_mut().filter(of_place).for_each(KnownServiceKey::disturb);
            }
            return;
        };
        let texts = texts(after);
        texts.iter().for_each(|text| self.custody.store(text));
        let owner =
            text(after, "/metadata/labels/servicekeys.dev~1owner-uid").and_then(|uid| uid.parse().ok());
        let is_staging = is_staging(after);
        if !is_staging {
            self.see_stored(owner, &texts, by);
        }
        if by == Author::Operator {
            let count = count_within(self.written.entry(place.clone()).or_default(), HOUR);
            if count > MOST_WRITTEN {
                let what = format!("the operator wrote the Secret {title} {count} times within an hour");
                self.report(Rule::NoStorm, what);
            }
            for text in &texts {
                // The providers permit restores, in which any namespace may continue with the keys of a lost one.
                let owner = self.issued.get(text).and_then(|uid| self.service_keys.get(uid));
                if let Some(of) = owner.filter(|of| of.namespace != place.0 && !of.is_gone) {
                    let what = format!("the Secret {title} contains credentials of {}", of.title());
                    self.violations.push(Violation { rule: Rule::Isolation, what });
                }
            }
        }
        if is_staging {
            self.staged.insert(place, texts);
            return;
        }
        if by == Author::Operator {
            self.check_published(&place, &texts);
        }
        let current = current_texts(after);
        self.secrets.insert(place, [texts, current]);
    }

    /// Checks that the service has accepted the keys that the operator adds to a Secret.
    fn check_published(&mut self, place: &(String, String), texts: &BTreeSet<String>) {
        // The operator may believe the number in the Secret, and that it published the key.
        if self.forged.contains(place) {
            return;
        }
        let before = self.secrets.get(place);
        let is_new = |text: &str| before.is_none_or(|[before, _]| !before.contains(text));
        let published = self.alive.values().filter(|key| texts.contains(&key.secret) && is_new(&key.secret));
        for key in published.filter(|key| !self.accepted.contains(&key.secret)) {
            let Some((uid, sequence)) = key.mark else { continue };
            let owner = self.service_keys.get(self.heirs.get(&uid).unwrap_or(&uid));
            if let Some(owner) = owner.filter(|owner| owner.to_verify.contains(&sequence)) {
                let title = owner.title();
                let what = format!(
                    "the Secret of {title} contains key {sequence}, which the service did not accept"
                );
                self.violations.push(Violation { rule: Rule::NeverUnverified, what });
            }
        }
    }

    /// Sees a change of the Secret that `parametersFrom` of the ServiceKeys in this namespace names.
    fn parameters_changed(&mut self, namespace: &str, after: Option<&Value>) {
        let content = after.map(|secret| secret["data"].clone()).unwrap_or_default();
        self.parameters.insert(namespace.to_owned(), content.clone());
        let followers = self.service_keys.values_mut().filter(|known| known.follows_parameters);
        for known in followers.filter(|known| known.namespace == namespace) {
            if let Some(seen) = known.inputs.as_array_mut().and_then(|inputs| inputs.last_mut())
                && *seen != content
            {
                *seen = content.clone();
                let now = Instant::now();
                known.edited = Some(now);
                known.parameters_edited = Some(now);
            }
        }
    }

    /// Whether the current key of a ServiceKey that follows its parameters was created from others.
    #[must_use]
    pub fn has_other_parameters(&self, uid: Uuid) -> bool {
        let Some(known) = self.service_keys.get(&uid).filter(|known| known.follows_parameters) else {
            return false;
        };
        let created_from = known.current.and_then(|current| known.created_from.get(&current));
        let had = created_from.and_then(Value::as_array).and_then(|inputs| inputs.last());
        !known.is_touched
            && had.is_some_and(|had| Some(had) != known.inputs.as_array().and_then(|wanted| wanted.last()))
    }

    /// Sees the keys in a Secret.
    fn see_stored(&mut self, owner: Option<Uuid>, texts: &BTreeSet<String>, by: Author) {
        let Some(uid) = owner else { return };
        let stored: Vec<_> = self.alive_of(uid).filter(|key| texts.contains(&key.secret)).cloned().collect();
        let Some(owner) = self.service_keys.get_mut(&uid) else { return };
        if by == Author::Other {
            owner.disturb();
        }
        for (_, sequence) in stored.into_iter().filter_map(|key| key.mark) {
            owner.stored.entry(sequence).or_insert_with(Instant::now);
        }
    }

    /// Sees the keys of a remote side after a call or a change. `lists` says whether it can list its keys.
    pub fn side_changed(&mut self, side: usize, lists: bool, keys: Vec<SideKey>, by: Author) {
        let now: BTreeMap<_, _> = keys.into_iter().map(|key| ((side, key.id.clone()), key)).collect();
        let before: BTreeMap<_, _> = self
            .alive
            .iter()
            .filter(|((of, _), _)| *of == side)
            .map(|(id, key)| (id.clone(), key.clone()))
            .collect();
        // A remote side can replace a key in one step, so a key that is gone does not count any more.
        for (id, key) in &before {
            if !now.contains_key(id) {
                self.alive.remove(id);
                self.custody.lose(&key.id);
                match (by, key.mark) {
                    (Author::Operator, _) => self.key_revoked(key),
                    (Author::Other, Some((uid, _))) => {
                        if let Some(owner) = self.service_keys.get_mut(&uid) {
                            owner.disturb();
                        }
                        if !lists {
                            self.robbed.insert(uid);
                        }
                    }
                    (Author::Other, None) => {}
                }
            }
        }
        for (id, key) in &now {
            // A key that a user keeps loses its mark, and stays known.
            let known = before.get(id).and_then(|key| key.mark);
            let mark = key.mark.or(known).or_else(|| self.derived.get(&key.id).copied());
            let key = SideKey { mark, ..key.clone() };
            let is_new = !before.contains_key(id);
            self.alive.insert(id.clone(), key.clone());
            if let (Some((owner, _)), Ok(id)) = (key.mark, Uuid::parse_str(&key.id)) {
                self.marked.insert(id, owner);
            }
            self.issue(&key);
            if is_new {
                self.key_created(&key);
            }
        }
    }

    fn issue(&mut self, key: &SideKey) {
        if let Some((uid, _)) = key.mark.filter(|_| !key.secret.is_empty()) {
            self.issued.insert(key.secret.clone(), uid);
        }
    }

    /// Sees a search for keys when a remote side carries it out. It shows what was created before.
    pub fn looked(&mut self, uri: &Uri) {
        for uid in uuids(uri.to_string().as_bytes()) {
            if let Some(known) = self.service_keys.get_mut(&uid).filter(|known| !known.is_gone) {
                known.has_late_key = false;
            }
        }
    }

    fn key_created(&mut self, key: &SideKey) {
        self.created += 1;
        let Some((uid, sequence)) = key.mark else {
            return self.report(Rule::FinalizerFirst, format!("the key {} has no owner", key.id));
        };
        self.check_custody(uid, key, "created");
        let alive = self.alive_numbers(uid);
        let replaced = |other: &SideKey| other.mark == Some((uid, sequence - 1)) && !other.secret.is_empty();
        let previous = self.alive_of(uid).find(|other| sequence > 1 && replaced(other));
        let (has_replaced, has_end) = (previous.is_some(), previous.is_some_and(|key| key.ends.is_some()));
        let heir = self.heirs.get(&uid).and_then(|heir| self.service_keys.get(heir));
        let is_of_heir = heir.is_some_and(KnownServiceKey::is_protected);
        // The ids of keys stay those of the former ServiceKey. Users change the one that continues with them.
        let changed_heir =
            heir.map_or(0, |heir| heir.changed.iter().filter(|at| at.elapsed() <= HOUR).count());
        let wishes = heir.map(KnownServiceKey::wishes);
        let is_frozen = self.was_frozen_within(UNKNOWN);
        let heir_leaves = heir.is_some_and(|heir| heir.is_deleting && heir.retains);
        let is_misled = heir.is_some_and(|heir| self.forged.contains(&heir.place()));
        let has_jumped = self.has_jumped;
        if let Some(wants) = self.service_keys.get_mut(self.heirs.get(&uid).unwrap_or(&uid)) {
            if wants.verifies_from.is_some_and(|from| from <= Instant::now()) && !is_frozen {
                wants.to_verify.insert(sequence);
            } else {
                wants.to_verify.remove(&sequence);
            }
        }
        let Some(owner) = self.service_keys.get_mut(&uid) else {
            return self
                .report(Rule::FinalizerFirst, format!("the key {} has the unknown owner {uid}", key.id));
        };
        let title = owner.title();
        let Wishes { inputs, is_edited, replaces } = wishes.unwrap_or_else(|| owner.wishes());
        // A key is replaced in time before its certificate ends, and not in its first hour.
        let is_used = |since: &Instant| has_jumped || since.elapsed() + ROUNDING >= SHORTEST_USE;
        let is_due = has_end && owner.began.get(&(sequence - 1)).is_some_and(is_used);
        owner.began.insert(sequence, Instant::now());
        let is_needless = !owner.is_disturbed
            && !is_due
            && !is_edited
            && !owner.has_old_reading()
            && owner.created_from.get(&(sequence - 1)) == Some(&inputs)
            && !replaces;
        owner.created_from.insert(sequence, if is_edited { Value::Null } else { inputs });
        let lately = count_within(&mut owner.created, HOUR);
        forget_older(&mut owner.changed, HOUR);
        let most = MOST_CREATED + 2 * (owner.changed.len() + changed_heir);
        // The operator does not wait for a late key that the user keeps.
        let leaves =
            if is_of_heir { heir_leaves } else { owner.is_gone || owner.is_deleting && owner.retains };
        owner.has_late_key |= leaves;
        let may_stay = owner.is_released || owner.is_gone && owner.retains;
        let is_protected = owner.is_protected() || is_of_heir;
        if !is_protected && !may_stay {
            self.report(
                Rule::FinalizerFirst,
                format!("key {sequence} of {title} was created without a finalizer"),
            );
        }
        if has_replaced && is_needless {
            self.report(Rule::NoNeedlessKey, format!("nothing required key {sequence} of {title}"));
        }
        if alive > MOST_KEYS && !is_misled {
            self.report(Rule::ThreeKeys, format!("{title} has {alive} keys"));
        }
        if lately > most {
            self.report(Rule::NoStorm, format!("{lately} keys of {title} were created within an hour"));
        }
    }

    fn key_revoked(&mut self, key: &SideKey) {
        self.revoked += 1;
        let Some((uid, sequence)) = key.mark else {
            return self.report(Rule::Isolation, format!("the key {} of nobody was revoked", key.id));
        };
        let heir = self.heirs.get(&uid).copied();
        let is_contested = self.is_contested(uid);
        self.check_custody(uid, key, "revoked");
        let uid = heir.unwrap_or(uid);
        let Some(owner) = self.service_keys.get(&uid) else { return };
        if owner.is_gone || owner.is_deleting || key.secret.is_empty() {
            return;
        }
        let (title, replaces) = (owner.title(), owner.replaces);
        let only_marks_name_it = heir.is_some() || owner.current.is_none_or(|current| current < sequence);
        let next = owner.stored.get(&(sequence + 1)).filter(|_| owner.stored.contains_key(&sequence));
        let is_early = next.is_some_and(|next| next.elapsed() + ROUNDING < owner.overlap.unwrap_or_default());
        let stays =
            next.is_some_and(|next| next.elapsed() + ROUNDING < owner.max_overlap.unwrap_or_default());
        let has_ended = |key: &SideKey| self.may_have_ended(key);
        let is_exempt = heir.is_some() || replaces || owner.is_touched || self.alive_of(uid).any(has_ended);
        let mut pods = self.pods.iter().filter(|((of, _), _)| *of == owner.namespace);
        let pod = pods.find(|(_, texts)| texts.contains(&key.secret)).map(|((_, pod), _)| pod.clone());
        let pod = pod.filter(|_| stays && !is_exempt && !self.has_jumped);
        if is_early && !replaces && !owner.is_disturbed && !self.has_jumped {
            self.report(
                Rule::Overlap,
                format!("key {sequence} of {title} was revoked before its overlap was over"),
            );
        }
        if let Some(pod) = pod {
            self.report(
                Rule::UnderAPod,
                format!("key {sequence} of {title} was revoked under the pod {pod}"),
            );
        }
        let holder = self
            .secrets
            .iter()
            .find(|(_, [texts, _])| texts.contains(&key.secret))
            .map(|(place, _)| place.clone());
        let Some((namespace, name)) = holder else { return };
        // The marks of the Secret are all that a restored ServiceKey knows of its keys. A crash before the status names
        // the newest key has the same effect. Other writers can forge the marks, and lose the credentials by that.
        let place = (namespace.clone(), name.clone());
        let is_touched = self.touched.get(&place).is_some_and(|at| at.elapsed() < REPAIR);
        if only_marks_name_it && is_touched || is_contested {
            return;
        }
        if replaces {
            let is_known = self.refused_since.is_some_and(|since| since.elapsed() > KNOWN_REFUSAL);
            if is_known && !self.was_frozen_within(KNOWN_REFUSAL) {
                let what = format!("key {sequence} of {title} was revoked while its Secret can't be written");
                self.report(Rule::WritableFirst, what);
            }
        } else {
            let what = format!(
                "key {sequence} of {title} was revoked, and the Secret {namespace}/{name} contains it"
            );
            self.report(Rule::CurrentKeyStays, what);
        }
    }

    /// The living keys of a ServiceKey.
    pub fn alive_of(&self, uid: Uuid) -> impl Iterator<Item = &SideKey> {
        self.alive.values().filter(move |key| key.mark.is_some_and(|(owner, _)| owner == uid))
    }

    /// The ServiceKeys whose finalizer a user removed, and that still have keys. The operator tries for a day to revoke
    /// them.
    #[must_use]
    pub fn released_with_keys(&self) -> usize {
        let is_leaving = |(uid, known): &(&Uuid, &KnownServiceKey)| {
            known.is_gone && known.is_released && self.alive_of(**uid).next().is_some()
        };
        self.service_keys.iter().filter(is_leaving).count()
    }

    /// How many numbers the living keys of a ServiceKey have at one remote side. At IBM Cloud names are not unique: a
    /// request that takes effect after its retry creates a twin, which the operator reports as an orphan and revokes with
    /// the key. A tenant who forges the UID of a former ServiceKey at another side creates keys of the same numbers there.
    #[must_use]
    pub fn alive_numbers(&self, uid: Uuid) -> usize {
        let mut numbers: BTreeMap<usize, BTreeSet<u32>> = BTreeMap::new();
        for ((side, _), key) in &self.alive {
            if let Some((_, number)) = key.mark.filter(|(owner, _)| *owner == uid) {
                numbers.entry(*side).or_default().insert(number);
            }
        }
        numbers.values().map(BTreeSet::len).max().unwrap_or_default()
    }

    /// All living keys.
    pub fn alive(&self) -> impl Iterator<Item = &SideKey> {
        self.alive.values()
    }

    /// Whether a Secret is from a backup, and the operator has not taken it up.
    #[must_use]
    pub fn is_from_backup(&self, place: &(String, String)) -> bool {
        self.backups.contains(place)
    }

    /// Whether another writer ever changed this Secret.
    #[must_use]
    pub fn was_touched(&self, secret: &(String, String)) -> bool {
        self.touched.contains_key(secret)
    }

    /// Whether a key of this owner disappeared without a trace.
    #[must_use]
    pub fn was_robbed(&self, uid: Uuid) -> bool {
        self.robbed.contains(&uid)
    }

    /// Whether a user chose that the keys of this owner outlive it, and the operator removed its finalizer itself.
    #[must_use]
    pub fn is_retained(&self, uid: Uuid) -> bool {
        let is_chosen = |known: &KnownServiceKey| known.retains && !known.is_released && !known.has_late_key;
        self.service_keys.get(&uid).is_some_and(|known| known.is_gone && is_chosen(known))
    }

    /// Whether the keys of this owner may outlive it: a user chose that for it, or for the ServiceKey that was restored
    /// from it and continues with its keys. That ServiceKey creates keys with the UID of this one.
    #[must_use]
    pub fn may_stay(&self, uid: Uuid) -> bool {
        let is_chosen =
            |uid| self.service_keys.get(uid).is_some_and(|known| known.retains || known.is_released);
        is_chosen(&uid) || self.heirs.get(&uid).is_some_and(is_chosen)
    }

    /// Whether ServiceKeys of several providers continue with the keys of this former one. A tenant forged that, and has
    /// a login of its own for the same remote side. With that login the tenant could revoke these keys itself, so the
    /// operator protects them only from tenants who share a provider.
    #[must_use]
    pub fn is_contested(&self, uid: Uuid) -> bool {
        self.continued_through.get(&uid).is_some_and(|providers| providers.len() > 1)
    }
}

/// A condition of an object.
#[must_use]
pub fn condition<'a>(object: &'a Value, type_: &str) -> Option<&'a Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| text(condition, "/type") == Some(type_))
}

/// Whether the condition Ready is true.
#[must_use]
pub fn is_ready(object: &Value) -> bool {
    condition(object, "Ready").and_then(|ready| text(ready, "/status")) == Some("True")
}

/// Reason and message of the condition Ready.
#[must_use]
pub fn ready(object: &Value) -> String {
    let part = |path| condition(object, "Ready").and_then(|ready| text(ready, path)).unwrap_or("nothing");
    format!("{}: {}", part("/reason"), part("/message"))
}

/// Whether an object was created by the operator.
#[must_use]
pub fn is_managed(object: &Value) -> bool {
    let label = object.pointer("/metadata/labels").and_then(|labels| labels.get(MANAGED_BY_LABEL));
    label.and_then(Value::as_str) == Some(MANAGED_BY)
}

/// Whether a Secret contains credentials that are not published yet.
#[must_use]
pub fn is_staging(secret: &Value) -> bool {
    secret["type"] == "servicekeys.dev/staging"
}

/// The name of the Secret with such credentials of the ServiceKey with this UID.
#[must_use]
pub fn staging_name(uid: &str) -> String {
    format!("servicekey-{uid}")
}

/// The decoded entries of a Secret, and the credentials in it that are not published yet.
#[must_use]
pub fn texts(secret: &Value) -> BTreeSet<String> {
    let mut texts = decoded(secret, |_| true);
    if is_staging(secret) {
        let staged: Vec<Value> = texts.iter().filter_map(|text| serde_json::from_str(text).ok()).collect();
        let entries = staged.iter().filter_map(Value::as_object).flat_map(serde_json::Map::values);
        texts.extend(entries.filter_map(Value::as_str).map(str::to_owned));
    }
    texts
}

/// The same without those of the previous key.
#[must_use]
pub fn current_texts(secret: &Value) -> BTreeSet<String> {
    decoded(secret, |entry| !entry.starts_with("previous."))
}

/// The number of the key that a Secret names.
fn number(secret: &Value) -> Option<&str> {
    text(secret, "/metadata/annotations/servicekeys.dev~1sequence")
}

fn decoded(secret: &Value, is_wanted: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let entries = secret.get("data").and_then(Value::as_object).into_iter().flatten();
    let entries = entries.filter(|(entry, _)| is_wanted(entry));
    entries.filter_map(|(_, value)| String::from_utf8(STANDARD.decode(value.as_str()?).ok()?).ok()).collect()
}

/// Namespace and name of an object.
#[must_use]
pub fn place(object: &Value) -> (String, String) {
    let field = |path| text(object, path).unwrap_or_default().to_owned();
    (field("/metadata/namespace"), field("/metadata/name"))
}

/// The provider of a ServiceKey: its namespace, which is empty for a ClusterKeyProvider, and its name.
fn provider(key: &Value) -> (String, String) {
    let is_shared = text(key, "/spec/providerRef/kind") == Some("ClusterKeyProvider");
    let namespace = if is_shared { String::new() } else { place(key).0 };
    (namespace, text(key, "/spec/providerRef/name").unwrap_or_default().to_owned())
}

/// A text in an object.
#[must_use]
pub fn text<'a>(object: &'a Value, path: &str) -> Option<&'a str> {
    object.pointer(path)?.as_str()
}

fn contains(object: &Value, path: &str, wanted: &str) -> bool {
    let list = object.pointer(path).and_then(Value::as_array).into_iter().flatten();
    list.into_iter().any(|item| item.as_str() == Some(wanted))
}

/// The overlap of a ServiceKey.
fn overlap(key: &Value) -> Duration {
    text(key, "/spec/rotation/overlap").map_or(DEFAULT_OVERLAP, minutes)
}

/// How long a replaced key stays for pods that may use it.
fn max_overlap(key: &Value) -> Duration {
    let waits = text(key, "/spec/rotation/revokeWhen") == Some("ConsumersMoved");
    text(key, "/spec/rotation/maxOverlap").filter(|_| waits).map_or(Duration::ZERO, minutes)
}

/// A duration, which the actors write in minutes.
fn minutes(text: &str) -> Duration {
    let minutes = text.strip_suffix('m').and_then(|minutes| minutes.parse().ok());
    minutes.map_or(Duration::ZERO, |minutes: u64| Duration::from_secs(60 * minutes))
}

/// The finalizers other than that of the operator.
fn others_finalizers(object: &Value) -> BTreeSet<&str> {
    let all = object.pointer("/metadata/finalizers").and_then(Value::as_array).into_iter().flatten();
    all.filter_map(Value::as_str).filter(|finalizer| *finalizer != FINALIZER).collect()
}

/// Whether anything but the version differs.
fn is_another(before: &Value, after: Option<&Value>) -> bool {
    let content = |object: &Value| (object.get("data").cloned(), object.pointer("/metadata/labels").cloned());
    after.is_none_or(|after| content(before) != content(after))
}

/// The annotations that restart the pods of a workload, by the name of the ServiceKey.
fn restarts(workload: &Value) -> BTreeMap<String, String> {
    let annotations = workload.pointer("/spec/template/metadata/annotations").and_then(Value::as_object);
    let read = |(name, value): (&String, &Value)| {
        Some((name.strip_prefix("restart.servicekeys.dev/")?.to_owned(), value.as_str()?.to_owned()))
    };
    annotations.into_iter().flatten().filter_map(read).collect()
}

/// The number of the key in the value of such an annotation, and the first digits of the owner of the key.
fn number_and_owner(value: &str) -> Option<(u32, &str)> {
    let (number, owner) = value.split_once('-')?;
    Some((number.parse().ok()?, owner.get(..8)?))
}

/// The workload without these annotations, and without what the API server changes with each write.
fn without_restarts(workload: &Value) -> Value {
    let mut rest = workload.clone();
    for part in ["resourceVersion", "generation", "managedFields"] {
        rest["metadata"].as_object_mut().map(|metadata| metadata.remove(part));
    }
    if let Some(annotations) =
        rest.pointer_mut("/spec/template/metadata/annotations").and_then(Value::as_object_mut)
    {
        annotations.retain(|name, _| !name.starts_with("restart.servicekeys.dev/"));
    }
    rest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const OWNER: Uuid = Uuid::from_u128(1);

    /// Lets the checks see a ServiceKey that keeps its keys from its creation to its deletion. `meanwhile` happens after
    /// the deletion has begun.
    fn retains_its_keys(checks: &mut Checks, meanwhile: impl FnOnce(&mut Checks)) {
        let metadata = json!({"uid": OWNER, "namespace": "a", "name": "k", "finalizers": [FINALIZER]});
        let live = json!({"metadata": metadata, "spec": {"deletionPolicy": "Retain"}});
        let mut deleting = live.clone();
        deleting["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let change = |before, after| ClusterChange { resource: "servicekeys", before, after };
        checks.cluster_changed(change(None, Some(&live)), Author::Other);
        checks.cluster_changed(change(Some(&live), Some(&deleting)), Author::Other);
        meanwhile(checks);
        checks.cluster_changed(change(Some(&deleting), None), Author::Operator);
    }

    fn search(checks: &mut Checks) {
        let uri =
            format!("https://api.example/v3/service_credential_bindings?label_selector=owner%3D{OWNER}");
        checks.looked(&uri.parse().unwrap());
    }

    fn create_key(checks: &mut Checks) {
        let key = SideKey { id: "k-1".into(), mark: Some((OWNER, 1)), secret: String::new(), ends: None };
        checks.side_changed(0, true, vec![key], Author::Operator);
    }

    /// The operator can't remove the mark of a key that appears after its last search.
    #[tokio::test(start_paused = true)]
    async fn a_late_key_keeps_its_mark_only_if_no_search_showed_it() {
        let is_judged = |meanwhile: [fn(&mut Checks); 2]| {
            let mut checks = Checks::default();
            retains_its_keys(&mut checks, |checks| meanwhile.iter().for_each(|happens| happens(checks)));
            assert_eq!(checks.violations().len(), 0);
            checks.is_retained(OWNER)
        };
        assert!(!is_judged([search, create_key]));
        assert!(is_judged([create_key, search]));
    }
}
