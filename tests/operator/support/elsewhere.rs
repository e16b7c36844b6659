//! A stage with a broker that is built on a third party's library.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use servicekey_operator::api::{KeyProvider, ServiceKey};
use testkit::{
    broker::Work,
    library_broker::{Binding, Kind, LibraryBroker, State},
};

use crate::support::stage::{Stage, entries};

/// The only instance of these brokers.
const INSTANCE: &str = "training-app-db";
const LOGIN: (&str, &str) = ("operator", "broker-password");

/// An offering and one of its plans.
pub type Plan = (&'static str, &'static str);
/// Keys of this plan can be read again.
pub const SMALL: Plan = ("database", "small");
/// Like [`SMALL`], but operations take 5 seconds at most.
pub const BRIEF: Plan = ("database", "brief");
/// Keys of this plan can't be read; repeating the same bind returns the credentials again.
pub const WITHOUT_FETCH: Plan = ("metrics", "basic");

/// A stage whose KeyProvider `elsewhere` points to such a broker.
pub struct Elsewhere {
    pub stage: Stage,
    pub broker: LibraryBroker,
}

impl Elsewhere {
    pub async fn with(kind: Kind) -> Self {
        Self::admitting(kind, LOGIN).await
    }

    /// Starts a broker that admits this user.
    pub async fn admitting(kind: Kind, (username, password): (&str, &str)) -> Self {
        let (stage, broker) = tokio::join!(Stage::set(), LibraryBroker::start(kind, username, password));
        let broker = broker.unwrap();
        let mut provider = stage.provider_manifest("elsewhere");
        provider["spec"]["openServiceBroker"]["url"] = json!(broker.url());
        // On a busy machine, a call that times out is repeated, which would change the counts.
        provider["spec"]["limits"]["timeout"] = json!("10s");
        stage.create::<KeyProvider>(provider).await;
        Self { stage, broker }
    }

    /// Creates a ServiceKey for this plan, with further fields in its spec.
    pub async fn create_key(&self, name: &str, (offering, plan): Plan, more: Value) -> ServiceKey {
        let mut key = self.stage.key_manifest(name);
        key["spec"]["providerRef"] = json!({"name": "elsewhere"});
        key["spec"]["instance"] = json!({"id": INSTANCE, "offering": offering, "plan": plan});
        key["spec"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.stage.create(key).await
    }

    pub async fn change_parameters(&self, name: &str, parameters: Value) {
        let patch = Patch::Merge(json!({"spec": {"parameters": parameters}}));
        self.stage.keys().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Creates a binding of the plan `small` without the operator.
    pub async fn bind(&self, id: &str, parameters: Value) {
        let url = format!("{}/v2/service_instances/{INSTANCE}/service_bindings/{id}", self.broker.url());
        let body = json!({
            "service_id": "offering-database",
            "plan_id": "plan-database-small",
            "parameters": parameters,
        });
        let (username, password) = LOGIN;
        let answer = reqwest::Client::new()
            .put(url)
            .query(&[("accepts_incomplete", "true")])
            .basic_auth(username, Some(password))
            .header("X-Broker-API-Version", "2.17")
            .json(&body)
            .send();
        answer.await.unwrap().error_for_status().unwrap();
        self.broker.release().await.unwrap();
    }

    pub async fn state(&self) -> State {
        self.broker.state().await.unwrap()
    }

    /// Waits until the broker performs this operation, and returns the id of its only binding.
    pub async fn wait_for_work(&self, work: Work) -> String {
        let at_work = |state: &State| state.bindings.values().any(|binding| binding.work == Some(work));
        let state = self.broker.wait_until("at work", at_work).await.unwrap();
        let ids: Vec<_> = state.bindings.into_keys().collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
        ids.into_iter().next().unwrap()
    }

    /// Waits until a ServiceKey has the key with this number, and this many earlier keys still exist.
    pub async fn wait_for_key(&self, name: &str, sequence: u32, previous: usize) {
        let what = format!("on key {sequence} with {previous} before it");
        let key = self.stage.wait(self.stage.keys(), name, &what, |key| {
            key.and_then(|key| key.status.as_ref()).is_some_and(|status| {
                let current = status.key.as_ref().map(|key| key.sequence);
                current == Some(sequence) && status.previous_keys.len() == previous
            })
        });
        key.await;
    }

    /// Waits until the ServiceKey is ready. Fails unless its Secret contains the credentials of its binding, and the
    /// broker has only bindings that ServiceKeys name.
    pub async fn wait_in_order(&self, name: &str) -> (ServiceKey, Binding) {
        let key = self.stage.wait_ready(name).await;
        let id = &key.status.as_ref().unwrap().key.as_ref().unwrap().id;
        let state = self.state().await;
        let binding = state.bindings[id].clone();
        let secret = self.stage.secrets().get(name).await.unwrap();
        // `assert_eq` would print the credentials.
        assert!(entries(&secret) == texts(&binding), "the Secret does not contain the credentials of `{id}`");
        assert_eq!(state.bindings.into_keys().collect::<BTreeSet<_>>(), self.accounted_for().await);
        (key, binding)
    }

    /// The ids of all keys in the statuses of ServiceKeys.
    async fn accounted_for(&self) -> BTreeSet<String> {
        let keys = self.stage.keys().list(&ListParams::default()).await.unwrap();
        let mut ids = BTreeSet::new();
        for status in keys.items.into_iter().filter_map(|key| key.status) {
            ids.extend(status.key.map(|key| key.id));
            ids.extend(status.previous_keys.into_iter().filter_map(|key| key.id));
        }
        ids
    }

    /// Deletes the last ServiceKey, and fails unless all keys and its Secret are deleted with it.
    pub async fn delete_and_leave_nothing(&self, name: &str) {
        self.stage.delete_key(name).await;
        self.leaves_nothing(name).await;
    }

    /// The same for a ServiceKey that is already being deleted.
    pub async fn leaves_nothing(&self, name: &str) {
        self.stage.wait_gone(name).await;
        let state = self.state().await;
        assert!(state.bindings.is_empty(), "{state:?}");
        assert!(self.stage.secrets().get_opt(name).await.unwrap().is_none());
    }
}

/// The credentials as the entries of a Secret.
fn texts(binding: &Binding) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    binding.credentials.iter().map(|(name, value)| (name.clone(), text(value))).collect()
}
