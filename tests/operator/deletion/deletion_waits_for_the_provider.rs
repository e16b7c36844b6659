//! A deleted ServiceKey stays until its key is revoked, or until the user abandons the key. Without a key it is removed
//! at once.

use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use rstest::rstest;
use serde_json::json;
use servicekey_operator::api::{KeyProvider, Reason, ServiceKey};
use testkit::broker::{Fault, Route, StatusCode};

use crate::support::{conditions::Reports, stage::Stage};

const NAME: &str = "monitoring-creds";

/// An object that the operator needs to revoke the key, and that was removed anyway.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Missing {
    Provider,
    Login,
}

impl Missing {
    const fn reason(self) -> Reason {
        match self {
            Self::Provider => Reason::ProviderNotFound,
            Self::Login => Reason::ProviderNotReady,
        }
    }

    fn words(self, stage: &Stage) -> String {
        match self {
            Self::Provider => "KeyProvider `broker` does not exist; create it".to_owned(),
            Self::Login => format!(
                "KeyProvider `broker` can't be used: the Secret `broker-login` does not exist in the namespace `{}`; \
                 create it",
                stage.namespace
            ),
        }
    }

    async fn remove(self, stage: &Stage) {
        match self {
            Self::Provider => stage.delete_by_force(stage.api::<KeyProvider>(), "broker").await,
            Self::Login => stage.delete_by_force(stage.secrets(), "broker-login").await,
        }
    }

    async fn restore(self, stage: &Stage) {
        match self {
            Self::Provider => drop(stage.create::<KeyProvider>(stage.provider_manifest("broker")).await),
            Self::Login => stage.create_login("operator", "broker-password").await,
        }
    }

    /// Waits until the ServiceKey reports the missing object and both solutions: to create it, or to abandon the key.
    async fn is_asked_for(self, stage: &Stage) {
        let key = stage.wait_key(NAME, self.reason()).await;
        key.says(&self.words(stage));
        key.says("the operator revokes the key as soon as this is corrected");
        key.says("to leave the key at the remote side, annotate the ServiceKey");
        key.says("`servicekeys.dev/abandon: \"true\"`");
        assert_eq!(stage.wait_event(NAME, self.reason().as_str()).await, key.message());
    }
}

/// A stage with a ServiceKey that is being deleted, whose provider or login is missing.
async fn stuck_without(missing: Missing) -> (Stage, crate::support::stage::Running) {
    let stage = Stage::set().await;
    let operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    // Until the provider is gone, the broker refuses to revoke the key.
    stage
        .broker
        .inject(Fault::Status(StatusCode::SERVICE_UNAVAILABLE, json!({})).on(Route::Unbind).forever());
    stage.delete_key(NAME).await;
    stage.wait_key(NAME, Reason::RevokeFailed).await;
    missing.remove(&stage).await;
    missing.is_asked_for(&stage).await;
    stage.broker.clear_faults();
    (stage, operator)
}

#[rstest]
#[case::provider(Missing::Provider)]
#[case::login(Missing::Login)]
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_goes_on_when_what_it_needs_is_restored(#[case] missing: Missing) {
    let (stage, _operator) = stuck_without(missing).await;
    missing.restore(&stage).await;
    stage.wait_gone(NAME).await;
    assert_eq!(stage.broker.bindings(), []);
    assert!(stage.secrets().get_opt(NAME).await.unwrap().is_none());
}

#[rstest]
#[case::provider(Missing::Provider)]
#[case::login(Missing::Login)]
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_ends_when_the_user_lets_go(#[case] missing: Missing) {
    let (stage, operator) = stuck_without(missing).await;
    let unbinds = stage.broker.count(Route::Unbind);
    stage.abandon(NAME).await;
    stage.wait_gone(NAME).await;
    assert_eq!(operator.total("servicekeys_keys_left_behind_total"), 1.0);
    assert_eq!(
        stage.wait_event(NAME, "KeysLeftBehind").await,
        "keys 1 stay at the remote side, as requested"
    );
    assert_eq!((stage.broker.bindings().len(), stage.broker.count(Route::Unbind)), (1, unbinds));
    assert!(stage.secrets().get_opt(NAME).await.unwrap().is_none());
}

/// An operator that never saw the provider also assumes that a key may exist.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_waits_after_a_restart_as_well() {
    let stage = Stage::set().await;
    let first = stage.start_operator().await;
    stage.create_key(NAME).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    drop(first);
    Missing::Provider.remove(&stage).await;
    stage.delete_key(NAME).await;

    let _second = stage.start_operator().await;
    Missing::Provider.is_asked_for(&stage).await;
    assert_eq!(stage.broker.bindings().len(), 1);
    assert!(
        stage.secrets().get_opt(NAME).await.unwrap().is_some(),
        "the Secret is deleted after the key is revoked"
    );
    Missing::Provider.restore(&stage).await;
    stage.wait_gone(NAME).await;
    assert_eq!(stage.broker.bindings(), []);
}

/// If the broker refuses to revoke the key, the user can abandon it too.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_broker_does_not_revoke_can_be_let_go() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    stage.broker.inject(Fault::Status(StatusCode::BAD_REQUEST, json!({})).on(Route::Unbind).forever());
    stage.delete_key(NAME).await;
    stage.wait_key(NAME, Reason::RevokeFailed).await;
    stage.abandon(NAME).await;
    stage.wait_gone(NAME).await;
    stage.wait_event(NAME, "KeysLeftBehind").await;
    assert_eq!(stage.broker.bindings().len(), 1);
    assert!(stage.secrets().get_opt(NAME).await.unwrap().is_none());
}

#[rstest]
#[case::with_its_provider(false)]
#[case::without_its_provider(true)]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_to_be_retained_stays_at_the_broker(#[case] provider_is_gone: bool) {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    let mut key = stage.key_manifest(NAME);
    key["spec"]["deletionPolicy"] = json!("Retain");
    stage.create::<ServiceKey>(key).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    if provider_is_gone {
        Missing::Provider.remove(&stage).await;
    }
    stage.delete_key(NAME).await;
    stage.wait_gone(NAME).await;
    assert_eq!(
        stage.wait_event(NAME, "KeysLeftBehind").await,
        "keys 1 stay at the remote side, as requested"
    );
    assert_eq!((stage.broker.bindings().len(), stage.broker.count(Route::Unbind)), (1, 0));
    assert!(stage.secrets().get_opt(NAME).await.unwrap().is_none());
}

/// The user may change the policy while the deletion waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_waits_ends_when_its_key_is_to_be_retained() {
    let (stage, _operator) = stuck_without(Missing::Provider).await;
    let patch = Patch::Merge(json!({"spec": {"deletionPolicy": "Retain"}}));
    stage.keys().patch(NAME, &PatchParams::default(), &patch).await.unwrap();
    stage.wait_gone(NAME).await;
    assert_eq!(stage.broker.bindings().len(), 1);
}

/// No key can exist, so the operator sends no request and waits for nothing.
#[rstest]
#[case::no_provider(Missing::Provider)]
#[case::no_login(Missing::Login)]
#[tokio::test(flavor = "multi_thread")]
async fn a_servicekey_that_never_had_a_key_goes_at_once(#[case] missing: Missing) {
    let stage = Stage::set().await;
    missing.remove(&stage).await;
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    let key = stage.wait_key(NAME, missing.reason()).await;
    key.says(&missing.words(&stage));
    assert!(key.finalizers().is_empty());
    stage.delete_and_leave_nothing(NAME).await;
    assert_eq!(stage.broker.calls(), []);
}

/// A mistake in an immutable field is corrected by deleting the ServiceKey. No key was created, and a broker may refuse
/// to revoke keys of a plan that it does not have.
#[rstest]
#[case::a_plan_that_is_not_there(json!({"plan": "huge"}), Reason::InstanceNotFound, "has no plan `huge`")]
#[case::a_plan_without_keys(json!({"plan": "archive"}), Reason::BindRejected, "creates no keys for plan `archive`")]
#[case::no_id(json!({"id": null, "offering": null, "plan": null, "name": "db"}), Reason::BindRejected, "needs `instance.id`")]
#[tokio::test(flavor = "multi_thread")]
async fn a_servicekey_that_no_key_can_be_made_for_goes_at_once(
    #[case] mistake: serde_json::Value,
    #[case] reason: Reason,
    #[case] words: &str,
) {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    let mut key = stage.key_manifest(NAME);
    key["spec"]["instance"].as_object_mut().unwrap().extend(mistake.as_object().unwrap().clone());
    stage.create::<ServiceKey>(key).await;
    let key = stage.wait_key(NAME, reason).await;
    key.says(words);
    assert!(key.is_stalled());
    stage.delete_and_leave_nothing(NAME).await;
    assert_eq!([Route::Bind, Route::Unbind].map(|route| stage.broker.count(route)), [0, 0]);
}

/// Without the finalizer, a deletion would leave the key behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_finalizer_that_somebody_takes_away_comes_back() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    stage.wait_ready(NAME).await;
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    let bare = stage.keys().patch(NAME, &PatchParams::default(), &patch).await.unwrap();
    assert!(bare.finalizers().is_empty());
    stage
        .wait(stage.keys(), NAME, "protected", |key| key.is_some_and(|key| !key.finalizers().is_empty()))
        .await;
    stage.delete_and_leave_nothing(NAME).await;
}

/// A broker that does not have the instance may refuse to revoke its keys. The ServiceKey is deleted anyway.
#[rstest]
#[case::not_found(StatusCode::NOT_FOUND)]
#[case::bad_request(StatusCode::BAD_REQUEST)]
#[tokio::test]
async fn a_key_that_was_always_refused_holds_no_deletion_up(#[case] status: StatusCode) {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    let refusal = json!({"description": "there is no such instance"});
    for route in [Route::Bind, Route::Unbind] {
        stage.broker.inject(Fault::Status(status, refusal.clone()).on(route).forever());
    }
    stage.create_key(NAME).await;
    stage.wait(stage.keys(), NAME, "refused", |key| key.is_some_and(Reports::is_stalled)).await;
    stage.keys().delete(NAME, &DeleteParams::default()).await.unwrap();
    stage.wait_gone(NAME).await;
    // A broker may create a key and answer that it did not.
    assert_eq!(stage.broker.count(Route::Unbind), 1);
    stage.broker.clear_faults();
}

/// An operator that started later can't know that every bind was refused. It tries to revoke the key, and its message
/// names the annotation that abandons it.
#[tokio::test]
async fn a_key_that_may_have_been_made_before_a_restart_is_revoked() {
    let stage = Stage::set().await;
    let operator = stage.start_operator().await;
    let refusal = json!({"description": "there is no such instance"});
    for route in [Route::Bind, Route::Unbind] {
        stage.broker.inject(Fault::Status(StatusCode::BAD_REQUEST, refusal.clone()).on(route).forever());
    }
    stage.create_key(NAME).await;
    stage.wait(stage.keys(), NAME, "refused", |key| key.is_some_and(Reports::is_stalled)).await;
    drop(operator);
    let _operator = stage.start_operator().await;
    stage.keys().delete(NAME, &DeleteParams::default()).await.unwrap();
    stage.wait_key(NAME, Reason::RevokeFailed).await.says("servicekeys.dev/abandon");
}
