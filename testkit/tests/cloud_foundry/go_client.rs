//! The real Go client finds, creates, reads, lists and deletes a key as in the field.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use testkit::cloud_foundry::{
    Builder, FakeCloudFoundry, GoClientError, Grant, Login, Pace, RefreshTokens, Rule, go_client,
};

use crate::client::{INSTANCE, start_with};

const KEY: &str = "monitoring-creds";

/// An order for a key of this Cloud Foundry, with this login.
fn order(cf: &FakeCloudFoundry, login: Value) -> Value {
    let mut order = json!({
        "api": cf.url(),
        "organization": "acme",
        "space": "dev",
        "instance": INSTANCE,
        "key": KEY,
        "labels": { "example.com/owner": "me" },
        "annotations": { "example.com/uid": "6f1c" },
        "parameters": { "permissions": "read-only" },
        "per_page": 2,
    });
    if let (Some(order), Value::Object(login)) = (order.as_object_mut(), login) {
        order.extend(login);
    }
    order
}

/// A Cloud Foundry with three keys that a user created by hand.
async fn with_three_keys(builder: Builder) -> Result<FakeCloudFoundry> {
    let cf = start_with(builder).await?.cf;
    for name in ["a", "b", "c"] {
        cf.add_key(INSTANCE, name).context("an instance")?;
    }
    Ok(cf)
}

fn alice() -> Value {
    json!({ "username": "alice", "password": "cf-password" })
}

#[tokio::test]
async fn a_key_is_made_with_a_users_password() -> Result<()> {
    let cf = with_three_keys(FakeCloudFoundry::builder().pace(Pace::looks(3))).await?;
    let seen = go_client().await?.run(&order(&cf, alice())).await?;

    assert_eq!(seen["root"]["links"]["uaa"]["href"], json!(cf.uaa_url()));
    assert_eq!(seen["root"]["links"]["cloud_controller_v3"]["href"], json!(format!("{}/v3", cf.url())));
    assert_eq!((&seen["organization"]["name"], &seen["space"]["name"]), (&json!("acme"), &json!("dev")));
    let organization = &seen["space"]["relationships"]["organization"]["data"]["guid"];
    assert_eq!(organization, &seen["organization"]["guid"]);
    let instance = &seen["instance"];
    assert_eq!(
        (&instance["type"], &instance["guid"]),
        (&json!("managed"), &json!(cf.instance_guid(INSTANCE)))
    );
    assert_eq!(instance["last_operation"]["state"], "succeeded");

    let created = &seen["created"];
    assert_eq!(
        (&created["state"], &created["operation"]),
        (&json!("COMPLETE"), &json!("service_keys.create"))
    );
    let [key] = seen["selected"].as_array().context("a list")?.as_slice() else {
        bail!("one key has the label: {}", seen["selected"]);
    };
    let link = &created["links"]["service_credential_binding"]["href"];
    assert_eq!(link, &key["links"]["self"]["href"]);
    assert_eq!((&key["name"], &key["type"]), (&json!(KEY), &json!("key")));
    assert_eq!(key["last_operation"]["state"], "succeeded");
    assert_eq!(key["metadata"]["annotations"], json!({ "example.com/uid": "6f1c" }));
    assert_eq!(key["relationships"]["service_instance"]["data"]["guid"], instance["guid"]);
    assert_eq!(seen["others"], json!(["a", "b", "c"]));

    assert_eq!(seen["duplicate"]["code"], 10008);
    assert_eq!(seen["duplicate"]["title"], "CF-UnprocessableEntity");
    assert_eq!(seen["details"]["credentials"]["port"], 5432);
    assert!(seen["details"]["credentials"]["password"].is_string());
    assert_eq!(seen["parameters"], json!({ "permissions": "read-only" }));
    assert_eq!(seen["updated"]["metadata"]["labels"], json!({ "example.com/owner": "me", "seen": "yes" }));
    assert_eq!(seen["included"]["guid"], instance["guid"]);
    assert_eq!(seen["pages"], json!([["a", "b"], ["c", KEY]]));

    assert_eq!(seen["deleted"]["operation"], "service_keys.delete");
    assert_eq!(
        (&seen["gone"]["code"], &seen["gone"]["title"]),
        (&json!(10010), &json!("CF-ResourceNotFound"))
    );
    assert_eq!(cf.live_keys().len(), 3);
    assert_eq!(cf.granted(Grant::Password), 1, "one login does for everything");
    Ok(())
}

#[tokio::test]
async fn pages_that_are_smaller_than_asked_for_are_all_turned() -> Result<()> {
    let cf = with_three_keys(FakeCloudFoundry::builder().page_limit(1)).await?;
    let seen = go_client().await?.run(&order(&cf, alice())).await?;
    assert_eq!(seen["pages"], json!([["a"], ["b"], ["c"], [KEY]]));
    assert_eq!(seen["others"], json!(["a", "b", "c"]));
    Ok(())
}

#[tokio::test]
async fn a_client_logs_in_by_itself() -> Result<()> {
    let cf = with_three_keys(FakeCloudFoundry::builder()).await?;
    let login = json!({ "client_id": "operator", "client_secret": "client-secret" });
    go_client().await?.run(&order(&cf, login)).await?;
    assert_eq!((cf.granted(Grant::ClientCredentials), cf.granted(Grant::RefreshToken)), (1, 0));
    assert!(cf.calls().iter().any(|call| call.login.as_deref() == Some("operator")));
    Ok(())
}

#[tokio::test]
async fn users_of_another_identity_provider_name_it() -> Result<()> {
    let bob = Login::user("bob", "secret").origin("ldap");
    let cf = with_three_keys(FakeCloudFoundry::builder().login(bob)).await?;
    let go = go_client().await?;
    go.run(&order(&cf, json!({ "username": "bob", "password": "secret", "origin": "ldap" }))).await?;
    let assertion = cf.issue_assertion("bob");
    go.run(&order(&cf, json!({ "assertion": assertion, "origin": "ldap" }))).await?;
    assert!(cf.granted(Grant::Password) == 1 && cf.granted(Grant::JwtBearer) >= 1);
    Ok(())
}

#[tokio::test]
async fn tokens_are_refreshed_before_they_expire() -> Result<()> {
    // The client treats a token as expired ten seconds early, so this one at once.
    let lifetime = Duration::from_secs(9);
    let builder =
        FakeCloudFoundry::builder().token_lifetime(lifetime).refresh_tokens(RefreshTokens::Rotating);
    let cf = with_three_keys(builder).await?;
    go_client().await?.run(&order(&cf, alice())).await?;
    assert_eq!(cf.granted(Grant::Password), 1);
    assert!(cf.granted(Grant::RefreshToken) >= 2);
    Ok(())
}

#[tokio::test]
async fn a_token_that_is_handed_over_is_used() -> Result<()> {
    let cf = with_three_keys(FakeCloudFoundry::builder()).await?;
    let login = json!({ "access_token": cf.issue_token("alice"), "refresh_token": "none" });
    go_client().await?.run(&order(&cf, login)).await?;
    assert_eq!(cf.granted(Grant::RefreshToken), 0);
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_and_a_failed_job_are_understood() -> Result<()> {
    let cf = with_three_keys(FakeCloudFoundry::builder().tolerate(Rule::Password).pace(Pace::until_told()))
        .await?;
    let go = go_client().await?;
    let refused = go.run(&order(&cf, json!({ "username": "alice", "password": "guess" }))).await;
    let Err(GoClientError::Refused { output, .. }) = refused else { bail!("{refused:?}") };
    assert!(output.contains("unauthorized") && output.contains("Bad credentials"), "{output}");

    let order = order(&cf, alice());
    let run = tokio::spawn(async move { go.run(&order).await });
    let open = cf.wait_for_work(|open| open.len() == 1).await?;
    assert!(cf.fail(&open[0].key, "the disk is full"));
    let refused = run.await?;
    let Err(GoClientError::Refused { output, .. }) = refused else { bail!("{refused:?}") };
    assert!(output.contains("CF-UnableToPerform|10009"), "{output}");
    assert!(output.contains("bind could not be completed: the disk is full"), "{output}");
    Ok(())
}
