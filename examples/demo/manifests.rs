//! The files of `examples/manifests/`. The demo applies them as `kubectl apply --server-side` does.

use anyhow::Context;
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
    discovery::{self, Scope},
};
use serde_json::{Value, json};

/// The field manager of the objects that the demo applies.
const FIELD_MANAGER: &str = "demo";

pub struct Manifest {
    /// The name in `examples/manifests/`, or the path of another file.
    pub file: &'static str,
    text: &'static str,
}

macro_rules! manifest {
    ($file:literal) => {
        Manifest { file: $file, text: include_str!(concat!("../manifests/", $file)) }
    };
}

macro_rules! shipped {
    ($file:literal) => {
        Manifest {
            file: concat!("deploy/kustomize/cluster/", $file),
            text: include_str!(concat!("../../deploy/kustomize/cluster/", $file)),
        }
    };
}

/// The namespaces of the operator and of a team.
pub const NAMESPACES: Manifest = manifest!("00-namespaces.yaml");
/// The operator's login at the broker.
pub const LOGIN: Manifest = manifest!("10-broker-login.yaml");
/// The provider for the broker.
pub const PROVIDER: Manifest = manifest!("20-provider.yaml");
/// The main ServiceKey of the demo.
pub const KEY: Manifest = manifest!("30-servicekey.yaml");
/// A second ServiceKey, with a template for its Secret.
pub const KEY_WITH_TEMPLATE: Manifest = manifest!("40-servicekey-with-template.yaml");
/// The operator's namespace. An administrator creates it and the rights, so they are not among the user's manifests.
pub const OPERATORS_PLACE: Manifest = shipped!("namespace.yaml");
/// The operator's shipped rights.
pub const RIGHTS: Manifest = shipped!("rbac.yaml");
/// The operator's service account in these files.
pub const SERVICE_ACCOUNT: &str = "servicekey-operator";

impl Manifest {
    /// The objects in the file.
    ///
    /// # Errors
    /// If the file contains something else.
    pub fn objects(&self) -> anyhow::Result<Vec<DynamicObject>> {
        let unreadable = || format!("`{}` can't be read", self.file);
        let documents: Vec<Value> = serde_saphyr::from_multiple(self.text).with_context(unreadable)?;
        documents.into_iter().map(|value| serde_json::from_value(value).with_context(unreadable)).collect()
    }

    /// The only object in the file, as its own type.
    ///
    /// # Errors
    /// If the file contains something else.
    pub fn object<K: serde::de::DeserializeOwned>(&self) -> anyhow::Result<K> {
        serde_saphyr::from_str(self.text).with_context(|| format!("`{}` can't be read", self.file))
    }

    /// Applies all objects of the file, and returns the resulting objects.
    ///
    /// # Errors
    /// If the API server refuses one.
    pub async fn apply(&self, client: &Client) -> anyhow::Result<Vec<DynamicObject>> {
        let mut applied = Vec::new();
        for object in self.objects()? {
            applied
                .push(apply(client, object).await.with_context(|| format!("can't apply `{}`", self.file))?);
        }
        Ok(applied)
    }
}

/// Applies the provider with the URL of another broker, and returns the URL in the file.
///
/// # Errors
/// If the API server refuses it.
pub async fn apply_provider(client: &Client, url: &str) -> anyhow::Result<String> {
    let mut provider: DynamicObject = PROVIDER.object()?;
    let named = provider.data.pointer_mut("/spec/openServiceBroker/url");
    let named = named.with_context(|| format!("`{}` names no URL", PROVIDER.file))?;
    let before = std::mem::replace(named, json!(url));
    apply(client, provider).await.with_context(|| format!("can't apply `{}`", PROVIDER.file))?;
    Ok(before.as_str().unwrap_or_default().to_owned())
}

async fn apply(client: &Client, object: DynamicObject) -> anyhow::Result<DynamicObject> {
    let types = object.types.as_ref().context("an object has no `kind`")?;
    let (resource, capabilities) =
        discovery::pinned_kind(client, &GroupVersionKind::try_from(types)?).await?;
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => {
            let namespace = object.namespace().context("an object has no `metadata.namespace`")?;
            Api::namespaced_with(client.clone(), &namespace, &resource)
        }
    };
    let parameters = PatchParams::apply(FIELD_MANAGER).validation_strict();
    Ok(api.patch(&object.name_any(), &parameters, &Patch::Apply(&object)).await?)
}
