//! The panels of the dashboard, as far as they can be drawn.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::Context;
use serde::Deserialize;

const FILE: &str = "deploy/monitoring/grafana-dashboard.json";

/// The dashboard.
#[derive(Debug, Deserialize)]
pub struct Dashboard {
    /// Its panels, and the headings between them.
    pub panels: Vec<Panel>,
}

/// One panel, or a heading.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Panel {
    /// `row` for a heading.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub grid_pos: Place,
    #[serde(default)]
    pub targets: Vec<Target>,
    #[serde(default)]
    pub field_config: FieldConfig,
}

/// Where it is: in 24 columns, and in rows of one height.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Place {
    pub x: u32,
    pub y: u32,
    pub w: u32,
    pub h: u32,
}

/// One query.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    expr: String,
    legend_format: String,
}

#[derive(Debug, Default, Deserialize)]
pub struct FieldConfig {
    pub defaults: Defaults,
}

#[derive(Debug, Default, Deserialize)]
pub struct Defaults {
    pub unit: String,
    #[serde(default)]
    pub custom: Custom,
}

#[derive(Debug, Default, Deserialize)]
pub struct Custom {
    #[serde(default)]
    pub stacking: Stacking,
}

#[derive(Debug, Default, Deserialize)]
pub struct Stacking {
    mode: String,
}

impl Dashboard {
    /// # Errors
    /// Where the file is not what Grafana takes.
    pub fn read() -> anyhow::Result<Self> {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE));
        let text = text.with_context(|| format!("can't read `{FILE}`"))?;
        serde_json::from_str(&text).with_context(|| format!("`{FILE}` is no dashboard"))
    }
}

impl Panel {
    /// Whether its series are added up.
    pub fn is_stacked(&self) -> bool {
        self.field_config.defaults.custom.stacking.mode == "normal"
    }
}

impl Target {
    /// The query, with what Grafana would fill in for all namespaces and for so short a time.
    pub fn query(&self) -> String {
        self.expr.replace("$__rate_interval", "5s").replace("$namespace", ".*")
    }

    /// What a series with these labels is called.
    pub fn legend(&self, labels: &BTreeMap<String, String>) -> String {
        let mut legend = self.legend_format.clone();
        for (name, value) in labels {
            legend = legend.replace(&format!("{{{{{name}}}}}"), value);
        }
        legend
    }
}
