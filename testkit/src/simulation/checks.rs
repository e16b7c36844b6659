//! What must hold at every step. The checks see each change of the cluster and of the remote sides right after it
//! happened, and know who caused it. They never read what the operator knows, apart from the objects that it wrote.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use super::sides::SideKey;

/// The finalizer of ServiceKeys.
const FINALIZER: &str = "servicekeys.dev/finalizer";
/// The annotation by which a user gives up the keys of a ServiceKey.
const ABANDON: &str = "servicekeys.dev/abandon";
/// The label on each Secret of the operator.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// The most keys of one ServiceKey that may be alive.
const MOST_KEYS: usize = 3;
/// The most keys that may be created for one ServiceKey within an hour. Users cause fewer.
const MOST_CREATED: usize = 40;
/// The period of [`MOST_CREATED`].
const HOUR: Duration = Duration::from_secs(3600);
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
    /// Nobody can make the operator create key after key.
    NoStorm,
    /// The operator follows the protocol of the remote side.
    Protocol,
    /// After the trouble, each ServiceKey is ready or says why not.
    Settles,
    /// After the trouble, nothing is at a remote side without a ServiceKey.
    NoOrphan,
    /// After the trouble, each Secret of the operator has its ServiceKey.
    NoStraySecret,
    /// After the trouble, nothing happens any more.
    Rest,
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

/// Who caused a change.
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
    service_keys: BTreeMap<Uuid, KnownServiceKey>,
    /// The ServiceKeys that continue with the keys of a former one, by its UID.
    heirs: BTreeMap<Uuid, Uuid>,
    /// The ids that keys have at brokers, by UID and sequence of the ServiceKey.
    derived: BTreeMap<String, (Uuid, u32)>,
    alive: BTreeMap<(usize, String), SideKey>,
    /// The namespace of each secret text that a remote side ever created.
    issued: BTreeMap<String, String>,
    /// The ServiceKeys that lost a key at a broker, which can't list its keys: nobody can notice.
    robbed: BTreeSet<Uuid>,
    /// The texts in each Secret of the operator, by namespace and name.
    secrets: BTreeMap<(String, String), BTreeSet<String>>,
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
    created: VecDeque<Instant>,
}

impl KnownServiceKey {
    fn title(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

impl Checks {
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
            _ => {}
        }
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
            let (title, may_stay) = (known.title(), known.retains || known.is_released);
            let left: Vec<_> = self.alive_of(uid).map(|key| key.id.clone()).collect();
            if !may_stay && !left.is_empty() {
                self.report(Rule::NothingLeft, format!("{title} is gone, and its keys {left:?} are not"));
            }
            return;
        };
        if let Some(former) = text(after, "/status/formerUid").and_then(|uid| Uuid::parse_str(uid).ok()) {
            self.heirs.insert(former, uid);
        }
        let had_finalizer = known.has_finalizer;
        known.has_finalizer = contains(after, "/metadata/finalizers", FINALIZER);
        known.is_deleting = after.pointer("/metadata/deletionTimestamp").is_some();
        known.retains |= text(after, "/spec/deletionPolicy") == Some("Retain");
        known.replaces |= text(after, "/spec/rotation/strategy") == Some("Replace");
        let is_abandoned = after.pointer("/metadata/annotations").and_then(|all| all.get(ABANDON)).is_some();
        let is_stripped = had_finalizer && !known.has_finalizer && by == Author::Other;
        known.is_released |= is_abandoned || is_stripped;
    }

    fn secret_changed(&mut self, change: ClusterChange<'_>, by: Author) {
        let Some(shown) = change.after.or(change.before) else { return };
        let place = place(shown);
        let title = format!("{}/{}", place.0, place.1);
        if by == Author::Operator
            && let Some(before) = change.before
            && text(before, "/metadata/labels/example.com~1foreign").is_some()
            && is_another(before, change.after)
        {
            self.report(Rule::ForeignSecret, format!("the operator changed the Secret {title}"));
        }
        let Some(after) = change.after.filter(|after| is_managed(after)) else {
            self.secrets.remove(&place);
            return;
        };
        let texts = texts(after);
        if by == Author::Operator {
            for text in &texts {
                if let Some(of) = self.issued.get(text).filter(|of| **of != place.0) {
                    let what = format!("the Secret {title} contains credentials of the namespace {of}");
                    self.violations.push(Violation { rule: Rule::Isolation, what });
                }
            }
        }
        self.secrets.insert(place, texts);
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
        for (id, key) in &now {
            // A key that a user keeps loses its mark, and stays known.
            let known = before.get(id).and_then(|key| key.mark);
            let mark = key.mark.or(known).or_else(|| self.derived.get(&key.id).copied());
            let key = SideKey { mark, ..key.clone() };
            let is_new = !before.contains_key(id);
            self.alive.insert(id.clone(), key.clone());
            self.issue(&key);
            if is_new {
                self.key_created(&key);
            }
        }
        for (id, key) in before {
            if !now.contains_key(&id) {
                self.alive.remove(&id);
                match (by, key.mark) {
                    (Author::Operator, _) => self.key_revoked(&key),
                    (Author::Other, Some((uid, _))) if !lists => drop(self.robbed.insert(uid)),
                    (Author::Other, _) => {}
                }
            }
        }
    }

    fn issue(&mut self, key: &SideKey) {
        let owner = key.mark.and_then(|(uid, _)| self.service_keys.get(&uid));
        if let Some(owner) = owner.filter(|_| !key.secret.is_empty()) {
            self.issued.insert(key.secret.clone(), owner.namespace.clone());
        }
    }

    fn key_created(&mut self, key: &SideKey) {
        self.created += 1;
        let Some((uid, sequence)) = key.mark else {
            return self.report(Rule::FinalizerFirst, format!("the key {} has no owner", key.id));
        };
        let alive = self.alive_of(uid).count();
        let Some(owner) = self.service_keys.get_mut(&uid) else {
            return self
                .report(Rule::FinalizerFirst, format!("the key {} has the unknown owner {uid}", key.id));
        };
        let title = owner.title();
        let now = Instant::now();
        owner.created.push_back(now);
        while owner.created.front().is_some_and(|at| now - *at > HOUR) {
            owner.created.pop_front();
        }
        let (lately, is_protected, is_released) =
            (owner.created.len(), owner.has_finalizer && !owner.is_gone, owner.is_released);
        if !is_protected && !is_released {
            self.report(
                Rule::FinalizerFirst,
                format!("key {sequence} of {title} was created without a finalizer"),
            );
        }
        if alive > MOST_KEYS {
            self.report(Rule::ThreeKeys, format!("{title} has {alive} keys"));
        }
        if lately > MOST_CREATED {
            self.report(Rule::NoStorm, format!("{lately} keys of {title} were created within an hour"));
        }
    }

    fn key_revoked(&mut self, key: &SideKey) {
        self.revoked += 1;
        let Some((uid, sequence)) = key.mark else {
            return self.report(Rule::Isolation, format!("the key {} of nobody was revoked", key.id));
        };
        let uid = self.heirs.get(&uid).copied().unwrap_or(uid);
        let Some(owner) = self.service_keys.get(&uid) else { return };
        if owner.is_gone || owner.is_deleting || owner.replaces || key.secret.is_empty() {
            return;
        }
        let title = owner.title();
        let holder = self
            .secrets
            .iter()
            .find(|(_, texts)| texts.contains(&key.secret))
            .map(|(place, _)| place.clone());
        if let Some((namespace, name)) = holder {
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

    /// All living keys.
    pub fn alive(&self) -> impl Iterator<Item = &SideKey> {
        self.alive.values()
    }

    /// Whether a key of this owner disappeared without a trace.
    #[must_use]
    pub fn was_robbed(&self, uid: Uuid) -> bool {
        self.robbed.contains(&uid)
    }

    /// Whether the keys of this owner may outlive it.
    #[must_use]
    pub fn may_stay(&self, uid: Uuid) -> bool {
        self.service_keys.get(&uid).is_some_and(|known| known.retains || known.is_released)
    }
}

/// Whether an object was created by the operator.
#[must_use]
pub fn is_managed(object: &Value) -> bool {
    let label = object.pointer("/metadata/labels").and_then(|labels| labels.get(MANAGED_BY));
    label.and_then(Value::as_str) == Some("servicekey-operator")
}

/// The decoded entries of a Secret.
#[must_use]
pub fn texts(secret: &Value) -> BTreeSet<String> {
    let entries = secret.get("data").and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(_, value)| String::from_utf8(STANDARD.decode(value.as_str()?).ok()?).ok()).collect()
}

/// Namespace and name of an object.
#[must_use]
pub fn place(object: &Value) -> (String, String) {
    let field = |path| text(object, path).unwrap_or_default().to_owned();
    (field("/metadata/namespace"), field("/metadata/name"))
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

/// Whether anything but the version differs.
fn is_another(before: &Value, after: Option<&Value>) -> bool {
    let content = |object: &Value| (object.get("data").cloned(), object.pointer("/metadata/labels").cloned());
    after.is_none_or(|after| content(before) != content(after))
}
