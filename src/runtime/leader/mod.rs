//! The election of the one replica that reconciles. It holds a Lease of the cluster, and the others stand by.
//!
//! [`candidate`] decides, [`lease`] converts the Lease object, and [`election`] sends the requests.

mod candidate;
mod election;
mod leadership;
mod lease;

pub use candidate::Loss;
pub use election::Election;
pub(crate) use election::LEASE;
pub use leadership::Leadership;
