//! The previous key's credentials in the Secret, in addition to the current ones. Each entry has its name
//! with a prefix. They are for consumers that must accept both keys while both are valid.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use uuid::Uuid;

use super::{Entries, Marks, RenderError, entry_name, read};
use crate::lifecycle::{Claim, Sequence};

/// Prefix of the names of the previous key's entries.
const PREFIX: &str = "previous.";

impl Entries {
    /// Adds the entries of the previous key to these entries.
    ///
    /// # Errors
    /// - An entry's name might be that of the other key's entry, or the prefix would make it too long. Both are
    ///   detected even before a previous key exists.
    /// - All entries together are too large.
    pub fn with_previous(self, previous: Option<&Self>) -> Result<Self, RenderError> {
        if let Some(entry) = self.names().find(|name| !may_have_previous(name)) {
            return Err(RenderError::NoRoomForPrevious { entry: entry.to_owned() });
        }
        let previous = previous.into_iter().flat_map(|previous| &previous.0);
        let previous = previous.map(|(name, value)| (format!("{PREFIX}{name}"), value.clone()));
        let both: BTreeMap<_, _> = previous.chain(self.0.clone()).collect();
        Self::new(both)
    }

    /// Removes the entries of the previous key.
    fn without_previous(mut self) -> Self {
        self.0.retain(|name, _| !name.starts_with(PREFIX));
        self
    }

    /// The entries of the previous key, under their own names.
    fn previous(&self) -> Self {
        let found = self.0.iter().filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?, value)));
        Self(found.map(|(name, value)| (name.to_owned(), value.clone())).collect())
    }
}

fn may_have_previous(name: &str) -> bool {
    !name.starts_with(PREFIX) && PREFIX.len() + name.len() <= entry_name::MAX_LENGTH
}

/// The entries of this key in one of the operator's Secrets, unless another writer edited them. The salt is
/// that of [`Entries::digest`].
#[must_use]
pub(crate) fn entries_of(secret: &Secret, sequence: Sequence, salt: &Uuid) -> Option<Entries> {
    let (marks, entries) = untouched(secret, salt)?;
    if marks.key.sequence == sequence {
        Some(if marks.previous.is_some() { entries.without_previous() } else { entries })
    } else {
        (marks.previous == Some(sequence)).then(|| entries.previous())
    }
}

/// The entries and marks of one of the operator's Secrets, without those of the previous key.
#[must_use]
pub(crate) fn without_previous(entries: Entries, marks: Marks<Claim>) -> (Entries, Marks<Claim>) {
    let entries = if marks.previous.is_some() { entries.without_previous() } else { entries };
    (entries, Marks { previous: None, ..marks })
}

/// The marks and entries of the Secret, if the entries are as they were written.
fn untouched(secret: &Secret, salt: &Uuid) -> Option<(Marks<Claim>, Entries)> {
    let (marks, entries) = (read(&secret.metadata)?, Entries::from_secret(secret));
    let entries = marks.imprint.untouched(&entries, salt)?;
    Some((marks, entries))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use proptest::prelude::*;

    use super::*;
    use crate::secret::{Imprint, marks::tests::marks};

    const SALT: Uuid = Uuid::nil();
    const FIRST: Sequence = Sequence::FIRST;

    fn entries(pairs: &[(&str, &str)]) -> Entries {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), value.as_bytes().to_vec());
        Entries(pairs.iter().map(owned).collect())
    }

    /// A Secret with these entries, for the second key and, if `previous` is set, also for the first.
    fn secret(entries: &Entries, previous: Option<Sequence>) -> Secret {
        let mut annotations = BTreeMap::new();
        let key = crate::lifecycle::KeyRecord { sequence: FIRST.next(), ..marks().key };
        let imprint = Imprint { content: entries.digest(&SALT), entries: None, ..marks().imprint };
        Marks { key, previous, former: None, imprint }.write(&mut annotations);
        let metadata = ObjectMeta { annotations: Some(annotations), ..ObjectMeta::default() };
        Secret { metadata, data: Some(entries.to_data()), ..Secret::default() }
    }

    #[test]
    fn both_keys_are_there_and_told_apart() {
        let (old, new) = (entries(&[("a", "1"), ("b", "2")]), entries(&[("a", "3")]));
        let both = new.clone().with_previous(Some(&old)).unwrap();
        assert_eq!(both, entries(&[("a", "3"), ("previous.a", "1"), ("previous.b", "2")]));
        let written = secret(&both, Some(FIRST));
        assert_eq!(entries_of(&written, FIRST.next(), &SALT), Some(new.clone()));
        assert_eq!(entries_of(&written, FIRST, &SALT), Some(old));
        assert_eq!(entries_of(&written, FIRST.next().next(), &SALT), None);
        let (left, marks) = without_previous(both, read(&written.metadata).unwrap());
        assert_eq!((&left, marks.previous), (&new, None));
        assert_eq!(entries_of(&secret(&left, None), FIRST.next(), &SALT), Some(new));
    }

    #[test]
    fn what_looks_like_a_previous_key_is_none_where_nothing_says_so() {
        let own = entries(&[("previous.a", "1")]);
        assert_eq!(entries_of(&secret(&own, None), FIRST.next(), &SALT), Some(own));
    }

    #[test]
    fn what_somebody_edited_is_not_kept() {
        let mut edited = secret(&entries(&[("a", "1"), ("previous.a", "2")]), Some(FIRST));
        edited.data.as_mut().unwrap().remove("a");
        assert_eq!(entries_of(&edited, FIRST, &SALT), None);
    }

    #[test]
    fn a_name_that_both_keys_might_have_is_refused_before_there_are_two() {
        let refusal = entries(&[("previous.a", "1")]).with_previous(None).unwrap_err().to_string();
        assert!(refusal.contains("`previous.a`") && refusal.contains("template"), "{refusal}");
        let long = "n".repeat(entry_name::MAX_LENGTH - PREFIX.len() + 1);
        assert!(entries(&[(&long, "1")]).with_previous(None).is_err());
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            old in prop::collection::btree_map("[a-z.]{1,4}", any::<Vec<u8>>(), 1..4),
            new in prop::collection::btree_map("[a-z.]{1,4}", any::<Vec<u8>>(), 1..4),
        ) {
            let (old, new) = (Entries(old), Entries(new));
            let both = new.clone().with_previous(Some(&old)).unwrap();
            prop_assert_eq!(both.previous(), old);
            prop_assert_eq!(both.without_previous(), new);
        }
    }
}
