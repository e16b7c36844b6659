//! IBM Cloud: resource keys by the Resource Controller's API v2, with tokens of IAM.
//!
//! Modules import only those that stand before them in this list:
//!
//! - `wire` reads the APIs' JSON, `classify` says what a refusal means, `name` names keys and recognizes the operator's;
//! - `hosts` knows IBM Cloud's own hosts, `session` logs in, `pages` reads lists, `attempts` remembers creations whose
//!   answers were lost;
//! - `instances` and `roles` resolve names, `access` creates and deletes service IDs for keys;
//! - `client` creates and reads keys, `removal` revokes and releases them, `adopt` adopts those of others.

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
