//! Brokers on libraries that nobody here wrote: openbrokerapi for Python, and brokerapi for Go.
//!
//! The strict [fake](crate::broker) reads the specification as we do. These brokers read it as the authors of the
//! libraries did, on which brokers in the field are built: what they check, which statuses and bodies they answer
//! with, and what they leave out. The programs are in `testkit/brokers/`, small enough to be read at once; all that is
//! particular in what they say on the wire is their library's doing.
//!
//! The libraries come from their registries, by `pip` and by the Go module proxy, in pinned versions, once: a virtual
//! environment and a binary are kept in the user's cache directory. A broker is a process of its own, and ends with the
//! value that stands for it.

mod broker;
mod error;
mod kind;
mod sources;
mod state;

pub use broker::LibraryBroker;
pub use error::Error;
pub use kind::Kind;
pub use state::{Binding, State};
