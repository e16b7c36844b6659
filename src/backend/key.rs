//! What is asked of a remote side, and what it gives: requests, keys, credentials.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{BackendError, ErrorClass, Kept, MemoryShare, http::Redactor};
use crate::{
    lifecycle::Identity,
    wipe::{SecretMap, SecretValues},
};

pub(crate) use crate::lifecycle::{PlanIds, PlanView, RemoteOperation, SpaceLimit};

/// One remote key, as a backend needs to know it: whose it is, which one, and what to make it for.
#[derive(Clone, Debug)]
pub(crate) struct KeyRequest {
    /// Which key of which ServiceKey.
    pub identity: Identity,
    /// That the ServiceKey was restored from a backup, and goes on with the keys of a former one, whose UID is in `identity`.
    pub restored: Option<Restored>,
    /// The ServiceKey, for the remote side's own records.
    pub owner: Owner,
    /// The service instance that the key is for.
    pub instance: InstanceRef,
    /// Passed on as they are. They may hold secrets, and are not shown by `Debug`.
    pub parameters: Parameters,
    /// The key that this one replaces, where there is one that works.
    pub predecessor: Option<Identity>,
    /// What the key is called at a remote side that has names.
    pub name: String,
    /// The role that the key is to have; IBM Cloud only.
    pub role: KeyRole,
    /// The service ID that the key is to act as; IBM Cloud only.
    pub access: Option<ServiceIdAccess>,
    /// Where the instance is, as the status has it: the account at IBM Cloud, the space at a Cloud Foundry. Only a hint, as
    /// [`hint`](Self::hint) is.
    pub place: Option<String>,
    /// What the key is called where a former release made it, if that is something else.
    pub former_name: Option<String>,
    /// The remote side's id of the key, as the status has it. Only a hint: a backend does nothing with the object of this
    /// id before the remote side has shown that it bears the mark of `identity`.
    pub hint: Option<String>,
    /// The ids of the plan that the key was created with at an Open Service Broker, where the operator noted them. Others may
    /// have written them: the operator sends them only to the same broker, about a key whose id it derives.
    pub plan_ids: Option<PlanIds>,
    /// How long ago the key was made, where that is known.
    pub age: Option<Duration>,
    /// Digest of the fields that the key is made from: a key that was made from others is not this one.
    pub inputs: String,
    /// Whether the operator asks by itself, to clean up after a lost answer, and not because of what the user did.
    pub cleans_up: bool,
    /// Whether a key of this name is taken over that somebody else made.
    pub adoption: Option<AdoptionPermit>,
    /// What else the remote side may repeat.
    pub known: KnownSecrets,
    /// Where the answers are held.
    pub answers: MemoryShare,
}

impl KeyRequest {
    /// Hides besides whatever the remote side was told, or handed out, for this ServiceKey.
    pub(super) async fn hide_in(&self, redactor: Redactor) -> Redactor {
        let redactor = redactor.and_strings_of(self.parameters.expose().values());
        match self.known.expose().await {
            Some(known) => redactor.and_strings_of(known.expose()),
            None => redactor.incomplete(),
        }
    }
}

/// That a ServiceKey goes on with the keys of a former one. The mark of a key then has to show more than the former UID,
/// which others may have written into a Secret or a status: it was created in this cluster, or in one that the provider says
/// is lost, and, where the remote side shows them, for the namespace and the name of this ServiceKey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Restored {
    /// Whether the login is that of the ServiceKey's own namespace, and of no other: then all keys that it sees are its own.
    pub login_is_own: bool,
}

/// The ServiceKey on whose behalf a remote side is asked, in words that the remote side may record.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    /// The ServiceKey's namespace.
    pub namespace: String,
    /// The ServiceKey's name.
    pub name: String,
    /// The ServiceKey's UID.
    pub uid: Uuid,
    /// What tells this cluster from others: the UID of the namespace `kube-system`, where it can be read.
    pub cluster_id: Option<String>,
}

/// The role that a key is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyRole {
    /// This one, by name or id.
    Named(String),
    None,
    /// `Reader`. Where the service has no roles of its own, the key gets none, unless this limit, in words, forbids that.
    Default {
        limit: Option<String>,
    },
}

/// Whom a key acts as, at a remote side that tells keys from identities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ServiceIdAccess {
    /// An existing service ID, by its Cloud Resource Name.
    Existing(String),
    /// One that is made for the key, and goes with it.
    Own(AccessGrant),
}

/// What a service ID may do that is made for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AccessGrant {
    /// The roles that it has on the instance, by name or id.
    pub roles: Vec<String>,
    /// Further attributes, by name and value, that a resource of the instance must have for the roles to apply.
    pub attributes: Vec<(String, String)>,
}

/// Clusters whose keys may be taken over, because they were lost: by their ids, or the first eight digits of those.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LostClusters(Vec<String>);

impl LostClusters {
    /// The clusters with these ids.
    #[must_use]
    pub const fn new(ids: Vec<String>) -> Self {
        Self(ids)
    }

    /// The digits that tell them apart in short marks.
    pub(super) fn digits(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|id| cluster_digits(id)).filter(|digits| !digits.is_empty())
    }

    /// Whether the mark of a key names one of them. A mark may hold no more than the first digits of the id.
    pub(super) fn contain(&self, marked: &str) -> bool {
        !marked.is_empty()
            && self
                .0
                .iter()
                .any(|id| id == marked || cluster_digits(id) == marked || *id == cluster_digits(marked))
    }
}

/// How many hex digits of its id tell a cluster from others where there is no room for all.
pub(super) const CLUSTER_DIGITS: usize = 8;

/// The first digits of a cluster's id; empty where it has fewer than any real one.
pub(super) fn cluster_digits(cluster_id: &str) -> String {
    let digits = cluster_id.chars().filter(char::is_ascii_hexdigit).take(CLUSTER_DIGITS);
    let digits = digits.collect::<String>().to_ascii_lowercase();
    if digits.len() == CLUSTER_DIGITS { digits } else { String::new() }
}

/// Leave to take a key over that somebody else made, unless its ServiceKey lives.
#[derive(Clone)]
pub(crate) struct AdoptionPermit {
    /// What the user calls the key.
    pub name: String,
    /// Whether the login is that of the ServiceKey's own namespace, and of no other.
    pub login_is_own: bool,
    lives: Arc<dyn Fn(Uuid) -> Option<bool> + Send + Sync>,
}

impl AdoptionPermit {
    /// Leave to take over the key that is called so, unless its ServiceKey lives, which may not be known yet.
    pub(crate) fn new(
        name: String,
        login_is_own: bool,
        lives: impl Fn(Uuid) -> Option<bool> + Send + Sync + 'static,
    ) -> Self {
        Self { name, login_is_own, lives: Arc::new(lives) }
    }

    /// Whether the ServiceKey of this UID lives.
    ///
    /// # Errors
    /// [`ErrorClass::Transient`] as long as nobody knows.
    pub(super) fn lives(&self, owner: Uuid) -> Result<bool, BackendError> {
        (self.lives)(owner).ok_or_else(|| {
            let what = "adoption failed: the operator has not listed all ServiceKeys yet; it tries again once it has";
            BackendError::new(ErrorClass::Transient, what)
        })
    }
}

impl fmt::Debug for AdoptionPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, login_is_own, lives: _ } = self;
        f.debug_struct("AdoptionPermit")
            .field("name", name)
            .field("login_is_own", login_is_own)
            .finish_non_exhaustive()
    }
}

/// The service instance that a key is made for, as the user wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InstanceRef {
    /// The instance's name at the remote side.
    pub name: Option<String>,
    /// The instance's id (GUID) at the remote side.
    pub id: Option<String>,
    /// The instance's Cloud Resource Name; IBM Cloud only.
    pub crn: Option<String>,
    /// Name or id of the service offering; Open Service Broker only.
    pub offering: Option<String>,
    /// Name or id of the plan; Open Service Broker only.
    pub plan: Option<String>,
    /// What the remote side is told about the instance; Open Service Broker only.
    pub annotations: BTreeMap<String, String>,
    /// The spaces that the instance must be in, where the provider says so for the ServiceKey's namespace; Cloud Foundry
    /// only.
    pub space_limit: Option<SpaceLimit>,
}

/// Parameters for the remote side, kept out of `Debug` because they may hold secrets, and overwritten when they are dropped.
pub(crate) type Parameters = SecretMap;

/// What the remote side was told, or handed out, in earlier calls, and nobody else is to read. It is looked up only
/// where the remote side's words are to be shown.
#[derive(Clone)]
pub(crate) struct KnownSecrets(Arc<LookUp>);

type LookUp = dyn Fn() -> BoxFuture<'static, Option<SecretValues>> + Send + Sync;

impl KnownSecrets {
    /// Secrets that are looked up so; `None` where that is impossible for now.
    pub(crate) fn new(
        look_up: impl Fn() -> BoxFuture<'static, Option<SecretValues>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(look_up))
    }

    /// The secrets, to be hidden and never to be shown; `None` where nobody can tell what they are.
    pub(crate) async fn expose(&self) -> Option<SecretValues> {
        (self.0)().await
    }
}

impl fmt::Debug for KnownSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KnownSecrets")
    }
}

/// The credentials of one key. `Debug` shows how many entries there are, and nothing else. They are overwritten when the
/// last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Credentials(Arc<CredentialEntries>);

#[derive(Debug)]
struct CredentialEntries {
    all: SecretMap,
    /// The one that tells whether two keys have the same credentials; `None`: all of them.
    decisive: Option<&'static str>,
}

impl Credentials {
    /// Wraps what the remote side gave.
    #[must_use]
    pub(crate) fn new(entries: Map<String, Value>) -> Self {
        Self(Arc::new(CredentialEntries { all: SecretMap::new(entries), decisive: None }))
    }

    /// The same, where two keys have the same credentials if they have the same entry of this name, whatever else differs.
    pub(super) fn decided_by(entry: &'static str, entries: Map<String, Value>) -> Self {
        Self(Arc::new(CredentialEntries { all: SecretMap::new(entries), decisive: Some(entry) }))
    }

    /// Those that tell whether another key has the same credentials.
    #[must_use]
    pub(crate) fn decisive(&self) -> Self {
        let Some(name) = self.0.decisive else { return self.clone() };
        let entry = self.expose().get(name).map(|value| (name.to_owned(), value.clone()));
        Self::new(entry.into_iter().collect())
    }

    /// The credentials themselves, to be written into a Secret and nowhere else.
    #[must_use]
    pub(crate) fn expose(&self) -> &Map<String, Value> {
        self.0.all.expose()
    }

    /// Bytes that they take in memory, or more.
    #[must_use]
    pub(crate) fn size(&self) -> usize {
        size_of_members(self.expose())
    }

    /// The same where they have to wait for another answer of the remote side, which may take its time. They go where
    /// others need their room.
    ///
    /// # Errors
    /// [`ErrorClass::Transient`] where there is no room.
    pub(super) fn kept(self, share: &MemoryShare) -> Result<KeptCredentials, BackendError> {
        match share.keep(self.size(), self) {
            Ok(kept) => Ok(KeptCredentials(kept)),
            Err(why) => Err(not_kept(&why.to_string())),
        }
    }
}

/// Credentials that are read already, and wait for another answer.
pub(super) struct KeptCredentials(Kept<Credentials>);

impl KeptCredentials {
    /// The credentials.
    ///
    /// # Errors
    /// [`ErrorClass::Transient`] where others needed their room meanwhile.
    pub(super) fn take(self) -> Result<Credentials, BackendError> {
        self.0.get().ok_or_else(|| not_kept("the operator ran out of memory for answers; retrying"))
    }
}

fn not_kept(why: &str) -> BackendError {
    BackendError::new(
        ErrorClass::Transient,
        format!("the credentials of the key can't be kept in memory: {why}"),
    )
}

/// What a value takes in memory besides what it holds: its own size, its part of a node or of spare room, an allocation.
const VALUE: usize = 144;
/// What a member of an object takes besides its value and the letters of its name: its part of the inner nodes, and the
/// allocation of the name.
const MEMBER: usize = 64;
/// What an object takes that has a member: a node of a B-tree, which has room for eleven.
const OBJECT: usize = 700;

fn size(value: &Value) -> usize {
    VALUE
        + match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            Value::String(text) => text.capacity(),
            Value::Array(items) => items.iter().map(size).sum(),
            Value::Object(members) => size_of_members(members),
        }
}

fn size_of_members(members: &Map<String, Value>) -> usize {
    let object = if members.is_empty() { 0 } else { OBJECT };
    object + members.iter().map(|(name, value)| MEMBER + name.len() + size(value)).sum::<usize>()
}

/// What is known of a key besides its credentials; none of it is secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyFacts {
    /// The remote side's id of the key.
    pub id: String,
    /// The remote side's name of the key, where it has names.
    pub name: Option<String>,
    /// The key's role, where the remote side's keys have roles.
    pub role: Option<String>,
    /// When the remote side says that it made the key.
    pub created_at: Option<Timestamp>,
    /// Who made the key, where the remote side says.
    pub created_by: Option<String>,
    /// When the key stops working by itself.
    pub expires_at: Option<Timestamp>,
    /// By when the remote side wants the key to be rotated.
    pub renew_before: Option<Timestamp>,
    /// What it was called, where somebody else made it and it was taken over just now.
    pub adopted: Option<String>,
}

/// A key that the remote side confirmed, with its credentials.
#[derive(Clone, Debug)]
pub(crate) struct IssuedKey {
    /// What may be shown.
    pub facts: KeyFacts,
    /// What may not.
    pub credentials: Credentials,
}

/// The answer to a request to read a key again.
#[derive(Clone, Debug)]
pub(crate) enum Fetched {
    /// The key, as it is now.
    Found(IssuedKey),
    /// The remote side has no such key.
    Absent,
    /// The remote side does not show the credentials of an existing key; [`super::Backend::bind`] may.
    NotRetrievable,
}

/// The answer to a request to make a key.
#[derive(Clone, Debug)]
pub(crate) enum Bound {
    /// The key, made now or before.
    Issued(IssuedKey),
    /// The remote side is making it.
    Accepted(Accepted),
    /// This, by the second of two requests. The answer to the first one was lost, and it may still take effect.
    Repeated(Box<Self>),
}

/// The answer to a request to revoke a key.
#[derive(Clone, Debug)]
pub(crate) enum Unbound {
    Gone,
    /// The key is gone, and this of its credentials remains valid, in words for the user.
    GoneExcept(&'static str),
    Absent,
    /// The remote side is revoking it.
    Accepted(Accepted),
}

/// Work that the remote side does by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// What the remote side calls it; sent back to it when asking how far it is.
    pub token: Option<String>,
    /// How long the remote side asked to be left alone.
    pub retry_after: Option<Duration>,
    /// How long it may take, where the remote side says so.
    pub longest: Option<Duration>,
    /// When a first look is worth its while, unless the remote side asked to be left alone.
    pub first_look: Duration,
}

/// How far the remote side is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Running {
        /// What it says about it.
        said: Option<String>,
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// It did what it was asked to do.
    Succeeded,
    Failed {
        /// What it says about it.
        said: String,
        /// Whether it may have left a key that a new attempt does not find.
        leaves_orphan: bool,
    },
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    /// What the standard library allocates for a node of a map with up to eleven members, and for one that has others
    /// below it.
    const LEAF: usize = 11 * (size_of::<String>() + size_of::<Value>()) + 16;
    const INNER: usize = LEAF + 12 * size_of::<usize>();
    /// The least that an allocation takes.
    const ALLOCATION: usize = 32;

    /// `{"a":{"a":{…}}}`, so deep.
    fn chain(depth: usize) -> Value {
        (0..depth).fold(json!({}), |inner, _| json!({ "a": inner }))
    }

    #[rstest]
    #[case::no_member(0, 0)]
    #[case::one(1, LEAF)]
    #[case::a_full_node(11, LEAF)]
    #[case::a_node_that_was_split(12, 2 * LEAF + INNER)]
    // Members that come in order leave nodes half full.
    #[case::many(1200, 200 * LEAF + 36 * INNER)]
    fn objects_take_no_more_than_they_are_counted_as(#[case] members: usize, #[case] nodes: usize) {
        let object: Map<_, _> = (0..members).map(|number| (format!("{number:04}"), json!("x"))).collect();
        let words = members * 2 * ALLOCATION;
        assert!(
            size_of_members(&object) >= nodes + words,
            "{} < {}",
            size_of_members(&object),
            nodes + words
        );
    }

    #[test]
    fn each_object_of_a_chain_has_a_node_of_its_own() {
        assert!(size(&chain(100)) >= 100 * (LEAF + ALLOCATION));
    }
}
