//! What is written on a key, so that it can be told from others: labels to select by, annotations to read.

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

/// The operator, as labels name it.
const OPERATOR: &str = "servicekey-operator";

/// The marks of a key that is to be made.
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

/// What takes all marks off a key: what is set to nothing goes.
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

/// Whether this is the key of this identity. Annotations are for reading, and may have been edited away.
pub(super) fn is_ours(key: &CredentialBinding, identity: Identity) -> bool {
    let BindingMetadata { labels, annotations } = &key.metadata;
    labels.owner == Some(identity.owner.to_string())
        && annotations.sequence.as_ref().is_none_or(|sequence| *sequence == identity.sequence.to_string())
}

/// The same, of a key without a number only where its name says that it is this one.
pub(super) fn is_ours_by_name(key: &CredentialBinding, request: &KeyRequest) -> bool {
    let names = [Some(&request.name), request.former_name.as_ref()];
    is_ours_by_one_of(key, request.identity, names.into_iter().flatten())
}

/// The same for these names.
pub(super) fn is_ours_by_one_of<'a>(
    key: &CredentialBinding,
    identity: Identity,
    mut names: impl Iterator<Item = &'a String>,
) -> bool {
    is_ours(key, identity)
        && (key.metadata.annotations.sequence.is_some() || names.any(|name| Some(name) == key.name.as_ref()))
}

/// Whether the key bears the whole mark of this identity: owner and number.
pub(super) fn bears(key: &CredentialBinding, identity: Identity) -> bool {
    is_ours(key, identity) && key.metadata.annotations.sequence.is_some()
}

/// Whether our key was made from these inputs, as far as it says.
pub(super) fn is_made_from(key: &CredentialBinding, inputs: &str) -> bool {
    key.metadata.annotations.inputs.as_ref().is_none_or(|made_from| made_from == inputs)
}

/// Whose key this is, in words for the user of another ServiceKey. Only one of the same namespace is named.
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

/// The id of the cluster of the ServiceKey that a key is of, where its operator knew it.
pub(super) fn cluster_of(key: &CredentialBinding) -> Option<&str> {
    key.metadata.labels.cluster.as_deref()
}

/// Whether the key was created for a ServiceKey of the namespace and the name of this one.
fn is_of_namesake(key: &CredentialBinding, of: &Owner) -> bool {
    let Annotations { namespace, name, .. } = &key.metadata.annotations;
    (namespace.as_ref(), name.as_ref()) == (Some(&of.namespace), Some(&of.name))
}

/// The namespace of the ServiceKey that a key is of.
pub(super) const fn namespace_of(key: &CredentialBinding) -> Option<&String> {
    key.metadata.annotations.namespace.as_ref()
}

/// A key that bears our mark, as far as it tells.
pub(super) fn marked(key: CredentialBinding) -> Option<MarkedKey> {
    let owner = Uuid::try_parse(owner_of(&key)?).ok()?;
    let Annotations { namespace, name: _, sequence, inputs: _ } = key.metadata.annotations;
    let sequence = sequence.and_then(|sequence| Sequence::new(sequence.parse().ok()?));
    Some(MarkedKey { id: key.guid, name: key.name.unwrap_or_default(), owner, sequence, namespace })
}

/// The UID of the ServiceKey that a key is of.
pub(super) fn owner_of(key: &CredentialBinding) -> Option<&str> {
    key.metadata.labels.owner.as_deref()
}

/// Whether the key was created in this cluster, or in one that the provider says is lost.
pub(super) fn is_of_a_known_cluster(
    key: &CredentialBinding,
    request: &KeyRequest,
    lost: &LostClusters,
) -> bool {
    let cluster = cluster_of(key);
    cluster == request.owner.cluster_id.as_deref() || cluster.is_some_and(|cluster| lost.contain(cluster))
}

/// Whether a restored ServiceKey may own the key; always true for any other ServiceKey. A former UID alone proves nothing.
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
