//! Kills the operator repeatedly, at random requests, while users create, change and delete ServiceKeys. In the end
//! each ServiceKey has exactly one key.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
};

use fastrand::Rng;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;
use servicekey_operator::{
    api::ServiceKey,
    testing::{Identity, Sequence},
};
use testkit::{Moment, gateway::Requests};

use crate::support::{
    evidence::{assert_holds, requested_bindings, settled},
    process::Process,
    stage::{Stage, condition},
};
use uuid::Uuid;

const ROUNDS: usize = 20;
const KEYS: usize = 10;
/// ServiceKeys that a user creates, deletes, changes or deprives of their Secret in one round.
const DISTURBED: usize = 4;
/// The approximate number of requests in a round: for the start of the operator, and for the disturbed ServiceKeys.
const REQUESTS: usize = 40;

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_it_leaves_one_key_each() {
    let seed = env::var("CRASH_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("`CRASH_SEED={seed}` makes the same choices again");
    let mut chance = Rng::with_seed(seed);
    let stage = Stage::set().await;
    let names: Vec<_> = (1..=KEYS).map(|number| format!("key-{number}")).collect();
    let mut wishes = Wishes::default();

    for _ in 0..ROUNDS {
        let gateway = stage.gateway().await;
        let moment = if chance.bool() { Moment::BeforeEffect } else { Moment::AfterEffect };
        let gate = gateway.gate(Requests::any().after(chance.usize(..REQUESTS)), moment);
        let operator = Process::behind(gateway, &stage);
        for name in chance.choose_multiple(&names, DISTURBED) {
            wishes.disturb(&stage, name, &mut chance).await;
        }
        tokio::select! {
            Ok(()) = gate.wait_for_arrival() => {}
            // The round had fewer requests than the random number; kill the operator at rest.
            () = rest(&stage, &names) => {}
        }
        operator.kill().await;
        gate.cut();
    }

    let _operator = Process::start(&stage).await;
    for name in &names {
        let there =
            stage.wait(stage.keys(), name, "not being deleted", |key| !key.is_some_and(is_being_deleted));
        if there.await.is_none() {
            wishes.create(&stage, name).await;
        }
    }
    for name in &names {
        settled(&stage, name).await;
    }
    rest(&stage, &names).await;
    let mut living = BTreeSet::new();
    for name in &names {
        let id = stage.keys().get(name).await.unwrap().status.unwrap().key.unwrap().id;
        let binding = stage.broker.binding(id.parse().unwrap()).unwrap();
        assert_holds(&stage.secrets().get(name).await.unwrap(), &binding);
        living.insert(binding.id);
    }
    let all: BTreeSet<_> = stage.broker.bindings().into_iter().map(|binding| binding.id).collect();
    assert_eq!(living, all);
    let (asked_for, allowed) = (requested_bindings(&stage.broker), wishes.bindings());
    assert!(asked_for.is_subset(&allowed), "{:?}", asked_for.difference(&allowed));
}

/// The number of keys that each ServiceKey may have had, by its UID.
#[derive(Default)]
struct Wishes(BTreeMap<Uuid, u32>);

impl Wishes {
    /// Creates the ServiceKey if it does not exist. Otherwise deletes it or its Secret, or changes its parameters.
    async fn disturb(&mut self, stage: &Stage, name: &str, chance: &mut Rng) {
        let key = match stage.keys().get_opt(name).await.unwrap() {
            None => return self.create(stage, name).await,
            Some(key) if is_being_deleted(&key) => return,
            Some(key) => key,
        };
        match chance.u8(..3) {
            0 => drop(stage.keys().delete(name, &DeleteParams::default()).await.unwrap()),
            // The Secret may not exist yet.
            1 => drop(stage.secrets().delete(name, &DeleteParams::default()).await),
            _ => {
                let change =
                    Patch::Merge(json!({"spec": {"parameters": {"role": chance.u64(..).to_string()}}}));
                stage.keys().patch(name, &PatchParams::default(), &change).await.unwrap();
                *self.0.entry(uid(&key)).or_default() += 1;
            }
        }
    }

    /// Creates a ServiceKey whose replaced keys are revoked at once.
    async fn create(&mut self, stage: &Stage, name: &str) {
        let mut manifest = stage.key_manifest(name);
        manifest["spec"]["rotation"] = json!({"overlap": "0s"});
        self.0.insert(uid(&stage.create(manifest).await), 1);
    }

    /// All bindings that may ever have been requested.
    fn bindings(&self) -> BTreeSet<String> {
        let keys = self.0.iter().flat_map(|(owner, count)| (1..=*count).map(|number| (*owner, number)));
        let identities =
            keys.map(|(owner, number)| Identity { owner, sequence: Sequence::new(number).unwrap() });
        identities.map(|identity| identity.binding_id().to_string()).collect()
    }
}

/// Waits until every ServiceKey has exactly the key of its spec, and its Secret, or is gone with both.
async fn rest(stage: &Stage, names: &[String]) {
    for name in names {
        let at_rest = |key: Option<&ServiceKey>| key.is_none_or(|key| has_its_key_only(stage, key));
        let there = stage.wait(stage.keys(), name, "at rest", at_rest).await.is_some();
        let as_it_should_be = |secret: Option<&Secret>| secret.is_some() == there;
        stage.wait(stage.secrets(), name, "present exactly if its ServiceKey is", as_it_should_be).await;
    }
}

fn has_its_key_only(stage: &Stage, key: &ServiceKey) -> bool {
    let Some(status) = &key.status else { return false };
    let binding = status.key.as_ref().and_then(|known| stage.broker.binding(known.id.parse().unwrap()));
    !is_being_deleted(key)
        && condition(key, "Ready") == Some("True")
        && status.previous_keys.is_empty()
        && status.operation.is_none()
        && binding.is_some_and(|binding| binding.parameters == key.spec.parameters)
}

fn is_being_deleted(key: &ServiceKey) -> bool {
    key.metadata.deletion_timestamp.is_some()
}

fn uid(key: &ServiceKey) -> Uuid {
    key.uid().unwrap().parse().unwrap()
}
