//! The real Prometheus, and the promtool that comes with it: metrics, rules and queries are read by those who will read
//! them.
//!
//! Both are of the version in `testkit/prometheus/`, and built as the other [tools](crate::go_tool) are.

mod error;
mod promtool;
mod server;

pub use error::PrometheusError;
pub use promtool::promtool;
pub use server::{Prometheus, Series};
