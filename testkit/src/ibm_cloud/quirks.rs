//! What real ones do now and then.

/// What keys look like once they are made. Everything is off at the start.
#[derive(Clone, Debug, Default)]
pub struct Quirks {
    /// So many looks at a new key don't show it: look-ups are answered 404. terraform-provider-ibm looks for five minutes
    /// (`resource_ibm_resource_key.go`, `resourceIBMResourceKeyRead`).
    pub looks_without_new_keys: usize,
    /// Lists don't show a new key either, and count as looks at it.
    pub lists_without_new_keys: bool,
    /// Look-ups and lists show no credentials, but say that they are not shown, also of keys that show them once.
    pub redaction: Option<Redaction>,
    /// The answer to a creation shows no credentials either, where there is a redaction.
    pub redacts_creations: bool,
    /// How a key that was deleted is answered for.
    pub removed: Removed,
    /// Lists go on to show keys that were deleted.
    pub lists_show_removed: bool,
    /// A key that was deleted can't be found to be deleted again: 404 instead of 410.
    pub forgets_removed: bool,
    /// The policies of a service ID go with it, instead of being left behind.
    pub policies_go_with_service_ids: bool,
}

/// Why credentials are not shown.
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

/// What a look-up of a key is answered that was deleted.
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
