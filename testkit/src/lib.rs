//! What the operator's tests and its demo run against: a real Kubernetes control plane in [`control_plane`], with a
//! [`gateway`] to hold its clients' requests, a real database server in [`postgres`], and strict fake remote sides: an
//! Open Service Broker in [`broker`], an OAuth token endpoint in [`token_server`], a Cloud Foundry in
//! [`cloud_foundry`], and an IBM Cloud in [`ibm_cloud`]. In [`library_broker`] are brokers on libraries that others
//! wrote, in [`prometheus`] is the one that reads the operator's metrics, in [`go_tool`] are the tools that users install
//! the operator with, and [`gitops`] tells what tools make of the operator's objects.
//!
//! Nothing here is part of the product, and the product never depends on it.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod broker;
mod cache;
pub mod cloud_foundry;
pub mod control_plane;
mod file_error;
mod gate;
pub mod gateway;
pub mod gitops;
mod go;
pub mod go_tool;
pub mod ibm_cloud;
pub mod library_broker;
pub mod postgres;
mod process;
mod progress;
pub mod prometheus;
pub mod remote;
mod scratch;
mod server;
pub mod token_server;
mod tool;
mod wait;

pub use file_error::FileError;
pub use gate::{Gate, Moment};
pub use process::ProcessError;
pub use progress::{Progress, Stderr, Step};
pub use wait::WaitError;
