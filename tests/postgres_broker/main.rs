//! The example broker alone, on a real PostgreSQL: the access of its keys, and its answers to platforms.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../examples/postgres-broker/broker/mod.rs"]
mod broker;

mod keys;
mod refusals;
mod stage;
