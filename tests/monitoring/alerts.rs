//! The alerts: each is well-formed, fires only when it should, and is explained.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;
use testkit::prometheus::promtool;

use crate::{file, queries::assert_of_what_there_is};

const RULES: &str = "deploy/monitoring/prometheus-rule.yaml";
const TESTS: &str = "tests/monitoring/alerts.yaml";
const PAGE: &str = "docs/alerts.md";

/// The part of the custom resource that Prometheus reads.
fn rule_file() -> Value {
    let mut resource: Value = serde_saphyr::from_str(&file(RULES)).unwrap();
    assert_eq!(resource["kind"], "PrometheusRule");
    resource["spec"].take()
}

fn alerts(rules: &Value) -> impl Iterator<Item = &Value> {
    rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap())
}

fn name(alert: &Value) -> &str {
    alert["alert"].as_str().unwrap()
}

/// Writes a rule file, as YAML that is JSON.
fn write(rules: &Value, folder: &Path) -> String {
    let path = folder.join("rules.yaml");
    fs::write(&path, rules.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn promtool_finds_no_fault_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let rules = write(&rule_file(), folder.path());
    let said = promtool(&["check", "rules", "--lint=all", "--lint-fatal", &rules], "").await.unwrap();
    let count = alerts(&rule_file()).count();
    assert!(said.contains(&format!("SUCCESS: {count} rules found")), "{said}");
}

#[tokio::test]
async fn each_fires_when_it_should_and_only_then() {
    let mut rules = rule_file();
    // The other annotations never vary, so the tests leave them out.
    for group in rules["groups"].as_array_mut().unwrap() {
        for alert in group["rules"].as_array_mut().unwrap() {
            let annotations = alert["annotations"].as_object_mut().unwrap();
            annotations.retain(|name, _| name == "summary");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    write(&rules, folder.path());
    let tests = folder.path().join("tests.yaml");
    fs::write(&tests, file(TESTS)).unwrap();
    promtool(&["test", "rules", tests.to_str().unwrap()], "").await.unwrap();
}

#[test]
fn each_is_played_both_ways() {
    let tests: Value = serde_saphyr::from_str(&file(TESTS)).unwrap();
    let cases = || {
        tests["tests"].as_array().unwrap().iter().flat_map(|test| test["alert_rule_test"].as_array().unwrap())
    };
    for alert in alerts(&rule_file()) {
        let of_it = || cases().filter(|case| case["alertname"] == alert["alert"]);
        let fires = |case: &Value| !case["exp_alerts"].as_array().unwrap().is_empty();
        assert!(of_it().any(fires), "`{TESTS}` does not show that `{}` fires", name(alert));
        assert!(!of_it().all(fires), "`{TESTS}` does not show when `{}` does not fire", name(alert));
    }
}

#[test]
fn each_is_made_of_metrics_that_there_are() {
    for alert in alerts(&rule_file()) {
        assert_of_what_there_is(alert["expr"].as_str().unwrap());
    }
}

#[test]
fn each_tells_people_what_to_do() {
    let page = file(PAGE);
    let explained: BTreeSet<_> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let rules = rule_file();
    assert_eq!(explained, alerts(&rules).map(name).collect(), "`{PAGE}` does not explain each alert once");
    for alert in alerts(&rules) {
        let annotation = |name: &str| alert["annotations"][name].as_str().unwrap_or_default();
        assert!(!annotation("summary").is_empty(), "{alert}");
        assert!(annotation("description").len() > 40 && !annotation("description").contains("{{"), "{alert}");
        assert_eq!(annotation("runbook"), format!("{PAGE}#{}", name(alert).to_lowercase()));
        let severity = alert["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning", "info"].contains(&severity), "{alert}");
    }
}
