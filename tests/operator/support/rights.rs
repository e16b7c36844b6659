//! The rights of operators in tests: the shipped manifests grant them, to a new service account for each operator. The
//! shipped policies are in force wherever the operators work.

use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::{admissionregistration::v1::ValidatingAdmissionPolicyBinding, rbac::v1::PolicyRule};
use kube::{Api, ResourceExt};
use serde_json::json;
use testkit::control_plane::{ControlPlane, User, documents};

/// The rights of an operator that serves single namespaces.
const NAMESPACED: &str = include_str!("../../../deploy/kustomize/namespaced/rbac.yaml");
/// The rights of an operator that serves the whole cluster.
const CLUSTER: &str = include_str!("../../../deploy/kustomize/cluster/rbac.yaml");

/// The right to restart workloads.
const RESTARTS: &str = include_str!("../../../deploy/kustomize/restarts/rbac.yaml");

/// The right to list pods.
const CONSUMERS: &str = include_str!("../../../deploy/kustomize/consumers/rbac.yaml");

/// The shipped admission policies.
const POLICIES: &str = include_str!("../../../deploy/kustomize/crds/policies.yaml");
/// The policies for the operator's own writes.
const OPERATOR_WRITES: [&str; 2] = ["servicekey-operator-writes", "servicekey-operator-restart-writes"];
/// The label of a namespace without these policies, for attacks that the operator must withstand without them.
pub const UNGUARDED: &str = "servicekeys.dev/unguarded";

/// A service account that may serve this namespace, which is also its own, and no other.
pub async fn to_serve_namespace(plane: &ControlPlane, namespace: &str) -> User {
    install(plane, NAMESPACED, namespace).await
}

/// A service account in this namespace that may serve the whole cluster.
pub async fn to_serve_cluster(plane: &ControlPlane, namespace: &str) -> User {
    install(plane, CLUSTER, namespace).await
}

/// Grants an operator's service account the right to restart workloads in this namespace.
pub async fn to_restart_workloads(plane: &ControlPlane, namespace: &str, user: &User) {
    grant(plane, RESTARTS, namespace, user).await;
}

/// Grants an operator's service account the right to list the pods of this namespace.
pub async fn to_list_pods(plane: &ControlPlane, namespace: &str, user: &User) {
    grant(plane, CONSUMERS, namespace, user).await;
}

/// Grants the rights of a component in this namespace only.
async fn grant(plane: &ControlPlane, manifests: &str, namespace: &str, user: &User) {
    let mut names = user.name.rsplit(':');
    let (account, home) = (names.next().unwrap(), names.next().unwrap());
    let mut granted = Vec::new();
    for mut object in documents(manifests).unwrap() {
        let types = object.types.as_mut().unwrap();
        types.kind = types.kind.trim_start_matches("Cluster").to_owned();
        let is_binding = types.kind == "RoleBinding";
        object.metadata.namespace = Some(namespace.to_owned());
        if is_binding {
            object.metadata.name = Some(format!("{}-{account}", object.name_any()));
            object.data["roleRef"]["kind"] = json!("Role");
            object.data["subjects"] = json!([{"kind": "ServiceAccount", "name": account, "namespace": home}]);
        }
        let rules = object.data.get("rules").cloned();
        plane.apply(&object).await.unwrap();
        if let Some(rules) = rules {
            let rules: Vec<PolicyRule> = serde_json::from_value(rules).unwrap();
            granted.extend(rules);
        }
    }
    plane.until_allowed(user, &granted, Some(namespace)).await.unwrap();
}

/// Applies the manifests in this namespace for a new service account.
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
                // Grants of a role take effect together, so waiting for the last rule is enough.
                granted.push((object.metadata.namespace.clone(), rules.into_iter().last().unwrap()));
            }
            other => panic!("a {other} grants no rights"),
        }
        plane.apply(&object).await.unwrap();
    }
    let user = plane.service_account(namespace, &account).await.unwrap();
    for (namespace, rule) in granted {
        plane.until_allowed(&user, &[rule], namespace.as_deref()).await.unwrap();
    }
    user
}

/// Applies the policies once for each control plane.
async fn install_policies(plane: &ControlPlane) {
    let objects = documents(POLICIES).unwrap();
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(plane.admin());
    let last = objects.last().unwrap().name_any();
    if bindings.get_opt(&last).await.unwrap().is_some() {
        return;
    }
    for mut object in objects {
        let is_binding = object.types.as_ref().unwrap().kind.ends_with("Binding");
        if is_binding && !OPERATOR_WRITES.contains(&object.name_any().as_str()) {
            let guarded = json!({"matchExpressions": [{"key": UNGUARDED, "operator": "DoesNotExist"}]});
            object.data["spec"]["matchResources"] = json!({"namespaceSelector": guarded});
        }
        plane.apply(&object).await.unwrap();
    }
}
