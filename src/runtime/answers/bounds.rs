//! How much of an object passes, by its resource, and the note on an object about the parts that did not.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

/// The most bytes of one ServiceKey, KeyProvider or ClusterKeyProvider, without its `parameters`.
const OWN_BYTES: usize = 256 << 10;
/// The most bytes of the metadata that the caches keep of a Secret, and of a Namespace.
const METADATA_BYTES: usize = 32 << 10;
/// The most bytes of any other object: more than etcd stores of one.
const OBJECT_BYTES: usize = 4 << 20;
/// The most bytes of each part that tells which object it is.
const IDENTITY_BYTES: usize = 16 << 10;

/// The most levels of an object. `serde_json` gives up at 128, of which a list takes two.
const LEVELS: usize = 64;

/// The most bytes of `spec.parameters` of a ServiceKey, as the API server writes it in JSON, and of each entry that
/// `parametersFrom` names.
pub const PARAMETERS_BYTES: usize = 64 << 10;
/// The most levels of `spec.parameters` of a ServiceKey, the outermost object included, and of each entry that
/// `parametersFrom` names.
pub const PARAMETERS_LEVELS: usize = 32;

/// The annotation that notes what was left out of an object. It never leaves this process, and never enters it: the
/// guard removes it from every answer before it adds its own.
const OMITTED: &str = "servicekeys.dev/omitted";

/// The prefix of the annotations that the operator reads on its own kinds of objects.
const OWN_PREFIX: &str = "servicekeys.dev/";

const PARAMETERS: &str = "spec.parameters";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Parts of `metadata` that tell which object it is, and which version of it.
const IDENTITY: [&str; 9] = [
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
pub enum Excess {
    /// It has too many levels.
    Levels,
    /// It has too many bytes.
    Bytes,
    /// It is not a JSON value that can be kept, such as a number out of range.
    Value,
}

/// A part of an object that was left out, because it exceeds its bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Omission {
    /// The path of the part, such as `spec.parameters`.
    pub path: String,
    /// The bound that it exceeds.
    pub excess: Excess,
}

impl fmt::Display for Omission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (levels, bytes) = match self.path.as_str() {
            PARAMETERS => (PARAMETERS_LEVELS, PARAMETERS_BYTES),
            _ => (LEVELS, OWN_BYTES),
        };
        let path = &self.path;
        match self.excess {
            Excess::Levels => write!(f, "`{path}` is nested deeper than {levels} levels; flatten it"),
            Excess::Bytes => write!(f, "`{path}` takes more than {} KiB as JSON; shorten it", bytes >> 10),
            Excess::Value => write!(f, "`{path}` holds a value that can't be read; correct it"),
        }
    }
}

/// The parts that were left out of an object: none, unless it exceeds a bound.
#[must_use]
pub fn omissions(meta: &ObjectMeta) -> Vec<Omission> {
    let note = meta.annotations.as_ref().and_then(|annotations| annotations.get(OMITTED));
    note.and_then(|note| serde_json::from_str(note).ok()).unwrap_or_default()
}

/// The annotation that notes these parts.
pub(super) fn note(omissions: &[Omission]) -> serde_json::Result<(String, String)> {
    Ok((OMITTED.to_owned(), serde_json::to_string(omissions)?))
}

/// The bounds of one object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// The most bytes of the object, apart from the parts that have a bound of their own.
    pub(super) bytes: usize,
    /// Whether the object passes without the parts that exceed a bound; otherwise the whole answer fails.
    pub(super) omits: bool,
    metadata: Metadata,
}

/// The parts of the metadata that anything reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Metadata {
    /// All but `managedFields`: the object may be written back.
    Whole,
    /// The identity and the operator's own annotations.
    Own,
    /// The identity and the labels.
    Labels,
}

/// What happens to one part of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// It is dropped: nothing reads it.
    Drop,
    /// It passes within the bound of the whole object.
    Share,
    /// It passes within a bound of its own.
    Within { levels: usize, bytes: usize },
}

impl Bounds {
    /// The bounds of the objects in an answer about this resource. `of_many`: it is a list or a watch.
    pub(super) fn of(resource: &str, of_many: bool) -> Self {
        match resource {
            "servicekeys"
            | "servicekeys/status"
            | "keyproviders"
            | "keyproviders/status"
            | "clusterkeyproviders"
            | "clusterkeyproviders/status" => Self { bytes: OWN_BYTES, omits: true, metadata: Metadata::Own },
            "secrets" if of_many => Self { bytes: METADATA_BYTES, omits: true, metadata: Metadata::Whole },
            "namespaces" => Self { bytes: METADATA_BYTES, omits: true, metadata: Metadata::Labels },
            // A Secret that is read by its name may be written back: it passes as a whole, or not at all.
            _ => Self { bytes: OBJECT_BYTES, omits: of_many, metadata: Metadata::Whole },
        }
    }

    /// The rule for the part at a path.
    pub(super) fn rule(&self, path: &[&str]) -> Rule {
        let identity = Rule::Within { levels: LEVELS, bytes: IDENTITY_BYTES };
        match path {
            ["apiVersion" | "kind"] => identity,
            ["metadata", "managedFields"] => Rule::Drop,
            ["metadata", part] if IDENTITY.contains(part) => identity,
            ["metadata", "annotations"] => self.unless(Metadata::Labels),
            ["metadata", "labels"] => self.unless(Metadata::Own),
            ["metadata", _] => {
                if self.metadata == Metadata::Whole {
                    Rule::Share
                } else {
                    Rule::Drop
                }
            }
            ["metadata", "annotations", OMITTED] => Rule::Drop,
            ["metadata", "annotations", LAST_APPLIED] => self.unless(Metadata::Own),
            ["metadata", "annotations", name] if !name.starts_with(OWN_PREFIX) => self.unless(Metadata::Own),
            ["spec", "parameters"] if self.metadata == Metadata::Own => {
                Rule::Within { levels: PARAMETERS_LEVELS, bytes: PARAMETERS_BYTES }
            }
            _ => Rule::Share,
        }
    }

    fn unless(&self, dropped: Metadata) -> Rule {
        if self.metadata == dropped { Rule::Drop } else { Rule::Share }
    }

    /// The most levels of a part that is this deep in the object and shares its bound.
    pub(super) const fn levels_below(depth: usize) -> usize {
        LEVELS.saturating_sub(depth)
    }
}
