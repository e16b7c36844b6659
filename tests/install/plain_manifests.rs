//! The definitions in the chart equal those in `crds/`, and the manifests in `deploy/kustomize/` equal those of the
//! chart.

use std::{collections::BTreeMap, fs, path::Path};

use kube::api::DynamicObject;
use rstest::rstest;
use serde_json::{Value, json};
use testkit::{control_plane::documents, go_tool::GoTool};

use crate::chart::{NAMESPACE, folder, path, render, template, title, values};

const REGENERATE: &str = "UPDATE_MANIFESTS=1 cargo test --test install are_generated";

/// The content of each generated file: the templates, and the values of one kind of installation.
const FILES: [(&str, &[&str], &[&str]); 11] = [
    ("crds/crds.yaml", &["crds"], CLUSTER),
    ("crds/user-roles.yaml", &["user-roles"], CLUSTER),
    ("crds/policies.yaml", &["policies"], CLUSTER),
    ("provider-use/policies.yaml", &["policies"], PROVIDER_USE),
    ("restarts/rbac.yaml", &["restarts"], &["--set", "restarts.enabled=true"]),
    ("consumers/rbac.yaml", &["consumers"], &["--set", "consumers.enabled=true"]),
    ("cluster/rbac.yaml", &["serviceaccount", "roles"], CLUSTER),
    ("cluster/operator.yaml", &["deployment", "service", "networkpolicy"], CLUSTER),
    ("namespaced/rbac.yaml", &["serviceaccount", "roles"], NAMESPACED),
    ("namespaced/operator.yaml", &["deployment", "service", "networkpolicy"], NAMESPACED),
    ("ha/poddisruptionbudget.yaml", &["poddisruptionbudget"], &["--set", "podDisruptionBudget.enabled=true"]),
];
const CLUSTER: &[&str] = &[];
const NAMESPACED: &[&str] = &[
    "--set",
    "namespaces={servicekeys-system},crds.install=false,rbac.aggregateToUserRoles=false,policies.install=false",
];
const PROVIDER_USE: &[&str] = &[
    "--set",
    "policies.secretReferences=Off,policies.secretMarks=Off,policies.operatorWrites=Off,policies.workloadRestarts=Off,policies.providerUse=Deny",
];

#[tokio::test]
async fn are_generated_from_the_chart() {
    for definition in fs::read_dir(path("crds")).unwrap().map(|entry| entry.unwrap()) {
        let text = fs::read_to_string(definition.path()).unwrap();
        check(&folder().join("files/crds").join(definition.file_name()), &text, "crds/");
    }
    for (file, templates, values) in FILES {
        let templates: Vec<_> = templates.iter().map(|name| format!("templates/{name}.yaml")).collect();
        let shown = templates.iter().flat_map(|name| ["--show-only", name]);
        let rendered = template(&shown.chain(values.iter().copied()).collect::<Vec<_>>()).await.unwrap();
        check(&path("deploy/kustomize").join(file), &plain(&rendered), "the chart");
    }
}

/// Fails unless the file contains this text. If an update is requested, writes the text into it instead.
fn check(file: &Path, text: &str, source: &str) {
    if std::env::var_os("UPDATE_MANIFESTS").is_some() {
        fs::write(file, text).unwrap();
    }
    let there = fs::read_to_string(file).unwrap_or_default();
    assert!(there == text, "`{}` differs from {source}; run `{REGENERATE}`", file.display());
}

/// The manifests without what only Helm understands.
fn plain(rendered: &str) -> String {
    let rendered = rendered.replace("  annotations:\n    helm.sh/resource-policy: keep\n", "");
    let of_helm = |line: &&str| line.starts_with("# Source: ") || line.ends_with("managed-by: Helm");
    let lines = rendered.lines().filter(|line| !of_helm(line)).map(str::trim_end);
    let mut text = format!("# Generated from the chart: `{REGENERATE}`; change that instead.\n");
    let mut blank = false;
    for line in lines {
        // Helm leaves empty lines between documents.
        if blank && !line.is_empty() && line != "---" {
            text.push('\n');
        }
        blank = line.is_empty();
        if !blank {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[rstest]
#[case("cluster", CLUSTER)]
#[case("namespaced", NAMESPACED)]
#[case("ha", &["--values", "values-ha"])]
#[case("trusted-profiles", &["--set", "ibmCloud.trustedProfiles.enabled=true"])]
#[tokio::test]
async fn are_what_kustomize_builds_of_them(#[case] kind: &str, #[case] arguments: &[&str]) {
    let place = path("deploy/kustomize").join(kind);
    let built = GoTool::kustomize().await.unwrap().run(["build".as_ref(), place.as_os_str()]).await.unwrap();
    let mut built = comparable(documents(&built).unwrap());
    // Helm creates the namespace itself, with `--create-namespace`.
    assert!(built.remove(&format!("Namespace/{NAMESPACE}")).is_some());

    let ha = values("values-ha").display().to_string();
    let arguments: Vec<_> =
        arguments.iter().map(|word| if *word == "values-ha" { ha.as_str() } else { word }).collect();
    let rendered = comparable(render(&arguments).await);
    assert_eq!(built.keys().collect::<Vec<_>>(), rendered.keys().collect::<Vec<_>>());
    for (title, object) in rendered {
        // `assert_eq` would print whole definitions.
        assert!(built[&title] == object, "{title} differs in `deploy/kustomize/{kind}`");
    }
}

/// The objects by title, without what only Helm understands.
fn comparable(objects: Vec<DynamicObject>) -> BTreeMap<String, Value> {
    let plain = |mut object: DynamicObject| {
        let metadata = &mut object.metadata;
        metadata.labels.iter_mut().for_each(|labels| drop(labels.remove("app.kubernetes.io/managed-by")));
        metadata.annotations.iter_mut().for_each(|them| drop(them.remove("helm.sh/resource-policy")));
        metadata.annotations.take_if(|annotations| annotations.is_empty());
        let template = object.data.pointer_mut("/spec/template/metadata/labels");
        template.and_then(Value::as_object_mut).map(|labels| labels.remove("app.kubernetes.io/managed-by"));
        let title = title(&object);
        (title, with_floats(serde_json::to_value(object).unwrap()))
    };
    let count = objects.len();
    let objects: BTreeMap<_, _> = objects.into_iter().map(plain).collect();
    assert_eq!(objects.len(), count, "two objects have the same kind and name");
    objects
}

/// The value with every number as a float, because kustomize writes `1.0` as `1`.
fn with_floats(value: Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.into_iter().map(with_floats).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, with_floats(value))).collect(),
        other => other,
    }
}
