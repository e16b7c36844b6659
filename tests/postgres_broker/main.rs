//! The example broker by itself, on a real PostgreSQL: what its keys may do, and what it says to platforms.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../examples/postgres-broker/broker/mod.rs"]
mod broker;

mod keys;
mod refusals;
mod stage;
