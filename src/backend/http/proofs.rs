//! The addresses of an endpoint that have sent a valid answer of the provider's protocol.

use std::{collections::HashSet, net::IpAddr};

use parking_lot::Mutex;

/// The most addresses of an endpoint to remember. With more of them, all must prove themselves again.
const MOST_ADDRESSES: usize = 64;

/// The proofs of one scheme, host and port.
///
/// A proof counts for the address that sent it: the name may lead to another address the next time.
#[derive(Debug, Default)]
pub(super) struct Proofs(Mutex<HashSet<Option<IpAddr>>>);

impl Proofs {
    /// Records a valid answer from this address, or `None` behind a proxy, which hides the address.
    pub(super) fn add(&self, address: Option<IpAddr>) {
        let mut proved = self.0.lock();
        if proved.len() >= MOST_ADDRESSES {
            proved.clear();
        }
        proved.insert(address);
    }

    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.0.lock().contains(&Some(address))
    }

    pub(super) fn has_behind_proxy(&self) -> bool {
        self.0.lock().contains(&None)
    }
}
