//! Cloud Foundry: service keys through the Cloud Controller's API v3, with logins at its UAA.
//!
//! Modules import only modules that come earlier in this list:
//!
//! - `wire` reads the API's JSON, `classify` interprets refusals, `marks` recognizes the operator's keys;
//! - `discovery` finds the API and the UAA, `session` logs in, `pages` reads lists;
//! - `instances` resolves names of spaces and instances, `pending_operations` follows all accepted operations with one
//!   list;
//! - `client` creates and reads keys, `removal` revokes and releases them, `adopt` adopts existing keys, and `korifi`
//!   marks keys at an API that takes no labels when it creates a key.

mod adopt;
mod classify;
mod client;
mod config;
mod discovery;
mod instances;
mod korifi;
mod marks;
mod pages;
mod pending_operations;
mod removal;
mod session;
mod wire;

pub(crate) use client::CloudFoundry;
pub(crate) use config::{CloudFoundryConfig, CloudFoundryLogin};
