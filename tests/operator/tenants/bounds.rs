//! Small resources that a tenant can use up, each with a limit.

use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use servicekey_operator::api::{KeyProvider, Reason, ServiceKey};
use testkit::broker::{FakeBroker, Rule};

use super::{
    abuse::{Abuse, Actor},
    harness::{Tenants, broker_login, broker_spec},
    identity::{Scene, Side},
};
use crate::support::stage::{entries, wait};

pub const ABUSES: &[Abuse] = &[
    abuse!(
        many_providers_make_few_series,
        Actor::KeyWriter,
        "has sixty KeyProviders in one namespace",
        "eleven have series in the metrics, of which one counts all further ones; another namespace has its own",
    ),
    abuse!(
        many_logins_are_watched_by_one_watch,
        Actor::Editor,
        "has sixty logins in one namespace",
        "the operator opens one watch for all of them, and notices a change of the last one",
    ),
    abuse!(
        a_forged_sequence_bricks_no_key_of_a_broker,
        Actor::Editor,
        "annotates its Secret with the sequence 4294967295, and requests a rotation (Open Service Broker)",
        "the operator corrects the mark; the next key has the sequence 2, and both are revoked with the ServiceKey",
    ),
    abuse!(
        a_forged_sequence_bricks_no_key_of_a_cloud_foundry,
        Actor::Editor,
        "annotates its Secret with the sequence 4294967295, and requests a rotation (Cloud Foundry)",
        "the operator corrects the mark; the next key has the sequence 2, and both are revoked with the ServiceKey",
    ),
    abuse!(
        a_forged_sequence_bricks_no_key_of_ibm_cloud,
        Actor::Editor,
        "annotates its Secret with the sequence 4294967295, and requests a rotation (IBM Cloud)",
        "the operator corrects the mark; the next key has the sequence 2, and both are revoked with the ServiceKey",
    ),
    abuse!(
        a_sequence_that_the_remote_side_denies_is_put_right,
        Actor::Editor,
        "annotates its Secret with the sequence 7, which no key has (Cloud Foundry)",
        "the operator looks up such a key at the remote side, and corrects the mark; no key is created or revoked",
    ),
];

const MANY: usize = 60;
/// The series of one provider, with some reserve.
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
    broker.tolerate(Rule::Login);
    // These providers have no login, because this tenant can't create Secrets, so the broker refuses them.
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
    broker.tolerate(Rule::Login);
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
    attacker.patch::<Secret>(&format!("login-{last}"), right).await;
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

/// The spec of a provider with its own login Secret, and the Secret's name.
fn spec_with_login(broker: &FakeBroker, number: usize) -> (Value, String) {
    let login = format!("login-{number}");
    let mut spec = broker_spec(broker);
    spec["openServiceBroker"]["auth"]["basic"]["secretRef"]["name"] = json!(login);
    (spec, login)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_sequence_bricks_no_key_of_a_broker() {
    survives_the_largest_sequence(Side::broker().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_sequence_bricks_no_key_of_a_cloud_foundry() {
    survives_the_largest_sequence(Side::foundry().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_sequence_bricks_no_key_of_ibm_cloud() {
    survives_the_largest_sequence(Side::ibm().await).await;
}

async fn survives_the_largest_sequence(side: Side) {
    let scene = Scene::set(side, Actor::Editor).await;
    let attacker = &scene.tenants.attacker;
    let own = scene.attacker_has_a_key(json!({"rotation": {"overlap": "0s"}})).await;
    forge_and_wait_until_put_right(&scene, "4294967295").await;
    let told = attacker.wait_ready("creds").await.status.unwrap().key.unwrap();
    assert_eq!((told.sequence, told.id), (1, own.id.clone()));

    let rotate = json!({"metadata": {"annotations": {"servicekeys.dev/rotate": "now"}}});
    attacker.patch::<ServiceKey>("creds", rotate).await;
    let is_rotated = |key: Option<&ServiceKey>| {
        let status = key.and_then(|key| key.status.as_ref());
        status.is_some_and(|status| {
            status.key.as_ref().is_some_and(|key| key.sequence == 2) && status.previous_keys.is_empty()
        })
    };
    wait(attacker.keys(), "creds", "rotated", is_rotated).await;
    assert_eq!(scene.side.keys().len(), 2, "the victim's, and the second of the attacker");
    attacker.delete_key("creds").await;
    attacker.wait_gone("creds").await;
    assert_eq!(scene.side.keys(), [scene.theirs]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_that_the_remote_side_denies_is_put_right() {
    let scene = Scene::set(Side::foundry().await, Actor::Editor).await;
    scene.attacker_has_a_key(json!({})).await;
    let before = scene.side.keys();
    forge_and_wait_until_put_right(&scene, "7").await;
    let told = scene.tenants.attacker.wait_ready("creds").await.status.unwrap();
    assert_eq!((told.key.unwrap().sequence, told.previous_keys), (1, vec![]));
    assert_eq!(scene.side.keys(), before);
}

async fn forge_and_wait_until_put_right(scene: &Scene, sequence: &str) {
    let attacker = &scene.tenants.attacker;
    let held = entries(&attacker.secrets().get("creds").await.unwrap());
    let forged = json!({"metadata": {"annotations": {"servicekeys.dev/sequence": sequence}}});
    attacker.patch::<Secret>("creds", forged).await;
    let is_right = |secret: Option<&Secret>| {
        let annotations = secret.and_then(|secret| secret.metadata.annotations.as_ref());
        annotations.is_some_and(|annotations| annotations["servicekeys.dev/sequence"] == "1")
    };
    let secret = wait(attacker.secrets(), "creds", "put right", is_right).await.unwrap();
    assert!(entries(&secret) == held, "the credentials changed");
}
