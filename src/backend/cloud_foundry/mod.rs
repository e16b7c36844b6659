//! Cloud Foundry: service keys by the Cloud Controller's API v3, with logins of its UAA.
//!
//! Modules import only those that stand before them in this list:
//!
//! - `wire` reads the API's JSON, `classify` says what a refusal means, `marks` recognizes the operator's keys;
//! - `discovery` finds the API and the UAA, `session` logs in, `pages` reads lists;
//! - `instances` resolves names of spaces and instances, `pending_operations` follows all accepted operations by one list;
//! - `client` creates and reads keys, `removal` revokes and releases them, `adopt` adopts those of others, and `korifi` marks
//!   keys where the API takes no labels when it creates one.

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
