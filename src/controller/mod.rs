//! The shell around the decisions: it watches, observes, carries out one effect at a time, and shows the status.

mod act;
mod answer_memory;
mod ask;
mod clock;
mod error;
mod events;
mod finalizer;
mod heirs;
mod local_state;
mod metrics;
mod missing_keys;
mod namespaces;
mod observe;
mod provider;
mod queue;
mod reconcile;
mod run;
mod scope;
mod seats;
mod secret_cache;
mod secret_reader;
mod secret_reservations;
mod shared;
mod state_metrics;
mod status;
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
