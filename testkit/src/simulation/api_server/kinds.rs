//! The resources that the model serves, and how each of them differs from the others.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::{schema::Schema, typed};

/// The behaviour of a resource that is neither in its schema nor common to all.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Strategy {
    Custom,
    Secret,
    Namespace,
    Event,
    Lease,
    Quota,
    Workload,
}

/// A resource.
pub(super) struct Kind {
    pub(super) index: usize,
    pub(super) group: String,
    pub(super) version: String,
    pub(super) plural: String,
    pub(super) kind: String,
    pub(super) namespaced: bool,
    pub(super) has_status: bool,
    pub(super) strategy: Strategy,
    pub(super) schema: Schema,
    /// The fields of field selectors.
    pub(super) selectable: Vec<String>,
}

impl Kind {
    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The resource with its group, as messages name it.
    pub(super) fn qualified_resource(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    pub(super) fn qualified_kind(&self) -> String {
        let group = self.group_of_kind();
        if group.is_empty() { self.kind.clone() } else { format!("{}.{group}", self.kind) }
    }

    /// The group of the kind in messages. Events are those of the core group there.
    pub(super) fn group_of_kind(&self) -> &str {
        if self.strategy == Strategy::Event { "" } else { &self.group }
    }

    /// The start of the keys in etcd.
    pub(super) fn storage_prefix(&self) -> String {
        if self.is_custom() { format!("{}/{}", self.group, self.plural) } else { self.plural.clone() }
    }

    pub(super) fn is_custom(&self) -> bool {
        self.strategy == Strategy::Custom
    }

    /// Whether an update without a `resourceVersion` replaces the object in any version.
    pub(super) fn allows_unconditional_update(&self) -> bool {
        !matches!(self.strategy, Strategy::Custom | Strategy::Lease)
    }

    /// Whether an update creates an object that does not exist.
    pub(super) fn is_created_by_update(&self) -> bool {
        matches!(self.strategy, Strategy::Event | Strategy::Lease)
    }
}

/// The resources of a cluster, prepared once for any number of servers.
#[derive(Clone)]
pub struct Definitions {
    kinds: Arc<Vec<Arc<Kind>>>,
    paths: Arc<BTreeMap<(String, String, String), usize>>,
}

impl Definitions {
    /// The built-in resources, and those of these CustomResourceDefinitions.
    ///
    /// # Errors
    /// Names a part of a definition that the model does not know, such as a new validation rule.
    pub fn new(crds: &[Value]) -> Result<Self, String> {
        let mut kinds = typed::kinds()?;
        for crd in crds {
            kinds.push(custom(crd)?);
        }
        let mut paths = BTreeMap::new();
        for (index, kind) in kinds.iter_mut().enumerate() {
            kind.index = index;
            paths.insert((kind.group.clone(), kind.version.clone(), kind.plural.clone()), index);
        }
        Ok(Self { kinds: Arc::new(kinds.into_iter().map(Arc::new).collect()), paths: Arc::new(paths) })
    }

    pub(super) fn kinds(&self) -> &[Arc<Kind>] {
        &self.kinds
    }

    pub(super) fn at_path(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        let key = (group.to_owned(), version.to_owned(), plural.to_owned());
        self.kinds.get(*self.paths.get(&key)?)
    }

    pub(super) fn by_kind(&self, api_version: &str, kind: &str) -> Option<&Arc<Kind>> {
        self.kinds.iter().find(|one| one.kind == kind && one.api_version() == api_version)
    }

    pub(super) fn by_resource(&self, plural: &str) -> Option<&Arc<Kind>> {
        self.kinds.iter().find(|one| one.plural == plural)
    }

    pub(super) fn by_strategy(&self, strategy: Strategy) -> impl Iterator<Item = &Arc<Kind>> {
        self.kinds.iter().filter(move |one| one.strategy == strategy)
    }
}

fn custom(crd: &Value) -> Result<Kind, String> {
    let spec = &crd["spec"];
    let text =
        |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| format!("not a definition: {crd}"));
    let versions = spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let [version] = versions else {
        return Err("the model serves definitions with exactly one version".into());
    };
    let plural = text(&spec["names"]["plural"])?;
    let mut schema = version["schema"]["openAPIV3Schema"].clone();
    // The API server adds these to each definition.
    for field in ["apiVersion", "kind"] {
        schema["properties"][field] = serde_json::json!({"type": "string"});
    }
    schema["properties"]["metadata"] =
        serde_json::json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let paths = version["selectableFields"].as_array().into_iter().flatten();
    let paths = paths.filter_map(|field| field["jsonPath"].as_str()?.strip_prefix('.').map(str::to_owned));
    let namespaced = spec["scope"] == "Namespaced";
    Ok(Kind {
        index: 0,
        group: text(&spec["group"])?,
        version: text(&version["name"])?,
        kind: text(&spec["names"]["kind"])?,
        namespaced,
        has_status: version["subresources"].get("status").is_some(),
        strategy: Strategy::Custom,
        schema: Schema::compile(&schema, &plural)?,
        selectable: selectable(namespaced).chain(paths).collect(),
        plural,
    })
}

/// The fields by which all objects can be selected.
pub(super) fn selectable(namespaced: bool) -> impl Iterator<Item = String> {
    let fields = if namespaced { &["metadata.name", "metadata.namespace"][..] } else { &["metadata.name"] };
    fields.iter().map(|field| (*field).to_owned())
}
