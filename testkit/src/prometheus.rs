//! The real promtool, which checks metrics, rules and queries, and runs tests of rules.
//!
//! Its version is in `testkit/prometheus/`, and it is built like the other [tools](crate::go_tool).

use crate::go_tool::{GoTool, GoToolError};

/// Runs promtool with this standard input, and returns its output. Builds it first if necessary.
///
/// # Errors
/// [`GoToolError`] names what is missing, how the build ended, or what promtool found wrong.
pub async fn promtool(arguments: &[&str], input: &str) -> Result<String, GoToolError> {
    GoTool::promtool().await?.run_on(arguments, input).await
}
