//! A picture of the Grafana dashboard, made from what a real Prometheus scraped while the operator worked for some 80
//! seconds: `cargo run --example dashboard`.
//!
//! The panels, their places and their queries are those of `deploy/monitoring/grafana-dashboard.json`.

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

/// How often the operator is scraped, and how far apart the points of the picture are.
const STEP: Duration = Duration::from_secs(1);

/// Draw the dashboard as a Prometheus saw the operator at work
#[derive(Debug, Parser)]
struct Arguments {
    /// Where to write the picture
    #[arg(long, value_name = "FILE", default_value = "docs/dashboard.svg")]
    output: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { output } = Arguments::parse();
    let dashboard = Dashboard::read()?;
    say("start a control plane, a broker, the operator and Prometheus");
    let stage = Stage::set().await?;
    let prometheus = Prometheus::scraping(stage.metrics_address(), STEP, "servicekeys-system").await?;
    let began = Timestamp::now();
    say("make, refuse, replace and revoke keys for 80 seconds");
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
    say(&format!("the picture is in `{}`", output.display()));
    Ok(())
}

/// Says what is done.
#[expect(clippy::print_stderr, reason = "somebody at a terminal waits for it")]
fn say(step: &str) {
    eprintln!("{step}");
}
