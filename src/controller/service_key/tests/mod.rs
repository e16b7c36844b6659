//! Scenarios of single reconciles on a mocked API server: which requests each effect sends, and what each failure of the
//! API server leads to. CONTRIBUTING.md says when to write one.
//!
//! A scenario lists the requests that it expects, in order, each with its answer. [`fixtures`] has the words for them.

mod end;
mod events;
mod finalizer;
mod fixtures;
mod lost_answers;
mod outages;
mod rehearsal;
mod remote;
mod repair;
mod secret;
mod status;
