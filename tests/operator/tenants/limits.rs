//! Limits that the administrator of a ClusterKeyProvider sets.

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use servicekey_operator::{
    api::{ConditionType, Reason, ServiceKey},
    testing::Entries,
};
use testkit::{
    broker::{self, FakeBroker, StatusCode},
    cloud_foundry::{FakeCloudFoundry, Instance, Organization, Space},
    ibm_cloud::{self, FakeIbmCloud},
};

use super::{
    abuse::{Abuse, Actor},
    harness::{Tenants, foundry_spec, ibm_spec, instance_by_name, instance_of_broker, key_manifest},
};
use crate::support::{
    conditions::{Reports, wait_event, wait_for},
    foundry::{self, INSTANCE},
    ibm,
    stage::wait,
};

pub const ABUSES: &[Abuse] = &[
    abuse!(
        an_instance_that_is_not_listed_gets_no_key,
        Actor::Editor,
        "requests a key of an instance at a broker, which the rule for its namespace does not list",
        "no key is created; the condition `NotPermitted` names `spec.rules[0].instances.ids`",
    ),
    abuse!(
        another_way_of_naming_an_instance_leads_nowhere,
        Actor::Editor,
        "names a Cloud Foundry instance by GUID, where the rule lists names only",
        "no key is created; the condition names `spec.rules[0].instances.ids`",
    ),
    abuse!(
        an_instance_of_another_space_looks_as_if_it_were_not_there,
        Actor::Editor,
        "names the GUID of an instance in another space that the login of a ClusterKeyProvider sees",
        "no key is created, and the message is the same as for a GUID that does not exist",
    ),
    abuse!(
        a_tenants_own_provider_is_confined_to_its_space,
        Actor::Editor,
        "names the GUID of an instance in another space that the login of its KeyProvider sees",
        "no key is created before the provider says `cloudFoundry.instancesById: Anywhere`",
    ),
    abuse!(
        a_space_that_is_not_listed_is_out_of_reach,
        Actor::Editor,
        "names instances of a space that the rule for its namespace does not list, by GUID and by name",
        "no key is created; instances of the listed space get theirs",
    ),
    abuse!(
        keys_over_the_limit_are_not_created,
        Actor::KeyWriter,
        "creates five ServiceKeys at once, where `maxKeys` is 2",
        "two keys are created; three ServiceKeys report `LimitExceeded`, and one follows when another one is deleted",
    ),
    abuse!(
        a_forged_past_gives_no_place,
        Actor::Editor,
        "creates a ServiceKey over the limit with the operator's finalizer, and a Secret with the marks of a first \
         key, and requests a rotation",
        "no key is created; the condition has the reason `LimitExceeded`",
    ),
    abuse!(
        a_rotation_is_no_way_around_a_stricter_rule,
        Actor::Editor,
        "changes the parameters of a key whose instance is no longer listed",
        "the existing key continues to work, no other one is created, and deleting the ServiceKey revokes it",
    ),
    abuse!(
        a_role_that_is_not_listed_is_not_given,
        Actor::KeyWriter,
        "requests a key of IBM Cloud with the role Manager, by name, by CRN, and for a service ID of its own",
        "no key and no service ID are created; the condition names `spec.rules[0].ibmCloud.roles`",
    ),
    abuse!(
        a_key_without_a_role_is_given_only_where_that_is_listed,
        Actor::KeyWriter,
        "requests a key of IBM Cloud without a role, by `NONE` and by a service that has no roles, where a rule lists \
         `Reader`",
        "no key is created; the condition names `spec.rules[0].ibmCloud.roles`",
    ),
    abuse!(
        another_teams_service_id_is_not_given,
        Actor::Editor,
        "names another team's service ID in `ibmCloud.access`, in a parameter, and in a parameter from a Secret",
        "no key is created; the condition names `spec.rules[0].ibmCloud.serviceIds`",
    ),
    abuse!(
        keys_are_not_left_behind_at_the_broker,
        Actor::KeyWriter,
        "creates a ServiceKey with `deletionPolicy: Retain`, and changes another one to it before it is deleted",
        "the first is refused; the key of the second is revoked, and the event names the rule that requires it",
    ),
    abuse!(
        nobody_abandons_a_key_that_has_to_go,
        Actor::KeyWriter,
        "abandons a ServiceKey whose key the broker does not revoke",
        "it stays, and reports that the provider's administrator may permit it; with the permission it goes",
    ),
    abuse!(
        a_namespace_does_not_choose_its_rule,
        Actor::Editor,
        "labels its namespace so that another rule applies to it",
        "the API server refuses the label, and the rule stays",
    ),
];

const SHARED_KEY: &str = "creds";

/// An attacker whose namespace a ClusterKeyProvider admits, with rules.
struct Limited {
    tenants: Tenants,
    provider: String,
}

impl Limited {
    async fn by(tenants: Tenants, provider: String, rules: Value) -> Self {
        tenants.change_cluster_provider(&provider, json!({"rules": rules})).await;
        Self { tenants, provider }
    }

    async fn broker(attacker: Actor, broker: &FakeBroker, rules: Value) -> Self {
        let tenants = Tenants::meet(attacker).await;
        let provider = tenants.add_cluster_broker(broker).await;
        Self::by(tenants, provider, rules).await
    }

    async fn foundry(foundry: &FakeCloudFoundry, spec: Value, rules: Value) -> Self {
        let tenants = Tenants::meet(Actor::Editor).await;
        let provider = tenants.add_cluster_provider(spec, ("cf-login", foundry::password())).await;
        assert_eq!(foundry.keys(), []);
        Self::by(tenants, provider, rules).await
    }

    async fn ibm(attacker: Actor, ibm: &FakeIbmCloud, rules: Value) -> Self {
        let tenants = Tenants::meet(attacker).await;
        let login = ("ibm-login", json!({"apikey": ibm::API_KEY}));
        let provider = tenants.add_cluster_provider(ibm_spec(ibm), login).await;
        Self::by(tenants, provider, rules).await
    }

    async fn ask(&self, name: &str, instance: Value, fields: Value) -> ServiceKey {
        self.tenants.attacker.ask_cluster_provider(&self.provider, name, instance, fields).await
    }

    /// Requests a key, and fails unless the operator refuses it with this limit in the message.
    async fn is_refused(&self, name: &str, instance: Value, fields: Value, limit: &str) {
        self.ask(name, instance, fields).await;
        let key = self.tenants.attacker.wait_key(name, false, Reason::NotPermitted).await;
        key.says(&format!("ClusterKeyProvider `{}` does not permit the namespace", self.provider));
        key.says(&format!("`{limit}`"));
        assert!(key.is_stalled());
        assert_eq!(key.status.unwrap().key, None);
    }

    async fn change_rules(&self, rules: Value) {
        self.tenants.change_cluster_provider(&self.provider, json!({"rules": rules})).await;
    }

    async fn change(&self, name: &str, patch: Value) {
        self.tenants.attacker.patch::<ServiceKey>(name, patch).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_not_listed_gets_no_key() {
    let broker = FakeBroker::builder().start().await.unwrap();
    let rules = json!([{"instances": {"ids": ["attackers-*"]}}]);
    let limited = Limited::broker(Actor::Editor, &broker, rules).await;
    limited.is_refused(SHARED_KEY, instance_of_broker(), json!({}), "spec.rules[0].instances.ids").await;
    assert_eq!(broker.bindings(), []);
    // Nothing blocks its deletion.
    limited.tenants.attacker.delete_key(SHARED_KEY).await;
    limited.tenants.attacker.wait_gone(SHARED_KEY).await;

    // A rule for the victim's namespace does not apply to the attacker's.
    let victim = &limited.tenants.victim;
    limited
        .change_rules(json!([
            {"namespaces": {"names": [victim.namespace]}, "instances": {"ids": ["training-*"]}},
            {"instances": {"ids": ["attackers-*"]}},
        ]))
        .await;
    victim.ask_cluster_provider(&limited.provider, SHARED_KEY, instance_of_broker(), json!({})).await;
    victim.wait_ready(SHARED_KEY).await;
    limited.is_refused(SHARED_KEY, instance_of_broker(), json!({}), "spec.rules[1].instances.ids").await;
    assert_eq!(broker.bindings().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_way_of_naming_an_instance_leads_nowhere() {
    let foundry = FakeCloudFoundry::builder().start().await.unwrap();
    let rules = json!([{"instances": {"names": ["training-*"]}}]);
    let limited = Limited::foundry(&foundry, foundry_spec(&foundry), rules).await;
    let by_guid = json!({"id": foundry.instance_guid(INSTANCE).unwrap()});
    limited.is_refused("by-guid", by_guid, json!({}), "spec.rules[0].instances.ids").await;
    assert_eq!(foundry.keys(), []);
    limited.ask("by-name", instance_by_name(), json!({})).await;
    limited.tenants.attacker.wait_ready("by-name").await;
}

/// A Cloud Foundry whose login sees two spaces: the provider's, and that of another team.
async fn two_spaces() -> FakeCloudFoundry {
    let theirs = Space::new("theirs").instance(Instance::managed("their-db"));
    let dev = Space::new("dev").instance(Instance::managed(INSTANCE));
    let acme = Organization::new("acme").space(dev).space(theirs);
    let builder = FakeCloudFoundry::builder().without_organizations().organization(acme);
    builder.start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_of_another_space_looks_as_if_it_were_not_there() {
    let foundry = two_spaces().await;
    let limited = Limited::foundry(&foundry, foundry_spec(&foundry), json!([])).await;
    let attacker = &limited.tenants.attacker;
    let (theirs, nothing) =
        (foundry.instance_guid("their-db").unwrap(), "5c7a9d5e-0000-4d0c-9d5e-5f3f0c5f8a01");
    let mut words = Vec::new();
    for (name, guid) in [("theirs", theirs.as_str()), ("nothing", nothing)] {
        limited.ask(name, json!({"id": guid}), json!({})).await;
        let refused = attacker.wait_key(name, false, Reason::InstanceNotFound).await;
        refused.says("in the space `dev` of the organization `acme`");
        refused.says("`cloudFoundry.instancesById: Anywhere`");
        words.push(refused.message().replace(guid, "GUID"));
    }
    assert_eq!(words[0], words[1]);
    assert_eq!(foundry.keys(), []);

    // Instances in the provider's own space can be named by GUID.
    let calls = foundry.calls().len();
    limited.ask("own", json!({"id": foundry.instance_guid(INSTANCE).unwrap()}), json!({})).await;
    attacker.wait_ready("own").await;
    let spaces = foundry.calls().split_off(calls);
    let asked = spaces.iter().filter(|call| call.route == testkit::cloud_foundry::Route::Spaces).count();
    assert_eq!(asked, 0, "the space is known from the provider's check");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_own_provider_is_confined_to_its_space() {
    let foundry = two_spaces().await;
    let tenants = Tenants::meet(Actor::Editor).await;
    let attacker = &tenants.attacker;
    attacker.add_provider("mine", foundry_spec(&foundry), Some(("cf-login", foundry::password()))).await;
    attacker.wait_provider("mine", true, Reason::Available).await;
    let guid = foundry.instance_guid("their-db").unwrap();
    let manifest = key_manifest(SHARED_KEY, json!({"name": "mine"}), json!({"id": guid}), json!({}));
    attacker.create::<ServiceKey>(manifest).await;
    attacker.wait_key(SHARED_KEY, false, Reason::InstanceNotFound).await;
    assert_eq!(foundry.keys(), []);

    // The owner of the login may allow other spaces.
    let anywhere = json!({"spec": {"cloudFoundry": {"instancesById": "Anywhere"}}});
    attacker.patch::<servicekey_operator::api::KeyProvider>("mine", anywhere).await;
    attacker.wait_ready(SHARED_KEY).await;
    assert_eq!(foundry.keys().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_space_that_is_not_listed_is_out_of_reach() {
    let foundry = two_spaces().await;
    let rules = json!([{"cloudFoundry": {"spaces": [foundry.space_guid("theirs").unwrap()]}}]);
    let limited = Limited::foundry(&foundry, foundry_spec(&foundry), rules).await;
    let attacker = &limited.tenants.attacker;
    let by_guid = json!({"id": foundry.instance_guid(INSTANCE).unwrap()});
    for (name, instance) in [("by-guid", by_guid), ("by-name", instance_by_name())] {
        limited.ask(name, instance, json!({})).await;
        let refused = attacker.wait_key(name, false, Reason::InstanceNotFound).await;
        refused.says(&format!(
            "`spec.rules[0].cloudFoundry.spaces` of ClusterKeyProvider `{}`",
            limited.provider
        ));
    }
    assert_eq!(foundry.keys(), []);
    // The rule's list overrides the provider's default, which allows GUIDs only in its own space.
    limited.ask("theirs", json!({"id": foundry.instance_guid("their-db").unwrap()}), json!({})).await;
    attacker.wait_ready("theirs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_over_the_limit_are_not_created() {
    let broker = FakeBroker::builder().start().await.unwrap();
    let limited = Limited::broker(Actor::KeyWriter, &broker, json!([{"maxKeys": 2}])).await;
    let attacker = &limited.tenants.attacker;
    let names = ["a", "b", "c", "d", "e"];
    let asked = names.map(|name| limited.ask(name, instance_of_broker(), json!({})));
    futures::future::join_all(asked).await;
    let (mut ready, mut refused) = (Vec::new(), Vec::new());
    for name in names {
        let settled = wait(attacker.keys(), name, "decided about", |key| {
            key.is_some_and(|key| key.is(true, Reason::Available) || key.is(false, Reason::LimitExceeded))
        })
        .await
        .unwrap();
        if settled.is(true, Reason::Available) {
            ready.push(name);
        } else {
            settled.says("2 ServiceKeys, and others came first (`spec.rules[0].maxKeys`)");
            refused.push(name);
        }
    }
    assert_eq!((ready.len(), refused.len(), broker.bindings().len()), (2, 3, 2));

    // The limit applies to each namespace separately.
    let victim = &limited.tenants.victim;
    victim.ask_cluster_provider(&limited.provider, SHARED_KEY, instance_of_broker(), json!({})).await;
    victim.wait_ready(SHARED_KEY).await;

    // Only the deletion of a ServiceKey makes the next one continue.
    attacker.delete_key(ready[0]).await;
    attacker.wait_gone(ready[0]).await;
    let becomes_ready = refused.iter().map(|name| {
        Box::pin(wait(attacker.keys(), name, "ready", |key| {
            key.is_some_and(|key| key.is(true, Reason::Available))
        }))
    });
    futures::future::select_all(becomes_ready).await;
    assert_eq!(broker.bindings().len(), 3);
    // A larger limit makes the waiting ServiceKeys continue too.
    limited.change_rules(json!([{"maxKeys": 5}])).await;
    for name in refused {
        attacker.wait_ready(name).await;
    }
    assert_eq!(broker.bindings().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_past_gives_no_place() {
    let broker = FakeBroker::builder().start().await.unwrap();
    let limited = Limited::broker(Actor::Editor, &broker, json!([{"maxKeys": 1}])).await;
    let attacker = &limited.tenants.attacker;
    limited.ask("first", instance_of_broker(), json!({})).await;
    attacker.wait_ready("first").await;

    let provider = json!({"kind": "ClusterKeyProvider", "name": limited.provider});
    let mut manifest = key_manifest("second", provider, instance_of_broker(), json!({}));
    manifest["metadata"]["finalizers"] = json!(["servicekeys.dev/finalizer"]);
    let second = attacker.create::<ServiceKey>(manifest).await;
    attacker.wait_key("second", false, Reason::LimitExceeded).await;
    // A copy of a Secret that the operator wrote, with its marks.
    let mut forged = attacker.secrets().get("first").await.unwrap();
    let metadata = std::mem::take(&mut forged.metadata);
    forged.metadata.name = Some("second".to_owned());
    forged.metadata.labels = metadata.labels;
    forged.metadata.annotations = metadata.annotations;
    let uid = second.uid().unwrap();
    let content = Entries::from_secret(&forged).digest(&uid.parse().unwrap());
    forged.annotations_mut().insert("servicekeys.dev/content".to_owned(), content);
    forged.labels_mut().insert("servicekeys.dev/owner-uid".to_owned(), uid);
    forged.metadata.owner_references =
        Some(vec![kube::Resource::controller_owner_ref(&second, &()).unwrap()]);
    attacker.create::<Secret>(serde_json::to_value(&forged).unwrap()).await;
    // A broker stores no marks, so the operator uses the Secret for the existing key.
    let second = attacker.wait_ready("second").await;
    assert!(second.status.unwrap().key.is_some());
    let rotate = json!({
        "metadata": {"annotations": {"servicekeys.dev/rotate": "now"}},
        "spec": {"parameters": {"permissions": "all"}},
    });
    limited.change("second", rotate).await;
    wait(attacker.keys(), "second", "waiting to rotate", |key| {
        let rotating = key.and_then(|key| key.condition(ConditionType::Rotating));
        rotating.is_some_and(|condition| condition.reason == Reason::LimitExceeded.as_str())
    })
    .await;
    assert_eq!(broker.count(broker::Route::Bind), 1);
    attacker.delete_key("second").await;
    attacker.wait_gone("second").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_is_no_way_around_a_stricter_rule() {
    let broker = FakeBroker::builder().start().await.unwrap();
    let limited = Limited::broker(Actor::Editor, &broker, json!([])).await;
    let attacker = &limited.tenants.attacker;
    limited.ask(SHARED_KEY, instance_of_broker(), json!({})).await;
    attacker.wait_ready(SHARED_KEY).await;
    limited.change_rules(json!([{"instances": {"ids": ["attackers-*"]}}])).await;
    limited.change(SHARED_KEY, json!({"spec": {"parameters": {"permissions": "all"}}})).await;
    let key = wait(attacker.keys(), SHARED_KEY, "waiting to rotate", |key| {
        let rotating = key.and_then(|key| key.condition(ConditionType::Rotating));
        rotating.is_some_and(|condition| condition.reason == Reason::NotPermitted.as_str())
    });
    assert!(key.await.unwrap().is(true, Reason::Available));
    assert_eq!(broker.count(broker::Route::Bind), 1);
    attacker.delete_key(SHARED_KEY).await;
    attacker.wait_gone(SHARED_KEY).await;
    assert_eq!(broker.bindings(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_not_listed_is_not_given() {
    let ibm = FakeIbmCloud::builder().start().await.unwrap();
    let rules = json!([{"ibmCloud": {"roles": ["Reader", "Writer"]}}]);
    let limited = Limited::ibm(Actor::KeyWriter, &ibm, rules).await;
    let manager = "crn:v1:bluemix:public:iam::::serviceRole:Manager";
    let wanted = [
        ("by-name", json!({"role": "Manager"})),
        ("by-crn", json!({"role": manager})),
        ("of-its-own", json!({"access": {"roles": ["Reader", "Manager"]}})),
    ];
    for (name, wanted) in wanted {
        let fields = json!({"ibmCloud": wanted});
        limited.is_refused(name, instance_by_name(), fields, "spec.rules[0].ibmCloud.roles").await;
    }
    assert_eq!((ibm.keys(), ibm.service_ids()), (vec![], vec![]));
    limited.ask("writer", instance_by_name(), json!({"ibmCloud": {"role": "Writer"}})).await;
    limited.tenants.attacker.wait_ready("writer").await;
}

/// A service without roles gives such a key full access.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_without_a_role_is_given_only_where_that_is_listed() {
    let ibm =
        FakeIbmCloud::builder().instance(ibm_cloud::Instance::database("orders-db")).start().await.unwrap();
    let limited = Limited::ibm(Actor::KeyWriter, &ibm, json!([{"ibmCloud": {"roles": ["Reader"]}}])).await;
    let limit = "spec.rules[0].ibmCloud.roles";
    let orders = || json!({"name": "orders-db"});
    limited.is_refused("by-name", orders(), json!({"ibmCloud": {"role": "NONE"}}), limit).await;
    limited.ask("by-default", orders(), json!({})).await;
    let refused = limited.tenants.attacker.wait_key("by-default", false, Reason::BindRejected).await;
    refused.says("the service `databases-for-postgresql` has no roles");
    refused.says(limit);
    assert_eq!(ibm.keys(), vec![]);
    limited.change_rules(json!([{"ibmCloud": {"roles": ["Reader", "NONE"]}}])).await;
    limited.tenants.attacker.wait_ready("by-default").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_teams_service_id_is_not_given() {
    let ibm = FakeIbmCloud::builder().start().await.unwrap();
    let (own, theirs) = (ibm.add_service_id("attackers-app"), ibm.add_service_id("victims-app"));
    let rules = json!([{"ibmCloud": {"serviceIds": [own.crn]}}]);
    let limited = Limited::ibm(Actor::Editor, &ibm, rules).await;
    let attacker = &limited.tenants.attacker;
    let limit = "spec.rules[0].ibmCloud.serviceIds";
    let in_access = json!({"ibmCloud": {"access": {"serviceIdCrn": theirs.crn}}});
    limited.is_refused("in-access", instance_by_name(), in_access, limit).await;
    let in_parameter = json!({"parameters": {"serviceid_crn": theirs.crn}});
    limited.is_refused("in-parameter", instance_by_name(), in_parameter, limit).await;

    // Only the operator can see these values, when it is about to create the key.
    let hidden = json!({"serviceid_crn": theirs.crn}).to_string();
    let secret = json!({"metadata": {"name": "hidden"}, "stringData": {"parameters": hidden}});
    attacker.create::<Secret>(secret).await;
    let from_secret = json!({"parametersFrom": [{"secretKeyRef": {"name": "hidden", "key": "parameters"}}]});
    limited.is_refused("from-secret", instance_by_name(), from_secret, limit).await;
    assert_eq!(ibm.keys(), []);
    assert_eq!(ibm.count(ibm_cloud::Route::CreateKey), 0);

    let permitted = json!({"ibmCloud": {"access": {"serviceIdCrn": own.crn}}});
    limited.ask("own", instance_by_name(), permitted).await;
    attacker.wait_ready("own").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_not_left_behind_at_the_broker() {
    let broker = FakeBroker::builder().start().await.unwrap();
    let limited = Limited::broker(Actor::KeyWriter, &broker, json!([{"retain": "Deny"}])).await;
    let attacker = &limited.tenants.attacker;
    let retain = json!({"deletionPolicy": "Retain"});
    limited.is_refused("from-the-start", instance_of_broker(), retain.clone(), "spec.rules[0].retain").await;
    assert_eq!(broker.bindings(), []);

    limited.ask(SHARED_KEY, instance_of_broker(), json!({})).await;
    attacker.wait_ready(SHARED_KEY).await;
    limited.change(SHARED_KEY, json!({"spec": retain})).await;
    attacker.delete_key(SHARED_KEY).await;
    attacker.wait_gone(SHARED_KEY).await;
    assert_eq!(broker.bindings(), []);
    let events = Api::namespaced(limited.tenants.admin.clone(), &attacker.namespace);
    let note = wait_event(events, SHARED_KEY, "KeyRevoked").await;
    assert!(note.contains("because `spec.rules[0].retain` of ClusterKeyProvider"), "{note}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_abandons_a_key_that_has_to_go() {
    let broker = FakeBroker::builder().start().await.unwrap();
    let limited = Limited::broker(Actor::KeyWriter, &broker, json!([{"abandon": "Deny"}])).await;
    let attacker = &limited.tenants.attacker;
    limited.ask(SHARED_KEY, instance_of_broker(), json!({})).await;
    attacker.wait_ready(SHARED_KEY).await;
    let refuses = broker::Fault::Empty(StatusCode::INTERNAL_SERVER_ERROR);
    broker.inject(refuses.on(broker::Route::Unbind).forever());
    limited
        .change(SHARED_KEY, json!({"metadata": {"annotations": {"servicekeys.dev/abandon": "true"}}}))
        .await;
    attacker.delete_key(SHARED_KEY).await;
    let key = attacker.wait_key(SHARED_KEY, false, Reason::RevokeFailed).await;
    key.says("has no effect, because `spec.rules[0].abandon` of ClusterKeyProvider");
    key.says("only the provider's administrator can permit it");
    assert_eq!(broker.bindings().len(), 1);

    limited.change_rules(json!([{"abandon": "Allow"}])).await;
    attacker.wait_gone(SHARED_KEY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_does_not_choose_its_rule() {
    let broker = FakeBroker::builder().start().await.unwrap();
    let rules = json!([
        {"namespaces": {"selector": {"matchLabels": {"tier": "gold"}}}},
        {"maxKeys": 0},
    ]);
    let limited = Limited::broker(Actor::Editor, &broker, rules).await;
    let attacker = &limited.tenants.attacker;
    limited.ask(SHARED_KEY, instance_of_broker(), json!({})).await;
    attacker.wait_key(SHARED_KEY, false, Reason::LimitExceeded).await;
    let label = Patch::Merge(json!({"metadata": {"labels": {"tier": "gold"}}}));
    let namespaces = |client| Api::<Namespace>::all(client);
    let refused =
        namespaces(attacker.client.clone()).patch(&attacker.namespace, &PatchParams::default(), &label).await;
    assert!(matches!(refused, Err(kube::Error::Api(status)) if status.code == 403));
    attacker.wait_key(SHARED_KEY, false, Reason::LimitExceeded).await;
    assert_eq!(broker.bindings(), []);

    // The administrator may change the label, which takes effect at once.
    namespaces(limited.tenants.admin.clone())
        .patch(&attacker.namespace, &PatchParams::default(), &label)
        .await
        .unwrap();
    wait_for(attacker.keys(), SHARED_KEY, true, Reason::Available).await;
}
