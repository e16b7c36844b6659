//! Applies manifests of any kind like `kubectl apply --server-side`. The API server refuses unknown fields.

use kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
};

use super::{ControlPlane, Error};

/// The manager's name in `managedFields`.
const FIELD_MANAGER: &str = "testkit";

impl ControlPlane {
    /// Applies an object. Without a namespace, the object is cluster-wide.
    ///
    /// # Errors
    /// The API server does not know the kind, or refuses the object.
    pub async fn apply(&self, object: &DynamicObject) -> Result<DynamicObject, Error> {
        self.apply_with(object, &parameters()).await
    }

    /// Applies an object as a dry run: it passes all of admission, and the API server does not store it.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub async fn try_out(&self, object: &DynamicObject) -> Result<DynamicObject, Error> {
        self.apply_with(object, &PatchParams { dry_run: true, ..parameters() }).await
    }

    async fn apply_with(
        &self,
        object: &DynamicObject,
        parameters: &PatchParams,
    ) -> Result<DynamicObject, Error> {
        let name = object.name_any();
        let kind = object.types.as_ref().and_then(|types| GroupVersionKind::try_from(types).ok());
        let kind = kind.ok_or_else(|| Error::Format {
            file: "manifest",
            why: format!("`{name}` has no `apiVersion` or no `kind`"),
        })?;
        let resource = ApiResource::from_gvk(&kind);
        let api: Api<DynamicObject> = match object.namespace() {
            Some(namespace) => Api::namespaced_with(self.admin(), &namespace, &resource),
            None => Api::all_with(self.admin(), &resource),
        };
        api.patch(&name, parameters, &Patch::Apply(object))
            .await
            .map_err(Error::kubernetes(format!("apply the {} `{name}`", kind.kind)))
    }
}

fn parameters() -> PatchParams {
    PatchParams { force: true, ..PatchParams::apply(FIELD_MANAGER).validation_strict() }
}

/// The objects in a stream of YAML documents.
///
/// # Errors
/// The stream contains something else.
pub fn documents(text: &str) -> Result<Vec<DynamicObject>, Error> {
    let unreadable = |why: String| Error::Format { file: "manifest", why };
    let documents: Vec<Option<DynamicObject>> =
        serde_saphyr::from_multiple(text).map_err(|error| unreadable(error.to_string()))?;
    Ok(documents.into_iter().flatten().collect())
}
