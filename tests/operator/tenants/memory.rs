//! A tenant can fill its own share of the memory, and no more.

use std::time::Duration;

use serde_json::{Value, json};
use servicekey_operator::api::{Reason, ServiceKey};
use testkit::{
    broker::{CredentialsRecipe, FakeBroker, Route},
    cloud_foundry::{self, FakeCloudFoundry},
    gateway::Gateway,
    ibm_cloud::{self, FakeIbmCloud},
};
use tokio::process::Command;

use super::{
    abuse::{Abuse, Actor},
    harness::{
        Tenant, Tenants, broker_login, broker_spec, foundry_spec, ibm_spec, instance_by_name,
        instance_of_broker, key_manifest,
    },
    hostile::{self, Hostile, Hostility, MIB},
};
use crate::support::{
    conditions::Reports,
    foundry, ibm,
    policy::Policy,
    process::{PROGRAM, Process},
    stage::PATIENCE,
};

pub const ABUSES: &[Abuse] = &[
    abuse!(
        ten_hostile_remote_sides_stop_nobody,
        Actor::RemoteSide,
        "ten at once: catalogs of 15 MiB, endless lists, credentials that unfold to 70 MiB, tokens of 1 MiB, answers \
         that never end; 40 keys request the credentials",
        "the operator stays below its limit of 256 MiB, and the keys of another tenant are ready in time",
    ),
    abuse!(
        a_list_of_a_cloud_foundry_without_an_end_is_refused,
        Actor::RemoteSide,
        "answers each list of a Cloud Foundry with another page of 4 MiB",
        "the list fails after 128 MiB, of which one page is in memory at a time; the condition reports it",
    ),
    abuse!(
        keys_that_look_like_the_one_that_is_waited_for_take_no_memory,
        Actor::RemoteSide,
        "answers each list of keys with 15 MiB of keys with the mark of the expected key, some with annotation names \
         of 1 MiB; 16 providers in four namespaces at once",
        "the operator keeps one key of each list, and stays below its limit of 256 MiB, and another tenant's key is \
         ready in time",
    ),
    abuse!(
        lists_that_trickle_keep_nobody_waiting,
        Actor::RemoteSide,
        "lets lists of keys grow until six namespaces use all of the memory for answers, and then sends a byte each \
         second for 10 minutes",
        "the largest list is dropped after a second; another tenant's keys are ready in time",
    ),
    abuse!(
        a_list_that_leads_in_a_circle_is_refused,
        Actor::RemoteSide,
        "links the pages of a list in a circle",
        "the list fails at the first repeated page; the condition reports it",
    ),
    abuse!(
        a_list_of_ibm_cloud_without_an_end_is_refused,
        Actor::RemoteSide,
        "answers each list of IBM Cloud with another page of 4 MiB",
        "the list fails after 128 MiB, of which one page is in memory at a time; the condition reports it",
    ),
    abuse!(
        a_catalog_of_names_is_refused,
        Actor::RemoteSide,
        "has a catalog with 15 MiB of names",
        "the provider reports that it contains more than 2 MiB of them",
    ),
    abuse!(
        a_token_of_a_mebibyte_is_refused,
        Actor::RemoteSide,
        "answers with tokens of 1 MiB",
        "the provider reports that the answer is larger than 64 KiB",
    ),
    abuse!(
        credentials_that_unfold_are_given_back_once,
        Actor::RemoteSide,
        "answers a bind with 1 MiB of empty lists",
        "they are not unfolded; the key is revoked once, and no other key is created",
    ),
    abuse!(
        credentials_of_a_cloud_foundry_that_fit_no_secret_are_given_back_once,
        Actor::Editor,
        "has a Cloud Foundry key whose credentials fit no Secret",
        "the key is revoked once, its credentials are dropped, and no other key is created",
    ),
    abuse!(
        credentials_of_ibm_cloud_that_fit_no_secret_are_given_back_once,
        Actor::Editor,
        "has an IBM Cloud key whose credentials fit no Secret",
        "the key is revoked once, its credentials are dropped, and no other key is created",
    ),
    abuse!(
        credentials_that_wait_for_a_policy_take_no_more_than_a_share,
        Actor::Editor,
        "has a policy that refuses 16 Secrets of almost 1 MiB and admits shorter ones",
        "the operator keeps 8 MiB of credentials, and requests the others again once the policy admits them",
    ),
];

/// The spec of a KeyProvider for a hostile remote side, and its login.
fn hostile_spec(hostility: Hostility, url: &str) -> (Value, (&'static str, Value)) {
    let timeout = if hostility == Hostility::Trickle { "10m" } else { "20s" };
    let limits = json!({"timeout": timeout, "requestsPerSecond": 1000});
    match hostility {
        Hostility::EndlessFoundry | Hostility::Circle | Hostility::Lookalikes | Hostility::Trickle => (
            json!({
                "cloudFoundry": {
                    "apiUrl": url, "auth": foundry::by_password(), "organization": "acme", "space": "dev",
                },
                "limits": limits,
            }),
            ("cf-login", foundry::password()),
        ),
        Hostility::EndlessIbm | Hostility::LongToken => (
            json!({
                "ibmCloud": {"auth": ibm::by_api_key(), "iamUrl": url, "resourceControllerUrl": url},
                "limits": limits,
            }),
            ("ibm-login", json!({"apikey": ibm::API_KEY})),
        ),
        Hostility::LongCatalog
        | Hostility::CatalogOfNames
        | Hostility::CredentialsOfLists
        | Hostility::Slow => (
            json!({
                "openServiceBroker": {"url": url, "auth": {"basic": {"secretRef": {"name": "broker-login"}}}},
                "limits": limits,
            }),
            ("broker-login", broker_login()),
        ),
    }
}

async fn add_hostile(tenant: &Tenant, hostility: Hostility) -> Hostile {
    add_hostile_called(tenant, "hostile", hostility, true).await
}

async fn add_hostile_called(tenant: &Tenant, name: &str, hostility: Hostility, with_login: bool) -> Hostile {
    let hostile = hostile::start(hostility).await;
    let (spec, login) = hostile_spec(hostility, &hostile.url);
    tenant.add_provider(name, spec, Some(login).filter(|_| with_login)).await;
    hostile
}

/// Starts the operator as a process with the chart's memory limit, and creates a provider for an honest broker that is
/// ready.
async fn limited_operator(tenants: &Tenants) -> (Process, FakeBroker, String) {
    let gateway = Gateway::start(tenants.plane().client_as(tenants.operator_user())).await.unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["run", "--allow-cidr", "127.0.0.0/8", "--check-interval", "1s"]);
    command.args(["--cluster-resource-namespace", &tenants.system]);
    let operator = Process::run(gateway, command);
    operator.limit_memory(shipped_limit() * MIB);
    let broker = FakeBroker::builder().start().await.unwrap();
    let provider = tenants.add_cluster_broker(&broker).await;
    (operator, broker, provider)
}

/// Prints the operator's peak memory, fails unless it is below the limit, and ends the operator.
async fn ends_within_its_limit(operator: Process) {
    let peak = operator.peak_memory() / MIB;
    println!("the operator used at most {peak} MiB");
    assert!(peak < shipped_limit(), "the operator used {peak} MiB");
    operator.kill().await;
}

/// Waits until each of these has sent at least this many hostile answers.
async fn until_answered(hostile: &[Hostile], least: usize) {
    let answered = async {
        while hostile.iter().any(|side| side.answered() < least) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let answers = || hostile.iter().map(Hostile::answered).collect::<Vec<_>>();
    tokio::time::timeout(2 * PATIENCE, answered).await.unwrap_or_else(|_| panic!("{:?}", answers()));
}

fn own_key(name: &str, provider: &str, instance: Value) -> Value {
    key_manifest(name, json!({"kind": "KeyProvider", "name": provider}), instance, json!({}))
}

fn hostile_instance() -> Value {
    json!({"id": "db", "offering": "postgresql", "plan": "small"})
}

/// The chart's memory limit in MiB.
fn shipped_limit() -> usize {
    let values = include_str!("../../../deploy/helm/servicekey-operator/values.yaml");
    let limit = values.split("limits: {memory: ").nth(1).and_then(|rest| rest.split("Mi}").next());
    limit.expect("the chart names a limit").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_hostile_remote_sides_stop_nobody() {
    let tenants = Tenants::meet_alone(Actor::Editor).await;
    let (operator, _broker, provider) = limited_operator(&tenants).await;
    println!("the operator used {} MiB when it was ready", operator.memory() / MIB);

    let hostilities = [
        Hostility::LongCatalog,
        Hostility::LongCatalog,
        Hostility::CatalogOfNames,
        Hostility::EndlessFoundry,
        Hostility::EndlessFoundry,
        Hostility::EndlessIbm,
        Hostility::EndlessIbm,
        Hostility::CredentialsOfLists,
        Hostility::LongToken,
        Hostility::Slow,
    ];
    for hostility in hostilities {
        let tenant = tenants.another(Actor::Editor).await;
        add_hostile(&tenant, hostility).await;
        if hostility == Hostility::CredentialsOfLists {
            for number in 0..40 {
                let name = format!("key-{number}");
                tenant.create::<ServiceKey>(own_key(&name, "hostile", hostile_instance())).await;
            }
        }
    }
    for number in 0..20 {
        let name = format!("honest-{number}");
        tenants.victim.ask_cluster_provider(&provider, &name, instance_of_broker(), json!({})).await;
        tenants.victim.wait_ready(&name).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    for number in 0..20 {
        tenants.victim.delete_key(&format!("honest-{number}")).await;
    }
    for number in 0..20 {
        tenants.victim.wait_gone(&format!("honest-{number}")).await;
    }
    ends_within_its_limit(operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_look_like_the_one_that_is_waited_for_take_no_memory() {
    let tenants = Tenants::meet_alone(Actor::Editor).await;
    let (operator, _broker, provider) = limited_operator(&tenants).await;
    let mut sides = Vec::new();
    for _ in 0..4 {
        let tenant = tenants.another(Actor::Editor).await;
        for number in 0..4 {
            let provider = format!("hostile-{number}");
            let side = add_hostile_called(&tenant, &provider, Hostility::Lookalikes, number == 0);
            sides.push(side.await);
            let name = format!("key-{number}");
            tenant.create::<ServiceKey>(own_key(&name, &provider, instance_by_name())).await;
        }
    }
    until_answered(&sides, 2).await;
    tenants.victim.ask_cluster_provider(&provider, "honest", instance_of_broker(), json!({})).await;
    tenants.victim.wait_ready("honest").await;
    ends_within_its_limit(operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_trickle_keep_nobody_waiting() {
    let mut tenants = Tenants::meet_alone(Actor::Editor).await;
    tenants.start_operator(|_| {});
    let broker = FakeBroker::builder().start().await.unwrap();
    let provider = tenants.add_cluster_broker(&broker).await;
    for number in 0..6 {
        let tenant = tenants.another(Actor::Editor).await;
        let side = add_hostile(&tenant, Hostility::Trickle).await;
        // Four of them use 55 MiB. The others use the remaining memory and wait for more.
        if number < 4 {
            until_answered(&[side], 1).await;
        }
    }
    for number in 0..10 {
        let name = format!("honest-{number}");
        tenants.victim.ask_cluster_provider(&provider, &name, instance_of_broker(), json!({})).await;
        tenants.victim.wait_ready(&name).await;
    }
}

/// Waits until the provider of a hostile remote side reports one of these texts.
async fn refuses(hostility: Hostility, words: &[&str]) {
    let tenants = Tenants::meet(Actor::Editor).await;
    add_hostile(&tenants.attacker, hostility).await;
    let provider = tenants.attacker.wait_provider("hostile", false, Reason::UnexpectedAnswer).await;
    assert!(words.iter().any(|words| provider.message().contains(words)), "{}", provider.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_of_names_is_refused() {
    refuses(Hostility::CatalogOfNames, &["contains more than 2 MiB of ids and names"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_mebibyte_is_refused() {
    refuses(Hostility::LongToken, &["is larger than 64 KiB"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_a_cloud_foundry_without_an_end_is_refused() {
    let tenants = Tenants::meet(Actor::Editor).await;
    add_hostile(&tenants.attacker, Hostility::EndlessFoundry).await;
    // The provider is ready, but its keys can't be listed, because the lookup of an instance is also a list.
    tenants.attacker.wait_provider("hostile", true, Reason::Available).await;
    tenants.attacker.create::<ServiceKey>(own_key("key", "hostile", instance_by_name())).await;
    tenants.attacker.wait_says("key", "the list is larger than 128 MiB").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_leads_in_a_circle_is_refused() {
    let tenants = Tenants::meet(Actor::Editor).await;
    add_hostile(&tenants.attacker, Hostility::Circle).await;
    tenants.attacker.wait_provider("hostile", true, Reason::Available).await;
    tenants.attacker.create::<ServiceKey>(own_key("key", "hostile", instance_by_name())).await;
    tenants
        .attacker
        .wait_says("key", "pagination loops: the remote side returned the same next page twice")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_ibm_cloud_without_an_end_is_refused() {
    let tenants = Tenants::meet(Actor::Editor).await;
    add_hostile(&tenants.attacker, Hostility::EndlessIbm).await;
    tenants.attacker.wait_provider("hostile", true, Reason::Available).await;
    tenants.attacker.create::<ServiceKey>(own_key("key", "hostile", instance_by_name())).await;
    tenants.attacker.wait_says("key", "the list is larger than 128 MiB").await;
}

/// Credentials that fit into no Secret.
fn alike() -> CredentialsRecipe {
    CredentialsRecipe::new(|_, _| {
        json!({"a/b": "s3cret", "a_b": "s3cret"}).as_object().cloned().unwrap_or_default()
    })
}

/// Waits until the operator has revoked a key because its credentials fit into no Secret, triggers another reconcile,
/// and returns the counts.
async fn given_back(tenant: &Tenant, name: &str, count: impl Fn() -> [usize; 2]) -> [usize; 2] {
    let key = tenant.wait_key(name, false, Reason::CredentialsUnusable).await;
    assert!(key.is_stalled(), "{key:#?}");
    key.says("was revoked");
    // An annotation without the operator's prefix would not trigger a reconcile, because the operator does not read it.
    let woken = json!({"metadata": {"annotations": {"servicekeys.dev/note": "look again"}}});
    tenant.patch::<ServiceKey>(name, woken).await;
    // Proves that nothing happens, which no watch can show.
    tokio::time::sleep(Duration::from_secs(2)).await;
    count()
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_unfold_are_given_back_once() {
    let tenants = Tenants::meet(Actor::Editor).await;
    let lists = CredentialsRecipe::new(|_, _| {
        let lists = vec![json!([[[]]]); MIB / 9];
        [("lists".to_owned(), Value::from(lists))].into_iter().collect()
    });
    let broker = FakeBroker::builder().credentials(lists).start().await.unwrap();
    tenants
        .attacker
        .add_provider("broker", broker_spec(&broker), Some(("broker-login", broker_login())))
        .await;
    tenants.attacker.create::<ServiceKey>(own_key("key", "broker", instance_of_broker())).await;
    let count = || [broker.count(Route::Bind), broker.count(Route::Unbind)];
    assert_eq!(given_back(&tenants.attacker, "key", count).await, [1, 1]);
    assert!(broker.bindings().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_of_a_cloud_foundry_that_fit_no_secret_are_given_back_once() {
    let tenants = Tenants::meet(Actor::Editor).await;
    let foundry = FakeCloudFoundry::builder().credentials(alike()).start().await.unwrap();
    tenants
        .attacker
        .add_provider("foundry", foundry_spec(&foundry), Some(("cf-login", foundry::password())))
        .await;
    tenants.attacker.create::<ServiceKey>(own_key("key", "foundry", instance_by_name())).await;
    let count = || [foundry.count(cloud_foundry::Route::Create), foundry.count(cloud_foundry::Route::Delete)];
    assert_eq!(given_back(&tenants.attacker, "key", count).await, [1, 1]);
    assert!(foundry.live_keys().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_of_ibm_cloud_that_fit_no_secret_are_given_back_once() {
    let tenants = Tenants::meet(Actor::Editor).await;
    let ibm = FakeIbmCloud::builder().credentials(alike()).start().await.unwrap();
    tenants
        .attacker
        .add_provider("ibm", ibm_spec(&ibm), Some(("ibm-login", json!({"apikey": ibm::API_KEY}))))
        .await;
    tenants.attacker.create::<ServiceKey>(own_key("key", "ibm", instance_by_name())).await;
    let count = || [ibm.count(ibm_cloud::Route::CreateKey), ibm.count(ibm_cloud::Route::DeleteKey)];
    assert_eq!(given_back(&tenants.attacker, "key", count).await, [1, 1]);
    assert!(ibm.live_keys().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_wait_for_a_policy_take_no_more_than_a_share() {
    const KEYS: usize = 16;
    let tenants = Tenants::meet(Actor::Editor).await;
    let long = CredentialsRecipe::new(|_, _| {
        [("password".to_owned(), Value::from("x".repeat(MIB - 1000)))].into_iter().collect()
    });
    let broker = FakeBroker::builder().credentials(long).start().await.unwrap();
    let attacker = &tenants.attacker;
    attacker.add_provider("broker", broker_spec(&broker), Some(("broker-login", broker_login()))).await;
    let (expression, message) =
        ("object.?data[?'password'].orValue(b'').size() < 1000", "entries are too long");
    let probe = json!({"stringData": {"password": "x".repeat(2000)}});
    let policy = Policy::refuse(&tenants.admin, &attacker.namespace, expression, message, probe).await;
    for number in 0..KEYS {
        attacker
            .create::<ServiceKey>(own_key(&format!("key-{number}"), "broker", instance_of_broker()))
            .await;
    }
    let mut says = Vec::new();
    for number in 0..KEYS {
        let name = format!("key-{number}");
        let key = crate::support::stage::wait(attacker.keys(), &name, "waiting", |key| {
            key.is_some_and(|key| {
                let message = key.message();
                message.contains("entries are too long") || message.contains("could not be kept in memory")
            })
        });
        says.push(key.await.unwrap().message().to_owned());
    }
    let words = format!("the namespace `{}` has used its limit of 8 MiB", attacker.namespace);
    assert!(says.iter().any(|message| message.contains(&words)), "{says:#?}");
    policy.lift().await;
    for number in 0..KEYS {
        attacker.wait_ready(&format!("key-{number}")).await;
    }
    assert_eq!(broker.bindings().len(), KEYS);
}
