//! The types of calls about keys: requests, answers, credentials.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{BackendError, ErrorClass, Kept, MemoryShare, http::Redactor};
use crate::{
    lifecycle::{Identity, Inputs},
    wipe::{SecretMap, SecretValues},
};

pub(crate) use crate::lifecycle::{PlanIds, PlanView, RemoteOperation, SpaceLimit};

/// The desired key at a remote side: its owner, its identity, and its settings.
#[derive(Clone, Debug)]
pub(crate) struct KeyRequest {
    /// The ServiceKey of the key, and the key's number.
    pub identity: Identity,
    /// Set if the ServiceKey was restored from a backup and continues with the keys of a former one, whose UID is in
    /// `identity`.
    pub restored: Option<Restored>,
    /// The ServiceKey, for the remote side's own records.
    pub owner: Owner,
    pub instance: InstanceRef,
    /// Passed on unchanged. They may contain secrets, and `Debug` does not show them.
    pub parameters: Parameters,
    /// The key that this one replaces, if that one works.
    pub predecessor: Option<Identity>,
    /// The name of the key, for a remote side that has names.
    pub name: String,
    /// The role of the key; IBM Cloud only.
    pub role: KeyRole,
    /// The service ID that the key acts as; IBM Cloud only.
    pub access: Option<ServiceIdAccess>,
    /// The location of the instance according to the status: the account at IBM Cloud, the space at Cloud Foundry. Only
    /// a hint, like [`recorded_id`](Self::recorded_id).
    pub place: Option<String>,
    /// The name of the key if a former release created it under another one.
    pub former_name: Option<String>,
    /// The remote side's id of the key according to the status. Only a hint: a backend does nothing with the object of
    /// this id before the remote side has shown that it bears the mark of `identity`.
    pub recorded_id: Option<String>,
    /// The ids of the plan that the key was created with at an Open Service Broker, if the operator recorded them.
    /// Another user may have written them: the operator sends them only to the same broker, about a key whose id it
    /// derives.
    pub plan_ids: Option<PlanIds>,
    /// The age of the key, if it is known.
    pub age: Option<Duration>,
    /// The text of the [`Inputs`] that define the key.
    pub inputs: String,
    /// Whether the operator sends the request to clean up after a missing answer, not because of a change by the user.
    pub cleans_up: bool,
    /// Set if an existing key of this name, which was not created for this ServiceKey, is adopted.
    pub adoption: Option<AdoptionPermit>,
    /// Further secrets that the remote side may repeat.
    pub known: KnownSecrets,
    /// The memory for the answers.
    pub answers: MemoryShare,
}

impl KeyRequest {
    /// Whether a key that was created from these inputs is the requested one.
    pub(super) fn is_fulfilled_by(&self, inputs: &str) -> bool {
        Inputs::from(self.inputs.as_str()).is_fulfilled_by(&Inputs::from(inputs))
    }

    /// Also hides all secrets that the remote side has received or issued for this ServiceKey.
    pub(super) async fn hide_in(&self, redactor: Redactor) -> Redactor {
        let redactor = redactor.and_strings_of(self.parameters.expose().values());
        match self.known.expose().await {
            Some(known) => redactor.and_strings_of(known.expose()),
            None => redactor.incomplete(),
        }
    }
}

/// A ServiceKey that continues with the keys of a former one. Another user may have written the former UID into a
/// Secret or a status. So the mark of a key must show more than this UID. The key must have been created in this
/// cluster, or in one that the provider lists as lost. If the remote side shows namespace and name, the key must have
/// been created for those of this ServiceKey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Restored {
    /// Whether the login belongs to the ServiceKey's own namespace alone. Then all keys that it sees are of this
    /// namespace.
    pub login_is_own: bool,
}

/// The ServiceKey of a call, for the remote side's records.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub namespace: String,
    pub name: String,
    pub uid: Uuid,
    /// Identifies this cluster: the UID of the namespace `kube-system`, if the operator can read it.
    pub cluster_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyRole {
    /// This role, by name or id.
    Named(String),
    None,
    /// `Reader`. If the service has no roles of its own, the key gets no role, unless this limit forbids that. The text
    /// describes the limit.
    Default {
        limit: Option<String>,
    },
}

/// The identity that a key acts as, at a remote side with separate identities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ServiceIdAccess {
    /// An existing service ID, by its Cloud Resource Name.
    Existing(String),
    /// A service ID that is created and deleted with the key.
    Own(AccessGrant),
}

/// The permissions of a service ID that is created for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AccessGrant {
    /// The roles on the instance, by name or id.
    pub roles: Vec<String>,
    /// Further attributes, by name and value, that a resource of the instance must have for the roles to apply.
    pub attributes: Vec<(String, String)>,
}

/// Clusters that were lost, so that their keys may be adopted: by their ids, or by the first eight digits of those.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LostClusters(Vec<String>);

impl LostClusters {
    #[must_use]
    pub const fn new(ids: Vec<String>) -> Self {
        Self(ids)
    }

    /// The digits that identify them in short marks.
    pub(super) fn digits(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|id| cluster_digits(id)).filter(|digits| !digits.is_empty())
    }

    /// Whether the mark of a key is that of one of these clusters. A mark may contain only the first digits of the id.
    pub(super) fn contain(&self, marked: &str) -> bool {
        !marked.is_empty()
            && self
                .0
                .iter()
                .any(|id| id == marked || cluster_digits(id) == marked || *id == cluster_digits(marked))
    }
}

/// The hex digits of a cluster's id in marks that are too short for the whole id.
pub(super) const CLUSTER_DIGITS: usize = 8;

/// The first digits of a cluster's id, or an empty text if the id is too short to be a real one.
pub(super) fn cluster_digits(cluster_id: &str) -> String {
    let digits = cluster_id.chars().filter(char::is_ascii_hexdigit).take(CLUSTER_DIGITS);
    let digits = digits.collect::<String>().to_ascii_lowercase();
    if digits.len() == CLUSTER_DIGITS { digits } else { String::new() }
}

/// Permission to adopt a key that was not created for this ServiceKey, unless the ServiceKey that it belongs to exists.
#[derive(Clone)]
pub(crate) struct AdoptionPermit {
    /// The user's name for the key.
    pub name: String,
    /// Whether the login belongs to the ServiceKey's own namespace alone.
    pub login_is_own: bool,
    service_key_exists: Arc<dyn Fn(Uuid) -> Option<bool> + Send + Sync>,
}

impl AdoptionPermit {
    /// Permission to adopt the key of this name, unless its ServiceKey exists. `lives` returns `None` while that is
    /// unknown.
    pub(crate) fn new(
        name: String,
        login_is_own: bool,
        lives: impl Fn(Uuid) -> Option<bool> + Send + Sync + 'static,
    ) -> Self {
        Self { name, login_is_own, service_key_exists: Arc::new(lives) }
    }

    /// Whether the ServiceKey of this UID exists.
    ///
    /// # Errors
    /// [`ErrorClass::Transient`] while the operator has not listed all ServiceKeys.
    pub(super) fn lives(&self, owner: Uuid) -> Result<bool, BackendError> {
        (self.service_key_exists)(owner).ok_or_else(|| {
            let what = "adoption failed: the operator has not listed all ServiceKeys yet; it tries again once it has";
            BackendError::new(ErrorClass::Transient, what)
        })
    }
}

impl fmt::Debug for AdoptionPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, login_is_own, service_key_exists: _ } = self;
        f.debug_struct("AdoptionPermit")
            .field("name", name)
            .field("login_is_own", login_is_own)
            .finish_non_exhaustive()
    }
}

/// The service instance of a key, as the user wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InstanceRef {
    pub name: Option<String>,
    pub id: Option<String>,
    /// The instance's Cloud Resource Name; IBM Cloud only.
    pub crn: Option<String>,
    /// Name or id of the service offering; Open Service Broker only.
    pub offering: Option<String>,
    /// Name or id of the plan; Open Service Broker only.
    pub plan: Option<String>,
    /// Information about the instance for the remote side; Open Service Broker only.
    pub annotations: BTreeMap<String, String>,
    /// The spaces that the instance must be in, if the provider limits them for the ServiceKey's namespace; Cloud
    /// Foundry only.
    pub space_limit: Option<SpaceLimit>,
}

/// Parameters for the remote side. They may contain secrets, so `Debug` does not show them, and dropping overwrites
/// them.
pub(crate) type Parameters = SecretMap;

/// Secrets that the remote side received or issued in earlier calls. The operator reads them only when it quotes the
/// remote side.
#[derive(Clone)]
pub(crate) struct KnownSecrets(Arc<LookUp>);

type LookUp = dyn Fn() -> BoxFuture<'static, Option<SecretValues>> + Send + Sync;

impl KnownSecrets {
    /// Secrets from this lookup, which returns `None` if it can't read them now.
    pub(crate) fn new(
        look_up: impl Fn() -> BoxFuture<'static, Option<SecretValues>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(look_up))
    }

    /// The secrets, to redact them; never show them. `None` if they can't be read now.
    pub(crate) async fn expose(&self) -> Option<SecretValues> {
        (self.0)().await
    }
}

impl fmt::Debug for KnownSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KnownSecrets")
    }
}

/// The credentials of one key. `Debug` shows only the number of entries. Dropping the last clone overwrites them.
#[derive(Clone, Debug)]
pub(crate) struct Credentials(Arc<CredentialEntries>);

#[derive(Debug)]
struct CredentialEntries {
    all: SecretMap,
    /// The entry that decides whether two keys have the same credentials; `None` for all entries.
    decisive: Option<&'static str>,
}

impl Credentials {
    #[must_use]
    pub(crate) fn new(entries: Map<String, Value>) -> Self {
        Self(Arc::new(CredentialEntries { all: SecretMap::new(entries), decisive: None }))
    }

    /// Credentials of which only this entry decides whether two keys have the same ones.
    pub(super) fn decided_by(entry: &'static str, entries: Map<String, Value>) -> Self {
        Self(Arc::new(CredentialEntries { all: SecretMap::new(entries), decisive: Some(entry) }))
    }

    /// The entries that decide whether another key has the same credentials.
    #[must_use]
    pub(crate) fn decisive(&self) -> Self {
        let Some(name) = self.0.decisive else { return self.clone() };
        let entry = self.expose().get(name).map(|value| (name.to_owned(), value.clone()));
        Self::new(entry.into_iter().collect())
    }

    /// The credentials themselves, for a Secret and for nothing else.
    #[must_use]
    pub(crate) fn expose(&self) -> &Map<String, Value> {
        self.0.all.expose()
    }

    /// Bytes that they use in memory, or more.
    #[must_use]
    pub(crate) fn size(&self) -> usize {
        size_of_members(self.expose())
    }

    /// Keeps the credentials while the operator waits for a further answer of the remote side, which may take long.
    /// They are dropped if others need the memory.
    ///
    /// # Errors
    /// [`ErrorClass::Transient`] if there is not enough memory.
    pub(super) fn kept(self, share: &MemoryShare) -> Result<KeptCredentials, BackendError> {
        match share.keep(self.size(), self) {
            Ok(kept) => Ok(KeptCredentials(kept)),
            Err(why) => Err(not_kept(&why.to_string())),
        }
    }
}

/// Credentials that were read, and wait for another answer.
pub(super) struct KeptCredentials(Kept<Credentials>);

impl KeptCredentials {
    /// # Errors
    /// [`ErrorClass::Transient`] if others needed the memory meanwhile.
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

/// Bytes of a value in addition to its content: its own size, its part of a node or of spare capacity, and an
/// allocation.
const VALUE: usize = 144;
/// Bytes of an object's member in addition to its value and the text of its name: its part of the inner nodes, and the
/// allocation of the name.
const MEMBER: usize = 64;
/// Bytes of an object that has a member: a B-tree node, which has space for eleven.
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

/// The attributes of a key other than its credentials. None of them is secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyFacts {
    pub id: String,
    /// The remote side's name of the key, if it has names.
    pub name: Option<String>,
    /// The key's role, if the remote side's keys have roles.
    pub role: Option<String>,
    /// When the key was created, according to the remote side.
    pub created_at: Option<Timestamp>,
    /// Who created the key, if the remote side reports it.
    pub created_by: Option<String>,
    /// When the key expires.
    pub expires_at: Option<Timestamp>,
    /// The time before which the remote side requires the key to be rotated.
    pub renew_before: Option<Timestamp>,
    /// The former name of the key, if it was just adopted.
    pub adopted: Option<String>,
}

/// A key that the remote side confirmed, with its credentials.
#[derive(Clone, Debug)]
pub(crate) struct IssuedKey {
    /// May be shown.
    pub facts: KeyFacts,
    /// Must not be shown.
    pub credentials: Credentials,
}

/// The answer to a request to read a key again.
#[derive(Clone, Debug)]
pub(crate) enum Fetched {
    /// The key in its current state.
    Found(IssuedKey),
    /// The remote side has no such key.
    Absent,
    /// The remote side does not show the credentials of an existing key; [`super::Backend::bind`] may.
    NotRetrievable,
}

/// The answer to a request to create a key.
#[derive(Clone, Debug)]
pub(crate) enum Bound {
    /// The key, created now, or before at a time that the remote side states.
    Issued(IssuedKey),
    /// The key that an earlier request created, at an unknown time.
    Existing(IssuedKey),
    /// The remote side is creating it.
    Accepted(Accepted),
    /// The second of two requests got this answer. The first one got none, and may still take effect.
    Repeated(Box<Self>),
}

/// The answer to a request to revoke a key.
#[derive(Clone, Debug)]
pub(crate) enum Unbound {
    Gone,
    /// The key is gone, but this part of its credentials remains valid. The text describes it for the user.
    GoneExcept(&'static str),
    Absent,
    /// The remote side is revoking it.
    Accepted(Accepted),
}

/// An asynchronous operation of the remote side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// The remote side's token for the operation, which the operator sends when it polls.
    pub token: Option<String>,
    /// The pause that the remote side required.
    pub retry_after: Option<Duration>,
    /// The longest duration of the operation, if the remote side reports one.
    pub longest: Option<Duration>,
    /// When to poll first, unless the remote side required a pause.
    pub first_look: Duration,
}

/// The state of an asynchronous operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Running {
        /// The remote side's description.
        said: Option<String>,
        /// The pause that the remote side required.
        retry_after: Option<Duration>,
    },
    /// The remote side finished the operation.
    Succeeded,
    Failed {
        /// The remote side's description.
        said: String,
        /// Whether the operation may have left a key that a new attempt does not find.
        leaves_orphan: bool,
    },
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    /// The allocation of the standard library for a map's node with up to eleven members, and for one with further
    /// nodes below it.
    const LEAF: usize = 11 * (size_of::<String>() + size_of::<Value>()) + 16;
    const INNER: usize = LEAF + 12 * size_of::<usize>();
    /// The smallest size of an allocation.
    const ALLOCATION: usize = 32;

    /// `{"a":{"a":{…}}}`, nested this deep.
    fn chain(depth: usize) -> Value {
        (0..depth).fold(json!({}), |inner, _| json!({ "a": inner }))
    }

    #[rstest]
    #[case::no_member(0, 0)]
    #[case::one(1, LEAF)]
    #[case::a_full_node(11, LEAF)]
    #[case::a_node_that_was_split(12, 2 * LEAF + INNER)]
    // Members in ascending order leave nodes half full.
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
