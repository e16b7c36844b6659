//! What the operator's tests and its demo run against: a real Kubernetes control plane in [`control_plane`], with a
//! [`gateway`] to hold its clients' requests, and a strict fake Open Service Broker in [`broker`].
//!
//! Nothing here is part of the product, and the product never depends on it.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod broker;
pub mod control_plane;
mod gate;
pub mod gateway;
mod server;
mod wait;

pub use gate::{Gate, Moment};
pub use wait::WaitError;
