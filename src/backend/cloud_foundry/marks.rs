//! The labels and annotations by which the operator recognizes its keys. It selects keys by labels, and reads
//! annotations.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::wire::{Annotations, BindingMetadata, CredentialBinding, NewBindingMetadata};
use crate::{
    backend::{KeyRequest, LostClusters, Owner, Restored},
    lifecycle::{Identity, MarkedKey, Sequence},
};

const MANAGED_BY: &str = "servicekeys.dev/managed-by";
pub(super) const OWNER: &str = "servicekeys.dev/owner";
const CLUSTER: &str = "servicekeys.dev/cluster";

const NAMESPACE: &str = "servicekeys.dev/namespace";
const NAME: &str = "servicekeys.dev/name";
const SEQUENCE: &str = "servicekeys.dev/sequence";
const INPUTS: &str = "servicekeys.dev/inputs";
const CLUSTER_ID: &str = "servicekeys.dev/cluster-id";

/// The name of the operator in labels.
const OPERATOR: &str = "servicekey-operator";

/// The marks of a new key.
pub(super) fn new_metadata(request: &KeyRequest) -> NewBindingMetadata {
    let Owner { namespace, name, uid: _, cluster_id } = &request.owner;
    let owner = request.identity.owner.to_string();
    let mut labels = BTreeMap::from([(MANAGED_BY, OPERATOR.to_owned()), (OWNER, owner)]);
    let mut annotations = BTreeMap::from([
        (NAMESPACE, namespace.clone()),
        (NAME, name.clone()),
        (SEQUENCE, request.identity.sequence.to_string()),
        (INPUTS, request.inputs.clone()),
    ]);
    if let Some(cluster) = cluster_id {
        labels.insert(CLUSTER, cluster.clone());
        annotations.insert(CLUSTER_ID, cluster.clone());
    }
    NewBindingMetadata { labels, annotations }
}

/// A change that removes all marks from a key: the API deletes entries that are set to null.
pub(super) fn none() -> Value {
    let nothing = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
    let labels: Map<String, Value> = nothing(&[MANAGED_BY, OWNER, CLUSTER]);
    let annotations: Map<String, Value> = nothing(&[NAMESPACE, NAME, SEQUENCE, INPUTS, CLUSTER_ID]);
    json!({"metadata": {"labels": labels, "annotations": annotations}})
}

/// Selects the keys of this operator.
pub(super) fn selector_of_all(cluster_id: Option<&str>) -> String {
    let cluster = cluster_id.map(|cluster| format!(",{CLUSTER}={cluster}")).unwrap_or_default();
    format!("{MANAGED_BY}={OPERATOR}{cluster}")
}

/// Selects the keys of one ServiceKey.
pub(super) fn selector_of_one(identity: Identity) -> String {
    format!("{OWNER}={}", identity.owner)
}

/// Whether this is the key of this identity. A user may have removed the annotations.
pub(super) fn is_ours(key: &CredentialBinding, identity: Identity) -> bool {
    let BindingMetadata { labels, annotations } = &key.metadata;
    labels.owner == Some(identity.owner.to_string())
        && annotations.sequence.as_ref().is_none_or(|sequence| *sequence == identity.sequence.to_string())
}

/// Like [`is_ours`], but a key without a sequence number must also have one of the names of the requested key.
pub(super) fn is_ours_by_name(key: &CredentialBinding, request: &KeyRequest) -> bool {
    let names = [Some(&request.name), request.former_name.as_ref()];
    is_ours_by_one_of(key, request.identity, names.into_iter().flatten())
}

/// Like [`is_ours_by_name`], with these names.
pub(super) fn is_ours_by_one_of<'a>(
    key: &CredentialBinding,
    identity: Identity,
    mut names: impl Iterator<Item = &'a String>,
) -> bool {
    is_ours(key, identity)
        && (key.metadata.annotations.sequence.is_some() || names.any(|name| Some(name) == key.name.as_ref()))
}

/// Whether the key bears the complete mark of this identity: owner and sequence number.
pub(super) fn bears(key: &CredentialBinding, identity: Identity) -> bool {
    is_ours(key, identity) && key.metadata.annotations.sequence.is_some()
}

/// Whether the key was created from the requested inputs. A key that does not record its inputs counts.
pub(super) fn is_made_for(key: &CredentialBinding, request: &KeyRequest) -> bool {
    key.metadata.annotations.inputs.as_ref().is_none_or(|made_from| request.is_fulfilled_by(made_from))
}

/// Describes the owner of a key to the user of another ServiceKey. It names only a ServiceKey of the same namespace.
pub(super) fn owner_in_words(key: &CredentialBinding, asking: &Owner) -> String {
    let BindingMetadata { labels, annotations } = &key.metadata;
    if labels.owner.is_none() {
        return "another owner".to_owned();
    }
    let is_of_this_namespace = annotations.namespace.as_ref() == Some(&asking.namespace)
        && cluster_of(key) == asking.cluster_id.as_deref();
    match &annotations.name {
        Some(name) if is_of_this_namespace => format!("the ServiceKey `{name}` of this namespace"),
        _ => "a ServiceKey of another namespace or cluster".to_owned(),
    }
}

/// The id of the cluster that the key was created in, if the operator knew it.
pub(super) fn cluster_of(key: &CredentialBinding) -> Option<&str> {
    key.metadata.labels.cluster.as_deref()
}

/// Whether the key was created for a ServiceKey with this namespace and name.
fn is_of_namesake(key: &CredentialBinding, of: &Owner) -> bool {
    let Annotations { namespace, name, .. } = &key.metadata.annotations;
    (namespace.as_ref(), name.as_ref()) == (Some(&of.namespace), Some(&of.name))
}

/// The namespace of the ServiceKey that the key belongs to.
pub(super) const fn namespace_of(key: &CredentialBinding) -> Option<&String> {
    key.metadata.annotations.namespace.as_ref()
}

/// Reads the marks of a key. Returns `None` for a key without a valid owner.
pub(super) fn marked(key: CredentialBinding) -> Option<MarkedKey> {
    let owner = Uuid::try_parse(owner_of(&key)?).ok()?;
    let Annotations { namespace, name: _, sequence, inputs: _ } = key.metadata.annotations;
    let sequence = sequence.and_then(|sequence| Sequence::new(sequence.parse().ok()?));
    Some(MarkedKey { id: key.guid, name: key.name.unwrap_or_default(), owner, sequence, namespace })
}

/// The UID of the ServiceKey that the key belongs to.
pub(super) fn owner_of(key: &CredentialBinding) -> Option<&str> {
    key.metadata.labels.owner.as_deref()
}

/// Whether the key was created in this cluster, or in a cluster that the provider declares lost.
pub(super) fn is_of_a_known_cluster(
    key: &CredentialBinding,
    request: &KeyRequest,
    lost: &LostClusters,
) -> bool {
    let cluster = cluster_of(key);
    cluster == request.owner.cluster_id.as_deref() || cluster.is_some_and(|cluster| lost.contain(cluster))
}

/// Whether a restored ServiceKey may own the key; always true for any other ServiceKey. A former UID alone proves
/// nothing.
pub(super) fn may_be_inherited(key: &CredentialBinding, request: &KeyRequest, lost: &LostClusters) -> bool {
    request.restored.is_none_or(|Restored { login_is_own }| {
        is_of_a_known_cluster(key, request, lost) && (login_is_own || is_of_namesake(key, &request.owner))
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::backend::cloud_foundry::pending_operations::tests::request;

    const SHARED: Option<Restored> = Some(Restored { login_is_own: false });
    const OWN: Option<Restored> = Some(Restored { login_is_own: true });

    #[rstest]
    #[case::not_restored(None, |_: &mut KeyRequest| {}, true)]
    #[case::the_same_name(SHARED, |_: &mut KeyRequest| {}, true)]
    #[case::another_namespace(SHARED, |created: &mut KeyRequest| created.owner.namespace.push('2'), false)]
    #[case::another_name(SHARED, |created: &mut KeyRequest| created.owner.name.push('2'), false)]
    #[case::through_an_own_login(OWN, |created: &mut KeyRequest| created.owner.name.push('2'), true)]
    #[case::another_cluster(OWN, |created: &mut KeyRequest| created.owner.cluster_id = Some("other".into()), false)]
    #[case::a_lost_cluster(OWN, |created: &mut KeyRequest| created.owner.cluster_id = Some("lost".into()), true)]
    #[case::no_cluster(OWN, |created: &mut KeyRequest| created.owner.cluster_id = None, false)]
    fn a_key_is_inherited_only_where_its_mark_shows_more_than_a_uid(
        #[case] restored: Option<Restored>,
        #[case] created: fn(&mut KeyRequest),
        #[case] expected: bool,
    ) {
        let mut request = request(1);
        request.restored = restored;
        let mut former = request.clone();
        created(&mut former);
        let key = serde_json::json!({"guid": "guid", "metadata": new_metadata(&former)});
        let lost = LostClusters::new(vec!["lost".to_owned()]);
        assert_eq!(may_be_inherited(&serde_json::from_value(key).unwrap(), &request, &lost), expected);
    }
}
