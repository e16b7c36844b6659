//! Effects at the remote side: the objects that they read before, and the slots that they occupy meanwhile.

use std::{iter, pin::pin, sync::Arc, time::Duration};

use futures::FutureExt;
use http::Method;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{super::Worker, fixtures::*};
use crate::{
    backend::RequestLimits,
    controller::queue::{Queue, QueueEntry, QueueSlot},
    fair::Lane,
};

/// A ServiceKey with parameters in the Secret `parameters`.
fn with_parameters() -> KeyFixture {
    let source = json!([{"secretKeyRef": {"name": "parameters", "key": "json"}}]);
    service_key().finalized().specifying("parametersFrom", source)
}

#[rstest]
#[case::they_are_missing(not_found(), "there is no such Secret; create it")]
#[case::a_permission_is_missing(
    forbidden("secrets \"parameters\" is forbidden"),
    "the Kubernetes API could not read a Secret of `spec.parametersFrom`: secrets \"parameters\" is forbidden"
)]
#[case::the_api_server_is_in_trouble(internal_error(), "leader changed")]
#[case::the_connection_is_lost(closes(), "could not read a Secret of `spec.parametersFrom`")]
#[tokio::test]
async fn no_key_is_created_without_its_parameters(#[case] answer: Answer, #[case] words: &str) {
    let mut scene = scene(with_parameters()).await;
    scene.api.store_other(secret_with("parameters", &[("json", "{\"size\": 3}")]));
    scene.expect(rehearse_new_secret(), works());
    scene.expect(read_secret_named("parameters"), answer);
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "failed, requeued");
    let (status, _, message) = scene.condition("Ready");
    assert!(status == "False" && message.contains(words), "{message}");
    assert!(scene.broker.calls().is_empty());

    scene.after_the_backoff();
    scene.expect(rehearse_new_secret(), works());
    scene.expect(read_secret_named("parameters"), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
}

/// The Secret has lost its password, and the broker returns the credentials again.
#[tokio::test]
async fn the_credentials_are_read_again_once_the_parameters_can_be() {
    let mut scene = scene(with_parameters().with_key(1)).await.with_lost_password(1);
    scene.api.store_other(secret_with("parameters", &[("json", "{\"size\": 3}")]));
    scene.expect(read_secret(), works());
    scene.expect(read_secret_named("parameters"), internal_error());
    scene.expect(read_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "failed, requeued");
    assert!(scene.broker.calls().is_empty());

    scene.after_the_backoff();
    scene.expect(read_secret(), works());
    scene.expect(read_secret_named("parameters"), works());
    scene.expect(read_secret(), works());
    scene.expect(replace_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
    assert_eq!(scene.broker.calls(), ["GET binding"]);
}

fn refuse(method: &Method, path: &str) -> (u16, Value) {
    assert_eq!(method, Method::PUT, "{path}");
    (400, json!({"description": "what is correct horse?"}))
}

#[tokio::test]
async fn the_words_of_the_broker_are_shown_without_the_parameters() {
    let mut scene = scene(with_parameters()).await;
    scene.api.store_other(secret_with("parameters", &[("json", "{\"phrase\": \"correct horse\"}")]));
    scene.broker.answers(refuse);
    scene.expect(rehearse_new_secret(), works());
    scene.expect(read_secret_named("parameters"), works());
    scene.expect(read_secret_named("parameters"), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "failed, requeued");
    scene.assert_not_ready("BindRejected", "what is");
    assert!(!scene.status().to_string().contains("correct horse"), "{}", scene.status());
}

#[rstest]
#[case::a_permission_is_missing(forbidden("no"))]
#[case::the_api_server_is_in_trouble(internal_error())]
#[case::the_connection_is_lost(closes())]
#[tokio::test]
async fn no_words_are_shown_where_the_secrets_to_hide_are_unknown(#[case] answer: Answer) {
    let mut scene = scene(with_parameters()).await;
    scene.api.store_other(secret_with("parameters", &[("json", "{\"phrase\": \"correct horse\"}")]));
    scene.broker.answers(refuse);
    scene.expect(rehearse_new_secret(), works());
    scene.expect(read_secret_named("parameters"), works());
    scene.expect(read_secret_named("parameters"), answer);
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "failed, requeued");
    assert_eq!(scene.condition("Ready").1, "BindRejected");
    let status = scene.status().to_string();
    assert!(!status.contains("what is") && !status.contains("correct horse"), "{status}");
}

/// During the call, the worker is free for another reconcile. After the call, the next call may begin even if no worker
/// is free.
#[tokio::test]
async fn the_place_at_the_broker_is_free_before_the_wait_for_a_worker() {
    let mut scene = scene(service_key().finalized()).await;
    let (context, queue, broker) = (Arc::clone(&scene.context), queue(&scene), scene.broker.clone());
    let other = Lane::of_namespace("other");
    broker.hold().await;
    scene.expect(rehearse_new_secret(), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), works());
    let mut reconcile = pin!(scene.reconcile());
    tokio::select! {
        biased;
        () = broker.called() => {}
        outcome = &mut reconcile => panic!("{outcome} before the call"),
    }
    let mut places = take_free_slots(&queue, &other);
    assert_eq!(places.len(), RequestLimits::DEFAULT_CONCURRENCY.get() - 1, "the call has one");
    let worker = Worker::acquire(&context, other.clone()).now_or_never();
    let worker = worker.expect("no reconcile has the worker during a call");

    broker.release();
    let next = timeout(Duration::from_secs(10), queue.clone().enter(other.clone()));
    tokio::select! {
        biased;
        place = next => places.extend(place.expect("the reconcile occupies its slot while it waits for a worker")),
        outcome = &mut reconcile => panic!("{outcome} without a worker"),
    }
    drop(worker);
    assert_eq!(reconcile.await, "settled, awaits a change");
}

/// A reconcile that is about to wait for a slot waits for the next change, so it has to see an earlier one by itself.
#[tokio::test]
async fn a_change_right_before_the_wait_for_a_slot_ends_the_wait() {
    let mut scene = scene(service_key().finalized()).await;
    let _slots = take_free_slots(&queue(&scene), &Lane::of_namespace("other"));
    scene.expect(rehearse_new_secret(), works());
    scene.expect(write_status(), works());
    let outcome = scene.reconcile_while_the_api_server_works(|scene| {
        scene.another_writer_edits_the_key(|key| key["spec"]["suspend"] = json!(true));
    });
    assert_eq!(outcome.await, "waiting, awaits a change");
    assert_eq!(scene.condition("Ready").1, "Suspended");
    assert!(scene.broker.calls().is_empty());
}

/// The answer is about the former provider. So the operator neither waits for the end of the backoff nor regards the
/// credentials as unusable.
#[rstest]
#[tokio::test]
async fn a_provider_that_changes_during_a_failing_call_is_tried_at_once(
    #[values(Scene::provider_gets_another_login, Scene::provider_recovers)] change: fn(&mut Scene),
    #[values(400, 401, 403, 429)] status: u16,
) {
    let mut scene = scene(service_key().finalized()).await;
    scene.broker.answers(move |_, _| (status, json!({"description": "no"})));
    scene.expect(rehearse_new_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile_while(change).await, "failed, requeued");

    scene.broker.accept_all();
    scene.expect(rehearse_new_secret(), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
}

#[tokio::test]
async fn credentials_that_a_former_provider_returned_are_requested_again() {
    let mut scene = scene(service_key().finalized()).await;
    scene.broker.answers(|method, _| match *method {
        Method::PUT => (201, json!({"credentials": {"password": "x".repeat(2 << 20)}})),
        _ => (200, json!({})),
    });
    scene.expect(rehearse_new_secret(), works());
    scene.expect(write_status(), works());
    scene.expect(write_status(), works());
    scene.reconcile_while(Scene::provider_gets_another_login).await;
    assert_eq!(scene.broker.calls(), ["PUT binding", "DELETE binding"]);

    scene.broker.accept_all();
    scene.expect(look_up_secret(), works());
    scene.expect(write_status(), works());
    scene.reconcile().await;
    scene.assert_not_ready("Binding", "the operator creates no key of this number");

    scene.later(Duration::from_secs(61));
    scene.expect(look_up_secret(), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
}

/// Takes all slots that are free now.
fn take_free_slots(queue: &Queue, lane: &Lane) -> Vec<QueueSlot> {
    let free = || match queue.enter_now(lane) {
        QueueEntry::Free(slot) => Some(slot),
        QueueEntry::Full | QueueEntry::Closed => None,
    };
    iter::from_fn(free).collect()
}
