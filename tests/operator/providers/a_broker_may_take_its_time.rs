//! The operator polls a broker that works in the background until the operation has ended, and leaves no key behind.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use servicekey_operator::api::{OperationStatusKind, Reason, ServiceKey};
use testkit::broker::{CredentialsRecipe, FakeBroker, Fault, Instance, Pace, Route, Work};

use crate::support::{
    conditions::Reports,
    stage::{Stage, condition, entries},
};

const NAME: &str = "monitoring-creds";

async fn stage_at(pace: Pace) -> Stage {
    Stage::set_with(FakeBroker::builder().pace(pace).start().await.unwrap()).await
}

/// A stage for keys whose credentials the broker shows once.
async fn stage_that_shows_once() -> Stage {
    let instance = Instance::new("training-app-db", "metrics", "basic");
    let recipe = CredentialsRecipe::postgresql().shown_once();
    let broker = FakeBroker::builder().without_instances().instance(instance.clone()).credentials(recipe);
    Stage::set_for(broker.start().await.unwrap(), instance).await
}

/// Waits until the ServiceKey is ready, and fails unless its Secret contains the credentials of the only binding.
async fn holds_the_only_key(stage: &Stage) -> ServiceKey {
    let key = stage.wait_ready(NAME).await;
    let bindings = stage.broker.bindings();
    assert_eq!(bindings.len(), 1, "{bindings:#?}");
    let secret = stage.secrets().get(NAME).await.unwrap();
    assert_eq!(entries(&secret)["password"], bindings[0].credentials["password"].as_str().unwrap());
    assert_eq!(key.status.as_ref().unwrap().key.as_ref().unwrap().id, bindings[0].id.to_string());
    key
}

#[tokio::test]
async fn a_key_made_in_the_background_costs_a_bind_its_polls_and_a_fetch() {
    let stage = stage_at(Pace::polls(1)).await;
    let operator = stage.start_operator().await;
    stage.wait_for_provider("broker").await;

    stage.create_key(NAME).await;
    let key = holds_the_only_key(&stage).await;
    assert_eq!(key.status.unwrap().operation, None);
    let counts = [Route::Bind, Route::LastOperation, Route::Fetch].map(|route| stage.broker.count(route));
    assert_eq!(counts, [1, 2, 1]);

    stage.keys().delete(NAME, &DeleteParams::default()).await.unwrap();
    stage.wait_gone(NAME).await;
    assert_eq!(stage.broker.bindings(), []);
    assert_eq!(stage.broker.count(Route::Unbind), 1);
    let requests = stage.plane.audit().requests(&operator.user).unwrap().of("servicekeys").writes();
    let statuses = requests.only(|request| request.subresource == "status");
    assert_eq!(statuses.len(), 1, "a short operation causes no additional status:\n{statuses}");
}

#[tokio::test]
async fn a_long_operation_is_shown() {
    let stage = stage_at(Pace::until_told()).await;
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;

    let key = stage.wait_key(NAME, Reason::Binding).await;
    key.says("the remote side has been creating key 1 since ");
    let operation = key.status.as_ref().unwrap().operation.as_ref().unwrap();
    assert_eq!((operation.kind, operation.sequence), (OperationStatusKind::Bind, 1));
    assert_eq!(operation.token, stage.broker.under_way()[0].token);
    assert_eq!(condition(&key, "Stalled"), None);
    assert_eq!(stage.broker.finish_all(), 1);
    holds_the_only_key(&stage).await;

    stage.keys().delete(NAME, &DeleteParams::default()).await.unwrap();
    let key = stage.wait_key(NAME, Reason::Deleting).await;
    key.says("the remote side has been revoking key 1 since ");
    assert_eq!(key.status.as_ref().unwrap().operation.as_ref().unwrap().kind, OperationStatusKind::Unbind);
    assert!(
        stage.secrets().get_opt(NAME).await.unwrap().is_some(),
        "the Secret is deleted after the key is revoked"
    );
    assert_eq!(stage.broker.finish_all(), 1);
    stage.wait_gone(NAME).await;
    assert_eq!(stage.broker.bindings(), []);
}

/// The longest token that the specification allows, of characters that a query must escape.
#[tokio::test]
async fn a_token_of_ten_thousand_characters_is_sent_back() {
    let token = |number: u64| format!("{number}{}", "/a+b=c&d%".repeat(1_111));
    assert_eq!(token(1).chars().count(), 10_000);
    let stage = stage_at(Pace::polls(1).tokens(token)).await;
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    holds_the_only_key(&stage).await;
    stage.keys().delete(NAME, &DeleteParams::default()).await.unwrap();
    stage.wait_gone(NAME).await;
    assert_eq!(stage.broker.bindings(), []);
    assert_eq!(stage.broker.count(Route::LastOperation), 4, "two polls for each of two operations");
}

#[tokio::test]
async fn an_operator_that_was_away_takes_up_what_is_under_way() {
    let stage = stage_at(Pace::until_told()).await;
    let first = stage.start_operator().await;
    stage.create_key(NAME).await;
    stage.broker.wait_for_work(|work| work.len() == 1).await.unwrap();
    drop(first);
    assert_eq!(stage.broker.finish_all(), 1);

    let second = stage.start_operator().await;
    holds_the_only_key(&stage).await;
    stage.keys().delete(NAME, &DeleteParams::default()).await.unwrap();
    stage.broker.wait_for_work(|work| work.iter().any(|work| work.work == Work::Unbind)).await.unwrap();
    drop(second);
    let _third = stage.start_operator().await;
    stage
        .broker
        .wait_for_calls(|calls| calls.iter().filter(|call| call.route == Route::Unbind).count() > 1)
        .await
        .unwrap();
    assert_eq!(stage.broker.finish_all(), 1);
    stage.wait_gone(NAME).await;
    let ids: BTreeSet<_> = stage.broker.calls().into_iter().filter_map(|call| call.details.binding).collect();
    assert_eq!(ids.len(), 1, "no request ever named another binding: {ids:?}");
}

#[tokio::test]
async fn what_a_failed_operation_left_is_revoked_before_the_next_attempt() {
    let stage = stage_at(Pace::until_told().only(Work::Bind)).await;
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    let work = stage.broker.wait_for_work(|work| work.len() == 1).await.unwrap();
    assert!(stage.broker.fail_with_orphan(work[0].binding, "no room left"));

    let key = stage.wait_key(NAME, Reason::BindFailed).await;
    key.says("failed at the remote side: no room left; a key that it may have created anyway is revoked");
    stage.broker.wait_for_work(|work| work.len() == 1).await.unwrap();
    assert_eq!(stage.broker.bindings(), [], "the orphan is gone before the key is created again");
    assert_eq!(stage.broker.finish_all(), 1);
    holds_the_only_key(&stage).await;
}

#[tokio::test]
async fn a_servicekey_that_is_deleted_while_its_key_is_made_leaves_nothing() {
    let stage = stage_at(Pace::until_told().only(Work::Bind)).await;
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    stage.broker.wait_for_work(|work| work.len() == 1).await.unwrap();
    stage.keys().delete(NAME, &DeleteParams::default()).await.unwrap();
    assert_eq!(stage.broker.finish_all(), 1);
    stage.wait_gone(NAME).await;
    assert_eq!(stage.broker.bindings(), []);
}

#[tokio::test]
async fn a_bind_that_takes_effect_after_it_was_given_up_leaves_nothing() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    stage.wait_for_provider("broker").await;
    stage.broker.inject(Fault::Late.on(Route::Bind));
    // Every later bind is refused, so that the next attempt does not create the key.
    let refused = Fault::Status(testkit::broker::StatusCode::BAD_REQUEST, json!({}));
    stage.create_key(NAME).await;
    stage.broker.wait_for_late(1).await.unwrap();
    stage.broker.inject(refused.on(Route::Bind).forever());
    stage.wait_key(NAME, Reason::BindRejected).await;
    let unbinds = stage.broker.count(Route::Unbind);
    assert!(unbinds >= 1, "the operator revoked the key that may have been created");

    stage.keys().delete(NAME, &DeleteParams::default()).await.unwrap();
    let key = stage.wait_key(NAME, Reason::Deleting).await;
    key.says("an earlier request for the key may still take effect; the operator waits until");
    assert_eq!(stage.broker.release_late(), 1);
    assert_eq!(stage.broker.bindings().len(), 1, "the late bind has taken effect");
    stage.wait_gone(NAME).await;
    assert_eq!(stage.broker.bindings(), []);
    stage.broker.clear_faults();
}

#[tokio::test]
async fn credentials_that_were_shown_once_and_lost_are_replaced() {
    let stage = stage_that_shows_once().await;
    let _operator = stage.start_operator().await;
    stage.wait_for_provider("broker").await;
    stage.broker.inject(Fault::Cut.on(Route::Bind).after_effect());
    stage.create_key(NAME).await;

    holds_the_only_key(&stage).await;
    // The operator revokes the key at once, and again before the next attempt.
    assert_eq!([Route::Bind, Route::Unbind].map(|route| stage.broker.count(route)), [2, 2]);
}

#[tokio::test]
async fn a_lost_secret_of_credentials_that_are_shown_once_gets_the_next_key() {
    let stage = stage_that_shows_once().await;
    let operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    holds_the_only_key(&stage).await;
    let overlap = json!({"spec": {"rotation": {"overlap": "2s"}}});
    stage.keys().patch(NAME, &PatchParams::default(), &Patch::Merge(&overlap)).await.unwrap();

    stage.secrets().delete(NAME, &DeleteParams::default()).await.unwrap();
    let bindings = stage.broker.wait_until(|bindings| bindings.len() == 2).await.unwrap();
    assert_eq!(bindings[0].predecessor, None, "the plan can't be rotated");
    stage.wait_ready(NAME).await;
    assert_eq!(
        stage.broker.bindings().len(),
        2,
        "without a request of the user, the first key stays for an hour"
    );
    drop(operator);
    let _operator = stage.start_operator_ahead(SignedDuration::from_hours(2)).await;
    stage.broker.wait_until(|bindings| bindings.len() == 1).await.unwrap();
    let what = "with its second key, and the first one revoked";
    let key = stage
        .wait(stage.keys(), NAME, what, |key| {
            key.and_then(|key| key.status.as_ref()).is_some_and(|status| {
                status.key.as_ref().is_some_and(|key| key.sequence == 2) && status.previous_keys.is_empty()
            })
        })
        .await;
    assert!(key.is_some());
    holds_the_only_key(&stage).await;
}

#[tokio::test]
async fn a_retry_after_that_makes_no_sense_is_survived() {
    for nonsense in ["-5", "Fri, 31 Dec 1999 23:59:59 GMT", "soon", ""] {
        let stage = stage_at(Pace::polls(1).retry_after(nonsense)).await;
        let _operator = stage.start_operator().await;
        stage.create_key(NAME).await;
        holds_the_only_key(&stage).await;
        assert!(stage.broker.count(Route::LastOperation) <= 3, "{nonsense:?} caused too many polls");
    }
}

/// The operator has 32 workers, fewer than there are operations.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_holds_no_worker() {
    let stage = stage_at(Pace::until_told()).await;
    let _operator = stage.start_operator().await;
    for number in 0..50 {
        stage.create_key(&format!("key-{number}")).await;
    }
    stage.broker.wait_for_work(|open| open.len() == 50).await.unwrap();
    stage.broker.change_pace(Pace::at_once());
    assert_eq!(stage.broker.finish_all(), 50);
    stage.wait_all_ready(50).await;
}
