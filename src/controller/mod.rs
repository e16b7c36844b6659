//! The shell around the decisions: it watches, observes, carries out one effect at a time, and shows the status.

mod act;
mod ask;
mod secret_reservations;
mod metrics;
mod missing_keys;
mod error;
mod events;
mod finalizer;
mod heirs;
mod clock;
mod local_state;
mod answer_memory;
mod namespaces;
mod observe;
mod provider;
mod queue;
mod reconcile;
mod run;
mod scope;
mod seats;
mod secret_reader;
mod secret_cache;
mod shared;
mod status;
mod state_metrics;
mod templates;
mod term;
mod turn;
mod unread;
mod vanished;
mod version;
mod watch;

pub use run::{Clock, Operator, Options};

use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::api::PostParams;

use crate::api::marks::FIELD_MANAGER;

/// The parameters of a write under the operator's name.
fn as_field_manager() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

/// Locks a mutex whose holders leave it whole, also where one of them panicked.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod a_day;
