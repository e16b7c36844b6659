//! The election of the one replica that reconciles. It holds a Lease of the cluster, and the others stand by.
//!
//! [`candidate`] decides, [`lease`] converts the Lease object, and [`election`] sends the requests.

mod candidate;
mod election;
mod leadership;
mod lease;

pub(crate) use candidate::Loss;
pub(crate) use election::{Election, LEASE};
pub(crate) use leadership::Leadership;
