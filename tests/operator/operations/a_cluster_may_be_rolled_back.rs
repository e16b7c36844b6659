//! The cluster is as it was some time ago, wholly or in parts, and the remote sides are not: no key is revoked whose
//! credentials the Secret holds, and what the cluster knows no more is found.

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

/// As in the tests of rotations.
const NAME: &str = "monitoring-creds";

/// A ServiceKey and its Secret, as they were once.
struct Backup {
    key: ServiceKey,
    secret: Secret,
}

impl Backup {
    async fn take(stage: &Stage) -> Self {
        Self { key: stage.keys().get(NAME).await.unwrap(), secret: stage.secrets().get(NAME).await.unwrap() }
    }

    /// Writes the ServiceKey back. Nobody may look at it meanwhile.
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
    /// Makes the next keys, up to this one.
    async fn rotate_to(&self, last: u32) {
        let first = sequence(&self.keys().get(NAME).await.unwrap()).unwrap() + 1;
        for number in first..=last {
            self.request_rotation(json!(format!("key {number}"))).await;
            self.wait(self.keys(), NAME, "rotated", |key| key.and_then(sequence) == Some(number)).await;
        }
    }

    /// The numbers of the keys that the broker has.
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

/// A stage with a ServiceKey that has its first key, and the time at which it had.
async fn begin(offering: &str, plan: &str, overlap: &str) -> (Stage, Running, Backup) {
    let stage = Stage::with_instance(offering, plan).await;
    let operator = stage.start_operator().await;
    stage.create_rotating(json!({ "overlap": overlap })).await;
    let backup = Backup::take(&stage).await;
    (stage, operator, backup)
}

/// A broker lists no keys, so nothing tells that the one in the Secret is gone. The next rotations find what is left.
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
    assert_eq!(stage.living().await, [2, 3], "the first is gone, the second was made again");
    assert_eq!(stage.broker.count(Route::Unbind), unbinds + 1, "that the first is gone was confirmed");
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

/// The broker refuses to make a key from other parameters in the place of the one that it has.
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

    // What the restored ServiceKey asks for is what the third key was made from.
    stage.request_rotation(json!("key 3")).await;
    let operator = stage.start_operator().await;
    let replaced = |key: &ServiceKey| {
        let status = key.status.as_ref().unwrap();
        status.previous_keys.iter().map(|key| key.sequence).eq([2])
    };
    let key = stage.wait(stage.keys(), NAME, "caught up", |key| key.is_some_and(replaced)).await.unwrap();
    assert_eq!((sequence(&key), stage.living().await), (Some(3), vec![2, 3]));
    drop(operator);

    let _operator = stage.start_operator_ahead(SignedDuration::from_hours(2)).await;
    stage.wait_settled_with(3).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    assert!(entries(&stage.secrets().get(NAME).await.unwrap()) == held, "the Secret was right all the time");
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

/// The Secret comes from a backup: the credentials of the current key are read again, or there is another key.
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
    stage.wait(stage.keys(), NAME, "on its last key", |key| key.and_then(sequence) == Some(expected)).await;
    // A key that was replaced without being asked for stays for an hour.
    drop(operator);
    let _operator = stage.start_operator_ahead(SignedDuration::from_hours(2)).await;
    stage.wait_settled_with(expected).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    // Where they are not shown, the bind is repeated first.
    let more = usize::try_from(expected - 3).unwrap();
    assert_eq!(stage.broker.count(Route::Bind) - binds, 2 * more);
    stage.delete_and_leave_nothing(NAME).await;
}

/// It was deleted in the time that did not happen: its key is gone, and it is there again.
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

/// Where keys are listed, the one that is gone is missed, and the next one takes its place.
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

    // The first key is looked at itself, and once more when it is revoked.
    stage.foundry.allow_look_ups(2);
    let _operator = stage.start_operator().await;
    stage.wait_event(NAME, Reason::KeyLost.as_str()).await;
    let key = stage.wait_settled_with(2).await;
    let second = stage.foundry.key_named(INSTANCE, &later_name(&key, NAME, 2)).unwrap();
    stage.assert_holds(&key, &second).await;
    let third = stage.foundry.key_named(INSTANCE, &later_name(&key, NAME, 3)).unwrap();
    assert!(third.is_live(), "nobody but the user can tell which of the two is right");

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
    stage.ask_for_key_with(NAME, json!({"rotation": {"overlap": "0s"}})).await;
    stage.wait_ready_with_the_one_key(NAME).await;
    let backup = Backup::take(&stage).await;
    stage.rotate_to(3).await;
    stage.wait_settled_with(3).await;
    let third = stage.ibm.live_keys().remove(0);
    drop(operator);
    backup.restore(&stage).await;

    // A key that is younger than a minute may only not show yet.
    let _operator = stage.start_operator_ahead(SignedDuration::from_mins(1)).await;
    stage.wait_event(NAME, Reason::KeyLost.as_str()).await;
    let key = stage.wait_settled_with(2).await;
    let keys = stage.ibm.live_keys();
    let [kept, second] = keys.as_slice() else { panic!("there are not two keys: {keys:#?}") };
    stage.assert_holds(&key, second).await;
    assert_eq!(kept, &third, "nobody but the user can tell which of the two is right");

    stage.rotate_to(3).await;
    let key = stage.wait_settled_with(3).await;
    stage.assert_holds(&key, &third).await;
    stage.wait_ready_with_the_one_key(NAME).await;
    stage.delete_and_leave_no_key(NAME).await;
}
