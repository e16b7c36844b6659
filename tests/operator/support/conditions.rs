//! Reads the conditions and Events of objects, waits for them, and changes the objects that they are about.

use futures::TryStreamExt;
use k8s_openapi::{
    api::{core::v1::Secret, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use servicekey_operator::api::{ClusterKeyProvider, ConditionType, KeyProvider, Reason, ServiceKey};

use crate::support::stage::{PATIENCE, Stage, wait};

/// An object with conditions.
pub trait Reports:
    Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static
{
    fn conditions(&self) -> &[Condition];

    fn condition(&self, type_: ConditionType) -> Option<&Condition> {
        self.conditions().iter().find(|condition| condition.type_ == type_.as_str())
    }

    /// Whether `Ready` has this status and reason.
    fn is(&self, ready: bool, reason: Reason) -> bool {
        self.condition(ConditionType::Ready).is_some_and(|condition| {
            condition.status == if ready { "True" } else { "False" } && condition.reason == reason.as_str()
        })
    }

    /// The message of `Ready`.
    fn message(&self) -> &str {
        self.condition(ConditionType::Ready).map_or("", |condition| &condition.message)
    }

    /// Whether kstatus would stop waiting.
    fn is_stalled(&self) -> bool {
        self.condition(ConditionType::Stalled).is_some_and(|condition| condition.status == "True")
    }

    /// Fails unless the message of `Ready` contains this text.
    #[track_caller]
    fn says(&self, words: &str) {
        assert!(self.message().contains(words), "`{words}` is not in `{}`", self.message());
    }
}

impl Reports for ServiceKey {
    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }
}

impl Reports for KeyProvider {
    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }
}

impl Reports for ClusterKeyProvider {
    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }
}

/// Waits until `Ready` has this status and reason.
pub async fn wait_for<K: Reports>(api: Api<K>, name: &str, ready: bool, reason: Reason) -> K {
    let what = format!("Ready={ready} with {reason}");
    wait(api, name, &what, |object| object.is_some_and(|object| object.is(ready, reason))).await.unwrap()
}

/// Waits for an Event with this reason about an object with this name, and returns its note.
pub async fn wait_event(events: Api<Event>, name: &str, reason: &str) -> String {
    let about = watcher::Config::default().fields(&format!("reason={reason},regarding.name={name}"));
    let events = watcher(events, about).default_backoff().applied_objects();
    let mut events = std::pin::pin!(events);
    let first = tokio::time::timeout(PATIENCE, events.try_next()).await;
    let event = first.unwrap_or_else(|_| panic!("no Event {reason} about `{name}`")).unwrap().unwrap();
    event.note.unwrap_or_default()
}

impl Stage {
    /// Waits until a ServiceKey is not ready, with this reason.
    pub async fn wait_key(&self, name: &str, reason: Reason) -> ServiceKey {
        wait_for(self.keys(), name, false, reason).await
    }

    /// Waits until the KeyProvider `broker` is not ready, with this reason.
    pub async fn wait_provider(&self, reason: Reason) -> KeyProvider {
        wait_for(self.api::<KeyProvider>(), "broker", false, reason).await
    }

    /// Removes the whole status of a ServiceKey, like a backup that is restored without it.
    pub async fn lose_status(&self, name: &str) {
        let nothing = Patch::Merge(json!({"status": null}));
        self.keys().patch_status(name, &PatchParams::default(), &nothing).await.unwrap();
    }

    pub async fn change_provider(&self, spec: Value) {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.api::<KeyProvider>().patch("broker", &PatchParams::default(), &patch).await.unwrap();
    }

    pub async fn change_key(&self, name: &str, spec: Value) {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.keys().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Merges this into the entries of a Secret; `null` removes an entry.
    pub async fn change_secret(&self, name: &str, mut entries: Value) {
        // The API server merges `stringData` into `data`, and only `data` allows entries to be removed.
        let removed = entries.as_object().unwrap().clone().into_iter().filter(|(_, value)| value.is_null());
        let removed: serde_json::Map<_, _> = removed.collect();
        entries.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let patch = Patch::Merge(json!({"data": removed, "stringData": entries}));
        self.secrets().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Deletes an object and removes its finalizers.
    pub async fn delete_by_force<K>(&self, api: Api<K>, name: &str)
    where
        K: Clone + std::fmt::Debug + DeserializeOwned,
    {
        api.delete(name, &DeleteParams::default()).await.unwrap();
        let bare = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        match api.patch(name, &PatchParams::default(), &bare).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => drop(other.unwrap()),
        }
    }

    pub async fn delete_key(&self, name: &str) {
        self.keys().delete(name, &DeleteParams::default()).await.unwrap();
    }

    pub async fn abandon(&self, name: &str) {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {"servicekeys.dev/abandon": "true"}}}));
        self.keys().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Deletes the ServiceKey, and fails unless its keys and its Secret are deleted with it.
    pub async fn delete_and_leave_nothing(&self, name: &str) {
        self.delete_key(name).await;
        self.wait_gone(name).await;
        assert_eq!(self.broker.bindings(), []);
        assert!(self.secrets().get_opt(name).await.unwrap().is_none());
    }

    /// Waits until the ServiceKey is ready. Fails unless there is exactly one binding, and its Secret contains that
    /// binding's credentials.
    pub async fn wait_ready_with_the_only_key(&self, name: &str) -> ServiceKey {
        let key = self.wait_ready(name).await;
        let secret: Secret = self.secrets().get(name).await.unwrap();
        let bindings = self.broker.bindings();
        assert_eq!(bindings.len(), 1, "{bindings:?}");
        let status = key.status.as_ref().unwrap();
        assert_eq!(status.key.as_ref().unwrap().id, bindings[0].id.to_string());
        let password = &bindings[0].credentials["password"];
        assert_eq!(crate::support::stage::entries(&secret)["password"], password.as_str().unwrap());
        key
    }

    /// Waits for an Event with this reason about a ServiceKey or a provider, and returns its note.
    pub async fn wait_event(&self, name: &str, reason: &str) -> String {
        wait_event(self.api(), name, reason).await
    }

    /// Everything in the namespace that is readable without a right to read Secrets: statuses and Events.
    pub async fn everything_public(&self) -> String {
        let all = Default::default();
        let keys = self.keys().list(&all).await.unwrap().items;
        let providers = self.api::<KeyProvider>().list(&all).await.unwrap().items;
        let events = self.api::<Event>().list(&all).await.unwrap().items;
        let statuses = json!([
            keys.iter().map(|key| (key.name_any(), &key.status)).collect::<Vec<_>>(),
            providers.iter().map(|provider| (provider.name_any(), &provider.status)).collect::<Vec<_>>(),
        ]);
        format!("{statuses}\n{}", json!(events))
    }
}
