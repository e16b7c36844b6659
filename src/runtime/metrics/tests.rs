use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::*;
use crate::backend::{BackendKind, CallOutcome, ObservedCall};

const BACKEND: BackendKind = BackendKind::OpenServiceBroker;

/// Metrics in which every family has at least one series.
fn exercised() -> (Metrics, crate::runtime::Watch) {
    let metrics = Metrics::default();
    let watch = metrics.watches().begin("/apis/servicekeys.dev/v1alpha1/servicekeys");
    metrics.count_reconcile("ServiceKey", ReconcileOutcome::Settled, Duration::from_millis(3));
    let _queue = metrics.provider_queue(Some("training"), "broker");
    metrics.count_key_operation(BACKEND, KeyOperation::Bind, KeyOutcome::Done);
    metrics.count_rotation(BACKEND, true);
    metrics.count_restarts(BACKEND, 2, 1);
    metrics.count_verification(BACKEND, true);
    metrics.count_mitigated_orphan(BACKEND);
    metrics.count_left_behind(BACKEND, 3);
    metrics.set_orphans(None, "cf-eu10", 2);
    metrics.count_revoked_orphan(BACKEND);
    metrics.set_provider_ready(None, "cf-eu10", true);
    metrics.set_state_source(|| {
        vec![ProviderState { backend: BACKEND, next_expiry: Some(7.0), ..ProviderState::default() }]
    });
    let remote = metrics.observer(BACKEND);
    remote.paused();
    remote.called(&ObservedCall {
        route: "/v2/catalog",
        method: &reqwest::Method::GET,
        outcome: CallOutcome::Answered(200),
        took: Duration::ZERO,
    });
    metrics.count_api_request(ApiRequest { verb: "get", resource: "secrets" }, Some(200), Duration::ZERO);
    (metrics, watch)
}

/// The label names of each family in the exposed text.
fn labels_of_families(text: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut families = BTreeMap::<_, BTreeSet<_>>::new();
    let mut family = "";
    for line in text.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            family = declared.split(' ').next().unwrap();
            families.insert(family, BTreeSet::new());
        } else if !line.starts_with('#') {
            let labels = line.split_once('{').map_or("", |(_, rest)| rest.split_once("} ").unwrap().0);
            let names = labels.split("\",").filter_map(|label| Some(label.split_once("=\"")?.0));
            families.get_mut(family).unwrap().extend(names.filter(|name| *name != "le"));
        }
    }
    families
}

#[test]
fn what_is_written_about_families_is_what_they_are() {
    let (metrics, _watch) = exercised();
    let text = metrics.plain_text();
    let exposed = labels_of_families(&text);
    let declared: BTreeMap<_, BTreeSet<_>> = metrics
        .families()
        .iter()
        .map(|family| (family.entry.name, family.entry.labels.iter().map(|label| label.name).collect()))
        .collect();
    assert_eq!(declared, exposed);
    assert_eq!(metrics.families().len(), declared.len(), "two families have one name");
}

#[test]
fn every_family_says_what_it_is_for() {
    for Exposed { entry, .. } in Metrics::default().families() {
        assert!(entry.help.len() > 20 && !entry.help.ends_with('.'), "{}", entry.name);
        assert!(entry.advice.len() > 20 || entry.advice == "Nothing", "{}", entry.name);
        assert!(!entry.advice.ends_with('.'), "{}", entry.name);
    }
}

#[test]
fn clones_count_together() {
    let metrics = Metrics::default();
    metrics.clone().count_mitigated_orphan(BACKEND);
    metrics.count_mitigated_orphan(BACKEND);
    let text = metrics.text();
    assert!(
        text.contains("servicekeys_orphan_mitigations_total{backend=\"OpenServiceBroker\"} 2\n"),
        "{text}"
    );
    assert!(text.ends_with("# EOF\n"), "{text}");
}

/// Metrics as the operator counts them for this number of providers in one namespace.
fn counting(providers: usize) -> Metrics {
    let metrics = Metrics::default();
    for name in (0..providers).map(|number| format!("p{number}")) {
        let _queue = metrics.provider_queue(Some("training"), &name);
        metrics.set_provider_ready(Some("training"), &name, true);
        metrics.set_orphans(Some("training"), &name, 1);
    }
    metrics.set_state_source(move || {
        let stock = |number| ProviderState {
            namespace: Some("training".to_owned()),
            name: format!("p{number}"),
            backend: BACKEND,
            keys: [1; KeyState::ALL.len()],
            next_expiry: Some(7.0),
            ..ProviderState::default()
        };
        (0..providers).map(stock).collect()
    });
    metrics
}

fn series(metrics: &Metrics) -> usize {
    metrics.text().lines().filter(|line| line.contains("provider_namespace=\"training\"")).count()
}

#[test]
fn many_providers_of_one_namespace_have_as_many_series_as_a_few() {
    let few = series(&counting(labels::MAX_NAMED_PROVIDERS));
    let each = few / labels::MAX_NAMED_PROVIDERS;
    let metrics = counting(300);
    assert_eq!(series(&metrics), few + each);
    let text = metrics.text();
    let further = "provider_namespace=\"training\",provider=\"\"";
    assert!(text.contains(&format!("servicekeys_orphans{{{further}}} 290\n")), "{text}");
    assert!(text.contains(&format!("servicekeys_provider_ready{{{further}}} 1\n")), "{text}");
    assert!(
        text.contains(&format!("{{backend=\"{}\",{further},state=\"ready\"}} 290", BACKEND.as_str())),
        "{text}"
    );

    metrics.set_provider_ready(Some("training"), "p200", false);
    assert!(metrics.text().contains(&format!("servicekeys_provider_ready{{{further}}} 0\n")));
    metrics.set_provider_ready(Some("elsewhere"), "broker", true);
    let of_others = "provider_namespace=\"elsewhere\",provider=\"broker\"";
    assert!(
        metrics.text().contains(of_others),
        "the providers of one namespace took the series of another one"
    );
    for number in 0..300 {
        metrics.forget_provider(Some("training"), &format!("p{number}"));
    }
    metrics.set_state_source(Vec::new);
    assert_eq!(series(&metrics), 0, "{}", metrics.text());
}

#[test]
fn a_provider_that_is_gone_leaves_no_series() {
    let metrics = Metrics::default();
    let names = |metrics: &Metrics| metrics.text().matches("provider=\"broker\"").count();
    metrics.set_orphans(Some("training"), "broker", 1);
    metrics.set_provider_ready(Some("training"), "broker", true);
    let _queue = metrics.provider_queue(Some("training"), "broker");
    assert!(names(&metrics) > 3, "{}", metrics.text());
    metrics.forget_provider(Some("training"), "broker");
    assert_eq!(names(&metrics), 0, "{}", metrics.text());
}

fn orphans_of_training(metrics: &Metrics) -> u64 {
    let text = metrics.text();
    let counts = text.lines().filter_map(|line| {
        line.strip_prefix("servicekeys_orphans{provider_namespace=\"training\"")?.rsplit(' ').next()
    });
    counts.map(|count| count.parse::<u64>().unwrap()).sum()
}

#[test]
fn a_further_provider_is_counted_once_whatever_becomes_of_the_others() {
    let metrics = counting(labels::MAX_NAMED_PROVIDERS + 1);
    assert_eq!(orphans_of_training(&metrics), 11);
    metrics.forget_provider(Some("training"), "p1");
    let _ = metrics.text();
    metrics.set_provider_ready(Some("training"), "p10", false);
    metrics.set_orphans(Some("training"), "p10", 1);
    assert_eq!(orphans_of_training(&metrics), 10, "{}", metrics.text());
    metrics.forget_provider(Some("training"), "p10");
    assert_eq!(orphans_of_training(&metrics), 9);
    let text = metrics.text();
    assert!(
        !text.contains("servicekeys_provider_ready{provider_namespace=\"training\",provider=\"\"}"),
        "{text}"
    );
}

#[test]
fn who_asks_what_there_is_brings_no_provider_back() {
    let metrics = Metrics::default();
    let gone = |number: usize| format!("gone-{number}");
    // The providers are deleted while the source reads the caches.
    let forgetting = metrics.clone();
    metrics.set_state_source(move || {
        let stock = |number| {
            let _queue = forgetting.provider_queue(Some("training"), &gone(number));
            forgetting.forget_provider(Some("training"), &gone(number));
            let (namespace, name) = (Some("training".to_owned()), gone(number));
            ProviderState { namespace, name, backend: BACKEND, ..ProviderState::default() }
        };
        (0..labels::MAX_NAMED_PROVIDERS).map(stock).collect()
    });
    assert_eq!(series(&metrics), 0, "{}", metrics.text());
    metrics.set_provider_ready(Some("training"), "broker", true);
    assert!(
        metrics.text().contains("provider_namespace=\"training\",provider=\"broker\""),
        "the provider has no series of its own"
    );
}
