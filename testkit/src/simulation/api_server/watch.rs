//! Watches: which changes each of them reports, and when they are delivered.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures::Stream;
use parking_lot::Mutex;
use serde_json::json;

use super::{
    kinds::Kind,
    request::Request,
    selectors::Selectors,
    status::Refusal,
    store::{Change, Form, Store, Stored, Types, is_within},
};

/// The identity of a watch, in the order in which they began.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct WatchId(u64);

/// An open watch, as the owner of the server sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OpenWatch {
    /// Its identity.
    pub id: WatchId,
    /// The resource, such as `secrets`.
    pub resource: String,
    /// The namespace, unless it is a watch of all namespaces.
    pub namespace: Option<String>,
    /// The client.
    pub caller: String,
    /// Whether its events wait for [`resume_watch`](super::ApiServer::resume_watch).
    pub is_paused: bool,
    /// The number of events that wait.
    pub undelivered: usize,
    /// The time limit that the client requested. Its owner ends the watch.
    pub timeout_seconds: Option<u64>,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Bytes>,
    /// Events that are delivered although the watch is paused.
    allowed: usize,
    paused: bool,
    ended: bool,
    dropped: bool,
    waker: Option<Waker>,
}

impl Queue {
    fn push(&mut self, line: String) {
        self.lines.push_back(Bytes::from(line));
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn pop(&mut self) -> Option<Bytes> {
        if self.paused {
            self.allowed = self.allowed.checked_sub(1)?;
        }
        self.lines.pop_front()
    }
}

/// The events of a watch, each a line of JSON. It ends when the watch ends.
pub struct WatchStream(Arc<Mutex<Queue>>);

impl WatchStream {
    /// The next event that is delivered already.
    pub fn try_next(&self) -> Option<Bytes> {
        let mut queue = self.0.lock();
        if queue.lines.is_empty() { None } else { queue.pop() }
    }
}

impl Stream for WatchStream {
    type Item = Bytes;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut queue = self.0.lock();
        if !queue.lines.is_empty()
            && let Some(line) = queue.pop()
        {
            return Poll::Ready(Some(line));
        }
        if queue.ended && queue.lines.is_empty() {
            return Poll::Ready(None);
        }
        queue.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.0.lock().dropped = true;
    }
}

struct Watch {
    kind: Arc<Kind>,
    namespace: Option<String>,
    selectors: Selectors,
    form: Form,
    takes_bookmarks: bool,
    /// Whether the next bookmark ends the initial events.
    is_initial: bool,
    /// The version of the last event or bookmark.
    position: u64,
    timeout_seconds: Option<u64>,
    caller: String,
    queue: Arc<Mutex<Queue>>,
}

/// All open watches.
#[derive(Default)]
pub(super) struct Watches {
    open: BTreeMap<WatchId, Watch>,
    begun: u64,
}

impl Watches {
    /// Opens a watch. It first reports the changes after the requested version.
    ///
    /// # Errors
    /// The request is malformed.
    pub(super) fn open(&mut self, request: &Request, store: &Store) -> Result<WatchStream, Refusal> {
        let fields = request.parameter("fieldSelector");
        let selectors = Selectors::parse(&request.kind, request.parameter("labelSelector"), fields)?;
        let mut watch = Watch {
            kind: Arc::clone(&request.kind),
            namespace: request.namespace.clone(),
            selectors,
            form: request.form,
            takes_bookmarks: request.parameter("allowWatchBookmarks") == "true",
            is_initial: false,
            position: store.revision(),
            timeout_seconds: request.parameter("timeoutSeconds").parse().ok(),
            caller: request.caller.clone(),
            queue: Arc::default(),
        };
        match request.parameter("resourceVersion") {
            "" | "0" => {
                watch.is_initial = true;
                for (_, stored) in store.within(&watch.kind, watch.namespace.as_deref()) {
                    if watch.selectors.matches(&stored.value) {
                        watch.push("ADDED", stored);
                    }
                }
            }
            version => {
                let version: u64 = version
                    .parse()
                    .map_err(|_| Refusal::bad_request(format!("invalid resource version {version:?}")))?;
                if version < store.compacted() {
                    // The real server refuses this in an event, too, because the client has passed all checks.
                    let (oldest, current) = (version, store.compacted());
                    watch.fail(&Refusal::expired(format!("too old resource version: {oldest} ({current})")));
                } else {
                    watch.position = version;
                    store.changes_after(version).iter().for_each(|change| watch.report(change));
                }
            }
        }
        let stream = WatchStream(Arc::clone(&watch.queue));
        self.begun += 1;
        self.open.insert(WatchId(self.begun), watch);
        Ok(stream)
    }

    pub(super) fn report(&mut self, change: &Change) {
        self.open.retain(|_, watch| {
            let queue = watch.queue.lock();
            !queue.dropped && !queue.ended
        });
        self.open.values_mut().for_each(|watch| watch.report(change));
    }

    pub(super) fn list(&self) -> Vec<OpenWatch> {
        let open = self.open.iter().filter_map(|(id, watch)| {
            let queue = watch.queue.lock();
            (!queue.dropped && !queue.ended).then(|| OpenWatch {
                id: *id,
                resource: watch.kind.plural.clone(),
                namespace: watch.namespace.clone(),
                caller: watch.caller.clone(),
                is_paused: queue.paused,
                undelivered: queue.lines.len(),
                timeout_seconds: watch.timeout_seconds,
            })
        });
        open.collect()
    }

    pub(super) fn pause(&self, id: WatchId) {
        if let Some(watch) = self.open.get(&id) {
            let mut queue = watch.queue.lock();
            queue.paused = true;
            queue.allowed = 0;
        }
    }

    pub(super) fn resume(&self, id: WatchId) {
        if let Some(watch) = self.open.get(&id) {
            let mut queue = watch.queue.lock();
            queue.paused = false;
            queue.wake();
        }
    }

    pub(super) fn deliver(&self, id: WatchId, events: usize) {
        if let Some(watch) = self.open.get(&id) {
            let mut queue = watch.queue.lock();
            queue.allowed = queue.allowed.saturating_add(events).min(queue.lines.len());
            queue.wake();
        }
    }

    pub(super) fn end(&mut self, id: WatchId) {
        if let Some(watch) = self.open.remove(&id) {
            watch.end();
        }
    }

    pub(super) fn end_all(&mut self) {
        std::mem::take(&mut self.open).into_values().for_each(|watch| watch.end());
    }

    pub(super) fn expire(&mut self, id: WatchId, version: u64) {
        if let Some(watch) = self.open.remove(&id) {
            watch.queue.lock().lines.clear();
            watch.fail(&Refusal::expired(format!(
                "The resourceVersion for the provided watch is too old: {version}"
            )));
        }
    }

    pub(super) fn send_bookmarks(&mut self, version: u64) {
        for watch in self.open.values_mut().filter(|watch| watch.takes_bookmarks) {
            watch.send_bookmark(version);
        }
    }
}

impl Watch {
    /// Reports a change as this watch sees it: an object that no longer matches seems deleted.
    fn report(&mut self, change: &Change) {
        if change.kind != self.kind.index || !is_within(&change.key, self.namespace.as_deref()) {
            return;
        }
        let matches = |stored: &&Arc<Stored>| self.selectors.matches(&stored.value);
        let (before, after) = (change.before.as_ref().filter(matches), change.after.as_ref().filter(matches));
        if before.is_some() || after.is_some() {
            self.position = change.revision;
        }
        match (before, after) {
            (None, Some(after)) => self.push("ADDED", after),
            (Some(_), Some(after)) => self.push("MODIFIED", after),
            (Some(before), None) => {
                // The last state that matched, in the version of the change.
                let mut last = before.value.clone();
                last["metadata"]["resourceVersion"] = change.revision.to_string().into();
                self.push("DELETED", &Stored::new(last, before.written));
            }
            (None, None) => {}
        }
    }

    fn push(&self, event: &str, stored: &Stored) {
        let object = stored.text(self.form, Types::Of(&self.kind));
        self.queue.lock().push(format!("{{\"type\":\"{event}\",\"object\":{object}}}\n"));
    }

    /// Sends a bookmark, unless the client knows this version already.
    fn send_bookmark(&mut self, version: u64) {
        if self.position >= version && !self.is_initial {
            return;
        }
        let (api_version, kind) = match self.form {
            Form::Full => (self.kind.api_version(), self.kind.kind.as_str()),
            Form::Metadata => ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadata"),
        };
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if std::mem::take(&mut self.is_initial) {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        self.position = version;
        let object = json!({"apiVersion": api_version, "kind": kind, "metadata": metadata});
        self.queue.lock().push(format!("{{\"type\":\"BOOKMARK\",\"object\":{object}}}\n"));
    }

    /// Reports an error, and ends the watch.
    fn fail(&self, refusal: &Refusal) {
        let mut queue = self.queue.lock();
        queue.paused = false;
        queue.push(format!("{{\"type\":\"ERROR\",\"object\":{}}}\n", refusal.to_json()));
        queue.ended = true;
    }

    /// Ends the watch as a closed connection does: events that wait are lost.
    fn end(&self) {
        let mut queue = self.queue.lock();
        queue.lines.clear();
        queue.ended = true;
        queue.wake();
    }
}
