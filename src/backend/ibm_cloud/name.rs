//! The names of keys. IBM Cloud has no labels for keys, and several keys may have the same name. So the name contains
//! the mark by which the operator recognizes a key. Its form is `{start}-sk{cluster}-{uid}-{sequence}`, where the start
//! is for people to read.

use std::iter;

use uuid::Uuid;

use crate::{
    backend::{
        KeyRequest, LostClusters, Owner,
        key::{CLUSTER_DIGITS, cluster_digits},
    },
    lifecycle::{Identity, MarkedKey, Sequence, first_bytes},
};

/// In bytes. A name has at most as many characters.
const LONGEST_NAME: usize = 180;
/// Precedes the digits of the cluster.
const MARK: &str = "-sk";
const UUID_LENGTH: usize = 36;

/// The name of a key. It starts with the user's name for it, or with the namespace and the name of its ServiceKey, cut
/// to the permitted length. Characters that a name can't contain become `-`.
pub(in crate::backend) fn key_name(identity: Identity, given: Option<&str>, owner: &Owner) -> String {
    let Owner { namespace, name, cluster_id, uid: _ } = owner;
    let cluster = cluster_id.as_deref().map(cluster_digits).unwrap_or_default();
    let mark = format!("{MARK}{cluster}-{}-{}", identity.owner, identity.sequence);
    let start = given.map_or_else(|| format!("{namespace}-{name}"), str::to_owned);
    let start = start.replace(|character| !is_allowed(character), "-");
    format!("{}{mark}", first_bytes(&start, LONGEST_NAME - mark.len()))
}

/// The names that the key may have. The key of a restored ServiceKey may be from a lost cluster.
pub(super) fn possible_names(request: &KeyRequest, lost: &LostClusters) -> Vec<String> {
    let mark = Mark::read(&request.name).filter(|_| request.restored.is_some());
    let in_lost = mark.iter().flat_map(|mark| lost.digits().map(|digits| mark.name_in(&digits)));
    let in_lost = in_lost.filter(|name| *name != request.name);
    iter::once(request.name.clone()).chain(in_lost).collect()
}

/// The mark in the name of an operator's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark<'a> {
    /// The name without the mark.
    pub(super) start: &'a str,
    /// The digits of the cluster. They are empty if the cluster was unknown.
    cluster: &'a str,
    pub(super) owner: Uuid,
    sequence: Sequence,
}

impl<'a> Mark<'a> {
    /// Reads the mark in the name of a key. Returns `None` if no operator created the name.
    pub(super) fn read(name: &'a str) -> Option<Self> {
        let (rest, number) = name.rsplit_once('-')?;
        let sequence = Sequence::new(number.parse().ok()?)?;
        let (rest, uid) = rest.split_at_checked(rest.len().checked_sub(UUID_LENGTH)?)?;
        let owner = Uuid::try_parse(uid).ok()?;
        let (start, cluster) = rest.strip_suffix('-')?.rsplit_once(MARK)?;
        let is_digits = cluster.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        // Accepts only the form that the operator writes.
        let is_ours = is_digits
            && [0, CLUSTER_DIGITS].contains(&cluster.len())
            && owner.to_string() == uid
            && sequence.to_string() == number;
        is_ours.then_some(Self { start, cluster, owner, sequence })
    }

    /// Whether an operator in this cluster created the key. If the cluster id is unknown, every mark matches.
    pub(super) fn is_of(&self, cluster_id: Option<&str>) -> bool {
        cluster_id.is_none_or(|id| cluster_digits(id) == self.cluster)
    }

    /// Whether the mark is that of this identity, in any cluster. UIDs are unique across clusters.
    pub(super) fn is_of_identity(&self, identity: Identity) -> bool {
        (self.owner, self.sequence) == (identity.owner, identity.sequence)
    }

    /// The name that the key would have in the cluster with these digits.
    pub(super) fn name_in(&self, cluster: &str) -> String {
        let Self { start, cluster: _, owner, sequence } = self;
        let mark = format!("{MARK}{cluster}-{owner}-{sequence}");
        format!("{}{mark}", first_bytes(start, LONGEST_NAME - mark.len()))
    }

    /// Whether an operator in this cluster or in a lost one created the key. A mark without a cluster matches only an
    /// operator without a cluster id.
    pub(super) fn may_be_adopted_in(&self, cluster_id: Option<&str>, lost: &LostClusters) -> bool {
        self.cluster == cluster_id.map(cluster_digits).unwrap_or_default() || lost.contain(self.cluster)
    }

    pub(super) fn key(self, id: String, name: String) -> MarkedKey {
        MarkedKey { id, name, owner: self.owner, sequence: Some(self.sequence), namespace: None }
    }
}

/// Letters and digits of any script, and the characters that the API's documentation lists.
fn is_allowed(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-._: ".contains(character) || !character.is_ascii()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const UID: Uuid = Uuid::from_u128(0x6ba7_b810_9dad_11d1_80b4_00c0_4fd4_30c8);
    const CLUSTER: &str = "1a2B3c4d-0000-4000-8000-000000000000";

    fn owner(cluster_id: Option<&str>) -> Owner {
        Owner {
            namespace: "training".to_owned(),
            name: "creds".to_owned(),
            uid: UID,
            cluster_id: cluster_id.map(str::to_owned),
        }
    }

    fn identity(number: u32) -> Identity {
        Identity { owner: UID, sequence: Sequence::new(number).unwrap() }
    }

    #[rstest]
    #[case(1, Some("monitoring"), Some(CLUSTER), format!("monitoring-sk1a2b3c4d-{UID}-1"))]
    #[case(12, None, Some(CLUSTER), format!("training-creds-sk1a2b3c4d-{UID}-12"))]
    #[case(1, None, None, format!("training-creds-sk-{UID}-1"))]
    #[case(1, None, Some("x"), format!("training-creds-sk-{UID}-1"))]
    #[case(1, Some("a/b@c \u{fc}:d"), None, format!("a-b-c \u{fc}:d-sk-{UID}-1"))]
    fn names_are_derived(
        #[case] number: u32,
        #[case] given: Option<&str>,
        #[case] cluster_id: Option<&str>,
        #[case] expected: String,
    ) {
        assert_eq!(key_name(identity(number), given, &owner(cluster_id)), expected);
    }

    #[rstest]
    #[case::by_hand("monitoring")]
    #[case::of_another_kind(&format!("training-creds-{UID}-1"))]
    #[case::no_number(&format!("a-sk-{UID}"))]
    #[case::number_zero(&format!("a-sk-{UID}-0"))]
    #[case::a_padded_number(&format!("a-sk-{UID}-01"))]
    #[case::half_a_cluster(&format!("a-sk1a2b-{UID}-1"))]
    #[case::no_cluster(&format!("a-sk1a2b3c4x-{UID}-1"))]
    #[case::in_capitals(&format!("a-sk-{}-1", UID.to_string().to_uppercase()))]
    #[case::cut_within_a_character("\u{fc}bcdefghijklmnopqrstuvwxyz0123456789-1")]
    fn what_others_write_is_no_mark(#[case] name: &str) {
        assert_eq!(Mark::read(name), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            given in proptest::option::of(".{1,255}"),
            uid in any::<u128>().prop_map(Uuid::from_u128),
            number in 1..=u32::MAX,
            cluster_id in proptest::option::of(any::<u128>().prop_map(|id| Uuid::from_u128(id).to_string())),
        ) {
            let identity = Identity { owner: uid, sequence: Sequence::new(number).unwrap() };
            let name = key_name(identity, given.as_deref(), &Owner { uid, ..owner(cluster_id.as_deref()) });
            prop_assert!(name.len() <= LONGEST_NAME && name.chars().all(is_allowed), "{}", name);
            let mark = Mark::read(&name);
            prop_assert!(mark.is_some(), "{}", name);
            let mark = mark.unwrap();
            prop_assert_eq!((mark.owner, mark.sequence), (uid, identity.sequence));
            prop_assert!(mark.is_of(cluster_id.as_deref()));
            prop_assert!(name.starts_with(mark.start));
        }

        #[test]
        fn no_name_is_too_odd_to_be_read(name in any::<String>()) {
            let _ = Mark::read(&name);
        }
    }
}
