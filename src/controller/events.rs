//! Events for `kubectl describe`: published in the background, and never the reason for a failure. Namespaces take
//! turns, and none of them can fill the queue.

use std::sync::{Mutex, PoisonError};

use futures::{StreamExt, stream::FuturesUnordered};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::sync::mpsc;

use super::error::bounded;
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

/// Events that one recorder publishes. It keeps each one for six minutes, some 3 KiB, to count how often it repeats
/// itself, and walks through all of them before the next.
const EVENTS_OF_A_RECORDER: usize = 1000;

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
        // `room` bounds this channel.
        let (sender, mut queue) = mpsc::unbounded_channel::<Queued>();
        let reporter = Reporter {
            controller: "servicekeys.dev/operator".into(),
            instance: std::env::var("POD_NAME").ok(),
        };
        let publisher = Publisher::new(client, reporter);
        tokio::spawn(async move {
            let mut waiting = FuturesUnordered::new();
            loop {
                tokio::select! {
                    queued = queue.recv() => match queued {
                        Some(queued) => waiting.push(queued.publish(&publisher)),
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
    async fn publish(self, publisher: &Publisher) {
        let Self { event, object, turn, _room } = self;
        let _turn = turn.await;
        publisher.publish(&event, &object).await;
    }
}

/// Publishes events by one recorder after the other, because none forgets what it has published lately.
struct Publisher {
    client: Client,
    reporter: Reporter,
    present: Mutex<(Recorder, usize)>,
}

impl Publisher {
    fn new(client: Client, reporter: Reporter) -> Self {
        let first = Recorder::new(client.clone(), reporter.clone());
        Self { client, reporter, present: Mutex::new((first, 0)) }
    }

    /// The recorder for the next event.
    fn recorder(&self) -> Recorder {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if present.1 == EVENTS_OF_A_RECORDER {
            *present = (Recorder::new(self.client.clone(), self.reporter.clone()), 0);
        }
        present.1 += 1;
        present.0.clone()
    }

    async fn publish(&self, event: &Event, object: &ObjectReference) {
        if let Err(error) = bounded("publish an event", self.recorder().publish(event, object)).await {
            tracing::debug!(%error, reason = event.reason, "an event could not be published");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        future,
        sync::Arc,
        task::{Context, Poll},
    };

    use http::{Method, Request, Response};
    use kube::client::Body;
    use tower::Service;

    use super::*;

    /// An API server that returns each event as it was sent, and notes the methods of the requests.
    #[derive(Clone, Default)]
    struct ApiServer(Arc<Mutex<Vec<Method>>>);

    impl Service<Request<Body>> for ApiServer {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = future::Ready<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Body>) -> Self::Future {
            self.0.lock().unwrap().push(request.method().clone());
            future::ready(Ok(Response::new(request.into_body())))
        }
    }

    fn about(number: usize) -> ObjectReference {
        ObjectReference { name: Some(format!("key-{number}")), ..ObjectReference::default() }
    }

    #[tokio::test]
    async fn a_recorder_keeps_no_more_events_than_it_may_publish() {
        let server = ApiServer::default();
        let client = Client::new(server.clone(), "default");
        let reporter = Reporter { controller: "operator".to_owned(), instance: None };
        let publisher = Publisher::new(client, reporter);
        let event = Event {
            type_: EventType::Warning,
            reason: "BindFailed".to_owned(),
            note: None,
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        for number in (0..EVENTS_OF_A_RECORDER - 1).chain([0, 0]) {
            publisher.publish(&event, &about(number)).await;
        }
        let asked = server.0.lock().unwrap();
        assert_eq!(asked.len(), EVENTS_OF_A_RECORDER + 1);
        assert_eq!(asked[EVENTS_OF_A_RECORDER - 1], Method::PATCH, "the first recorder knows the event");
        assert_eq!(asked[EVENTS_OF_A_RECORDER], Method::POST, "the next one does not");
    }
}
