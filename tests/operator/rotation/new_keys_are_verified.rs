//! `spec.rotation.verify`: the Secret contains new credentials only after the service has accepted them.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, TcpListener},
    sync::Arc,
    time::Duration,
};

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{DeleteParams, PostParams},
};
use rstest::rstest;
use serde_json::{Value, json};
use servicekey_operator::{
    api::{ConditionType, Reason, ServiceKey},
    testing::{Names, Options},
};
use testkit::{
    Moment,
    broker::Route,
    gateway::{Gateway, Method, Requests},
    kubelet::Kubelet,
};

use crate::support::{
    conditions::Reports,
    database::{Database, log_in, login},
    deployment::{assert_undisturbed, client, deploy, restarting_user, wait_for_logins},
    role_switch::RoleSwitch,
    rotation::sequence,
    service::Service,
    stage::{Stage, entries, loopback_in_the_open, wait},
    time::Time,
};

const NAME: &str = "monitoring-creds";
/// The time between two rotations, and the other times of the spec plus one second, because the status stores them in
/// whole seconds.
const EVERY: Duration = Duration::from_secs(720 * 3600);
const OVERLAP: Duration = Duration::from_secs(24 * 3600 + 1);
const WITHIN: Duration = Duration::from_secs(121);
const RETRY: Duration = Duration::from_secs(3601);
/// The delay of a restart plus one second.
const SETTLING: Duration = Duration::from_secs(31);
/// The time between two attempts of the operator.
const PAUSE: Duration = Duration::from_secs(5);

/// A login to the test's PostgreSQL, which has no TLS.
fn postgres_probe() -> Value {
    json!({"postgres": {
        "address": "{{ hostname }}:{{ port }}",
        "user": "{{ username }}",
        "password": "{{ password }}",
        "database": "{{ database }}",
        "encryption": "Disabled",
    }})
}

fn staging_name(key: &ServiceKey) -> String {
    format!("servicekey-{}", key.uid().unwrap())
}

impl Stage {
    async fn create_verifying(&self, verify: Value) -> ServiceKey {
        let mut manifest = self.key_manifest(NAME);
        manifest["spec"]["rotation"] = json!({ "verify": verify });
        self.create(manifest).await
    }

    /// Waits until the staging Secret is gone.
    async fn wait_unstaged(&self, key: &ServiceKey) {
        wait(self.secrets(), &staging_name(key), "gone", |secret| secret.is_none()).await;
    }

    /// Waits until the service has refused the first attempt with the key of this number. `type_` is the condition that
    /// says so.
    async fn wait_refused(&self, type_: ConditionType, number: u32) -> ServiceKey {
        let words = format!("does not accept key {number} yet: ");
        let is_refused = |key: &ServiceKey| {
            key.condition(type_).is_some_and(|condition| {
                condition.reason == Reason::Verifying.as_str() && condition.message.contains(&words)
            })
        };
        wait(self.keys(), NAME, "refused", |key| key.is_some_and(is_refused)).await.unwrap()
    }

    /// Waits until the status says that the service did not accept a key, and that the key is revoked.
    async fn wait_given_up(&self, type_: ConditionType) -> ServiceKey {
        let is_given_up = |key: &ServiceKey| {
            let verification = key.status.as_ref().and_then(|status| status.verification.as_ref());
            let is_revoked = verification.is_some_and(|verification| verification.revoked == Some(true));
            let condition = key.condition(type_);
            is_revoked && condition.is_some_and(|shown| shown.reason == Reason::VerificationFailed.as_str())
        };
        wait(self.keys(), NAME, "given up", |key| key.is_some_and(is_given_up)).await.unwrap()
    }

    fn binds(&self) -> usize {
        self.broker.calls().into_iter().filter(|call| call.route == Route::Bind).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_key_is_published_once_the_database_accepts_it() {
    let stage = Stage::set().await;
    let (database, switch) = Database::behind_a_switch("app", &stage).await;
    switch.hold().await;
    let time = Time::default();
    let _operator = stage.start_operator_by(time.clock()).await;
    let mut manifest = database.key_manifest(NAME, &stage);
    manifest["spec"]["rotation"] = json!({ "verify": postgres_probe() });
    stage.create::<ServiceKey>(manifest).await;

    let key = stage.wait_refused(ConditionType::Ready, 1).await;
    key.says("28P01");
    assert!(key.is(false, Reason::Verifying), "{:?}", key.status);
    assert!(stage.secrets().get_opt(NAME).await.unwrap().is_none());
    let staged = stage.secrets().get(&staging_name(&key)).await.unwrap();
    assert_eq!(staged.type_.as_deref(), Some("servicekeys.dev/staging"));
    assert_eq!(database.roles().await.len(), 1);

    switch.release().await;
    time.pass(PAUSE, &stage, NAME).await;
    let key = stage.wait_ready(NAME).await;
    assert_eq!(sequence(&key), Some(1));
    log_in(&login(&stage.secrets().get(NAME).await.unwrap())).await.unwrap();
    stage.wait_unstaged(&key).await;
}

/// How the database treats the role of the next key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    AtOnce,
    /// It accepts the role after this time.
    Late(Duration),
    Never,
}

impl Role {
    /// A tenth of the keys is dead. A third of the others is late by 1 to 60 seconds.
    fn of(number: u32) -> Self {
        match number {
            number if number % 10 == 4 => Self::Never,
            number if number % 3 == 0 => Self::Late(Duration::from_secs(1 + u64::from(number * 7 % 60))),
            _ => Self::AtOnce,
        }
    }
}

/// Some keys are dead or late. The pods read the Secret at their start, and the database refuses none of their logins.
/// The variable `VERIFIED_ROTATIONS` sets the number of rotations.
#[tokio::test(flavor = "multi_thread")]
async fn dead_and_late_keys_lock_nobody_out() {
    let rotations = std::env::var("VERIFIED_ROTATIONS").map_or(6, |number| number.parse().unwrap());
    let stage = Stage::set().await;
    let (database, switch) = Database::behind_a_switch("app", &stage).await;
    let time = Time::default();
    let user = restarting_user(&stage).await;
    let _operator = stage.start_operator_as(&user, time.clock());
    let mut manifest = database.key_manifest(NAME, &stage);
    manifest["spec"]["rotation"] = json!({
        "every": "720h", "overlap": "24h", "verify": postgres_probe(),
        "restart": [{"kind": "Deployment", "name": "app"}],
    });
    stage.create::<ServiceKey>(manifest).await;
    stage.wait_ready(NAME).await;
    let kubelet = Kubelet::builder(stage.client.clone(), &stage.namespace).start().await.unwrap();
    deploy(&stage, 2, client()).await;
    wait_for_logins(&kubelet, 0).await;

    let (mut late, mut dead) = (0, 0);
    for number in 2..=rotations + 1 {
        let before = kubelet.starts().len();
        match Role::of(number) {
            Role::AtOnce => time.pass(EVERY, &stage, NAME).await,
            Role::Late(delay) => {
                late += 1;
                rotate_with_a_late_role(&stage, &database, &switch, &time, number, delay).await;
            }
            Role::Never => {
                dead += 1;
                rotate_with_a_dead_role(&stage, &database, &switch, &time, number).await;
            }
        }
        let is_next = |key: &ServiceKey| sequence(key) == Some(number);
        wait(stage.keys(), NAME, "with the next key", |key| key.is_some_and(is_next)).await;
        time.pass(SETTLING, &stage, NAME).await;
        wait_for_logins(&kubelet, before).await;
        time.pass(OVERLAP, &stage, NAME).await;
        let key = stage.wait_settled_with(number).await;
        assert_eq!(key.status.as_ref().unwrap().verification, None);
        stage.wait_unstaged(&key).await;
        assert_eq!(database.roles().await.len(), 1);
        if number % 20 == 1 {
            println!("{} of {rotations} rotations", number - 1);
        }
    }
    let logins = assert_undisturbed(&kubelet, rotations);
    println!("{rotations} rotations, {late} late and {dead} dead keys, {logins} logins, 0 refused");
}

/// The database accepts the next role after this time. Until then, the Secret stays as it is.
async fn rotate_with_a_late_role(
    stage: &Stage,
    database: &Database,
    switch: &RoleSwitch,
    time: &Time,
    number: u32,
    delay: Duration,
) {
    let before = stage.secrets().get(NAME).await.unwrap();
    switch.hold().await;
    time.pass(EVERY, stage, NAME).await;
    let key = stage.wait_refused(ConditionType::Rotating, number).await;
    assert!(key.is(true, Reason::Available), "{:?}", key.status);
    let mut left = delay;
    while !left.is_zero() {
        let step = left.min(PAUSE);
        time.pass(step, stage, NAME).await;
        left -= step;
    }
    assert_eq!(stage.secrets().get(NAME).await.unwrap().resource_version(), before.resource_version());
    assert_eq!(database.roles().await.len(), 2);
    switch.release().await;
    time.pass(PAUSE, stage, NAME).await;
}

/// The database never accepts the next role. The operator revokes it, and the Secret stays as it is. The next attempt
/// succeeds, after an hour or when the user requests it.
async fn rotate_with_a_dead_role(
    stage: &Stage,
    database: &Database,
    switch: &RoleSwitch,
    time: &Time,
    number: u32,
) {
    let before = stage.secrets().get(NAME).await.unwrap();
    let user = entries(&before)["username"].clone();
    switch.hold().await;
    time.pass(EVERY, stage, NAME).await;
    stage.wait_refused(ConditionType::Rotating, number).await;
    assert_eq!(database.roles().await.len(), 2);
    time.pass(WITHIN, stage, NAME).await;
    let key = stage.wait_given_up(ConditionType::Rotating).await;
    let message = &key.condition(ConditionType::Rotating).unwrap().message;
    assert!(message.contains(&format!("key {number} ")) && message.contains("28P01"), "{message}");
    assert!(key.is(true, Reason::Available), "{:?}", key.status);
    assert_eq!(sequence(&key), Some(number - 1));
    assert_eq!(database.roles().await, [user], "the dead key is revoked");
    assert_eq!(stage.secrets().get(NAME).await.unwrap().resource_version(), before.resource_version());
    stage.wait_unstaged(&key).await;
    switch.release().await;
    if number % 20 == 4 {
        time.pass(RETRY, stage, NAME).await;
    } else {
        stage.request_rotation(json!(number.to_string())).await;
    }
}

/// The service accepts no first key, so there is no Secret. The user's request ends the wait for the next attempt.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_ends_the_wait_after_a_refused_key() {
    let stage = Stage::set().await;
    let service = Service::start().await;
    let time = Time::default();
    let _operator = stage.start_operator_by(time.clock()).await;
    stage.create_verifying(service.probe()).await;
    stage.wait_refused(ConditionType::Ready, 1).await;
    time.pass(WITHIN, &stage, NAME).await;
    let key = stage.wait_given_up(ConditionType::Ready).await;
    key.says("401");
    key.says("`servicekeys.dev/rotate`");
    assert!(key.is(false, Reason::VerificationFailed), "{:?}", key.status);
    assert_eq!(stage.binds(), 1);
    assert_eq!(stage.broker.bindings(), []);
    assert!(stage.secrets().get_opt(NAME).await.unwrap().is_none());
    stage.wait_unstaged(&key).await;

    let refused = service.wait_for_attempts(1).await;
    stage.request_rotation(json!("now")).await;
    let attempts = service.wait_for_attempts(refused.len() + 1).await;
    service.accept(attempts.last().unwrap());
    let key = stage.wait_ready_with_the_only_key(NAME).await;
    assert_eq!(key.status.as_ref().unwrap().verification, None);
    assert_eq!(stage.binds(), 2);
    stage.wait_unstaged(&key).await;
}

/// The broker shows credentials only once. One operator dies when it has staged them, the next one while the service
/// refuses them.
#[tokio::test(flavor = "multi_thread")]
async fn staged_credentials_survive_crashes() {
    let stage = Stage::with_instance("metrics", "basic").await;
    let service = Service::start().await;
    let user = stage.operator_user().await;
    let gateway = Gateway::start(stage.plane.client_as(&user)).await.unwrap();
    let gate = gateway.gate(Requests::to(Method::POST, "secrets"), Moment::AfterEffect);
    let first = stage.start_operator_ahead_behind(&gateway, SignedDuration::ZERO).await;
    let key = stage.create_verifying(service.probe()).await;
    gate.wait_for_arrival().await.unwrap();
    drop(first);
    gate.cut();
    assert!(stage.secrets().get_opt(&staging_name(&key)).await.unwrap().is_some());
    assert_eq!(service.wait_for_attempts(0).await, [""; 0]);

    let second = stage.start_operator().await;
    stage.wait_refused(ConditionType::Ready, 1).await;
    drop(second);
    assert!(stage.secrets().get_opt(NAME).await.unwrap().is_none());

    let credentials = stage.broker.bindings()[0].credentials.clone();
    service.accept(credentials["password"].as_str().unwrap());
    let _third = stage.start_operator().await;
    stage.wait_ready_with_the_only_key(NAME).await;
    stage.wait_unstaged(&key).await;
    assert_eq!(stage.binds(), 1);
    stage.assert_secret_holds(NAME, &credentials, &key).await;
    let attempts = service.wait_for_attempts(2).await;
    assert!(attempts.iter().all(|password| password == credentials["password"].as_str().unwrap()));
}

/// No network is admitted, or none for this namespace.
#[rstest]
#[case::at_all(&[])]
#[case::for_this_namespace(&["namespace/another=127.0.0.0/8"])]
#[tokio::test(flavor = "multi_thread")]
async fn without_an_admitted_network_no_key_is_created(#[case] networks: &[&str]) {
    let stage = Stage::set().await;
    let service = Service::start().await;
    let verify_networks = networks.iter().map(|network| network.parse().unwrap()).collect();
    let _operator = stage.start_operator_with(Options { verify_networks, ..stage.options() }).await;
    stage.create_verifying(service.probe()).await;
    let key = stage.wait_key(NAME, Reason::NotPermitted).await;
    key.says("`spec.rotation.verify`");
    key.says("operator.verifyCidrs");
    assert_eq!(stage.binds(), 0);
    assert_eq!(service.wait_for_attempts(0).await, [""; 0]);
}

/// A resolver that knows one name.
#[derive(Debug)]
struct ServiceName;

impl Names for ServiceName {
    fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let known = (host == "service.example").then_some(Ipv4Addr::LOCALHOST.into());
        known.map(|address| vec![address]).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Another key would not help, so the key stays until the user changes something.
#[rstest]
#[case::by_address("127.0.0.1")]
#[case::by_name("service.example")]
#[tokio::test(flavor = "multi_thread")]
async fn a_probe_outside_of_the_admitted_networks_does_not_connect(#[case] host: &str) {
    let stage = Stage::set().await;
    let options = Options {
        verify_networks: vec!["127.0.0.2/32".parse().unwrap()],
        addresses: loopback_in_the_open().with_names(Arc::new(ServiceName)),
        ..stage.options()
    };
    let _operator = stage.start_operator_with(options).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = format!("{host}:{}", listener.local_addr().unwrap().port());
    stage.create_verifying(json!({"tcp": {"address": address}})).await;

    let key = stage.wait_key(NAME, Reason::NotPermitted).await;
    key.says("`tcp.address` has no address in a network that namespace");
    key.says("operator.verifyCidrs");
    assert!(stage.secrets().get_opt(NAME).await.unwrap().is_none());
    assert!(stage.secrets().get_opt(&staging_name(&key)).await.unwrap().is_some());
    stage.delete_and_leave_nothing(NAME).await;
    assert!(stage.secrets().get_opt(&staging_name(&key)).await.unwrap().is_none());
    assert_eq!(stage.binds_and_unbinds(), [Route::Bind, Route::Unbind]);
    assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock, "the operator connected");
}

/// Takes the name of the staging Secret.
async fn take_name(stage: &Stage, name: &str) -> Secret {
    let foreign = json!({"metadata": {"name": name}, "stringData": {"password": "foreign"}});
    let foreign: Secret = serde_json::from_value(foreign).unwrap();
    stage.secrets().create(&PostParams::default(), &foreign).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_is_created_while_the_staging_name_is_taken() {
    let stage = Stage::set().await;
    let service = Service::start().await;
    let key = stage.create_verifying(service.probe()).await;
    let name = staging_name(&key);
    let foreign = take_name(&stage, &name).await;
    let _operator = stage.start_operator().await;
    stage.wait_key(NAME, Reason::SecretRejected).await.says(&format!("the name `{name}` is that of "));
    assert_eq!(stage.binds(), 0);
    assert_eq!(stage.secrets().get(&name).await.unwrap().resource_version(), foreign.resource_version());

    stage.secrets().delete(&name, &DeleteParams::default()).await.unwrap();
    let attempts = service.wait_for_attempts(1).await;
    service.accept(&attempts[0]);
    stage.wait_ready_with_the_only_key(NAME).await;
    assert_eq!(stage.binds(), 1);
    stage.wait_unstaged(&key).await;
}

/// The operator has checked that it can create the staging Secret, and the broker is creating the key.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_waits_while_the_staging_name_is_taken() {
    let stage = Stage::set().await;
    let service = Service::start().await;
    let gate = stage.broker.gate(Route::Bind, Moment::AfterEffect);
    let _operator = stage.start_operator().await;
    let key = stage.create_verifying(service.probe()).await;
    let name = staging_name(&key);
    gate.wait_for_arrival().await.unwrap();
    let foreign = take_name(&stage, &name).await;
    gate.release();
    stage.wait_key(NAME, Reason::SecretConflict).await.says(&format!("the name `{name}` is that of "));
    assert_eq!(stage.secrets().get(&name).await.unwrap().resource_version(), foreign.resource_version());
    assert_eq!(service.wait_for_attempts(0).await, [""; 0]);
    assert!(stage.secrets().get_opt(NAME).await.unwrap().is_none());

    let bindings = stage.broker.bindings();
    service.accept(bindings[0].credentials["password"].as_str().unwrap());
    stage.secrets().delete(&name, &DeleteParams::default()).await.unwrap();
    stage.wait_ready_with_the_only_key(NAME).await;
    assert_eq!(stage.broker.bindings(), bindings);
    assert_eq!(stage.binds(), 1);
    stage.wait_unstaged(&key).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_revokes_the_first_key_while_it_is_verified() {
    let stage = Stage::set().await;
    let service = Service::start().await;
    let _operator = stage.start_operator().await;
    let key = stage.create_verifying(service.probe()).await;
    stage.wait_refused(ConditionType::Ready, 1).await;
    stage.delete_and_leave_nothing(NAME).await;
    assert!(stage.secrets().get_opt(&staging_name(&key)).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_revokes_both_keys_while_the_next_one_is_verified() {
    let stage = Stage::set().await;
    let service = Service::start().await;
    let _operator = stage.start_operator().await;
    let key = stage.create_verifying(service.probe()).await;
    let attempts = service.wait_for_attempts(1).await;
    service.accept(&attempts[0]);
    stage.wait_ready_with_the_only_key(NAME).await;
    stage.request_rotation(json!("now")).await;
    stage.wait_refused(ConditionType::Rotating, 2).await;
    assert_eq!(stage.broker.bindings().len(), 2);
    stage.delete_and_leave_nothing(NAME).await;
    assert!(stage.secrets().get_opt(&staging_name(&key)).await.unwrap().is_none());
}
