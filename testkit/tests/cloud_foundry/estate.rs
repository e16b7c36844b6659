//! Finds instances, and checks which callers may see them.

use anyhow::{Context, Result};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::cloud_foundry::{
    FakeCloudFoundry, Instance, InstanceOperation, Login, OperationState, Organization, Role, Space,
    StartError,
};

use crate::client::{INSTANCE, KEYS, answer, path, start, start_with};

#[tokio::test]
async fn the_root_says_where_everything_is_to_anybody() -> Result<()> {
    let it = start().await?;
    let (status, root) = answer(it.bare(Method::GET, "/").send().await?).await?;
    assert_eq!((status, &root), (200, &it.cf.root()));
    let link = |name: &str| root["links"][name]["href"].as_str().map(str::to_owned);
    assert_eq!(link("cloud_controller_v3"), Some(format!("{}/v3", it.cf.url())));
    assert_eq!((link("uaa"), link("login")), (Some(it.cf.uaa_url()), Some(it.cf.uaa_url())));
    assert_ne!(it.cf.url(), it.cf.uaa_url());
    assert_eq!(answer(it.bare(Method::GET, "/v3").send().await?).await?.0, 200);
    Ok(())
}

#[tokio::test]
async fn an_instance_is_found_by_organization_space_and_name() -> Result<()> {
    let other = Organization::new("other").space(Space::new("dev").instance(Instance::managed(INSTANCE)));
    let it = start_with(FakeCloudFoundry::builder().organization(other)).await?;
    let (_, found) = it.get("/v3/organizations?names=acme").await?;
    let organization = found["resources"][0]["guid"].as_str().unwrap_or_default();
    assert_eq!(it.names("/v3/spaces?names=dev").await?, ["dev", "dev"]);
    let (_, found) = it.get(&format!("/v3/spaces?names=dev&organization_guids={organization}")).await?;
    assert_eq!(found["pagination"]["total_results"], 1);
    let space = found["resources"][0]["guid"].as_str().unwrap_or_default();
    let (_, found) = it.get(&format!("/v3/service_instances?names={INSTANCE}&space_guids={space}")).await?;
    assert_eq!(found["pagination"]["total_results"], 1);
    let guid = it.cf.instance_guid(INSTANCE).unwrap_or_default();
    assert_eq!(found["resources"][0]["guid"], json!(guid));
    assert_eq!(it.get(&format!("/v3/service_instances/{guid}")).await?.1, found["resources"][0]);
    assert_eq!(it.names("/v3/organizations?names=unknown").await?, [""; 0]);
    assert_eq!(it.names("/v3/service_instances?guids=unknown").await?, [""; 0]);
    Ok(())
}

#[tokio::test]
async fn spaces_come_with_their_organization_where_that_is_asked_for() -> Result<()> {
    let it = start().await?;
    let (_, found) = it.get("/v3/spaces?include=organization").await?;
    assert_eq!(found["included"]["organizations"][0]["name"], "acme");
    assert_eq!(it.get("/v3/spaces").await?.1["included"], Value::Null);
    Ok(())
}

#[tokio::test]
async fn instances_say_what_they_are_and_what_is_being_done_to_them() -> Result<()> {
    let operation = InstanceOperation { kind: "create", state: OperationState::InProgress };
    let dev = Space::new("dev")
        .instance(Instance::user_provided("mail"))
        .instance(Instance::managed("slow").operation(operation));
    let builder = FakeCloudFoundry::builder().organization(Organization::new("other").space(dev));
    let it = start_with(builder).await?;
    assert_eq!(it.names("/v3/service_instances?type=user-provided").await?, ["mail"]);
    assert_eq!(it.names("/v3/service_instances?type=managed&order_by=-name").await?, [INSTANCE, "slow"]);
    let state = |body: &Value| body["resources"][0]["last_operation"]["state"].clone();
    assert_eq!(state(&it.get("/v3/service_instances?names=slow").await?.1), "in progress");
    let done = InstanceOperation { kind: "create", state: OperationState::Succeeded };
    assert!(it.cf.set_operation("slow", done));
    assert!(!it.cf.set_operation("unknown", done));
    assert_eq!(state(&it.get("/v3/service_instances?names=slow").await?.1), "succeeded");
    Ok(())
}

#[tokio::test]
async fn a_shared_instance_shares_its_name_too() -> Result<()> {
    let shared = Instance::managed("db");
    let dev = Space::new("dev").instance(Instance::managed("db")).shared(&shared);
    let acme = Organization::new("acme").space(Space::new("prod").instance(shared)).space(dev);
    let it = start_with(FakeCloudFoundry::builder().without_organizations().organization(acme)).await?;
    let guid = it.cf.space_guid("dev").context("a space")?;
    let found = it.names(&format!("/v3/service_instances?names=db&space_guids={guid}")).await?;
    assert_eq!(found, ["db", "db"]);
    Ok(())
}

#[tokio::test]
async fn who_has_no_role_sees_nothing() -> Result<()> {
    let it = start().await?;
    let (key, _) = it.ask_for("a").await?;
    it.cf.change_role("alice", Role::None);
    for list in ["organizations", "spaces", "service_instances", "service_credential_bindings"] {
        assert_eq!(it.names(&format!("/v3/{list}")).await?, [""; 0]);
    }
    let guid = &key.instance;
    assert_eq!(it.get(&format!("/v3/service_instances/{guid}")).await?.0, 404);
    let refused = it.refused(it.create("b")?).await?;
    assert_eq!(refused, format!("The service instance could not be found: '{guid}'"));
    let missing = (404, 10010, "Service credential binding not found".to_owned());
    assert_eq!(it.error(it.delete(&key)).await?, missing);
    assert_eq!(it.error(it.call(Method::GET, &path(&key))).await?, missing);
    assert_eq!(it.cf.keys().len(), 1);
    Ok(())
}

#[tokio::test]
async fn an_auditor_sees_keys_but_not_their_credentials_and_changes_nothing() -> Result<()> {
    let it = start().await?;
    let (key, _) = it.ask_for("a").await?;
    it.cf.change_role("alice", Role::SpaceAuditor);
    assert_eq!(it.names(KEYS).await?, ["a"]);
    let missing = (404, 10010, "Service credential binding not found".to_owned());
    assert_eq!(it.error(it.call(Method::GET, &format!("{}/details", path(&key)))).await?, missing);
    let detail = "You are not authorized to perform the requested action".to_owned();
    for request in [
        it.create("b")?,
        it.delete(&key),
        it.call(Method::PATCH, &path(&key)).json(&json!({ "metadata": { "labels": {} } })),
    ] {
        assert_eq!(it.error(request).await?, (403, 10003, detail.clone()));
    }
    assert_eq!(it.cf.keys(), [key]);
    Ok(())
}

#[tokio::test]
async fn a_role_can_be_had_in_some_spaces_only() -> Result<()> {
    let bob = Login::user("bob", "secret").in_space("test");
    let acme = Organization::new("globex").space(Space::new("test").instance(Instance::managed("test-db")));
    let mut it = start_with(FakeCloudFoundry::builder().organization(acme).login(bob)).await?;
    it.cf.add_key(INSTANCE, "hidden");
    it.cf.add_key("test-db", "seen");
    it.token = it.cf.issue_token("bob");
    assert_eq!(it.names("/v3/organizations").await?, ["globex"]);
    assert_eq!(it.names("/v3/spaces").await?, ["test"]);
    assert_eq!(it.names("/v3/service_instances").await?, ["test-db"]);
    assert_eq!(it.names(KEYS).await?, ["seen"]);
    Ok(())
}

#[tokio::test]
async fn names_are_unique_where_they_have_to_be() {
    let twice = || Instance::managed("db");
    let acme = Organization::new("acme").space(Space::new("dev").instance(twice()).instance(twice()));
    let builders = [
        FakeCloudFoundry::builder().organization(Organization::new("acme")),
        FakeCloudFoundry::builder().without_organizations().organization(acme),
        FakeCloudFoundry::builder().login(Login::client("alice", "x")),
    ];
    for builder in builders {
        assert!(matches!(builder.start().await.err(), Some(StartError::Name { .. })));
    }
}
