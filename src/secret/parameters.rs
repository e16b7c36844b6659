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

/// The secret key of the digests of one ServiceKey. `Debug` shows its id.
#[derive(Clone, PartialEq, Eq)]
pub struct ParametersKey(Uuid);

impl ParametersKey {
    /// A new key.
    #[must_use]
    pub(crate) fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// The key on a Secret. Who may edit the Secret may have changed it.
    #[must_use]
    pub(crate) fn read(meta: &ObjectMeta) -> Option<Self> {
        Uuid::try_parse(meta.annotations.as_ref()?.get(PARAMETERS_KEY)?).ok().map(Self)
    }

    /// The value of [`PARAMETERS_KEY`].
    pub(super) fn text(&self) -> String {
        self.0.to_string()
    }

    /// The id of the key, which does not show the key.
    #[must_use]
    pub(crate) fn id(&self) -> String {
        Digest::new("servicekeys.dev/parameters-key/1").field(self.0).finish()
    }

    /// The digest of these parts, in their order.
    #[must_use]
    pub(crate) fn digest(&self, parts: impl IntoIterator<Item = impl AsRef<[u8]>>) -> ParametersDigest {
        let digest = Digest::new("servicekeys.dev/parameters/1").field(self.0);
        let digest = parts.into_iter().fold(digest, Digest::field).finish();
        ParametersDigest { key_id: self.id(), digest }
    }

    #[cfg(test)]
    pub(crate) const fn of(number: u128) -> Self {
        Self(Uuid::from_u128(number))
    }
}

impl fmt::Debug for ParametersKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ParametersKey").field(&self.id()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_differ_by_key_and_content_and_show_neither() {
        let key = ParametersKey::of(1);
        let digest = key.digest(["a", "b"]);
        assert_eq!(digest, key.digest(["a", "b"]));
        assert_ne!(digest, key.digest(["ab"]));
        assert_ne!(digest.digest, ParametersKey::of(2).digest(["a", "b"]).digest);
        assert_ne!(key.id(), ParametersKey::of(2).id());
        assert!(!format!("{key:?} {digest:?}").contains(&key.text()));
    }
}
