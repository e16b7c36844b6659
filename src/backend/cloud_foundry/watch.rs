//! What is under way: one list shows all keys that are being made or deleted, to everybody who waits for one of them.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    call::Exchange,
    classify::Call,
    foundry::{CloudFoundry, KEYS},
    instances::listed,
    marks,
    wire::{Key, Standing},
};
use crate::{
    backend::{BackendError, KeyRequest, Work, shared_answer::SharedAnswer},
    lifecycle::Identity,
};

/// How old a list may be that shows that nothing has come of it yet.
const BOUNDED_AGE: Duration = Duration::from_millis(100);
/// When a first look is worth its while.
const FIRST_LOOK: Duration = Duration::from_millis(50);
/// How far apart looks are planned: what is accepted meanwhile is seen by the next one.
const SPACING: Duration = Duration::from_millis(500);
/// How many bytes of a URL names may take; routers pass some 8,000 on.
const LONGEST_NAMES: usize = 3500;
/// After this nobody waits for it any longer.
const LONGEST: Duration = Duration::from_secs(2 * 3600);
/// How many lists are asked for until one shows a key that began before it.
const ATTEMPTS: usize = 3;

/// All that is under way.
pub(super) struct Watch {
    began: Instant,
    entries: Mutex<HashMap<Identity, Entry>>,
    next_look: Mutex<Option<Instant>>,
    listing: SharedAnswer<Listing>,
}

struct Entry {
    work: Work,
    name: String,
    cluster_id: Option<String>,
    /// The work was accepted before.
    since: Instant,
    noted: Instant,
    /// The key that came of it.
    made: Option<Key>,
}

/// A key that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) guid: String,
    pub(super) created_at: Option<Timestamp>,
}

impl Made {
    fn of(key: &Key) -> Self {
        Self { guid: key.guid.clone(), created_at: key.created_at }
    }
}

/// What one list showed.
struct Listing {
    asked: Instant,
    /// The keys that it would have shown; nothing: all of them.
    about: Option<HashSet<Identity>>,
    /// By owner.
    keys: HashMap<String, Vec<Key>>,
}

impl Listing {
    fn tells_of(&self, identity: Identity, since: Instant) -> bool {
        self.asked >= since && self.about.as_ref().is_none_or(|about| about.contains(&identity))
    }

    fn key(&self, request: &KeyRequest) -> Option<&Key> {
        let keys = self.keys.get(&request.identity.owner.to_string())?;
        let is_it =
            |key: &&Key| marks::is_ours(key, request.identity) && key.name.as_deref() == Some(&request.name);
        keys.iter().find(is_it)
    }
}

impl Watch {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            entries: Mutex::default(),
            next_look: Mutex::default(),
            listing: SharedAnswer::kept(|_| Duration::ZERO),
        }
    }

    /// Work was accepted: when a first look at it is worth its while.
    pub(super) fn begins(&self, request: &KeyRequest, work: Work) -> Duration {
        let now = Instant::now();
        self.note(request, work, now);
        let mut planned = self.next_look.lock().unwrap_or_else(PoisonError::into_inner);
        let look = match *planned {
            Some(planned) if planned > now => planned,
            Some(last) => (now + FIRST_LOOK).max(last + SPACING),
            None => now + FIRST_LOOK,
        };
        *planned = Some(look);
        look.saturating_duration_since(now)
    }

    /// The key that came of work that was waited for.
    pub(super) fn made(&self, identity: Identity) -> Option<Made> {
        self.entries().get(&identity)?.made.as_ref().map(Made::of)
    }

    /// The same, where it was made from the fields that are asked for.
    pub(super) fn made_for(&self, request: &KeyRequest) -> Option<Made> {
        let entries = self.entries();
        let key = entries.get(&request.identity)?.made.as_ref()?;
        marks::is_made_from(key, &request.inputs).then(|| Made::of(key))
    }

    /// Nobody waits for this any longer.
    pub(super) fn ends(&self, identity: Identity) {
        self.entries().remove(&identity);
    }

    /// Since when work is under way. What another process, or another login, began was accepted before all that this
    /// one does.
    fn since(&self, request: &KeyRequest, work: Work) -> Instant {
        let known =
            self.entries().get(&request.identity).filter(|entry| entry.work == work).map(|entry| entry.since);
        known.unwrap_or_else(|| {
            self.note(request, work, self.began);
            self.began
        })
    }

    fn note(&self, request: &KeyRequest, work: Work, since: Instant) {
        let noted = Instant::now();
        let entry = Entry {
            work,
            name: request.name.clone(),
            cluster_id: request.owner.cluster_id.clone(),
            since,
            noted,
            made: None,
        };
        let mut entries = self.entries();
        entries.retain(|_, entry| entry.noted.elapsed() < LONGEST);
        entries.insert(request.identity, entry);
    }

    fn made_it(&self, identity: Identity, key: &Key) {
        if let Some(entry) = self.entries().get_mut(&identity) {
            entry.made = Some(key.clone());
        }
    }

    /// What a list is asked about now: the keys, their names as far as a URL holds them, and whose they are.
    fn question(&self) -> (Option<HashSet<Identity>>, String, String) {
        let entries = self.entries();
        let open = || entries.iter().filter(|(_, entry)| entry.made.is_none());
        let names: HashSet<&str> = open().map(|(_, entry)| entry.name.as_str()).collect();
        let names = names.into_iter().map(listed).collect::<Vec<_>>().join(",");
        let cluster_id = open().find_map(|(_, entry)| entry.cluster_id.as_deref());
        let selector = marks::selector_of_all(cluster_id);
        // Each `%` and each comma of it is encoded once more.
        let length = names.len() + 2 * names.matches(['%', ',']).count();
        if length > LONGEST_NAMES {
            return (None, String::new(), selector);
        }
        (Some(open().map(|(identity, _)| *identity).collect()), names, selector)
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Identity, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How work on a key stands.
pub(super) enum Sight {
    /// Nothing can be told yet.
    Unknown,
    /// There is no such key.
    Absent,
    /// This is how it stands.
    Key(Key),
}

impl CloudFoundry {
    /// How work stands that was accepted before.
    ///
    /// # Errors
    /// Those of the list.
    pub(super) async fn sight_of(&self, request: &KeyRequest, work: Work) -> Result<Sight, BackendError> {
        let since = self.watch.since(request, work);
        for _ in 0..ATTEMPTS {
            let listing = self.watch.listing.get(
                |known| {
                    let listing = &known.value;
                    listing.tells_of(request.identity, since)
                        && (listing.asked.elapsed() <= BOUNDED_AGE || is_over(work, listing.key(request)))
                },
                || self.list_what_is_under_way(),
            );
            let listing = listing.await?.value;
            if listing.tells_of(request.identity, since) {
                let key = listing.key(request);
                if let Some(key) = key.filter(|key| work == Work::Bind && key.standing() == Standing::Made) {
                    self.watch.made_it(request.identity, key);
                }
                return Ok(key.cloned().map_or(Sight::Absent, Sight::Key));
            }
        }
        Ok(Sight::Unknown)
    }

    async fn list_what_is_under_way(&self) -> Result<Listing, BackendError> {
        let (about, names, selector) = self.watch.question();
        let asked = Instant::now();
        let mut query = vec![("type", "key"), ("per_page", "5000"), ("label_selector", selector.as_str())];
        if !names.is_empty() {
            query.push(("names", &names));
        }
        let found: Vec<Key> = Exchange::anonymous(self, Call::Keys).list(KEYS, &query).await?;
        let mut keys = HashMap::<String, Vec<Key>>::new();
        for key in found {
            if let Some(owner) = marks::owner_of(&key) {
                keys.entry(owner.to_owned()).or_default().push(key);
            }
        }
        Ok(Listing { asked, about, keys })
    }
}

/// Whether nothing more is to come: later lists would show the same.
fn is_over(work: Work, key: Option<&Key>) -> bool {
    match (work, key.map(Key::standing)) {
        (Work::Bind, Some(standing)) => matches!(standing, Standing::Made | Standing::NotMade),
        (Work::Unbind, standing) => matches!(standing, None | Some(Standing::NotDeleted)),
        (Work::Bind, None) => false,
    }
}
