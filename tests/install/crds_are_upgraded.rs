//! `helm upgrade` updates the definitions, and `helm uninstall` keeps them with all objects of the users.

use std::{fs, path::Path};

use k8s_openapi::{
    api::apps::v1::Deployment,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{Api, api::PostParams};
use serde_json::Value;
use servicekey_operator::api::ServiceKey;
use testkit::{control_plane::ControlPlane, go_tool::GoTool};

use crate::chart::{NAMESPACE, RELEASE, folder};

const DEFINITION: &str = "servicekeys.servicekeys.dev";
/// A field that the older definition does not have.
const FIELD: &str = "suspend";
const KEY: &str = include_str!("../good_manifests/key_minimal.yaml");

#[tokio::test(flavor = "multi_thread")]
async fn by_helm_upgrade_and_stay_after_helm_uninstall() {
    let plane = ControlPlane::builder().start().await.unwrap();
    let (helm, kubeconfig) =
        (GoTool::helm().await.unwrap(), plane.kubeconfig_for(plane.admin_user()).unwrap());
    let helm = async |arguments: &[&str]| {
        let arguments = [arguments, &["--namespace", NAMESPACE]].concat();
        helm.run_with(arguments, Some(&kubeconfig)).await.unwrap()
    };
    let definitions: Api<CustomResourceDefinition> = Api::all(plane.admin());
    let has_field = async || fields(&definitions.get(DEFINITION).await.unwrap()).contains(&FIELD.to_owned());

    let before = tempfile::tempdir().unwrap();
    copy(&folder(), before.path());
    take_out(&before.path().join(format!("files/crds/{DEFINITION}.yaml")));
    helm(&["install", RELEASE, &before.path().display().to_string(), "--create-namespace"]).await;
    assert!(!has_field().await);
    let keys: Api<ServiceKey> = Api::namespaced(plane.admin(), "default");
    let mut key: ServiceKey = serde_saphyr::from_str(KEY).unwrap();
    key.metadata.namespace = None;
    let uid = keys.create(&PostParams::default(), &key).await.unwrap().metadata.uid;

    let chart = folder().display().to_string();
    helm(&["upgrade", RELEASE, &chart]).await;
    assert!(has_field().await);
    let deployments: Api<Deployment> = Api::namespaced(plane.admin(), NAMESPACE);
    assert!(deployments.get_opt(RELEASE).await.unwrap().is_some());

    let said = helm(&["uninstall", RELEASE]).await;
    assert!(said.contains(DEFINITION), "Helm names the definitions that it keeps: {said}");
    assert!(deployments.get_opt(RELEASE).await.unwrap().is_none());
    let name = key.metadata.name.unwrap();
    assert_eq!(keys.get(&name).await.unwrap().metadata.uid, uid);

    helm(&["install", RELEASE, &chart]).await;
    assert!(has_field().await);
    plane.stop().await;
}

fn fields(definition: &CustomResourceDefinition) -> Vec<String> {
    let schema = definition.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
    schema.properties.as_ref().unwrap()["spec"].properties.as_ref().unwrap().keys().cloned().collect()
}

/// Removes the field from the definition in a file.
fn take_out(file: &Path) {
    let mut definition: Value = serde_saphyr::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    let removed = definition.pointer_mut(spec).unwrap().as_object_mut().unwrap().remove(FIELD);
    assert!(removed.is_some(), "there is no `{FIELD}` in `{}`", file.display());
    fs::write(file, serde_saphyr::to_string(&definition).unwrap()).unwrap();
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let (entry, to) = (entry.as_ref().unwrap(), to.join(entry.as_ref().unwrap().file_name()));
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), &to).unwrap();
        }
    }
}
