//! Creates, finds, reads, renames and deletes keys.

use anyhow::{Context, Result};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::ibm_cloud::{Access, FakeIbmCloud, Instance, Login, Route, Rule};

use crate::client::{INSTANCE, INSTANCES, KEYS, MANAGER, answer, crn_path, names, path, start, start_with};

#[tokio::test]
async fn a_key_is_made_read_and_deleted() -> Result<()> {
    let it = start().await?;
    let (_, found) = it.get(&format!("{INSTANCES}?name={INSTANCE}")).await?;
    assert_eq!(names(&found)?, [INSTANCE]);
    assert_eq!(found["resources"][0]["crn"], json!(it.ibm.instance_crn(INSTANCE)));

    let key = it.created("monitoring-creds").await?;
    assert_eq!((&key["id"], &key["state"]), (&key["crn"], &json!("active")));
    assert_eq!(key["source_crn"], json!(it.ibm.instance_crn(INSTANCE)));
    assert_eq!(key["account_id"], json!(it.ibm.account_id()));
    assert_eq!(key["credentials"]["username"], "user-1");
    assert_eq!(key["credentials"]["iam_role_crn"], MANAGER);
    assert!(key["credentials"]["apikey"].is_string() && key["credentials"]["cos_hmac_keys"].is_object());

    let [made] = it.ibm.live_keys().try_into().ok().context("one key")?;
    assert_eq!(it.get(&path(&key)?).await?, (200, key.clone()));
    assert_eq!(it.get(&crn_path(&made)).await?, (200, key.clone()));
    let of_instance = format!("{INSTANCES}/{}/resource_keys", made.instance);
    assert_eq!(names(&it.get(&of_instance).await?.1)?, ["monitoring-creds"]);

    assert_eq!(it.delete(&crn_path(&made)).await?, 204);
    let (status, removed) = it.get(&path(&key)?).await?;
    assert_eq!((status, &removed["state"]), (200, &json!("removed")));
    assert!(removed["deleted_at"].is_string());
    assert_eq!(removed["credentials"], Value::Null);
    assert_eq!(it.delete(&path(&key)?).await?, 410);
    assert_eq!(names(&it.get(&of_instance).await?.1)?, [""; 0]);
    assert_eq!((it.ibm.live_keys(), it.ibm.keys().len()), (vec![], 1));
    Ok(())
}

#[tokio::test]
async fn names_of_keys_are_not_unique() -> Result<()> {
    let it = start().await?;
    let (first, second) = (it.created("a").await?, it.created("a").await?);
    assert_ne!(first["guid"], second["guid"]);
    assert_ne!(first["credentials"]["password"], second["credentials"]["password"]);
    assert_eq!(names(&it.get(&format!("{KEYS}?name=a")).await?.1)?, ["a", "a"]);
    assert_eq!(it.ibm.keys_named("a").len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_key_gets_another_name() -> Result<()> {
    let it = start().await?;
    let key = it.created("a").await?;
    let request = it.call(Method::PATCH, &path(&key)?).json(&json!({ "name": "b" }));
    let (status, renamed) = answer(request.send().await?).await?;
    assert_eq!((status, &renamed["name"], &renamed["guid"]), (200, &json!("b"), &key["guid"]));
    assert_eq!(it.ibm.keys_named("b").len(), 1);
    Ok(())
}

#[tokio::test]
async fn base_roles_are_called_by_name_and_all_others_by_crn() -> Result<()> {
    let instance = Instance::new("files").service("cloud-object-storage").roles(["Object Writer", "Writer"]);
    let it = start_with(FakeIbmCloud::builder().instance(instance.custom_role("Lister"))).await?;
    let mut body = it.body("a")?;
    body["source"] = json!(it.ibm.instance_crn("files"));
    let object_writer = "crn:v1:bluemix:public:iam::::serviceRole:ObjectWriter";
    let account = it.ibm.account_id();
    let lister = format!("crn:v1:bluemix:public:iam-access-management::a/{account}::customRole:Lister");
    for (role, crn) in [
        (json!("Writer"), json!("crn:v1:bluemix:public:iam::::serviceRole:Writer")),
        (json!(object_writer), json!(object_writer)),
        (json!(lister), json!(lister)),
        (json!("NONE"), Value::Null),
    ] {
        body["role"] = role;
        let (status, key) = answer(it.call(Method::POST, KEYS).json(&body).send().await?).await?;
        assert_eq!((status, &key["credentials"]["iam_role_crn"]), (201, &crn));
        assert!(key["credentials"]["apikey"].is_string());
    }
    body["role"] = json!("Manager");
    let refused = answer(it.call(Method::POST, KEYS).json(&body).send().await?).await?;
    assert_eq!((refused.0, it.ibm.violations()), (400, vec![]), "a client can't know which it has");
    for role in [json!("Object Writer"), json!("Lister")] {
        body["role"] = role;
        assert_eq!(it.call(Method::POST, KEYS).json(&body).send().await?.status(), 400);
    }
    body["role"] = Value::Null;
    assert_eq!(it.call(Method::POST, KEYS).json(&body).send().await?.status(), 201);
    let breaches: Vec<_> = it.ibm.take_violations().iter().map(|breach| breach.rule).collect();
    assert_eq!(breaches, [Rule::Role; 3], "what it makes of no role is not documented");
    let (_, roles) =
        it.get(&format!("/v2/roles?account_id={account}&service_name=cloud-object-storage")).await?;
    let named = |list: &str| -> Vec<(Value, Value)> {
        let roles = roles[list].as_array().into_iter().flatten();
        roles.map(|role| (role["display_name"].clone(), role["crn"].clone())).collect()
    };
    assert!(named("service_roles").contains(&(json!("Object Writer"), json!(object_writer))));
    assert_eq!(named("custom_roles"), [(json!("Lister"), json!(lister))]);
    assert_eq!(named("system_roles").len(), 4);
    Ok(())
}

#[tokio::test]
async fn keys_of_a_service_without_roles_have_nothing_of_iam() -> Result<()> {
    let it = start_with(FakeIbmCloud::builder().instance(Instance::database("orders"))).await?;
    let mut body = it.body("a")?;
    body["source"] = json!(it.ibm.instance_crn("orders"));
    for role in [Value::Null, json!("NONE")] {
        body["role"] = role;
        let (status, key) = answer(it.call(Method::POST, KEYS).json(&body).send().await?).await?;
        assert_eq!((status, &key["iam_compatible"]), (201, &json!(false)));
        assert!(key["credentials"]["password"].is_string() && key["credentials"].get("apikey").is_none());
    }
    body["role"] = json!("Reader");
    assert_eq!(it.call(Method::POST, KEYS).json(&body).send().await?.status(), 400);
    let service = "service_name=databases-for-postgresql";
    let (_, roles) = it.get(&format!("/v2/roles?account_id={}&{service}", it.ibm.account_id())).await?;
    assert_eq!(roles["service_roles"], json!([]));
    Ok(())
}

#[tokio::test]
async fn an_instance_has_room_for_so_many_keys() -> Result<()> {
    let builder = FakeIbmCloud::builder().without_instances();
    let it = start_with(builder.instance(Instance::new(INSTANCE).key_limit(2))).await?;
    let first = it.created("a").await?;
    it.created("b").await?;
    let (status, refused) = answer(it.create("c")?.send().await?).await?;
    assert_eq!((status, &refused["error_code"]), (422, &json!("RC-ServiceBrokerErrorResponse")));
    assert!(refused["message"].as_str().context("a message")?.contains("maximum number of 2"));
    assert_eq!(it.delete(&path(&first)?).await?, 204);
    it.created("c").await?;
    Ok(())
}

#[tokio::test]
async fn whoever_may_only_look_sees_no_credentials_and_makes_nothing() -> Result<()> {
    let viewer = Login::api_key("viewer", "k").access(Access::Viewer);
    let mut it = start_with(FakeIbmCloud::builder().login(viewer)).await?;
    let key = it.created("a").await?;
    it.token = it.ibm.issue_token("viewer");
    let (status, seen) = it.get(&path(&key)?).await?;
    assert_eq!((status, &seen["credentials"]), (200, &json!({ "REDACTED": "REDACTED" })));
    let (status, refused) = answer(it.create("b")?.send().await?).await?;
    assert_eq!((status, &refused["status_code"]), (403, &json!(403)));
    assert_eq!(it.delete(&path(&key)?).await?, 403);
    it.ibm.change_access("viewer", Access::None);
    assert_eq!(it.get(&path(&key)?).await?.0, 403);
    assert_eq!(names(&it.get(KEYS).await?.1)?, [""; 0]);
    assert_eq!(it.ibm.live_keys().len(), 1);
    Ok(())
}

#[tokio::test]
async fn what_happens_behind_the_clients_backs_is_seen() -> Result<()> {
    let it = start().await?;
    let key = it.ibm.add_key(INSTANCE, "by-hand").context("a key")?;
    assert_eq!(names(&it.get(KEYS).await?.1)?, ["by-hand"]);
    assert!(it.ibm.forget(&key.guid) && !it.ibm.forget(&key.guid));
    assert_eq!(it.delete(&crn_path(&key)).await?, 410);
    it.ibm.add_key_of_role(INSTANCE, "c", "Reader").context("a key")?;
    assert!(it.ibm.remove_instance(INSTANCE));
    assert_eq!(it.ibm.live_keys(), []);
    assert_eq!(names(&it.get(INSTANCES).await?.1)?, [""; 0]);
    assert_eq!(names(&it.get(&format!("{INSTANCES}?state=removed")).await?.1)?, [INSTANCE]);
    let (status, instance) = it.get(&format!("{INSTANCES}/{}", key.instance)).await?;
    assert_eq!((status, &instance["state"]), (200, &json!("removed")));
    assert!(it.ibm.forget_instance(INSTANCE) && !it.ibm.forget_instance(INSTANCE));
    assert_eq!(it.get(&format!("{INSTANCES}/{}", key.instance)).await?.0, 404);
    assert_eq!(it.get(&crn_path(&key)).await?.0, 404);
    assert_eq!(it.ibm.count(Route::Keys), 1);
    Ok(())
}

#[tokio::test]
async fn what_is_not_there_is_nobodys_fault() -> Result<()> {
    let it = start().await?;
    for path in [format!("{KEYS}/x"), format!("{INSTANCES}/x"), format!("{INSTANCES}/x/resource_keys")] {
        let (status, refused) = it.get(&path).await?;
        assert_eq!((status, &refused["error_code"]), (404, &json!("RC-DatabaseErrorResponse")), "{path}");
    }
    assert_eq!(it.delete(&format!("{KEYS}/x")).await?, 404);
    let mut body = it.body("a")?;
    body["source"] = json!("x");
    assert_eq!(it.call(Method::POST, KEYS).json(&body).send().await?.status(), 404);
    Ok(())
}
