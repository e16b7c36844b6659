//! ServiceKeys whose finalizer a user removed. The operator revokes those of their keys that this process knows.
//!
//! # Guarantees
//! - A ServiceKey whose finalizer the operator removed costs nothing here.
//! - The decisions are those for a ServiceKey that is being deleted ([`clean_up_vanished`]): its deletion policy
//!   counts.
//! - A namespace has at most as many slots as stay free, and an attempt ends after a day at the latest.
//!
//! # Caveats
//! The operator has no object to write to. A key that is not revoked when the process ends stays. So does a key of a
//! ServiceKey that vanished while no watch reported it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::{
    Stream, StreamExt,
    channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Resource, ResourceExt};
use parking_lot::Mutex;
use tracing::Instrument;
use uuid::Uuid;

use super::{
    Context, Worker,
    local_state::{Forgotten, LocalState, LocalStates},
    reconcile::{Driver, End},
    reconciler::Target,
    status,
};
use crate::{
    api::{ServiceKey, marks},
    controller::{backoff::LONGEST_WAIT, error::Error, ids::ProviderId},
    fair::{FairPermit, FairSemaphore, Lane},
    lifecycle::{Problem, clean_up_vanished},
    runtime::Leadership,
};

/// ServiceKeys whose keys are revoked here at the same time.
const PLACES: usize = 1000;

/// How long the operator tries to revoke the keys of one ServiceKey.
const PATIENCE: SignedDuration = SignedDuration::from_hours(24);

pub(super) struct Departures {
    sender: UnboundedSender<Vanished>,
    places: FairSemaphore,
    leadership: Leadership,
    leaving: Arc<Leaving>,
    /// The ServiceKeys whose last reconcile is not over yet.
    in_use: Mutex<HashMap<Uuid, BeingRevoked>>,
}

/// The number of revocations of keys of each UID, started or about to start.
#[derive(Default)]
struct Leaving(Mutex<HashMap<Uuid, usize>>);

/// Counts one revocation, for the UID of the ServiceKey and that of the former one whose keys it has.
struct BeingRevoked {
    uids: BTreeSet<Uuid>,
    leaving: Arc<Leaving>,
}

impl BeingRevoked {
    fn new(key: &ServiceKey, leaving: &Arc<Leaving>) -> Self {
        let uids: BTreeSet<_> = key.parsed_uid().into_iter().chain(status::owner_of_keys(key)).collect();
        let mut counts = leaving.0.lock();
        uids.iter().for_each(|uid| *counts.entry(*uid).or_default() += 1);
        drop(counts);
        Self { uids, leaving: Arc::clone(leaving) }
    }
}

impl Drop for BeingRevoked {
    fn drop(&mut self) {
        let mut counts = self.leaving.0.lock();
        for uid in &self.uids {
            if let Some(count) = counts.get_mut(uid) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(uid);
                }
            }
        }
    }
}

/// A ServiceKey that vanished, and its last state.
pub(super) struct Vanished {
    key: ServiceKey,
    local: LocalState,
    _place: FairPermit,
    _being_revoked: BeingRevoked,
}

impl Departures {
    /// Returns the receiver of the ServiceKeys whose keys are to be revoked.
    pub(super) fn new(leadership: Leadership) -> (Self, UnboundedReceiver<Vanished>) {
        // `places` bounds this channel.
        let (sender, receiver) = unbounded();
        let places = FairSemaphore::leaving_room(PLACES);
        (Self { sender, places, leadership, leaving: Arc::default(), in_use: Mutex::default() }, receiver)
    }

    /// Handles the watch's report that a ServiceKey was deleted.
    pub(super) fn mark_deleted(&self, key: &ServiceKey, local_states: &LocalStates) {
        let Some(uid) = key.parsed_uid() else { return };
        match local_states.forget(uid) {
            Forgotten::State(local) => self.note(key, Some(*local)),
            Forgotten::InUse => {
                let being_revoked = BeingRevoked::new(key, &self.leaving);
                self.in_use.lock().insert(uid, being_revoked);
            }
        }
    }

    /// The number of revocations here of keys that were created for the ServiceKey of this UID, started or about to
    /// start.
    pub(super) fn revocations_of(&self, uid: Uuid) -> usize {
        self.leaving.0.lock().get(&uid).copied().unwrap_or_default()
    }

    /// The number of UIDs whose keys may be revoked here.
    pub(super) fn len(&self) -> usize {
        self.leaving.0.lock().len() + self.in_use.lock().len()
    }

    /// Handles a ServiceKey that vanished, with its last state. `None`: it may still exist.
    pub(super) fn note(&self, key: &ServiceKey, local: Option<LocalState>) {
        let before = key.parsed_uid().and_then(|uid| self.in_use.lock().remove(&uid));
        let being_revoked = BeingRevoked::new(key, &self.leaving);
        drop(before);
        // Another replica may have removed the finalizer.
        let Some(mut local) =
            local.filter(|local| !local.finalizer_removed && self.leadership.acquired_at().is_some())
        else {
            return;
        };
        if key.status.is_none() && local.knows_of_no_key() {
            return;
        }
        let namespace = key.namespace().unwrap_or_default();
        let Ok(place) = self.places.try_acquire(&Lane::of_namespace(&namespace)) else {
            let name = key.name_any();
            tracing::warn!(
                namespace,
                name,
                "too many ServiceKeys vanished; the keys of this one are not revoked"
            );
            return;
        };
        local.forget_credentials();
        // The receiver is dropped only when the operator ends.
        let _ = self.sender.unbounded_send(Vanished {
            key: key.clone(),
            local,
            _place: place,
            _being_revoked: being_revoked,
        });
    }
}

/// Revokes the keys of all ServiceKeys that vanish.
pub(super) fn revoke_keys(
    vanished: UnboundedReceiver<Vanished>,
    context: Arc<Context>,
) -> impl Stream<Item = ()> + Send {
    vanished.map(move |vanished| revoke_keys_of(vanished, Arc::clone(&context))).buffer_unordered(PLACES)
}

async fn revoke_keys_of(vanished: Vanished, context: Arc<Context>) {
    let Vanished { key, mut local, _place, _being_revoked } = vanished;
    let now = context.shared.clock.now();
    let give_up = now.checked_add(PATIENCE).unwrap_or(now);
    let mut key = Arc::new(as_deleted(key, now));
    loop {
        let Ok(target) = Target::new(&key) else { return };
        let worker = Worker::acquire(&context, target.lane.clone()).await;
        let span = target.span();
        let mut driver = Driver::start(target, Arc::clone(&key), local, worker);
        driver.reconciler.vanished = true;
        // On the heap: the future of a driver is large, and many may wait.
        let result = Box::pin(revoke_known(&mut driver)).instrument(span.clone()).await;
        (key, local) = driver.finish();
        let wait = match result {
            Ok(None) => return,
            Ok(Some(wait)) => wait,
            Err(error) => {
                span.in_scope(
                    || tracing::warn!(%error, "the keys of a ServiceKey that is gone were not revoked"),
                );
                local.wait(None)
            }
        };
        if context.shared.clock.now() >= give_up {
            leave_behind(&key, &context);
            return;
        }
        tokio::time::sleep(wait).await;
    }
}

/// The ServiceKey as it would be if its user had deleted it with the finalizer in place.
fn as_deleted(mut key: ServiceKey, now: Timestamp) -> ServiceKey {
    key.meta_mut().deletion_timestamp.get_or_insert(Time(now));
    key.finalizers_mut().push(marks::FINALIZER.to_owned());
    key
}

fn leave_behind(key: &ServiceKey, context: &Context) {
    let left = status::read(key.status.as_ref()).sequences();
    let keys: Vec<_> = left.iter().map(ToString::to_string).collect();
    let note = format!(
        "the operator's finalizer was removed from the ServiceKey, and its keys {} could not be revoked within a day; \
         revoke them at the remote side",
        keys.join(", ")
    );
    context.shared.events.warning(key.object_ref(&()), "KeysLeftBehind", "Delete", note);
    let provider = ProviderId::from_key(key);
    context.shared.metrics.count_left_behind(context.shared.providers.kind(&provider), left.len());
}

/// Revokes the keys that are known. Returns how long to wait before the next attempt, or `None` when nothing is
/// left to do.
async fn revoke_known(driver: &mut Driver<'_>) -> Result<Option<Duration>, Error> {
    driver.reconciler.context.wait_ready().await;
    match driver.drive(clean_up_vanished).await? {
        End::Gone => Ok(None),
        End::Unread(Problem { message, .. }) => {
            tracing::warn!(
                message,
                "the keys of a ServiceKey that is gone are not revoked, because it could not be read"
            );
            Ok(None)
        }
        // No event requeues it. The next attempt notices a change of the provider.
        End::Waiting(wait) => {
            let next = driver.requeue_after(&wait);
            driver.note_wait(&wait);
            Ok(Some(next.unwrap_or(LONGEST_WAIT)))
        }
    }
}
