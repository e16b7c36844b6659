//! What can go wrong.

use crate::{FileError, ProcessError, go_tool::GoToolError};

/// Why a Prometheus can't be had, or does not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrometheusError {
    /// The program can't be had.
    #[error(transparent)]
    Program(#[from] GoToolError),
    /// The server did not start, or ended.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The server does not answer a query.
    #[error("Prometheus does not answer `{query}`")]
    Query {
        /// What was asked.
        query: String,
        /// Why not.
        #[source]
        source: reqwest::Error,
    },
    /// A file could not be worked with.
    #[error(transparent)]
    File(#[from] FileError),
}
