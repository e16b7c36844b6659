//! The ServiceKey operator: keeps one live key at a remote side for each `ServiceKey`, its credentials in one
//! Secret, and nothing anywhere once the `ServiceKey` is deleted.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod api;
pub mod backend;
pub mod cli;
pub mod controller;
mod fair;
pub mod lifecycle;
pub mod runtime;
pub mod secret;
pub mod wipe;
