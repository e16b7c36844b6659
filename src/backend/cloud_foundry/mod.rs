//! Cloud Foundry: service keys by the Cloud Controller's API v3, with logins of its UAA.
//!
//! `foundry` makes the calls that a key needs, and `removal` those that take keys away; `discovery` finds out where they
//! go, `session` logs in, `call` sends them and has the words for what went wrong, `classify` says what that means.
//! `instances` knows what keys are made for, `watch` looks after what is under way with one list for all keys, `marks`
//! tells our keys from others, `adopt` makes others' ours, `korifi` does what a Korifi needs besides, and `wire` reads what comes.

mod adopt;
mod call;
mod classify;
mod config;
mod discovery;
mod foundry;
mod instances;
mod korifi;
mod marks;
mod pending_operations;
mod removal;
mod session;
mod wire;

pub use config::{CloudFoundryConfig, CloudFoundryLogin};
pub use foundry::CloudFoundry;
