//! The dashboard: its queries are read by promtool, and made of metrics that there are.

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};
use servicekey_operator::testing::Metrics;
use testkit::prometheus::promtool;

use crate::{
    file,
    queries::{assert_of_what_there_is, families_in},
};

const DASHBOARD: &str = "deploy/monitoring/grafana-dashboard.json";

/// The queries of all panels, with something in the place of what Grafana fills in.
fn queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&file(DASHBOARD)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let filled = |query: &str| query.replace("$__rate_interval", "5m").replace("$namespace", ".*");
    let queries: Vec<_> = targets.map(|target| filled(target["expr"].as_str().unwrap())).collect();
    assert!(
        queries.iter().all(|query| !query.contains('$')),
        "a variable that is not filled in: {queries:#?}"
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
