//! With `secret.previous: Include`, the Secret contains the previous key's credentials exactly as long as they work.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use rstest::rstest;
use serde_json::{Value, json};
use servicekey_operator::api::ServiceKey;
use testkit::{
    Moment::{self, AfterEffect, BeforeEffect},
    broker::{Binding, Route},
    gateway::{Method, Requests},
};

use crate::support::{
    evidence::settled,
    process::Process,
    stage::{Stage, entries},
    time::Time,
};

const NAME: &str = "monitoring-creds";
const OVERLAP: Duration = Duration::from_secs(3600);

impl Stage {
    async fn create_with_previous(&self, overlap: &str) {
        let mut manifest = self.key_manifest(NAME);
        manifest["spec"]["secret"] = json!({"previous": "Include"});
        manifest["spec"]["rotation"] = json!({"overlap": overlap});
        self.create::<ServiceKey>(manifest).await;
        self.wait_ready_with_the_only_key(NAME).await;
    }

    async fn rotate_once_to(&self, sequence: u32) -> Secret {
        let request = json!({"metadata": {"annotations": {"servicekeys.dev/rotate": sequence.to_string()}}});
        self.keys().patch(NAME, &PatchParams::default(), &Patch::Merge(&request)).await.unwrap();
        let rotated = |key: &ServiceKey| {
            let status = key.status.as_ref().unwrap();
            status.key.as_ref().unwrap().sequence == sequence && status.operation.is_none()
        };
        self.wait(self.keys(), NAME, "rotated", |key| key.is_some_and(rotated)).await;
        self.secrets().get(NAME).await.unwrap()
    }

    async fn wait_secret(&self, what: &str, met: impl Fn(&Secret) -> bool) -> Secret {
        let found = self.wait(self.secrets(), NAME, what, |secret| secret.is_some_and(&met));
        found.await.unwrap()
    }

    async fn wait_without_previous(&self) -> Secret {
        self.wait_secret("without the previous key", |secret| mark(secret, "previous-sequence").is_none())
            .await
    }

    /// The bindings that were created so far, oldest first.
    fn keys_made<const N: usize>(&self) -> [Binding; N] {
        let bindings = self.broker.bindings();
        let count = bindings.len();
        bindings.try_into().unwrap_or_else(|_| panic!("expected {N} bindings, found {count}"))
    }
}

fn mark<'a>(secret: &'a Secret, name: &str) -> Option<&'a String> {
    secret.metadata.annotations.as_ref()?.get(&format!("servicekeys.dev/{name}"))
}

/// The expected entries of a Secret for these keys.
fn expected(current: &Binding, previous: Option<&Binding>) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let of = |binding: &Binding, prefix: &str| -> BTreeMap<_, _> {
        binding.credentials.iter().map(|(name, value)| (format!("{prefix}{name}"), text(value))).collect()
    };
    let previous = previous.map(|binding| of(binding, "previous.")).unwrap_or_default();
    of(current, "").into_iter().chain(previous).collect()
}

/// Fails without printing the entries.
#[track_caller]
fn assert_holds(secret: &Secret, current: &Binding, previous: Option<&Binding>) {
    let found = entries(secret);
    let names: Vec<_> = found.keys().collect();
    assert!(
        found == expected(current, previous),
        "the Secret has other entries than expected, under {names:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn both_keys_are_there_until_the_previous_one_is_revoked() {
    let stage = Stage::set().await;
    let time = Time::default();
    let _operator = stage.start_operator_by(time.clock()).await;
    stage.create_with_previous("1h").await;
    let rotated = stage.rotate_once_to(2).await;
    let [first, second] = stage.keys_made();
    assert_holds(&rotated, &second, Some(&first));

    // The Secret must not contain credentials that no longer work, so they are removed before the key is revoked.
    let revocation = stage.broker.gate(Route::Unbind, BeforeEffect);
    time.pass(OVERLAP, &stage, NAME).await;
    revocation.wait_for_arrival().await.unwrap();
    assert_holds(&stage.secrets().get(NAME).await.unwrap(), &second, None);
    revocation.release();
    stage.wait_ready_with_the_only_key(NAME).await;
    stage.delete_and_leave_nothing(NAME).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_key_before_the_current_one_is_there() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_with_previous("1h").await;
    stage.rotate_once_to(2).await;
    let rotated = stage.rotate_once_to(3).await;
    let bindings = stage.broker.bindings();
    let [.., second, third] = bindings.as_slice() else { panic!("{bindings:?}") };
    assert_holds(&rotated, third, Some(second));
    stage.delete_and_leave_nothing(NAME).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_label_does_not_cost_the_previous_key() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_with_previous("1h").await;
    stage.rotate_once_to(2).await;
    stage.change_key(NAME, json!({"secret": {"labels": {"team": "data"}}})).await;
    let labelled = |secret: &Secret| secret.metadata.labels.as_ref().unwrap().contains_key("team");
    let secret = stage.wait_secret("labelled", labelled).await;
    let [first, second] = stage.keys_made();
    assert_holds(&secret, &second, Some(&first));
}

/// The operator does not preserve entries that another writer changed.
#[tokio::test(flavor = "multi_thread")]
async fn an_edited_secret_is_repaired_without_the_previous_key() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_with_previous("1h").await;
    stage.rotate_once_to(2).await;
    let edit = Patch::Merge(json!({"stringData": {"previous.password": "edited"}}));
    stage.secrets().patch(NAME, &PatchParams::default(), &edit).await.unwrap();
    let repaired = stage.wait_without_previous().await;
    let [_, second] = stage.keys_made();
    assert_holds(&repaired, &second, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_want_it_any_more_has_it_taken_out_at_once() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_with_previous("1h").await;
    stage.rotate_once_to(2).await;
    stage.change_key(NAME, json!({"secret": {"previous": "Omit"}})).await;
    let secret = stage.wait_without_previous().await;
    // The key itself stays valid for the overlap anyway.
    let [_, second] = stage.keys_made();
    assert_holds(&secret, &second, None);
    assert_eq!(stage.broker.count(Route::Fetch), 0, "the operator reads only the Secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_makes_room_is_not_kept() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    let mut manifest = stage.key_manifest(NAME);
    manifest["spec"]["secret"] = json!({"previous": "Include"});
    manifest["spec"]["rotation"] = json!({"strategy": "Replace"});
    stage.create::<ServiceKey>(manifest).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    let rotated = stage.rotate_once_to(2).await;
    let [second] = stage.keys_made();
    assert_holds(&rotated, &second, None);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_takes_the_previous_key_out(#[values(BeforeEffect, AfterEffect)] moment: Moment) {
    let stage = Stage::set().await;
    let operator = Process::start(&stage).await;
    stage.create_with_previous("5s").await;
    stage.rotate_once_to(2).await;
    let gate = operator.gateway.gate(Requests::to(Method::PUT, "secrets/*"), moment);
    gate.wait_for_arrival().await.unwrap();
    assert_eq!(stage.broker.count(Route::Unbind), 0);
    operator.kill().await;
    gate.cut();

    let _operator = Process::start(&stage).await;
    settled(&stage, NAME).await;
    let secret = stage.wait_without_previous().await;
    stage.wait_ready_with_the_only_key(NAME).await;
    let [second] = stage.keys_made();
    assert_holds(&secret, &second, None);
    stage.delete_and_leave_nothing(NAME).await;
}
