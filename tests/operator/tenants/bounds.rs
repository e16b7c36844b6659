//! Small things that a tenant can fill, each with a bound.

use serde_json::{Value, json};
use servicekey_operator::api::{KeyProvider, Reason};
use testkit::broker::FakeBroker;

use super::{
    abuse::{Abuse, Actor},
    harness::{Tenants, broker_login, broker_spec},
};

pub const ABUSES: &[Abuse] = &[
    abuse!(
        many_providers_make_few_series,
        Actor::KeyWriter,
        "has sixty KeyProviders in one namespace",
        "eleven have series in the metrics, of which one is about all further ones; another namespace has its own",
    ),
    abuse!(
        many_logins_are_watched_by_one_watch,
        Actor::Editor,
        "has sixty logins in one namespace",
        "the operator opens one watch for all of them, and takes a change of the last one in",
    ),
];

/// As many as a test has time for.
const MANY: usize = 60;
/// Series of one provider, and a few more.
const SERIES: usize = 30;

fn series_of(text: &str, namespace: &str) -> usize {
    let label = format!("provider_namespace=\"{namespace}\"");
    text.lines().filter(|line| line.contains(&label)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_providers_make_few_series() {
    let mut tenants = Tenants::meet_alone(Actor::KeyWriter).await;
    tenants.start_operator(|_| {});
    let broker = FakeBroker::builder().start().await.unwrap();
    // Without a login, which this tenant can't create; the broker lets nobody in.
    let spec = json!({"openServiceBroker": {"url": broker.url()}});
    for number in 0..MANY {
        tenants.attacker.add_provider(&format!("broker-{number}"), spec.clone(), None).await;
    }
    let (spec, login) = (broker_spec(&broker), ("broker-login", broker_login()));
    tenants.victim.add_provider("broker", spec, Some(login)).await;
    for number in 0..MANY {
        tenants.attacker.wait_provider(&format!("broker-{number}"), false, Reason::Unauthorized).await;
    }
    tenants.victim.wait_provider("broker", true, Reason::Available).await;
    let text = tenants.operator.as_ref().unwrap().metrics.text();
    let (of_attacker, of_victim) =
        (series_of(&text, &tenants.attacker.namespace), series_of(&text, &tenants.victim.namespace));
    assert!(of_attacker <= 11 * SERIES, "{of_attacker} series:\n{text}");
    let own = format!("provider_namespace=\"{}\",provider=\"broker\"", tenants.victim.namespace);
    assert!(of_victim > 10 && text.contains(&own), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_logins_are_watched_by_one_watch() {
    let mut tenants = Tenants::meet_alone(Actor::Editor).await;
    tenants.start_operator(|_| {});
    let broker = FakeBroker::builder().start().await.unwrap();
    let attacker = &tenants.attacker;
    for number in 0..MANY {
        let (spec, login) = spec_with_login(&broker, number);
        let wrong = json!({"username": "operator", "password": "wrong"});
        attacker.add_provider(&format!("broker-{number}"), spec, Some((&login, wrong))).await;
    }
    for number in 0..MANY {
        attacker.wait_provider(&format!("broker-{number}"), false, Reason::Unauthorized).await;
    }
    let last = MANY - 1;
    let right = json!({"stringData": broker_login()});
    attacker.patch::<k8s_openapi::api::core::v1::Secret>(&format!("login-{last}"), right).await;
    let provider: KeyProvider =
        attacker.wait_provider(&format!("broker-{last}"), true, Reason::Available).await;
    assert_eq!(provider.metadata.generation, Some(1));

    let user = &tenants.operator.as_ref().unwrap().user;
    let watches = tenants.plane().audit().requests(user).unwrap();
    let watches = watches.only(|request| {
        request.is_watch() && request.resource == "secrets" && request.namespace == attacker.namespace
    });
    assert_eq!(watches.len(), 1, "{watches}");
}

/// The spec of a provider whose login is a Secret of its own.
fn spec_with_login(broker: &FakeBroker, number: usize) -> (Value, String) {
    let login = format!("login-{number}");
    let mut spec = broker_spec(broker);
    spec["openServiceBroker"]["auth"]["basic"]["secretRef"]["name"] = json!(login);
    (spec, login)
}
