//! Objects that the operator could read only in part, because a user made them too large or a newer operator
//! wrote them. They stay in the caches, so that they count. The operator only reports them, and does nothing
//! else for them.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, core::PartialObjectMeta};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    api::{
        ClusterKeyProvider, KeyProvider, ProviderKind, ProviderRef, Reason, ServiceKey, ServiceKeySpec,
        ServiceKeyStatus,
    },
    lifecycle::Problem,
    runtime::answers::{self, Omission},
};

const PARAMETERS: &str = "spec.parameters";
const ANNOTATIONS: &str = "metadata.annotations";
const SPEC: &str = "spec";
const STATUS: &str = "status";

/// Parts that the operator can do without: it reports that it has not read them, and continues.
const DISPENSABLE: [&str; 2] = [PARAMETERS, ANNOTATIONS];

/// The problem with the part of the spec that was not read.
pub(super) fn excess(meta: &ObjectMeta) -> Option<Problem> {
    answers::omissions(meta).into_iter().find(|omission| omission.path.starts_with(SPEC)).map(problem)
}

/// The problem with a part that was not read and that the operator needs. Acting on such an object could lose
/// the missing part: a key, or the finalizers of others.
pub(super) fn obstacle(meta: &ObjectMeta) -> Option<Problem> {
    let indispensable = |omission: &Omission| !DISPENSABLE.contains(&omission.path.as_str());
    answers::omissions(meta).into_iter().find(indispensable).map(problem)
}

/// Whether the status was read, so that it can be written back as a whole.
pub(super) fn has_read_status(meta: &ObjectMeta) -> bool {
    answers::omissions(meta).iter().all(|omission| omission.path != STATUS)
}

/// How many parts of an object were not read. Another number counts as a change, although the generation is
/// the same.
pub(super) fn parts<K: Resource>(object: &K) -> Option<u64> {
    u64::try_from(answers::omissions(object.meta()).len()).ok()
}

fn problem(omission: Omission) -> Problem {
    Problem { reason: Reason::InvalidSpec, message: omission.to_string() }
}

/// A kind of object that is watched even if some of its objects can't be read.
pub(super) trait Watched: Resource<DynamicType = ()> + DeserializeOwned {
    /// The part of an object that can be read, with a note of the rest; `None` if that part is of no use.
    fn readable_part(object: &Value, meta: &ObjectMeta) -> Option<Self>;
}

impl Watched for ServiceKey {
    fn readable_part(object: &Value, meta: &ObjectMeta) -> Option<Self> {
        let mut unread = Vec::new();
        let spec = ServiceKeySpec::deserialize(&object[SPEC]).or_else(|_| {
            // A part that the guard omitted may explain the failure. Otherwise it has to be noted.
            if obstacle(meta).is_none() {
                unread.push(Omission::of_unknown_form(SPEC));
            }
            identifying_part(&object[SPEC])
        });
        let status = Option::<ServiceKeyStatus>::deserialize(&object[STATUS]).unwrap_or_else(|_| {
            unread.push(Omission::of_unknown_form(STATUS));
            None
        });
        let mut metadata = meta.clone();
        answers::note_omissions(&mut metadata, unread).ok()?;
        Some(Self { metadata, spec: spec.ok()?, status })
    }
}

/// A spec with only the names of the provider and of the Secret, as far as they can be read.
fn identifying_part(spec: &Value) -> serde_json::Result<ServiceKeySpec> {
    let unknown = || ProviderRef { kind: ProviderKind::default(), name: String::new() };
    let provider = ProviderRef::deserialize(&spec["providerRef"]).unwrap_or_else(|_| unknown());
    let secret = Option::<String>::deserialize(&spec["secret"]["name"]).unwrap_or_default();
    serde_json::from_value(json!({"providerRef": provider, "instance": {}, "secret": {"name": secret}}))
}

impl Watched for KeyProvider {
    fn readable_part(_: &Value, _: &ObjectMeta) -> Option<Self> {
        None
    }
}

impl Watched for ClusterKeyProvider {
    fn readable_part(_: &Value, _: &ObjectMeta) -> Option<Self> {
        None
    }
}

/// An object as it came from the API server. An object that can't be read must not keep others from being
/// read.
#[derive(Clone, Debug)]
pub(super) enum Received<K> {
    Readable(K),
    UnreadObject(Box<Unreadable<K>>),
}

/// An object that could not be read as a whole.
#[derive(Clone, Debug)]
pub(super) struct Unreadable<K> {
    pub meta: ObjectMeta,
    /// The part that could be read, if it is of use.
    pub part: Option<K>,
    /// The error of the parser.
    pub error: String,
}

impl<'de, K: Watched> Deserialize<'de> for Received<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Value::deserialize(deserializer)?;
        K::deserialize(&object).map(Self::Readable).or_else(|error| {
            let PartialObjectMeta { metadata: meta, .. } =
                PartialObjectMeta::<K>::deserialize(&object).map_err(serde::de::Error::custom)?;
            let part = K::readable_part(&object, &meta);
            Ok(Self::UnreadObject(Box::new(Unreadable { meta, part, error: error.to_string() })))
        })
    }
}

impl<K: Resource> Resource for Received<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(of: &K::DynamicType) -> Cow<'_, str> {
        K::kind(of)
    }

    fn group(of: &K::DynamicType) -> Cow<'_, str> {
        K::group(of)
    }

    fn version(of: &K::DynamicType) -> Cow<'_, str> {
        K::version(of)
    }

    fn plural(of: &K::DynamicType) -> Cow<'_, str> {
        K::plural(of)
    }

    fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Readable(object) => object.meta(),
            Self::UnreadObject(object) => &object.meta,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Readable(object) => object.meta_mut(),
            Self::UnreadObject(object) => &mut object.meta,
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn received(change: impl FnOnce(&mut Value)) -> Unreadable<ServiceKey> {
        let mut key = json!({
            "apiVersion": "servicekeys.dev/v1alpha1",
            "kind": "ServiceKey",
            "metadata": {"name": "key", "namespace": "team", "uid": "u", "finalizers": ["f"]},
            "spec": {
                "providerRef": {"kind": "ClusterKeyProvider", "name": "shared"},
                "instance": {"id": "db"},
                "keyName": "reporting",
                "secret": {"name": "creds"},
            },
            "status": {"key": {"sequence": 2, "id": "a", "createdAt": "2026-01-01T00:00:00Z", "inputs": ""}},
        });
        change(&mut key);
        match serde_json::from_value(key).unwrap() {
            Received::Readable(key) => panic!("it can be read: {key:?}"),
            Received::UnreadObject(unreadable) => *unreadable,
        }
    }

    const SPEC_OF_UNKNOWN_FORM: &str =
        "`spec` has a form that this operator can't read; correct it, or update the operator";

    /// Omits a part of the spec, as the guard does.
    fn omit(key: &mut Value, part: &str) {
        key["spec"].as_object_mut().unwrap().remove(part);
        let bound = json!({"levels": 1, "bytes": 262_144, "values": 1});
        let note = json!([{"path": format!("spec.{part}"), "excess": "Bytes", "bound": bound}]).to_string();
        key["metadata"]["annotations"] = json!({"servicekeys.dev/omitted": note});
    }

    fn of_another_version_without_parameters(key: &mut Value) {
        omit(key, "parameters");
        key["spec"]["adoption"] = json!("Sometimes");
    }

    #[rstest]
    #[case::a_field_of_another_version(|key: &mut Value| key["spec"]["adoption"] = json!("Sometimes"), SPEC_OF_UNKNOWN_FORM)]
    #[case::a_part_of_another_type(|key: &mut Value| key["spec"]["secret"]["labels"] = json!([]), SPEC_OF_UNKNOWN_FORM)]
    #[case::another_part_that_was_left_out(of_another_version_without_parameters, SPEC_OF_UNKNOWN_FORM)]
    #[case::a_part_that_was_left_out(
        |key: &mut Value| omit(key, "instance"),
        "`spec.instance` takes more than 256 KiB as JSON; shorten it"
    )]
    fn what_counts_a_service_key_is_read(#[case] change: fn(&mut Value), #[case] words: &str) {
        let part = received(change).part.unwrap();
        assert_eq!(obstacle(&part.metadata).unwrap().message, words);
        assert_eq!(part.metadata.finalizers.as_deref(), Some(&["f".to_owned()][..]));
        assert_eq!(part.spec.provider_ref.name, "shared");
        assert_eq!(part.spec.secret.name.as_deref(), Some("creds"));
        assert_eq!(part.status.unwrap().key.unwrap().sequence, 2);
        assert!(has_read_status(&part.metadata));
    }

    #[test]
    fn a_service_key_of_an_unknown_kind_of_provider_still_has_its_keys() {
        let part = received(|key| key["spec"]["providerRef"]["kind"] = json!("Vault")).part.unwrap();
        assert_eq!(part.spec.provider_ref.name, "");
        assert_eq!(part.spec.secret.name.as_deref(), Some("creds"));
        assert_eq!(part.status.unwrap().key.unwrap().sequence, 2);
    }

    #[test]
    fn a_status_that_is_not_read_is_not_written_back() {
        let part = received(|key| key["status"]["key"]["gone"] = json!({"why": "Stolen"})).part.unwrap();
        assert!(part.status.is_none() && !has_read_status(&part.metadata));
        assert_eq!(part.spec.key_name.as_deref(), Some("reporting"), "the spec can be read as a whole");
        assert!(obstacle(&part.metadata).unwrap().message.starts_with("`status` has a form that"));
        assert_eq!(excess(&part.metadata), None);
    }
}
