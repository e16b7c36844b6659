//! Admission policies for the Secrets of one namespace, as administrators create them.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, PostParams},
};
use serde_json::{Value, json};

use crate::support::stage::PATIENCE;

/// A policy that is in force.
pub struct Policy {
    client: Client,
    kind: &'static str,
    name: String,
}

impl Policy {
    /// Refuses to create Secrets for which this expression is false. The expression must be false for `probe`.
    pub async fn refuse(
        client: &Client,
        namespace: &str,
        expression: &str,
        message: &str,
        probe: Value,
    ) -> Self {
        let rule = json!({"validations": [{"expression": expression, "message": message}]});
        let binding = json!({"validationActions": ["Deny"]});
        let policy = Self::create(client, namespace, "ValidatingAdmissionPolicy", (rule, binding)).await;
        policy.until(namespace, probe, |created| created.is_err()).await;
        policy
    }

    /// Sets this label on each Secret, even if the request sets another value.
    pub async fn label(client: &Client, namespace: &str, key: &str, value: &str) -> Self {
        let labels = format!("Object{{metadata: Object.metadata{{labels: {{'{key}': '{value}'}}}}}}");
        let mutation =
            json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": labels}});
        let rule = json!({"reinvocationPolicy": "Never", "mutations": [mutation]});
        let policy = Self::create(client, namespace, "MutatingAdmissionPolicy", (rule, json!({}))).await;
        let is_labelled =
            |created: kube::Result<Secret>| created.is_ok_and(|secret| secret.labels().contains_key(key));
        policy.until(namespace, json!({}), is_labelled).await;
        policy
    }

    /// Replaces an entry of the Secret with this name in every request. `patches` are further patches in CEL.
    pub async fn replace_entry(
        client: &Client,
        namespace: &str,
        secret: &str,
        entry: &str,
        patches: &str,
    ) -> Self {
        let replaced =
            format!("[JSONPatch{{op: 'replace', path: '/data/{entry}', value: 'b3RoZXI='}}{patches}]");
        let mutation = json!({"patchType": "JSONPatch", "jsonPatch": {"expression": replaced}});
        let condition = format!(
            "request.namespace == '{namespace}' && object.metadata.name in ['{secret}', 'probe'] \
             && '{entry}' in object.?data.orValue({{}})"
        );
        let conditions = json!([{"name": "here", "expression": condition}]);
        let rule =
            json!({"reinvocationPolicy": "Never", "mutations": [mutation], "matchConditions": conditions});
        let policy = Self::create(client, namespace, "MutatingAdmissionPolicy", (rule, json!({}))).await;
        let is_replaced = |created: kube::Result<Secret>| {
            created.is_ok_and(|secret| secret.data.unwrap_or_default()[entry].0 == b"other")
        };
        policy.until(namespace, json!({"data": {entry: "eA=="}}), is_replaced).await;
        policy
    }

    async fn create(
        client: &Client,
        namespace: &str,
        kind: &'static str,
        (rule, binding): (Value, Value),
    ) -> Self {
        let policy = Self { client: client.clone(), kind, name: format!("of-{namespace}") };
        // Refuse only creations, because the operator also updates logins.
        let operations = if kind.starts_with("Mutating") { vec!["CREATE", "UPDATE"] } else { vec!["CREATE"] };
        let mut spec = json!({
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"], "operations": operations,
            }]},
            "matchConditions": [{"name": "here", "expression": format!("request.namespace == '{namespace}'")}],
        });
        spec.as_object_mut().unwrap().extend(rule.as_object().unwrap().clone());
        let mut bound = json!({"policyName": policy.name});
        bound.as_object_mut().unwrap().extend(binding.as_object().unwrap().clone());
        for (kind, spec) in [(kind.to_owned(), spec), (format!("{kind}Binding"), bound)] {
            let object = json!({
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": kind,
                "metadata": {"name": policy.name},
                "spec": spec,
            });
            let object = serde_json::from_value(object).unwrap();
            policy.api(&kind).create(&PostParams::default(), &object).await.unwrap();
        }
        policy
    }

    fn api(&self, kind: &str) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind);
        Api::all_with(self.client.clone(), &ApiResource::from_gvk(&kind))
    }

    /// The API server applies a new policy with a delay, so repeat the probe until it does.
    async fn until(&self, namespace: &str, probe: Value, holds: impl Fn(kube::Result<Secret>) -> bool) {
        let mut secret = json!({"metadata": {"name": "probe"}});
        secret.as_object_mut().unwrap().extend(probe.as_object().unwrap().clone());
        let secret: Secret = serde_json::from_value(secret).unwrap();
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let parameters = PostParams { dry_run: true, ..PostParams::default() };
        let in_force = async {
            while !holds(secrets.create(&parameters, &secret).await) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, in_force).await.expect("the policy is in force");
    }

    pub async fn lift(self) {
        for kind in [format!("{}Binding", self.kind), self.kind.to_owned()] {
            self.api(&kind).delete(&self.name, &DeleteParams::default()).await.unwrap();
        }
    }
}
