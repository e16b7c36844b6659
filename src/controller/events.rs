//! Events for `kubectl describe`: published in the background, and never the reason for a failure. Namespaces take
//! turns, and none of them can fill the queue.

use futures::{StreamExt, stream::FuturesUnordered};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::sync::mpsc;

use crate::{
    fair::{Acquire, FairPermit, FairSemaphore, Lane},
    lifecycle::first_bytes,
};

/// Events that may wait to be published; more are dropped, because conditions hold the state anyway. A namespace may
/// have no more of them waiting than there is room left.
const QUEUE: usize = 1024;

/// The most bytes of a note that the API server takes.
const LONGEST_NOTE: usize = 1024;

/// Events that are published at the same time.
const PUBLISHERS: usize = 1;

/// Takes events, and publishes them one after the other.
#[derive(Clone, Debug)]
pub struct Events {
    sender: mpsc::UnboundedSender<Queued>,
    room: FairSemaphore,
    publishers: FairSemaphore,
}

/// An event that waits for its turn.
struct Queued {
    event: Event,
    object: ObjectReference,
    turn: Acquire,
    _room: FairPermit,
}

impl Events {
    /// Begins to publish. It ends when the last clone of what this returns is dropped.
    pub fn start(client: Client) -> Self {
        // As long as there is room, which `room` says.
        let (sender, mut queue) = mpsc::unbounded_channel::<Queued>();
        let reporter = Reporter {
            controller: "servicekeys.dev/operator".into(),
            instance: std::env::var("POD_NAME").ok(),
        };
        let recorder = Recorder::new(client, reporter);
        tokio::spawn(async move {
            let mut waiting = FuturesUnordered::new();
            loop {
                tokio::select! {
                    queued = queue.recv() => match queued {
                        Some(queued) => waiting.push(queued.publish(&recorder)),
                        None => break,
                    },
                    Some(()) = waiting.next() => {}
                }
            }
            while waiting.next().await.is_some() {}
        });
        Self { sender, room: FairSemaphore::leaving_room(QUEUE), publishers: FairSemaphore::new(PUBLISHERS) }
    }

    /// Something went as it should.
    pub fn normal(&self, object: ObjectReference, reason: &str, action: &str, note: String) {
        self.send(EventType::Normal, object, reason, action, note);
    }

    /// Something did not.
    pub fn warning(&self, object: ObjectReference, reason: &str, action: &str, note: String) {
        self.send(EventType::Warning, object, reason, action, note);
    }

    fn send(&self, type_: EventType, object: ObjectReference, reason: &str, action: &str, note: String) {
        // The log keeps it longer than the cluster does, and in the order of what happens.
        match type_ {
            EventType::Normal => tracing::info!(reason, "{note}"),
            EventType::Warning => tracing::warn!(reason, "{note}"),
        }
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(first_bytes(&note, LONGEST_NOTE).to_owned()),
            action: action.to_owned(),
            secondary: None,
        };
        let lane = object.namespace.as_deref().map_or_else(|| Lane::of_cluster(""), Lane::of_namespace);
        let Ok(room) = self.room.try_acquire(&lane) else {
            tracing::debug!(reason, "an event was dropped");
            return;
        };
        // The receiver is gone only when the operator ends.
        let _ = self.sender.send(Queued { event, object, turn: self.publishers.acquire(&lane), _room: room });
    }
}

impl Queued {
    async fn publish(self, recorder: &Recorder) {
        let Self { event, object, turn, _room } = self;
        let _turn = turn.await;
        if let Err(error) = recorder.publish(&event, &object).await {
            tracing::debug!(%error, reason = event.reason, "an event could not be published");
        }
    }
}
