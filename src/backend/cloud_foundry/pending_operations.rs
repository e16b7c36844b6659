//! Follows pending operations. One list shows all keys that are being created or deleted to every caller that waits for
//! one.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::{
    classify::CloudFoundryCall,
    instances::InstanceSelector,
    marks,
    session::CloudFoundryApi,
    wire::{BindingState, CredentialBinding, KEYS, listed},
};
use crate::{
    backend::{
        BackendError, CompleteList, Kept, KeyRequest, LostClusters, MemoryShare, RemoteOperation,
        confirmed::Claimant,
        memory::{AllocatedMemory, Weight},
        single_flight::SingleFlight,
    },
    lifecycle::Identity,
};

/// How long a list is cached if it does not show the end of the operation yet.
const LIST_TTL: Duration = Duration::from_millis(100);
/// The earliest time of the first poll.
const FIRST_LOOK: Duration = Duration::from_millis(50);
/// The interval between polls while many operations are pending. One poll covers all operations that were accepted
/// since the last one.
const SPACING: Duration = Duration::from_millis(500);
/// Up to this number of pending operations, polls don't wait for each other.
const FEW: usize = 4;
/// The most bytes of names in a URL. Routers accept URLs of some 8,000 bytes.
const LONGEST_NAMES: usize = 3500;
/// How long an operation is remembered.
const LONGEST: Duration = Duration::from_secs(2 * 3600);
/// The most operations that are remembered. The state of a forgotten one is looked up again.
const MOST: usize = 10_000;
/// How long a deletion may show no effect before the operator looks up its job.
pub(super) const PATIENCE_WITHOUT_EFFECT: Duration = Duration::from_secs(5);
/// How long an operation may be in progress before the operator looks up its job.
pub(super) const PATIENCE_WITH_EFFECT: Duration = LONGEST_PAUSE_OF_JOBS;
/// The longest time between two lookups of one job.
const LONGEST_PAUSE_OF_JOBS: Duration = Duration::from_secs(300);
/// How long a deletion may show no effect before the operator sends it again.
const LONGEST_WITHOUT_EFFECT: Duration = Duration::from_secs(600);
/// How long the operator remembers that a broker handles one key of an instance at a time.
const TURN_TTL: Duration = Duration::from_secs(3600);
/// How long a key waits at least before it tries again to get its turn, and how much longer for each other waiting key.
/// So at most ten keys a second try.
const SHORTEST_TURN: Duration = Duration::from_secs(5);
const SPACING_OF_TURNS: Duration = Duration::from_millis(100);
/// The most instances for which that is remembered.
const MOST_WITH_TURNS: usize = 1000;
/// How long a deletion blocks others without being polled. Its ServiceKey may no longer exist.
const LONGEST_SILENCE: Duration = Duration::from_secs(120);
/// How long an operation is remembered without being polled. Polls are less frequent only after failures, and then the
/// state is looked up again.
const LONGEST_WITHOUT_POLL: Duration = LONGEST_PAUSE_OF_JOBS;
/// How many lists the operator requests until one started after the operation.
const ATTEMPTS: usize = 3;

/// All pending operations of one Cloud Foundry.
pub(super) struct PendingOperations {
    began: Instant,
    entries: Mutex<HashMap<Identity, PendingEntry>>,
    next_look: Mutex<Option<Instant>>,
    /// The instances whose broker handles one key at a time, and when it last reported that.
    one_at_a_time: Mutex<HashMap<InstanceSelector, Instant>>,
    listing: SingleFlight<Listing>,
}

struct PendingEntry {
    work: RemoteOperation,
    /// The instance, as the ServiceKey names it.
    target: Option<InstanceSelector>,
    /// Whether the request has been sent. Otherwise the key waits for its turn.
    is_begun: bool,
    /// Whether it had to wait for its turn.
    is_in_turn: bool,
    /// The job that executes the operation, if the status does not name it.
    job: Option<String>,
    /// The key that was created and is not marked yet.
    unmarked: Option<Unmarked>,
    /// When to look up the job again. It is `None` before the first lookup.
    next_job: Option<Instant>,
    /// When the operation was last polled.
    asked: Instant,
    /// The names that the key may have.
    names: Vec<String>,
    cluster_id: Option<String>,
    /// The API accepted the operation before this time.
    since: Instant,
    noted: Instant,
    /// Whether the operation has created a key.
    is_made: bool,
    /// That key, as long as memory permits. Otherwise it is looked up again.
    made: Option<Kept<CreatedFrom>>,
}

impl PendingEntry {
    fn new(request: &KeyRequest, work: RemoteOperation, since: Instant) -> Self {
        let noted = Instant::now();
        Self {
            work,
            target: InstanceSelector::from_instance(&request.instance).ok(),
            is_begun: true,
            is_in_turn: false,
            job: None,
            unmarked: None,
            next_job: None,
            asked: noted,
            names: request.former_name.iter().chain([&request.name]).cloned().collect(),
            // The key of a restored ServiceKey may be from a lost cluster.
            cluster_id: request.owner.cluster_id.clone().filter(|_| request.restored.is_none()),
            since,
            noted,
            is_made: false,
            made: None,
        }
    }
}

/// A key that this process created and has not marked yet.
#[derive(Clone, Debug)]
struct Unmarked {
    guid: String,
    /// The digest of the fields that the key was created from.
    inputs: String,
    of: Claimant,
}

/// Adds an entry. It removes old entries, and the oldest one if there are too many.
fn insert(entries: &mut HashMap<Identity, PendingEntry>, identity: Identity, entry: PendingEntry) {
    entries.retain(|_, entry| entry.noted.elapsed() < LONGEST);
    if entries.len() >= MOST {
        let oldest = entries.iter().min_by_key(|(_, entry)| entry.noted).map(|(identity, _)| *identity);
        oldest.map(|oldest| entries.remove(&oldest));
    }
    entries.insert(identity, entry);
}

/// A created key, and the digest of its inputs if the key records it.
#[derive(Clone)]
struct CreatedFrom {
    made: CreatedKey,
    inputs: Option<String>,
}

/// A key that was created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CreatedKey {
    pub(super) guid: String,
    pub(super) name: Option<String>,
    pub(super) created_at: Option<Timestamp>,
}

impl From<CredentialBinding> for CreatedKey {
    fn from(key: CredentialBinding) -> Self {
        let CredentialBinding { guid, name, created_at, last_operation: _, metadata: _ } = key;
        Self { guid, name, created_at }
    }
}

/// The result of one list: the keys that it covers, and their state.
struct Listing {
    asked: Instant,
    about: HashSet<Identity>,
    keys: HashMap<Identity, CredentialBinding>,
    held: AllocatedMemory,
}

/// Bytes that an identity takes in a listing, and a key without its strings.
const IDENTITY: usize = 64;
const KEY: usize = 2 * size_of::<(Identity, CredentialBinding)>();

impl Listing {
    /// Keeps one key of each identity. If the list contains several, the first one counts.
    fn new(asked: Instant, about: HashSet<Identity>, listed: CompleteList<ListedKey>) -> Self {
        let CompleteList { items, mut held } = listed;
        let mut keys = HashMap::<Identity, CredentialBinding>::new();
        for ListedKey { identity, key } in items {
            keys.entry(identity).or_insert(key);
        }
        let weight = keys.values().map(|key| KEY + key.weight()).sum::<usize>();
        held.shrink_to(weight + about.len() * IDENTITY);
        Self { asked, about, keys, held }
    }

    fn tells_of(&self, identity: Identity, since: Instant) -> bool {
        self.asked >= since && self.about.contains(&identity)
    }

    fn key(&self, request: &KeyRequest) -> Option<&CredentialBinding> {
        self.keys.get(&request.identity).filter(|key| marks::is_ours_by_name(key, request))
    }
}

/// A listed key that belongs to a pending operation.
struct ListedKey {
    identity: Identity,
    key: CredentialBinding,
}

impl Weight for ListedKey {
    fn weight(&self) -> usize {
        self.key.weight()
    }
}

/// The content of a request for a list.
struct ListRequest {
    /// The keys, with the names that each may have.
    about: HashMap<Identity, Vec<String>>,
    /// All names, if they fit into a URL.
    names: String,
    selector: String,
}

impl ListRequest {
    /// Picks the keys that the list is about.
    fn pick(&self) -> impl Fn(CredentialBinding) -> Option<ListedKey> {
        let mut of_owner = HashMap::<String, Vec<(Identity, &[String])>>::new();
        for (identity, names) in &self.about {
            of_owner.entry(identity.owner.to_string()).or_default().push((*identity, names));
        }
        move |key| {
            let of_owner = of_owner.get(marks::owner_of(&key)?)?;
            let is_of = |(identity, names): &&(Identity, &[String])| {
                marks::is_ours_by_one_of(&key, *identity, names.iter())
            };
            let identity = of_owner.iter().find(is_of)?.0;
            Some(ListedKey { identity, key })
        }
    }
}

impl PendingOperations {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            entries: Mutex::default(),
            next_look: Mutex::default(),
            one_at_a_time: Mutex::default(),
            listing: SingleFlight::kept(|_| Duration::ZERO).counted(|listing| Some(&listing.held)),
        }
    }

    /// Adds an accepted operation. Returns the time until its first poll.
    pub(super) fn start(&self, request: &KeyRequest, work: RemoteOperation) -> Duration {
        let now = Instant::now();
        self.note(request, work, now);
        let mut planned = self.next_look.lock();
        let look = match *planned {
            Some(planned) if planned > now => planned,
            Some(last) if self.unfinished() > FEW => (now + FIRST_LOOK).max(last + SPACING),
            Some(last) => now.max(last) + FIRST_LOOK,
            None => now + FIRST_LOOK,
        };
        *planned = Some(look);
        look.saturating_duration_since(now)
    }

    /// The number of operations.
    pub(super) fn len(&self) -> usize {
        self.entries().len()
    }

    /// How many operations have not created a key yet.
    fn unfinished(&self) -> usize {
        self.entries().values().filter(|entry| !entry.is_made).count()
    }

    /// The key that a pending operation created.
    pub(super) fn created_key(&self, identity: Identity) -> Option<CreatedKey> {
        Some(self.created_from(identity)?.made)
    }

    /// The same key, if it was created from the requested fields.
    pub(super) fn created_key_for(&self, request: &KeyRequest) -> Option<CreatedKey> {
        // That key may have been created for the ServiceKey from which this one claims to be restored.
        let CreatedFrom { made, inputs } =
            self.created_from(request.identity).filter(|_| request.restored.is_none())?;
        inputs.is_none_or(|inputs| request.is_fulfilled_by(&inputs)).then_some(made)
    }

    fn created_from(&self, identity: Identity) -> Option<CreatedFrom> {
        let made = self.entries().get(&identity)?.made.clone();
        made?.get()
    }

    /// Removes an operation. The cached list is removed together with the last operation.
    pub(super) fn remove(&self, identity: Identity) {
        let mut entries = self.entries();
        entries.remove(&identity);
        let is_empty = entries.is_empty();
        drop(entries);
        if is_empty {
            self.listing.clear();
        }
    }

    /// Removes the operations that are not polled any more. Their ServiceKey may be gone, although the operation has not
    /// ended: its user keeps the key, or gave it up.
    pub(super) fn remove_unpolled(&self) {
        let mut entries = self.entries();
        entries.retain(|_, entry| entry.asked.elapsed() < LONGEST_WITHOUT_POLL);
        let is_empty = entries.is_empty();
        drop(entries);
        if is_empty {
            self.listing.clear();
        }
    }

    /// When the operation was accepted. An operation of another process or login counts as accepted before this process
    /// started.
    fn since(&self, request: &KeyRequest, work: RemoteOperation) -> Instant {
        let known =
            self.entries().get_mut(&request.identity).filter(|entry| entry.work == work).map(|entry| {
                entry.asked = Instant::now();
                entry.since
            });
        known.unwrap_or_else(|| {
            self.note(request, work, self.began);
            self.began
        })
    }

    /// Records that the broker refused an operation on this key's instance because of another one.
    pub(super) fn note_busy_broker(&self, request: &KeyRequest) {
        let Ok(target) = InstanceSelector::from_instance(&request.instance) else { return };
        let mut known = self.one_at_a_time.lock();
        known.retain(|_, said| said.elapsed() < TURN_TTL);
        if known.len() < MOST_WITH_TURNS || known.contains_key(&target) {
            known.insert(target, Instant::now());
        }
    }

    /// Takes the turn to delete this key. If the broker handles one key of the instance at a time, the key has to wait
    /// while another one is being deleted. A key that takes its turn counts as being deleted.
    ///
    /// # Errors
    /// How long to wait before the next try.
    pub(super) fn take_turn(&self, request: &KeyRequest) -> Result<(), Duration> {
        let Some(target) = self.target_with_turns(request) else { return Ok(()) };
        let is_other = |(identity, entry): &(&Identity, &PendingEntry)| {
            **identity != request.identity
                && entry.work == RemoteOperation::Unbind
                && entry.target.as_ref() == Some(&target)
                && entry.asked.elapsed() < LONGEST_SILENCE
        };
        // The check and the change happen under one lock. Otherwise two keys could take the same turn.
        let mut entries = self.entries();
        let (begun, waiting): (Vec<_>, Vec<_>) =
            entries.iter().filter(is_other).partition(|(_, entry)| entry.is_begun);
        let pause = SPACING_OF_TURNS.saturating_mul(u32::try_from(waiting.len()).unwrap_or(u32::MAX));
        let is_begun = begun.is_empty();
        let entry = PendingEntry {
            is_begun,
            is_in_turn: true,
            ..PendingEntry::new(request, RemoteOperation::Unbind, Instant::now())
        };
        insert(&mut entries, request.identity, entry);
        if is_begun { Ok(()) } else { Err(pause.max(SHORTEST_TURN)) }
    }

    /// When to poll a deletion that had to wait for its turn. Earlier waits don't count, so the first poll follows
    /// soon.
    pub(super) fn next_poll_in_turn(&self, identity: Identity) -> Option<Duration> {
        let entries = self.entries();
        let entry = entries.get(&identity).filter(|entry| entry.is_in_turn)?;
        Some(entry.since.elapsed().clamp(FIRST_LOOK, SHORTEST_TURN))
    }

    /// Ends the turn of a key that could not be deleted. The key waits for its next turn.
    pub(super) fn release_turn(&self, identity: Identity) {
        if let Some(entry) = self.entries().get_mut(&identity) {
            entry.is_begun = false;
        }
    }

    /// Whether this key waits for its turn to be deleted.
    pub(super) fn waits_for_turn(&self, identity: Identity) -> bool {
        self.entries()
            .get(&identity)
            .is_some_and(|entry| entry.work == RemoteOperation::Unbind && !entry.is_begun)
    }

    fn target_with_turns(&self, request: &KeyRequest) -> Option<InstanceSelector> {
        let target = InstanceSelector::from_instance(&request.instance).ok()?;
        let known = self.one_at_a_time.lock();
        known.get(&target).is_some_and(|said| said.elapsed() < TURN_TTL).then_some(target)
    }

    /// Records the job that deletes a key whose turn came.
    pub(super) fn note_job(&self, identity: Identity, job: Option<String>) {
        if let Some(entry) = self.entries().get_mut(&identity) {
            (entry.job, entry.is_in_turn) = (job, true);
        }
    }

    /// The job that deletes a key whose turn came.
    pub(super) fn job(&self, identity: Identity) -> Option<String> {
        self.entries().get(&identity)?.job.clone()
    }

    /// Records that the key was created and is not marked yet.
    pub(super) fn note_unmarked(&self, request: &KeyRequest, guid: &str) {
        if let Some(entry) = self.entries().get_mut(&request.identity) {
            let of = Claimant::from(request);
            entry.unmarked = Some(Unmarked { guid: guid.to_owned(), inputs: request.inputs.clone(), of });
        }
    }

    /// Records that the key is marked, or gone.
    pub(super) fn note_marked(&self, identity: Identity) {
        if let Some(entry) = self.entries().get_mut(&identity) {
            entry.unmarked = None;
        }
    }

    /// The key that was created from these fields and is not marked yet.
    pub(super) fn unmarked(&self, request: &KeyRequest) -> Option<String> {
        let Unmarked { guid, inputs, of } = self.entries().get(&request.identity)?.unmarked.clone()?;
        (of == Claimant::from(request) && request.is_fulfilled_by(&inputs)).then_some(guid)
    }

    /// Whether to look up the job now. The first lookup is due after `first`, and the later ones at increasing
    /// intervals.
    pub(super) fn is_job_due(&self, identity: Identity, first: Duration) -> bool {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(&identity) else { return false };
        let due = entry.next_job.unwrap_or(entry.since + first);
        if due > Instant::now() {
            return false;
        }
        let pause = entry.since.elapsed().clamp(first, LONGEST_PAUSE_OF_JOBS);
        entry.next_job = Some(Instant::now() + pause);
        true
    }

    /// Whether the operation has had no effect for so long that it never will.
    pub(super) fn is_stuck(&self, identity: Identity) -> bool {
        self.entries().get(&identity).is_some_and(|entry| entry.since.elapsed() >= LONGEST_WITHOUT_EFFECT)
    }

    fn note(&self, request: &KeyRequest, work: RemoteOperation, since: Instant) {
        insert(&mut self.entries(), request.identity, PendingEntry::new(request, work, since));
    }

    /// Remembers the created key, if memory permits.
    fn note_created(&self, identity: Identity, key: &CredentialBinding, share: &MemoryShare) {
        if self.created_from(identity).is_some() {
            return;
        }
        let inputs = key.metadata.annotations.inputs.clone();
        let made = CreatedFrom { made: CreatedKey::from(key.clone()), inputs };
        let kept = share.keep(size_of::<CreatedFrom>() + key.weight(), made).ok();
        if let Some(entry) = self.entries().get_mut(&identity) {
            entry.is_made = true;
            entry.made = kept;
        }
    }

    /// The request for a list of all keys that are pending now.
    fn question(&self) -> ListRequest {
        let entries = self.entries();
        let open = || entries.iter().filter(|(_, entry)| !entry.is_made);
        let names: HashSet<&str> = open().flat_map(|(_, entry)| &entry.names).map(String::as_str).collect();
        let names = names.into_iter().map(listed).collect::<Vec<_>>().join(",");
        let clusters: Option<Vec<_>> = open().map(|(_, entry)| entry.cluster_id.as_deref()).collect();
        let cluster_id = clusters.and_then(|clusters| clusters.first().copied());
        let selector = marks::selector_of_all(cluster_id);
        let told = |(identity, entry): (&Identity, &PendingEntry)| (*identity, entry.names.clone());
        // The query encodes each `%` and each comma once more.
        let length = names.len() + 2 * names.matches(['%', ',']).count();
        if length > LONGEST_NAMES {
            return ListRequest { about: entries.iter().map(told).collect(), names: String::new(), selector };
        }
        ListRequest { about: open().map(told).collect(), names, selector }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Identity, PendingEntry>> {
        self.entries.lock()
    }
}

/// The state of an operation on a key.
pub(super) enum OperationState {
    /// No list that started after the operation was available.
    Unknown,
    /// There is no such key.
    Absent,
    /// The key, as the API shows it.
    Key(Box<CredentialBinding>),
}

impl PendingOperations {
    /// The state of an accepted operation, from one list for all pending operations. A key counts only if it may belong
    /// to this ServiceKey.
    ///
    /// # Errors
    /// Failures to read the list.
    pub(super) async fn state_of(
        &self,
        api: CloudFoundryApi<'_>,
        request: &KeyRequest,
        work: RemoteOperation,
        lost: &LostClusters,
    ) -> Result<OperationState, BackendError> {
        let since = self.since(request, work);
        for _ in 0..ATTEMPTS {
            let listing = self.listing.get(
                |known| {
                    let listing = &known.value;
                    listing.tells_of(request.identity, since)
                        && (listing.asked.elapsed() <= LIST_TTL || is_over(work, listing.key(request)))
                },
                || self.list(api),
            );
            let listing = listing.await?.value;
            if listing.tells_of(request.identity, since) {
                return Ok(self.state_in(&listing, request, work, lost, api.http.kept()));
            }
        }
        Ok(OperationState::Unknown)
    }

    /// The state of an operation according to this list.
    fn state_in(
        &self,
        listing: &Listing,
        request: &KeyRequest,
        work: RemoteOperation,
        lost: &LostClusters,
        kept: &MemoryShare,
    ) -> OperationState {
        let key = listing.key(request).filter(|key| marks::may_be_inherited(key, request, lost));
        let Some(key) = key else { return OperationState::Absent };
        if work == RemoteOperation::Bind && key.state() == BindingState::Created {
            self.note_created(request.identity, key, kept);
        }
        OperationState::Key(Box::new(key.clone()))
    }

    async fn list(&self, api: CloudFoundryApi<'_>) -> Result<Listing, BackendError> {
        let question = self.question();
        let asked = Instant::now();
        let mut query = vec![("type", "key"), ("label_selector", question.selector.as_str())];
        if !question.names.is_empty() {
            query.push(("names", &question.names));
        }
        let listed =
            api.for_no_key(CloudFoundryCall::Keys).list_in_large_pages(KEYS, &query, question.pick()).await?;
        Ok(Listing::new(asked, question.about.into_keys().collect(), listed))
    }
}

/// Whether the operation has ended, so that later lists would show the same.
fn is_over(work: RemoteOperation, key: Option<&CredentialBinding>) -> bool {
    match (work, key.map(CredentialBinding::state)) {
        (RemoteOperation::Bind, Some(standing)) => {
            matches!(standing, BindingState::Created | BindingState::CreateFailed)
        }
        (RemoteOperation::Unbind, standing) => matches!(standing, None | Some(BindingState::DeleteFailed)),
        (RemoteOperation::Bind, None) => false,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use axum::{
        Json, Router,
        extract::{Query, State},
        http::{HeaderMap, header::HOST},
        routing::get,
    };
    use futures::{FutureExt, future::join_all};
    use rstest::rstest;
    use serde_json::{Value, json};
    use tokio::time::{advance, sleep};
    use uuid::Uuid;

    use super::{
        super::{CloudFoundry, CloudFoundryConfig, CloudFoundryLogin},
        *,
    };
    use crate::{
        backend::{
            InstanceRef, KeyRole, KnownSecrets, LostClusters, MemoryBudget, Owner, Parameters, Progress,
            test_server,
        },
        lifecycle::Sequence,
    };

    type Asked = HashMap<String, String>;

    /// An API with these keys. It records the requests for lists.
    #[derive(Clone, Default)]
    struct FakeApi {
        keys: Arc<Mutex<Vec<Value>>>,
        lists: Arc<Mutex<Vec<Asked>>>,
    }

    impl FakeApi {
        fn knowing(keys: &[Value]) -> Self {
            Self { keys: Arc::new(Mutex::new(keys.to_vec())), ..Self::default() }
        }

        /// Starts the API and returns a client of it.
        async fn start(&self) -> CloudFoundry {
            let router = Router::new()
                .route("/", get(Self::root))
                .route(&format!("/v3{KEYS}"), get(Self::list))
                .route("/v3/jobs/failed", get(Self::failed_job));
            let config = CloudFoundryConfig {
                api_url: test_server::serve(router.with_state(self.clone())).await,
                uaa_url: None,
                auth: CloudFoundryLogin::Bearer { token: "t0k3n".into() },
                organization: None,
                space: None,
                confines_ids: true,
                lost_clusters: LostClusters::default(),
                http: test_server::http_config(Duration::from_secs(20)),
            };
            CloudFoundry::new(&config).unwrap()
        }

        async fn root(headers: HeaderMap) -> Json<Value> {
            let here = format!("http://{}", headers[HOST].to_str().unwrap());
            let links = json!({"cloud_controller_v3": {"href": format!("{here}/v3")}, "uaa": {"href": here}});
            Json(json!({"links": links}))
        }

        async fn failed_job() -> Json<Value> {
            let error =
                json!({"code": 290_006, "title": "CF-JobTimeout", "detail": "The job has timed out."});
            Json(json!({"guid": "failed", "state": "FAILED", "errors": [error]}))
        }

        async fn list(State(api): State<Self>, Query(asked): Query<Asked>) -> Json<Value> {
            api.lists.lock().push(asked);
            Json(json!({"resources": *api.keys.lock()}))
        }

        fn lists(&self) -> usize {
            self.lists.lock().len()
        }
    }

    pub(in crate::backend::cloud_foundry) fn request(number: u32) -> KeyRequest {
        named(number, format!("key-{number}"))
    }

    fn named(number: u32, name: String) -> KeyRequest {
        let uid = Uuid::from_u128(number.into());
        KeyRequest {
            identity: Identity { owner: uid, sequence: Sequence::FIRST },
            restored: None,
            owner: Owner {
                namespace: "training".to_owned(),
                name: name.clone(),
                uid,
                cluster_id: Some("cluster-1".to_owned()),
            },
            instance: InstanceRef::default(),
            parameters: Parameters::default(),
            predecessor: None,
            name,
            former_name: None,
            recorded_id: None,
            plan_ids: None,
            inputs: "fields".to_owned(),
            cleans_up: false,
            adoption: None,
            role: KeyRole::None,
            place: None,
            access: None,
            age: None,
            known: KnownSecrets::new(|| async { None }.boxed()),
            answers: MemoryBudget::for_answers().share("the provider"),
        }
    }

    /// The key of a request, as the API shows it.
    fn key(request: &KeyRequest, state: &str) -> Value {
        json!({
            "guid": format!("guid-of-{}", request.name),
            "name": request.name,
            "last_operation": {"type": "create", "state": state},
            "metadata": marks::new_metadata(request),
        })
    }

    fn standing(sight: &OperationState) -> Option<BindingState> {
        match sight {
            OperationState::Key(key) => Some(key.state()),
            OperationState::Absent => None,
            OperationState::Unknown => panic!("it does not tell"),
        }
    }

    #[tokio::test]
    async fn one_list_tells_everybody_who_waits() {
        let requests = [1, 2, 3].map(request);
        let api = FakeApi::knowing(&[key(&requests[0], "succeeded"), key(&requests[1], "in progress")]);
        let foundry = api.start().await;
        for request in &requests {
            foundry.pending.start(request, RemoteOperation::Bind);
        }
        let sights =
            join_all(requests.iter().map(|request| foundry.state_of(request, RemoteOperation::Bind))).await;
        let standings: Vec<_> = sights.iter().map(|sight| standing(sight.as_ref().unwrap())).collect();
        assert_eq!(standings, [Some(BindingState::Created), Some(BindingState::Creating), None]);
        assert_eq!(api.lists(), 1);
        let asked = api.lists.lock().remove(0);
        let names: HashSet<_> = asked["names"].split(',').collect();
        assert_eq!(names, HashSet::from(["key-1", "key-2", "key-3"]));
        let made = foundry.pending.created_key(requests[0].identity).unwrap();
        assert_eq!(made.guid, "guid-of-key-1");
        assert_eq!(foundry.pending.created_key(requests[1].identity), None);
    }

    /// A finished operation stays finished. An unfinished one needs another list when the cached one is too old.
    #[rstest]
    #[case::over("succeeded", 1)]
    #[case::not_over("in progress", 2)]
    #[tokio::test]
    async fn a_list_is_believed_for_a_while(#[case] state: &str, #[case] lists: usize) {
        let request = request(1);
        let api = FakeApi::knowing(&[key(&request, state)]);
        let foundry = api.start().await;
        foundry.pending.start(&request, RemoteOperation::Bind);
        foundry.state_of(&request, RemoteOperation::Bind).await.unwrap();
        // The cached list must become too old.
        sleep(LIST_TTL + Duration::from_millis(1)).await;
        foundry.state_of(&request, RemoteOperation::Bind).await.unwrap();
        assert_eq!(api.lists(), lists);
    }

    #[tokio::test]
    async fn a_list_from_before_the_work_began_tells_nothing_of_it() {
        let (first, second) = (request(1), request(2));
        let api = FakeApi::knowing(&[key(&first, "in progress")]);
        let foundry = api.start().await;
        foundry.pending.start(&first, RemoteOperation::Bind);
        foundry.state_of(&first, RemoteOperation::Bind).await.unwrap();
        api.keys.lock().push(key(&second, "succeeded"));
        foundry.pending.start(&second, RemoteOperation::Bind);
        let sight = foundry.state_of(&second, RemoteOperation::Bind).await.unwrap();
        assert_eq!(standing(&sight), Some(BindingState::Created));
        assert_eq!(api.lists(), 2);
    }

    /// After a restart, the operations of the former process count as accepted before.
    #[tokio::test]
    async fn what_another_process_began_is_seen_as_well() {
        let request = request(1);
        let foundry = FakeApi::knowing(&[key(&request, "succeeded")]).start().await;
        let sight = foundry.state_of(&request, RemoteOperation::Bind).await.unwrap();
        assert_eq!(standing(&sight), Some(BindingState::Created));
    }

    #[rstest]
    #[case::others_mark("metadata", json!({"labels": {"servicekeys.dev/owner": "other"}}))]
    #[case::no_mark("metadata", json!({}))]
    #[tokio::test]
    async fn the_key_of_somebody_else_is_not_taken_for_this_one(#[case] field: &str, #[case] value: Value) {
        let request = request(1);
        let mut theirs = key(&request, "succeeded");
        theirs[field] = value;
        let foundry = FakeApi::knowing(&[theirs]).start().await;
        let sight = foundry.state_of(&request, RemoteOperation::Bind).await.unwrap();
        assert_eq!(standing(&sight), None);
    }

    /// A remote side may list any number of keys with the mark of a pending operation.
    #[test]
    fn a_listing_takes_as_much_as_one_key_of_each_identity() {
        let request = request(1);
        let budget = MemoryBudget::for_answers();
        let shown: CredentialBinding = serde_json::from_value(key(&request, "in progress")).unwrap();
        let others = CredentialBinding { guid: "x".repeat(1000), ..shown.clone() };
        let items = [shown].into_iter().chain(std::iter::repeat_n(others, 999));
        let items: Vec<_> = items.map(|key| ListedKey { identity: request.identity, key }).collect();
        let mut held = budget.share("a").hold(|| {});
        held.grow_now(1 << 20).unwrap();
        let listing =
            Listing::new(Instant::now(), HashSet::from([request.identity]), CompleteList { items, held });
        assert_eq!(listing.key(&request).unwrap().guid, "guid-of-key-1");
        assert!(budget.held() < 2000, "{}", budget.held());
    }

    /// This decision needs a list, but no server.
    #[rstest]
    #[case::not_listed(&[], RemoteOperation::Bind, None)]
    #[case::not_created_yet(&["in progress"], RemoteOperation::Bind, Some(BindingState::Creating))]
    #[case::created(&["succeeded"], RemoteOperation::Bind, Some(BindingState::Created))]
    #[case::the_first_of_several(&["failed", "succeeded"], RemoteOperation::Bind, Some(BindingState::CreateFailed))]
    #[case::not_deleted_yet(&["succeeded"], RemoteOperation::Unbind, Some(BindingState::Created))]
    fn a_list_shows_how_work_stands(
        #[case] states: &[&str],
        #[case] work: RemoteOperation,
        #[case] expected: Option<BindingState>,
    ) {
        let request = request(1);
        let share = MemoryBudget::for_answers().share("a");
        let listed = |state: &&str| serde_json::from_value(key(&request, state)).unwrap();
        let items = states.iter().map(listed).map(|key| ListedKey { identity: request.identity, key });
        let list = CompleteList { items: items.collect(), held: share.hold(|| {}) };
        let listing = Listing::new(Instant::now(), HashSet::from([request.identity]), list);
        let pending = PendingOperations::new();
        pending.start(&request, work);
        let state = pending.state_in(&listing, &request, work, &LostClusters::default(), &share);
        assert_eq!(standing(&state), expected);
        let is_created = work == RemoteOperation::Bind && expected == Some(BindingState::Created);
        assert_eq!(pending.created_key(request.identity).is_some(), is_created);
    }

    /// A remote side may list more than the request asks for.
    #[test]
    fn what_was_not_asked_about_is_not_kept() {
        let (asked, other) = (request(1), request(2));
        let watch = PendingOperations::new();
        watch.start(&asked, RemoteOperation::Bind);
        let question = watch.question();
        let pick = question.pick();
        let is_kept = |shown: Value| pick(serde_json::from_value(shown).unwrap()).is_some();
        assert!(is_kept(key(&asked, "succeeded")));
        assert!(!is_kept(key(&other, "succeeded")));
        let mut later = key(&asked, "succeeded");
        later["metadata"]["annotations"]["servicekeys.dev/sequence"] = "2".into();
        assert!(!is_kept(later), "another key of the same ServiceKey");
    }

    #[rstest]
    #[case::short(20, 10, true)]
    #[case::long(20, 255, false)]
    #[case::many(500, 10, false)]
    fn more_names_than_a_url_holds_are_left_to_the_selector(
        #[case] count: u32,
        #[case] length: usize,
        #[case] by_name: bool,
    ) {
        let watch = PendingOperations::new();
        for number in 0..count {
            watch.start(&named(number, format!("{number:0length$}")), RemoteOperation::Bind);
        }
        let ListRequest { about, names, selector } = watch.question();
        assert_eq!(about.len(), count as usize);
        assert_eq!(names.is_empty(), !by_name);
        assert!(names.len() <= LONGEST_NAMES);
        let all = "servicekeys.dev/managed-by=servicekey-operator,servicekeys.dev/cluster=cluster-1";
        assert_eq!(selector, all);
    }

    #[tokio::test]
    async fn names_with_commas_stay_one_name() {
        let watch = PendingOperations::new();
        watch.start(&named(1, "a,b".to_owned()), RemoteOperation::Bind);
        assert_eq!(watch.question().names, "a%2Cb");
    }

    #[tokio::test(start_paused = true)]
    async fn looks_are_taken_together() {
        let watch = PendingOperations::new();
        assert_eq!(watch.start(&request(1), RemoteOperation::Bind), FIRST_LOOK);
        advance(FIRST_LOOK / 2).await;
        assert_eq!(
            watch.start(&request(2), RemoteOperation::Bind),
            FIRST_LOOK / 2,
            "the planned poll covers it"
        );
        advance(FIRST_LOOK).await;
        assert_eq!(
            watch.start(&request(3), RemoteOperation::Bind),
            FIRST_LOOK,
            "few keys don't wait for each other"
        );
        for number in 4..100 {
            assert_eq!(
                watch.start(&request(number), RemoteOperation::Bind),
                FIRST_LOOK,
                "the planned poll covers it"
            );
        }
        advance(FIRST_LOOK * 3 / 2).await;
        assert_eq!(
            watch.start(&request(100), RemoteOperation::Bind),
            SPACING - FIRST_LOOK / 2,
            "many keys wait for the next interval"
        );
        advance(SPACING * 2).await;
        assert_eq!(watch.start(&request(101), RemoteOperation::Bind), FIRST_LOOK);
    }

    #[tokio::test]
    async fn a_key_that_was_made_is_known_until_it_is_taken() {
        let request = request(1);
        let foundry = FakeApi::knowing(&[key(&request, "succeeded")]).start().await;
        foundry.pending.start(&request, RemoteOperation::Bind);
        foundry.state_of(&request, RemoteOperation::Bind).await.unwrap();
        assert!(foundry.pending.created_key_for(&request).is_some());
        let of_other_fields = KeyRequest { inputs: "other fields".to_owned(), ..request.clone() };
        assert_eq!(foundry.pending.created_key_for(&of_other_fields), None);
        foundry.pending.remove(request.identity);
        assert_eq!(foundry.pending.created_key_for(&request), None);
    }

    #[rstest]
    #[case(RemoteOperation::Bind, "create", "in progress", false)]
    #[case(RemoteOperation::Bind, "create", "succeeded", true)]
    #[case(RemoteOperation::Bind, "create", "failed", true)]
    #[case(RemoteOperation::Bind, "delete", "in progress", false)]
    #[case(RemoteOperation::Unbind, "create", "succeeded", false)]
    #[case(RemoteOperation::Unbind, "delete", "in progress", false)]
    #[case(RemoteOperation::Unbind, "delete", "failed", true)]
    fn knows_what_is_over(
        #[case] work: RemoteOperation,
        #[case] kind: &str,
        #[case] state: &str,
        #[case] over: bool,
    ) {
        let mut shown = key(&request(1), state);
        shown["last_operation"]["type"] = kind.into();
        let key = serde_json::from_value(shown).unwrap();
        assert_eq!(is_over(work, Some(&key)), over);
        assert_eq!(is_over(work, None), work == RemoteOperation::Unbind);
    }

    fn at_instance(number: u32, name: &str) -> KeyRequest {
        let instance = InstanceRef { name: Some(name.to_owned()), ..InstanceRef::default() };
        KeyRequest { instance, ..request(number) }
    }

    #[tokio::test(start_paused = true)]
    async fn keys_of_an_instance_take_turns_where_its_broker_wants_that() {
        let watch = PendingOperations::new();
        let [one, two] = [1, 2].map(|number| at_instance(number, "db"));
        let elsewhere = at_instance(3, "other");
        watch.start(&one, RemoteOperation::Unbind);
        assert!(watch.take_turn(&two).is_ok(), "no broker has refused an operation yet");
        watch.note_busy_broker(&two);
        assert!(watch.take_turn(&two).is_err() && watch.waits_for_turn(two.identity));
        assert!(watch.take_turn(&elsewhere).is_ok());
        watch.remove(one.identity);
        assert!(watch.take_turn(&two).is_ok() && !watch.waits_for_turn(two.identity));
        assert!(watch.take_turn(&one).is_err(), "it is the other key's turn");
        watch.release_turn(two.identity);
        assert!(watch.take_turn(&one).is_ok());
        advance(TURN_TTL).await;
        assert!(watch.take_turn(&two).is_ok(), "the broker's refusal is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn the_more_keys_wait_for_a_turn_the_more_rarely_each_asks() {
        let watch = PendingOperations::new();
        watch.note_busy_broker(&at_instance(0, "db"));
        assert_eq!(watch.take_turn(&at_instance(0, "db")), Ok(()));
        let pauses: Vec<_> = (1..=201).map(|number| watch.take_turn(&at_instance(number, "db"))).collect();
        assert_eq!(pauses[0], Err(SHORTEST_TURN));
        assert_eq!(pauses[200], Err(Duration::from_secs(20)));
    }

    /// The user may have abandoned the ServiceKey meanwhile.
    #[tokio::test(start_paused = true)]
    async fn a_deletion_that_is_not_asked_about_keeps_no_other_waiting() {
        let watch = PendingOperations::new();
        let [one, two] = [1, 2].map(|number| at_instance(number, "db"));
        watch.note_busy_broker(&one);
        assert!(watch.take_turn(&one).is_ok());
        advance(LONGEST_SILENCE / 2).await;
        watch.since(&one, RemoteOperation::Unbind);
        advance(LONGEST_SILENCE / 2).await;
        assert!(watch.take_turn(&two).is_err());
        advance(LONGEST_SILENCE / 2).await;
        assert!(watch.take_turn(&two).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_operation_that_nobody_asks_about_is_forgotten() {
        let watch = PendingOperations::new();
        let [abandoned, polled] = [1, 2].map(request);
        watch.start(&abandoned, RemoteOperation::Unbind);
        watch.start(&polled, RemoteOperation::Bind);
        advance(LONGEST_WITHOUT_POLL - Duration::from_secs(1)).await;
        watch.remove_unpolled();
        assert_eq!(watch.len(), 2);
        watch.since(&polled, RemoteOperation::Bind);
        advance(Duration::from_secs(1)).await;
        watch.remove_unpolled();
        assert_eq!(watch.entries().keys().collect::<Vec<_>>(), [&polled.identity]);
    }

    #[test]
    fn of_brokers_that_want_turns_a_bounded_number_is_remembered() {
        let watch = PendingOperations::new();
        for number in 0..=MOST_WITH_TURNS {
            watch.note_busy_broker(&at_instance(1, &format!("instance-{number}")));
        }
        assert_eq!(watch.one_at_a_time.lock().len(), MOST_WITH_TURNS);
    }

    /// The worker may have run into its time limit.
    #[rstest]
    #[case::of_a_creation(RemoteOperation::Bind, "create", true)]
    #[case::of_a_deletion(RemoteOperation::Unbind, "delete", false)]
    #[tokio::test]
    async fn a_job_that_fails_without_saying_so_at_its_key_ends_the_work(
        #[case] work: RemoteOperation,
        #[case] kind: &str,
        #[case] orphan: bool,
    ) {
        let request = request(1);
        let mut shown = key(&request, "in progress");
        shown["last_operation"]["type"] = kind.into();
        let foundry = FakeApi::knowing(&[shown]).start().await;
        foundry.pending.note(&request, work, Instant::now());
        let early = foundry.poll(&request, work, Some("failed")).await.unwrap();
        assert!(matches!(early, Progress::Running { .. }), "{early:?}");

        let long_ago = Instant::now().checked_sub(PATIENCE_WITH_EFFECT).unwrap();
        foundry.pending.note(&request, work, long_ago);
        let Progress::Failed { said, leaves_orphan } =
            foundry.poll(&request, work, Some("failed")).await.unwrap()
        else {
            panic!("it goes on")
        };
        assert!(said.ends_with("; the API still reports the operation as in progress"), "{said}");
        assert_eq!(leaves_orphan, orphan);
    }

    #[tokio::test(start_paused = true)]
    async fn jobs_are_looked_at_ever_more_rarely() {
        let watch = PendingOperations::new();
        let key = request(1);
        watch.start(&key, RemoteOperation::Unbind);
        let mut looks = Vec::new();
        for second in 0..1200 {
            if watch.is_job_due(key.identity, PATIENCE_WITHOUT_EFFECT) {
                looks.push(second);
            }
            assert_eq!(watch.is_stuck(key.identity), second >= LONGEST_WITHOUT_EFFECT.as_secs());
            advance(Duration::from_secs(1)).await;
        }
        assert_eq!(looks, [5, 10, 20, 40, 80, 160, 320, 620, 920]);
    }
}
