//! Rights on ServiceKeys and KeyProviders imply no other rights.

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use servicekey_operator::api::{KeyProvider, Reason, ServiceKey};
use testkit::broker::{FakeBroker, Login};

use super::{
    abuse::{Abuse, Actor},
    harness::{
        Namespaced, Tenants, broker_login, broker_spec, dry_patch, dry_run, instance_of_broker, key_manifest,
        until_refused,
    },
};
use crate::support::{conditions::Reports, stage::wait};

pub const ABUSES: &[Abuse] = &[
    abuse!(
        a_secret_of_others_is_no_login_elsewhere,
        Actor::KeyWriter,
        "creates KeyProviders for its own server, with a Secret that it may not read as the login of every kind and as \
         the client certificate",
        "the policy refuses each and names the missing right `get`; the server is never called",
    ),
    abuse!(
        a_provider_of_others_is_not_led_elsewhere,
        Actor::KeyWriter,
        "changes the URL, the token server, or the trusted authorities of a KeyProvider whose login it may not read",
        "the policy refuses each change; other fields can be changed",
    ),
    abuse!(
        a_secret_of_others_is_no_parameter,
        Actor::KeyWriter,
        "creates a ServiceKey with `parametersFrom` a Secret that it may not read, for its own server",
        "the policy refuses it and names the Secret; the server is never called",
    ),
    abuse!(
        parameters_of_others_are_not_led_elsewhere,
        Actor::KeyWriter,
        "changes the URL of a KeyProvider without a login, which another user's ServiceKey sends `parametersFrom` to",
        "the policy refuses it and names the Secret of the ServiceKey",
    ),
    abuse!(
        a_provider_of_others_is_not_replaced,
        Actor::KeyWriter,
        "deletes such a KeyProvider by force and creates it again, with another URL",
        "the policy refuses the new one",
    ),
    abuse!(
        a_reader_makes_no_secret_undeletable,
        Actor::KeyWriter,
        "names a Secret that it may read, and not write, in a KeyProvider, so that the operator adds a finalizer to it",
        "the policy refuses it and names the right `update`; with `protectSecrets: false` there is no finalizer",
    ),
    abuse!(
        no_secret_has_a_type_that_grants_rights,
        Actor::KeyWriter,
        "requests Secrets of the types of service account tokens, bootstrap tokens, Helm releases and machine plans",
        "the API server refuses the first two, the operator the others; no key is created",
    ),
    abuse!(
        no_secret_has_a_label_that_grants_rights,
        Actor::KeyWriter,
        "requests a Secret with the label by which Argo CD trusts a cluster, or Sealed Secrets a key",
        "the operator refuses it and names the flag and the chart value; no key is created",
    ),
];

/// The Secret of another user of the namespace.
const SECRET: &str = "payroll";

/// A tenant that may not read the Secret in its namespace, and runs its own server. The policies are in force.
async fn with_a_secret_of_others() -> (Tenants, FakeBroker) {
    let tenants = Tenants::meet(Actor::KeyWriter).await;
    tenants.guard().await;
    let entries = json!({
        "username": "payroll",
        "password": "hunter2",
        "token": "hunter2",
        "params.json": "{\"password\": \"hunter2\"}",
    });
    tenants.give::<Secret>(json!({"metadata": {"name": SECRET}, "stringData": entries})).await;
    (tenants, FakeBroker::builder().login(Login::None).start().await.unwrap())
}

fn provider(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "servicekeys.dev/v1alpha1",
        "kind": "KeyProvider",
        "metadata": {"name": name},
        "spec": spec,
    })
}

/// The spec of a provider for a broker without a login.
fn open_broker(broker: &FakeBroker) -> Value {
    json!({"openServiceBroker": {"url": broker.url()}, "limits": {"timeout": "5s"}})
}

/// A ServiceKey with parameters from an entry of the Secret.
fn key_with_parameters(name: &str, provider: &str) -> Value {
    let from = json!({"parametersFrom": [{"secretKeyRef": {"name": SECRET, "key": "params.json"}}]});
    key_manifest(name, json!({"name": provider}), instance_of_broker(), from)
}

/// Fails unless a policy refuses this object to the attacker, and returns the message.
async fn refused<K: Namespaced>(tenants: &Tenants, manifest: &Value) -> String {
    let (api, object) = (tenants.attacker.api::<K>(), serde_json::from_value(manifest.clone()).unwrap());
    until_refused(async || api.create(&dry_run(), &object).await).await;
    let refusal = api.create(&PostParams::default(), &object).await.unwrap_err();
    refusal.to_string()
}

/// The same for a patch of a KeyProvider.
async fn change_refused(tenants: &Tenants, name: &str, spec: Value) -> String {
    let (api, patch) = (tenants.attacker.api::<KeyProvider>(), Patch::Merge(json!({ "spec": spec })));
    until_refused(async || api.patch(name, &dry_patch(), &patch).await).await;
    api.patch(name, &PatchParams::default(), &patch).await.unwrap_err().to_string()
}

fn names_right(words: &str, right: &str, tenants: &Tenants) {
    let Tenants { attacker, .. } = tenants;
    for part in [
        format!("user `{}` needs the right `{right}` on the Secret `{SECRET}`", attacker.user.name),
        format!("in the namespace `{}`", attacker.namespace),
    ] {
        assert!(words.contains(&part), "`{part}` is not in `{words}`");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_others_is_no_login_elsewhere() {
    let (tenants, broker) = with_a_secret_of_others().await;
    let (login, url) = (json!({"secretRef": {"name": SECRET}}), broker.url());
    let broker_with = |auth: Value| json!({"openServiceBroker": {"url": url, "auth": auth}});
    let foundry_with = |auth: Value| json!({"cloudFoundry": {"apiUrl": url, "auth": auth}});
    let specs = [
        broker_with(json!({"basic": login})),
        broker_with(json!({"bearer": login})),
        broker_with(json!({"clientCredentials": {"tokenUrl": url, "secretRef": {"name": SECRET}}})),
        foundry_with(json!({"password": login})),
        foundry_with(json!({"clientCredentials": login})),
        foundry_with(json!({"bearer": login})),
        json!({"ibmCloud": {"auth": {"apiKey": login}, "iamUrl": url, "resourceControllerUrl": url}}),
        json!({"openServiceBroker": {"url": url}, "tls": {"clientCertificate": login}}),
    ];
    for spec in specs {
        let words = refused::<KeyProvider>(&tenants, &provider("elsewhere", spec)).await;
        names_right(&words, "get", &tenants);
    }
    assert_eq!(broker.calls(), []);
    assert_eq!(tenants.attacker.api::<KeyProvider>().get_opt("elsewhere").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_of_others_is_not_led_elsewhere() {
    let (tenants, broker) = with_a_secret_of_others().await;
    let url = "https://broker.invalid";
    let login = json!({"clientCredentials": {"tokenUrl": url, "secretRef": {"name": SECRET}}});
    let spec = json!({"openServiceBroker": {"url": url, "auth": login}});
    tenants.give::<KeyProvider>(provider("theirs", spec)).await;

    let authority = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n";
    for change in [
        json!({"openServiceBroker": {"url": broker.url()}}),
        json!({"openServiceBroker": {"auth": {"clientCredentials": {"tokenUrl": broker.url()}}}}),
        json!({"openServiceBroker": {"auth": {"clientCredentials": null, "basic": {"secretRef": {"name": SECRET}}}}}),
        json!({"tls": {"caBundle": authority}}),
    ] {
        names_right(&change_refused(&tenants, "theirs", change).await, "get", &tenants);
    }
    let changed: KeyProvider =
        tenants.attacker.patch("theirs", json!({"spec": {"limits": {"concurrency": 2}}})).await;
    assert_eq!(changed.spec.limits.concurrency, 2);
    assert_eq!(broker.calls(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_others_is_no_parameter() {
    let (tenants, broker) = with_a_secret_of_others().await;
    tenants.attacker.add_provider("own", open_broker(&broker), None).await;
    tenants.attacker.wait_provider("own", true, Reason::Available).await;
    let calls = broker.calls().len();
    let words = refused::<ServiceKey>(&tenants, &key_with_parameters("creds", "own")).await;
    names_right(&words, "get", &tenants);

    // A change is refused too.
    let key = key_manifest("creds", json!({"name": "none"}), instance_of_broker(), json!({}));
    tenants.attacker.create::<ServiceKey>(key).await;
    let with_parameters = Patch::Merge(
        json!({"spec": {"parametersFrom": [{"secretKeyRef": {"name": SECRET, "key": "params.json"}}]}}),
    );
    let keys = tenants.attacker.keys();
    let changed = keys.patch("creds", &PatchParams::default(), &with_parameters).await;
    names_right(&changed.unwrap_err().to_string(), "get", &tenants);

    // Another entry of a Secret is refused too, even if another user's ServiceKey already names the Secret.
    tenants.give::<ServiceKey>(key_with_parameters("theirs", "none")).await;
    let entry = |key: &str| json!({"secretKeyRef": {"name": SECRET, "key": key}});
    for sources in [json!([entry("token")]), json!([entry("params.json"), entry("token")])] {
        let change = Patch::Merge(json!({"spec": {"parametersFrom": sources}}));
        let changed = keys.patch("theirs", &PatchParams::default(), &change).await;
        names_right(&changed.unwrap_err().to_string(), "get", &tenants);
    }
    let unrelated = Patch::Merge(json!({"spec": {"deletionPolicy": "Retain"}}));
    keys.patch("theirs", &PatchParams::default(), &unrelated).await.unwrap();
    assert_eq!(broker.calls().len(), calls);
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_of_others_are_not_led_elsewhere() {
    let (tenants, broker) = with_a_secret_of_others().await;
    let spec = json!({"openServiceBroker": {"url": "https://broker.invalid"}});
    tenants.give::<KeyProvider>(provider("theirs", spec)).await;
    tenants.give::<ServiceKey>(key_with_parameters("theirs", "theirs")).await;
    let words = change_refused(&tenants, "theirs", open_broker(&broker)).await;
    names_right(&words, "get", &tenants);
    assert!(words.contains("a ServiceKey of this provider has parameters from it"), "{words}");
    assert_eq!(broker.calls(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_of_others_is_not_replaced() {
    let (tenants, broker) = with_a_secret_of_others().await;
    let spec = json!({"openServiceBroker": {"url": "https://broker.invalid"}});
    tenants.give::<KeyProvider>(provider("theirs", spec)).await;
    tenants.give::<ServiceKey>(key_with_parameters("theirs", "theirs")).await;
    let providers = tenants.attacker.api::<KeyProvider>();
    providers.delete("theirs", &DeleteParams::default()).await.unwrap();
    let by_force = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    let _ = providers.patch("theirs", &PatchParams::default(), &by_force).await;
    wait(providers, "theirs", "gone", |provider| provider.is_none()).await;

    let words = refused::<KeyProvider>(&tenants, &provider("theirs", open_broker(&broker))).await;
    names_right(&words, "get", &tenants);
    assert_eq!(broker.calls(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_makes_no_secret_undeletable() {
    let tenants = Tenants::meet(Actor::KeyWriter).await;
    tenants.guard().await;
    let broker = FakeBroker::builder().start().await.unwrap();
    tenants.give::<Secret>(json!({"metadata": {"name": SECRET}, "stringData": broker_login()})).await;
    let read =
        json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": [SECRET], "verbs": ["get"]}]);
    tenants.grant_attacker("reader", read).await;

    let mut spec = broker_spec(&broker);
    spec["openServiceBroker"]["auth"]["basic"]["secretRef"]["name"] = json!(SECRET);
    let words = refused::<KeyProvider>(&tenants, &provider("reader", spec.clone())).await;
    names_right(&words, "update", &tenants);
    assert!(words.contains("`spec.protectSecrets: false`"), "{words}");

    spec["protectSecrets"] = json!(false);
    tenants.attacker.create::<KeyProvider>(provider("reader", spec)).await;
    let provider = tenants.attacker.wait_provider("reader", true, Reason::Available).await;
    assert!(provider.status.unwrap().protected_secrets.is_empty());
    let protect = change_refused(&tenants, "reader", json!({"protectSecrets": true})).await;
    names_right(&protect, "update", &tenants);

    let secrets: Api<Secret> = Api::namespaced(tenants.admin.clone(), &tenants.attacker.namespace);
    assert_eq!(secrets.get(SECRET).await.unwrap().finalizers(), [] as [&str; 0]);
    secrets.delete(SECRET, &DeleteParams::default()).await.unwrap();
    assert_eq!(secrets.get_opt(SECRET).await.unwrap(), None);
}

/// A tenant that runs its own server.
async fn with_an_own_server() -> (Tenants, FakeBroker) {
    let tenants = Tenants::meet(Actor::KeyWriter).await;
    let broker = FakeBroker::builder().login(Login::None).start().await.unwrap();
    tenants.attacker.add_provider("own", open_broker(&broker), None).await;
    (tenants, broker)
}

fn key_in(name: &str, secret: Value) -> Value {
    key_manifest(name, json!({"name": "own"}), instance_of_broker(), json!({ "secret": secret }))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_has_a_type_that_grants_rights() {
    let (tenants, broker) = with_an_own_server().await;
    for type_ in ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token"] {
        let created =
            tenants.attacker.try_create::<ServiceKey>(key_in("creds", json!({"type": type_}))).await;
        let words = created.unwrap_err().to_string();
        assert!(words.contains("Kubernetes itself creates and uses Secrets of this type"), "{words}");
    }
    for (name, type_) in [("helm", "helm.sh/release.v1"), ("rancher", "rke.cattle.io/machine-plan")] {
        tenants.attacker.create::<ServiceKey>(key_in(name, json!({"type": type_}))).await;
        let key = tenants.attacker.wait_key(name, false, Reason::InvalidSpec).await;
        key.says(&format!("a Secret of type `{type_}` is denied by the administrator"));
        key.says("flag `--denied-secret-types`, chart value `secrets.types.denied`");
        assert!(key.is_stalled());
    }
    assert_eq!(broker.bindings(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_has_a_label_that_grants_rights() {
    let (tenants, broker) = with_an_own_server().await;
    let keys = [
        ("cluster", "argocd.argoproj.io/secret-type", "cluster"),
        ("sealing", "sealedsecrets.bitnami.com/sealed-secrets-key", "active"),
    ];
    for (name, label, value) in keys {
        tenants.attacker.create::<ServiceKey>(key_in(name, json!({"labels": {label: value}}))).await;
        let key = tenants.attacker.wait_key(name, false, Reason::InvalidSpec).await;
        key.says(&format!(
            "`spec.secret.labels` has the key `{label}`, which is denied by the administrator"
        ));
        key.says("flag `--denied-secret-metadata`, chart value `secrets.metadata.denied`");
    }
    assert_eq!(broker.bindings(), []);
}
