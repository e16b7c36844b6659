//! A Korifi is a Cloud Foundry whose API accepts no labels when it creates a key, and whose links contain another
//! address than the provider's.

use kube::ResourceExt;
use rstest::rstest;
use serde_json::json;
use servicekey_operator::{
    api::{Reason, ServiceKey},
    testing::{Identity, Sequence},
};
use testkit::{
    Moment::{self, AfterEffect, BeforeEffect},
    cloud_foundry::{FakeCloudFoundry, Fault, Pace, Route, StatusCode},
};

use crate::support::{
    conditions::Reports,
    evidence::settled,
    foundry::{FoundryStage, INSTANCE, KEY, by_password, password},
    process::Process,
};

const OUTSIDE: &str = "https://api.cf.example.com";

async fn stage_at(pace: Pace) -> FoundryStage {
    let foundry = FakeCloudFoundry::builder().korifi().named(OUTSIDE).pace(pace).page_limit(1);
    let foundry = foundry.start().await.unwrap();
    let token = foundry.issue_token("alice");
    let auth = json!({"bearer": {"secretRef": {"name": "cf-login"}}});
    FoundryStage::logged_in_by(foundry, json!({"token": token}), auth).await
}

/// The name of the first key of a ServiceKey with `spec.keyName`.
fn own_name(key: &ServiceKey) -> String {
    let owner = key.uid().unwrap().parse().unwrap();
    Identity { owner, sequence: Sequence::FIRST }.own_name(KEY)
}

#[rstest]
#[case::at_once(Pace::at_once())]
#[case::in_the_background(Pace::looks(3))]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_created_and_then_marked(#[case] pace: Pace) {
    let stage = stage_at(pace).await;
    let _operator = stage.start_operator().await;
    let asked = stage.create_key(KEY).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    let key = &stage.foundry.keys()[0];
    assert_eq!(key.name, own_name(&asked));
    assert_eq!(key.labels["servicekeys.dev/owner"], asked.uid().unwrap());
    assert_eq!(stage.count(&[Route::Create]), 1);
    assert_eq!(stage.count(&[Route::Update]), 1);

    // The links between pages contain the other address too.
    stage.create_key("reporting-creds").await;
    stage.wait_ready("reporting-creds").await;
    stage.delete_key("reporting-creds").await;
    stage.wait_gone("reporting-creds").await;
    stage.delete_and_leave_no_key(KEY).await;
    assert_eq!(stage.count(&[Route::Token]), 0);
}

/// Until a key has its mark, its name proves whose it is, but not from which fields it was created.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn killed_between_creating_and_marking(
    #[values((Route::Create, AfterEffect), (Route::Update, BeforeEffect))] at: (Route, Moment),
    #[values(false, true)] deleted: bool,
) {
    let stage = stage_at(Pace::at_once()).await;
    let operator = Process::start(&stage).await;
    stage.wait_for_provider("foundry").await;
    let gate = stage.foundry.gate(at.0, at.1);
    stage.create_key(KEY).await;
    operator.kill_at(gate).await;
    if deleted {
        stage.delete_key(KEY).await;
    }
    let _operator = Process::start(&stage).await;
    if deleted {
        stage.wait_gone(KEY).await;
        assert_eq!(stage.foundry.keys(), []);
    } else {
        settled(&stage, KEY).await;
        stage.wait_ready_with_the_one_key(KEY).await;
        stage.delete_and_leave_no_key(KEY).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_can_not_be_marked_is_told_and_marked_later() {
    let stage = stage_at(Pace::at_once()).await;
    let down =
        Fault::error(StatusCode::INTERNAL_SERVER_ERROR, 10001, "UnknownError", "An unknown error occurred.");
    stage.foundry.inject(down.on(Route::Update).times(2));
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    let key = stage.wait_key(KEY, Reason::BindFailed).await;
    key.says("the key was created, but can't be marked yet: marking of the key failed: the API answers 500");
    stage.wait_ready_with_the_one_key(KEY).await;
    assert_eq!(stage.count(&[Route::Create]), 1, "the key is created once");
    assert_eq!(stage.count(&[Route::Update]), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_made_by_hand_stays_with_its_owner() {
    let stage = stage_at(Pace::at_once()).await;
    let by_hand = stage.foundry.add_key(INSTANCE, KEY).unwrap();
    let _operator = stage.start_operator().await;
    let asked = stage.create_key(KEY).await;
    stage.wait_ready(KEY).await;
    assert!(stage.foundry.key_named(INSTANCE, &own_name(&asked)).is_some());
    stage.delete_key(KEY).await;
    stage.wait_gone(KEY).await;
    assert_eq!(stage.foundry.keys(), [by_hand]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_made_by_hand_is_taken_over_where_the_user_says_so() {
    let stage = stage_at(Pace::looks(2)).await;
    let by_hand = stage.foundry.add_key(INSTANCE, KEY).unwrap();
    let _operator = stage.start_operator().await;
    let mut manifest = stage.manifest(KEY);
    manifest["spec"]["adoption"] = json!("IfExists");
    stage.create::<ServiceKey>(manifest).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    assert_eq!(stage.foundry.keys()[0].guid, by_hand.guid);
    stage.delete_and_leave_no_key(KEY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_no_login_where_there_is_no_uaa() {
    let foundry = FakeCloudFoundry::builder().korifi().start().await.unwrap();
    let stage = FoundryStage::logged_in_by(foundry, password(), by_password()).await;
    let _operator = stage.start_operator().await;
    let provider = stage.wait_foundry(Reason::InvalidSpec).await;
    provider.says("is a Korifi without a UAA; log in with `bearer` and a token of its Kubernetes cluster");
}
