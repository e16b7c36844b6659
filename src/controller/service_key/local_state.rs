//! The state of one ServiceKey that the process keeps between two reconciles. All of it may be lost in a crash.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use jiff::Timestamp;
use kube::{ResourceExt, runtime::controller::Action};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::{
    api::ServiceKey,
    backend::{Credentials, Kept},
    controller::{
        backoff::{Backoff, LONGEST_WAIT, SHORTEST_WAIT},
        watch::resource_version,
    },
    lifecycle::{
        Claim, Failure, Inputs, KeyRecord, ParametersDigest, ParametersView, PendingOperation, Problem,
        RemoteOperation, Requeue, Sequence, Unusable, Verified, Wait,
    },
    secret::{Marks, ParametersKey},
};

/// The shortest wait between two polls of an operation.
const SHORTEST_POLL: Duration = Duration::from_millis(20);
/// The longest wait between two polls of an operation, unless the remote side requests another one.
const LONGEST_POLL: Duration = Duration::from_secs(30);

/// The state of one ServiceKey.
#[derive(Debug, Default)]
pub(crate) struct LocalState {
    /// The object that the operator's own last write returned, until the cache has caught up.
    own_write: Option<Arc<ServiceKey>>,
    /// The key whose credentials could not be stored yet. The memory budget may drop them. The operator then
    /// recovers as after a crash.
    in_hand: Option<(KeyRecord, Kept<Credentials>)>,
    /// A key that no Secret can contain, and the circumstances of the attempt to store it.
    pub unusable: Option<(Circumstances, Unusable)>,
    /// The key whose credentials were stored, until the status records it.
    pub stored: Option<KeyRecord>,
    /// The last attempt to use new credentials.
    pub verified: Option<Verified>,
    /// An operation that the remote side has accepted and works on.
    pub pending: Option<PendingOperation>,
    /// A key that a bind may have created, until the status records that it has to be revoked, with the time when
    /// the outcome became unknown.
    pub lost: Option<(Sequence, Timestamp)>,
    /// The last request for a key that may still take effect, with the time when the operator gave it up.
    pub given_up: Option<(Sequence, Timestamp)>,
    /// The last request to revoke a key whose outcome is unknown, with the time when it became unknown.
    pub unsure_revocation: Option<(Sequence, Timestamp)>,
    /// The numbers that the remote side did not have, until this process stores a key of that number.
    pub refuted: BTreeSet<Sequence>,
    /// The keys that are gone, each with the time of the confirmation. Kept while the ServiceKey is being deleted: none
    /// of them is created again.
    pub revoked: BTreeMap<Sequence, Timestamp>,
    /// Whether this process stored the finalizer, so that no other process can have created a key.
    pub stored_finalizer: bool,
    /// Whether a bind of this process may have created a key: it was not refused.
    pub may_have_created: bool,
    /// The Secret in the version that this process wrote or found intact.
    pub written: Option<WrittenSecret>,
    /// The last repairs of the Secret.
    pub repairs: Repairs,
    /// The knowledge about the content of `parametersFrom`, if another content requires another key.
    pub parameters: FollowedParameters,
    /// The last checked generation of the spec, and what is wrong with it.
    pub checked_spec: Option<(i64, Option<Problem>)>,
    /// The last failure, until the next attempt.
    pub setback: Option<Setback>,
    /// Whether the operator removed its finalizer, so that nothing is left to do.
    pub finalizer_removed: bool,
    backoff: Backoff,
    polls: Polls,
}

/// The knowledge about the content of `parametersFrom`.
#[derive(Debug, Default)]
pub(crate) struct FollowedParameters {
    /// The key of digests: that of the Secret, as far as the status confirms it, or a new one.
    pub key: Option<ParametersKey>,
    /// The digest of the content when this process last read it.
    pub digest: Option<ParametersDigest>,
    pub view: ParametersView,
}

/// A failure, and the conditions of the next attempt.
#[derive(Clone, Debug)]
pub(crate) struct Setback {
    /// The failure.
    pub failure: Failure,
    /// When the next attempt is due.
    pub until: Timestamp,
    /// The occasion of the failed attempt. When it changes, the next attempt follows at once.
    pub of: Occasion,
}

/// A version of the Secret that was intact.
#[derive(Clone, Debug)]
pub(crate) struct WrittenSecret {
    /// Its `metadata.resourceVersion`.
    pub version: Option<String>,
    /// Its marks, which another writer may have changed since.
    pub marks: Marks<Claim>,
}

/// Consecutive repairs of a Secret. The first few follow at once, and each further one waits longer than the
/// one before.
#[derive(Debug, Default)]
pub(crate) struct Repairs {
    count: u32,
    last: Option<Timestamp>,
}

/// Repairs that follow one another without a wait.
const QUICK_REPAIRS: u32 = 3;
/// How long a Secret must stay intact for its next repair to count as the first one again.
const CALM: Duration = Duration::from_secs(600);

impl Repairs {
    /// Notes a repair.
    pub(crate) fn note(&mut self, now: Timestamp) {
        let is_calm = self.last.is_none_or(|last| now.duration_since(last).unsigned_abs() > CALM);
        self.count = if is_calm { 1 } else { self.count.saturating_add(1) };
        self.last = Some(now);
    }

    /// The earliest time of the next repair.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        let excess = self.count.checked_sub(QUICK_REPAIRS)?;
        let wait = Duration::from_secs(2_u64.saturating_pow(excess)).min(LONGEST_WAIT);
        self.last?.checked_add(wait).ok()
    }
}

/// The conditions of an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Occasion {
    /// The spec and the provider.
    pub circumstances: Circumstances,
    /// How often the provider's remote side recovered.
    pub recoveries: u64,
    /// Whether the ServiceKey is being deleted.
    pub deleting: bool,
    /// Whether the operator has a Secret for the ServiceKey.
    pub has_secret: bool,
}

/// The conditions under which the credentials of a key can be stored. When they change, the operator tries again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Circumstances {
    /// The generation of the ServiceKey.
    pub generation: Option<i64>,
    /// Digest of the fields that keys are created from.
    pub inputs: Inputs,
    /// Digest of everything that its provider was loaded from.
    pub provider: Option<String>,
}

impl LocalState {
    /// The key whose credentials are in hand, and these credentials.
    pub(crate) fn in_hand(&self) -> Option<(&KeyRecord, Credentials)> {
        let (key, credentials) = self.in_hand.as_ref()?;
        Some((key, credentials.get()?))
    }

    /// Whether the state contains no key that may exist.
    pub(crate) const fn knows_of_no_key(&self) -> bool {
        let Self { in_hand, stored, pending, given_up, .. } = self;
        in_hand.is_none() && stored.is_none() && pending.is_none() && given_up.is_none()
    }

    /// Drops credentials that can't be stored any more, and keeps the record of their key.
    pub(crate) fn forget_credentials(&mut self) {
        let in_hand = self.in_hand.take().map(|(key, _)| key);
        self.stored = in_hand.or_else(|| self.stored.take());
    }

    /// Sets the credentials in hand; `None` drops them.
    pub(crate) fn take_in_hand(&mut self, in_hand: Option<(KeyRecord, Kept<Credentials>)>) {
        self.in_hand = in_hand;
    }

    /// The newer of the cached object and the one that the operator's own last write returned.
    pub(crate) fn newest(&mut self, cached: Arc<ServiceKey>) -> Arc<ServiceKey> {
        self.observe(&cached);
        self.own_write.clone().unwrap_or(cached)
    }

    /// Drops the operator's own last write once the cache contains it or a newer version.
    fn observe(&mut self, cached: &ServiceKey) {
        self.own_write.take_if(|own| !supersedes(own, cached));
    }

    /// Keeps the object that the operator's own write returned.
    pub(crate) fn set_own_write(&mut self, object: Arc<ServiceKey>) {
        self.own_write = Some(object);
    }

    /// How long to wait after a failure: at least as long as the remote side requested.
    pub(crate) fn wait(&mut self, not_before: Option<Duration>) -> Duration {
        self.backoff.next_wait().max(not_before.unwrap_or_default())
    }

    /// Schedules the next attempt after a failure, unless the occasion changes before.
    pub(crate) fn set_back(&mut self, failure: Option<Failure>, until: Timestamp, of: Occasion) {
        self.setback = failure.map(|failure| Setback { failure, until, of });
    }

    /// When to try again after a failure.
    pub(crate) fn retry(&mut self, not_before: Option<Duration>) -> Action {
        Action::requeue(self.wait(not_before))
    }

    /// How long to wait before the next poll: as long as the remote side requested, otherwise a growing wait.
    /// Another operation starts with short waits again.
    pub(crate) fn next_poll(&mut self, work: &PendingOperation) -> Duration {
        let PendingOperation {
            operation: kind, sequence, since, retry_after, first_poll: first_look, ..
        } = work;
        let of = Some((*kind, *sequence, *since));
        if self.polls.of != of {
            self.polls = Polls { of, waits: waits_between_polls(*first_look) };
        }
        let own = self.polls.waits.next().unwrap_or(LONGEST_POLL);
        retry_after.map_or(own, |asked| asked.max(SHORTEST_WAIT))
    }

    /// Resets the backoff if the reconcile ended well. A pending operation does not show whether the next
    /// attempt succeeds, so the waits keep growing. `held_back`: the reconcile attempted nothing, because an
    /// earlier attempt failed.
    pub(crate) fn note_wait(&mut self, rest: &Wait, held_back: bool) {
        let is_done = matches!(rest.requeue, Requeue::At(_)) && !rest.report.pending && !held_back;
        if is_done || rest.requeue == Requeue::OnChange {
            self.reset_backoff();
        }
    }

    /// Makes the next failure start with the shortest wait again.
    pub(crate) fn reset_backoff(&mut self) {
        (self.backoff, self.setback) = (Backoff::default(), None);
    }
}

/// Whether the operator's own write is ahead of the cache. The write that removes the last finalizer returns
/// the version that it removed, so the versions alone are not sufficient.
fn supersedes(own: &ServiceKey, cached: &ServiceKey) -> bool {
    match resource_version(own).cmp(&resource_version(cached)) {
        Ordering::Greater => true,
        Ordering::Equal => own.finalizers() != cached.finalizers(),
        Ordering::Less => false,
    }
}

/// Waits between polls of one operation, identified by its kind, key and start.
#[derive(Debug)]
struct Polls {
    of: Option<(RemoteOperation, Sequence, Timestamp)>,
    waits: ExponentialBackoff,
}

impl Default for Polls {
    fn default() -> Self {
        Self { of: None, waits: waits_between_polls(SHORTEST_WAIT) }
    }
}

fn waits_between_polls(first: Duration) -> ExponentialBackoff {
    let waits = ExponentialBuilder::default()
        .with_min_delay(first.max(SHORTEST_POLL))
        .with_max_delay(LONGEST_POLL)
        .with_factor(1.5)
        .with_jitter()
        .without_max_times();
    waits.build()
}

/// The states of all ServiceKeys, by UID.
#[derive(Debug, Default)]
pub(crate) struct LocalStates(Mutex<HashMap<Uuid, Slot>>);

/// The slot of a state.
#[derive(Debug)]
enum Slot {
    Here(Box<LocalState>),
    Taken,
    /// A reconcile has it, and the ServiceKey was deleted meanwhile.
    TakenOfGone {
        /// Whether the watch reported its deletion.
        deleted: bool,
    },
}

/// The state of a ServiceKey that was deleted.
#[derive(Debug)]
pub(crate) enum Forgotten {
    /// This state; an empty one if it was never reconciled.
    State(Box<LocalState>),
    /// A reconcile has it, and learns of the deletion when it puts the state back.
    InUse,
}

impl LocalStates {
    /// Takes the state of a ServiceKey for one reconcile; no two reconciles of one object overlap. `None`:
    /// there is none yet, or the ServiceKey is gone.
    pub(crate) fn take(&self, owner: Uuid) -> Option<LocalState> {
        match self.0.lock().insert(owner, Slot::Taken) {
            Some(Slot::Here(local)) => Some(*local),
            Some(Slot::Taken | Slot::TakenOfGone { .. }) | None => None,
        }
    }

    /// Puts a state back. Returns it if the ServiceKey was deleted meanwhile.
    pub(crate) fn put(&self, owner: Uuid, local: LocalState) -> Option<LocalState> {
        let mut places = self.0.lock();
        match places.remove(&owner) {
            Some(Slot::TakenOfGone { deleted }) => Some(local).filter(|_| deleted),
            Some(Slot::Taken | Slot::Here(_)) | None => {
                places.insert(owner, Slot::Here(Box::new(local)));
                None
            }
        }
    }

    /// Ends a reconcile that had no state and needs none. Returns an empty one if the ServiceKey was deleted meanwhile.
    pub(crate) fn put_none(&self, owner: Uuid) -> Option<LocalState> {
        let place = self.0.lock().remove(&owner);
        matches!(place, Some(Slot::TakenOfGone { deleted: true })).then(LocalState::default)
    }

    /// Updates the state with the cached version of a ServiceKey.
    pub(crate) fn observe(&self, owner: Uuid, cached: &ServiceKey) {
        if let Some(Slot::Here(local)) = self.0.lock().get_mut(&owner) {
            local.observe(cached);
        }
    }

    /// Forgets a ServiceKey that was deleted.
    pub(crate) fn forget(&self, owner: Uuid) -> Forgotten {
        let mut places = self.0.lock();
        match places.remove(&owner) {
            Some(Slot::Here(local)) => Forgotten::State(local),
            Some(Slot::Taken | Slot::TakenOfGone { .. }) => {
                places.insert(owner, Slot::TakenOfGone { deleted: true });
                Forgotten::InUse
            }
            None => Forgotten::State(Box::default()),
        }
    }

    /// The number of states.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Forgets all other ServiceKeys.
    pub(crate) fn retain(&self, owners: &HashSet<Uuid>) {
        self.0.lock().retain(|owner, place| {
            let exists = owners.contains(owner);
            if !exists && matches!(place, Slot::Taken) {
                *place = Slot::TakenOfGone { deleted: false };
            }
            exists || matches!(place, Slot::TakenOfGone { .. })
        });
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn key(version: &str, finalizers: &[&str]) -> Arc<ServiceKey> {
        let key = json!({
            "apiVersion": "servicekeys.dev/v1alpha1",
            "kind": "ServiceKey",
            "metadata": {"name": "key", "resourceVersion": version, "finalizers": finalizers},
            "spec": {"providerRef": {"name": "broker"}, "instance": {"id": "db"}},
        });
        Arc::new(serde_json::from_value(key).unwrap())
    }

    fn work(kind: RemoteOperation, second: i64, retry_after: Option<u64>) -> PendingOperation {
        let since = Timestamp::from_second(second).unwrap();
        PendingOperation {
            operation: kind,
            sequence: Sequence::FIRST,
            token: None,
            since,
            ends: since,
            next_poll: None,
            retry_after: retry_after.map(Duration::from_secs),
            first_poll: SHORTEST_WAIT,
            said: None,
            is_refused: false,
            inputs: Inputs::default(),
        }
    }

    #[test]
    fn every_piece_of_work_is_followed_closely_at_first() {
        let mut local = LocalState::default();
        for other in [
            work(RemoteOperation::Bind, 0, None),
            work(RemoteOperation::Unbind, 0, None),
            work(RemoteOperation::Unbind, 1, None),
        ] {
            assert!(local.next_poll(&other) <= 2 * SHORTEST_WAIT, "{other:?}");
            let later = (0..20).map(|_| local.next_poll(&other)).last();
            assert!(later >= Some(LONGEST_POLL), "{later:?}");
        }
        assert_eq!(local.next_poll(&work(RemoteOperation::Unbind, 1, Some(7))), Duration::from_secs(7));
        assert_eq!(local.next_poll(&work(RemoteOperation::Unbind, 1, Some(0))), SHORTEST_WAIT);
    }

    #[test]
    fn repairs_in_a_row_come_ever_later() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut repairs = Repairs::default();
        let mut now = 0;
        let mut count = 0;
        // Another writer undoes each repair at once.
        while now < 86_400 {
            now = repairs.next().map_or(now, |next| now.max(next.as_second()));
            repairs.note(at(now));
            count += 1;
        }
        assert!((290..310).contains(&count), "{count} repairs a day, one every five minutes");
        repairs.note(at(now + 3600));
        assert_eq!(repairs.next(), None, "the next one is the first in a row");
    }

    #[rstest]
    #[case::the_cache_lags_behind(key("9", &[]), key("10", &["f"]), true)]
    #[case::the_cache_has_caught_up(key("10", &["f"]), key("10", &["f"]), false)]
    #[case::somebody_wrote_after_us(key("11", &["f"]), key("10", &["f"]), false)]
    #[case::we_let_it_go_and_the_cache_does_not_know(key("10", &["f"]), key("10", &[]), true)]
    #[case::somebody_elses_finalizer_keeps_it(key("11", &["other"]), key("11", &["other"]), false)]
    fn the_newer_object_is_acted_on(
        #[case] cached: Arc<ServiceKey>,
        #[case] own: Arc<ServiceKey>,
        #[case] own_is_newer: bool,
    ) {
        let mut local = LocalState::default();
        local.set_own_write(Arc::clone(&own));
        let newest = local.newest(Arc::clone(&cached));
        assert!(Arc::ptr_eq(&newest, if own_is_newer { &own } else { &cached }));
        assert_eq!(local.own_write.is_some(), own_is_newer);
    }

    /// Otherwise the process would keep a second copy of every ServiceKey until its next reconcile.
    #[test]
    fn our_own_write_is_forgotten_once_the_cache_shows_it() {
        let (local_states, owner) = (LocalStates::default(), Uuid::from_u128(1));
        let mut local = local_states.take(owner).unwrap_or_default();
        local.set_own_write(key("10", &["f"]));
        assert!(local_states.put(owner, local).is_none());
        let remembers_own_write = |shown: &str| {
            local_states.observe(owner, &key(shown, &["f"]));
            let local = local_states.take(owner).unwrap();
            let remembers = local.own_write.is_some();
            assert!(local_states.put(owner, local).is_none());
            remembers
        };
        assert!(remembers_own_write("9"));
        assert!(!remembers_own_write("10"));
    }

    #[test]
    fn what_is_known_of_a_deleted_service_key_is_handed_over_once() {
        let (local_states, owner) = (LocalStates::default(), Uuid::from_u128(1));
        let local = || LocalState { finalizer_removed: true, ..LocalState::default() };
        let is_known =
            |forgotten: &Forgotten| matches!(forgotten, Forgotten::State(local) if local.finalizer_removed);

        assert!(local_states.take(owner).is_none());
        assert!(local_states.put(owner, local()).is_none());
        assert!(is_known(&local_states.forget(owner)));
        assert!(!is_known(&local_states.forget(owner)), "its state was forgotten");

        assert!(local_states.take(owner).is_none());
        assert!(matches!(local_states.forget(owner), Forgotten::InUse));
        assert!(local_states.put(owner, local()).is_some_and(|local| local.finalizer_removed));
        assert!(local_states.take(owner).is_none());
        assert!(local_states.put_none(owner).is_none(), "its deletion was reported before");

        assert!(local_states.take(owner).is_none());
        local_states.retain(&HashSet::new());
        assert!(local_states.put(owner, local()).is_none(), "a list does not report deletions");
        assert!(local_states.0.lock().is_empty());
    }
}
