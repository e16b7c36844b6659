//! promtool, which finds fault with metrics, rules and their tests.

use crate::go_tool::{GoTool, GoToolError};

/// Runs promtool, built if it is not yet, with this on its standard input, and gives what it printed.
///
/// # Errors
/// [`GoToolError`] says what is missing, how the build ended, or what promtool finds fault with.
pub async fn promtool(arguments: &[&str], input: &str) -> Result<String, GoToolError> {
    GoTool::promtool().await?.run_on(arguments, input).await
}
