//! Bounds of an object by its resource, and the note on an object about the parts that were omitted.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::extent;
use crate::api::marks;

/// The maximum depth of an object. `serde_json` refuses 128 levels, and a list takes two of them.
const LEVELS: usize = 64;

/// The size or the bound of a JSON text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Size {
    /// The depth: 0 for a number, 1 for `{}`.
    pub levels: usize,
    /// The number of bytes in the API server's answer.
    pub bytes: usize,
    /// The number of values. The bytes alone do not bound the memory: 64 KiB of `[{"":0},{"":0}…` take 5 MiB.
    pub values: usize,
}

/// The bound of `spec.parameters` of a ServiceKey, and of all entries of its `parametersFrom` together.
pub(crate) const PARAMETERS: Size = Size { levels: 32, bytes: 64 << 10, values: 2_000 };

/// The bound of one ServiceKey, KeyProvider or ClusterKeyProvider, without the parts that have their own bound. The
/// `instance` of a ServiceKey and the status have this bound each, so that a large other part does not cause their
/// omission.
const OWN: Size = Size { levels: LEVELS, bytes: 256 << 10, values: 5_000 };
/// The bound of the metadata of a Secret or a Namespace in the caches.
const METADATA: Size = Size { levels: LEVELS, bytes: 32 << 10, values: 1_000 };
/// The bound of a pod in a list.
const POD: Size = Size { levels: LEVELS, bytes: 128 << 10, values: 10_000 };
/// The bound of any other object. etcd stores no object of this size.
const OBJECT: Size = Size { levels: LEVELS, bytes: 4 << 20, values: 100_000 };
/// The bound of the `managedFields` of a Secret.
const MANAGED_FIELDS: Size = Size { levels: 16, bytes: 32 << 10, values: 2_000 };

/// The bound of each part that identifies the object, and of each annotation that the operator reads.
const IDENTITY: Size = Size { levels: LEVELS, bytes: 16 << 10, values: 1_000 };

/// The annotation that lists the omitted parts of an object. The guard removes it from every answer before it adds its
/// own, so it never comes from outside. [`without_note`] removes it before a write, so it never leaves the process.
const OMITTED: &str = "servicekeys.dev/omitted";

/// The annotations that the operator reads on its own kinds of objects.
const OWN_ANNOTATIONS: [&str; 3] =
    [marks::ABANDON_ANNOTATION, marks::PLAN_IDS_ANNOTATION, marks::ROTATE_ANNOTATION];

/// Parts of `metadata` that identify the object and its version.
const IDENTITY_PARTS: [&str; 9] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generation",
    "name",
    "namespace",
    "resourceVersion",
    "uid",
];

/// The reason why a part was omitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Excess {
    Levels,
    Bytes,
    Values,
    /// A JSON value that can't be stored, such as a number out of range.
    Value,
    /// A form that this version of the operator does not know.
    Form,
}

/// A part of an object that was omitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Omission {
    /// The path of the part, such as `spec.parameters`.
    pub path: String,
    pub excess: Excess,
    /// The bound of the part.
    pub bound: Size,
}

impl Omission {
    /// The omission of a part with a form that this version of the operator does not know.
    #[must_use]
    pub(crate) fn of_unknown_form(path: &str) -> Self {
        Self { path: path.to_owned(), excess: Excess::Form, bound: OWN }
    }
}

impl fmt::Display for Omission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.path, self.bound.refusal(self.excess))
    }
}

impl Size {
    /// Measures a text, even one that is not JSON.
    #[must_use]
    pub(crate) fn measure(text: &[u8]) -> Self {
        let extent = extent::measure(text);
        Self { levels: extent.levels(), bytes: text.len(), values: extent.values() }
    }

    /// The size of two texts together.
    #[must_use]
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            levels: self.levels.max(other.levels),
            bytes: self.bytes + other.bytes,
            values: self.values + other.values,
        }
    }

    /// The first respect in which this size exceeds the bound.
    pub(super) const fn excess_over(&self, bound: &Self) -> Option<Excess> {
        if self.levels > bound.levels {
            Some(Excess::Levels)
        } else if self.bytes > bound.bytes {
            Some(Excess::Bytes)
        } else if self.values > bound.values {
            Some(Excess::Values)
        } else {
            None
        }
    }

    /// The message for the user who wrote a text of this size. `None` if it is within the bound.
    #[must_use]
    pub(crate) fn refusal_by(&self, bound: &Self) -> Option<String> {
        self.excess_over(bound).map(|excess| bound.refusal(excess))
    }

    /// The message about a part that exceeds this bound.
    fn refusal(&self, excess: Excess) -> String {
        let Self { levels, bytes, values } = self;
        match excess {
            Excess::Levels => format!("is nested deeper than {levels} levels; flatten it"),
            Excess::Bytes => format!("takes more than {} KiB as JSON; shorten it", bytes >> 10),
            Excess::Values => format!("contains more than {values} JSON values; reduce their number"),
            Excess::Value => "contains a value that can't be read; correct it".to_owned(),
            Excess::Form => {
                "has a form that this operator can't read; correct it, or update the operator".to_owned()
            }
        }
    }
}

/// The parts of an object that were omitted.
#[must_use]
pub(crate) fn omissions(meta: &ObjectMeta) -> Vec<Omission> {
    let note = meta.annotations.as_ref().and_then(|annotations| annotations.get(OMITTED));
    note.and_then(|note| serde_json::from_str(note).ok()).unwrap_or_default()
}

/// Adds these omissions to the note of an object.
pub(crate) fn note_omissions(meta: &mut ObjectMeta, further: Vec<Omission>) -> serde_json::Result<()> {
    let mut omitted = omissions(meta);
    omitted.extend(further);
    meta.annotations.get_or_insert_default().extend([note(&omitted)?]);
    Ok(())
}

/// The metadata without the note about omitted parts, as it may be written.
#[must_use]
pub(crate) fn without_note(mut meta: ObjectMeta) -> ObjectMeta {
    meta.annotations.iter_mut().for_each(|annotations| drop(annotations.remove(OMITTED)));
    meta
}

/// The annotation for these omissions.
pub(super) fn note(omissions: &[Omission]) -> serde_json::Result<(String, String)> {
    Ok((OMITTED.to_owned(), serde_json::to_string(omissions)?))
}

/// The bounds of one object.
#[derive(Clone, Copy, Debug)]
pub(super) struct ObjectBounds {
    /// The bound of the object without the parts that have their own bound.
    pub(super) whole: Size,
    /// Whether the object passes without the parts that exceed a bound. Otherwise the whole answer fails.
    pub(super) omits: bool,
    metadata: MetadataRule,
    /// Whether `managedFields` pass.
    tells_writers: bool,
}

/// The parts of the metadata that pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MetadataRule {
    /// All parts, because the operator may write the object back. `managedFields` pass only if [`ObjectBounds`] allow
    /// them.
    Whole,
    /// The identity and the operator's own annotations.
    Own,
    /// The identity and the labels.
    Labels,
}

/// The rule for one part of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PartRule {
    /// It is dropped, because the operator does not read it.
    Drop,
    /// It passes within the bound of the whole object.
    Share,
    /// It passes within a bound of its own.
    Within(Size),
    /// It passes within a bound of its own if it is a `managedFields` that the client can read. Otherwise the object
    /// passes without it.
    Writers(Size),
}

impl ObjectBounds {
    /// The bounds of the objects in an answer about this resource. `of_many` is true for a list or a watch.
    pub(super) fn for_resource(resource: &str, of_many: bool) -> Self {
        let of_own_kinds =
            Self { whole: OWN, omits: true, metadata: MetadataRule::Own, tells_writers: false };
        match resource {
            "servicekeys"
            | "servicekeys/status"
            | "keyproviders"
            | "keyproviders/status"
            | "clusterkeyproviders"
            | "clusterkeyproviders/status" => of_own_kinds,
            "secrets" if of_many => Self { whole: METADATA, metadata: MetadataRule::Whole, ..of_own_kinds },
            "pods" => Self { whole: POD, metadata: MetadataRule::Whole, ..of_own_kinds },
            "namespaces" => Self { whole: METADATA, metadata: MetadataRule::Labels, ..of_own_kinds },
            // The operator may write back a Secret that it read by name, so it passes as a whole or not at all.
            _ => Self {
                whole: OBJECT,
                omits: of_many,
                metadata: MetadataRule::Whole,
                tells_writers: resource == "secrets",
            },
        }
    }

    /// The rule for the part at a path.
    pub(super) fn rule(&self, path: &[&str]) -> PartRule {
        let identity = PartRule::Within(IDENTITY);
        match path {
            ["apiVersion" | "kind"] => identity,
            ["metadata", "managedFields"] if self.tells_writers => PartRule::Writers(MANAGED_FIELDS),
            ["metadata", "managedFields"] => PartRule::Drop,
            ["metadata", part] if IDENTITY_PARTS.contains(part) => identity,
            ["metadata", "annotations"] => self.unless(MetadataRule::Labels),
            ["metadata", "labels"] => self.unless(MetadataRule::Own),
            ["metadata", _] => {
                if self.metadata == MetadataRule::Whole {
                    PartRule::Share
                } else {
                    PartRule::Drop
                }
            }
            ["metadata", "annotations", OMITTED] => PartRule::Drop,
            _ if self.metadata != MetadataRule::Own => PartRule::Share,
            ["metadata", "annotations", name] if OWN_ANNOTATIONS.contains(name) => identity,
            ["metadata", "annotations", _] => PartRule::Drop,
            ["spec", "parameters"] => PartRule::Within(PARAMETERS),
            // These parts count a ServiceKey and find its Secret and keys. They pass even if other parts are omitted.
            ["spec", "providerRef"] | ["spec", "secret", "name"] => identity,
            ["spec", "instance"] | ["status"] => PartRule::Within(OWN),
            _ => PartRule::Share,
        }
    }

    fn unless(&self, dropped: MetadataRule) -> PartRule {
        if self.metadata == dropped { PartRule::Drop } else { PartRule::Share }
    }

    /// The bound of a part at this depth that shares the bound of the object.
    pub(super) const fn shared_at(&self, depth: usize) -> Size {
        Size { levels: self.whole.levels.saturating_sub(depth), ..self.whole }
    }
}
