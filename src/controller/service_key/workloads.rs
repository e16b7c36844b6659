//! Restarts the workloads that a ServiceKey names.
//!
//! A workload restarts when an annotation of its pod template changes. The annotation has the number of the key, so a
//! repeated request changes nothing: after a crash of the operator, no workload restarts twice.

use std::collections::BTreeSet;

use kube::{
    Api, Resource, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams},
    core::{NotUsed, Object, Selector},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::reconciler::Reconciler;
use crate::{
    api::{RestartTarget, WorkloadKind, marks},
    controller::error::{Error, bounded},
    lifecycle::{Answer, Sequence},
};

/// The most workloads that all targets of a ServiceKey may select.
const MOST_WORKLOADS: u32 = 100;

/// The longest text about failed restarts, in bytes. The status stores it.
const LONGEST_PROBLEM: usize = 1000;

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
struct UpdateStrategy {
    #[serde(default, rename = "type")]
    type_: String,
}

type Workload = Object<WorkloadSpec, NotUsed>;

/// Tells each workload that the spec names to restart with this key.
pub(super) async fn restart(reconciler: &Reconciler<'_>, sequence: Sequence) -> Answer {
    let rotation = reconciler.key.spec.rotation.as_ref();
    let targets = rotation.map_or(&[][..], |rotation| &rotation.restart);
    let (mut restarted, mut problems) = (BTreeSet::new(), Vec::new());
    for target in targets {
        let api = api(reconciler, target.kind);
        match names(&api, target).await {
            Ok(names) => {
                for name in names {
                    let workload = format!("{} `{name}`", kind(target.kind));
                    if restarted.contains(&workload) {
                        continue;
                    }
                    if restarted.len() >= MOST_WORKLOADS as usize {
                        problems.push(format!(
                            "the list selects more than {MOST_WORKLOADS} workloads: name fewer"
                        ));
                        break;
                    }
                    match restart_one(reconciler, &api, target.kind, &name, sequence).await {
                        Ok(()) => drop(restarted.insert(workload)),
                        Err(problem) => problems.push(format!("{workload} {problem}")),
                    }
                }
            }
            Err(problem) => problems.push(problem),
        }
    }
    let shared = &reconciler.context.shared;
    shared.metrics.count_restarts(reconciler.backend_kind(), restarted.len(), problems.len());
    if !restarted.is_empty() {
        let names: Vec<_> = restarted.iter().take(5).map(String::as_str).collect();
        let more = restarted.len() - names.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let note = format!("restarted with key {sequence}: {}{more}", names.join(", "));
        shared.events.normal(reconciler.key.object_ref(&()), "WorkloadsRestarted", "Restart", note);
    }
    Answer::Restarted(sequence, summary(&problems))
}

/// The problems in one text; `None` if there are none.
fn summary(problems: &[String]) -> Option<String> {
    let (first, rest) = problems.split_first()?;
    let mut text = first.clone();
    for (index, problem) in rest.iter().enumerate() {
        if text.len() + problem.len() > LONGEST_PROBLEM {
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
async fn names(api: &Api<DynamicObject>, target: &RestartTarget) -> Result<Vec<String>, String> {
    let (Some(selector), None) = (&target.selector, &target.name) else {
        return Ok(target.name.iter().cloned().collect());
    };
    let selector = Selector::try_from(selector.clone())
        .map_err(|error| format!("`spec.rotation.restart`: the selector can't be used: {error}"))?;
    let parameters = ListParams::default().labels_from(&selector).limit(MOST_WORKLOADS + 1);
    let found = bounded("list the workloads of a selector", api.list_metadata(&parameters)).await;
    let found = found.map_err(|error| problem(&error, target.kind, "list"))?;
    Ok(found.items.iter().map(ResourceExt::name_any).collect())
}

/// # Errors
/// Why the workload does not restart, after its name.
async fn restart_one(
    reconciler: &Reconciler<'_>,
    api: &Api<DynamicObject>,
    kind: WorkloadKind,
    name: &str,
    sequence: Sequence,
) -> Result<(), String> {
    let annotations = json!({annotation(&reconciler.key.name_any()): value(reconciler, sequence)});
    let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
    let api: Api<Workload> =
        Api::namespaced_with(api.clone().into_client(), &reconciler.target.namespace, &resource(kind));
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
    Ok(())
}

/// What the API server's answer means for the user.
fn problem(error: &Error, kind: WorkloadKind, verb: &str) -> String {
    let what = self::kind(kind);
    if error.is(404) {
        "does not exist".to_owned()
    } else if error.is(403) {
        format!("can't be restarted: the operator may not {verb} a {what} here; {error}")
    } else {
        format!("can't be restarted: {error}")
    }
}

/// The annotation of a pod template that restarts the pods after rotations of the ServiceKey of this name. Names of
/// annotations have at most 63 characters.
fn annotation(key: &str) -> String {
    const LONGEST: usize = 63;
    if key.len() <= LONGEST {
        return format!("{}{key}", marks::RESTART_ANNOTATION_PREFIX);
    }
    let digest: String = Sha256::digest(key).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let start: String = key.chars().take(LONGEST - 9).collect();
    format!("{}{start}-{digest}", marks::RESTART_ANNOTATION_PREFIX)
}

/// The value of the annotation. The owner of the keys tells apart the keys of a ServiceKey that was created again.
fn value(reconciler: &Reconciler<'_>, sequence: Sequence) -> String {
    let owner = reconciler.identity(sequence).owner.simple().to_string();
    format!("{sequence}-{}", &owner[..8])
}

fn api(reconciler: &Reconciler<'_>, kind: WorkloadKind) -> Api<DynamicObject> {
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
