//! Occasional behaviour of real IBM Clouds.

/// The quirks of existing keys. All are off at the start.
#[derive(Clone, Debug, Default)]
pub struct Quirks {
    /// The number of looks that do not find a new key: look-ups get 404. terraform-provider-ibm repeats the look-up for
    /// five minutes (`resource_ibm_resource_key.go`, `resourceIBMResourceKeyRead`).
    pub looks_without_new_keys: usize,
    /// Lists do not show a new key either, and count as looks.
    pub lists_without_new_keys: bool,
    /// Look-ups and lists contain a redaction instead of the credentials, also for keys that show them once.
    pub redaction: Option<Redaction>,
    /// With a redaction, the answer to a creation contains no credentials either.
    pub redacts_creations: bool,
    /// The answer to a look-up of a deleted key.
    pub removed: Removed,
    /// Lists still show deleted keys.
    pub lists_show_removed: bool,
    /// A repeated deletion of a key gets 404 instead of 410.
    pub forgets_removed: bool,
    /// The deletion of a service ID deletes its policies, instead of leaving them behind.
    pub policies_go_with_service_ids: bool,
}

/// The reason why credentials are redacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redaction {
    /// The caller's access is less than that of the credential (IBM's page "Connecting services to apps",
    /// ibm-cloud-docs/account, "Credential level access").
    Redacted,
    /// The caller lacks the action `resource-controller.credential.retrieve_all`, which Administrators have (the same page,
    /// "IAM level access").
    Explicit,
}

impl Redaction {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Redacted => "REDACTED",
            Self::Explicit => "REDACTED_EXPLICIT",
        }
    }
}

/// The answer to a look-up of a deleted key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Removed {
    /// 200, with `"state": "removed"`.
    #[default]
    Shown,
    /// 410.
    Gone,
    /// 404.
    NotFound,
}
