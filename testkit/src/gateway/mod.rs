//! A gateway in front of the API server: a process that is given its kubeconfig can be held, cut off or killed at
//! any request that it makes.
//!
//! Everything is passed on as it is, watches as they come; nothing is recorded.

mod forward;
mod requests;
mod running;

pub use http::Method;
pub use requests::Requests;
pub use running::{Gateway, StartError};
