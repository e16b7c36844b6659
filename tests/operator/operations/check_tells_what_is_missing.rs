//! `servicekey-operator check` finds, before the operator runs, what would prevent it from working.

use std::{path::Path, process::Output};

use k8s_openapi::{
    api::rbac::v1::{ClusterRole, PolicyRule},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ObjectMeta, PostParams},
};
use servicekey_operator::api::{ClusterKeyProvider, custom_resource_definitions};
use testkit::control_plane::{ControlPlane, User};
use tokio::process::Command;

use crate::support::stage::wait;

async fn check(plane: &ControlPlane, user: &User, flags: &[&str]) -> Output {
    check_by(&plane.kubeconfig_for(user).unwrap(), flags).await
}

async fn check_by(kubeconfig: &Path, flags: &[&str]) -> Output {
    let check = Command::new(env!("CARGO_BIN_EXE_servicekey-operator"))
        .arg("check")
        .args(flags)
        .env("KUBECONFIG", kubeconfig)
        .kill_on_drop(true)
        .output();
    check.await.unwrap()
}

/// The printed lines without the first one, which contains an address.
fn told(output: &Output) -> Vec<String> {
    let printed = String::from_utf8(output.stdout.clone()).unwrap();
    let (first, rest) = printed.split_once('\n').unwrap_or_else(|| panic!("{output:?}"));
    assert!(first.starts_with("ok      the API server at `https://127.0.0.1:"), "{first}");
    assert!(first.ends_with(" answers: Kubernetes v1.36.2"), "{first}");
    rest.lines().map(str::to_owned).collect()
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(owned(resources)),
        verbs: owned(verbs),
        ..PolicyRule::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_well_where_the_operator_could_run() {
    // Providers of other tests would add notes.
    let plane = &ControlPlane::builder().start().await.unwrap();
    plane.install_crds(&custom_resource_definitions()).await.unwrap();
    let user = plane.new_user().unwrap();
    plane.grant_cluster_admin(&user).await.unwrap();
    let output = check(plane, &user, &["--leader-elect"]).await;
    assert_eq!(
        told(&output),
        [
            "ok      `ServiceKey` is installed with the schema of this version",
            "ok      `KeyProvider` is installed with the schema of this version",
            "ok      `ClusterKeyProvider` is installed with the schema of this version",
            &format!("ok      `{}` has all 27 permissions that the operator needs", user.name),
        ]
    );
    assert_eq!(output.status.code(), Some(0));
    let asked = plane.audit().requests(&user).unwrap();
    let changes = asked.writes().only(|request| !request.resource.starts_with("selfsubject"));
    assert!(changes.is_empty(), "`check` changed something:\n{changes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_right_that_is_missing_is_named() {
    let plane = ControlPlane::shared().await.unwrap();
    plane.install_crds(&custom_resource_definitions()).await.unwrap();
    let namespace = plane.namespace("check").await.unwrap();
    let user = plane.new_user().unwrap();
    let role = ClusterRole {
        metadata: ObjectMeta { name: Some(format!("{namespace}-some")), ..ObjectMeta::default() },
        rules: Some(vec![
            rule("servicekeys.dev", &["servicekeys", "keyproviders"], &["list", "watch", "patch"]),
            rule("servicekeys.dev", &["servicekeys/status"], &["update"]),
            rule("", &["secrets"], &["get", "list", "watch", "update", "patch", "delete"]),
            rule("servicekeys.dev", &["secrets"], &["mark"]),
            rule("events.k8s.io", &["events"], &["create", "patch"]),
        ]),
        ..ClusterRole::default()
    };
    Api::<ClusterRole>::all(plane.admin()).create(&PostParams::default(), &role).await.unwrap();
    plane.grant_in(&namespace, &user, &role.name_any()).await.unwrap();

    let output = check(plane, &user, &["--namespaces", &namespace]).await;
    let missing = |right: &str| {
        let User { name, .. } = &user;
        format!(
            "failed  `{name}` may not {right} in the namespace `{namespace}`; bind the operator's role to it"
        )
    };
    assert_eq!(
        told(&output)[3..],
        [missing("update `keyproviders/status.servicekeys.dev`"), missing("create `secrets`")]
    );
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "error: 2 checks failed\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_that_are_missing_or_older_are_told() {
    let plane = ControlPlane::builder().start().await.unwrap();
    let admin = plane.admin_user().clone();
    let output = check(&plane, &admin, &[]).await;
    let told_now = told(&output);
    assert_eq!(
        told_now[0],
        "failed  the custom resources are not installed; apply the output of `servicekey-operator crds`"
    );
    assert_eq!(output.status.code(), Some(1));

    let mut older = custom_resource_definitions();
    let definition = older.iter_mut().find(|definition| definition.spec.names.kind == "ServiceKey").unwrap();
    let schema = definition.spec.versions[0].schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap();
    let spec = schema.properties.as_mut().unwrap().get_mut("spec").unwrap();
    spec.properties.as_mut().unwrap().remove("suspend").unwrap();
    plane.install_crds(&older).await.unwrap();
    until_told(&plane, &admin, "`ServiceKey` is installed from another version, without `spec.suspend`")
        .await;

    let definitions: Api<CustomResourceDefinition> = Api::all(plane.admin());
    definitions.delete("keyproviders.servicekeys.dev", &DeleteParams::default()).await.unwrap();
    wait(definitions, "keyproviders.servicekeys.dev", "gone", |definition| definition.is_none()).await;
    until_told(&plane, &admin, "`KeyProvider` is not installed").await;
    plane.stop().await;
}

/// Repeats the check until it reports this failure, because the API server publishes new definitions with a delay.
async fn until_told(plane: &ControlPlane, user: &User, what: &str) {
    let told_in_the_end = tokio::time::timeout(crate::support::stage::PATIENCE, async {
        while !told(&check(plane, user, &[]).await)
            .iter()
            .any(|line| line.starts_with(&format!("failed  {what}")))
        {}
    });
    told_in_the_end.await.unwrap_or_else(|_| panic!("`check` never reports `{what}`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_does_not_answer_is_named() {
    let plane = ControlPlane::builder().start().await.unwrap();
    let kubeconfig = std::fs::read_to_string(plane.kubeconfig_for(plane.admin_user()).unwrap()).unwrap();
    let url = plane.url();
    plane.stop().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), kubeconfig).unwrap();
    let output = check_by(file.path(), &[]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with(&format!("error: the API server at `{url}/` does not answer: ")), "{said}");
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_api_server_is_told_in_its_own_words() {
    let plane = ControlPlane::shared().await.unwrap();
    let user = plane.new_user().unwrap();
    let kubeconfig = std::fs::read_to_string(plane.kubeconfig_for(&user).unwrap()).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), kubeconfig.replace(&user.token, "expired")).unwrap();
    let output = check_by(file.path(), &[]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.ends_with(" does not answer: Unauthorized (status 401)\n"), "{said}");
}

/// The chart projects a token only if a value requests it.
#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_profile_without_a_token_is_noted() {
    let plane = ControlPlane::builder().start().await.unwrap();
    plane.install_crds(&custom_resource_definitions()).await.unwrap();
    let user = plane.new_user().unwrap();
    plane.grant_cluster_admin(&user).await.unwrap();
    let provider = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "ibm-profile"},
        "spec": {"ibmCloud": {"auth": {"trustedProfile": {"name": "servicekey-operator"}}}},
    }));
    let providers: Api<ClusterKeyProvider> = Api::all(plane.admin());
    providers.create(&PostParams::default(), &provider.unwrap()).await.unwrap();

    let output = check(&plane, &user, &["--service-account-token", "/nowhere/sa-token"]).await;
    let note = told(&output).pop().unwrap();
    let said = "note    ClusterKeyProvider `ibm-profile` logs in with a trusted profile, but there is no service \
                account token in `/nowhere/sa-token`; ";
    assert!(note.starts_with(said), "{note}");
    assert!(note.contains("`ibmCloud.trustedProfiles.enabled: true`"), "{note}");
    assert_eq!(output.status.code(), Some(0));

    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let output = check(&plane, &user, &["--service-account-token", path]).await;
    assert_eq!(
        told(&output).pop().unwrap(),
        format!("ok      the token for trusted profiles is in `{path}`")
    );
}
