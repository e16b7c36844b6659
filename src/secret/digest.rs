//! Short digests that show whether something changed.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// Half of SHA-256: two inputs don't collide by chance, and the digest stays short in an annotation.
const BYTES: usize = 16;

/// A digest of a list of fields. Each field is preceded by its length, so that different lists never produce
/// the same bytes.
#[derive(Clone, Debug)]
pub(crate) struct Digest(Sha256);

impl Digest {
    /// A digest for one purpose. Digests of different purposes differ, whatever the fields.
    #[must_use]
    pub(crate) fn new(purpose: &str) -> Self {
        Self(Sha256::new()).field(purpose)
    }

    /// Adds one field.
    #[must_use]
    pub(crate) fn field(mut self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds all pairs of a map, preceded by their number.
    #[must_use]
    pub(crate) fn pairs<K, V>(self, pairs: impl ExactSizeIterator<Item = (K, V)>) -> Self
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let counted = self.field((pairs.len() as u64).to_be_bytes());
        pairs.fold(counted, |digest, (key, value)| digest.field(key).field(value))
    }

    /// The digest as 32 hexadecimal digits.
    #[must_use]
    pub(crate) fn finish(self) -> String {
        let hash = self.0.finalize();
        hash.iter().take(BYTES).fold(String::with_capacity(2 * BYTES), |mut hex, byte| {
            // Writing to a `String` never fails.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_run_into_each_other() {
        let digest = |fields: &[&str]| fields.iter().fold(Digest::new("test"), Digest::field).finish();
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
        assert_ne!(digest(&["a"]), digest(&["a", ""]));
    }

    #[test]
    fn it_is_the_same_in_every_release() {
        assert_eq!(Digest::new("test").field("a").finish(), "dfd5616ec2397422e2fb65422bed649c");
    }
}
