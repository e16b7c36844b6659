//! The dashboard: promtool can read its queries, they use metrics that exist, and each state has its own colour.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use serde_json::{Value, json};
use servicekey_operator::testing::{Metrics, Values};
use testkit::prometheus::promtool;

use crate::{
    file,
    queries::{assert_of_what_there_is, families_in},
};

const DASHBOARD: &str = "deploy/monitoring/grafana-dashboard.json";

/// The queries of all panels, with values for Grafana's variables.
fn queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&file(DASHBOARD)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let filled = |query: &str| query.replace("$__rate_interval", "5m").replace("$namespace", ".*");
    let queries: Vec<_> = targets.map(|target| filled(target["expr"].as_str().unwrap())).collect();
    assert!(
        queries.iter().all(|query| !query.contains('$')),
        "a query with an unknown variable: {queries:#?}"
    );
    queries
}

#[tokio::test]
async fn promtool_can_read_its_queries() {
    let rules: Vec<_> = queries()
        .iter()
        .enumerate()
        .map(|(number, query)| json!({"record": format!("query:{number}"), "expr": query}))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queries.yaml");
    fs::write(&path, json!({"groups": [{"name": "queries", "rules": rules}]}).to_string()).unwrap();
    promtool(&["check", "rules", path.to_str().unwrap()], "").await.unwrap();
}

#[test]
fn its_queries_are_made_of_metrics_that_there_are() {
    queries().iter().for_each(|query| assert_of_what_there_is(query));
}

#[test]
fn it_shows_what_is_counted() {
    let shown: BTreeSet<_> = queries().iter().flat_map(|query| families_in(query)).collect();
    let metrics = Metrics::default();
    let missing =
        metrics.families().iter().map(|family| family.entry.name).filter(|name| !shown.contains(*name));
    assert_eq!(missing.collect::<Vec<_>>(), ["process_start_time_seconds"], "an alert has it");
}

/// The fixed colours of a panel's series, by the name of the series.
fn fixed_colors(panel: &Value) -> BTreeMap<&str, &str> {
    let mut colors = BTreeMap::new();
    for rule in panel["fieldConfig"]["overrides"].as_array().into_iter().flatten() {
        assert_eq!(rule["matcher"]["id"], "byName", "{rule}");
        let properties = rule["properties"].as_array().unwrap();
        assert_eq!(properties.len(), 1, "{rule}");
        assert_eq!(properties[0]["id"], "color", "{rule}");
        assert_eq!(properties[0]["value"]["mode"], "fixed", "{rule}");
        let color = properties[0]["value"]["fixedColor"].as_str().unwrap();
        let digits = color.strip_prefix('#').unwrap_or_default();
        assert!(digits.len() == 6 && digits.chars().all(|digit| digit.is_ascii_hexdigit()), "{rule}");
        colors.insert(rule["matcher"]["options"].as_str().unwrap(), color);
    }
    colors
}

fn legends(panel: &Value) -> impl Iterator<Item = &str> {
    let targets = panel["targets"].as_array().into_iter().flatten();
    targets.map(|target| target["legendFormat"].as_str().unwrap())
}

#[test]
fn each_state_has_its_own_color() {
    let metrics = Metrics::default();
    let keys = metrics.families().iter().find(|family| family.entry.name == "servicekeys_keys").unwrap();
    let state = keys.entry.labels.iter().find(|label| label.name == "state").unwrap();
    let Values::OneOf(states) = state.values else { panic!("a state that is not in a list") };
    let dashboard: Value = serde_json::from_str(&file(DASHBOARD)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let by_state: Vec<_> =
        panels.iter().filter(|panel| legends(panel).any(|legend| legend == "{{state}}")).collect();
    assert!(!by_state.is_empty(), "no panel shows the states");
    for panel in by_state {
        let colors = fixed_colors(panel);
        let named: BTreeSet<_> = colors.keys().copied().collect();
        assert_eq!(named, states.iter().copied().collect(), "{}", panel["title"]);
        let different: BTreeSet<_> = colors.values().collect();
        assert_eq!(different.len(), states.len(), "two states have one colour: {colors:?}");
    }
}

#[test]
fn each_color_belongs_to_a_series() {
    let dashboard: Value = serde_json::from_str(&file(DASHBOARD)).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        // A legend with a placeholder has as many names as its label has values.
        let computed = legends(panel).any(|legend| legend.starts_with("{{"));
        for name in fixed_colors(panel).keys() {
            assert!(computed || legends(panel).any(|legend| legend == *name), "{}: {name}", panel["title"]);
        }
    }
}

#[test]
fn each_panel_is_a_panel() {
    let dashboard: Value = serde_json::from_str(&file(DASHBOARD)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "two panels have one id");
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert!(
            !panel["title"].as_str().unwrap().is_empty()
                && !panel["description"].as_str().unwrap().is_empty()
        );
        let place = |side: &str| panel["gridPos"][side].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{}", panel["title"]);
    }
}
