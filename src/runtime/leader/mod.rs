//! Which of several replicas works: the one that holds a Lease of the cluster. The others stand by.
//!
//! [`candidate`] decides, [`lease`] is what is written down, [`election`] asks the API server.

mod candidate;
mod election;
mod leadership;
mod lease;

pub(crate) use candidate::Loss;
pub(crate) use election::{Election, LEASE};
pub(crate) use leadership::Leadership;
