//! Reserves the names of Secrets for ServiceKeys, before the Secrets exist.
//!
//! An existing Secret names its owner. Before it exists, two ServiceKeys may name the same Secret, and must
//! not create a key each. The first to reserve the name gets it. A ServiceKey that stored the finalizer may
//! have created a key already, so it keeps its reservation across restarts.

use std::collections::{HashMap, HashSet, hash_map::Entry};

use k8s_openapi::api::core::v1::Secret;
use kube::runtime::reflector::ObjectRef;
use parking_lot::Mutex;
use uuid::Uuid;

/// The reservations of one scope.
#[derive(Debug, Default)]
pub(super) struct SecretReservations(Mutex<HashMap<ObjectRef<Secret>, SecretReservation>>);

#[derive(Clone, Debug)]
struct SecretReservation {
    owner: Uuid,
    name: String,
}

impl SecretReservations {
    /// Reserves the Secret for a ServiceKey.
    ///
    /// # Errors
    /// The name of the ServiceKey that reserved it first.
    pub(super) fn reserve(
        &self,
        namespace: &str,
        secret: &str,
        owner: Uuid,
        name: &str,
    ) -> Result<(), String> {
        let mut reservations = self.0.lock();
        match reservations.entry(ObjectRef::new(secret).within(namespace)) {
            Entry::Occupied(reserved) if reserved.get().owner != owner => Err(reserved.get().name.clone()),
            Entry::Occupied(_) => Ok(()),
            Entry::Vacant(vacant) => {
                vacant.insert(SecretReservation { owner, name: name.to_owned() });
                Ok(())
            }
        }
    }

    /// Releases the reservation of a ServiceKey.
    pub(super) fn release(&self, namespace: &str, secret: &str, owner: Uuid) {
        let mut reservations = self.0.lock();
        if let Entry::Occupied(reserved) = reservations.entry(ObjectRef::new(secret).within(namespace))
            && reserved.get().owner == owner
        {
            reserved.remove();
        }
    }

    /// The number of reservations.
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Releases the reservations of all other ServiceKeys.
    pub(super) fn retain(&self, owners: &HashSet<Uuid>) {
        let mut reservations = self.0.lock();
        reservations.retain(|_, reservation| owners.contains(&reservation.owner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Uuid = Uuid::from_u128(1);
    const SECOND: Uuid = Uuid::from_u128(2);

    #[test]
    fn the_first_to_reserve_a_secret_gets_it() {
        let reservations = SecretReservations::default();
        assert_eq!(reservations.reserve("ns", "db", FIRST, "first"), Ok(()));
        assert_eq!(reservations.reserve("ns", "db", SECOND, "second"), Err("first".to_owned()));
        assert_eq!(reservations.reserve("ns", "db", FIRST, "first"), Ok(()));
        assert_eq!(reservations.reserve("other", "db", SECOND, "second"), Ok(()));
    }

    #[test]
    fn only_the_owner_releases_a_reservation() {
        let reservations = SecretReservations::default();
        assert_eq!(reservations.reserve("ns", "db", FIRST, "first"), Ok(()));
        reservations.release("ns", "db", SECOND);
        assert_eq!(reservations.reserve("ns", "db", SECOND, "second"), Err("first".to_owned()));
        reservations.release("ns", "db", FIRST);
        assert_eq!(reservations.reserve("ns", "db", SECOND, "second"), Ok(()));
    }

    #[test]
    fn a_service_key_that_is_gone_reserves_nothing() {
        let reservations = SecretReservations::default();
        assert_eq!(reservations.reserve("ns", "db", FIRST, "first"), Ok(()));
        assert_eq!(reservations.reserve("ns", "other", SECOND, "second"), Ok(()));
        reservations.retain(&HashSet::from([SECOND]));
        assert_eq!(reservations.reserve("ns", "db", SECOND, "second"), Ok(()));
        assert_eq!(reservations.reserve("ns", "other", FIRST, "first"), Err("second".to_owned()));
    }
}
