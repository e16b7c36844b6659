//! Digests of the parameters of a key, by which the operator notices that they have changed.
//!
//! The digest is in the status, which more people may read than the parameters. So it has a secret key, which is an
//! annotation of the Secret with the credentials.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use uuid::Uuid;

use super::Digest;
use crate::lifecycle::ParametersDigest;

/// The annotation of the Secret with the key.
pub(super) const PARAMETERS_KEY: &str = "servicekeys.dev/parameters-key";

/// The secret key of the digests of one ServiceKey. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct ParametersKey(Uuid);

impl ParametersKey {
    /// A new key.
    #[must_use]
    pub(crate) fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// The key on a Secret. Every user who may edit the Secret may have changed it.
    #[must_use]
    pub(crate) fn read(meta: &ObjectMeta) -> Option<Self> {
        Uuid::try_parse(meta.annotations.as_ref()?.get(PARAMETERS_KEY)?).ok().map(Self)
    }

    /// The value of [`PARAMETERS_KEY`].
    pub(crate) fn text(&self) -> String {
        self.0.to_string()
    }

    /// The id of the key for digests of these entries, by the names of Secret and entry. It does not show the key.
    #[must_use]
    pub(crate) fn id(&self, entries: &[(&str, &str)]) -> String {
        Digest::new("servicekeys.dev/parameters-key/1").field(self.0).pairs(entries.iter().copied()).finish()
    }

    /// The digest of the content of these entries, in their order.
    #[must_use]
    pub(crate) fn digest(
        &self,
        entries: &[(&str, &str)],
        content: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> ParametersDigest {
        let digest = Digest::new("servicekeys.dev/parameters/1").field(self.0);
        let digest = content.into_iter().fold(digest, Digest::field).finish();
        ParametersDigest { key_id: self.id(entries), digest }
    }

    #[cfg(test)]
    pub(crate) const fn of(number: u128) -> Self {
        Self(Uuid::from_u128(number))
    }
}

impl fmt::Debug for ParametersKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ParametersKey").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRIES: [(&str, &str); 1] = [("grants", "params.json")];

    #[test]
    fn digests_differ_by_key_and_content() {
        let digest = |number, content: &[&str]| ParametersKey::of(number).digest(&ENTRIES, content).digest;
        assert_eq!(digest(1, &["a", "b"]), digest(1, &["a", "b"]));
        assert_ne!(digest(1, &["a", "b"]), digest(1, &["ab"]));
        assert_ne!(digest(1, &["a"]), digest(2, &["a"]));
    }

    #[test]
    fn ids_differ_by_key_and_entries() {
        let id = |number, entries: &[(&str, &str)]| ParametersKey::of(number).id(entries);
        assert_eq!(id(1, &ENTRIES), id(1, &ENTRIES));
        assert_ne!(id(1, &ENTRIES), id(2, &ENTRIES));
        assert_ne!(id(1, &ENTRIES), id(1, &[("grants", "other.json")]));
        assert_ne!(id(1, &ENTRIES), id(1, &[]));
    }

    /// Another digest of the same content would lead to another key for each ServiceKey after an upgrade.
    #[test]
    fn they_are_the_same_in_every_release() {
        let digest = ParametersKey::of(1).digest(&ENTRIES, ["a"]);
        assert_eq!(digest.key_id, "f2c50d2b951664b8a6450e541e5b2f13");
        assert_eq!(digest.digest, "739f53b0c5db3a75ae01f093bcf41e8e");
    }

    #[test]
    fn debug_does_not_show_the_key() {
        let key = ParametersKey::of(0x1234_5678);
        assert!(!format!("{key:?}").contains("12345678"), "{key:?}");
    }
}
