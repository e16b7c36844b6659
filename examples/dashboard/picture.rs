//! Draws panels into one SVG.

use std::path::Path;

use anyhow::anyhow;
use jiff::Timestamp;
use plotters::{
    coord::Shift,
    prelude::{
        AreaSeries, ChartBuilder, Color, DrawingArea, IntoDrawingArea, IntoFont, LineSeries, Palette,
        Palette99, RGBColor, Rectangle, SVGBackend, Text, WHITE,
    },
};

use crate::panels::{Panel, Place};

/// In pixels: one of the 24 columns, and one row.
const COLUMN: u32 = 60;
const ROW: u32 = 26;
/// In pixels: the part of a panel below its chart.
const LEGEND: i32 = 34;
/// In seconds. The line between two points with a larger distance is left out.
const GAP: f64 = 1.5;
const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(36, 41, 47);
const GRID: RGBColor = RGBColor(225, 228, 232);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A panel and the results of its queries: legends, and values at points in time.
pub struct Drawn {
    pub panel: Panel,
    pub series: Vec<(String, Vec<(f64, String)>)>,
}

/// The points of a series: seconds since the start, and finite values.
type Line = Vec<(f64, f64)>;

/// # Errors
/// If the file can't be written.
pub fn draw(path: &Path, (began, ended): (Timestamp, Timestamp), panels: &[Drawn]) -> anyhow::Result<()> {
    let height = panels.iter().map(|drawn| drawn.panel.grid_pos.y + drawn.panel.grid_pos.h).max();
    let root = SVGBackend::new(path, (24 * COLUMN, height.unwrap_or(1) * ROW)).into_drawing_area();
    let span = ended.duration_since(began).as_secs_f64();
    let begin = began.duration_since(Timestamp::UNIX_EPOCH).as_secs_f64();
    let draw_all = || -> Result<(), Box<dyn std::error::Error>> {
        root.fill(&WHITE)?;
        for drawn in panels {
            let Place { x, y, w, h } = drawn.panel.grid_pos;
            let area = root.clone().shrink((x * COLUMN, y * ROW), (w * COLUMN, h * ROW));
            if drawn.panel.kind == "row" {
                let heading = (FONT, 17).into_font().color(&INK);
                area.draw(&Text::new(drawn.panel.title.clone(), (8, 7), heading))?;
            } else {
                draw_panel(&area, drawn, begin, span)?;
            }
        }
        root.present()?;
        Ok(())
    };
    draw_all().map_err(|error| anyhow!("{error}"))
}

fn draw_panel(
    area: &Area<'_>,
    Drawn { panel, series }: &Drawn,
    begin: f64,
    span: f64,
) -> Result<(), Box<dyn std::error::Error>> {
    let (width, height) = area.dim_in_pixel();
    let (width, height) = (i32::try_from(width)?, i32::try_from(height)?);
    area.draw(&Rectangle::new([(3, 3), (width - 3, height - 3)], GRID.stroke_width(1)))?;
    let (upper, lower) = area.split_vertically(height - LEGEND);
    let lines = lines(series, begin);
    let shown = if panel.is_stacked() { stacked(&lines) } else { lines };
    let highest = shown.iter().flatten().map(|(_, value)| *value).fold(0.0, f64::max);
    let top = if highest > 0.0 { highest * 1.1 } else { 1.0 };
    let unit = panel.field_config.defaults.unit.as_str();
    let mut chart = ChartBuilder::on(&upper)
        .caption(&panel.title, (FONT, 14).into_font().color(&INK))
        .margin(8)
        .margin_right(14)
        .x_label_area_size(18)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..span, 0.0..top)?;
    chart
        .configure_mesh()
        .x_labels(6)
        .y_labels(4)
        .x_label_formatter(&|seconds| format!("{seconds:.0} s"))
        .y_label_formatter(&|value| number(*value, unit))
        .label_style((FONT, 10).into_font().color(&INK))
        .axis_style(GRID)
        .bold_line_style(GRID)
        .light_line_style(WHITE)
        .draw()?;
    let colors = colors(panel, series);
    // The highest area of a stack comes first, so that the lower ones cover their part of it.
    for (line, color) in shown.iter().zip(&colors).rev() {
        if panel.is_stacked() {
            let area = AreaSeries::new(line.clone(), 0.0, color.mix(0.9)).border_style(WHITE.stroke_width(1));
            chart.draw_series(area)?;
        } else {
            // A gap in the values is a gap in the line.
            for part in line.chunk_by(|before, after| after.0 - before.0 < GAP) {
                chart.draw_series(LineSeries::new(part.to_vec(), color.stroke_width(2)))?;
            }
        }
    }
    draw_legend(&lower, series.iter().map(|(name, _)| name.as_str()).zip(colors), width)
}

/// The colour of each series: the one that the dashboard fixes, or the next one of a palette.
fn colors(panel: &Panel, series: &[(String, Vec<(f64, String)>)]) -> Vec<RGBColor> {
    let of_palette = |index| {
        let (red, green, blue) = Palette99::pick(index).rgb();
        RGBColor(red, green, blue)
    };
    let names = series.iter().map(|(name, _)| name).enumerate();
    names.map(|(index, name)| panel.fixed_color(name).unwrap_or_else(|| of_palette(index))).collect()
}

fn draw_legend<'a>(
    area: &Area<'_>,
    entries: impl Iterator<Item = (&'a str, RGBColor)>,
    width: i32,
) -> Result<(), Box<dyn std::error::Error>> {
    let (mut x, mut y) = (12, 4);
    for (name, color) in entries {
        // About the width of this font.
        let needed = 16 + 6 * i32::try_from(name.chars().count())?;
        if x + needed > width && x > 12 {
            (x, y) = (12, y + 14);
        }
        if y + 14 > LEGEND {
            area.draw(&Text::new("…", (width - 18, y - 14), (FONT, 11).into_font().color(&INK)))?;
            return Ok(());
        }
        area.draw(&Rectangle::new([(x, y + 3), (x + 9, y + 8)], color.filled()))?;
        area.draw(&Text::new(name.to_owned(), (x + 12, y), (FONT, 11).into_font().color(&INK)))?;
        x += needed;
    }
    Ok(())
}

fn lines(series: &[(String, Vec<(f64, String)>)], begin: f64) -> Vec<Line> {
    let finite = |(time, value): &(f64, String)| {
        let value: f64 = value.parse().ok()?;
        value.is_finite().then_some((time - begin, value.max(0.0)))
    };
    series.iter().map(|(_, values)| values.iter().filter_map(finite).collect()).collect()
}

/// Adds each line to the sum of the lines before it, at every point in time at which a line has a value.
fn stacked(lines: &[Line]) -> Vec<Line> {
    let mut times: Vec<f64> = lines.iter().flatten().map(|(time, _)| *time).collect();
    times.sort_by(f64::total_cmp);
    times.dedup();
    let mut below = vec![0.0; times.len()];
    let mut stack = |line: &Line| -> Line {
        let add = |(time, below): (&f64, &mut f64)| {
            let value = line.iter().find(|(at, _)| at == time).map_or(0.0, |(_, value)| *value);
            *below += value;
            (*time, *below)
        };
        times.iter().zip(&mut below).map(add).collect()
    };
    lines.iter().map(&mut stack).collect()
}

fn number(value: f64, unit: &str) -> String {
    match unit {
        "s" if value > 0.0 && value < 1.0 => format!("{:.0} ms", value * 1000.0),
        "s" => format!("{value:.1} s"),
        "bytes" => format!("{:.0} MiB", value / f64::from(1 << 20)),
        "percentunit" => format!("{:.2} %", value * 100.0),
        "ops" | "reqps" => format!("{value:.1}/s"),
        _ => format!("{value:.1}"),
    }
}
