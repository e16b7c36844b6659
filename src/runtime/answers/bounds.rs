//! How much of an object passes, by its resource, and the note on an object about the parts that did not.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::extent;
use crate::api::marks;

/// The most levels of an object. `serde_json` gives up at 128, of which a list takes two.
const LEVELS: usize = 64;

/// How large a JSON text is, or may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Size {
    /// Its levels: 0 for a number, 1 for `{}`.
    pub levels: usize,
    /// Its bytes, as the API server writes it.
    pub bytes: usize,
    /// Its values: what they take in memory does not follow from the bytes. 64 KiB of `[{"":0},{"":0}…` take 5 MiB.
    pub values: usize,
}

/// The bound of `spec.parameters` of a ServiceKey, and of all entries together that its `parametersFrom` names.
pub(crate) const PARAMETERS: Size = Size { levels: 32, bytes: 64 << 10, values: 2_000 };

/// The bound of one ServiceKey, KeyProvider or ClusterKeyProvider, without the parts that have a bound of their own. The
/// `instance` of a ServiceKey and the status have this bound once more each: no other part can push them out.
const OWN: Size = Size { levels: LEVELS, bytes: 256 << 10, values: 5_000 };
/// The bound of the metadata that the caches keep of a Secret, and of a Namespace.
const METADATA: Size = Size { levels: LEVELS, bytes: 32 << 10, values: 1_000 };
/// The bound of any other object: more bytes than etcd stores of one.
const OBJECT: Size = Size { levels: LEVELS, bytes: 4 << 20, values: 100_000 };
/// The bound of the record of who wrote which field of a Secret.
const MANAGED_FIELDS: Size = Size { levels: 16, bytes: 32 << 10, values: 2_000 };

/// The bound of each part that tells which object it is, and of each annotation that the operator reads.
const IDENTITY: Size = Size { levels: LEVELS, bytes: 16 << 10, values: 1_000 };

/// The annotation that notes what was left out of an object. It never enters this process, because the guard removes it
/// from every answer before it adds its own. It never leaves it, because [`without_note`] removes it before a write.
const OMITTED: &str = "servicekeys.dev/omitted";

/// The annotations that the operator reads on its own kinds of objects.
const OWN_ANNOTATIONS: [&str; 3] =
    [marks::ABANDON_ANNOTATION, marks::PLAN_IDS_ANNOTATION, marks::ROTATE_ANNOTATION];

/// Parts of `metadata` that tell which object it is, and which version of it.
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

/// Why a part was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Excess {
    /// It has too many levels.
    Levels,
    /// It has too many bytes.
    Bytes,
    /// It has too many values.
    Values,
    /// It is not a JSON value that can be kept, such as a number out of range.
    Value,
    /// It has a form that this version of the operator does not know.
    Form,
}

/// A part of an object that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Omission {
    /// The path of the part, such as `spec.parameters`.
    pub path: String,
    /// Why it was left out.
    pub excess: Excess,
    /// The bound of the part.
    pub bound: Size,
}

impl Omission {
    /// A part of a form that this version of the operator does not know.
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
    /// Measures a text, also one that is not JSON.
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

    /// How it exceeds this bound, if it does.
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

    /// What is wrong with a text of this size, for the user who wrote it; `None` where it is within the bound.
    #[must_use]
    pub(crate) fn refusal_by(&self, bound: &Self) -> Option<String> {
        self.excess_over(bound).map(|excess| bound.refusal(excess))
    }

    /// What is wrong with a part that exceeds this bound.
    fn refusal(&self, excess: Excess) -> String {
        let Self { levels, bytes, values } = self;
        match excess {
            Excess::Levels => format!("is nested deeper than {levels} levels; flatten it"),
            Excess::Bytes => format!("takes more than {} KiB as JSON; shorten it", bytes >> 10),
            Excess::Values => format!("holds more than {values} JSON values; reduce their number"),
            Excess::Value => "holds a value that can't be read; correct it".to_owned(),
            Excess::Form => {
                "has a form that this operator can't read; correct it, or update the operator".to_owned()
            }
        }
    }
}

/// The parts that were left out of an object: none, unless it exceeds a bound.
#[must_use]
pub(crate) fn omissions(meta: &ObjectMeta) -> Vec<Omission> {
    let note = meta.annotations.as_ref().and_then(|annotations| annotations.get(OMITTED));
    note.and_then(|note| serde_json::from_str(note).ok()).unwrap_or_default()
}

/// Notes on an object that these parts of it were left out too.
pub(crate) fn note_omissions(meta: &mut ObjectMeta, further: Vec<Omission>) -> serde_json::Result<()> {
    let mut omitted = omissions(meta);
    omitted.extend(further);
    meta.annotations.get_or_insert_default().extend([note(&omitted)?]);
    Ok(())
}

/// The metadata as it may be written, without the note about what was left out.
#[must_use]
pub(crate) fn without_note(mut meta: ObjectMeta) -> ObjectMeta {
    meta.annotations.iter_mut().for_each(|annotations| drop(annotations.remove(OMITTED)));
    meta
}

/// The annotation that notes these parts.
pub(super) fn note(omissions: &[Omission]) -> serde_json::Result<(String, String)> {
    Ok((OMITTED.to_owned(), serde_json::to_string(omissions)?))
}

/// The bounds of one object.
#[derive(Clone, Copy, Debug)]
pub(super) struct ObjectBounds {
    /// The bound of the object, apart from the parts that have a bound of their own.
    pub(super) whole: Size,
    /// Whether the object passes without the parts that exceed a bound; otherwise the whole answer fails.
    pub(super) omits: bool,
    metadata: MetadataRule,
    /// Whether it passes who wrote which field.
    tells_writers: bool,
}

/// The parts of the metadata that anything reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MetadataRule {
    /// All of it, with `managedFields` only where [`ObjectBounds`] say so: the object may be written back.
    Whole,
    /// The identity and the operator's own annotations.
    Own,
    /// The identity and the labels.
    Labels,
}

/// What happens to one part of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PartRule {
    /// It is dropped: nothing reads it.
    Drop,
    /// It passes within the bound of the whole object.
    Share,
    /// It passes within a bound of its own.
    Within(Size),
    /// It passes within a bound of its own, if it is a `managedFields` that the client can read. Otherwise it is dropped,
    /// and the object passes without it.
    Writers(Size),
}

impl ObjectBounds {
    /// The bounds of the objects in an answer about this resource. `of_many`: it is a list or a watch.
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
            "namespaces" => Self { whole: METADATA, metadata: MetadataRule::Labels, ..of_own_kinds },
            // A Secret that is read by its name may be written back: it passes as a whole, or not at all.
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
            // What counts a ServiceKey, and finds its Secret and its keys, is read whatever else is not.
            ["spec", "providerRef"] | ["spec", "secret", "name"] => identity,
            ["spec", "instance"] | ["status"] => PartRule::Within(OWN),
            _ => PartRule::Share,
        }
    }

    fn unless(&self, dropped: MetadataRule) -> PartRule {
        if self.metadata == dropped { PartRule::Drop } else { PartRule::Share }
    }

    /// The bound of a part that is this deep in the object, and shares the bound of the object.
    pub(super) const fn shared_at(&self, depth: usize) -> Size {
        Size { levels: self.whole.levels.saturating_sub(depth), ..self.whole }
    }
}
