//! Which addresses of a place have answered in the protocol of the provider.

use std::{collections::HashSet, net::IpAddr};

use parking_lot::Mutex;

/// How many addresses of a place are remembered. A name that has more than these is asked to prove itself again.
const MOST_ADDRESSES: usize = 64;

/// What has proved itself at one scheme, host and port.
///
/// A proof counts for the address that gave it: the name may lead elsewhere the next time.
#[derive(Debug, Default)]
pub(super) struct Proofs(Mutex<HashSet<Option<IpAddr>>>);

impl Proofs {
    /// The place gave an answer of its protocol from this address; `None` behind a proxy, which does not tell it.
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
