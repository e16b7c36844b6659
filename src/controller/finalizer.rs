//! Finalizers: asked for, added and removed, on condition that the object is still as it was read.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::api::marks::FIELD_MANAGER;

/// Whether the object has the finalizer.
pub fn has(meta: &ObjectMeta, finalizer: &str) -> bool {
    meta.finalizers.iter().flatten().any(|there| there == finalizer)
}

/// The write that adds a finalizer.
pub fn add(meta: &ObjectMeta, finalizer: &str) -> (PatchParams, Patch<Value>) {
    write(meta, meta.finalizers.iter().flatten().map(String::as_str).chain([finalizer]).collect())
}

/// The write that removes a finalizer, and leaves those of others.
pub fn remove(meta: &ObjectMeta, finalizer: &str) -> (PatchParams, Patch<Value>) {
    let others = meta.finalizers.iter().flatten().map(String::as_str).filter(|there| *there != finalizer);
    write(meta, others.collect())
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
