//! IBM Cloud: resource keys by the Resource Controller's API v2, with tokens of IAM.
//!
//! `cloud` makes the calls that a key needs, and `removal` those that take keys away; `session` logs in, `call` sends them
//! and has the words for what went wrong, `classify` says what that means. `instances` and `roles` know what keys are made
//! for, `access` whom they act as, `name` what they are called, `attempts` which of them may have been made without anybody
//! knowing, `adopt` takes over those of others, and `wire` reads what comes.

mod access;
mod adopt;
mod attempts;
mod call;
mod classify;
mod cloud;
mod config;
mod hosts;
mod instances;
mod name;
mod removal;
mod roles;
mod session;
#[cfg(test)]
mod tests;
mod wire;

pub use cloud::IbmCloud;
pub use config::{IbmCloudConfig, IbmCloudLogin, Profile};

pub(super) use name::key_name;
