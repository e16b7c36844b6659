//! The environment of the operator's tests and its demo:
//!
//! - a real Kubernetes control plane in [`control_plane`], a small [`kubelet`] that runs the containers of its pods as
//!   local processes, and a [`gateway`] that delays requests of its clients;
//! - a real database server in [`postgres`];
//! - strict fakes of remote sides: an Open Service Broker in [`broker`], an OAuth token endpoint in [`token_server`], a
//!   Cloud Foundry in [`cloud_foundry`], and an IBM Cloud in [`ibm_cloud`], with their common parts in [`remote`];
//! - brokers on libraries by other authors in [`library_broker`];
//! - the promtool that checks metrics and rules in [`prometheus`];
//! - a deterministic simulation of the whole operator in [`simulation`], with a model of the API server;
//! - the tools that install the operator in [`go_tool`], and the tools that read its objects in [`gitops`].
//!
//! The product never depends on this crate.

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
pub mod kubelet;
pub mod library_broker;
pub mod postgres;
mod process;
mod progress;
pub mod prometheus;
pub mod remote;
mod scratch;
mod server;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod token_server;
mod tool;
mod wait;

pub use file_error::FileError;
pub use gate::{Gate, Moment};
pub use process::ProcessError;
pub use progress::{Progress, Stderr, Step};
pub use wait::WaitError;
