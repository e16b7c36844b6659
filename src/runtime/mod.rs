//! What any long-running program needs: logging, metrics, health, and an orderly end.

mod health;
mod heart;
mod http;
mod kubernetes;
mod leader;
pub mod metrics;
mod watches;

use std::io::{self, IsTerminal};

use futures::future;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

pub use health::{Health, Patience};
pub use heart::Heart;
pub use http::Server;
pub use kubernetes::client;
pub use leader::{Election, LEASE, Leadership, Loss};
pub use metrics::Metrics;
pub use watches::{Watch, Watches};

/// What is logged where `RUST_LOG` says nothing.
const DEFAULT_FILTER: &str = "info,kube_runtime=warn";

/// Logs to standard error: for people on a terminal, as JSON otherwise. `RUST_LOG` chooses what.
pub fn start_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    if io::stderr().is_terminal() { logs.init() } else { logs.json().init() }
}

/// Resolves when the process is asked to end: SIGTERM or Ctrl-C.
///
/// # Errors
/// Where the signals can't be waited for.
pub fn shutdown_signal() -> io::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        future::select(Box::pin(terminate.recv()), Box::pin(interrupt.recv())).await;
    })
}
