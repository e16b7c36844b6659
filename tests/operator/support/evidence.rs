//! The evidence at the end of a test: the keys at the broker, and the Secrets that contain them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use servicekey_operator::api::ServiceKey;
use testkit::broker::{Binding, FakeBroker, Route};

use crate::support::stage::{Stage, condition, entries};

/// Returns the ServiceKey once the running operator has seen that it is ready. An edit without effect proves this,
/// because the status `Ready` may come from an operator that died.
pub async fn settled(stage: &Stage, name: &str) -> ServiceKey {
    let before = stage.keys().get(name).await.unwrap();
    let edit = Patch::Merge(json!({"spec": {"rotation": {"every": "8760h"}}}));
    let edited = stage.keys().patch(name, &PatchParams::default(), &edit).await.unwrap();
    assert_ne!(
        edited.metadata.generation, before.metadata.generation,
        "`{name}` was edited in the same way before"
    );
    let settled = stage.wait(stage.keys(), name, "settled", |key| {
        key.is_some_and(|key| {
            let seen = key.status.as_ref().and_then(|status| status.observed_generation);
            seen >= edited.metadata.generation && condition(key, "Ready") == Some("True")
        })
    });
    settled.await.unwrap()
}

/// The ids of all bindings that were ever requested from the broker.
pub fn requested_bindings(broker: &FakeBroker) -> BTreeSet<String> {
    let binds = broker.calls().into_iter().filter(|call| call.route == Route::Bind);
    binds.filter_map(|call| call.details.binding).collect()
}

/// Fails unless the Secret contains the credentials of this binding, one entry for each.
pub fn assert_holds(secret: &Secret, binding: &Binding) {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let credentials: BTreeMap<_, _> =
        binding.credentials.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    // `assert_eq` would print the credentials.
    assert!(entries(secret) == credentials, "the Secret does not contain the credentials of {binding:?}");
}
