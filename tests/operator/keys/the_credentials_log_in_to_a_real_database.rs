//! The Secret's credentials log in to the database exactly as long as their ServiceKey exists.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;
use servicekey_operator::api::ServiceKey;
use tokio_postgres::{Config, error::SqlState};

use crate::support::{
    database::{Database, assert_refused, log_in, login, who_and_where},
    stage::{Stage, entries},
    time::Time,
};

const HOUR: Duration = Duration::from_secs(3600);
const NAME: &str = "training-app";

async fn login_of(stage: &Stage, name: &str) -> Config {
    stage.wait_ready(name).await;
    login(&stage.secrets().get(name).await.unwrap())
}

/// Waits until the current key has this number, and this many earlier keys are still to be revoked.
async fn wait_for_key(stage: &Stage, sequence: u32, previous: usize) {
    let what = format!("on key {sequence}, with {previous} before it");
    let there = stage.wait(stage.keys(), NAME, &what, |key| {
        key.and_then(|key| key.status.as_ref()).is_some_and(|status| {
            status.key.as_ref().is_some_and(|key| key.sequence == sequence)
                && status.previous_keys.len() == previous
        })
    });
    assert!(there.await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_service_key_is_a_login_of_its_own_until_it_is_deleted() {
    let stage = Stage::set().await;
    let database = Database::behind_a_provider("app", &stage).await;
    let _operator = stage.start_operator().await;
    for name in ["app", "reports"] {
        stage.create::<ServiceKey>(database.key_manifest(name, &stage)).await;
    }
    let [app, reports] = [login_of(&stage, "app").await, login_of(&stage, "reports").await];
    for login in [&app, &reports] {
        assert_eq!(who_and_where(login).await, [login.get_user().unwrap(), &*database.name]);
    }
    let mut users = [&app, &reports].map(|login| login.get_user().unwrap());
    users.sort_unstable();
    assert_eq!(database.roles().await, users);

    let session = log_in(&app).await.unwrap();
    session.batch_execute("CREATE TABLE orders (id int); INSERT INTO orders VALUES (1), (2)").await.unwrap();
    stage.delete_key("app").await;
    stage.wait_gone("app").await;
    assert_refused(&app).await;
    assert!(session.batch_execute("SELECT").await.is_err(), "a session outlives its key");
    assert_eq!(database.roles().await, [reports.get_user().unwrap()]);
    let others = log_in(&reports).await.unwrap();
    let orders: i64 = others.query_one("SELECT count(*) FROM orders", &[]).await.unwrap().get(0);
    assert_eq!(orders, 2, "tables that a key created belong to the database");

    stage.delete_key("reports").await;
    stage.wait_gone("reports").await;
    assert_refused(&reports).await;
    assert_eq!(database.roles().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_locks_nobody_out() {
    let stage = Stage::set().await;
    let database = Database::behind_a_provider("app", &stage).await;
    let time = Time::default();
    let _operator = stage.start_operator_by(time.clock()).await;
    let mut manifest = database.key_manifest(NAME, &stage);
    manifest["spec"]["rotation"] = json!({"every": "720h", "overlap": "24h"});
    stage.create::<ServiceKey>(manifest).await;
    let old = login_of(&stage, NAME).await;
    let session = log_in(&old).await.unwrap();
    session.batch_execute("CREATE TABLE orders (id int)").await.unwrap();

    time.pass(720 * HOUR, &stage, NAME).await;
    wait_for_key(&stage, 2, 1).await;
    let new = login_of(&stage, NAME).await;
    assert_ne!(
        who_and_where(&new).await,
        who_and_where(&old).await,
        "both keys work, and are different users"
    );
    session.batch_execute("INSERT INTO orders VALUES (1)").await.unwrap();
    log_in(&new).await.unwrap().batch_execute("INSERT INTO orders VALUES (2)").await.unwrap();

    // The status stores the end of the overlap in whole seconds, so pass one second more.
    time.pass(24 * HOUR + Duration::from_secs(1), &stage, NAME).await;
    wait_for_key(&stage, 2, 0).await;
    assert_refused(&old).await;
    assert!(session.batch_execute("SELECT").await.is_err(), "a session outlives its key");
    assert_eq!(
        login(&stage.secrets().get(NAME).await.unwrap()),
        new,
        "the Secret contains the key that still works"
    );
    let session = log_in(&new).await.unwrap();
    let orders: i64 = session.query_one("SELECT count(*) FROM orders", &[]).await.unwrap().get(0);
    assert_eq!(orders, 2);
    assert_eq!(database.roles().await, [new.get_user().unwrap()]);

    stage.delete_key(NAME).await;
    stage.wait_gone(NAME).await;
    assert_refused(&new).await;
    assert_eq!(database.roles().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_parameters_are_another_login_that_may_do_other_things() {
    let stage = Stage::set().await;
    let database = Database::behind_a_provider("app", &stage).await;
    let _operator = stage.start_operator().await;
    let mut manifest = database.key_manifest(NAME, &stage);
    manifest["spec"]["rotation"] = json!({"overlap": "0s"});
    stage.create::<ServiceKey>(manifest).await;
    let writer = login_of(&stage, NAME).await;
    let orders = "CREATE TABLE orders (id int); INSERT INTO orders VALUES (1)";
    log_in(&writer).await.unwrap().batch_execute(orders).await.unwrap();

    let parameters = Patch::Merge(json!({"spec": {"parameters": {"access": "read-only"}}}));
    stage.keys().patch(NAME, &PatchParams::default(), &parameters).await.unwrap();
    wait_for_key(&stage, 2, 0).await;
    assert_refused(&writer).await;
    let reader = log_in(&login_of(&stage, NAME).await).await.unwrap();
    let orders: i64 = reader.query_one("SELECT count(*) FROM orders", &[]).await.unwrap().get(0);
    assert_eq!(orders, 1);
    let refused = reader.batch_execute("INSERT INTO orders VALUES (2)").await.unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    assert_eq!(database.roles().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_string_of_a_template_opens_a_database_whatever_its_name() {
    let stage = Stage::set().await;
    let database = Database::behind_a_provider("bücher & co? 100%", &stage).await;
    let _operator = stage.start_operator().await;
    let mut manifest = database.key_manifest(NAME, &stage);
    let template = "postgresql://{{ username | urlencode }}:{{ password | urlencode }}@\
                    {{ hostname }}:{{ port }}/{{ database | urlencode }}?application_name=app";
    manifest["spec"]["secret"] = json!({"template": {"data": {"DATABASE_URL": template}}});
    stage.create::<ServiceKey>(manifest).await;
    stage.wait_ready(NAME).await;
    let secret = entries(&stage.secrets().get(NAME).await.unwrap());
    assert_eq!(secret.keys().collect::<Vec<_>>(), ["DATABASE_URL"]);
    let login: Config = secret["DATABASE_URL"].parse().unwrap();
    assert_eq!(who_and_where(&login).await, [login.get_user().unwrap(), &*database.name]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_was_deleted_comes_back_with_the_login_that_everybody_uses() {
    let stage = Stage::set().await;
    let database = Database::behind_a_provider("app", &stage).await;
    let _operator = stage.start_operator().await;
    stage.create::<ServiceKey>(database.key_manifest(NAME, &stage)).await;
    let before = login_of(&stage, NAME).await;
    let session = log_in(&before).await.unwrap();
    let deleted = stage.secrets().get(NAME).await.unwrap().uid();
    stage.secrets().delete(NAME, &DeleteParams::default()).await.unwrap();
    let is_back = |secret: Option<&Secret>| secret.is_some_and(|secret| secret.uid() != deleted);
    let back = stage.wait(stage.secrets(), NAME, "back", is_back).await.unwrap();
    assert_eq!(login(&back), before);
    assert_eq!(who_and_where(&before).await, [before.get_user().unwrap(), &*database.name]);
    session.batch_execute("SELECT").await.expect("the session survives");
    assert_eq!(database.roles().await.len(), 1);
}
