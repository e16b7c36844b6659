//! The whole cluster or a part of it is restored to an earlier state, but the remote sides are not. The operator
//! revokes no key whose credentials are in the Secret, and finds the keys that the restored objects do not name.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, api::PostParams};
use rstest::rstest;
use serde_json::json;
use servicekey_operator::{
    api::{Reason, ServiceKey},
    testing::{Identity, Sequence},
};
use testkit::broker::Route;

use crate::support::{
    foundry::{FoundryStage, INSTANCE, later_name},
    ibm::IbmStage,
    stage::{Running, Stage, entries},
};

const NAME: &str = "monitoring-creds";

/// A ServiceKey and its Secret at an earlier time.
struct Backup {
    key: ServiceKey,
    secret: Secret,
}

impl Backup {
    async fn take(stage: &Stage) -> Self {
        Self { key: stage.keys().get(NAME).await.unwrap(), secret: stage.secrets().get(NAME).await.unwrap() }
    }

    /// Writes the ServiceKey back. No operator may be running.
    async fn restore_key(&self, stage: &Stage) {
        let (keys, parameters) = (stage.keys(), PostParams::default());
        let mut key = ServiceKey { status: None, ..self.key.clone() };
        key.metadata.resource_version = keys.get(NAME).await.unwrap().resource_version();
        let replaced = keys.replace(NAME, &parameters, &key).await.unwrap();
        key.metadata.resource_version = replaced.resource_version();
        key.status.clone_from(&self.key.status);
        keys.replace_status(NAME, &parameters, &key).await.unwrap();
    }

    async fn restore_secret(&self, stage: &Stage) {
        let mut secret = self.secret.clone();
        secret.metadata.resource_version = None;
        stage.secrets().replace(NAME, &PostParams::default(), &secret).await.unwrap();
    }

    async fn restore(&self, stage: &Stage) {
        self.restore_secret(stage).await;
        self.restore_key(stage).await;
    }
}

impl Stage {
    /// Rotates until this key is the current one.
    async fn rotate_to(&self, last: u32) {
        let first = sequence(&self.keys().get(NAME).await.unwrap()).unwrap() + 1;
        for number in first..=last {
            self.request_rotation(json!(format!("key {number}"))).await;
            self.wait(self.keys(), NAME, "rotated", |key| key.and_then(sequence) == Some(number)).await;
        }
    }

    /// The numbers of the keys at the broker.
    async fn living(&self) -> Vec<u32> {
        let uid = self.keys().get(NAME).await.unwrap().uid().unwrap().parse().unwrap();
        let numbers = (1..10).filter(|number| {
            let identity = Identity { owner: uid, sequence: Sequence::new(*number).unwrap() };
            self.broker.binding(identity.binding_id()).is_some()
        });
        numbers.collect()
    }
}

fn sequence(key: &ServiceKey) -> Option<u32> {
    Some(key.status.as_ref()?.key.as_ref()?.sequence)
}

/// A stage with a ServiceKey that has its first key, and a backup of that state.
async fn begin(offering: &str, plan: &str, overlap: &str) -> (Stage, Running, Backup) {
    let stage = Stage::with_instance(offering, plan).await;
    let operator = stage.start_operator().await;
    stage.create_rotating(json!({ "overlap": overlap })).await;
    let backup = Backup::take(&stage).await;
    (stage, operator, backup)
}

/// A broker can't list keys, so the operator does not notice that the key in the Secret is gone. The next rotations
/// find the remaining keys.
#[rstest]
#[case::ordinary("small")]
#[case::with_predecessors("rotating")]
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_the_cluster_knows_no_more_are_found_by_their_numbers(#[case] plan: &str) {
    let (stage, operator, backup) = begin("postgresql", plan, "0s").await;
    stage.rotate_to(3).await;
    stage.wait_settled_with(3).await;
    drop(operator);
    backup.restore(&stage).await;
    let unbinds = stage.broker.count(Route::Unbind);

    let _operator = stage.start_operator().await;
    stage.rotate_to(2).await;
    stage.wait_settled_with(2).await;
    assert_eq!(stage.living().await, [2, 3], "the first key is gone, the second was requested again");
    assert_eq!(
        stage.broker.count(Route::Unbind),
        unbinds + 1,
        "one request confirmed that the first key is gone"
    );
    stage.rotate_to(3).await;
    stage.wait_settled_with(3).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    stage.rotate_to(4).await;
    stage.wait_settled_with(4).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    stage.delete_and_leave_nothing(NAME).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_made_before_is_taken_up_and_none_is_revoked() {
    let (stage, operator, backup) = begin("postgresql", "small", "1h").await;
    stage.rotate_to(2).await;
    let made = stage.broker.bindings();
    drop(operator);
    backup.restore(&stage).await;

    let _operator = stage.start_operator().await;
    stage.rotate_to(2).await;
    let key = stage.wait_ready(NAME).await;
    let second = stage.broker.binding(key.status.unwrap().key.unwrap().id.parse().unwrap()).unwrap();
    stage.assert_secret_holds(NAME, &second.credentials, &second.id).await;
    assert_eq!(stage.broker.bindings(), made);
    assert_eq!(stage.broker.count(Route::Unbind), 0);
    stage.delete_and_leave_nothing(NAME).await;
}

/// The broker refuses to create a key with an id that it already has, from other parameters. The operator first revokes
/// the existing key.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_made_from_other_fields_makes_room() {
    let (stage, operator, backup) = begin("postgresql", "small", "0s").await;
    stage.change_key(NAME, json!({"parameters": {"role": "before"}})).await;
    stage.wait_settled_with(2).await;
    drop(operator);
    backup.restore(&stage).await;

    let _operator = stage.start_operator().await;
    stage.change_key(NAME, json!({"parameters": {"role": "after"}})).await;
    stage.wait_settled_with(2).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    assert_eq!(stage.broker.bindings()[0].parameters["role"], "after");
    stage.delete_and_leave_nothing(NAME).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_between_an_older_status_and_the_secret_are_revoked() {
    let (stage, operator, backup) = begin("postgresql", "small", "1h").await;
    stage.rotate_to(3).await;
    let held = entries(&stage.secrets().get(NAME).await.unwrap());
    drop(operator);
    backup.restore_key(&stage).await;
    assert!(stage.living().await.ends_with(&[2, 3]));

    // The restored ServiceKey now requests exactly the fields from which the third key was created.
    stage.request_rotation(json!("key 3")).await;
    let operator = stage.start_operator().await;
    let replaced = |key: &ServiceKey| {
        let status = key.status.as_ref().unwrap();
        status.previous_keys.iter().map(|key| key.sequence).eq([1, 2])
    };
    let key = stage.wait(stage.keys(), NAME, "caught up", |key| key.is_some_and(replaced)).await.unwrap();
    assert_eq!((sequence(&key), stage.living().await), (Some(3), vec![1, 2, 3]));
    drop(operator);

    let _operator = stage.start_operator_ahead(SignedDuration::from_hours(2)).await;
    stage.wait_settled_with(3).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    assert!(entries(&stage.secrets().get(NAME).await.unwrap()) == held, "the Secret stayed the same");
    stage.delete_and_leave_nothing(NAME).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_between_an_older_status_and_the_secret_go_with_the_servicekey() {
    let (stage, operator, backup) = begin("postgresql", "small", "1h").await;
    stage.rotate_to(3).await;
    drop(operator);
    backup.restore_key(&stage).await;
    stage.delete_key(NAME).await;

    let _operator = stage.start_operator().await;
    stage.wait_gone(NAME).await;
    assert_eq!(stage.broker.bindings(), []);
}

/// The Secret comes from a backup. The operator reads the credentials of the current key again, or creates another key.
#[rstest]
#[case::that_can_be_read_again("postgresql", "small", 3)]
#[case::that_are_shown_once("metrics", "basic", 4)]
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_older_than_the_status_gets_credentials_that_work(
    #[case] offering: &str,
    #[case] plan: &str,
    #[case] expected: u32,
    #[values(false, true)] operator_is_there: bool,
) {
    let (stage, operator, backup) = begin(offering, plan, "0s").await;
    stage.rotate_to(3).await;
    stage.wait_settled_with(3).await;
    let present = operator_is_there.then_some(operator);
    let binds = stage.broker.count(Route::Bind);
    backup.restore_secret(&stage).await;

    let operator = match present {
        Some(operator) => operator,
        None => stage.start_operator().await,
    };
    stage
        .wait(stage.secrets(), NAME, "another", |secret| {
            secret.is_some_and(|secret| secret.data != backup.secret.data)
        })
        .await;
    stage.wait(stage.keys(), NAME, "with its last key", |key| key.and_then(sequence) == Some(expected)).await;
    // A key that was replaced without the user's request stays for an hour.
    drop(operator);
    let _operator = stage.start_operator_ahead(SignedDuration::from_hours(2)).await;
    stage.wait_settled_with(expected).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    // If the broker does not show the credentials again, the operator first repeats the bind.
    let more = usize::try_from(expected - 3).unwrap();
    assert_eq!(stage.broker.count(Route::Bind) - binds, 2 * more);
    stage.delete_and_leave_nothing(NAME).await;
}

/// The ServiceKey was restored from a backup from before its deletion, which revoked its key.
#[rstest]
#[case::and_goes_on_living(true)]
#[case::and_is_deleted_again(false)]
#[tokio::test(flavor = "multi_thread")]
async fn a_servicekey_comes_back_without_its_key(#[case] lives: bool) {
    let (stage, operator, _) = begin("postgresql", "small", "0s").await;
    drop(operator);
    assert!(stage.broker.forget(stage.broker.bindings()[0].id));
    let _operator = stage.start_operator().await;
    if lives {
        stage.rotate_to(2).await;
        stage.wait_settled_with(2).await;
        stage.wait_ready_with_the_only_key(NAME).await;
    }
    stage.delete_and_leave_nothing(NAME).await;
}

/// Cloud Foundry can list keys, so the operator notices the missing key and replaces it.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_a_cloud_foundry_has_no_more_is_missed() {
    let stage = FoundryStage::set().await;
    let operator = stage.start_operator().await;
    let mut manifest = stage.manifest(NAME);
    manifest["spec"]["rotation"] = json!({"overlap": "0s"});
    stage.create::<ServiceKey>(manifest).await;
    stage.wait_ready_with_the_one_key(NAME).await;
    let backup = Backup::take(&stage).await;
    stage.rotate_to(3).await;
    stage.wait_settled_with(3).await;
    drop(operator);
    backup.restore(&stage).await;

    // The operator looks up the first key once because the list does not show it, and once more before it is revoked.
    stage.foundry.allow_look_ups(2);
    let _operator = stage.start_operator().await;
    stage.wait_event(NAME, Reason::KeyLost.as_str()).await;
    let key = stage.wait_settled_with(2).await;
    let second = stage.foundry.key_named(INSTANCE, &later_name(&key, NAME, 2)).unwrap();
    stage.assert_holds(&key, &second).await;
    let third = stage.foundry.key_named(INSTANCE, &later_name(&key, NAME, 3)).unwrap();
    assert!(third.is_live(), "only the user can decide between the two keys");

    stage.rotate_to(3).await;
    let key = stage.wait_settled_with(3).await;
    stage.assert_holds(&key, &third).await;
    stage.wait_ready_with_the_one_key(NAME).await;
    stage.delete_and_leave_no_key(NAME).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_ibm_cloud_has_no_more_is_missed() {
    let stage = IbmStage::set().await;
    let operator = stage.start_operator().await;
    stage.create_key_with(NAME, json!({"rotation": {"overlap": "0s"}})).await;
    stage.wait_ready_with_the_one_key(NAME).await;
    let backup = Backup::take(&stage).await;
    stage.rotate_to(3).await;
    stage.wait_settled_with(3).await;
    let third = stage.ibm.live_keys().remove(0);
    drop(operator);
    backup.restore(&stage).await;

    // IBM Cloud may not show a key within a minute after its creation.
    let _operator = stage.start_operator_ahead(SignedDuration::from_mins(1)).await;
    stage.wait_event(NAME, Reason::KeyLost.as_str()).await;
    let key = stage.wait_settled_with(2).await;
    let keys = stage.ibm.live_keys();
    let [kept, second] = keys.as_slice() else { panic!("expected exactly two keys: {keys:#?}") };
    stage.assert_holds(&key, second).await;
    assert_eq!(kept, &third, "only the user can decide between the two keys");

    stage.rotate_to(3).await;
    let key = stage.wait_settled_with(3).await;
    stage.assert_holds(&key, &third).await;
    stage.wait_ready_with_the_one_key(NAME).await;
    stage.delete_and_leave_no_key(NAME).await;
}
