//! The rights of operators in tests: those of the manifests that are shipped, as service accounts of their own. The
//! policies that are shipped are in force wherever they work.

use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::{admissionregistration::v1::ValidatingAdmissionPolicyBinding, rbac::v1::PolicyRule};
use kube::{Api, ResourceExt};
use serde_json::json;
use testkit::control_plane::{ControlPlane, User, documents};

/// For an operator that serves single namespaces.
const NAMESPACED: &str = include_str!("../../../deploy/kustomize/namespaced/rbac.yaml");
/// For one that serves the whole cluster.
const CLUSTER: &str = include_str!("../../../deploy/kustomize/cluster/rbac.yaml");

/// What the API server refuses.
const POLICIES: &str = include_str!("../../../deploy/kustomize/crds/policies.yaml");
/// The policy that is about the operator.
const OPERATOR_WRITES: &str = "servicekey-operator-writes";
/// The label of a namespace whose users no policy holds back, for attacks that the operator has to stand by itself.
pub const UNGUARDED: &str = "servicekeys.dev/unguarded";

/// Who may serve this namespace, which is the operator's own as well, and no other.
pub async fn to_serve_namespace(plane: &ControlPlane, namespace: &str) -> User {
    install(plane, NAMESPACED, namespace).await
}

/// Who may serve the whole cluster from this namespace.
pub async fn to_serve_cluster(plane: &ControlPlane, namespace: &str) -> User {
    install(plane, CLUSTER, namespace).await
}

/// Applies the manifests in this namespace for a service account that nobody else is.
async fn install(plane: &ControlPlane, manifests: &str, namespace: &str) -> User {
    install_policies(plane).await;
    static ACCOUNTS: AtomicUsize = AtomicUsize::new(1);
    let account = format!("operator-{}", ACCOUNTS.fetch_add(1, Ordering::Relaxed));
    let mut granted = Vec::new();
    for mut object in documents(manifests).unwrap() {
        let kind = object.types.clone().unwrap().kind;
        if object.metadata.namespace.is_some() {
            object.metadata.namespace = Some(namespace.to_owned());
        }
        match kind.as_str() {
            "ServiceAccount" => object.metadata.name = Some(account.clone()),
            "RoleBinding" | "ClusterRoleBinding" => {
                object.metadata.name = Some(format!("{}-{account}", object.name_any()));
                let subject = json!({"kind": "ServiceAccount", "name": account, "namespace": namespace});
                object.data["subjects"] = json!([subject]);
            }
            "Role" | "ClusterRole" => {
                let rules: Vec<PolicyRule> = serde_json::from_value(object.data["rules"].clone()).unwrap();
                // All rules of a role count from the same moment on.
                granted.push((object.metadata.namespace.clone(), rules.into_iter().last().unwrap()));
            }
            other => panic!("there are no rights in a {other}"),
        }
        plane.apply(&object).await.unwrap();
    }
    let user = plane.service_account(namespace, &account).await.unwrap();
    for (namespace, rule) in granted {
        plane.until_allowed(&user, &[rule], namespace.as_deref()).await.unwrap();
    }
    user
}

/// Applies the policies, unless that was done for the plane before.
async fn install_policies(plane: &ControlPlane) {
    let objects = documents(POLICIES).unwrap();
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(plane.admin());
    let last = objects.last().unwrap().name_any();
    if bindings.get_opt(&last).await.unwrap().is_some() {
        return;
    }
    for mut object in objects {
        let is_binding = object.types.as_ref().unwrap().kind.ends_with("Binding");
        if is_binding && object.name_any() != OPERATOR_WRITES {
            let guarded = json!({"matchExpressions": [{"key": UNGUARDED, "operator": "DoesNotExist"}]});
            object.data["spec"]["matchResources"] = json!({"namespaceSelector": guarded});
        }
        plane.apply(&object).await.unwrap();
    }
}
