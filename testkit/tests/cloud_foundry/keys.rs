//! Creates, reads, changes and deletes keys.

use anyhow::{Context, Result};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::cloud_foundry::{
    CredentialsRecipe, FakeCloudFoundry, Instance, InstanceOperation, OperationState, Organization, Route,
    Space,
};

use crate::client::{Fixture, INSTANCE, KEYS, path, start, start_with};

impl Fixture {
    /// A request for a key of another instance.
    fn create_at(&self, instance: &str, name: &str) -> Result<reqwest::RequestBuilder> {
        let mut body = self.body(name)?;
        let guid = self.cf.instance_guid(instance).context("no such instance")?;
        body["relationships"]["service_instance"]["data"]["guid"] = json!(guid);
        Ok(self.call(Method::POST, KEYS).json(&body))
    }

    fn update(&self, path: &str, metadata: &Value) -> reqwest::RequestBuilder {
        self.call(Method::PATCH, path).json(&json!({ "metadata": metadata }))
    }
}

#[tokio::test]
async fn a_key_is_made_read_and_deleted() -> Result<()> {
    let it = start().await?;
    let (key, job) = it.ask_for("monitoring-creds").await?;
    let (_, shown) = it.get(&job).await?;
    assert_eq!((&shown["state"], &shown["operation"]), (&json!("COMPLETE"), &json!("service_keys.create")));
    let link = format!("{}{}", it.cf.url(), path(&key));
    assert_eq!(shown["links"]["service_credential_binding"]["href"], json!(link));

    let (_, shown) = it.get(&path(&key)).await?;
    assert_eq!((&shown["name"], &shown["type"]), (&json!("monitoring-creds"), &json!("key")));
    assert_eq!(shown["metadata"]["labels"], json!({ "example.com/owner": "me" }));
    assert_eq!(shown["last_operation"]["state"], "succeeded");
    let (_, details) = it.get(&format!("{}/details", path(&key))).await?;
    assert_eq!(details, json!({ "credentials": key.credentials }));
    assert_eq!(details["credentials"]["username"], "user-1");
    let (_, parameters) = it.get(&format!("{}/parameters", path(&key))).await?;
    assert_eq!(parameters, json!({ "permissions": "read-only" }));

    let job = it.job_of(it.delete(&key)).await?;
    assert_eq!(it.job(&job).await?, ("COMPLETE".to_owned(), Value::Null));
    assert_eq!(it.get(&job).await?.1["links"].as_object().map(serde_json::Map::len), Some(1));
    assert_eq!(it.cf.keys(), []);
    let gone = (404, 10010, "Service credential binding not found".to_owned());
    assert_eq!(it.error(it.delete(&key)).await?, gone);
    assert_eq!(it.error(it.call(Method::GET, &path(&key))).await?, gone);
    assert_eq!(it.cf.count(Route::Delete), 2);
    Ok(())
}

#[tokio::test]
async fn every_key_has_credentials_of_its_own() -> Result<()> {
    let it = start().await?;
    let (one, two) = (it.ask_for("one").await?.0, it.ask_for("two").await?.0);
    assert_ne!(one.credentials, two.credentials);
    assert_eq!((one.number, two.number), (1, 2));
    let recipe =
        CredentialsRecipe::new(|instance, _| [("db".to_owned(), json!(instance.name))].into_iter().collect());
    let it = start_with(FakeCloudFoundry::builder().credentials(recipe)).await?;
    assert_eq!(it.ask_for("a").await?.0.credentials.context("made")?["db"], INSTANCE);
    Ok(())
}

#[tokio::test]
async fn a_name_is_unique_at_its_instance_only() -> Result<()> {
    let other = Organization::new("other").space(Space::new("dev").instance(Instance::managed("other-db")));
    let it = start_with(FakeCloudFoundry::builder().organization(other)).await?;
    it.ask_for("a").await?;
    let refused = it.refused(it.create("a")?).await?;
    assert_eq!(
        refused,
        "The binding name is invalid. Key binding names must be unique. The service instance already has a key \
         binding with name 'a'."
    );
    it.job_of(it.create_at("other-db", "a")?).await?;
    it.ask_for("A").await?;
    assert_eq!(it.cf.live_keys().len(), 3);
    Ok(())
}

#[tokio::test]
async fn what_cant_have_keys_says_why() -> Result<()> {
    let failed = InstanceOperation { kind: "create", state: OperationState::Failed };
    let space = Space::new("dev")
        .instance(Instance::user_provided("mail"))
        .instance(Instance::managed("archive").unbindable())
        .instance(Instance::managed("broken").operation(failed));
    let it =
        start_with(FakeCloudFoundry::builder().organization(Organization::new("other").space(space))).await?;
    let mut without_parameters = it.body("a")?;
    without_parameters["relationships"]["service_instance"]["data"]["guid"] =
        json!(it.cf.instance_guid("mail"));
    without_parameters.as_object_mut().map(|body| body.remove("parameters"));
    let refusals = [
        (
            it.create_at("mail", "a")?,
            "Binding parameters are not supported for user-provided service instances",
        ),
        (
            it.call(Method::POST, KEYS).json(&without_parameters),
            "Service credential bindings of type 'key' are not supported for user-provided service instances.",
        ),
        (it.create_at("archive", "a")?, "Service plan does not allow bindings."),
        (it.create_at("broken", "a")?, "Service instance not found"),
    ];
    for (request, detail) in refusals {
        assert_eq!(it.refused(request).await?, detail);
    }
    assert_eq!(it.cf.keys(), []);
    assert_eq!(it.cf.violations(), [], "a client can't know");
    Ok(())
}

#[tokio::test]
async fn a_busy_instance_neither_gets_nor_loses_keys() -> Result<()> {
    let it = start().await?;
    let (key, _) = it.ask_for("a").await?;
    assert!(it.cf.begin_operation(INSTANCE, "update"));
    for request in [it.create("b")?, it.delete(&key)] {
        let detail = "There is an operation in progress for the service instance.";
        assert_eq!(it.refused(request).await?, detail);
    }
    let done = InstanceOperation { kind: "update", state: OperationState::Failed };
    assert!(it.cf.set_operation(INSTANCE, done));
    it.ask_for("b").await?;
    it.job_of(it.delete(&key)).await?;
    Ok(())
}

#[tokio::test]
async fn a_quota_ends_with_the_words_of_the_api() -> Result<()> {
    let space = Space::new("dev").instance(Instance::managed("db")).key_limit(1);
    let other = Space::new("test").instance(Instance::managed("test-db"));
    let acme = Organization::new("acme").space(space).space(other).key_limit(2);
    let it = start_with(FakeCloudFoundry::builder().without_organizations().organization(acme)).await?;
    it.cf.add_key("db", "one").context("an instance")?;
    let mut body = json!({
        "type": "key",
        "name": "two",
        "relationships": { "service_instance": { "data": { "guid": it.cf.instance_guid("db") } } },
    });
    let exceeded = |whose| format!("You have exceeded your {whose}'s limit for service binding of type key.");
    assert_eq!(it.refused(it.call(Method::POST, KEYS).json(&body)).await?, exceeded("space"));
    body["relationships"]["service_instance"]["data"]["guid"] = json!(it.cf.instance_guid("test-db"));
    it.job_of(it.call(Method::POST, KEYS).json(&body)).await?;
    body["name"] = json!("three");
    assert_eq!(it.refused(it.call(Method::POST, KEYS).json(&body)).await?, exceeded("organization"));
    Ok(())
}

#[tokio::test]
async fn only_metadata_can_be_changed() -> Result<()> {
    let it = start().await?;
    let (key, _) = it.ask_for("a").await?;
    let change =
        json!({ "labels": { "team": "data", "example.com/owner": null }, "annotations": { "uid": "2" } });
    let (status, shown) = crate::client::answer(it.update(&path(&key), &change).send().await?).await?;
    assert_eq!((status, &shown["metadata"]["labels"]), (200, &json!({ "team": "data" })));
    let key = it.cf.key(&key.guid).context("a key")?;
    assert_eq!((key.labels["team"].as_str(), key.annotations["uid"].as_str()), ("data", "2"));
    assert_eq!(it.update(&format!("{KEYS}/unknown"), &change).send().await?.status(), 404);
    Ok(())
}

#[tokio::test]
async fn keys_come_and_go_behind_the_clients_backs() -> Result<()> {
    let it = start().await?;
    let by_hand = it.cf.add_key(INSTANCE, "by-hand").context("an instance")?;
    let labelled = it.cf.add_labelled_key(INSTANCE, "labelled", [("owner", "me")]).context("an instance")?;
    assert!(by_hand.is_live() && by_hand.labels.is_empty() && by_hand.credentials.is_some());
    assert_eq!(it.names(&format!("{KEYS}?label_selector=owner=me")).await?, ["labelled"]);
    assert_eq!(it.cf.add_key("unknown", "x"), None);
    assert!(it.cf.forget(&by_hand.guid) && !it.cf.forget(&by_hand.guid));
    assert_eq!(it.get(&path(&by_hand)).await?.0, 404);
    assert_eq!(it.cf.keys(), [labelled]);
    assert!(it.cf.forget_instance(INSTANCE) && !it.cf.forget_instance(INSTANCE));
    assert_eq!(it.cf.keys(), []);
    Ok(())
}
