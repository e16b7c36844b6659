//! Events for `kubectl describe`: published in the background, and never the reason for a failure.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::sync::mpsc;

/// Events that may wait to be published; more are dropped, because conditions hold the state anyway.
const QUEUE: usize = 1024;

/// Takes events, and publishes them one after the other.
#[derive(Clone, Debug)]
pub struct Events(mpsc::Sender<(Event, ObjectReference)>);

impl Events {
    /// Begins to publish. It ends when the last clone of what this returns is dropped.
    pub fn start(client: Client) -> Self {
        let (sender, mut queue) = mpsc::channel::<(Event, ObjectReference)>(QUEUE);
        let reporter = Reporter {
            controller: "servicekeys.dev/operator".into(),
            instance: std::env::var("POD_NAME").ok(),
        };
        let recorder = Recorder::new(client, reporter);
        tokio::spawn(async move {
            while let Some((event, object)) = queue.recv().await {
                if let Err(error) = recorder.publish(&event, &object).await {
                    tracing::debug!(%error, reason = event.reason, "an event could not be published");
                }
            }
        });
        Self(sender)
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
            note: Some(note),
            action: action.to_owned(),
            secondary: None,
        };
        if self.0.try_send((event, object)).is_err() {
            tracing::debug!(reason, "an event was dropped");
        }
    }
}
