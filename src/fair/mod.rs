//! Places that are shared fairly by lane, usually one lane for each namespace: a lane with many callers delays only
//! itself.
//!
//! Everything that the operator has a limited number of goes through a [`FairSemaphore`]: workers, places at remote
//! sides, provider checks, name lookups, threads for templates. A queue that is first come, first served would let a
//! namespace with 1,000 ServiceKeys take the next 1,000 turns.

mod lane;
mod semaphore;

pub(crate) use lane::Lane;
pub(crate) use semaphore::{Acquire, FairPermit, FairSemaphore, NoPermit};

#[cfg(test)]
mod tests;
