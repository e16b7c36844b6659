//! The shipped admission policies.

use k8s_openapi::api::{
    admissionregistration::v1::ValidatingAdmissionPolicyBinding,
    apps::v1::Deployment,
    core::v1::{Secret, ServiceAccount},
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use servicekey_operator::api::ServiceKey;
use testkit::{
    broker::{FakeBroker, Login},
    control_plane::documents,
};

use super::{
    abuse::{Abuse, Actor},
    harness::{Tenants, dry_patch, dry_run, instance_of_broker, key_manifest, until_refused},
};
use crate::support::rights;

pub const ABUSES: &[Abuse] = &[
    abuse!(
        an_editor_forges_no_marks,
        Actor::Editor,
        "creates a Secret with the operator's label and the id of another tenant's key",
        "the policy refuses it and names the missing right `mark`; Secrets without marks are created as usual",
    ),
    abuse!(
        an_editor_changes_no_marks,
        Actor::Editor,
        "changes, adds and removes labels and annotations of the operator on its own ServiceKey's Secret",
        "the policy refuses each; other labels, and the entries, can be changed",
    ),
    abuse!(
        the_operators_token_makes_no_service_account_token,
        Actor::Sidecar,
        "steals the operator's token and creates a service account token, a bootstrap token, a Helm release, a cluster \
         of Argo CD",
        "the policy refuses each, with the operator's label or without",
    ),
    abuse!(
        the_operators_token_changes_no_secret_of_others,
        Actor::Sidecar,
        "steals the operator's token and changes, labels and deletes another owner's Secret, or creates one",
        "the policy refuses each; only its finalizers on logins are admitted",
    ),
    abuse!(
        a_provider_that_the_tenant_may_not_use_makes_no_key,
        Actor::KeyWriter,
        "creates a ServiceKey for a ClusterKeyProvider that it has no right to use, where `policies.providerUse` is on",
        "the policy refuses it and names the missing right `use`; with the right it is admitted",
    ),
    abuse!(
        a_workload_that_the_tenant_may_not_patch_does_not_restart,
        Actor::KeyWriter,
        "names Deployments that it may not change in `rotation.restart`, by name, by a selector, and beside its own",
        "the policy refuses each and names the missing right `patch`; its own Deployment is admitted",
    ),
    abuse!(
        the_operators_token_changes_no_workload,
        Actor::Sidecar,
        "steals the operator's token, which may restart workloads, and changes images, commands, replicas, labels and \
         other annotations of a Deployment",
        "the policy refuses each; only the annotations that restart pods are admitted",
    ),
];

const PROVIDER_USE: &str = include_str!("../../../deploy/kustomize/provider-use/policies.yaml");
/// Not the UID of any ServiceKey.
const FORGED: &str = "8d3f0c1e-5b5d-4c0b-9c53-2f4d5a1b7e66";

fn secret(name: &str, labels: Value, annotations: Value) -> Secret {
    let metadata = json!({"name": name, "labels": labels, "annotations": annotations});
    serde_json::from_value(json!({"metadata": metadata, "stringData": {"password": "hunter2"}})).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_editor_forges_no_marks() {
    let tenants = Tenants::meet(Actor::Editor).await;
    tenants.guard().await;
    let secrets = tenants.attacker.secrets();
    let forged = [
        secret("forged", json!({"servicekeys.dev/owner-uid": FORGED}), json!({})),
        secret("forged", json!({}), json!({"servicekeys.dev/key-id": FORGED})),
        secret("forged", json!({}), json!({"servicekeys.dev/anything": ""})),
    ];
    for forged in forged {
        let words = until_refused(async || secrets.create(&dry_run(), &forged).await).await;
        let right = format!(
            "user `{}` needs the right `mark` on `secrets.servicekeys.dev` in the namespace `{}`",
            tenants.attacker.user.name, tenants.attacker.namespace
        );
        assert!(words.contains(&right), "{words}");
        secrets.create(&PostParams::default(), &forged).await.unwrap_err();
    }
    assert_eq!(secrets.get_opt("forged").await.unwrap(), None);
    let plain = secret("plain", json!({"team": "a"}), json!({"note": "b"}));
    secrets.create(&PostParams::default(), &plain).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_editor_changes_no_marks() {
    let tenants = Tenants::meet(Actor::Editor).await;
    tenants.guard().await;
    let broker = FakeBroker::builder().login(Login::None).start().await.unwrap();
    let spec = json!({"openServiceBroker": {"url": broker.url()}, "limits": {"timeout": "5s"}});
    tenants.attacker.add_provider("own", spec, None).await;
    let key = key_manifest("creds", json!({"name": "own"}), instance_of_broker(), json!({}));
    tenants.attacker.create::<ServiceKey>(key).await;
    tenants.attacker.wait_ready("creds").await;

    let secrets = tenants.attacker.secrets();
    let before = secrets.get("creds").await.unwrap().metadata;
    for change in [
        json!({"annotations": {"servicekeys.dev/key-id": FORGED}}),
        json!({"annotations": {"servicekeys.dev/sequence": null}}),
        json!({"annotations": {"servicekeys.dev/new": "x"}}),
        json!({"labels": {"servicekeys.dev/owner-uid": null}}),
        json!({"labels": {"servicekeys.dev/owner-uid": FORGED}}),
    ] {
        let patch = Patch::Merge(json!({ "metadata": change }));
        let words = until_refused(async || secrets.patch("creds", &dry_patch(), &patch).await).await;
        assert!(words.contains("needs the right `mark`"), "{words}");
        secrets.patch("creds", &PatchParams::default(), &patch).await.unwrap_err();
    }
    let after = secrets.get("creds").await.unwrap().metadata;
    assert_eq!((after.labels, after.annotations), (before.labels, before.annotations));

    for change in [
        json!({"metadata": {"labels": {"team": "a"}, "annotations": {"note": "b"}}}),
        json!({"stringData": {"password": "x"}}),
    ] {
        secrets.patch("creds", &dry_patch(), &Patch::Merge(change)).await.unwrap();
    }
}

/// A client with the operator's token, and the Secrets of a tenant through it.
async fn with_the_operators_token() -> (Tenants, Client, Api<Secret>) {
    let tenants = Tenants::meet(Actor::Sidecar).await;
    let client = tenants.plane().client_as(tenants.operator_user());
    let secrets = Api::namespaced(client.clone(), &tenants.victim.namespace);
    (tenants, client, secrets)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_token_makes_no_service_account_token() {
    let (tenants, client, secrets) = with_the_operators_token().await;
    let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "admin"}})).unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(tenants.admin.clone(), &tenants.victim.namespace);
    accounts.create(&PostParams::default(), &account).await.unwrap();
    let system: Api<Secret> = Api::namespaced(client, "kube-system");
    let owner = json!({"servicekeys.dev/owner-uid": FORGED});
    let typed = |type_: &str, name: &str, labels: &Value| Secret {
        type_: Some(type_.to_owned()),
        ..secret(name, labels.clone(), json!({"kubernetes.io/service-account.name": "admin"}))
    };
    for labels in [&owner, &json!({})] {
        for (secrets, forged) in [
            (&secrets, typed("kubernetes.io/service-account-token", "stolen", labels)),
            (&system, typed("bootstrap.kubernetes.io/token", "bootstrap-token-abcdef", labels)),
            (&secrets, typed("helm.sh/release.v1", "sh.helm.release.v1.app.v2", labels)),
        ] {
            let words = until_refused(async || secrets.create(&dry_run(), &forged).await).await;
            let expected = if labels == &owner { "may not create Secrets of the type" } else { "owner-uid" };
            assert!(words.contains(expected), "{words}");
            secrets.create(&PostParams::default(), &forged).await.unwrap_err();
        }
    }
    let mut cluster = owner.clone();
    cluster["argocd.argoproj.io/secret-type"] = json!("cluster");
    let cluster = secret("cluster", cluster, json!({}));
    let words = until_refused(async || secrets.create(&dry_run(), &cluster).await).await;
    assert!(words.contains("`secrets.metadata.denied`"), "{words}");
    let own = secret("own", owner, json!({}));
    secrets.create(&dry_run(), &own).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_token_changes_no_secret_of_others() {
    let (tenants, _, secrets) = with_the_operators_token().await;
    let theirs = secret("theirs", json!({}), json!({}));
    tenants.victim.secrets().create(&PostParams::default(), &theirs).await.unwrap();

    let plain = secret("plain", json!({}), json!({}));
    until_refused(async || secrets.create(&dry_run(), &plain).await).await;
    for change in [
        json!({"stringData": {"password": "x"}}),
        json!({"metadata": {"labels": {"servicekeys.dev/owner-uid": FORGED}}}),
        json!({"metadata": {"annotations": {"servicekeys.dev/sequence": "1"}}}),
        json!({"metadata": {"finalizers": ["example.com/other"]}}),
        json!({"metadata": {"finalizers": ["servicekeys.dev/login-of.x"], "labels": {"team": "a"}}}),
    ] {
        let patch = Patch::Merge(change);
        let words = until_refused(async || secrets.patch("theirs", &dry_patch(), &patch).await).await;
        assert!(words.contains("bear its label `servicekeys.dev/owner-uid`"), "{words}");
    }
    let without_effect = DeleteParams { dry_run: true, ..DeleteParams::default() };
    until_refused(async || secrets.delete("theirs", &without_effect).await).await;
    secrets.delete("theirs", &DeleteParams::default()).await.unwrap_err();
    let finalizer = json!({"metadata": {"finalizers": ["servicekeys.dev/login-of.x"]}});
    secrets.patch("theirs", &dry_patch(), &Patch::Merge(finalizer)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_the_tenant_may_not_use_makes_no_key() {
    let tenants = Tenants::meet(Actor::KeyWriter).await;
    let broker = FakeBroker::builder().start().await.unwrap();
    let provider = tenants.add_cluster_broker(&broker).await;
    for mut object in documents(PROVIDER_USE).unwrap() {
        if object.types.as_ref().unwrap().kind.ends_with("Binding") {
            let here = json!({"kubernetes.io/metadata.name": tenants.attacker.namespace});
            object.data["spec"]["matchResources"] = json!({"namespaceSelector": {"matchLabels": here}});
        }
        tenants.plane().apply(&object).await.unwrap();
    }
    let reference = json!({"kind": "ClusterKeyProvider", "name": provider});
    let manifest = key_manifest("creds", reference, instance_of_broker(), json!({}));
    let key: ServiceKey = serde_json::from_value(manifest).unwrap();
    let keys = tenants.attacker.keys();
    let words = until_refused(async || keys.create(&dry_run(), &key).await).await;
    let right = format!(
        "user `{}` needs the right `use` on the ClusterKeyProvider `{provider}` \
         (`clusterkeyproviders.servicekeys.dev`) in the namespace `{}`",
        tenants.attacker.user.name, tenants.attacker.namespace
    );
    assert!(words.contains(&right), "{words}");
    keys.create(&PostParams::default(), &key).await.unwrap_err();
    assert_eq!(broker.bindings(), []);

    let may_use = json!([{
        "apiGroups": ["servicekeys.dev"],
        "resources": ["clusterkeyproviders"],
        "resourceNames": [provider],
        "verbs": ["use"],
    }]);
    tenants.grant_attacker("use", may_use).await;
    keys.create(&PostParams::default(), &key).await.unwrap();
    tenants.attacker.wait_ready("creds").await;

    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(tenants.admin.clone());
    bindings.delete("servicekey-operator-provider-use", &DeleteParams::default()).await.unwrap();
}

fn deployment(name: &str) -> Deployment {
    let labels = json!({"app": name});
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"team": "a"}},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": {"note": "x"}},
                "spec": {"containers": [{"name": "app", "image": "app"}]},
            },
        },
    }))
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_that_the_tenant_may_not_patch_does_not_restart() {
    let tenants = Tenants::meet(Actor::KeyWriter).await;
    tenants.guard().await;
    let may_patch_one = json!([{
        "apiGroups": ["apps"],
        "resources": ["deployments"],
        "resourceNames": ["own"],
        "verbs": ["patch"],
    }]);
    tenants.grant_attacker("patch-own", may_patch_one).await;
    let own = json!({"kind": "Deployment", "name": "own"});
    let key = |targets: &Value| -> ServiceKey {
        let rotation = json!({"rotation": {"restart": targets}});
        let manifest = key_manifest("creds", json!({"name": "broker"}), instance_of_broker(), rotation);
        serde_json::from_value(manifest).unwrap()
    };
    let keys = tenants.attacker.keys();
    for (targets, what) in [
        (json!([{"kind": "Deployment", "name": "theirs"}]), "Deployment `theirs`"),
        (json!([own, {"kind": "StatefulSet", "name": "own"}]), "StatefulSet `own`"),
        (json!([own, {"kind": "Deployment", "selector": {"matchLabels": {"app": "own"}}}]), "Deployments"),
    ] {
        let words = until_refused(async || keys.create(&dry_run(), &key(&targets)).await).await;
        let right = format!(
            "user `{}` needs the right `patch` on the {what} in the namespace `{}`",
            tenants.attacker.user.name, tenants.attacker.namespace
        );
        assert!(words.contains(&right), "{words}");
    }
    keys.create(&PostParams::default(), &key(&json!([own]))).await.unwrap();
    let theirs = json!({"spec": {"rotation": {"restart": [{"kind": "Deployment", "name": "theirs"}]}}});
    keys.patch("creds", &dry_patch(), &Patch::Merge(theirs)).await.unwrap_err();
    // The policy checks only a list that changes.
    let other = json!({"spec": {"rotation": {"every": "720h"}}});
    keys.patch("creds", &dry_patch(), &Patch::Merge(other)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_token_changes_no_workload() {
    let (tenants, client, _) = with_the_operators_token().await;
    let namespace = &tenants.victim.namespace;
    rights::to_restart_workloads(tenants.plane(), namespace, tenants.operator_user()).await;
    let theirs: Api<Deployment> = Api::namespaced(tenants.admin.clone(), namespace);
    theirs.create(&PostParams::default(), &deployment("theirs")).await.unwrap();
    let stolen: Api<Deployment> = Api::namespaced(client, namespace);
    for change in [
        json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "evil"}]}}}}),
        json!({"spec": {"template": {"spec": {"hostNetwork": true}}}}),
        json!({"spec": {"template": {"metadata": {"annotations": {"note": "y"}}}}}),
        json!({"spec": {"template": {"metadata": {"annotations": {"note": null}}}}}),
        json!({"spec": {"template": {"metadata": {"annotations": {"example.com/inject": "true"}}}}}),
        json!({"spec": {"template": {"metadata": {"labels": {"sidecar": "true"}}}}}),
        json!({"spec": {"replicas": 3}}),
        json!({"spec": {"paused": true}}),
        json!({"metadata": {"labels": {"team": "b"}}}),
        json!({"metadata": {"annotations": {"restart.servicekeys.dev/x": "1"}}}),
        json!({"metadata": {"finalizers": ["example.com/other"]}}),
        json!({"metadata": {"managedFields": [{
            "manager": "argocd-controller",
            "operation": "Apply",
            "apiVersion": "apps/v1",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:replicas": {}}},
        }]}}),
        json!({"spec": {"template": {"metadata": {"annotations": {"restart.servicekeys.dev/x": "any text"}}}}}),
    ] {
        let patch = Patch::Merge(change);
        let words = until_refused(async || stolen.patch("theirs", &dry_patch(), &patch).await).await;
        assert!(
            words.contains("may change only annotations of the domain `restart.servicekeys.dev`"),
            "{words}"
        );
        stolen.patch("theirs", &PatchParams::default(), &patch).await.unwrap_err();
    }
    for value in [json!("1-0c1d2e3f"), json!("2-0c1d2e3f"), Value::Null] {
        let annotations = json!({"restart.servicekeys.dev/creds": value});
        let patch = Patch::Merge(json!({"spec": {"template": {"metadata": {"annotations": annotations}}}}));
        stolen.patch("theirs", &PatchParams::default(), &patch).await.unwrap();
    }
    // A template may have no annotation yet.
    let mut bare = deployment("bare");
    bare.spec.as_mut().unwrap().template.metadata.as_mut().unwrap().annotations = None;
    theirs.create(&PostParams::default(), &bare).await.unwrap();
    let annotations = json!({"restart.servicekeys.dev/creds": "1-0c1d2e3f"});
    let patch = Patch::Merge(json!({"spec": {"template": {"metadata": {"annotations": annotations}}}}));
    stolen.patch("bare", &PatchParams::default(), &patch).await.unwrap();
}
