//! The operator on a real API server, against a strict fake broker: one file per capability.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod a_key_becomes_a_secret;
mod stage;
