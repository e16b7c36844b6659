//! Identities of remote keys. They are derived from the ServiceKey's UID and a sequence number, and never stored.

use std::fmt;

use uuid::Uuid;

/// The number of a remote key within one ServiceKey: 1, 2, 3 …; a rotation adds one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(u32);

impl Sequence {
    /// The sequence of the first key of a ServiceKey.
    pub const FIRST: Self = Self(1);

    /// The sequence with this number; `None` for 0, which no key has.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        if number == 0 { None } else { Some(Self(number)) }
    }

    /// The number itself, counted from 1.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The sequence that follows this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The identity of a remote key: its ServiceKey and its sequence there.
///
/// The same identity always denotes the same remote key, so the operator repeats a call without an answer instead of
/// creating another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// `metadata.uid` of the ServiceKey, or of the one that it was restored from.
    pub owner: Uuid,
    /// The number of the key within that ServiceKey.
    pub sequence: Sequence,
}

impl Identity {
    /// The id of the key at an Open Service Broker: a version 5 UUID whose name space is the ServiceKey's UID and whose
    /// name is the sequence in decimal.
    #[must_use]
    pub fn binding_id(&self) -> Uuid {
        Uuid::new_v5(&self.owner, self.sequence.to_string().as_bytes())
    }

    /// A pseudorandom number from zero to `whole`, always the same for this key.
    #[must_use]
    pub fn part_of(&self, whole: u64) -> u64 {
        // The first bits of a hash. The hash can never change, because brokers know the keys by these ids.
        let (chance, ..) = self.binding_id().as_fields();
        let part = ((u128::from(whole) + 1) * u128::from(chance)) >> u32::BITS;
        u64::try_from(part).unwrap_or(whole)
    }

    /// The name of the key at a remote side that has names: the given one, or one built from the ServiceKey's
    /// namespace, name and UID. From the second key on, its number is appended. A given name also gets digits that are
    /// derived from the UID, so that another tenant can't take the name in advance.
    #[must_use]
    pub fn key_name(&self, given: Option<&str>, namespace: &str, name: &str) -> String {
        match given {
            Some(given) if self.sequence == Sequence::FIRST => {
                first_bytes(given, LONGEST_GIVEN_NAME).to_owned()
            }
            Some(given) => {
                let digits = self.binding_id().simple().to_string();
                let end = format!("-{}-{}", self.sequence, first_bytes(&digits, SUFFIX_DIGITS));
                format!("{}{end}", first_bytes(given, LONGEST_GIVEN_NAME - end.len()))
            }
            None => {
                let end = format!("-{}{}", self.owner, self.number());
                let start = format!("{namespace}-{name}");
                format!("{}{end}", first_bytes(&start, LONGEST_NAME - end.len()))
            }
        }
    }

    /// A name that can't be guessed without the ServiceKey's UID. A name that is derived from the UID stays; others get
    /// the digits of a later key appended.
    #[must_use]
    pub fn own_name(&self, name: &str) -> String {
        let digits = self.binding_id().simple().to_string();
        let digits = first_bytes(&digits, SUFFIX_DIGITS);
        if name.contains(&self.owner.to_string()) || name.ends_with(digits) {
            return name.to_owned();
        }
        let end = format!("-{digits}");
        format!("{}{end}", first_bytes(name, LONGEST_GIVEN_NAME - end.len()))
    }

    /// The name that releases up to 0.1 used for a key with a given name. Keys keep it.
    #[must_use]
    pub fn former_key_name(&self, given: &str) -> String {
        let number = self.number();
        format!("{}{number}", first_bytes(given, LONGEST_GIVEN_NAME - number.len()))
    }

    /// The suffix that distinguishes the names of later keys from that of the first.
    fn number(&self) -> String {
        match self.sequence {
            Sequence::FIRST => String::new(),
            sequence => format!("-{sequence}"),
        }
    }
}

/// Hexadecimal digits that prevent guessing the name of a later key: 48 bits.
const SUFFIX_DIGITS: usize = 12;
/// The longest name that the user may give, in bytes: the limit of Cloud Foundry.
const LONGEST_GIVEN_NAME: usize = 255;
/// The longest generated name, in bytes: the limit of IBM Cloud.
const LONGEST_NAME: usize = 180;

/// The longest prefix of a text that fits, in whole characters.
pub(crate) fn first_bytes(text: &str, bytes: usize) -> &str {
    let ends = text.char_indices().map(|(start, character)| start + character.len_utf8());
    &text[..ends.take_while(|end| *end <= bytes).last().unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rstest::rstest;

    use super::*;

    const OWNER: Uuid = Uuid::from_u128(0x6ba7_b810_9dad_11d1_80b4_00c0_4fd4_30c8);

    fn identity(number: u32) -> Identity {
        Identity { owner: OWNER, sequence: Sequence::new(number).unwrap() }
    }

    #[test]
    fn the_same_identity_has_the_same_binding_id() {
        assert_eq!(identity(1).binding_id(), identity(1).binding_id());
        assert_eq!(identity(1).binding_id().to_string(), "b04965e6-a9bb-591f-8f8a-1adcb2c8dc39");
    }

    #[test]
    fn another_sequence_has_another_binding_id() {
        assert_ne!(identity(1).binding_id(), identity(2).binding_id());
    }

    #[rstest]
    #[case(1, Some("monitoring-creds"), "monitoring-creds".to_owned())]
    #[case(12, Some("monitoring-creds"), format!("monitoring-creds-12-{}", digits(12)))]
    #[case(1, None, format!("training-creds-{OWNER}"))]
    #[case(2, None, format!("training-creds-{OWNER}-2"))]
    fn names_are_derived(#[case] number: u32, #[case] given: Option<&str>, #[case] expected: String) {
        assert_eq!(identity(number).key_name(given, "training", "creds"), expected);
    }

    #[test]
    fn a_long_name_makes_room_for_the_number() {
        let long = "ü".repeat(127);
        assert_eq!(identity(1).key_name(Some(&long), "", ""), long);
        assert_eq!(identity(2).key_name(Some(&long), "", ""), format!("{}-2-{}", "ü".repeat(120), digits(2)));
    }

    /// A tenant that knows the name of a key, but not the UID of its ServiceKey, does not know the name of the next
    /// one.
    #[test]
    fn names_of_later_keys_differ_between_servicekeys_and_keep_their_former_names() {
        let other = Identity { owner: Uuid::from_u128(7), sequence: identity(2).sequence };
        assert_ne!(other.key_name(Some("creds"), "", ""), identity(2).key_name(Some("creds"), "", ""));
        assert_eq!(identity(1).former_key_name("creds"), "creds");
        assert_eq!(identity(2).former_key_name("creds"), "creds-2");
        assert_eq!(identity(2).former_key_name(&"ü".repeat(127)), format!("{}-2", "ü".repeat(126)));
    }

    #[test]
    fn a_name_of_ones_own_follows_from_the_uid() {
        let own = |number: u32, given| {
            let identity = identity(number);
            identity.own_name(&identity.key_name(given, "training", "creds"))
        };
        assert_eq!(own(1, Some("creds")), format!("creds-{}", digits(1)));
        assert_eq!(own(2, Some("creds")), format!("creds-2-{}", digits(2)));
        assert_eq!(own(1, None), format!("training-creds-{OWNER}"));
        assert_eq!(own(1, Some(&"ü".repeat(127))), format!("{}-{}", "ü".repeat(121), digits(1)));
    }

    fn digits(number: u32) -> String {
        identity(number).binding_id().simple().to_string()[..SUFFIX_DIGITS].to_owned()
    }

    #[test]
    fn names_that_are_made_up_are_never_too_long_nor_the_same() {
        let long = "x".repeat(253);
        let names: BTreeSet<_> =
            [1, 2, u32::MAX].map(|number| identity(number).key_name(None, &long, &long)).into();
        assert!(names.iter().all(|name| name.len() <= LONGEST_NAME), "{names:?}");
        assert_eq!(names.len(), 3);
    }

    #[test]
    fn no_key_has_sequence_zero() {
        assert_eq!(Sequence::new(0), None);
    }
}
