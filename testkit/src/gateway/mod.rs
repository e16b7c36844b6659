//! A gateway in front of the API server. A test can delay, cut off or kill a process that uses the gateway's
//! kubeconfig, at any request of that process.
//!
//! The gateway forwards everything unchanged, and watches as they arrive. It does not record requests.

mod forward;
mod requests;
mod running;

pub use http::Method;
pub use requests::Requests;
pub use running::{Gateway, StartError};
