//! Finalizers: checks, and writes that add or remove them on condition that the object is unchanged.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::api::marks::FIELD_MANAGER;

pub(super) fn has(meta: &ObjectMeta, finalizer: &str) -> bool {
    meta.finalizers.iter().flatten().any(|there| there == finalizer)
}

/// The write that adds a finalizer.
pub(super) fn add(meta: &ObjectMeta, finalizer: &str) -> (PatchParams, Patch<Value>) {
    write(meta, meta.finalizers.iter().flatten().map(String::as_str).chain([finalizer]).collect())
}

/// The write that adds a finalizer, and an annotation with it.
pub(super) fn add_with(
    meta: &ObjectMeta,
    finalizer: &str,
    annotation: Option<(&str, String)>,
) -> (PatchParams, Patch<Value>) {
    let (parameters, mut patch) = add(meta, finalizer);
    if let (Patch::Merge(body), Some((name, value))) = (&mut patch, annotation) {
        body["metadata"]["annotations"] = json!({ name: value });
    }
    (parameters, patch)
}

/// The write that removes a finalizer, and keeps those of others.
pub(super) fn remove(meta: &ObjectMeta, finalizer: &str) -> (PatchParams, Patch<Value>) {
    remove_all(meta, |there| there == finalizer)
}

/// The write that removes finalizers, and keeps the others.
pub(super) fn remove_all(meta: &ObjectMeta, leaves: impl Fn(&str) -> bool) -> (PatchParams, Patch<Value>) {
    let finalizers = meta.finalizers.iter().flatten().map(String::as_str);
    write(meta, finalizers.filter(|there| !leaves(there)).collect())
}

fn write(meta: &ObjectMeta, finalizers: Vec<&str>) -> (PatchParams, Patch<Value>) {
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let patch = json!({"metadata": {
        "uid": meta.uid,
        "resourceVersion": meta.resource_version,
        "finalizers": finalizers,
    }});
    (parameters, Patch::Merge(patch))
}
