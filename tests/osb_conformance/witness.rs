//! Records all versions of the objects of one kind, with one watch for all cases.

use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::TryStreamExt;
use kube::{
    Api, Resource, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{sync::watch::Sender, task::AbortHandle};

/// The longest wait, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Records all objects of a kind in a namespace, until it is dropped.
pub struct Witness<K> {
    seen: Arc<Seen<K>>,
    watch: AbortHandle,
}

/// The history of each object, by its name.
type Seen<K> = Mutex<HashMap<String, Sender<History<K>>>>;

/// All versions of one object, oldest first.
#[derive(Clone)]
pub struct History<K> {
    pub versions: Vec<K>,
    pub gone: bool,
}

impl<K> Witness<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + Sync + 'static,
{
    pub fn of(api: Api<K>) -> Self {
        let seen = Arc::<Seen<K>>::default();
        let events = watcher::watcher(api, watcher::Config::default()).default_backoff();
        let noted = Arc::clone(&seen);
        let watch = tokio::spawn(events.try_for_each(move |event| {
            note(&noted, event);
            async { Ok(()) }
        }));
        Self { seen, watch: watch.abort_handle() }
    }

    /// The number of recorded versions of an object.
    pub fn count(&self, name: &str) -> usize {
        history(&self.seen, name).borrow().versions.len()
    }

    /// Waits until `met` holds for the history of an object, and returns the history.
    pub async fn wait(&self, name: &str, what: &str, met: impl Fn(&History<K>) -> bool) -> History<K> {
        let mut seen = history(&self.seen, name).subscribe();
        if let Ok(met) = tokio::time::timeout(PATIENCE, seen.wait_for(|seen| met(seen))).await {
            return met.unwrap().clone();
        }
        let last = seen.borrow().versions.last().map(|last| serde_json::to_string(last).unwrap());
        panic!("`{name}` never was {what}; it is {last:?}")
    }
}

impl<K> Drop for Witness<K> {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

fn history<K>(seen: &Seen<K>, name: &str) -> Sender<History<K>> {
    let fresh = || Sender::new(History { versions: Vec::new(), gone: false });
    seen.lock().unwrap().entry(name.to_owned()).or_insert_with(fresh).clone()
}

fn note<K: ResourceExt>(seen: &Seen<K>, event: Event<K>) {
    match event {
        Event::Apply(mut object) | Event::InitApply(mut object) => {
            object.managed_fields_mut().clear();
            history(seen, &object.name_any()).send_modify(|history| history.versions.push(object));
        }
        Event::Delete(object) => {
            history(seen, &object.name_any()).send_modify(|history| history.gone = true);
        }
        Event::Init | Event::InitDone => {}
    }
}
