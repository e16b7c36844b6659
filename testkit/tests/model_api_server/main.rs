//! The model of the API server against the real one: the same requests get the same answers and the same events.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod manifests;
mod normal;
mod pair;
mod random;
mod settled;

use std::{fs, path::PathBuf};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;
use testkit::control_plane::ControlPlane;

/// The root of the repository.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files of a folder, in the order of their names.
fn files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}

/// The definitions of the operator.
fn definitions() -> Vec<Value> {
    files("crds")
        .iter()
        .map(|file| serde_saphyr::from_str(&fs::read_to_string(file).unwrap()).unwrap())
        .collect()
}

/// The real control plane, with the definitions of the operator.
async fn plane() -> &'static ControlPlane {
    let plane = ControlPlane::shared().await.unwrap();
    let definitions: Vec<CustomResourceDefinition> =
        definitions().into_iter().map(|definition| serde_json::from_value(definition).unwrap()).collect();
    plane.install_crds(&definitions).await.unwrap();
    plane
}
