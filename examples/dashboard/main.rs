//! Draws a picture of the Grafana dashboard: `cargo run --example dashboard`.
//!
//! A real Prometheus scrapes the operator while it works for about 80 seconds. The panels, their positions, queries and
//! colours come from `deploy/monitoring/grafana-dashboard.json`.

mod panels;
mod picture;
mod scenario;

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use clap::Parser;
use jiff::Timestamp;
use testkit::prometheus::Prometheus;

use self::{
    panels::Dashboard,
    picture::{Drawn, draw},
    scenario::Stage,
};

/// The scrape interval, and the distance between two points of the picture.
const STEP: Duration = Duration::from_secs(1);

/// Draw the dashboard from the metrics of an operator at work
#[derive(Debug, Parser)]
struct Arguments {
    /// Write the picture to this file
    #[arg(long, value_name = "FILE", default_value = "docs/dashboard.svg")]
    output: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { output } = Arguments::parse();
    let dashboard = Dashboard::read()?;
    say("starting a control plane, a broker, the operator and Prometheus");
    let stage = Stage::set().await?;
    let prometheus = Prometheus::scraping(stage.metrics_address(), STEP, "servicekeys-system").await?;
    let began = Timestamp::now();
    say("creating, refusing, rotating and revoking keys for 80 seconds");
    stage.play().await?;
    let span = (began, Timestamp::now());
    let mut drawn = Vec::new();
    for panel in dashboard.panels {
        let mut series = Vec::new();
        for target in &panel.targets {
            let found = prometheus.query_range(&target.query(), span, STEP).await?;
            series.extend(found.into_iter().map(|series| (target.legend(&series.labels), series.values)));
        }
        drawn.push(Drawn { panel, series });
    }
    draw(&output, span, &drawn).with_context(|| format!("can't draw `{}`", output.display()))?;
    say(&format!("wrote the picture to `{}`", output.display()));
    Ok(())
}

/// Prints the current step.
#[expect(clippy::print_stderr, reason = "it shows progress to a user at a terminal")]
fn say(step: &str) {
    eprintln!("{step}");
}
