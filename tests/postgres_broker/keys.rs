//! What the credentials of a key allow, and for how long.

use futures::future::join_all;
use reqwest::StatusCode;
use rstest::rstest;
use serde_json::json;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use crate::stage::{Stage, log_in, why};

fn id() -> String {
    Uuid::new_v4().to_string()
}

#[tokio::test]
async fn the_same_bind_again_has_the_same_credentials_also_after_a_restart() {
    let mut stage = Stage::set().await;
    let id = id();
    let (status, made) = stage.bind("one", &id, json!({})).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(stage.bind("one", &id, json!({})).await, (StatusCode::OK, made.clone()));
    stage.restart(None).await;
    assert_eq!(stage.bind("one", &id, json!({})).await, (StatusCode::OK, made.clone()));
    assert_eq!(stage.fetch("one", &id).await, (StatusCode::OK, made.clone()));

    let credentials = &made["credentials"];
    let mut login = stage.server.clone();
    login
        .user(credentials["username"].as_str().unwrap())
        .password(credentials["password"].as_str().unwrap())
        .dbname(credentials["database"].as_str().unwrap());
    let session = log_in(&login).await.unwrap();
    let user: String = session.query_one("SELECT session_user::text", &[]).await.unwrap().get(0);
    assert_eq!(user, credentials["username"].as_str().unwrap());
    let by_uri = log_in(&credentials["uri"].as_str().unwrap().parse().unwrap()).await.unwrap();
    let database: String = by_uri.query_one("SELECT current_database()::text", &[]).await.unwrap().get(0);
    assert_eq!(database, stage.databases[0]);
}

#[tokio::test]
async fn each_key_has_a_role_and_a_password_of_its_own() {
    let stage = Stage::set().await;
    let [one, two] = [stage.login(&id(), json!({})).await, stage.login(&id(), json!({})).await];
    assert_ne!(one.get_user(), two.get_user());
    assert!(one.get_password() != two.get_password());
    assert_eq!(stage.roles().await, 2);
}

#[tokio::test]
async fn many_binds_of_one_id_at_once_make_one_key() {
    let stage = Stage::set().await;
    let id = id();
    let answers = join_all((0..8).map(|_| stage.bind("one", &id, json!({})))).await;
    let made = answers.iter().filter(|(status, _)| *status == StatusCode::CREATED).count();
    assert_eq!(made, 1, "{answers:?}");
    for (status, body) in answers {
        let waits = status == StatusCode::UNPROCESSABLE_ENTITY && body["error"] == "ConcurrencyError";
        assert!(status.is_success() || waits, "{status}: {body}");
    }
    assert_eq!(stage.roles().await, 1);
}

#[tokio::test]
async fn a_deleted_key_ends_at_once_and_leaves_what_it_made_to_the_next() {
    let stage = Stage::set().await;
    let (old, new) = (id(), id());
    let login = stage.login(&old, json!({})).await;
    let session = log_in(&login).await.unwrap();
    session.batch_execute("CREATE TABLE notes (text text)").await.unwrap();
    // Objects that a key creates after `SET ROLE NONE` belong to its own role, not to the owner.
    session.batch_execute("SET ROLE NONE; CREATE SCHEMA AUTHORIZATION CURRENT_USER").await.unwrap();

    assert_eq!(stage.unbind("one", &old).await, (StatusCode::OK, json!({})));
    assert!(session.batch_execute("SELECT").await.is_err(), "the session survives its key");
    assert_eq!(why(log_in(&login).await), SqlState::INVALID_PASSWORD);
    assert_eq!(stage.roles().await, 0);
    assert_eq!(stage.fetch("one", &old).await.0, StatusCode::NOT_FOUND);
    assert_eq!(stage.unbind("one", &old).await, (StatusCode::GONE, json!({})));

    let next = log_in(&stage.login(&new, json!({})).await).await.unwrap();
    next.batch_execute("INSERT INTO notes VALUES ('still here'); ALTER TABLE notes ADD id int")
        .await
        .unwrap();
    next.batch_execute(&format!("DROP SCHEMA \"key-{old}\"; DROP TABLE notes")).await.unwrap();
}

#[tokio::test]
async fn a_key_reaches_its_own_database_and_no_further() {
    let stage = Stage::set().await;
    let mut login = stage.login(&id(), json!({})).await;
    let session = log_in(&login).await.unwrap();
    for statement in [
        "CREATE ROLE another LOGIN".to_owned(),
        format!("ALTER ROLE {:?} SUPERUSER", login.get_user().unwrap()),
        format!("GRANT \"owner-{}\" TO CURRENT_USER", stage.databases[1]),
        format!("ALTER DATABASE {:?} RENAME TO mine", stage.databases[0]),
        "SELECT rolpassword FROM pg_authid".to_owned(),
    ] {
        let refused = session.batch_execute(&statement).await;
        assert_eq!(why(refused), SqlState::INSUFFICIENT_PRIVILEGE, "{statement}");
    }
    login.dbname(&stage.databases[1]);
    assert_eq!(why(log_in(&login).await), SqlState::INSUFFICIENT_PRIVILEGE);
}

#[tokio::test]
async fn a_key_that_may_only_read_reads_what_others_write() {
    let stage = Stage::set().await;
    let writer = log_in(&stage.login(&id(), json!({"access": "read-write"})).await).await.unwrap();
    let reader = log_in(&stage.login(&id(), json!({"access": "read-only"})).await).await.unwrap();
    writer
        .batch_execute(
            "CREATE SCHEMA app; CREATE TABLE app.notes (text text); INSERT INTO app.notes VALUES ('hello')",
        )
        .await
        .unwrap();
    let text: String = reader.query_one("SELECT text FROM app.notes", &[]).await.unwrap().get(0);
    assert_eq!(text, "hello");
    for statement in [
        "INSERT INTO app.notes VALUES ('x')",
        "CREATE TABLE mine ()",
        "CREATE TEMP TABLE mine ()",
        "CREATE SCHEMA mine",
    ] {
        let refused = reader.batch_execute(statement).await;
        assert_eq!(why(refused), SqlState::INSUFFICIENT_PRIVILEGE, "{statement}");
    }
}

#[rstest]
#[case::injection(r#"x"; DROP ROLE "postgres"; --"#)]
#[case::single_quotes("it's; ' OR '1'='1")]
#[case::backslash(r"a\'b\")]
#[case::dollar_quotes("$$; SELECT 1; $body$")]
#[case::not_ascii("größe 🗝")]
#[case::path("../../catalog")]
#[case::query("a?service_id=b&c#d%20e")]
#[case::line_break("a\nb")]
#[tokio::test]
async fn an_id_of_any_characters_is_a_key_like_others(#[case] id: &str) {
    // Roles belong to the whole server, but no other test uses these ids.
    let stage = Stage::set().await;
    let login = stage.login(id, json!({})).await;
    assert_eq!(login.get_user().unwrap(), format!("key-{id}"));
    log_in(&login).await.unwrap().batch_execute("CREATE TABLE notes ()").await.unwrap();
    assert_eq!(stage.unbind("one", id).await.0, StatusCode::OK);
    assert_eq!(why(log_in(&login).await), SqlState::INVALID_PASSWORD);
    assert_eq!(stage.roles().await, 0);
}

#[tokio::test]
async fn a_database_of_any_name_is_an_instance_like_others() {
    let stage = Stage::set_for(r#"it's "größer" than a\b %/?"#).await;
    let login = stage.login(&id(), json!({})).await;
    assert_eq!(login.get_dbname(), Some(&*stage.databases[0]));
    log_in(&login).await.unwrap().batch_execute("CREATE TABLE notes ()").await.unwrap();
    assert_eq!(stage.roles().await, 1);
}
