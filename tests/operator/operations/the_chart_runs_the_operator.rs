//! Installs the chart with Helm, and runs the operator as its Deployment says and as its service account. The operator
//! does its work, with no missing and no unused right.
//!
//! No kubelet runs here, so the test does the kubelet's work. Some things differ from a pod: the port is a free one on
//! the loopback interface only (a value of the chart), volumes are temporary folders, and a kubeconfig names the API
//! server.

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Secret};
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, ObjectMeta, PostParams},
};
use serde_json::{Value, json};
use servicekey_operator::api::{ClusterKeyProvider, KeyProvider, ServiceKey};
use testkit::{
    Moment,
    broker::{FakeBroker, TlsIdentity},
    gateway::{Method, Requests},
};

use crate::support::{
    installation::{Installation, SYSTEM, TEAM},
    process::Process,
};

const KEY: &str = "monitoring-creds";

#[tokio::test(flavor = "multi_thread")]
async fn for_the_whole_cluster() {
    let installation = Installation::install("replicas=2").await;
    let operator = spine(&installation).await;
    keys_of_the_cluster_provider(&installation).await;
    assert_eq!(operator.terminate().await.code(), Some(0));
    assert_eq!(installation.rights_to_spare(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn for_a_single_namespace() {
    let rights = "restarts.enabled=true,consumers.enabled=true";
    let installation = Installation::install(&format!("namespaces={{{TEAM}}},{rights}")).await;
    let operator = spine(&installation).await;
    restarts_of_workloads(&installation).await;
    assert_eq!(operator.terminate().await.code(), Some(0));
    assert_eq!(installation.rights_to_spare(), [""; 0]);
}

/// All providers trust a private certificate authority from a ConfigMap.
#[tokio::test(flavor = "multi_thread")]
async fn with_an_authority_that_the_public_does_not_know() {
    let broker = FakeBroker::builder().tls(TlsIdentity::trusted().unwrap()).start().await.unwrap();
    let authority = broker.ca_pem().unwrap().to_owned();
    let mut installation = Installation::install_beside(broker, "trustedCA.configMap=authorities").await;
    installation.mount("trusted-ca", "ca.crt", &authority);
    let _operator = installation.start().await;
    let stage = &installation.stage;
    stage.create_login("operator", "broker-password").await;
    stage.create::<KeyProvider>(stage.provider_manifest("broker")).await;
    stage.create_key(KEY).await;
    stage.wait_ready_with_the_only_key(KEY).await;
}

/// The operator's main work, from the first key to the last, with a crash in between. Returns the process that runs
/// after the crash.
async fn spine(installation: &Installation) -> Process {
    let stage = &installation.stage;
    installation.check().await;
    let operator = installation.start().await;
    stage.create_login("operator", "broker-password").await;
    stage.create::<KeyProvider>(stage.provider_manifest("broker")).await;
    stage.create_rotating(json!({"overlap": "0s"})).await;

    for _ in 0..2 {
        stage.secrets().delete(KEY, &DeleteParams::default()).await.unwrap();
        stage.wait(stage.secrets(), KEY, "back", |secret| secret.is_some()).await;
    }
    stage.wait_ready_with_the_only_key(KEY).await;
    stage.request_rotation(json!("now")).await;
    stage.wait_settled_with(2).await;
    stage.wait_ready_with_the_only_key(KEY).await;
    assert!(installation.read("/metrics").await.unwrap().contains("servicekeys_leader 1\n"));
    for probe in installation.probes() {
        assert_eq!(installation.read(&probe).await.unwrap(), "ok\n");
    }

    let gate = operator.gateway.gate(Requests::to(Method::POST, "secrets"), Moment::AfterEffect);
    stage.create_key("another").await;
    operator.kill_at(gate).await;
    let operator = installation.start().await;
    stage.wait_ready("another").await;
    assert_eq!(stage.broker.bindings().len(), 2);

    stage.delete_key("another").await;
    stage.wait_gone("another").await;
    stage.delete_and_leave_nothing(KEY).await;
    operator
}

/// A rotation that restarts a workload by its name and others by a selector.
async fn restarts_of_workloads(installation: &Installation) {
    let stage = &installation.stage;
    let kinds = ["Deployment", "StatefulSet", "DaemonSet"];
    let labels = json!({"app": "orders"});
    for kind in kinds {
        let template = json!({
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "app", "image": "app"}], "nodeSelector": {"none": "at-all"}},
        });
        let workload = json!({
            "apiVersion": "apps/v1",
            "kind": kind,
            "metadata": {"name": "orders", "namespace": TEAM, "labels": labels},
            "spec": {"selector": {"matchLabels": labels}, "template": template, "serviceName": "orders"},
        });
        let mut workload: DynamicObject = serde_json::from_value(workload).unwrap();
        if kind != "StatefulSet" {
            workload.data["spec"].as_object_mut().unwrap().remove("serviceName");
        }
        stage.plane.apply(&workload).await.unwrap();
    }
    let selector = json!({"matchLabels": labels});
    let targets = kinds.map(|kind| json!({"kind": kind, "selector": selector}));
    let named = json!({"kind": "Deployment", "name": "orders"});
    let targets = [&[named], &targets[..]].concat();
    let rotation = json!({"overlap": "0s", "revokeWhen": "ConsumersMoved", "restart": targets});
    stage.create_rotating(rotation).await;
    stage.request_rotation(json!("now")).await;
    stage.wait_settled_with(2).await;
    let is_done = |key: &ServiceKey| key.status.as_ref().is_some_and(|status| status.restart.is_none());
    let key =
        stage.wait(stage.keys(), KEY, "without a restart", |key| key.is_some_and(is_done)).await.unwrap();
    assert!(key.status.unwrap().conditions.iter().all(|shown| shown.type_ != "Rotating"));
    let deployment: Deployment = stage.api().get("orders").await.unwrap();
    assert_eq!(deployment.metadata.generation, Some(2));
    stage.delete_and_leave_nothing(KEY).await;
}

/// The same for a ClusterKeyProvider, whose login is in the operator's namespace.
async fn keys_of_the_cluster_provider(installation: &Installation) {
    let stage = &installation.stage;
    let login: Secret = stage.secrets().get("broker-login").await.unwrap();
    let name = Some("broker-login".to_owned());
    let login = Secret { metadata: ObjectMeta { name, ..ObjectMeta::default() }, ..login };
    let secrets: Api<Secret> = Api::namespaced(stage.client.clone(), SYSTEM);
    secrets.create(&PostParams::default(), &login).await.unwrap();
    let mut provider = stage.provider_manifest("brokers");
    provider["kind"] = json!("ClusterKeyProvider");
    provider["spec"]["allowedNamespaces"] = json!({"names": [TEAM]});
    let providers: Api<ClusterKeyProvider> = Api::all(stage.client.clone());
    providers.create(&PostParams::default(), &serde_json::from_value(provider).unwrap()).await.unwrap();

    let mut manifest: Value = stage.key_manifest("of-the-cluster");
    manifest["spec"]["providerRef"] = json!({"kind": "ClusterKeyProvider", "name": "brokers"});
    stage.create::<ServiceKey>(manifest).await;
    stage.wait_ready("of-the-cluster").await;
    stage.delete_and_leave_nothing("of-the-cluster").await;
}
