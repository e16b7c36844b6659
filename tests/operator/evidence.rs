//! What the broker and the cluster show at the end of a test: which keys there are, and who holds them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use servicekey_operator::api::ServiceKey;
use testkit::broker::{Binding, FakeBroker, Route};

use crate::stage::{Stage, condition, entries};

/// The ServiceKey once the operator that runs now has seen it to be ready. An edit without effect tells: a status that
/// is ready may be that of an operator that died.
pub async fn settled(stage: &Stage, name: &str) -> ServiceKey {
    let before = stage.keys().get(name).await.unwrap();
    let edit = Patch::Merge(json!({"spec": {"rotation": {"every": "8760h"}}}));
    let edited = stage.keys().patch(name, &PatchParams::default(), &edit).await.unwrap();
    assert_ne!(edited.metadata.generation, before.metadata.generation, "`{name}` was edited so before");
    let settled = stage.wait(stage.keys(), name, "settled", |key| {
        key.is_some_and(|key| {
            let seen = key.status.as_ref().and_then(|status| status.observed_generation);
            seen >= edited.metadata.generation && condition(key, "Ready") == Some("True")
        })
    });
    settled.await.unwrap()
}

/// The ids of all bindings that the broker was ever asked to make.
pub fn asked_for(broker: &FakeBroker) -> BTreeSet<String> {
    let binds = broker.calls().into_iter().filter(|call| call.route == Route::Bind);
    binds.filter_map(|call| call.details.binding).collect()
}

/// Fails unless the Secret holds the credentials of this binding, one entry for each.
pub fn assert_holds(secret: &Secret, binding: &Binding) {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let credentials: BTreeMap<_, _> =
        binding.credentials.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    // Not in the words of `assert_eq`, which would print them.
    assert!(entries(secret) == credentials, "the Secret holds other credentials than those of {binding:?}");
}
