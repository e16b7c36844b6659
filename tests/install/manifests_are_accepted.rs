//! A real API server accepts every manifest with all its fields, and admits the pod to namespaces that admit only
//! restricted pods.

use kube::api::DynamicObject;
use rstest::rstest;
use serde_json::{Value, json};
use testkit::{control_plane::ControlPlane, go_tool::monitor_definitions};

use crate::chart::{NAMESPACE, only, render_with, title};

/// The shared plane with the namespaces of the installation and the definitions of the monitors.
async fn plane() -> &'static ControlPlane {
    let plane = ControlPlane::shared().await.unwrap();
    plane.install_crds(&monitor_definitions().await.unwrap()).await.unwrap();
    for name in [NAMESPACE, "training", "staging"] {
        plane.apply(&namespace(name, json!({}))).await.unwrap();
    }
    plane
}

fn namespace(name: &str, labels: Value) -> DynamicObject {
    let manifest =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    serde_json::from_value(manifest).unwrap()
}

/// All causes of an error, in one line.
fn words(error: impl Into<anyhow::Error>) -> String {
    format!("{:#}", error.into())
}

#[rstest]
#[case::of_the_defaults(&[])]
#[case::of_two_replicas(&["values-ha"])]
#[case::of_the_hardened(&["values-hardened"])]
#[case::of_everything(&["everything"])]
#[case::of_single_namespaces(&["namespaces"])]
#[case::of_single_namespaces_and_two_replicas(&["namespaces", "values-ha"])]
#[case::of_little(&["little"])]
#[tokio::test]
async fn the_manifests(#[case] files: &[&str]) {
    let plane = plane().await;
    for object in render_with(files).await {
        if let Err(error) = plane.try_out(&object).await {
            panic!("{} is refused: {}", title(&object), words(error));
        }
    }
}

/// Proves that the test above can fail, for a kind of Kubernetes itself and for one of the Prometheus operator.
#[rstest]
#[case("Deployment", "/spec/strategy/typ")]
#[case("ServiceMonitor", "/spec/endpoints/0/pfad")]
#[tokio::test]
async fn but_not_one_with_a_field_that_nobody_knows(#[case] kind: &str, #[case] field: &str) {
    let plane = plane().await;
    let mut object = only(&render_with(&["everything"]).await, kind).clone();
    let (parent, name) = field.rsplit_once('/').unwrap();
    object.data.pointer_mut(parent).unwrap()[name] = json!("x");
    let error = words(plane.try_out(&object).await.unwrap_err());
    assert!(error.contains(name), "{error}");
}

#[rstest]
#[case::of_the_defaults(&[])]
#[case::of_everything(&["everything"])]
#[case::of_single_namespaces_and_two_replicas(&["namespaces", "values-ha"])]
#[tokio::test]
async fn the_pod_where_restricted_ones_may_run(#[case] files: &[&str]) {
    let (plane, pod) = restricted(files).await;
    plane.try_out(&pod).await.unwrap_or_else(|error| panic!("{}", words(error)));
}

/// Proves that such a namespace refuses less restricted pods.
#[rstest]
#[case("/spec/securityContext/runAsNonRoot", json!(false), "runAsNonRoot != true")]
#[case("/spec/securityContext/seccompProfile/type", json!("Unconfined"), "seccompProfile")]
#[case("/spec/containers/0/securityContext/allowPrivilegeEscalation", json!(true), "allowPrivilegeEscalation")]
#[case("/spec/containers/0/securityContext/capabilities/drop", json!([]), "unrestricted capabilities")]
#[tokio::test]
async fn but_not_one_with_more_rights(#[case] field: &str, #[case] value: Value, #[case] what: &str) {
    let (plane, mut pod) = restricted(&[]).await;
    *pod.data.pointer_mut(field).unwrap() = value;
    let error = words(plane.try_out(&pod).await.unwrap_err());
    assert!(error.contains("violates PodSecurity \"restricted:latest\""), "{error}");
    assert!(error.contains(what), "{error}");
}

/// The Deployment's pod, in a namespace of its own with this policy.
async fn restricted(files: &[&str]) -> (&'static ControlPlane, DynamicObject) {
    let plane = plane().await;
    let place = plane.namespace("restricted").await.unwrap();
    let policy = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    plane.apply(&namespace(&place, policy)).await.unwrap();
    let template = only(&render_with(files).await, "Deployment").data["spec"]["template"].clone();
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"]});
    pod["metadata"]["name"] = json!("operator");
    pod["metadata"]["namespace"] = json!(place);
    pod["spec"] = template["spec"].clone();
    (plane, serde_json::from_value(pod).unwrap())
}
