//! Build tools, which take long and must not look like a hang.

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

/// How often work that goes on is mentioned.
const REMINDER: Duration = Duration::from_secs(15);

/// Runs a tool that builds `binary` to its end, and says from time to time that it is still at work. What the tool
/// prints is in the output.
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
