//! The real API server enforces the policies: each one denies, warns or is absent, according to its chart value.

use std::{collections::BTreeSet, fs, time::Duration};

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client, api::PostParams};
use rstest::rstest;
use serde_json::{Value, json};
use servicekey_operator::api::custom_resource_definitions;
use testkit::control_plane::{ControlPlane, User, documents};
use tokio::time::{sleep, timeout};

use crate::chart::{folder, render, render_with, template};

/// Longest delay until a policy takes effect, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A namespace with its own policies, and a user without any right that they require.
struct Place {
    plane: &'static ControlPlane,
    namespace: String,
    user: User,
}

#[derive(Debug, PartialEq)]
enum Answer {
    Admitted,
    Warned(String),
    Refused(String),
}

impl Place {
    /// Installs the policies with these values, for a new namespace only.
    async fn on(plane: &'static ControlPlane, values: &str) -> Self {
        plane.install_crds(&custom_resource_definitions()).await.unwrap();
        let namespace = plane.namespace("policies").await.unwrap();
        let values = format!("fullnameOverride={namespace},{values}");
        let rendered = template(&["--show-only", "templates/policies.yaml", "--set", &values]).await.unwrap();
        for mut object in documents(&rendered).unwrap() {
            if object.types.as_ref().unwrap().kind.ends_with("Binding") {
                let here = json!({"kubernetes.io/metadata.name": namespace});
                object.data["spec"]["matchResources"] = json!({"namespaceSelector": {"matchLabels": here}});
            }
            plane.apply(&object).await.unwrap();
        }
        let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "user"}})).unwrap();
        let accounts: Api<ServiceAccount> = Api::namespaced(plane.admin(), &namespace);
        accounts.create(&PostParams::default(), &account).await.unwrap();
        let user = plane.service_account(&namespace, "user").await.unwrap();
        let place = Self { plane, namespace, user };
        place.grant("servicekeys.dev", &["servicekeys", "keyproviders"], &["create", "update"]).await;
        place
    }

    async fn grant(&self, group: &str, resources: &[&str], verbs: &[&str]) {
        let name = format!("user-{}", uuid::Uuid::new_v4());
        let rule = json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
        for manifest in [
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "Role",
                "metadata": {"name": name, "namespace": self.namespace},
                "rules": [rule],
            }),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {"name": name, "namespace": self.namespace},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": "user", "namespace": self.namespace}],
            }),
        ] {
            self.plane.apply(&serde_json::from_value(manifest).unwrap()).await.unwrap();
        }
        let rule = serde_json::from_value(rule).unwrap();
        self.plane.until_allowed(&self.user, &[rule], Some(&self.namespace)).await.unwrap();
    }

    /// Creates an object as the user, in a dry run.
    async fn attempt(&self, path: &str, object: &Value) -> Answer {
        create(self.plane.client_as(&self.user), &self.namespace, path, object).await
    }

    /// Repeats the attempt until the policies take effect.
    async fn until_not_admitted(&self, path: &str, object: &Value) -> Answer {
        let answer = async {
            loop {
                match self.attempt(path, object).await {
                    Answer::Admitted => sleep(Duration::from_millis(100)).await,
                    answer => return answer,
                }
            }
        };
        timeout(PATIENCE, answer).await.expect("a policy takes effect in time")
    }
}

async fn create(client: Client, namespace: &str, path: &str, object: &Value) -> Answer {
    let (group, resource) = path.rsplit_once('/').unwrap();
    let uri = format!("/{group}/namespaces/{namespace}/{resource}?dryRun=All");
    let request = http::Request::post(uri).header("content-type", "application/json");
    let request = request.body(serde_json::to_vec(object).unwrap().into()).unwrap();
    let response = client.send(request).await.unwrap();
    let warning = response.headers().get("warning").map(|words| words.to_str().unwrap().to_owned());
    let status = response.status();
    let body = text(response).await;
    match (status.is_success(), warning) {
        (false, _) => Answer::Refused(body),
        (true, Some(words)) => Answer::Warned(words),
        (true, None) => Answer::Admitted,
    }
}

async fn text(response: http::Response<kube::client::Body>) -> String {
    let bytes = response.into_body().collect_bytes().await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A policy: its chart value, what it refuses, and the right that its message names.
#[derive(Clone, Copy)]
struct Policy {
    value: &'static str,
    /// The user's rights in addition to writing ServiceKeys and KeyProviders.
    rights: &'static [(&'static str, &'static [&'static str], &'static [&'static str])],
    path: &'static str,
    object: fn() -> Value,
    right: &'static str,
}

const LOGIN: Policy = Policy {
    value: "secretReferences",
    rights: &[],
    path: "apis/servicekeys.dev/v1alpha1/keyproviders",
    object: provider,
    right: "needs the right `get` on the Secret `",
};
const FINALIZER: Policy = Policy {
    value: "secretReferences",
    rights: &[("", &["secrets"], &["get"])],
    path: "apis/servicekeys.dev/v1alpha1/keyproviders",
    object: provider,
    right: "needs the right `update` on the Secret `",
};
const PARAMETERS: Policy = Policy {
    value: "secretReferences",
    rights: &[],
    path: "apis/servicekeys.dev/v1alpha1/servicekeys",
    object: key,
    right: "needs the right `get` on the Secret `",
};
const VERIFICATION: Policy = Policy {
    value: "secretReferences",
    rights: &[],
    path: "apis/servicekeys.dev/v1alpha1/servicekeys",
    object: verified_key,
    right: "needs the right `get` on the Secret `creds`",
};
const MARKS: Policy = Policy {
    value: "secretMarks",
    rights: &[("", &["secrets"], &["create"])],
    path: "api/v1/secrets",
    object: marked_secret,
    right: "needs the right `mark` on `secrets.servicekeys.dev`",
};
const OPERATOR: Policy = Policy {
    value: "operatorWrites",
    rights: &[("", &["secrets"], &["create"]), ("servicekeys.dev", &["secrets"], &["operate", "mark"])],
    path: "api/v1/secrets",
    object: plain_secret,
    right: "bear its label `servicekeys.dev/owner-uid`",
};
const USE: Policy = Policy {
    value: "providerUse",
    rights: &[("", &["secrets"], &["get"])],
    path: "apis/servicekeys.dev/v1alpha1/servicekeys",
    object: key,
    right: "needs the right `use` on the KeyProvider `broker`",
};

const RESTART: Policy = Policy {
    value: "workloadRestarts",
    rights: &[("apps", &["daemonsets"], &["patch"])],
    path: "apis/servicekeys.dev/v1alpha1/servicekeys",
    object: restarting_key,
    right: "needs the right `patch` on the Deployment `orders`",
};
const RESTART_BY_SELECTOR: Policy = Policy {
    object: restarting_key_with_a_selector,
    right: "needs the right `patch` on the StatefulSets",
    ..RESTART
};
const RESTART_WRITES: Policy = Policy {
    value: "workloadRestarts",
    rights: &[("apps", &["deployments"], &["create"]), ("servicekeys.dev", &["secrets"], &["operate"])],
    path: "apis/apps/v1/deployments",
    object: deployment,
    right: "may change only annotations of the domain `restart.servicekeys.dev`",
};

fn provider() -> Value {
    json!({
        "apiVersion": "servicekeys.dev/v1alpha1",
        "kind": "KeyProvider",
        "metadata": {"name": "broker"},
        "spec": {"openServiceBroker": {
            "url": "https://broker.invalid",
            "auth": {"basic": {"secretRef": {"name": "login"}}},
        }},
    })
}

fn key() -> Value {
    let names =
        (1..=16).map(|number| json!({"secretKeyRef": {"name": format!("extra-{number}"), "key": "x"}}));
    json!({
        "apiVersion": "servicekeys.dev/v1alpha1",
        "kind": "ServiceKey",
        "metadata": {"name": "creds"},
        "spec": {
            "providerRef": {"name": "broker"},
            "instance": {"id": "db"},
            "parametersFrom": names.collect::<Vec<_>>(),
        },
    })
}

fn verified_key() -> Value {
    let verify = json!({"tcp": {"address": "{{ password }}.example:80"}});
    let mut key = with_restarts(vec![]);
    key["spec"]["rotation"] = json!({"verify": verify});
    key
}

/// A ServiceKey that restarts 15 workloads of one name, and another one.
fn restarting_key() -> Value {
    let mut targets = vec![json!({"kind": "DaemonSet", "name": "agent"}); 15];
    targets.push(json!({"kind": "Deployment", "name": "orders"}));
    with_restarts(targets)
}

fn restarting_key_with_a_selector() -> Value {
    with_restarts(vec![json!({"kind": "StatefulSet", "selector": {"matchLabels": {"app": "orders"}}})])
}

fn with_restarts(targets: Vec<Value>) -> Value {
    json!({
        "apiVersion": "servicekeys.dev/v1alpha1",
        "kind": "ServiceKey",
        "metadata": {"name": "creds"},
        "spec": {
            "providerRef": {"name": "broker"},
            "instance": {"id": "db"},
            "rotation": {"every": "720h", "restart": targets},
        },
    })
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "orders"},
        "spec": {
            "selector": {"matchLabels": {"app": "orders"}},
            "template": {
                "metadata": {"labels": {"app": "orders"}},
                "spec": {"containers": [{"name": "app", "image": "app"}]},
            },
        },
    })
}

fn plain_secret() -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "creds"}})
}

fn marked_secret() -> Value {
    let mut secret = plain_secret();
    secret["metadata"]["annotations"] = json!({"servicekeys.dev/key-id": "x"});
    secret
}

/// The values that enable only this policy, with this action.
fn alone(policy: &Policy, action: &str) -> String {
    let values = ["secretReferences", "secretMarks", "operatorWrites", "workloadRestarts", "providerUse"]
        .map(|value| format!("policies.{value}={}", if value == policy.value { action } else { "Off" }));
    values.join(",")
}

/// The answer to a request that only this policy is about.
async fn answer_of(plane: &'static ControlPlane, policy: &Policy, action: &str) -> Answer {
    let place = Place::on(plane, &alone(policy, action)).await;
    for (group, resources, verbs) in policy.rights {
        place.grant(group, resources, verbs).await;
    }
    place.until_not_admitted(policy.path, &(policy.object)()).await
}

async fn denies(plane: &'static ControlPlane, policy: &Policy) {
    match answer_of(plane, policy, "Deny").await {
        Answer::Refused(words) => {
            assert!(words.contains("ValidatingAdmissionPolicy") && words.contains("\"code\":403"), "{words}");
            assert!(words.contains(policy.right), "{words}");
        }
        answer => panic!("{answer:?}"),
    }
}

#[rstest]
#[case::login(LOGIN)]
#[case::finalizer(FINALIZER)]
#[case::parameters(PARAMETERS)]
#[case::verification(VERIFICATION)]
#[case::marks(MARKS)]
#[case::operator(OPERATOR)]
#[case::provider_use(USE)]
#[case::restart(RESTART)]
#[case::restart_by_selector(RESTART_BY_SELECTOR)]
#[case::writes_of_workloads(RESTART_WRITES)]
#[tokio::test]
async fn deny_refuses_and_warn_warns_and_off_does_neither(#[case] policy: Policy) {
    let plane = ControlPlane::shared().await.unwrap();
    denies(plane, &policy).await;
    match answer_of(plane, &policy, "Warn").await {
        Answer::Warned(words) => assert!(words.contains(policy.right), "{words}"),
        answer => panic!("{answer:?}"),
    }
    let objects = render(&["--set", &alone(&policy, "Off")]).await;
    let policies = objects
        .iter()
        .filter(|object| object.types.as_ref().unwrap().kind.starts_with("ValidatingAdmissionPolicy"));
    assert_eq!(policies.count(), 0);
}

/// Kubernetes 1.32 supports everything that the policies use.
#[tokio::test]
async fn the_oldest_kubernetes_enforces_them() {
    let plane = ControlPlane::builder().oldest_kubernetes(true).start().await.unwrap();
    let version = plane.admin().apiserver_version().await.unwrap();
    let chart = fs::read_to_string(folder().join("Chart.yaml")).unwrap();
    let oldest = format!("kubeVersion: \">={}.{}.0-0\"", version.major, version.minor);
    assert!(chart.contains(&oldest), "the chart admits a version older than `{}`", version.git_version);

    let plane: &'static ControlPlane = Box::leak(Box::new(plane));
    for policy in
        [LOGIN, FINALIZER, PARAMETERS, MARKS, OPERATOR, USE, RESTART, RESTART_BY_SELECTOR, RESTART_WRITES]
    {
        denies(plane, &policy).await;
    }
    admits_who_has_the_rights(plane).await;
}

/// Finds a policy that refuses even users with the required right, which no other test does.
#[tokio::test]
async fn who_has_the_rights_is_admitted() {
    admits_who_has_the_rights(ControlPlane::shared().await.unwrap()).await;
}

async fn admits_who_has_the_rights(plane: &'static ControlPlane) {
    let place = Place::on(plane, "policies.secretReferences=Deny,policies.providerUse=Deny").await;
    place.grant("", &["secrets"], &["create"]).await;
    for policy in [LOGIN, PARAMETERS, MARKS, RESTART, RESTART_BY_SELECTOR] {
        place.until_not_admitted(policy.path, &(policy.object)()).await;
    }
    place.grant("", &["secrets"], &["get", "update"]).await;
    place.grant("servicekeys.dev", &["secrets"], &["mark"]).await;
    place.grant("servicekeys.dev", &["keyproviders"], &["use"]).await;
    place.grant("apps", &["deployments", "statefulsets", "daemonsets"], &["patch"]).await;
    for policy in [LOGIN, PARAMETERS, MARKS, RESTART, RESTART_BY_SELECTOR] {
        assert_eq!(place.attempt(policy.path, &(policy.object)()).await, Answer::Admitted);
    }
    assert_eq!(place.attempt("api/v1/secrets", &plain_secret()).await, Answer::Admitted);
}

/// A pattern among the denied types means the same to the policy as to the operator's flag.
#[tokio::test]
async fn the_operator_writes_no_secret_of_a_type_that_a_pattern_denies() {
    let plane = ControlPlane::shared().await.unwrap();
    let values = format!("{},secrets.types.denied={{example.com/*}}", alone(&OPERATOR, "Deny"));
    let place = Place::on(plane, &values).await;
    for (group, resources, verbs) in OPERATOR.rights {
        place.grant(group, resources, verbs).await;
    }
    let typed = |type_: &str| {
        let mut secret = marked_secret();
        secret["metadata"]["labels"] = json!({"servicekeys.dev/owner-uid": "x"});
        secret["type"] = json!(type_);
        secret
    };
    match place.until_not_admitted(OPERATOR.path, &typed("example.com/token")).await {
        Answer::Refused(words) => {
            assert!(words.contains("may not create Secrets of the type `example.com/token`"), "{words}");
        }
        answer => panic!("{answer:?}"),
    }
    assert_eq!(place.attempt(OPERATOR.path, &typed("example.org/token")).await, Answer::Admitted);
}

/// The policies do not mistake a user with all rights for the operator.
#[tokio::test]
async fn a_wildcard_does_not_make_an_operator() {
    let plane = ControlPlane::shared().await.unwrap();
    let place = Place::on(plane, &alone(&OPERATOR, "Deny")).await;
    place.grant("", &["secrets"], &["create"]).await;
    place.grant("servicekeys.dev", &["secrets"], &["operate"]).await;
    place.until_not_admitted(OPERATOR.path, &plain_secret()).await;
    place.grant("*", &["*"], &["*"]).await;
    assert_eq!(place.attempt(OPERATOR.path, &plain_secret()).await, Answer::Admitted);
}

/// The preset for clusters whose tenants don't trust each other enables every policy.
#[tokio::test]
async fn the_hardened_preset_denies_by_every_policy() {
    let objects = render_with(&["values-hardened"]).await;
    let of_kind = |kind: &str| {
        let objects = objects.iter().filter(|object| object.types.as_ref().unwrap().kind == kind);
        objects.collect::<Vec<_>>()
    };
    let bindings = of_kind("ValidatingAdmissionPolicyBinding");
    assert_eq!((bindings.len(), of_kind("ValidatingAdmissionPolicy").len()), (10, 10));
    for binding in bindings {
        assert_eq!(binding.data["spec"]["validationActions"], json!(["Deny"]));
    }
}

/// The policies cover every reference to a Secret in the definitions.
#[tokio::test]
async fn no_reference_to_a_secret_is_forgotten() {
    let rendered = template(&["--show-only", "templates/policies.yaml"]).await.unwrap();
    let mut paths = BTreeSet::new();
    for definition in custom_resource_definitions() {
        let schema = serde_json::to_value(&definition.spec.versions[0].schema).unwrap();
        references(&schema["openAPIV3Schema"]["properties"]["spec"], "object.spec", &mut paths);
    }
    assert!(paths.len() >= 9, "{paths:?}");
    for path in paths {
        assert!(rendered.contains(&path), "no policy covers `{path}`");
    }
}

/// The paths of all references below a schema, in the notation of the policies.
fn references(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        match name.as_str() {
            "secretRef" => drop(found.insert(format!("{path}.?secretRef.?name"))),
            "secretKeyRef" => drop(found.insert(format!("{path}.secretKeyRef.name"))),
            _ => references(property, &format!("{path}.?{name}"), found),
        }
    }
    if let Some(items) = schema.get("items") {
        references(items, &format!("{path}.orValue([]).map(source, source"), found);
    }
}
