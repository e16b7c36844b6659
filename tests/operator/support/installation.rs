//! The chart, installed with Helm in a cluster of its own, and its operator, started as the kubelet starts it.

use std::{
    collections::BTreeSet,
    fs, iter,
    net::TcpListener,
    os::unix::fs::symlink,
    sync::atomic::{AtomicU16, Ordering},
    time::Instant,
};

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Container, EnvVar},
        rbac::v1::{ClusterRole, PolicyRule, Role},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams},
    runtime::wait::{await_condition, conditions::is_crd_established},
};
use serde_json::json;
use servicekey_operator::api::custom_resource_definitions;
use tempfile::TempDir;
use testkit::{
    broker::{FakeBroker, Instance},
    control_plane::{ControlPlane, User},
    gateway::Gateway,
    go_tool::GoTool,
};
use tokio::process::Command;

use crate::support::{
    process::{PROGRAM, Process},
    stage::{PATIENCE, Stage},
};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/helm/servicekey-operator");
const RELEASE: &str = "servicekey-operator";
/// The operator's namespace.
pub const SYSTEM: &str = "servicekeys-system";
/// The namespace of a team.
pub const TEAM: &str = "training";

/// The chart's objects in a cluster of their own.
pub struct Installation {
    pub stage: Stage,
    container: Container,
    user: User,
    port: u16,
    /// The rules granted to the user, by namespace.
    granted: Vec<(Option<String>, Vec<PolicyRule>)>,
    /// The folder for each mount path of the container.
    mounted: Vec<(String, TempDir)>,
}

/// Returns a port that no other program takes before the operator does. Systems assign no ports below 32,768
/// automatically, and this process returns each port once.
fn unused_port() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 10_000).unwrap();
    let numbers = iter::repeat_with(|| 20_000 + (first + TAKEN.fetch_add(1, Ordering::Relaxed)) % 10_000);
    numbers.take(10_000).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

impl Installation {
    /// Installs the chart with these values into an empty cluster.
    pub async fn install(values: &str) -> Self {
        Self::install_beside(FakeBroker::builder().start().await.unwrap(), values).await
    }

    /// The same with this broker.
    pub async fn install_beside(broker: FakeBroker, values: &str) -> Self {
        let plane: &'static ControlPlane =
            Box::leak(Box::new(ControlPlane::builder().start().await.unwrap()));
        let team = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": TEAM}});
        plane.apply(&serde_json::from_value::<DynamicObject>(team).unwrap()).await.unwrap();
        let port = unused_port();
        let own = format!(
            "http.port={port},leaderElection.leaseDuration=3s,operator.allowCidrs={{127.0.0.0/8}},\
             operator.discloseCidrs={{127.0.0.0/8}}"
        );
        let helm = GoTool::helm().await.unwrap();
        let kubeconfig = plane.kubeconfig_for(plane.admin_user()).unwrap();
        let install = ["install", RELEASE, CHART, "--namespace", SYSTEM, "--create-namespace"];
        helm.run_with(install.into_iter().chain(["--set", &own, "--set", values]), Some(&kubeconfig))
            .await
            .unwrap();

        let definitions: Api<CustomResourceDefinition> = Api::all(plane.admin());
        for definition in custom_resource_definitions() {
            let name = definition.name_any();
            await_condition(definitions.clone(), &name, is_crd_established()).await.unwrap();
        }
        let deployments: Api<Deployment> = Api::namespaced(plane.admin(), SYSTEM);
        let pod = deployments.get(RELEASE).await.unwrap().spec.unwrap().template.spec.unwrap();
        let user = plane.service_account(SYSTEM, &pod.service_account_name.unwrap()).await.unwrap();
        let granted = granted(plane).await;
        for (namespace, rules) in &granted {
            plane.until_allowed(&user, rules, namespace.as_deref()).await.unwrap();
        }
        let [container] = <[Container; 1]>::try_from(pod.containers).unwrap();
        let instance = Instance::new("training-app-db", "postgresql", "small");
        let stage = Stage { plane, client: plane.admin(), namespace: TEAM.to_owned(), broker, instance };
        Self { stage, container, user, port, granted, mounted: Vec::new() }
    }

    /// Puts a file into a volume of the container. Like the kubelet with a ConfigMap, it uses two links, so that all
    /// files can change at once.
    pub fn mount(&mut self, volume: &str, file: &str, content: &str) {
        let mut mounts = self.container.volume_mounts.iter().flatten();
        let path = &mounts.find(|mount| mount.name == volume).unwrap().mount_path;
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("..first")).unwrap();
        fs::write(folder.path().join("..first").join(file), content).unwrap();
        symlink("..first", folder.path().join("..data")).unwrap();
        symlink(format!("..data/{file}"), folder.path().join(file)).unwrap();
        self.mounted.push((path.clone(), folder));
    }

    /// Runs the container as the kubelet does.
    pub async fn start(&self) -> Process {
        let gateway = Gateway::start(self.stage.plane.client_as(&self.user)).await.unwrap();
        Process::run(gateway, self.command("run"))
    }

    /// Fails unless `check` with the same flags finds no problem. It retries, because the API server publishes new
    /// definitions with a delay.
    pub async fn check(&self) {
        let kubeconfig = self.stage.plane.kubeconfig_for(&self.user).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let checked = self.command("check").env("KUBECONFIG", &kubeconfig).output().await.unwrap();
            if checked.status.success() {
                return;
            }
            let said = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
            assert!(Instant::now() < deadline, "{said}");
        }
    }

    /// The container's command, with this subcommand instead of `run`.
    fn command(&self, subcommand: &str) -> Command {
        let here = |text: String| {
            let folders = self.mounted.iter();
            folders.fold(text, |text, (path, folder)| text.replace(path, folder.path().to_str().unwrap()))
        };
        let variables = self.container.env.iter().flatten().map(variable);
        let env: Vec<_> = variables.map(|(name, value)| (name, here(value))).collect();
        let expanded = |arg: &String| {
            let arg =
                env.iter().fold(arg.clone(), |arg, (name, value)| arg.replace(&format!("$({name})"), value));
            here(arg.replace("--http-addr=0.0.0.0:", "--http-addr=127.0.0.1:"))
        };
        let (run, flags) = self.container.args.as_ref().unwrap().split_first().unwrap();
        assert_eq!(run, "run");
        let mut command = Command::new(PROGRAM);
        command
            .env_clear()
            .arg(subcommand)
            .args(flags.iter().map(expanded))
            .envs(env.clone())
            .kill_on_drop(true);
        command
    }

    /// The paths of the kubelet's probes of the container.
    pub fn probes(&self) -> Vec<String> {
        let Container { startup_probe, liveness_probe, readiness_probe, .. } = &self.container;
        let probes = [startup_probe, liveness_probe, readiness_probe].map(|probe| probe.as_ref().unwrap());
        probes.map(|probe| probe.http_get.as_ref().unwrap().path.clone().unwrap()).into()
    }

    pub async fn read(&self, path: &str) -> reqwest::Result<String> {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        reqwest::get(url).await?.error_for_status()?.text().await
    }

    /// Rights that were granted but not used, each as verb and resource.
    pub fn rights_to_spare(&self) -> Vec<String> {
        let requests = self.stage.plane.audit().requests(&self.user).unwrap();
        let refused = requests.clone().only(|request| request.code == Some(403));
        assert!(refused.is_empty(), "rights are missing:\n{refused}");
        let used: BTreeSet<_> = requests
            .into_iter()
            .map(|request| {
                let subresource = if request.subresource.is_empty() { "" } else { "/" };
                format!("{} {}{subresource}{}", request.verb, request.resource, request.subresource)
            })
            .collect();
        let rules = self.granted.iter().flat_map(|(_, rules)| rules);
        let granted: BTreeSet<_> = rules
            .flat_map(|rule| {
                let resources = rule.resources.iter().flatten();
                resources.flat_map(|what| rule.verbs.iter().map(move |verb| format!("{verb} {what}")))
            })
            // Policies check these rights; no request uses them.
            .filter(|right| !["mark secrets", "operate secrets"].contains(&right.as_str()))
            .collect();
        granted.difference(&used).cloned().collect()
    }
}

/// The roles of the installation, without those that are meant for users.
async fn granted(plane: &ControlPlane) -> Vec<(Option<String>, Vec<PolicyRule>)> {
    let ours = ListParams::default().labels(&format!("app.kubernetes.io/instance={RELEASE}"));
    let roles = Api::<Role>::all(plane.admin()).list(&ours).await.unwrap().into_iter();
    let cluster_roles = Api::<ClusterRole>::all(plane.admin()).list(&ours).await.unwrap().into_iter();
    roles
        .map(|role| (role.namespace(), role.rules.unwrap()))
        .chain(
            cluster_roles.filter(|role| role.name_any() == RELEASE).map(|role| (None, role.rules.unwrap())),
        )
        .collect()
}

/// The name and value of a variable; values from fields of the pod are invented by the test.
fn variable(variable: &EnvVar) -> (String, String) {
    let field = |path: &str| match path {
        "metadata.name" => "operator-0",
        "metadata.namespace" => SYSTEM,
        other => panic!("there is no pod to take `{other}` from"),
    };
    let source = variable.value_from.as_ref().and_then(|source| source.field_ref.as_ref());
    let value = source.map_or(variable.value.clone(), |source| Some(field(&source.field_path).to_owned()));
    (variable.name.clone(), value.unwrap())
}
