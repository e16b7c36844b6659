//! The pure heart: what to do next for one ServiceKey, given what was observed. It does no I/O, reads no clock,
//! and knows neither a Kubernetes client nor HTTP.

mod identity;

pub use identity::{Identity, Sequence};
