//! IBM Cloud: resource keys through the Resource Controller's API v2, with tokens of IAM.
//!
//! Modules import only modules that come earlier in this list:
//!
//! - `wire` reads the APIs' JSON, `classify` interprets refusals, `name` names keys and recognizes the operator's own;
//! - `hosts` knows IBM Cloud's own hosts, `session` logs in, `pages` reads lists, `attempts` remembers creations
//!   without an answer;
//! - `instances` and `roles` resolve names, `access` creates and deletes service IDs for keys;
//! - `client` creates and reads keys, `removal` revokes and releases them, `adopt` adopts existing keys.

mod access;
mod adopt;
mod attempts;
mod classify;
mod client;
mod config;
mod hosts;
mod instances;
mod name;
mod pages;
mod removal;
mod roles;
mod session;
#[cfg(test)]
mod tests;
mod wire;

pub(crate) use client::IbmCloud;
pub use config::IbmCloudConfig;
pub(crate) use config::{IbmCloudLogin, Profile};

pub(super) use name::key_name;
