//! Checks that a query uses only metrics, labels and values that the operator exposes.

use std::{collections::BTreeSet, convert::Infallible};

use promql_parser::{
    label::{MatchOp, Matcher},
    parser::{Expr, LabelModifier, VectorSelector, parse},
    util::{ExprVisitor, walk_expr},
};
use servicekey_operator::testing::{MetricEntry, Metrics, Values};

/// The labels that Prometheus adds to every metric that it scrapes.
const OF_THE_TARGET: [&str; 2] = ["instance", "namespace"];
/// The label of the buckets of a histogram.
const BUCKET: &str = "le";

/// All selectors of a query, and all labels that it groups or matches by, each with the selectors that it applies to.
#[derive(Default)]
struct Reading {
    selectors: Vec<VectorSelector>,
    groupings: Vec<(Vec<String>, Vec<VectorSelector>)>,
}

impl ExprVisitor for Reading {
    type Error = Infallible;

    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Infallible> {
        match expr {
            Expr::VectorSelector(selector) => self.selectors.push(selector.clone()),
            Expr::MatrixSelector(range) => self.selectors.push(range.vs.clone()),
            Expr::Aggregate(aggregate) => self.group(aggregate.modifier.as_ref(), &aggregate.expr),
            Expr::Binary(binary) => {
                let matching = binary.modifier.as_ref().and_then(|modifier| modifier.matching.as_ref());
                self.group(matching, &binary.lhs);
                self.group(matching, &binary.rhs);
            }
            _ => {}
        }
        Ok(true)
    }
}

impl Reading {
    fn of(expr: &Expr) -> Self {
        let mut reading = Self::default();
        let Ok(_) = walk_expr(&mut reading, expr);
        reading
    }

    fn group(&mut self, by: Option<&LabelModifier>, expr: &Expr) {
        if let Some(by) = by {
            self.groupings.push((by.labels().labels.clone(), Self::of(expr).selectors));
        }
    }
}

fn read(query: &str) -> Reading {
    Reading::of(&parse(query).unwrap_or_else(|error| panic!("`{query}` can't be read: {error}")))
}

/// The family of a selector, and whether it selects the buckets of a histogram.
fn family(selector: &VectorSelector) -> (&'static MetricEntry, bool) {
    let name = selector.name.as_deref().expect("a selector without a name");
    let metrics = Metrics::default();
    let found = metrics.families().iter().find_map(|family| {
        let part = name.strip_prefix(family.entry.name)?;
        let parts: &[&str] =
            if family.kind.as_str() == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        parts.contains(&part).then_some((family.entry, part == "_bucket"))
    });
    found.unwrap_or_else(|| panic!("there is no metric `{name}`"))
}

/// The families in a query.
pub fn families_in(query: &str) -> BTreeSet<&'static str> {
    read(query).selectors.iter().map(|selector| family(selector).0.name).collect()
}

fn has_label(selector: &VectorSelector, label: &str) -> bool {
    let (entry, buckets) = family(selector);
    OF_THE_TARGET.contains(&label)
        || buckets && label == BUCKET
        || entry.labels.iter().any(|known| known.name == label)
}

/// Fails if a query uses a metric, a label, or a label value that does not exist.
pub fn assert_of_what_there_is(query: &str) {
    let Reading { selectors, groupings } = read(query);
    assert!(!selectors.is_empty(), "`{query}` selects nothing");
    for selector in &selectors {
        let (entry, _) = family(selector);
        assert!(
            selector.matchers.or_matchers.is_empty(),
            "`{query}` has alternatives, which this test does not read"
        );
        for Matcher { op, name, value } in &selector.matchers.matchers {
            assert!(has_label(selector, name), "`{}` has no label `{name}`: {query}", entry.name);
            let label = entry.labels.iter().find(|label| label.name == name);
            if let Some(Values::OneOf(values)) = label.map(|label| label.values) {
                let wanted: Vec<&str> = match op {
                    MatchOp::Equal | MatchOp::NotEqual => vec![value],
                    MatchOp::Re(_) | MatchOp::NotRe(_) => value.split('|').collect(),
                };
                let unknown: Vec<_> = wanted.iter().filter(|wanted| !values.contains(wanted)).collect();
                assert!(unknown.is_empty(), "`{name}` of `{}` is never {unknown:?}: {query}", entry.name);
            }
        }
    }
    for (labels, about) in groupings {
        for label in labels {
            let known = about.iter().any(|selector| has_label(selector, &label));
            assert!(known, "nothing has the label `{label}`: {query}");
        }
    }
}

#[test]
fn a_query_about_what_there_is_not_is_found_out() {
    for (query, fault) in [
        ("servicekeys_key", "there is no metric `servicekeys_key`"),
        ("servicekeys_reconcile_duration_seconds", "there is no metric"),
        ("servicekeys_keys{condition=\"ready\"}", "has no label `condition`"),
        ("servicekeys_keys{state=~\"ready|well\"}", "is never [\"well\"]"),
        ("sum by (route) (servicekeys_keys)", "nothing has the label `route`"),
        ("servicekeys_leader and on (provider) servicekeys_build_info", "nothing has the label `provider`"),
        ("sum by (le) (servicekeys_reconcile_duration_seconds_sum)", "nothing has the label `le`"),
        ("servicekeys_keys{", "can't be read"),
    ] {
        let fails = std::panic::catch_unwind(|| assert_of_what_there_is(query)).unwrap_err();
        let said = fails.downcast_ref::<String>().unwrap();
        assert!(said.contains(fault), "`{query}`: {said}");
    }
    assert_of_what_there_is("sum by (le, kind) (rate(servicekeys_reconcile_duration_seconds_bucket[5m]))");
}
