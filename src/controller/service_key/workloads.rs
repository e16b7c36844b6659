//! Restarts the workloads that a ServiceKey names.
//!
//! A workload restarts when an annotation of its pod template changes. The annotation has the number of the key, so a
//! repeated request changes nothing: after a crash of the operator, no workload restarts twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kube::{
    Api, Resource, ResourceExt,
    api::{ApiResource, ListParams, Patch, PatchParams},
    core::{NotUsed, Object, Selector},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    pending_restarts::{PendingRestart, Targets},
    reconciler::{Reconciler, Target},
    status,
};
use crate::{
    api::{RestartTarget, ServiceKey, WorkloadKind, marks},
    controller::error::{Error, bounded},
    lifecycle::{Answer, Observed, Sequence, WorkloadRestart, as_companion, first_bytes},
};

/// The most workloads that all targets of a ServiceKey may select.
const MOST_WORKLOADS: u32 = 100;

/// The longest time of one attempt at all workloads of a ServiceKey.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest text about one workload, in bytes. The API server's answer is a part of it.
const LONGEST_PROBLEM: usize = 500;

/// The longest text about all workloads, in bytes. The status stores it.
const LONGEST_SUMMARY: usize = 1500;

/// The part of a workload that shows whether its pods follow the pod template.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct WorkloadSpec {
    #[serde(default)]
    paused: bool,
    #[serde(default)]
    update_strategy: UpdateStrategy,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct UpdateStrategy {
    #[serde(default, rename = "type")]
    type_: String,
    #[serde(default)]
    rolling_update: RollingUpdate,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct RollingUpdate {
    /// The number of pods of a StatefulSet that keep the previous template.
    #[serde(default)]
    partition: u32,
}

type Workload = Object<WorkloadSpec, NotUsed>;

/// An attempt to restart all workloads of a ServiceKey.
#[derive(Default)]
struct Attempt {
    /// The workloads that the attempt has patched, or tried to, by kind and name.
    patched: BTreeSet<String>,
    restarted: usize,
    problems: Vec<String>,
}

/// Notes the restart that the ServiceKey has before it for other ServiceKeys that name the same workloads.
pub(super) fn note_restart(reconciler: &Reconciler<'_>, observed: &Observed) {
    let Reconciler { context, target, key, .. } = reconciler;
    let restart = as_companion(observed).map(|companion| {
        let restart = observed.recorded.restart.as_ref();
        let annotation =
            restart.map(|restart| (annotation(&target.name), value(observed.owner, restart.sequence)));
        PendingRestart { companion, targets: Targets::of(key.restart_targets()), annotation }
    });
    context.restarts.note(&target.namespace, target.uid, restart);
}

/// The restart that the status of a ServiceKey records.
pub(super) fn recorded(key: &ServiceKey) -> Option<PendingRestart> {
    if key.spec.suspend || key.metadata.deletion_timestamp.is_some() || key.restart_targets().is_empty() {
        return None;
    }
    let owner = key.status.as_ref().and_then(status::former_uid).or(key.parsed_uid())?;
    let restart = status::read(key.status.as_ref()).restart?;
    let annotation = (annotation(&key.name_any()), value(owner, restart.sequence));
    let targets = Targets::of(key.restart_targets());
    Some(PendingRestart { companion: restart.companion(), targets, annotation: Some(annotation) })
}

/// Tells each workload that the spec names to restart with the current key, and at the same time with the keys of these
/// other ServiceKeys.
pub(super) async fn restart(
    reconciler: &Reconciler<'_>,
    restart: WorkloadRestart,
    companions: &[Uuid],
) -> Answer {
    let mut attempt = Attempt::default();
    let ended = timeout(PATIENCE, attempt.restart_all(reconciler, restart.sequence, companions)).await;
    if ended.is_err() {
        attempt.problems.push(format!("the API server took more than {} s", PATIENCE.as_secs()));
    }
    let Attempt { patched, restarted, problems } = attempt;
    let shared = &reconciler.context.shared;
    // A repeated patch of a restarted workload changes nothing, so only the attempt that succeeds counts.
    let completed = if problems.is_empty() { restarted } else { 0 };
    shared.metrics.count_restarts(reconciler.backend_kind(), completed, problems.len());
    if completed > 0 {
        let names: Vec<_> = patched.iter().take(5).map(String::as_str).collect();
        let more = completed - names.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let note = format!("restarted with key {}: {}{more}", restart.sequence, names.join(", "));
        shared.events.normal(reconciler.key.object_ref(&()), "WorkloadsRestarted", "Restart", note);
    }
    Answer::Restarted(restart, summary(&problems))
}

impl Attempt {
    async fn restart_all(&mut self, reconciler: &Reconciler<'_>, sequence: Sequence, companions: &[Uuid]) {
        let Reconciler { context, target: Target { namespace, name, .. }, key, .. } = reconciler;
        let own = (annotation(name), value(reconciler.owner_of_keys(), sequence));
        for target in key.restart_targets() {
            let api = api(reconciler, target.kind);
            let names = match names(&api, target).await {
                Ok(names) => names,
                Err(problem) => {
                    self.problems.push(problem);
                    continue;
                }
            };
            for name in names {
                let workload = format!("{} `{name}`", kind(target.kind));
                if self.patched.contains(&workload) {
                    continue;
                }
                if self.patched.len() >= MOST_WORKLOADS as usize {
                    let problem =
                        format!("the list selects more than {MOST_WORKLOADS} workloads: name fewer");
                    return self.problems.push(problem);
                }
                self.patched.insert(workload.clone());
                // Others may have finished their restarts meanwhile.
                let mut annotations = context.restarts.annotations(namespace, companions, target);
                annotations.extend([own.clone()]);
                match restart_one(&api, target.kind, &name, &annotations).await {
                    Ok(()) => self.restarted += 1,
                    Err(problem) => self.problems.push(format!("{workload} {problem}")),
                }
            }
        }
    }
}

/// The problems in one text; `None` if there are none.
fn summary(problems: &[String]) -> Option<String> {
    let (first, rest) = problems.split_first()?;
    let mut text = first_bytes(first, LONGEST_PROBLEM).to_owned();
    for (index, problem) in rest.iter().map(|problem| first_bytes(problem, LONGEST_PROBLEM)).enumerate() {
        if text.len() + problem.len() > LONGEST_SUMMARY {
            text.push_str(&format!("; and {} more", rest.len() - index));
            break;
        }
        text.push_str("; ");
        text.push_str(problem);
    }
    Some(text)
}

/// The names of the workloads of a target.
///
/// # Errors
/// What failed, for the user.
async fn names(api: &Api<Workload>, target: &RestartTarget) -> Result<Vec<String>, String> {
    let (Some(selector), None) = (&target.selector, &target.name) else {
        return Ok(target.name.iter().cloned().collect());
    };
    let selector = Selector::try_from(selector.clone())
        .map_err(|error| format!("`spec.rotation.restart`: the selector can't be used: {error}"))?;
    let parameters = ListParams::default().labels_from(&selector).limit(MOST_WORKLOADS + 1);
    let found = bounded("list the workloads of a selector", api.list_metadata(&parameters)).await;
    let found = found.map_err(|error| {
        format!("the {}s of a selector: {}", kind(target.kind), problem(&error, target.kind, "list"))
    })?;
    Ok(found.items.iter().map(ResourceExt::name_any).collect())
}

/// # Errors
/// Why the workload does not restart, after its name.
async fn restart_one(
    api: &Api<Workload>,
    kind: WorkloadKind,
    name: &str,
    annotations: &BTreeMap<String, String>,
) -> Result<(), String> {
    let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
    let parameters =
        PatchParams { field_manager: Some(marks::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let patched = bounded("restart the workload", api.patch(name, &parameters, &Patch::Merge(patch))).await;
    let WorkloadSpec { paused, update_strategy } =
        patched.map_err(|error| problem(&error, kind, "patch"))?.spec;
    if paused {
        return Err("is paused: resume it".to_owned());
    }
    if update_strategy.type_ == "OnDelete" {
        return Err(
            "has the update strategy `OnDelete`: delete its pods, and remove it from the list".to_owned()
        );
    }
    let partition = update_strategy.rolling_update.partition;
    if partition > 0 {
        return Err(format!(
            "has `partition: {partition}`, so as many of its pods keep the previous key: set it to 0"
        ));
    }
    Ok(())
}

/// Explains the API server's answer to the user, after the name of the workload.
fn problem(error: &Error, kind: WorkloadKind, verb: &str) -> String {
    let what = self::kind(kind);
    if error.is(404) {
        "does not exist".to_owned()
    } else if error.is(403) && is_missing_right(error) {
        format!("can't be restarted: the operator may not {verb} a {what} here; {error}")
    } else {
        format!("can't be restarted: {error}")
    }
}

/// Whether the authorizer refused the request, and not a policy or a webhook.
fn is_missing_right(error: &Error) -> bool {
    error.status().is_some_and(|status| status.message.contains(" cannot "))
}

/// The annotation of a pod template that restarts the pods after rotations of the ServiceKey of this name. Names of
/// annotations have at most 63 characters.
pub(super) fn annotation(key: &str) -> String {
    const LONGEST: usize = 63;
    if key.len() <= LONGEST {
        return format!("{}{key}", marks::RESTART_ANNOTATION_PREFIX);
    }
    let digest: String = Sha256::digest(key).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let start: String = key.chars().take(LONGEST - 9).collect();
    format!("{}{start}-{digest}", marks::RESTART_ANNOTATION_PREFIX)
}

/// The value of the annotation. The owner of the keys tells apart the keys of a ServiceKey that was created again.
fn value(owner: Uuid, sequence: Sequence) -> String {
    let owner = owner.simple().to_string();
    format!("{sequence}-{}", &owner[..8])
}

/// The number in such a value, if it is of this owner.
pub(super) fn sequence_in(text: &str, owner: Uuid) -> Option<Sequence> {
    let sequence = Sequence::new(text.split_once('-')?.0.parse().ok()?)?;
    (text == value(owner, sequence)).then_some(sequence)
}

fn api(reconciler: &Reconciler<'_>, kind: WorkloadKind) -> Api<Workload> {
    let client = reconciler.context.shared.client.clone();
    Api::namespaced_with(client, &reconciler.target.namespace, &resource(kind))
}

fn resource(kind: WorkloadKind) -> ApiResource {
    let plural = match kind {
        WorkloadKind::Deployment => "deployments",
        WorkloadKind::StatefulSet => "statefulsets",
        WorkloadKind::DaemonSet => "daemonsets",
    };
    ApiResource {
        group: "apps".to_owned(),
        version: "v1".to_owned(),
        api_version: "apps/v1".to_owned(),
        kind: self::kind(kind).to_owned(),
        plural: plural.to_owned(),
    }
}

const fn kind(kind: WorkloadKind) -> &'static str {
    match kind {
        WorkloadKind::Deployment => "Deployment",
        WorkloadKind::StatefulSet => "StatefulSet",
        WorkloadKind::DaemonSet => "DaemonSet",
    }
}
