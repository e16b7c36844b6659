//! Compares a list of all keys at a remote side with the known ServiceKeys: it finds missing keys, and keys without a
//! ServiceKey.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use uuid::Uuid;

use super::{Identity, Recorded, Sequence};

/// A key at a remote side that has the mark of this operator and this cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MarkedKey {
    /// The key's id at the remote side.
    pub id: String,
    /// The key's name at the remote side.
    pub name: String,
    /// The UID of the ServiceKey that the key was created for.
    pub owner: Uuid,
    /// The key's number within that ServiceKey, if its mark still shows it.
    pub sequence: Option<Sequence>,
    /// The namespace of that ServiceKey, if the mark still shows it.
    pub namespace: Option<String>,
}

/// The input of the comparison, once a list of all keys has arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inventory {
    /// The keys in the list.
    pub listed: Vec<MarkedKey>,
    /// The keys that the list should contain, with the remote side's ids, as they were known before the request for the
    /// list.
    pub expected: HashMap<Identity, String>,
    /// The keys that each ServiceKey may have, as they are known after the list arrived.
    pub accounted: HashMap<Uuid, BTreeSet<Sequence>>,
    /// The only namespace whose keys this provider may have created; `None`: all namespaces.
    pub namespace: Option<String>,
    /// Whether the operator knows its cluster, and so can identify the owners of the listed keys.
    pub cluster_is_known: bool,
    /// The ids of the keys in the last list that had no ServiceKey.
    pub suspects: Arc<HashSet<String>>,
}

/// The result of the comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Keys that are missing from the list. A list in several pages may miss a key that moved from one page to another.
    pub missed: Vec<Identity>,
    /// The keys without a ServiceKey.
    pub orphans: Vec<Orphan>,
    /// The ids of keys that seem to be orphans. The next list confirms them.
    pub suspects: HashSet<String>,
}

/// A key that has no ServiceKey in two lists in a row. A key that was created or deleted while one list was made is not
/// an orphan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Orphan {
    pub key: MarkedKey,
    /// Whether the operator may revoke the key if the user allows that: its ServiceKey does not exist. If the
    /// ServiceKey exists, it does not know the number of this key, and only a person can decide which of the two is
    /// right. A twin goes with the key that has its number.
    pub may_be_revoked: bool,
}

impl Inventory {
    /// Compares the list with the known keys.
    #[must_use]
    pub(crate) fn findings(self) -> Findings {
        let Self { listed, expected, accounted, namespace, cluster_is_known, suspects } = self;
        let shown: HashSet<&str> = listed.iter().map(|key| key.id.as_str()).collect();
        let missed =
            expected.iter().filter(|(_, id)| !shown.contains(id.as_str())).map(|(key, _)| *key).collect();
        let is_ours = |key: &MarkedKey| {
            cluster_is_known
                && namespace.as_ref().is_none_or(|namespace| key.namespace.as_ref() == Some(namespace))
        };
        let is_accounted = |key: &MarkedKey| {
            let known = accounted.get(&key.owner);
            known.is_some_and(|known| key.sequence.is_none_or(|sequence| known.contains(&sequence)))
        };
        // Another request for the same key took effect as well. The status names the key whose credentials are in the
        // Secret, and the list contains both.
        let is_twin = |key: &MarkedKey| {
            let identity = key.sequence.map(|sequence| Identity { owner: key.owner, sequence });
            let known = identity.and_then(|identity| expected.get(&identity));
            known.is_some_and(|known| *known != key.id && shown.contains(known.as_str()))
        };
        let is_orphan = |key: &&MarkedKey| is_twin(key) || is_ours(key) && !is_accounted(key);
        let nobodys: Vec<_> = listed.iter().filter(is_orphan).cloned().collect();
        let mut findings = Findings { missed, ..Findings::default() };
        for key in nobodys {
            findings.suspects.insert(key.id.clone());
            if suspects.contains(&key.id) {
                findings.orphans.push(Orphan { may_be_revoked: !accounted.contains_key(&key.owner), key });
            }
        }
        findings
    }
}

impl Recorded {
    /// The numbers of all keys that may exist.
    #[must_use]
    pub fn sequences(&self) -> BTreeSet<Sequence> {
        let mut sequences: BTreeSet<_> = self.previous.iter().map(|key| key.sequence).collect();
        sequences.extend(self.key.as_ref().map(|key| key.sequence));
        sequences.extend(self.attempt());
        if sequences.is_empty() {
            sequences.insert(Sequence::FIRST);
        }
        sequences
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const OWNER: Uuid = Uuid::from_u128(1);
    const SECOND: Sequence = Sequence::FIRST.next();

    fn listed(id: &str, owner: Uuid, sequence: Option<Sequence>) -> MarkedKey {
        MarkedKey {
            id: id.to_owned(),
            name: format!("key-{id}"),
            owner,
            sequence,
            namespace: Some("training".to_owned()),
        }
    }

    /// The list contains one key, that of the one ServiceKey.
    fn settled() -> Inventory {
        Inventory {
            listed: vec![listed("a", OWNER, Some(Sequence::FIRST))],
            expected: [(Identity { owner: OWNER, sequence: Sequence::FIRST }, "a".to_owned())].into(),
            accounted: [(OWNER, [Sequence::FIRST].into())].into(),
            namespace: None,
            cluster_is_known: true,
            suspects: Arc::default(),
        }
    }

    #[test]
    fn a_list_of_what_is_known_tells_nothing() {
        assert_eq!(settled().findings(), Findings::default());
    }

    #[test]
    fn a_key_that_the_list_does_not_show_is_missed() {
        let findings = Inventory { listed: Vec::new(), ..settled() }.findings();
        assert_eq!(findings.missed, [Identity { owner: OWNER, sequence: Sequence::FIRST }]);
        assert!(findings.orphans.is_empty());
        // A key that was created in place of the known one is not the key whose credentials are in the Secret.
        let another = vec![listed("b", OWNER, Some(Sequence::FIRST))];
        assert_eq!(Inventory { listed: another, ..settled() }.findings().missed, findings.missed);
    }

    #[rstest]
    #[case::of_a_service_key_that_is_gone(listed("b", Uuid::from_u128(2), Some(Sequence::FIRST)), Some(true))]
    #[case::of_a_gone_one_without_a_number(listed("b", Uuid::from_u128(2), None), Some(true))]
    #[case::of_a_service_key_that_knows_no_such_number(listed("b", OWNER, Some(SECOND)), Some(false))]
    #[case::of_a_service_key_that_may_have_it(listed("b", OWNER, None), None)]
    fn what_nobody_has_is_an_orphan_once_it_is_seen_twice(
        #[case] key: MarkedKey,
        #[case] may_go: Option<bool>,
    ) {
        let with = |suspects: HashSet<String>| Inventory {
            listed: settled().listed.into_iter().chain([key.clone()]).collect(),
            suspects: suspects.into(),
            ..settled()
        };
        let first = with(HashSet::new()).findings();
        assert_eq!((first.orphans, first.suspects.len()), (Vec::new(), usize::from(may_go.is_some())));
        let second = with(first.suspects).findings().orphans;
        assert_eq!(second.first().map(|orphan| orphan.may_be_revoked), may_go);
    }

    /// Two requests for one key took effect.
    #[test]
    fn a_twin_of_a_known_key_is_reported_and_never_goes_by_itself() {
        let with = |id: &str, suspects: &[&str]| Inventory {
            listed: [settled().listed, vec![listed(id, OWNER, Some(Sequence::FIRST))]].concat(),
            namespace: Some("another".to_owned()),
            cluster_is_known: false,
            suspects: Arc::new(suspects.iter().map(|id| (*id).to_owned()).collect()),
            ..settled()
        };
        assert_eq!(with("b", &[]).findings().orphans, []);
        let orphans = with("b", &["b"]).findings().orphans;
        assert_eq!(
            orphans.iter().map(|twin| (twin.key.id.as_str(), twin.may_be_revoked)).collect::<Vec<_>>(),
            [("b", false)]
        );
        // A list may contain a key twice if it moved from one page to the next.
        assert_eq!(with("a", &["a"]).findings(), Findings::default());
    }

    #[rstest]
    #[case::its_own_namespace(Some("training"), true, 1)]
    #[case::another_namespace(Some("staging"), true, 0)]
    #[case::any_namespace(None, true, 1)]
    #[case::any_cluster(None, false, 0)]
    fn nobody_judges_the_keys_of_others(
        #[case] namespace: Option<&str>,
        #[case] cluster_is_known: bool,
        #[case] orphans: usize,
    ) {
        let inventory = Inventory {
            accounted: HashMap::new(),
            namespace: namespace.map(str::to_owned),
            cluster_is_known,
            suspects: Arc::new(["a".to_owned()].into()),
            ..settled()
        };
        assert_eq!(inventory.findings().orphans.len(), orphans);
    }
}
