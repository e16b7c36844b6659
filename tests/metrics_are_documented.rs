//! `docs/metrics.md` describes every metric with the words of the code.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{env, fs, path::Path};

use servicekey_operator::testing::{Exposed, Label, Metrics, Values};

const FILE: &str = "docs/metrics.md";
const UPDATE: &str = "UPDATE_DOCS=1 cargo test --test metrics_are_documented";

const INTRODUCTION: &str = "\
# Metrics

With `--http-addr` the operator serves metrics at `/metrics`. A client that accepts OpenMetrics, such as Prometheus,
gets that format; all others get the older text format. The number of series is bounded: no label contains the name of a
ServiceKey or of a Secret, and in each namespace only ten KeyProviders have series of their own.

`deploy/monitoring/` has alerts and a dashboard for these metrics. With several replicas, aggregate metrics that only the
leader updates by `max`, not by `sum`: a replica that stands by still exposes its old counts.

A histogram has the series `…_bucket`, `…_sum` and `…_count`.";

#[test]
fn every_metric_is_documented_as_the_code_declares_it() {
    let sections: Vec<_> = Metrics::default().families().iter().map(section).collect();
    let page = format!("{INTRODUCTION}\n\n{}", sections.join("\n"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    if env::var_os("UPDATE_DOCS").is_some() {
        return fs::write(path, page).unwrap();
    }
    let there = fs::read_to_string(path).unwrap_or_default();
    assert!(there == page, "`{FILE}` differs from `src/runtime/metrics/`; run `{UPDATE}`");
}

fn section(family: &Exposed) -> String {
    let Exposed { entry, kind } = family;
    let labels: String = entry.labels.iter().map(row).collect();
    let labels =
        if labels.is_empty() { labels } else { format!("| label | values |\n| --- | --- |\n{labels}\n") };
    let kind = kind.as_str();
    format!("## {}\n\n{}. A {kind}.\n\n{labels}{}.\n", entry.name, entry.help, entry.advice)
}

fn row(label: &Label) -> String {
    let values = match label.values {
        Values::OneOf(values) => {
            values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ")
        }
        Values::Few(words) => words.to_owned(),
    };
    format!("| `{}` | {values} |\n", label.name)
}
