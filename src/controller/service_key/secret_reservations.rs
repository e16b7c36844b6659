//! Which ServiceKey may write which Secret, before that Secret exists.
//!
//! A Secret that exists names its owner. Until then two ServiceKeys that name the same Secret must be kept from
//! making a key each: the first to claim the name gets it, and one that stored the finalizer, and so may have
//! made a key already, holds its claim across restarts.

use std::collections::{HashMap, HashSet, hash_map::Entry};

use parking_lot::Mutex;
use uuid::Uuid;

/// Claims on names of Secrets, by namespace and name.
#[derive(Debug, Default)]
pub struct SecretReservations(Mutex<HashMap<(String, String), SecretReservation>>);

#[derive(Clone, Debug)]
struct SecretReservation {
    owner: Uuid,
    name: String,
}

impl SecretReservations {
    /// Claims the Secret for a ServiceKey.
    ///
    /// # Errors
    /// The name of the ServiceKey that has claimed it already.
    pub fn reserve(&self, namespace: &str, secret: &str, owner: Uuid, name: &str) -> Result<(), String> {
        let mut claims = self.0.lock();
        match claims.entry((namespace.to_owned(), secret.to_owned())) {
            Entry::Occupied(claim) if claim.get().owner != owner => Err(claim.get().name.clone()),
            Entry::Occupied(_) => Ok(()),
            Entry::Vacant(vacant) => {
                vacant.insert(SecretReservation { owner, name: name.to_owned() });
                Ok(())
            }
        }
    }

    /// Lets go of what a ServiceKey has claimed.
    pub fn release(&self, namespace: &str, secret: &str, owner: Uuid) {
        let mut claims = self.0.lock();
        if let Entry::Occupied(claim) = claims.entry((namespace.to_owned(), secret.to_owned()))
            && claim.get().owner == owner
        {
            claim.remove();
        }
    }

    /// Lets go of what ServiceKeys have claimed that are none of these.
    pub fn retain(&self, owners: &HashSet<Uuid>) {
        let mut claims = self.0.lock();
        claims.retain(|_, claim| owners.contains(&claim.owner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Uuid = Uuid::from_u128(1);
    const SECOND: Uuid = Uuid::from_u128(2);

    #[test]
    fn the_first_to_claim_a_secret_gets_it() {
        let claims = SecretReservations::default();
        assert_eq!(claims.reserve("ns", "db", FIRST, "first"), Ok(()));
        assert_eq!(claims.reserve("ns", "db", SECOND, "second"), Err("first".to_owned()));
        assert_eq!(claims.reserve("ns", "db", FIRST, "first"), Ok(()));
        assert_eq!(claims.reserve("other", "db", SECOND, "second"), Ok(()));
    }

    #[test]
    fn only_the_holder_releases_a_claim() {
        let claims = SecretReservations::default();
        assert_eq!(claims.reserve("ns", "db", FIRST, "first"), Ok(()));
        claims.release("ns", "db", SECOND);
        assert_eq!(claims.reserve("ns", "db", SECOND, "second"), Err("first".to_owned()));
        claims.release("ns", "db", FIRST);
        assert_eq!(claims.reserve("ns", "db", SECOND, "second"), Ok(()));
    }

    #[test]
    fn whoever_is_gone_claims_nothing() {
        let claims = SecretReservations::default();
        assert_eq!(claims.reserve("ns", "db", FIRST, "first"), Ok(()));
        assert_eq!(claims.reserve("ns", "other", SECOND, "second"), Ok(()));
        claims.retain(&HashSet::from([SECOND]));
        assert_eq!(claims.reserve("ns", "db", SECOND, "second"), Ok(()));
        assert_eq!(claims.reserve("ns", "other", FIRST, "first"), Err("second".to_owned()));
    }
}
