//! The parts of the dashboard's JSON that the picture shows.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::Context;
use plotters::prelude::RGBColor;
use serde::Deserialize;

const FILE: &str = "deploy/monitoring/grafana-dashboard.json";

#[derive(Debug, Deserialize)]
pub struct Dashboard {
    /// The panels, and the headings between them.
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

/// The position and size of a panel: in 24 columns, and in rows of equal height.
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
    #[serde(default)]
    overrides: Vec<Override>,
}

/// Settings for the series of one name.
#[derive(Debug, Deserialize)]
struct Override {
    matcher: Matcher,
    properties: Vec<Property>,
}

#[derive(Debug, Deserialize)]
struct Matcher {
    id: String,
    options: String,
}

#[derive(Debug, Deserialize)]
struct Property {
    id: String,
    value: FixedColor,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FixedColor {
    /// `#` and six hexadecimal digits.
    fixed_color: String,
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
    /// If the file can't be read, or is not a dashboard of Grafana.
    pub fn read() -> anyhow::Result<Self> {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE));
        let text = text.with_context(|| format!("can't read `{FILE}`"))?;
        serde_json::from_str(&text).with_context(|| format!("`{FILE}` is not a dashboard"))
    }
}

impl Panel {
    pub fn is_stacked(&self) -> bool {
        self.field_config.defaults.custom.stacking.mode == "normal"
    }

    /// The colour that the dashboard fixes for a series. Grafana picks one for all other series.
    pub fn fixed_color(&self, series: &str) -> Option<RGBColor> {
        let found = self.field_config.overrides.iter().find(|rule| {
            let Matcher { id, options } = &rule.matcher;
            id == "byName" && options == series
        })?;
        let color = found.properties.iter().find(|property| property.id == "color")?;
        let hex = color.value.fixed_color.strip_prefix('#')?;
        let part = |from: usize| u8::from_str_radix(hex.get(from..from + 2)?, 16).ok();
        Some(RGBColor(part(0)?, part(2)?, part(4)?))
    }
}

impl Target {
    /// The query with Grafana's variables replaced: all namespaces, and a rate interval that suits the short time span.
    pub fn query(&self) -> String {
        self.expr.replace("$__rate_interval", "5s").replace("$namespace", ".*")
    }

    /// The legend of a series with these labels.
    pub fn legend(&self, labels: &BTreeMap<String, String>) -> String {
        let mut legend = self.legend_format.clone();
        for (name, value) in labels {
            legend = legend.replace(&format!("{{{{{name}}}}}"), value);
        }
        legend
    }
}
