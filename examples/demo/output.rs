//! What the reader sees: numbered steps, details below them, tables. Colours only where a terminal shows them.

use std::{fmt::Display, io::Write, time::Duration};

use owo_colors::OwoColorize;

/// How far details stand from the left, below the title of their step.
const INDENT: &str = "   ";
/// Between two columns of a table.
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

/// An empty line.
pub fn blank() {
    line("");
}

/// Rows below a title, in columns as wide as they have to be. A cell of several lines goes on below itself.
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

/// A time as people say it: milliseconds up to a second, then seconds.
pub fn time(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{} ms", (time.as_secs_f64() * 1000.0).round())
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

/// A reader that has seen enough, as in `demo | head`, does not stop the demo: it has to tidy up.
pub fn line(text: impl Display) {
    let mut stdout = anstream::stdout().lock();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}
