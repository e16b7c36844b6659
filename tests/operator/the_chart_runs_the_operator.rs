//! Install the chart with Helm, run the operator just as its Deployment says and as its service account, and it does its
//! job with no right too few and none too many.
//!
//! Nobody runs pods here, so the test does what the kubelet would. Three things are otherwise than in a pod: the port is
//! open on the loopback interface only, the port itself is a free one (a value of the chart), and the API server is
//! found by a kubeconfig.

use std::{collections::BTreeSet, net::TcpListener};

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Container, Secret},
        rbac::v1::{ClusterRole, PolicyRule, Role},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, ObjectMeta, PostParams},
    runtime::wait::{await_condition, conditions::is_crd_established},
};
use serde_json::{Value, json};
use servicekey_operator::api::{ClusterKeyProvider, KeyProvider, ServiceKey, custom_resource_definitions};
use testkit::{
    Moment,
    broker::{FakeBroker, Instance},
    control_plane::{ControlPlane, User},
    gateway::{Gateway, Method, Requests},
    go_tool::GoTool,
};
use tokio::process::Command;

use crate::{
    process::{PROGRAM, Process},
    stage::Stage,
};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/helm/servicekey-operator");
const RELEASE: &str = "servicekey-operator";
/// The operator's namespace.
const SYSTEM: &str = "servicekeys-system";
/// The namespace of a team.
const TEAM: &str = "training";
const KEY: &str = "monitoring-creds";

/// A release in a cluster of its own.
struct Release {
    stage: Stage,
    container: Container,
    user: User,
    port: u16,
    /// What the user may do, by namespace.
    granted: Vec<(Option<String>, Vec<PolicyRule>)>,
}

impl Release {
    /// Installs the chart with these values, before there is anything else.
    async fn install(values: &str) -> Self {
        let plane: &'static ControlPlane =
            Box::leak(Box::new(ControlPlane::builder().start().await.unwrap()));
        let team = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": TEAM}});
        plane.apply(&serde_json::from_value::<DynamicObject>(team).unwrap()).await.unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let own =
            format!("http.port={port},leaderElection.leaseDuration=3s,operator.allowCidrs={{127.0.0.0/8}}");
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
        let broker = FakeBroker::builder().start().await.unwrap();
        let instance = Instance::new("training-app-db", "postgresql", "small");
        let stage = Stage { plane, client: plane.admin(), namespace: TEAM.to_owned(), broker, instance };
        Self { stage, container, user, port, granted }
    }

    /// Runs the container as the kubelet does.
    async fn start(&self) -> Process {
        let gateway = Gateway::start(self.stage.plane.client_as(&self.user)).await.unwrap();
        Process::run(gateway, self.command("run"))
    }

    /// Fails unless `check` with the same flags finds nothing.
    async fn check(&self) {
        let kubeconfig = self.stage.plane.kubeconfig_for(&self.user).unwrap();
        let checked = self.command("check").env("KUBECONFIG", kubeconfig).output().await.unwrap();
        let said = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
        assert!(checked.status.success(), "{said}");
    }

    /// The container's command, for this instead of `run`.
    fn command(&self, subcommand: &str) -> Command {
        let env: Vec<(String, String)> = self.container.env.iter().flatten().map(variable).collect();
        let expanded = |arg: &String| {
            let arg =
                env.iter().fold(arg.clone(), |arg, (name, value)| arg.replace(&format!("$({name})"), value));
            arg.replace("--http-addr=0.0.0.0:", "--http-addr=127.0.0.1:")
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

    async fn read(&self, path: &str) -> reqwest::Result<String> {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        reqwest::get(url).await?.error_for_status()?.text().await
    }

    /// What was granted and not used, each as verb and resource.
    fn rights_to_spare(&self) -> Vec<String> {
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
            .collect();
        granted.difference(&used).cloned().collect()
    }
}

/// The roles of the release. Those for users are about others.
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

/// The name and value of a variable, where a field of the pod is one that the test makes up.
fn variable(variable: &k8s_openapi::api::core::v1::EnvVar) -> (String, String) {
    let field = |path: &str| match path {
        "metadata.name" => "operator-0",
        "metadata.namespace" => SYSTEM,
        other => panic!("there is no pod to take `{other}` from"),
    };
    let source = variable.value_from.as_ref().and_then(|source| source.field_ref.as_ref());
    let value = source.map_or(variable.value.clone(), |source| Some(field(&source.field_path).to_owned()));
    (variable.name.clone(), value.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn for_the_whole_cluster() {
    let release = Release::install("replicas=2").await;
    let operator = spine(&release).await;
    keys_of_the_cluster_provider(&release).await;
    assert_eq!(operator.terminate().await.code(), Some(0));
    assert_eq!(release.rights_to_spare(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn for_a_single_namespace() {
    let release = Release::install(&format!("namespaces={{{TEAM}}}")).await;
    let operator = spine(&release).await;
    assert_eq!(operator.terminate().await.code(), Some(0));
    assert_eq!(release.rights_to_spare(), [""; 0]);
}

/// What the operator is for, from the first key to the last, with a death in between. It is the second one that is
/// returned.
async fn spine(release: &Release) -> Process {
    let stage = &release.stage;
    release.check().await;
    let operator = release.start().await;
    stage.create_login("operator", "broker-password").await;
    stage.create::<KeyProvider>(stage.provider_manifest("broker")).await;
    stage.create_rotating(json!({"overlap": "0s"})).await;

    for _ in 0..2 {
        stage.secrets().delete(KEY, &DeleteParams::default()).await.unwrap();
        stage.wait(stage.secrets(), KEY, "back", |secret| secret.is_some()).await;
    }
    stage.wait_ready_with_the_only_key(KEY).await;
    stage.request_rotation(json!("now")).await;
    stage.wait_settled_with(2).await;
    stage.wait_ready_with_the_only_key(KEY).await;
    assert!(release.read("/metrics").await.unwrap().contains("servicekeys_leader 1\n"));
    for probe in ["/livez", "/readyz"] {
        assert_eq!(release.read(probe).await.unwrap(), "ok\n");
    }

    let gate = operator.gateway.gate(Requests::to(Method::POST, "secrets"), Moment::AfterEffect);
    stage.create_key("another").await;
    operator.kill_at(gate).await;
    let operator = release.start().await;
    stage.wait_ready("another").await;
    assert_eq!(stage.broker.bindings().len(), 2);

    stage.delete_key("another").await;
    stage.wait_gone("another").await;
    stage.delete_and_leave_nothing(KEY).await;
    operator
}

/// The same for a provider of the whole cluster, whose login is in the operator's namespace.
async fn keys_of_the_cluster_provider(release: &Release) {
    let stage = &release.stage;
    let login: Secret = stage.secrets().get("broker-login").await.unwrap();
    let name = Some("broker-login".to_owned());
    let login = Secret { metadata: ObjectMeta { name, ..ObjectMeta::default() }, ..login };
    let secrets: Api<Secret> = Api::namespaced(stage.client.clone(), SYSTEM);
    secrets.create(&PostParams::default(), &login).await.unwrap();
    let mut provider = stage.provider_manifest("brokers");
    provider["kind"] = json!("ClusterKeyProvider");
    provider["spec"]["allowedNamespaces"] = json!({"names": [TEAM]});
    let providers: Api<ClusterKeyProvider> = Api::all(stage.client.clone());
    providers.create(&PostParams::default(), &serde_json::from_value(provider).unwrap()).await.unwrap();

    let mut manifest: Value = stage.key_manifest("of-the-cluster");
    manifest["spec"]["providerRef"] = json!({"kind": "ClusterKeyProvider", "name": "brokers"});
    stage.create::<ServiceKey>(manifest).await;
    stage.wait_ready("of-the-cluster").await;
    stage.delete_and_leave_nothing("of-the-cluster").await;
}
