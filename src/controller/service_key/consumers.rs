//! Looks for the pods that may still use a replaced key: one list of the pods of the namespace, without a watch.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, ListParams},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::{reconciler::Reconciler, workloads};
use crate::{
    api::{RestartTarget, WorkloadKind},
    controller::error::{Error, bounded},
    lifecycle::{Answer, Consumers, ContainerView, KeyChange, PodView, first_bytes},
    runtime::answers,
};

/// The number of pods in one answer.
const PAGE: u32 = 50;

/// The most pages.
const MOST_PAGES: u32 = 200;

/// The longest text about a failure, in bytes. The status stores it.
const LONGEST_PROBLEM: usize = 500;

/// The longest time of one look.
const PATIENCE: Duration = Duration::from_secs(60);

/// The parts of a pod that show whether it uses a Secret.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PodParts {
    spec: PodSpec,
    status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    containers: Vec<Container>,
    init_containers: Vec<Container>,
    ephemeral_containers: Vec<Container>,
    volumes: Vec<Volume>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    name: String,
    env: Vec<Variable>,
    env_from: Vec<VariableSource>,
    volume_mounts: Vec<Mount>,
    /// `Always` for a sidecar among the init containers.
    restart_policy: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Variable {
    value_from: Option<ValueSource>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ValueSource {
    secret_key_ref: Option<Named>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct VariableSource {
    secret_ref: Option<Named>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Mount {
    name: String,
    sub_path: Option<String>,
    sub_path_expr: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Volume {
    name: String,
    secret: Option<SecretVolume>,
    projected: Option<Projected>,
    /// All other sources, such as `csi`.
    #[serde(flatten)]
    drivers: Map<String, Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SecretVolume {
    secret_name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Projected {
    sources: Vec<ProjectedSource>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ProjectedSource {
    secret: Option<Named>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    phase: String,
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
    ephemeral_container_statuses: Vec<ContainerStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerStatus {
    name: String,
    state: ContainerState,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerState {
    running: Option<Started>,
    terminated: Option<Started>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Started {
    started_at: Option<Time>,
}

/// Looks at all pods of the namespace.
pub(super) async fn look(reconciler: &Reconciler<'_>, change: KeyChange) -> Answer {
    let mut consumers = Consumers::default();
    let looked = timeout(PATIENCE, look_at_all(reconciler, change, &mut consumers)).await;
    let problem = match looked {
        Ok(Ok(())) => None,
        Ok(Err(problem)) => Some(problem),
        Err(_) => Some(format!("the API server took more than {} s to list the pods", PATIENCE.as_secs())),
    };
    let problem = problem.map(|problem| first_bytes(&problem, LONGEST_PROBLEM).to_owned());
    Answer::Consumers(change, Consumers { problem, ..consumers })
}

/// # Errors
/// Why not all pods could be read.
async fn look_at_all(
    reconciler: &Reconciler<'_>,
    change: KeyChange,
    consumers: &mut Consumers,
) -> Result<(), String> {
    let client = reconciler.context.shared.client.clone();
    let api: Api<DynamicObject> = Api::namespaced_with(client, &reconciler.target.namespace, &resource());
    let now = reconciler.context.shared.clock.now();
    let mut parameters = ListParams::default().limit(PAGE);
    for _ in 0..MOST_PAGES {
        let page = bounded("list the pods", api.list(&parameters)).await.map_err(|error| problem(&error))?;
        let next = page.metadata.continue_;
        for pod in page.items {
            if let Some(view) = view(reconciler, pod).filter(|view| change.may_be_used_by(view, now)) {
                consumers.add(view.name);
            }
        }
        match next.filter(|next| !next.is_empty()) {
            Some(next) => parameters = parameters.continue_token(&next),
            None => return Ok(()),
        }
    }
    Err(format!("the namespace has more than {} pods", PAGE * MOST_PAGES))
}

fn problem(error: &Error) -> String {
    if error.is(403) { format!("the operator may not list pods here; {error}") } else { error.to_string() }
}

/// A pod as far as it concerns the Secret; `None` for a pod that has ended.
fn view(reconciler: &Reconciler<'_>, pod: DynamicObject) -> Option<PodView> {
    let parts = serde_json::from_value(pod.data);
    let is_incomplete = parts.is_err() || !answers::omissions(&pod.metadata).is_empty();
    let PodParts { spec, status } = parts.unwrap_or_default();
    if ["Succeeded", "Failed"].contains(&status.phase.as_str()) {
        return None;
    }
    let annotation = workloads::annotation(&reconciler.target.name);
    let restart = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(&annotation));
    let secret = reconciler.target.secret.as_str();
    let states = [
        (&spec.containers, &status.container_statuses, false),
        (&spec.init_containers, &status.init_container_statuses, true),
        (&spec.ephemeral_containers, &status.ephemeral_container_statuses, false),
    ];
    let containers = states.into_iter().flat_map(|(containers, statuses, is_init)| {
        containers.iter().map(move |container| (container, statuses, is_init))
    });
    let containers = containers.map(|(container, statuses, is_init)| {
        let state = statuses.iter().find(|status| status.name == container.name);
        container.view(secret, &spec.volumes, state.map(|status| &status.state), is_init)
    });
    Some(PodView {
        name: pod.metadata.name.clone().unwrap_or_default(),
        containers: containers.collect(),
        is_restarted: restart.is_some() || is_of_restarted_workload(reconciler, &pod.metadata),
        restarted_with: restart.and_then(|value| workloads::sequence_in(value, reconciler.owner_of_keys())),
        is_incomplete,
    })
}

/// Whether the operator restarts the workload of a pod. The workloads that a selector selects are not known, so each
/// workload of the kind may be one.
fn is_of_restarted_workload(reconciler: &Reconciler<'_>, pod: &ObjectMeta) -> bool {
    let Some(owner) = pod.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
    else {
        return false;
    };
    // The ReplicaSets of a Deployment have its name and a hash without `-`.
    let (kind, name) = match owner.kind.as_str() {
        "ReplicaSet" => {
            (WorkloadKind::Deployment, owner.name.rsplit_once('-').map_or(&*owner.name, |(name, _)| name))
        }
        "StatefulSet" => (WorkloadKind::StatefulSet, &*owner.name),
        "DaemonSet" => (WorkloadKind::DaemonSet, &*owner.name),
        _ => return false,
    };
    let is_named = |target: &RestartTarget| target.name.as_deref().is_none_or(|named| named == name);
    reconciler.key.restart_targets().iter().any(|target| target.kind == kind && is_named(target))
}

impl Volume {
    /// Whether its files follow the Secret.
    fn contains(&self, secret: &str) -> bool {
        let projected = self.projected.iter().flat_map(|projected| &projected.sources);
        let mut projected = projected.filter_map(|source| source.secret.as_ref());
        self.secret.as_ref().is_some_and(|volume| volume.secret_name == secret)
            || projected.any(|named| named.name == secret)
    }

    /// Whether its driver got the Secret when the pod started.
    fn is_opened_with(&self, secret: &str) -> bool {
        let names = |driver: &Value| {
            let references = ["/secretRef/name", "/nodePublishSecretRef/name", "/secretName"];
            references.iter().any(|path| driver.pointer(path).and_then(Value::as_str) == Some(secret))
        };
        self.drivers.values().any(names)
    }
}

impl Container {
    fn view(
        &self,
        secret: &str,
        volumes: &[Volume],
        state: Option<&ContainerState>,
        is_init: bool,
    ) -> ContainerView {
        let names = |named: Option<&Named>| named.is_some_and(|named| named.name == secret);
        let variable = |variable: &Variable| {
            names(variable.value_from.as_ref().and_then(|from| from.secret_key_ref.as_ref()))
        };
        let volume = |mount: &Mount| volumes.iter().find(|volume| volume.name == mount.name);
        let is_mounted = |mount: &&Mount| volume(mount).is_some_and(|volume| volume.contains(secret));
        let is_opened = |mount: &Mount| volume(mount).is_some_and(|volume| volume.is_opened_with(secret));
        let is_part = |mount: &Mount| {
            [&mount.sub_path, &mount.sub_path_expr].into_iter().flatten().any(|path| !path.is_empty())
        };
        let state = state.cloned().unwrap_or_default();
        let runs = state.running.is_some();
        let started = state.running.or(state.terminated).and_then(|started| started.started_at);
        ContainerView {
            environment: self.env.iter().any(variable)
                || self.env_from.iter().any(|from| names(from.secret_ref.as_ref()))
                || self.volume_mounts.iter().any(is_opened),
            sub_path: self.volume_mounts.iter().filter(is_mounted).any(is_part),
            volume: self.volume_mounts.iter().filter(is_mounted).any(|mount| !is_part(mount)),
            initializes: is_init && self.restart_policy.as_deref() != Some("Always"),
            started: started.map(|time| time.0),
            runs,
        }
    }
}

fn resource() -> ApiResource {
    ApiResource {
        group: String::new(),
        version: "v1".to_owned(),
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        plural: "pods".to_owned(),
    }
}
