//! The chart, as Helm renders it.

use std::path::{Path, PathBuf};

use kube::api::DynamicObject;
use testkit::{
    control_plane::documents,
    go_tool::{GoTool, GoToolError},
};

/// The namespace of the installation.
pub const NAMESPACE: &str = "servicekeys-system";
/// The name of the release.
pub const RELEASE: &str = "servicekey-operator";

pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

pub fn folder() -> PathBuf {
    path("deploy/helm/servicekey-operator")
}

/// A file with values for the tests, or one that is part of the chart.
pub fn values(name: &str) -> PathBuf {
    match name {
        "values-ha" | "values-hardened" => folder().join(format!("{name}.yaml")),
        name => path(&format!("tests/install/values/{name}.yaml")),
    }
}

/// The output of `helm template` with these further arguments.
pub async fn template(arguments: &[&str]) -> Result<String, GoToolError> {
    let helm = GoTool::helm().await?;
    let chart = folder().display().to_string();
    helm.run([&["template", RELEASE, &chart, "--namespace", NAMESPACE], arguments].concat()).await
}

/// The objects that `helm template` renders with these further arguments.
pub async fn render(arguments: &[&str]) -> Vec<DynamicObject> {
    documents(&template(arguments).await.unwrap()).unwrap()
}

/// The objects with the values of these files.
pub async fn render_with(files: &[&str]) -> Vec<DynamicObject> {
    let files: Vec<_> = files.iter().map(|name| values(name).display().to_string()).collect();
    render(&files.iter().flat_map(|file| ["--values", file]).collect::<Vec<_>>()).await
}

/// The kind and name of an object, for assertions and their messages.
pub fn title(object: &DynamicObject) -> String {
    let kind = object.types.as_ref().map_or("", |types| types.kind.as_str());
    format!("{kind}/{}", object.metadata.name.as_deref().unwrap_or_default())
}

/// The only object of this kind.
#[track_caller]
pub fn only<'a>(objects: &'a [DynamicObject], kind: &str) -> &'a DynamicObject {
    let found: Vec<_> = objects
        .iter()
        .filter(|object| object.types.as_ref().is_some_and(|types| types.kind == kind))
        .collect();
    match found.as_slice() {
        [only] => only,
        other => panic!("there are {} objects of kind {kind}", other.len()),
    }
}
