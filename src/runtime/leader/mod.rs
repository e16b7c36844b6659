//! Which of several replicas works: the one that holds a Lease of the cluster. The others stand by.
//!
//! [`candidate`] decides, [`lease`] is what is written down, [`election`] asks the API server.

mod candidate;
mod election;
mod leadership;
mod lease;

pub use candidate::Loss;
pub use election::{Election, LEASE};
pub use leadership::Leadership;
