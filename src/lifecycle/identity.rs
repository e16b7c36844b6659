//! Identities of remote keys, derived from the ServiceKey's UID and a sequence number, never remembered.

use std::fmt;

use uuid::Uuid;

/// The number of a remote key within one ServiceKey: 1, 2, 3 …; a rotation adds one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(u32);

impl Sequence {
    /// The sequence of the first key that a ServiceKey ever has.
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

/// Which remote key is meant: the ServiceKey it belongs to, and its sequence there.
///
/// The same identity always denotes the same remote key, so a call that was lost is repeated, not replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// `metadata.uid` of the ServiceKey.
    pub owner: Uuid,
    /// The number of the key within that ServiceKey.
    pub sequence: Sequence,
}

impl Identity {
    /// The id under which an Open Service Broker knows the key: a version 5 UUID whose name space is the
    /// ServiceKey's UID and whose name is the sequence in decimal.
    #[must_use]
    pub fn binding_id(&self) -> Uuid {
        Uuid::new_v5(&self.owner, self.sequence.to_string().as_bytes())
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn no_key_has_sequence_zero() {
        assert_eq!(Sequence::new(0), None);
    }
}
