//! Scenarios of single reconciles on a mocked API server. They show the requests of each effect, and the outcome of
//! each failure of the API server. CONTRIBUTING.md explains when to write one.
//!
//! A scenario lists the requests that it expects, in order, each with its answer. [`fixtures`] contains the functions
//! for both.

mod consumers;
mod end;
mod events;
mod finalizer;
mod fixtures;
mod lost_answers;
mod outages;
mod parameters;
mod rehearsal;
mod remote;
mod repair;
mod restarts;
mod restored;
mod secret;
mod status;
mod verification;
