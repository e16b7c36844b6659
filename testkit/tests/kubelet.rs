//! Workloads on the real control plane, with the kubelet of the test kit: which version of a Secret their processes
//! have, and when.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and a container reports by printing"
)]

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{ContainerStatus, Pod, Secret},
};
use kube::{
    Api, Resource, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::wait::{Condition, await_condition, conditions::is_deleted},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use testkit::{
    control_plane::ControlPlane,
    kubelet::{Builder, ContainerStart, Kubelet},
    postgres::Postgres,
};
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client as Database, Config, NoTls, error::SqlState};

const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);
/// A program that runs until it is ended.
const RUN: &str = "exec sleep 600";

/// A namespace with a kubelet.
struct Stage {
    client: kube::Client,
    namespace: String,
    kubelet: Kubelet,
}

impl Stage {
    async fn set() -> Self {
        Self::set_with(|builder| builder).await
    }

    /// A stage whose kubelet has other options.
    async fn set_with(options: impl FnOnce(Builder) -> Builder) -> Self {
        let plane = ControlPlane::shared().await.unwrap();
        let namespace = plane.namespace("kubelet").await.unwrap();
        let client = plane.admin();
        let kubelet = options(Kubelet::builder(client.clone(), &namespace)).start().await.unwrap();
        Self { client, namespace, kubelet }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope>,
        K: Clone + std::fmt::Debug + Serialize + DeserializeOwned,
        K::DynamicType: Default,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.api::<K>().create(&PostParams::default(), &object).await.unwrap()
    }

    /// Creates or changes the Secret `creds`, and returns its resourceVersion.
    async fn secret(&self, entries: Value) -> String {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "creds"}, "stringData": entries});
        let apply = PatchParams::apply("test").force();
        let applied = self.api::<Secret>().patch("creds", &apply, &Patch::Apply(secret)).await.unwrap();
        applied.resource_version().unwrap()
    }

    /// Creates the pod `pod`, which restarts its containers.
    async fn pod(&self, containers: Value) -> Pod {
        self.create(json!({"metadata": {"name": "pod"}, "spec": {"containers": containers}})).await
    }

    async fn wait<K>(&self, name: &str, condition: impl Condition<K>) -> Option<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope>,
        K: Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
        K::DynamicType: Default,
    {
        timeout(PATIENCE, await_condition(self.api::<K>(), name, condition)).await.unwrap().unwrap()
    }

    /// Waits until the first container of the pod `pod` is as described.
    async fn wait_container(&self, is: impl Fn(&ContainerStatus) -> bool) -> ContainerStatus {
        let pod = self.wait("pod", |pod: Option<&Pod>| pod.and_then(first).is_some_and(&is)).await;
        pod.as_ref().and_then(first).unwrap().clone()
    }

    async fn wait_phase(&self, phase: &str) -> Pod {
        let is_phase = |pod: Option<&Pod>| {
            pod.and_then(|pod| pod.status.as_ref()?.phase.as_deref()).is_some_and(|now| now == phase)
        };
        self.wait("pod", is_phase).await.unwrap()
    }

    /// Waits until the kubelet has recorded something, or a process has written it.
    async fn until(&self, what: &str, mut holds: impl FnMut(&Kubelet) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(&self.kubelet) {
            assert!(Instant::now() < deadline, "not {what}; starts: {:#?}", self.kubelet.starts());
            sleep(PAUSE).await;
        }
    }

    /// Waits for the start of this number in the kubelet's records, from 0.
    async fn start(&self, number: usize) -> ContainerStart {
        self.until("started", |kubelet| kubelet.starts().len() > number).await;
        self.kubelet.starts().swap_remove(number)
    }

    /// Creates the Deployment `app` with two pods, and waits until they are available.
    async fn deploy(&self, container: Value) {
        let labels = json!({"app": "app"});
        let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [container]}});
        let spec = json!({"replicas": 2, "selector": {"matchLabels": labels}, "template": template});
        self.create::<Deployment>(json!({"metadata": {"name": "app"}, "spec": spec})).await;
        self.wait("app", is_rolled_out).await;
    }

    /// Changes the template of the Deployment `app`, and waits until only new pods run.
    async fn roll(&self) {
        let earlier = self.kubelet.starts();
        let template = json!({"metadata": {"annotations": {"rolled": "yes"}}});
        let patch = Patch::Merge(json!({"spec": {"template": template}}));
        self.api::<Deployment>().patch("app", &PatchParams::default(), &patch).await.unwrap();
        self.wait("app", is_rolled_out).await;
        let is_earlier = |pod: &str| earlier.iter().any(|start| start.pod == pod);
        self.until("rolled", |kubelet| kubelet.running().iter().all(|start| !is_earlier(&start.pod))).await;
    }
}

fn first(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

fn is_waiting(status: &ContainerStatus, reason: &str, message: &str) -> bool {
    let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
    waiting.is_some_and(|waiting| {
        waiting.reason.as_deref() == Some(reason) && waiting.message.as_deref() == Some(message)
    })
}

fn is_running(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|state| state.running.is_some())
}

fn is_rolled_out(deployment: Option<&Deployment>) -> bool {
    let Some(deployment) = deployment else { return false };
    let status = deployment.status.clone().unwrap_or_default();
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
    status.observed_generation == deployment.metadata.generation
        && [status.updated_replicas, status.available_replicas, status.replicas] == [wanted; 3]
}

/// A container that runs this script. It has the variable `PASSWORD`, from the Secret.
fn sh(script: &str) -> Value {
    let password = json!({"secretKeyRef": {"name": "creds", "key": "password"}});
    json!({
        "name": "main", "image": "program", "command": ["/bin/sh", "-c", script],
        "env": [{"name": "PASSWORD", "valueFrom": password}], "resources": {"requests": {"cpu": "10m"}},
    })
}

fn kill(process: u32) {
    assert!(Command::new("kill").arg(process.to_string()).status().unwrap().success());
}

fn runs(process: u32) -> bool {
    let output = Command::new("ps")
        .args(["-o", "stat=", "-p", &process.to_string()])
        .output()
        .expect("`ps` runs; on Debian install it with `apt-get install procps`");
    let state = String::from_utf8(output.stdout).unwrap();
    !state.trim().is_empty() && !state.trim().starts_with('Z')
}

fn read(folder: &Path, file: &str) -> String {
    fs::read_to_string(folder.join(file)).unwrap()
}

#[tokio::test]
async fn only_the_pods_of_a_new_template_have_the_new_secret() {
    let stage = Stage::set().await;
    let old = stage.secret(json!({"password": "old"})).await;
    stage.deploy(sh(&format!("echo $PASSWORD; {RUN}"))).await;
    let new = stage.secret(json!({"password": "new"})).await;
    stage.roll().await;

    let starts = stage.kubelet.starts();
    let versions: Vec<_> = starts.iter().map(|start| start.secrets["creds"].as_str()).collect();
    assert_eq!(versions, [&old, &old, &new, &new]);
    for (start, printed) in starts.iter().zip(["old\n", "old\n", "new\n", "new\n"]) {
        assert_eq!(stage.kubelet.log(&start.pod, "main"), printed);
    }
    assert_eq!(stage.kubelet.running().len(), 2);
}

#[tokio::test]
async fn a_restart_in_a_pod_reads_the_environment_again_at_the_time_of_the_clock() {
    let seconds = Arc::new(AtomicI64::new(0));
    let passed = Arc::clone(&seconds);
    let began: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    let now = move || began + SignedDuration::from_secs(passed.load(Ordering::SeqCst));
    let stage = Stage::set_with(|builder| builder.clock(now)).await;
    let old = stage.secret(json!({"password": "old"})).await;
    stage.pod(json!([sh(RUN)])).await;
    let first = stage.start(0).await;
    let new = stage.secret(json!({"password": "new"})).await;
    seconds.store(7200, Ordering::SeqCst);
    kill(first.process);

    let second = stage.start(1).await;
    assert_eq!((&first.secrets["creds"], &second.secrets["creds"]), (&old, &new));
    assert_eq!((first.restarts, second.restarts), (0, 1));
    assert_eq!((first.at, second.at), (began, began + SignedDuration::from_hours(2)));
    let status = stage.wait_container(|status| status.restart_count == 1 && is_running(status)).await;
    assert_eq!(status.state.unwrap().running.unwrap().started_at.unwrap().0, second.at);
    let last = status.last_state.unwrap().terminated.unwrap();
    assert_eq!((last.exit_code, last.started_at.unwrap().0), (128 + 15, first.at));
    assert!(status.ready);
}

#[tokio::test]
async fn a_volume_changes_late_and_without_a_restart_and_a_sub_path_only_with_one() {
    const DELAY: Duration = Duration::from_secs(1);
    let stage = Stage::set_with(|builder| builder.volume_delay(DELAY)).await;
    let old = stage.secret(json!({"password": "old", "user": "app"})).await;
    let mut container = sh(RUN);
    container["volumeMounts"] = json!([
        {"name": "creds", "mountPath": "/etc/creds"},
        {"name": "creds", "mountPath": "/etc/password", "subPath": "password"},
        {"name": "projected", "mountPath": "/etc/projected"},
    ]);
    let items = json!([{"key": "password", "path": "nested/secret"}]);
    let absent = json!({"secret": {"name": "absent", "optional": true}});
    let volumes = json!([
        {"name": "creds", "secret": {"secretName": "creds"}},
        {"name": "projected", "projected": {"sources": [{"secret": {"name": "creds", "items": items}}, absent]}},
    ]);
    let spec = json!({"containers": [container], "volumes": volumes});
    stage.create::<Pod>(json!({"metadata": {"name": "pod"}, "spec": spec})).await;
    let ContainerStart { root, process, sub_paths, .. } = stage.start(0).await;
    let passwords = |root: &Path| {
        ["etc/creds/password", "etc/projected/nested/secret", "etc/password"].map(|file| read(root, file))
    };
    assert_eq!(passwords(&root), ["old"; 3]);
    assert_eq!(read(&root, "etc/creds/user"), "app");
    assert_eq!(sub_paths["creds"], old);

    let began = Instant::now();
    let new = stage.secret(json!({"password": "new", "user": "app"})).await;
    stage.until("changed", |_| passwords(&root) == ["new", "new", "old"]).await;
    assert!(began.elapsed() >= DELAY);
    assert_eq!(stage.kubelet.starts().len(), 1);

    kill(process);
    let second = stage.start(1).await;
    assert_eq!(passwords(&second.root), ["new"; 3]);
    assert_eq!(second.sub_paths["creds"], new);
}

#[tokio::test]
async fn init_containers_run_in_order_until_each_has_succeeded() {
    let stage = Stage::set().await;
    let container = |name: &str, script: &str| {
        let mount = json!([{"name": "work", "mountPath": "/work"}]);
        json!({"name": name, "image": "program", "command": ["/bin/sh", "-c", script], "volumeMounts": mount})
    };
    let fails_once = "cd $POD_ROOT/work; echo second >>order; [ -e failed ] || { touch failed; exit 3; }";
    let spec = json!({
        "restartPolicy": "OnFailure",
        "initContainers": [
            container("first", "echo first >>$POD_ROOT/work/order"),
            container("second", fails_once),
        ],
        "containers": [container("main", "cat $POD_ROOT/work/order")],
        "volumes": [{"name": "work", "emptyDir": {}}],
    });
    stage.create::<Pod>(json!({"metadata": {"name": "pod"}, "spec": spec})).await;

    let status = stage.wait_phase("Succeeded").await.status.unwrap();
    assert_eq!(stage.kubelet.log("pod", "main"), "first\nsecond\nsecond\n");
    let order: Vec<_> = stage.kubelet.starts().into_iter().map(|start| start.container).collect();
    assert_eq!(order, ["first", "second", "second", "main"]);
    let init = status.init_container_statuses.unwrap();
    assert_eq!(init.iter().map(|status| status.restart_count).collect::<Vec<_>>(), [0, 1]);
    let failed = init[1].last_state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!(failed.exit_code, 3);
    let conditions = status.conditions.unwrap();
    let condition = |kind: &str| conditions.iter().find(|condition| condition.type_ == kind).unwrap();
    assert_eq!(condition("Initialized").status, "True");
    assert_eq!(condition("Ready").status, "False");
    assert_eq!(condition("Ready").reason.as_deref(), Some("PodCompleted"));
}

#[tokio::test]
async fn a_container_waits_for_a_missing_secret_and_a_missing_entry() {
    let stage = Stage::set().await;
    let mut container = sh(&format!("echo $PASSWORD $CREDS_user ${{OTHER-unset}}; {RUN}"));
    container["envFrom"] = json!([
        {"prefix": "CREDS_", "secretRef": {"name": "creds"}},
        {"secretRef": {"name": "absent", "optional": true}},
    ]);
    let absent = json!({"secretKeyRef": {"name": "creds", "key": "absent", "optional": true}});
    container["env"].as_array_mut().unwrap().push(json!({"name": "OTHER", "valueFrom": absent}));
    stage.pod(json!([container])).await;
    let reason = "CreateContainerConfigError";
    let missing = "secret \"creds\" not found";
    stage.wait_container(|status| is_waiting(status, reason, missing)).await;

    stage.secret(json!({"user": "app"})).await;
    let incomplete = format!("couldn't find key password in Secret {}/creds", stage.namespace);
    stage.wait_container(|status| is_waiting(status, reason, &incomplete)).await;
    assert!(stage.kubelet.starts().is_empty());

    stage.secret(json!({"user": "app", "password": "right"})).await;
    stage.wait_container(|status| status.ready).await;
    stage.until("printed", |kubelet| kubelet.log("pod", "main") == "right app unset\n").await;
    assert_eq!(stage.kubelet.starts().len(), 1);
}

#[tokio::test]
async fn a_missing_secret_of_a_volume_holds_back_the_whole_pod() {
    let stage = Stage::set().await;
    let mut container = sh(RUN);
    container["env"] = json!([]);
    container["volumeMounts"] = json!([{"name": "creds", "mountPath": "/etc/creds"}]);
    let volumes = json!([{"name": "creds", "secret": {"secretName": "creds"}}]);
    let spec = json!({"containers": [container], "volumes": volumes});
    stage.create::<Pod>(json!({"metadata": {"name": "pod"}, "spec": spec})).await;
    let missing = "volume `creds`: secret \"creds\" not found";
    stage.wait_container(|status| is_waiting(status, "ContainerCreating", missing)).await;
    assert!(stage.kubelet.starts().is_empty());
    stage.secret(json!({"password": "right"})).await;
    stage.wait_container(is_running).await;
    assert_eq!(read(&stage.start(0).await.root, "etc/creds/password"), "right");
}

#[tokio::test]
async fn a_deleted_pod_gets_sigterm_first_and_sigkill_only_when_it_stays() {
    const GRACE: Duration = Duration::from_secs(5);
    let stage = Stage::set_with(|builder| builder.longest_grace(GRACE)).await;
    stage.secret(json!({"password": "right"})).await;
    let loops = "echo up; while :; do sleep 0.05; done";
    let mut gentle = sh(&format!("trap 'echo terminated; exit 0' TERM; {loops}"));
    let mut stubborn = sh(&format!("trap 'echo ignored' TERM; {loops}"));
    gentle["name"] = json!("gentle");
    stubborn["name"] = json!("stubborn");
    let uid = stage.pod(json!([gentle, stubborn])).await.uid().unwrap();
    let containers = ["gentle", "stubborn"];
    stage
        .until("up", |kubelet| containers.iter().all(|container| kubelet.log("pod", container) == "up\n"))
        .await;
    let processes: Vec<_> = stage.kubelet.running().iter().map(|start| start.process).collect();

    let began = Instant::now();
    stage.api::<Pod>().delete("pod", &DeleteParams::default()).await.unwrap();
    stage.wait::<Pod>("pod", is_deleted(&uid)).await;

    assert!(began.elapsed() >= GRACE);
    let logs = containers.map(|container| stage.kubelet.log("pod", container));
    assert_eq!(logs, ["up\nterminated\n", "up\nignored\n"]);
    assert!(stage.kubelet.running().is_empty());
    assert!(!processes.into_iter().any(runs));
}

#[tokio::test]
async fn nothing_runs_after_the_kubelet() {
    let stage = Stage::set().await;
    stage.secret(json!({"password": "right"})).await;
    stage.deploy(sh("sleep 600 & echo $!; wait")).await;
    let mut processes = Vec::new();
    stage
        .until("up", |kubelet| {
            let running = kubelet.running();
            let children =
                running.iter().filter_map(|start| kubelet.log(&start.pod, "main").trim().parse().ok());
            processes = children.chain(running.iter().map(|start| start.process)).collect();
            processes.len() == 4
        })
        .await;
    assert!(processes.iter().copied().all(runs));

    drop(stage.kubelet);

    // The containers have ended. Their children are killed too, and may take a moment to end.
    assert!(!runs(processes[2]) && !runs(processes[3]));
    let deadline = Instant::now() + PATIENCE;
    while processes.iter().copied().any(runs) {
        assert!(Instant::now() < deadline);
        sleep(PAUSE).await;
    }
}

#[tokio::test]
async fn a_container_is_ready_while_its_probe_succeeds() {
    let stage = Stage::set().await;
    stage.secret(json!({"password": "right"})).await;
    let mut container = sh(RUN);
    let command = ["/bin/sh", "-c", "[ -e ready ] && [ \"$PASSWORD\" = right ]"];
    container["readinessProbe"] =
        json!({"exec": {"command": command}, "failureThreshold": 1, "timeoutSeconds": 30});
    stage.pod(json!([container])).await;
    stage.wait_container(|status| is_running(status) && !status.ready).await;

    let marker = stage.start(0).await.root.join("ready");
    fs::write(&marker, "").unwrap();
    stage.wait_container(|status| status.ready).await;
    fs::remove_file(&marker).unwrap();
    stage.wait_container(|status| !status.ready).await;
    assert_eq!(stage.kubelet.starts().len(), 1);
}

#[tokio::test]
async fn a_program_that_does_not_exist_is_tried_again() {
    let stage = Stage::set().await;
    stage.pod(json!([{"name": "main", "image": "program", "command": ["/absent/program"]}])).await;
    let status = stage.wait_container(|status| status.restart_count > 0).await;
    let last = status.last_state.unwrap().terminated.unwrap();
    assert_eq!(last.reason.as_deref(), Some("StartError"));
    assert!(stage.kubelet.starts().is_empty());
}

#[tokio::test]
async fn a_pod_with_other_parts_does_not_run_and_names_them() {
    let stage = Stage::set().await;
    let mut container = sh(RUN);
    container["livenessProbe"] = json!({"exec": {"command": ["/bin/true"]}});
    let uid = stage.pod(json!([container])).await.uid().unwrap();
    let reason = "spec.containers[0].livenessProbe is not modelled";
    stage.wait_container(|status| is_waiting(status, "NotModelled", reason)).await;
    let refusals = stage.kubelet.refusals();
    assert_eq!((refusals[0].pod.as_str(), refusals[0].reason.as_str()), ("pod", reason));
    assert!(stage.kubelet.starts().is_empty());
    stage.api::<Pod>().delete("pod", &DeleteParams::default()).await.unwrap();
    stage.wait::<Pod>("pod", is_deleted(&uid)).await;
}

#[tokio::test]
async fn a_pod_of_a_stateful_set_returns_under_its_name() {
    let stage = Stage::set().await;
    let old = stage.secret(json!({"password": "old"})).await;
    let labels = json!({"app": "app"});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [sh(RUN)]}});
    let spec = json!({
        "replicas": 2, "serviceName": "app", "selector": {"matchLabels": labels}, "template": template,
    });
    stage.create::<StatefulSet>(json!({"metadata": {"name": "app"}, "spec": spec})).await;
    stage.start(1).await;
    let new = stage.secret(json!({"password": "new"})).await;
    stage.api::<Pod>().delete("app-0", &DeleteParams::default()).await.unwrap();
    stage.start(2).await;

    let mut running: Vec<_> = stage
        .kubelet
        .running()
        .into_iter()
        .map(|start| (start.pod.clone(), start.restarts, start.secrets["creds"].clone()))
        .collect();
    running.sort();
    assert_eq!(running, [("app-0".to_owned(), 0, new), ("app-1".to_owned(), 0, old)]);
}

#[tokio::test]
async fn another_kubelet_of_the_node_restarts_its_containers() {
    let stage = Stage::set().await;
    stage.secret(json!({"password": "right"})).await;
    stage.pod(json!([sh(RUN)])).await;
    stage.wait_container(is_running).await;
    let Stage { client, namespace, kubelet } = stage;
    drop(kubelet);
    let kubelet = Kubelet::builder(client.clone(), &namespace).start().await.unwrap();
    let stage = Stage { client, namespace, kubelet };
    let status = stage.wait_container(|status| is_running(status) && status.restart_count == 1).await;
    assert!(status.ready);
    assert_eq!(stage.start(0).await.restarts, 1);
}

/// Not a test: the program of the pods below. It logs in with the user and the password of its environment, every
/// 200 ms, and prints a line for each login.
#[tokio::test]
#[ignore = "logs in until it is killed"]
async fn log_in_repeatedly() {
    let variable = |name| std::env::var(name).unwrap();
    let mut login = Config::new();
    login.host("127.0.0.1").port(variable("DB_PORT").parse().unwrap()).dbname("postgres");
    login.user(variable("DB_USER")).password(variable("DB_PASSWORD"));
    loop {
        match login.connect(NoTls).await {
            Ok((_client, _connection)) => println!("login ok"),
            Err(error) if error.code() == Some(&SqlState::INVALID_PASSWORD) => println!("login refused"),
            Err(error) => println!("login failed: {error:?}"),
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// The logins of one pod so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Logins {
    ok: usize,
    refused: usize,
    failed: usize,
}

fn logins(kubelet: &Kubelet, pod: &str) -> Logins {
    let log = kubelet.log(pod, "main");
    let count = |result: &str| log.lines().filter(|line| line.starts_with(result)).count();
    Logins { ok: count("login ok"), refused: count("login refused"), failed: count("login failed") }
}

fn running_logins(kubelet: &Kubelet) -> Vec<Logins> {
    kubelet.running().iter().map(|start| logins(kubelet, &start.pod)).collect()
}

#[tokio::test]
async fn pods_with_a_revoked_password_are_refused_until_they_are_rolled() {
    let postgres = Postgres::shared().await.unwrap();
    let superuser: Config = postgres.superuser().parse().unwrap();
    let (database, connection) = superuser.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let stage = Stage::set().await;
    let [old, new] = ["old", "new"].map(|user| format!("{}-{user}", stage.namespace));
    let create = async |database: &Database, user: &str| {
        database.batch_execute(&format!("CREATE ROLE \"{user}\" LOGIN PASSWORD 'of-{user}'")).await.unwrap();
        stage.secret(json!({"DB_USER": user, "DB_PASSWORD": format!("of-{user}")})).await
    };
    create(&database, &old).await;
    let program = std::env::current_exe().unwrap();
    stage
        .deploy(json!({
            "name": "main", "image": "program", "command": [program],
            "args": ["--ignored", "--exact", "log_in_repeatedly", "--nocapture"],
            "env": [{"name": "DB_PORT", "value": postgres.port().to_string()}],
            "envFrom": [{"secretRef": {"name": "creds"}}],
        }))
        .await;
    let version = create(&database, &new).await;
    let all = |kubelet: &Kubelet, holds: fn(&Logins) -> bool| {
        let logins = running_logins(kubelet);
        logins.len() == 2 && logins.iter().all(holds)
    };
    stage.until("logged in", |kubelet| all(kubelet, |logins| logins.ok >= 3)).await;
    assert!(running_logins(&stage.kubelet).iter().all(|logins| logins.refused == 0));

    database.batch_execute(&format!("DROP ROLE \"{old}\"")).await.unwrap();
    stage.until("refused", |kubelet| all(kubelet, |logins| logins.refused >= 3)).await;
    stage.roll().await;

    stage.until("logged in again", |kubelet| all(kubelet, |logins| logins.ok >= 3)).await;
    let running = stage.kubelet.running();
    assert!(running.iter().all(|start| start.secrets["creds"] == version));
    assert!(running_logins(&stage.kubelet).iter().all(|logins| logins.refused == 0));
    let starts = stage.kubelet.starts();
    assert_eq!(starts.len(), 4);
    assert!(starts.iter().all(|start| logins(&stage.kubelet, &start.pod).failed == 0));
}
