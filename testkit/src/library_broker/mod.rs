//! Brokers on libraries of other authors: openbrokerapi for Python, and brokerapi for Go.
//!
//! The strict [fake](crate::broker) follows this project's reading of the specification. These brokers follow the
//! reading of the libraries' authors, on which brokers in the field are built. That includes their checks, statuses,
//! bodies and gaps. The programs are in `testkit/brokers/`, and short. All peculiarities on the wire come from their
//! libraries.
//!
//! `pip` and the Go module proxy provide the libraries in pinned versions, once: the user's cache directory keeps a
//! virtual environment and a binary. A broker is a separate process, and ends when its handle is dropped.

mod broker;
mod error;
mod kind;
mod sources;
mod state;

pub use broker::LibraryBroker;
pub use error::Error;
pub use kind::Kind;
pub use state::{Binding, State};
