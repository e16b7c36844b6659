//! The controllers around the decisions: they watch, observe, carry out one effect at a time, and publish the
//! status.

mod answer_memory;
mod backoff;
mod clock_jumps;
mod error;
mod events;
mod finalizer;
mod ids;
mod namespaces;
mod provider;
mod queue;
mod requeues;
mod run;
mod scope;
mod service_key;
mod shared;
mod state_metrics;
mod tables;
mod unread;
mod watch;

pub use run::{Operator, Options};
pub use tables::TableSizes;

use kube::api::PostParams;

use crate::api::marks::FIELD_MANAGER;

/// The parameters of a write under the operator's name.
fn as_field_manager() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}
