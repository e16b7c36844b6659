//! The behaviour of the control plane that the operator's tests rely on.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and reports to another process by printing"
)]

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace, Secret},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, ObjectMeta, PostParams},
    runtime::{
        WatchStreamExt as _,
        wait::{await_condition, conditions::is_deleted},
        watcher,
    },
};
use serde_json::json;
use testkit::control_plane::{ControlPlane, Request};

const PATIENCE: Duration = Duration::from_secs(60);

fn config_map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        ..ConfigMap::default()
    }
}

async fn create(client: Client, namespace: &str, name: &str) -> kube::Result<ConfigMap> {
    Api::namespaced(client, namespace).create(&PostParams::default(), &config_map(name)).await
}

fn is_forbidden<T>(result: &kube::Result<T>) -> bool {
    matches!(result, Err(kube::Error::Api(status)) if status.code == 403)
}

#[tokio::test]
async fn a_plane_of_ones_own_starts_answers_and_leaves_nothing() {
    let plane = ControlPlane::builder().start().await.unwrap();
    let version = plane.admin().apiserver_version().await.unwrap();
    assert_eq!((version.major.as_str(), version.minor.as_str()), ("1", "36"));

    let kubeconfig = plane.kubeconfig_for(plane.admin_user()).unwrap();
    let folder = kubeconfig.parent().unwrap().to_owned();
    assert!(!processes_of(&folder).is_empty());
    plane.stop().await;
    assert!(!folder.exists());
    assert_eq!(processes_of(&folder), Vec::<String>::new());
}

#[tokio::test]
async fn a_kubeconfig_opens_the_plane_to_other_processes() {
    let plane = ControlPlane::shared().await.unwrap();
    let user = plane.new_user().unwrap();
    let path = plane.kubeconfig_for(&user).unwrap();
    let kubeconfig = kube::config::Kubeconfig::read_from(path).unwrap();
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    assert!(!config.accept_invalid_certs);
    let client = Client::try_from(config).unwrap();
    client.apiserver_version().await.unwrap();
    assert_eq!(plane.audit().requests(&user).unwrap().len(), 1);
}

#[tokio::test]
async fn a_user_may_do_only_what_was_granted() {
    let plane = ControlPlane::shared().await.unwrap();
    let [here, there] = [plane.namespace("here").await.unwrap(), plane.namespace("there").await.unwrap()];
    let [user, other] = [plane.new_user().unwrap(), plane.new_user().unwrap()];
    let denied = create(plane.client_as(&user), &here, "denied").await;
    assert!(is_forbidden(&denied), "{denied:?}");

    plane.grant_in(&here, &user, "edit").await.unwrap();
    create(plane.client_as(&user), &here, "allowed").await.unwrap();
    let elsewhere = create(plane.client_as(&user), &there, "denied").await;
    assert!(is_forbidden(&elsewhere), "{elsewhere:?}");

    plane.grant_cluster_admin(&user).await.unwrap();
    create(plane.client_as(&user), &there, "allowed").await.unwrap();
    let others = create(plane.client_as(&other), &here, "denied").await;
    assert!(is_forbidden(&others), "{others:?}");
}

#[tokio::test]
async fn a_grant_of_a_role_that_does_not_exist_is_an_error() {
    let plane = ControlPlane::shared().await.unwrap();
    let user = plane.new_user().unwrap();
    let error = plane.grant(&user, "no-such-role").await.unwrap_err();
    assert!(error.to_string().contains("no-such-role"));
}

#[tokio::test]
async fn each_answered_request_is_in_the_audit_log_at_once() {
    let plane = ControlPlane::shared().await.unwrap();
    let namespace = plane.namespace("audit").await.unwrap();
    let user = plane.new_user().unwrap();
    plane.grant_cluster_admin(&user).await.unwrap();
    assert!(plane.audit().requests(&user).unwrap().is_empty());

    let api: Api<ConfigMap> = Api::namespaced(plane.client_as(&user), &namespace);
    for number in 1..=100 {
        let mut object = config_map(&format!("object-{number}"));
        // Some answers are larger than the server's buffer.
        let value = "x".repeat(number * 1000);
        object.data = Some(BTreeMap::from([("key".to_owned(), value)]));
        api.create(&PostParams::default(), &object).await.unwrap();
        let requests = plane.audit().requests(&user).unwrap();
        assert_eq!(requests.len(), number, "{requests}");
    }
    api.get("object-1").await.unwrap();
    api.get_opt("absent").await.unwrap();
    api.list(&ListParams::default()).await.unwrap();
    api.delete("object-1", &DeleteParams::default()).await.unwrap();

    let requests = plane.audit().requests(&user).unwrap();
    assert_eq!(requests.clone().writes().len(), 101);
    assert_eq!(requests.clone().reads().len(), 3);
    let codes: Vec<_> = requests[100..].iter().map(|request| request.code).collect();
    assert_eq!(codes, [Some(200), Some(404), Some(200), Some(200)]);
    let first = &requests[0];
    assert_eq!(
        (first.verb.as_str(), first.resource.as_str(), &first.namespace),
        ("create", "configmaps", &namespace)
    );
    assert_eq!(first.name, "object-1");
    assert_eq!(first.stage, "ResponseComplete");
}

#[tokio::test]
async fn the_requests_of_a_watch_are_told_from_others() {
    let plane = ControlPlane::shared().await.unwrap();
    let namespace = plane.namespace("watch").await.unwrap();
    for (configuration, lists) in
        [(watcher::Config::default(), 1), (watcher::Config::default().streaming_lists(), 0)]
    {
        let user = plane.new_user().unwrap();
        plane.grant_cluster_admin(&user).await.unwrap();
        let api: Api<ConfigMap> = Api::namespaced(plane.client_as(&user), &namespace);
        let mut seen = watcher(api.clone(), configuration).applied_objects().boxed();
        let name = user.name.clone();
        create(plane.admin(), &namespace, &name).await.unwrap();
        while seen.next().await.unwrap().unwrap().name_any() != name {}
        // The watch is open only after its first event.
        let after = format!("{name}-after");
        create(plane.admin(), &namespace, &after).await.unwrap();
        while seen.next().await.unwrap().unwrap().name_any() != after {}
        api.get(&name).await.unwrap();

        let requests = plane.audit().requests(&user).unwrap();
        let count = |keep: fn(&Request) -> bool| requests.clone().only(keep).len();
        assert_eq!(count(Request::is_watch), 1, "{requests}");
        assert_eq!(count(Request::is_streaming_list), 1 - lists, "{requests}");
        assert_eq!(count(|request| request.verb == "list"), lists, "{requests}");
        let own = requests.besides_watches_and_events();
        assert_eq!(own.len(), 1, "{own}");
        assert_eq!(own[0].verb, "get");
    }
}

#[tokio::test]
async fn a_deleted_namespace_goes_with_all_that_is_in_it() {
    let plane = ControlPlane::shared().await.unwrap();
    let name = plane.namespace("doomed").await.unwrap();
    let object = create(plane.admin(), &name, "inside").await.unwrap();
    let namespaces: Api<Namespace> = Api::all(plane.admin());
    let uid = namespaces.get(&name).await.unwrap().uid().unwrap();
    namespaces.delete(&name, &DeleteParams::default()).await.unwrap();
    let gone = await_condition(namespaces, &name, is_deleted(&uid));
    tokio::time::timeout(PATIENCE, gone).await.unwrap().unwrap();
    let api: Api<ConfigMap> = Api::namespaced(plane.admin(), &name);
    assert!(api.get_opt(&object.name_any()).await.unwrap().is_none());
}

#[tokio::test]
async fn an_outage_of_the_api_server_loses_nothing_that_was_answered() {
    let plane = ControlPlane::builder().start().await.unwrap();
    let user = plane.new_user().unwrap();
    plane.grant_cluster_admin(&user).await.unwrap();
    let client = plane.client_as(&user);
    create(client.clone(), "default", "before").await.unwrap();

    plane.kill_api_server().await;
    let during = create(client.clone(), "default", "during").await;
    assert!(!matches!(during, Ok(_) | Err(kube::Error::Api(_))), "{during:?}");

    plane.start_api_server().await.unwrap();
    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    let names = api.list(&ListParams::default()).await.unwrap();
    assert!(names.iter().any(|object| object.name_any() == "before"));
    let requests = plane.audit().requests(&user).unwrap();
    let verbs: Vec<_> = requests.iter().map(|request| request.verb.as_str()).collect();
    assert_eq!(verbs, ["create", "list"]);
}

/// The garbage collector finds new resources only every 30 s, unless it is restarted.
#[tokio::test]
async fn what_a_custom_resource_owns_is_collected_soon_after_it() {
    let plane = ControlPlane::shared().await.unwrap();
    let definition: CustomResourceDefinition = serde_json::from_value(json!({
        "metadata": {"name": "owners.testkit.example.com"},
        "spec": {
            "group": "testkit.example.com", "scope": "Namespaced",
            "names": {"plural": "owners", "singular": "owner", "kind": "Owner"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    }))
    .unwrap();
    plane.install_crds(std::slice::from_ref(&definition)).await.unwrap();
    let again = Instant::now();
    plane.install_crds(&[definition]).await.unwrap();
    assert!(again.elapsed() < Duration::from_secs(5));

    let namespace = plane.namespace("garbage").await.unwrap();
    let kind = GroupVersionKind::gvk("testkit.example.com", "v1", "Owner");
    let resource = ApiResource::from_gvk_with_plural(&kind, "owners");
    let owners: Api<DynamicObject> = Api::namespaced_with(plane.admin(), &namespace, &resource);
    let owner = owners.create(&PostParams::default(), &DynamicObject::new("owner", &resource)).await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(plane.admin(), &namespace);
    let owned = Secret {
        metadata: ObjectMeta {
            name: Some("owned".into()),
            owner_references: Some(vec![OwnerReference {
                api_version: "testkit.example.com/v1".into(),
                kind: "Owner".into(),
                name: "owner".into(),
                uid: owner.uid().unwrap(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        ..Secret::default()
    };
    let uid = secrets.create(&PostParams::default(), &owned).await.unwrap().uid().unwrap();
    owners.delete("owner", &DeleteParams::default()).await.unwrap();
    let collected = await_condition(secrets, "owned", is_deleted(&uid));
    tokio::time::timeout(Duration::from_secs(20), collected).await.unwrap().unwrap();
}

/// Not a test: the process that the test below kills.
#[tokio::test]
#[ignore = "runs a plane until it is killed"]
async fn hold_a_plane() {
    let plane = ControlPlane::shared().await.unwrap();
    let kubeconfig = plane.kubeconfig_for(plane.admin_user()).unwrap();
    println!("\nholding {}", kubeconfig.parent().unwrap().display());
    std::future::pending::<()>().await;
}

#[test]
fn a_killed_process_leaves_no_servers_and_no_folder() {
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "hold_a_plane", "--nocapture"])
        .env_remove("TESTKIT_KEEP")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let folder = BufReader::new(holder.stdout.take().unwrap())
        .lines()
        .find_map(|line| line.unwrap().strip_prefix("holding ").map(str::to_owned))
        .expect("the holder started a plane");
    let folder = Path::new(&folder);
    let servers = processes_of(folder);
    for server in ["etcd", "kube-apiserver", "kube-controller-manager"] {
        assert!(servers.iter().any(|line| line.contains(server)), "{server}");
    }

    holder.kill().unwrap();
    holder.wait().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !processes_of(folder).is_empty() || folder.exists() {
        assert!(Instant::now() < deadline, "left: {:?}", processes_of(folder));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The command lines of all processes that name the folder.
fn processes_of(folder: &Path) -> Vec<String> {
    let output = Command::new("ps")
        .args(["-A", "-ww", "-o", "args="])
        .output()
        .expect("`ps` runs; on Debian install it with `apt-get install procps`");
    let folder = folder.to_str().unwrap();
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| line.contains(folder))
        .map(str::to_owned)
        .collect()
}
