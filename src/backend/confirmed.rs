//! Remembers the keys that the remote side has shown to this process with the operator's mark.
//!
//! Another user may have written an id that is stored elsewhere. An id in here comes from an answer of the remote side
//! that showed the mark with it. So a call by this id can't affect a key that belongs to others.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use super::KeyRequest;
use crate::lifecycle::{Identity, MarkedKey};

/// The most ids to remember of one key. More than one is an exception.
const MOST_IDS: usize = 4;

/// Ids of objects with a mark, with the time at which the remote side last showed each. It contains the keys of
/// existing ServiceKeys, and those created since the last list of all keys.
#[derive(Default)]
pub(super) struct ConfirmedKeys(Mutex<KnownKeys>);

type KnownKeys = HashMap<Claimant, BTreeMap<String, Instant>>;

/// The ServiceKey that a key belongs to. The result for one ServiceKey does not apply to another that claims to be
/// restored from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Claimant {
    identity: Identity,
    /// The UID of the restored ServiceKey.
    restored: Option<Uuid>,
}

#[cfg(test)]
impl From<Identity> for Claimant {
    fn from(identity: Identity) -> Self {
        Self { identity, restored: None }
    }
}

impl From<&KeyRequest> for Claimant {
    fn from(request: &KeyRequest) -> Self {
        let KeyRequest { identity, restored, owner, .. } = request;
        Self { identity: *identity, restored: restored.map(|_| owner.uid) }
    }
}

impl ConfirmedKeys {
    /// Records that the remote side has shown the mark on the object with this id.
    pub(super) fn insert(&self, of: impl Into<Claimant>, id: &str) {
        let mut known = self.0.lock();
        let ids = known.entry(of.into()).or_default();
        if ids.len() < MOST_IDS || ids.contains_key(id) {
            ids.insert(id.to_owned(), Instant::now());
        }
    }

    /// All known objects with the mark. There may be several if a former release created one and got no answer.
    pub(super) fn ids(&self, of: impl Into<Claimant>) -> Vec<String> {
        self.0.lock().get(&of.into()).into_iter().flat_map(BTreeMap::keys).cloned().collect()
    }

    /// The id to read: that of the hint if it is among them.
    pub(super) fn id(&self, of: impl Into<Claimant>, hint: Option<&str>) -> Option<String> {
        let ids = self.ids(of);
        let hinted = ids.iter().find(|id| Some(id.as_str()) == hint);
        hinted.or(ids.first()).cloned()
    }

    /// Forgets the keys of this identity: they are gone, or no longer bear the mark.
    pub(super) fn remove(&self, of: impl Into<Claimant>) {
        self.0.lock().remove(&of.into());
    }

    /// Forgets one of them.
    pub(super) fn remove_id(&self, of: impl Into<Claimant>, id: &str) {
        let (of, mut known) = (of.into(), self.0.lock());
        if let Some(ids) = known.get_mut(&of) {
            ids.remove(id);
            if ids.is_empty() {
                known.remove(&of);
            }
        }
    }

    /// The number of keys.
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Replaces the known ids by those of a list of all marked keys, which was requested at `asked`. It keeps ids that
    /// the remote side has shown since. A remote side may list anything, so the caller omits the keys that no
    /// ServiceKey has.
    pub(super) fn replace<'a>(&self, asked: Instant, listed: impl Iterator<Item = &'a MarkedKey>) {
        let mut known = self.0.lock();
        known.retain(|_, ids| {
            ids.retain(|_, shown| *shown >= asked);
            !ids.is_empty()
        });
        for MarkedKey { id, owner, sequence, name: _, namespace: _ } in listed {
            if let Some(sequence) = *sequence {
                let identity = Identity { owner: *owner, sequence };
                let ids = known.entry(Claimant { identity, restored: None }).or_default();
                if ids.len() < MOST_IDS {
                    ids.entry(id.clone()).or_insert(asked);
                }
            }
        }
        known.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;
    use uuid::Uuid;

    use super::*;
    use crate::lifecycle::Sequence;

    const FIRST: Identity = Identity { owner: Uuid::from_u128(1), sequence: Sequence::FIRST };
    const OTHERS: Identity = Identity { owner: Uuid::from_u128(2), sequence: Sequence::FIRST };

    fn listed(identity: Identity, id: &str) -> MarkedKey {
        MarkedKey {
            id: id.to_owned(),
            name: "creds".to_owned(),
            owner: identity.owner,
            sequence: Some(identity.sequence),
            namespace: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_the_last_list_showed_or_was_shown_since_is_known() {
        let known = ConfirmedKeys::default();
        known.insert(FIRST, "gone");
        advance(Duration::from_secs(1)).await;
        let asked = Instant::now();
        known.insert(FIRST, "made-meanwhile");
        known.replace(asked, [listed(OTHERS, "theirs"), listed(FIRST, "old")].iter());
        assert_eq!(known.ids(FIRST), ["made-meanwhile", "old"]);
        assert_eq!(known.ids(OTHERS), ["theirs"]);
    }

    #[test]
    fn no_list_is_remembered_without_end() {
        let known = ConfirmedKeys::default();
        let many: Vec<_> = (0..100).map(|number| listed(FIRST, &number.to_string())).collect();
        known.replace(Instant::now(), many.iter());
        known.insert(FIRST, "one-more");
        assert_eq!(known.ids(FIRST).len(), MOST_IDS);
    }

    #[test]
    fn a_hint_chooses_among_what_is_known_and_adds_nothing() {
        let known = ConfirmedKeys::default();
        known.insert(FIRST, "a");
        known.insert(FIRST, "b");
        assert_eq!(known.id(FIRST, Some("b")).as_deref(), Some("b"));
        assert_eq!(known.id(FIRST, Some("theirs")).as_deref(), Some("a"));
        assert_eq!(known.id(OTHERS, Some("a")), None);
        known.remove_id(FIRST, "a");
        known.remove_id(FIRST, "b");
        assert!(known.ids(FIRST).is_empty());
    }
}
