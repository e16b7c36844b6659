//! Runs build tools. They take long and must not look like a hang.

use std::{
    io,
    pin::pin,
    process::{Output, Stdio},
    time::Duration,
};

use tokio::{
    process::Command,
    time::{Instant, interval_at},
};

use crate::{Progress, Step};

/// The interval of reports during a long step.
const REMINDER: Duration = Duration::from_secs(15);

/// Runs a tool that builds `binary`, and reports from time to time that it still runs. Returns the tool's output.
pub(crate) async fn run(
    tool: &mut Command,
    binary: &'static str,
    progress: &dyn Progress,
) -> io::Result<Output> {
    let began = Instant::now();
    let tool =
        tool.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut ended = pin!(tool.wait_with_output());
    let mut reminder = interval_at(began + REMINDER, REMINDER);
    loop {
        tokio::select! {
            output = &mut ended => return output,
            _ = reminder.tick() => progress.step(&Step::StillBuilding { binary, elapsed: began.elapsed() }),
        }
    }
}
