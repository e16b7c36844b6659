//! Services that any long-running program needs: logs, traces, metrics, health, leader election and shutdown.

pub(crate) mod answers;
mod control;
mod health;
mod heartbeat;
mod http;
mod kubernetes;
mod leader;
mod logs;
pub(crate) mod metrics;
#[cfg(feature = "otlp")]
mod traces;
mod watches;
mod words;

use std::io;

use futures::future;
use tokio::signal::unix::{SignalKind, signal};

pub(crate) use control::{Control, request_log_level};
pub use health::{Health, HealthThresholds};
pub(crate) use heartbeat::Heartbeat;
pub use http::HttpServer;
pub use kubernetes::{client, client_over};
pub(crate) use leader::LEASE;
pub use leader::{Election, Leadership, Loss};
pub(crate) use logs::{LogFilter, LogLevel};
pub use logs::{LogFormat, start_logging};
pub use metrics::Metrics;
#[cfg(feature = "otlp")]
pub(crate) use traces::finish_traces;
pub(crate) use watches::{Watch, Watches};
pub(crate) use words::words;

/// Resolves at SIGTERM or Ctrl-C.
///
/// # Errors
/// If the signal handlers can't be installed.
pub(crate) fn shutdown_signal() -> io::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        future::select(Box::pin(terminate.recv()), Box::pin(interrupt.recv())).await;
    })
}
