//! The output of the demo: numbered steps, details and tables. Colours appear only on a terminal.

use std::{fmt::Display, io::Write, time::Duration};

use owo_colors::OwoColorize;

/// The indentation of details below the title of their step.
const INDENT: &str = "   ";
/// The blanks between two columns of a table.
const GAP: usize = 2;

/// Numbers the steps.
#[derive(Debug, Default)]
pub struct Steps(usize);

impl Steps {
    /// Begins the next step.
    pub fn begin(&mut self, title: impl Display) {
        self.0 += 1;
        blank();
        line(format_args!("{} {}", format_args!("{}.", self.0).green().bold(), title.bold()));
    }
}

/// A title without a number.
pub fn title(title: impl Display) {
    blank();
    line(title.bold());
}

/// A line below a title.
pub fn detail(text: impl Display) {
    line(format_args!("{INDENT}{text}"));
}

/// A line that can be copied into a shell.
pub fn command(text: impl Display) {
    line(format_args!("{INDENT}{}", text.cyan()));
}

pub fn blank() {
    line("");
}

/// Prints a table with columns as wide as their widest cell. A cell may have several lines.
pub fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) {
    let width = |column: usize| {
        let cells = rows.iter().flat_map(|row| row[column].lines()).chain([header[column]]);
        cells.map(|line| line.chars().count()).max().unwrap_or_default() + GAP
    };
    let widths: [usize; N] = std::array::from_fn(width);
    detail(aligned(header, widths).dimmed());
    for row in rows {
        let height = row.iter().map(|cell| cell.lines().count()).max().unwrap_or_default();
        for number in 0..height {
            let cells = std::array::from_fn(|column| row[column].lines().nth(number).unwrap_or_default());
            detail(aligned(cells, widths));
        }
    }
}

fn aligned<const N: usize>(cells: [&str; N], widths: [usize; N]) -> String {
    let cells = cells.iter().zip(widths);
    let padded: String = cells.map(|(cell, width)| format!("{cell:width$}")).collect();
    padded.trim_end().to_owned()
}

/// Formats a time: in milliseconds below one second, else in seconds.
pub fn time(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{} ms", (time.as_secs_f64() * 1000.0).round())
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

/// Prints a line. A closed pipe, as in `demo | head`, does not stop the demo, because it still has to clean up.
pub fn line(text: impl Display) {
    let mut stdout = anstream::stdout().lock();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}
