//! An object that can't be read hides no other object.

use http::{Method, Request};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use servicekey_operator::{
    api::{ConditionType, KeyProvider, Reason, ServiceKey},
    testing::{Health, HealthThresholds, Metrics, client},
};
use testkit::broker::{FakeBroker, Fault, Route};

use super::{
    abuse::{Abuse, Actor},
    harness::{Tenant, Tenants, broker_login, broker_spec, instance_of_broker, key_manifest},
};
use crate::support::{
    conditions::{Reports, wait_for},
    stage::wait,
};

pub const ABUSES: &[Abuse] = &[
    abuse!(
        deep_parameters_hide_no_other_key,
        Actor::KeyWriter,
        "writes a ServiceKey with `parameters` nested 200 deep before the operator starts, and another one afterwards",
        "the operator becomes ready and serves all others; the ServiceKey itself reports the limit of 32 levels",
    ),
    abuse!(
        deep_managed_fields_of_a_secret_hide_no_other,
        Actor::Editor,
        "labels a Secret as one of the operator's, with `managedFields` nested 150 deep, before the operator starts",
        "the operator becomes ready and serves all others",
    ),
    abuse!(
        deep_managed_fields_of_providers_and_logins_hide_no_other,
        Actor::Editor,
        "nests `managedFields` of a KeyProvider and of its login Secret 150 deep before the operator starts",
        "the operator becomes ready, serves all others, and this KeyProvider too",
    ),
    abuse!(
        large_parameters_are_refused,
        Actor::KeyWriter,
        "writes `parameters` of 1 MiB into ten ServiceKeys",
        "none of it is kept; each ServiceKey reports the limit of 64 KiB; no remote side is called",
    ),
    abuse!(
        parameters_of_many_values_are_refused,
        Actor::KeyWriter,
        "writes `parameters` of 64 KiB with 16,000 tiny values, which take 5 MiB in memory, into ten ServiceKeys",
        "none of it is kept; each ServiceKey reports the limit of 2,000 values; no remote side is called",
    ),
    abuse!(
        parameters_of_secrets_are_bounded_too,
        Actor::Editor,
        "names entries of a Secret in `parametersFrom` that are 200 levels deep, 500 KiB large, of 16,000 values, or \
         too large together",
        "each ServiceKey reports the limit; no key is created",
    ),
    abuse!(
        a_key_that_works_goes_on_beside_parameters_that_do_not,
        Actor::KeyWriter,
        "nests the `parameters` of a key that works 200 deep, and deletes the ServiceKey afterwards",
        "the key continues to work, a condition reports the problem, and the deletion revokes the key",
    ),
    abuse!(
        the_note_of_an_omission_can_not_be_forged,
        Actor::KeyWriter,
        "writes the annotation by which the operator notes parts that it did not read",
        "the annotation has no effect: the key is created with all its parameters",
    ),
    abuse!(
        deep_credentials_harm_only_their_own_key,
        Actor::RemoteSide,
        "answers a bind with credentials that are nested 200 deep",
        "the answer counts as malformed, the key is revoked, and the keys of others are served",
    ),
];

/// A JSON object with this many levels.
fn nested(levels: usize) -> Value {
    (1..levels).fold(json!({}), |inner, _| json!({"f:a": inner}))
}

/// Entries of `managedFields` with this many levels.
fn managed_fields(levels: usize) -> Value {
    json!([{
        "manager": "somebody",
        "operation": "Update",
        "apiVersion": "v1",
        "time": "2026-01-01T00:00:00Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": nested(levels),
    }])
}

/// Sends a request as this tenant, as raw text: the typed client could not parse the answer.
async fn send(tenant: &Tenant, method: Method, path: &str, body: &Value) {
    let content_type =
        if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content_type)
        .body(body.to_string().into_bytes())
        .unwrap();
    tenant.client.request_text(request).await.unwrap();
}

async fn create_key(tenant: &Tenant, manifest: &Value) {
    let path = format!("/apis/servicekeys.dev/v1alpha1/namespaces/{}/servicekeys", tenant.namespace);
    send(tenant, Method::POST, &path, manifest).await;
}

/// The ServiceKeys of a tenant, through a client that can parse them.
fn keys(tenants: &Tenants, tenant: &Tenant) -> Api<ServiceKey> {
    let config = tenants.plane().config_as(&tenant.user);
    Api::namespaced(client(config, &Metrics::default()).unwrap(), &tenant.namespace)
}

/// Creates a provider and a ServiceKey of the victim.
async fn provide(tenant: &Tenant, broker: &FakeBroker) {
    tenant.add_provider("broker", broker_spec(broker), Some(("broker-login", broker_login()))).await;
    tenant.create::<ServiceKey>(key("creds", json!({}))).await;
}

fn key(name: &str, fields: Value) -> Value {
    key_manifest(name, json!({"name": "broker"}), instance_of_broker(), fields)
}

/// Fails unless `/readyz` of the tenants' own operator reports that it is ready.
fn assert_ready(tenants: &Tenants) {
    let metrics = &tenants.operator.as_ref().unwrap().metrics;
    assert_eq!(Health::new(metrics, HealthThresholds::default()).unready_reasons(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_parameters_hide_no_other_key() {
    let mut tenants = Tenants::meet_alone(Actor::KeyWriter).await;
    let broker = FakeBroker::builder().start().await.unwrap();
    provide(&tenants.victim, &broker).await;
    let mut deep = key("deep", json!({"parameters": {"a": nested(200)}}));
    deep["metadata"]["labels"] = json!({"team": "red"});
    create_key(&tenants.attacker, &deep).await;

    tenants.start_operator(|_| {});
    tenants.victim.wait_ready("creds").await;
    assert_ready(&tenants);
    let attackers = keys(&tenants, &tenants.attacker);
    let told = wait_for(attackers.clone(), "deep", false, Reason::InvalidSpec).await;
    told.says("`spec.parameters` is nested deeper than 32 levels; flatten it");
    assert!(told.is_stalled());

    create_key(&tenants.attacker, &key("deeper", json!({"parameters": {"a": nested(1000)}}))).await;
    wait_for(attackers.clone(), "deeper", false, Reason::InvalidSpec).await.says("deeper than 32 levels");
    tenants.victim.create::<ServiceKey>(key("later", json!({}))).await;
    tenants.victim.wait_ready("later").await;

    // The operator does not overwrite fields that it did not read.
    let path =
        format!("/apis/servicekeys.dev/v1alpha1/namespaces/{}/servicekeys/deep", tenants.attacker.namespace);
    let stored =
        tenants.attacker.client.request_text(Request::get(path).body(Vec::new()).unwrap()).await.unwrap();
    assert!(stored.contains(&json!({"a": nested(200)}).to_string()), "the parameters changed");
    assert!(stored.contains(r#""labels":{"team":"red"}"#), "{stored}");
    for name in ["deep", "deeper"] {
        attackers.delete(name, &DeleteParams::default()).await.unwrap();
        wait(attackers.clone(), name, "gone", |key| key.is_none()).await;
    }
    assert_eq!(broker.bindings().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_managed_fields_of_a_secret_hide_no_other() {
    let mut tenants = Tenants::meet_alone(Actor::Editor).await;
    let broker = FakeBroker::builder().start().await.unwrap();
    provide(&tenants.victim, &broker).await;
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "deep",
            "labels": {"servicekeys.dev/owner-uid": "5c7a9d5e-0000-4d0c-9d5e-5f3f0c5f8a01"},
            "managedFields": managed_fields(150),
        },
    });
    let path = format!("/api/v1/namespaces/{}/secrets", tenants.attacker.namespace);
    send(&tenants.attacker, Method::POST, &path, &secret).await;
    assert!(stored(&tenants.attacker, &format!("{path}/deep")).await, "the API server flattened the object");

    tenants.start_operator(|_| {});
    tenants.victim.wait_ready("creds").await;
    assert_ready(&tenants);
}

/// Whether the stored object contains the nested value.
async fn stored(tenant: &Tenant, path: &str) -> bool {
    let read = tenant.client.request_text(Request::get(path).body(Vec::new()).unwrap()).await.unwrap();
    read.contains(&r#"{"f:a":"#.repeat(140))
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_managed_fields_of_providers_and_logins_hide_no_other() {
    let mut tenants = Tenants::meet_alone(Actor::Editor).await;
    let broker = FakeBroker::builder().start().await.unwrap();
    provide(&tenants.victim, &broker).await;
    let namespace = tenants.attacker.namespace.clone();
    let secrets = format!("/api/v1/namespaces/{namespace}/secrets");
    let mut login = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "broker-login"}});
    login["stringData"] = broker_login();
    login["metadata"]["managedFields"] = managed_fields(150);
    send(&tenants.attacker, Method::POST, &secrets, &login).await;
    assert!(stored(&tenants.attacker, &format!("{secrets}/broker-login")).await);
    let providers = format!("/apis/servicekeys.dev/v1alpha1/namespaces/{namespace}/keyproviders");
    let mut provider = json!({"apiVersion": "servicekeys.dev/v1alpha1", "kind": "KeyProvider"});
    provider["metadata"] = json!({"name": "broker", "managedFields": managed_fields(150)});
    provider["metadata"]["managedFields"][0]["apiVersion"] = json!("servicekeys.dev/v1alpha1");
    provider["spec"] = broker_spec(&broker);
    send(&tenants.attacker, Method::POST, &providers, &provider).await;
    assert!(stored(&tenants.attacker, &format!("{providers}/broker")).await);

    tenants.start_operator(|_| {});
    tenants.victim.wait_ready("creds").await;
    assert_ready(&tenants);
    let config = tenants.plane().config_as(&tenants.attacker.user);
    let client = client(config, &Metrics::default()).unwrap();
    let api: Api<KeyProvider> = Api::namespaced(client, &namespace);
    wait_for(api, "broker", true, Reason::Available).await;
}

/// A JSON object of 64 KiB whose values take 80 times its size in memory.
fn many_values() -> Value {
    json!({"a": vec![json!({"": 0}); 8_000]})
}

#[tokio::test(flavor = "multi_thread")]
async fn large_parameters_are_refused() {
    refuses(
        json!({"a": "x".repeat(1_000_000)}),
        "`spec.parameters` takes more than 64 KiB as JSON; shorten it",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_of_many_values_are_refused() {
    refuses(many_values(), "`spec.parameters` contains more than 2000 JSON values; reduce their number")
        .await;
}

/// Creates ten ServiceKeys with these parameters, and fails unless the operator refuses them with this message, until
/// they are corrected.
async fn refuses(parameters: Value, words: &str) {
    let tenants = Tenants::meet(Actor::KeyWriter).await;
    let broker = FakeBroker::builder().start().await.unwrap();
    let provider = tenants.add_cluster_broker(&broker).await;
    let parameters = json!({"parameters": parameters});
    for number in 0..10 {
        let name = format!("large-{number}");
        tenants
            .attacker
            .ask_cluster_provider(&provider, &name, instance_of_broker(), parameters.clone())
            .await;
    }
    for number in 0..10 {
        let told = tenants.attacker.wait_key(&format!("large-{number}"), false, Reason::InvalidSpec).await;
        told.says(words);
        assert!(told.is_stalled());
        assert_eq!(told.finalizers(), Vec::<String>::new());
    }
    tenants.victim.ask_cluster_provider(&provider, "creds", instance_of_broker(), json!({})).await;
    tenants.victim.wait_ready("creds").await;
    assert_eq!(broker.bindings().len(), 1);

    let smaller = json!({"spec": {"parameters": {"a": "x".repeat(60_000)}}});
    tenants.attacker.patch::<ServiceKey>("large-0", smaller).await;
    tenants.attacker.wait_ready("large-0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_of_secrets_are_bounded_too() {
    let tenants = Tenants::meet(Actor::Editor).await;
    let broker = FakeBroker::builder().start().await.unwrap();
    let provider = tenants.add_cluster_broker(&broker).await;
    let large = json!({"a": "x".repeat(500_000)}).to_string();
    let half = json!({"b": "x".repeat(40_000)}).to_string();
    let data = json!({
        "deep": nested(200).to_string(),
        "large": large,
        "many": many_values().to_string(),
        "fine": nested(32).to_string(),
        "half": half,
        "other-half": half,
    });
    tenants.attacker.create::<Secret>(json!({"metadata": {"name": "extra"}, "stringData": data})).await;
    let of_entry = |entry: &str| json!({"secretKeyRef": {"name": "extra", "key": entry}});
    for entry in ["deep", "large", "many", "fine"] {
        let fields = json!({"parametersFrom": [of_entry(entry)]});
        tenants.attacker.ask_cluster_provider(&provider, entry, instance_of_broker(), fields).await;
    }
    let halves = json!({"parametersFrom": [of_entry("half"), of_entry("other-half")]});
    tenants.attacker.ask_cluster_provider(&provider, "halves", instance_of_broker(), halves).await;
    tenants
        .attacker
        .wait_says("deep", "the entry `deep` of the Secret `extra` is nested deeper than 32 levels")
        .await;
    tenants
        .attacker
        .wait_says("large", "the entry `large` of the Secret `extra` takes more than 64 KiB as JSON")
        .await;
    tenants
        .attacker
        .wait_says("many", "the entry `many` of the Secret `extra` contains more than 2000 JSON values")
        .await;
    tenants
        .attacker
        .wait_says("halves", "the content of all entries together takes more than 64 KiB as JSON")
        .await;
    tenants.attacker.wait_ready("fine").await;
    assert_eq!(broker.bindings().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_works_goes_on_beside_parameters_that_do_not() {
    let mut tenants = Tenants::meet_alone(Actor::KeyWriter).await;
    let broker = FakeBroker::builder().start().await.unwrap();
    tenants.start_operator(|_| {});
    let provider = tenants.add_cluster_broker(&broker).await;
    let fields = json!({"parameters": {"a": 1}});
    tenants.attacker.ask_cluster_provider(&provider, "creds", instance_of_broker(), fields).await;
    tenants.attacker.wait_ready("creds").await;

    let path =
        format!("/apis/servicekeys.dev/v1alpha1/namespaces/{}/servicekeys/creds", tenants.attacker.namespace);
    let deep = json!({"spec": {"parameters": {"a": nested(200)}}});
    send(&tenants.attacker, Method::PATCH, &path, &deep).await;
    let api = keys(&tenants, &tenants.attacker);
    let stalled =
        wait(api.clone(), "creds", "stalled", |key| key.is_some_and(Reports::is_stalled)).await.unwrap();
    assert!(stalled.is(true, Reason::Available), "{stalled:?}");
    let why = stalled.condition(ConditionType::Stalled).unwrap();
    assert!(why.message.contains("nested deeper than 32 levels"), "{why:?}");
    assert_eq!(broker.bindings().len(), 1);

    api.delete("creds", &DeleteParams::default()).await.unwrap();
    wait(api, "creds", "gone", |key| key.is_none()).await;
    assert_eq!(broker.bindings().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_note_of_an_omission_can_not_be_forged() {
    let tenants = Tenants::meet(Actor::KeyWriter).await;
    let broker = FakeBroker::builder().start().await.unwrap();
    let provider = json!({"kind": "ClusterKeyProvider", "name": tenants.add_cluster_broker(&broker).await});
    let mut forged = key_manifest("creds", provider, instance_of_broker(), json!({"parameters": {"a": 1}}));
    let note = json!([{"path": "spec.parameters", "excess": "Levels"}]).to_string();
    forged["metadata"]["annotations"] = json!({"servicekeys.dev/omitted": note});
    tenants.attacker.create::<ServiceKey>(forged).await;
    let ready = tenants.attacker.wait_ready("creds").await;
    assert_eq!(broker.bindings()[0].parameters["a"], 1);
    assert_eq!(ready.annotations()["servicekeys.dev/omitted"], note, "the annotation stays unchanged");

    let longer =
        json!({"metadata": {"annotations": {"servicekeys.dev/omitted": "[]", "x": "x".repeat(200_000)}}});
    let api: Api<ServiceKey> = tenants.attacker.keys();
    api.patch("creds", &PatchParams::default(), &Patch::Merge(longer)).await.unwrap();
    tenants.attacker.patch::<ServiceKey>("creds", json!({"spec": {"parameters": {"a": 2}}})).await;
    wait(api, "creds", "rotated", |key| {
        let status = key.and_then(|key| key.status.as_ref());
        status.and_then(|status| status.key.as_ref()).is_some_and(|key| key.sequence == 2)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_credentials_harm_only_their_own_key() {
    let tenants = Tenants::meet(Actor::Editor).await;
    let (broker, hostile) =
        (FakeBroker::builder().start().await.unwrap(), FakeBroker::builder().start().await.unwrap());
    hostile.inject(Fault::credentials(&json!({"a": nested(200)})).on(Route::Bind).after_effect().forever());
    provide(&tenants.attacker, &hostile).await;
    provide(&tenants.victim, &broker).await;
    tenants.victim.wait_ready("creds").await;
    tenants.attacker.wait_key("creds", false, Reason::CredentialsUnusable).await.says("is not JSON");
    hostile.wait_until(<[_]>::is_empty).await.unwrap();
    assert_eq!(hostile.count(Route::Bind), 1);
    hostile.clear_faults();
    let again = json!({"metadata": {"annotations": {"servicekeys.dev/rotate": "again"}}});
    tenants.attacker.patch::<ServiceKey>("creds", again).await;
    tenants.attacker.wait_ready("creds").await;
    assert_eq!(hostile.bindings().len(), 1);
}
