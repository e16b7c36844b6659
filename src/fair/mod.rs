//! Semaphores that share a limited resource fairly by lane, usually one lane for each namespace: a lane with many
//! callers delays only itself.
//!
//! All limited resources of the operator use a [`FairSemaphore`]: workers, requests to remote sides, provider checks,
//! name lookups, threads for templates. In a queue in order of arrival, a namespace with 1,000 ServiceKeys would take
//! the next 1,000 turns.

mod lane;
mod semaphore;

pub(crate) use lane::Lane;
pub(crate) use semaphore::{Acquire, FairPermit, FairSemaphore, NoPermit};

#[cfg(test)]
mod tests;
