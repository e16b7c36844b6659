//! The desired state of the Secret that receives the credentials.

use std::collections::BTreeMap;

use kube::{
    KubeSchema,
    core::{Message, Rule},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DeletionPolicy, rules, schema};

/// The Secret that receives the credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = template_fits_type(),
    validation = Rule::new(
        "self.previous != 'Include' || !has(self.template) || self.template.data.all(key, !key.startsWith('previous.'))"
    )
    .message("`previous: Include` writes the entries that begin with `previous.`: choose other names in the template")
    .field_path(".template")
)]
#[serde(rename_all = "camelCase")]
pub struct SecretSpec {
    /// Name of the Secret, in the ServiceKey's namespace. The operator never changes a Secret of this name that does
    /// not belong to this ServiceKey. Can't be changed. Default: the ServiceKey's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::object_name())]
    pub name: Option<String>,

    /// Type of the Secret. Can't be changed. Default: `Opaque`.
    #[serde(rename = "type", default = "opaque")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(
        "self != 'kubernetes.io/service-account-token' && self != 'bootstrap.kubernetes.io/token'"
    ).message("Kubernetes itself creates and uses Secrets of this type: write `Opaque` or another type"))]
    pub secret_type: String,

    /// Labels for the Secret, in addition to the operator's own; at most 32.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    #[x_kube(
        validation = rules::qualified_keys("label"),
        validation = reserved_keys("label"),
        validation = Rule::new("self.all(key, !format.labelValue().validate(self[key]).hasValue())").message(
            "write label values of at most 63 letters, digits, `-`, `_` and `.`, beginning and ending with a letter \
             or digit; longer values can be annotations"
        )
    )]
    pub labels: BTreeMap<String, String>,

    /// Annotations for the Secret, in addition to the operator's own; at most 32, each of at most 4096 characters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::annotations")]
    #[x_kube(validation = rules::qualified_keys("annotation"), validation = reserved_keys("annotation"))]
    pub annotations: BTreeMap<String, String>,

    /// Templates for the Secret's entries. Default: one entry for each top-level credential, under its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<SecretTemplate>,

    /// `Include` keeps the previous key's credentials in the Secret while that key is still valid after a rotation, for
    /// consumers that must accept both. Each entry has its name with the prefix `previous.`. The operator removes them
    /// from the Secret before it revokes the key. If the Secret is edited or deleted meanwhile, the operator repairs it
    /// without them. `Omit` does not keep them. Default: `Omit`.
    #[serde(default)]
    pub previous: PreviousCredentials,

    /// The fate of the Secret when the ServiceKey is deleted. `Retain` leaves it, without the operator's labels and
    /// annotations, to consumers that keep using the key. It requires `deletionPolicy: Retain` next to `secret`, which
    /// leaves the key. Default: `Delete`.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

fn opaque() -> String {
    "Opaque".to_owned()
}

impl Default for SecretSpec {
    fn default() -> Self {
        Self {
            name: None,
            secret_type: opaque(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            template: None,
            previous: PreviousCredentials::default(),
            deletion_policy: DeletionPolicy::default(),
        }
    }
}

/// Keys that are reserved for the operator.
fn reserved_keys(what: &str) -> Rule {
    Rule::new(
        "self.all(key, !key.startsWith('servicekeys.dev/') && !key.contains('.servicekeys.dev/') \
         && key != 'app.kubernetes.io/managed-by')",
    )
    .message(Message::Message(format!(
        "the operator sets the {what}s of the domain `servicekeys.dev` and `app.kubernetes.io/managed-by` itself: \
         leave them out"
    )))
}

/// Types for which the API server requires certain entries.
fn template_fits_type() -> Rule {
    let needs = [
        ("kubernetes.io/tls", "'tls.crt' in self.template.data && 'tls.key' in self.template.data"),
        ("kubernetes.io/dockerconfigjson", "'.dockerconfigjson' in self.template.data"),
        ("kubernetes.io/dockercfg", "'.dockercfg' in self.template.data"),
        ("kubernetes.io/basic-auth", "'username' in self.template.data || 'password' in self.template.data"),
        ("kubernetes.io/ssh-auth", "'ssh-privatekey' in self.template.data"),
    ];
    let checks = needs.map(|(secret_type, entries)| format!("(self.type != '{secret_type}' || {entries})"));
    Rule::new(format!("!has(self.template) || ({})", checks.join(" && ")))
        .message(
            "the API server requires certain entries in a Secret of this type: `tls.crt` and `tls.key`, \
             `.dockerconfigjson`, `.dockercfg`, `username` or `password`, `ssh-privatekey`; add them to \
             `template.data`, or write another `type`",
        )
        .field_path(".template")
}

/// Templates for the Secret's entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretTemplate {
    /// The Secret's entries, and no others. Each is a Jinja template with the credentials as variables, such as
    /// `postgresql://{{ username }}:{{ password | urlencode }}@{{ hostname }}:{{ port }}/app`. At most 64.
    #[schemars(schema_with = "schema::entry_templates")]
    #[x_kube(validation = Rule::new(
        "self.all(key, key.size() <= 253 && key.matches('^[-._a-zA-Z0-9]+$') && key != '.' && !key.startsWith('..'))"
    ).message(
        "write names of entries as the API server accepts them in a Secret: at most 253 letters, digits, `-`, `_` and \
         `.`, not beginning with `..` and not `.`"
    ))]
    pub data: BTreeMap<String, String>,
}

/// Whether the Secret also contains the previous key's credentials while they are valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PreviousCredentials {
    /// Only the current key's credentials.
    #[default]
    Omit,
    /// The credentials of both keys.
    Include,
}
