//! Events for `kubectl describe`. The operator publishes them in the background, and never fails because of
//! them. Namespaces take turns, and none of them can fill the queue.

use std::collections::HashMap;

use futures::{StreamExt, stream::FuturesUnordered};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        core::v1::ObjectReference,
        events::v1::{Event, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use parking_lot::{Mutex, MutexGuard};
use strum::IntoStaticStr;
use tokio::sync::mpsc;

use super::error::bounded;
use crate::{
    clock::Clock,
    fair::{Acquire, FairPermit, FairSemaphore, Lane},
    lifecycle::first_bytes,
};

/// Limit of queued events. The operator drops further ones, because conditions show the state anyway. A
/// namespace may queue at most as many events as the queue has free slots.
const QUEUE: usize = 1024;

/// The API server's limit for a note, in bytes.
const LONGEST_NOTE: usize = 1024;

/// Events that the operator publishes at the same time.
const PUBLISHERS: usize = 1;

/// The API server's limit for the name of an Event, in bytes.
const LONGEST_NAME: usize = 253;

/// The API server's limit for the name of the reporting instance.
const LONGEST_INSTANCE: usize = 128;

/// `reportingController` of the Events.
const CONTROLLER: &str = "servicekeys.dev/operator";

/// The namespace of Events about cluster-scoped objects.
const NAMESPACE_OF_CLUSTER_OBJECTS: &str = "default";

/// Recent events that are kept in memory to count repetitions; each takes about 3 KiB.
const EVENTS_REMEMBERED: usize = 1000;

/// An event that repeats an earlier one within this time is counted in the `series` of the earlier Event.
const SERIES: SignedDuration = SignedDuration::from_mins(6);

/// Queues events, and publishes them one after the other.
#[derive(Clone, Debug)]
pub(super) struct Events {
    sender: mpsc::UnboundedSender<Queued>,
    room: FairSemaphore,
    publishers: FairSemaphore,
}

/// An event that waits to be published.
struct Queued {
    news: EventRequest,
    turn: Acquire,
    _room: FairPermit,
}

/// An event about an object.
struct EventRequest {
    type_: EventType,
    object: ObjectReference,
    reason: String,
    action: String,
    note: String,
}

/// The variant's name is the value of the Event's field `type`.
#[derive(Clone, Copy, Debug, IntoStaticStr)]
enum EventType {
    Normal,
    Warning,
}

impl Events {
    /// Starts publishing in the background. It ends when the last clone of the returned `Events` is dropped.
    pub(super) fn start(client: Client, clock: Clock) -> Self {
        // `room` bounds this channel.
        let (sender, mut queue) = mpsc::unbounded_channel::<Queued>();
        let instance = std::env::var("POD_NAME").unwrap_or_else(|_| CONTROLLER.to_owned());
        let publisher = Publisher::new(client, clock, &instance);
        tokio::spawn(async move {
            let mut waiting = FuturesUnordered::new();
            loop {
                tokio::select! {
                    biased;
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

    /// Publishes that something succeeded.
    pub(super) fn normal(&self, object: ObjectReference, reason: &str, action: &str, note: String) {
        self.send(EventType::Normal, object, reason, action, note);
    }

    /// Publishes that something failed.
    pub(super) fn warning(&self, object: ObjectReference, reason: &str, action: &str, note: String) {
        self.send(EventType::Warning, object, reason, action, note);
    }

    fn send(&self, type_: EventType, object: ObjectReference, reason: &str, action: &str, note: String) {
        // The log lasts longer than the Event in the cluster, and keeps the order of the events.
        match type_ {
            EventType::Normal => tracing::info!(reason, "{note}"),
            EventType::Warning => tracing::warn!(reason, "{note}"),
        }
        let lane = object.namespace.as_deref().map_or_else(|| Lane::of_cluster(""), Lane::of_namespace);
        let Ok(room) = self.room.try_acquire(&lane) else {
            tracing::debug!(reason, "an event was dropped");
            return;
        };
        let turn = self.publishers.acquire(&lane);
        let news = EventRequest { type_, object, reason: reason.to_owned(), action: action.to_owned(), note };
        // The receiver is dropped only when the operator ends.
        let _ = self.sender.send(Queued { news, turn, _room: room });
    }
}

impl Queued {
    async fn publish(self, publisher: &Publisher) {
        let Self { news, turn, _room } = self;
        let _turn = turn.await;
        publisher.publish(&news).await;
    }
}

/// Publishes Events, and counts repetitions in one Event.
struct Publisher {
    client: Client,
    clock: Clock,
    instance: String,
    lately: Mutex<HashMap<String, Event>>,
}

impl Publisher {
    fn new(client: Client, clock: Clock, instance: &str) -> Self {
        let instance = first_bytes(instance, LONGEST_INSTANCE).to_owned();
        Self { client, clock, instance, lately: Mutex::default() }
    }

    async fn publish(&self, news: &EventRequest) {
        let (now, like) = (self.clock.now(), news.likeness());
        let namespace = news.object.namespace.as_deref().unwrap_or(NAMESPACE_OF_CLUSTER_OBJECTS);
        let events: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let event =
            self.lately(now).get(&like).map_or_else(|| self.first(news, now), |last| again(last, now));
        let name = event.metadata.name.as_deref().unwrap_or_default();
        let (create, merge) = (PostParams::default(), PatchParams::default());
        let published = if event.series.is_some() {
            bounded("update an event", events.patch(name, &merge, &Patch::Merge(&event))).await
        } else {
            bounded("create an event", events.create(&create, &event)).await
        };
        if let Err(error) = published {
            tracing::debug!(%error, reason = news.reason, "an event could not be published");
            self.lately(now).remove(&like);
            return;
        }
        let mut lately = self.lately(now);
        if lately.len() >= EVENTS_REMEMBERED && !lately.contains_key(&like) {
            lately.clear();
        }
        lately.insert(like, event);
    }

    /// The events whose repetitions are still counted.
    fn lately(&self, now: Timestamp) -> MutexGuard<'_, HashMap<String, Event>> {
        let mut lately = self.lately.lock();
        lately.retain(|_, event| last_seen(event).is_some_and(|seen| now.duration_since(seen) < SERIES));
        lately
    }

    fn first(&self, news: &EventRequest, now: Timestamp) -> Event {
        let EventRequest { type_, object, reason, action, note } = news;
        Event {
            metadata: ObjectMeta {
                name: Some(event_name(object.name.as_deref().unwrap_or_default(), now)),
                namespace: object.namespace.clone(),
                ..ObjectMeta::default()
            },
            type_: Some(<&str>::from(type_).to_owned()),
            regarding: Some(object.clone()),
            reason: Some(reason.clone()),
            action: Some(action.clone()),
            note: Some(first_bytes(note, LONGEST_NOTE).to_owned()),
            event_time: Some(MicroTime(now)),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        }
    }
}

impl EventRequest {
    /// Key of a series: equal for all events that are counted in one Event.
    fn likeness(&self) -> String {
        let Self { type_, object, reason, action, note: _ } = self;
        let ObjectReference { kind, namespace, name, uid, .. } = object;
        format!("{type_:?} {reason} {action} {kind:?} {namespace:?} {name:?} {uid:?}")
    }
}

/// Derives the name of an Event from the name of its object. The object's name may fill the limit by itself,
/// so it is cut. The suffix distinguishes the Events of one object. Each part between dots has to begin and end
/// with a letter or a digit.
fn event_name(object: &str, now: Timestamp) -> String {
    let end = format!(".{:x}", now.as_nanosecond());
    let start = first_bytes(object, LONGEST_NAME - end.len());
    format!("{}{end}", start.trim_end_matches(['.', '-']))
}

fn last_seen(event: &Event) -> Option<Timestamp> {
    let repeated = event.series.as_ref().map(|series| series.last_observed_time.0);
    repeated.or(event.event_time.as_ref().map(|time| time.0))
}

/// The Event with one more repetition.
fn again(last: &Event, now: Timestamp) -> Event {
    let count = last.series.as_ref().map_or(1, |series| series.count) + 1;
    Event { series: Some(EventSeries { count, last_observed_time: MicroTime(now) }), ..last.clone() }
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
    use rstest::rstest;
    use tower::Service;

    use super::*;

    /// A fake API server that returns each event as it was sent, and records the methods of the requests.
    #[derive(Clone, Default)]
    struct FakeEventsApi(Arc<Mutex<Vec<Method>>>);

    impl Service<Request<Body>> for FakeEventsApi {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = future::Ready<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Body>) -> Self::Future {
            self.0.lock().push(request.method().clone());
            future::ready(Ok(Response::new(request.into_body())))
        }
    }

    fn about(number: usize) -> EventRequest {
        EventRequest {
            type_: EventType::Warning,
            object: ObjectReference { name: Some(format!("key-{number}")), ..ObjectReference::default() },
            reason: "BindFailed".to_owned(),
            action: "Reconcile".to_owned(),
            note: String::new(),
        }
    }

    #[tokio::test]
    async fn a_repeated_event_is_counted_and_no_more_are_remembered_than_a_bound() {
        let server = FakeEventsApi::default();
        let publisher = Publisher::new(Client::new(server.clone(), "default"), Clock::default(), "operator");
        for number in (0..EVENTS_REMEMBERED).chain([0, EVENTS_REMEMBERED, 0]) {
            publisher.publish(&about(number)).await;
        }
        let asked = server.0.lock();
        assert_eq!(asked.len(), EVENTS_REMEMBERED + 3);
        assert_eq!(asked[EVENTS_REMEMBERED..], [Method::PATCH, Method::POST, Method::POST]);
        assert_eq!(publisher.lately(Timestamp::now()).len(), 2);
    }

    #[rstest]
    #[case::short("creds", "creds.")]
    #[case::longest(&"n".repeat(253), &"n".repeat(236))]
    #[case::cut_after_a_dot(&format!("{}{}", "a.".repeat(118), "b".repeat(17)), &"a.".repeat(118))]
    #[case::cut_after_dashes(&format!("{}--{}", "a".repeat(234), "b".repeat(17)), &format!("{}.", "a".repeat(234)))]
    fn the_name_of_an_event_is_bounded(#[case] object: &str, #[case] start: &str) {
        let now: Timestamp = "2026-01-02T03:04:05.000000006Z".parse().unwrap();
        let name = event_name(object, now);
        assert!(name.len() <= LONGEST_NAME && name.starts_with(start), "{name}");
        assert!(name.split('.').all(|part| !part.is_empty() && !part.ends_with('-')), "{name}");
    }
}
