//! Answers to a correct client.

use anyhow::{Context, Result};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::broker::{
    BindingMetadata, Catalog, CredentialsRecipe, FakeBroker, Instance, Login, Offering, Plan, Route,
};
use uuid::Uuid;

use crate::client::{INSTANCE, answer, start, start_with};

#[tokio::test]
async fn a_binding_lives_from_bind_to_unbind() -> Result<()> {
    let it = start().await?;
    let id = Uuid::new_v4();

    let (status, bound) = answer(it.bind(id)?.send().await?).await?;
    assert_eq!(status, 201);
    assert!(bound["credentials"]["port"].is_number());
    assert!(bound["credentials"]["ca"].as_str().is_some_and(|pem| pem.lines().count() > 2));
    let (status, fetched) = answer(it.fetch(id).send().await?).await?;
    assert_eq!((status, &fetched["credentials"]), (200, &bound["credentials"]));
    assert_eq!(fetched["parameters"], json!({ "permissions": "read-only" }));

    let [binding] = it.broker.bindings().try_into().ok().context("one binding lives")?;
    assert_eq!((binding.id, binding.instance.as_str(), binding.number), (id, INSTANCE, 1));
    assert_eq!(Value::Object(binding.credentials), bound["credentials"]);

    assert_eq!(answer(it.unbind(id)?.send().await?).await?, (200, json!({})));
    assert_eq!(it.broker.bindings(), []);
    assert_eq!(it.fetch(id).send().await?.status(), 404);
    assert_eq!(answer(it.unbind(id)?.send().await?).await?, (410, json!({})));
    it.broker.assert_clean();
    Ok(())
}

#[tokio::test]
async fn every_call_is_recorded_in_order_with_its_answer() -> Result<()> {
    let it = start().await?;
    let id = Uuid::new_v4();
    it.call(Method::GET, "/v2/catalog").send().await?;
    it.bind(id)?.send().await?;
    it.unbind(id)?.send().await?;

    let calls = it.broker.calls();
    let seen: Vec<_> = calls.iter().map(|call| (call.route, call.status)).collect();
    assert_eq!(seen, [(Route::Catalog, Some(200)), (Route::Bind, Some(201)), (Route::Unbind, Some(200))]);
    assert_eq!(calls[1].binding, Some(id.to_string()));
    assert_eq!(calls[1].instance.as_deref(), Some(INSTANCE));
    assert_eq!(calls[1].body, Some(it.body()?));
    let user = calls[1].originating_identity.as_ref().context("the user is recorded")?;
    assert_eq!((user.username.as_str(), user.groups.as_slice()), ("alice", &["dev".to_owned()][..]));
    assert_eq!(it.broker.count(Route::Bind), 1);
    Ok(())
}

#[tokio::test]
async fn the_same_bind_again_gives_the_same_credentials_and_no_second_key() -> Result<()> {
    let it = start().await?;
    let id = Uuid::new_v4();
    let (_, first) = answer(it.bind(id)?.send().await?).await?;
    let (status, second) = answer(it.bind(id)?.send().await?).await?;
    assert_eq!(status, 200);
    assert_eq!(first, second);
    assert_eq!(it.broker.bindings().len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_bind_that_differs_anywhere_conflicts() -> Result<()> {
    let it = start().await?;
    let id = Uuid::new_v4();
    it.bind(id)?.send().await?.error_for_status()?;
    let differences = [
        ("parameters", json!({ "permissions": "all" })),
        ("context", json!({ "platform": "kubernetes", "namespace": "other" })),
        ("bind_resource", json!({ "app_guid": "x" })),
    ];
    for (field, value) in differences {
        let mut body = it.body()?;
        body[field] = value;
        let (status, _) = answer(it.bind(id)?.json(&body).send().await?).await?;
        assert_eq!(status, 409, "{field}");
    }
    Ok(())
}

#[tokio::test]
async fn two_bindings_share_no_secret() -> Result<()> {
    let it = start().await?;
    let (_, one) = answer(it.bind(Uuid::new_v4())?.send().await?).await?;
    let (_, two) = answer(it.bind(Uuid::new_v4())?.send().await?).await?;
    for secret in ["username", "password", "uri"] {
        assert_ne!(one["credentials"][secret], two["credentials"][secret], "{secret}");
    }
    Ok(())
}

#[tokio::test]
async fn an_unknown_instance_is_not_the_clients_fault() -> Result<()> {
    let it = start().await?;
    let id = Uuid::new_v4();
    assert!(it.broker.forget_instance(INSTANCE));
    let (status, body) = answer(it.bind(id)?.send().await?).await?;
    assert_eq!(status, 404);
    assert!(body["description"].is_string());
    assert_eq!(it.unbind(id)?.send().await?.status(), 410);
    Ok(())
}

#[tokio::test]
async fn an_instance_id_is_decoded_once() -> Result<()> {
    let odd = Instance { name: "odd".into(), ..Instance::new("a/b %2F", "postgresql", "small") };
    let it = start_with(FakeBroker::builder().instance(odd)).await?;
    let path = format!("/v2/service_instances/a%2Fb%20%252F/service_bindings/{}", Uuid::new_v4());
    let response = it.call(Method::PUT, &path).json(&it.body()?).send().await?;
    assert_eq!(response.status(), 201);
    Ok(())
}

#[tokio::test]
async fn an_instance_tells_its_offering_and_plan() -> Result<()> {
    let it = start().await?;
    let path = format!("/v2/service_instances/{INSTANCE}");
    let (status, body) = answer(it.call(Method::GET, &path).send().await?).await?;
    assert_eq!((status, body), (200, json!({ "service_id": it.service_id()?, "plan_id": it.plan_id()? })));
    Ok(())
}

#[tokio::test]
async fn a_rotatable_plan_lets_a_bind_name_its_predecessor() -> Result<()> {
    let instance = Instance::new(INSTANCE, "postgresql", "rotating");
    let it = start_with(FakeBroker::builder().without_instances().instance(instance)).await?;
    let it = it.asking_for("postgresql", "rotating");
    let (old, new) = (Uuid::new_v4(), Uuid::new_v4());
    it.bind(old)?.send().await?.error_for_status()?;
    let mut body = it.body()?;
    body["predecessor_binding_id"] = json!(old);
    assert_eq!(it.bind(new)?.json(&body).send().await?.status(), 201);

    let bindings = it.broker.bindings();
    let seen: Vec<_> = bindings.iter().map(|binding| (binding.id, binding.predecessor)).collect();
    assert_eq!(seen, [(old, None), (new, Some(old))]);
    it.broker.forget(old);
    assert_eq!(it.bind(new)?.json(&body).send().await?.status(), 200, "a repetition stays one");
    Ok(())
}

#[tokio::test]
async fn a_binding_can_vanish_behind_the_clients_back() -> Result<()> {
    let it = start().await?;
    let id = Uuid::new_v4();
    it.bind(id)?.send().await?.error_for_status()?;
    assert!(it.broker.forget(id));
    assert!(!it.broker.forget(id));
    assert_eq!(it.fetch(id).send().await?.status(), 404);
    Ok(())
}

#[tokio::test]
async fn a_crowded_catalog_is_served_whole() -> Result<()> {
    let it = start_with(FakeBroker::builder().catalog(Catalog::training().crowded(2_000))).await?;
    let (_, catalog) = answer(it.call(Method::GET, "/v2/catalog").send().await?).await?;
    let services = catalog["services"].as_array().context("a list of services")?;
    let plans: usize = services.iter().filter_map(|service| service["plans"].as_array()).map(Vec::len).sum();
    assert!(plans > 2_000);
    Ok(())
}

#[tokio::test]
async fn a_recipe_of_ones_own_makes_the_credentials() -> Result<()> {
    let recipe = CredentialsRecipe::new(|instance, number| {
        [("token".to_owned(), json!(format!("{}-{number}", instance.id)))].into_iter().collect()
    });
    let it = start_with(FakeBroker::builder().credentials(recipe)).await?;
    let (_, body) = answer(it.bind(Uuid::new_v4())?.send().await?).await?;
    assert_eq!(body, json!({ "credentials": { "token": "training-app-db-1" } }));
    Ok(())
}

#[tokio::test]
async fn metadata_says_when_a_binding_ends() -> Result<()> {
    let recipe = CredentialsRecipe::postgresql().metadata(|number| BindingMetadata {
        expires_at: Some(format!("203{number}-01-01T00:00:00.0Z")),
        renew_before: (number == 1).then(|| "2030-06-01T00:00:00.0Z".to_owned()),
    });
    let it = start_with(FakeBroker::builder().credentials(recipe)).await?;
    let (one, two) = (Uuid::new_v4(), Uuid::new_v4());
    let (_, bound) = answer(it.bind(one)?.send().await?).await?;
    let both = json!({ "expires_at": "2031-01-01T00:00:00.0Z", "renew_before": "2030-06-01T00:00:00.0Z" });
    assert_eq!(bound["metadata"], both);
    for again in [it.bind(one)?, it.fetch(one)] {
        assert_eq!(answer(again.send().await?).await?.1["metadata"], both);
    }
    let (_, bound) = answer(it.bind(two)?.send().await?).await?;
    assert_eq!(bound["metadata"], json!({ "expires_at": "2032-01-01T00:00:00.0Z" }));
    assert_eq!(it.broker.bindings()[1].metadata.renew_before, None);
    Ok(())
}

#[tokio::test]
async fn credentials_can_be_shown_once() -> Result<()> {
    let builder = || FakeBroker::builder().credentials(CredentialsRecipe::postgresql().shown_once());
    let instance = Instance::new(INSTANCE, "metrics", "basic");
    let it = start_with(builder().without_instances().instance(instance)).await?;
    let it = it.asking_for("metrics", "basic");
    let id = Uuid::new_v4();
    let (status, bound) = answer(it.bind(id)?.send().await?).await?;
    assert_eq!((status, bound["credentials"].is_object()), (201, true));
    assert_eq!(answer(it.bind(id)?.send().await?).await?, (200, json!({})));

    let it = start_with(builder()).await?;
    let (_, first) = answer(it.bind(id)?.send().await?).await?;
    let again = answer(it.bind(id)?.send().await?).await?;
    assert_eq!(again, (200, first), "what can be read back is no secret to keep");
    Ok(())
}

#[tokio::test]
async fn a_plan_can_limit_how_long_it_is_polled() -> Result<()> {
    let plan = Plan { maximum_polling_duration: Some(60), ..Plan::new("p-1", "small") };
    let catalog = Catalog::new([Offering::new("o-1", "postgresql").plan(plan)]);
    let it = start_with(FakeBroker::builder().catalog(catalog)).await?;
    let (_, catalog) = answer(it.call(Method::GET, "/v2/catalog").send().await?).await?;
    assert_eq!(catalog["services"][0]["plans"][0]["maximum_polling_duration"], 60);
    Ok(())
}

#[tokio::test]
async fn a_bearer_token_logs_in_and_a_login_can_change() -> Result<()> {
    let it = start_with(FakeBroker::builder().login(Login::None)).await?;
    let catalog = || it.call(Method::GET, "/v2/catalog");
    assert_eq!(catalog().send().await?.status(), 200);
    it.broker.change_login(Login::Bearer("token-1".into()));
    let mut request = catalog().build()?;
    request.headers_mut().insert("authorization", "Bearer token-1".parse()?);
    assert_eq!(it.client.execute(request).await?.status(), 200);
    Ok(())
}

#[tokio::test]
async fn debug_output_shows_no_secrets() -> Result<()> {
    let it = start_with(FakeBroker::builder()).await?;
    let mut body = it.body()?;
    body["parameters"] = json!({ "key": "secret-parameter" });
    let (_, bound) = answer(it.bind(Uuid::new_v4())?.json(&body).send().await?).await?;
    let password = bound["credentials"]["password"].as_str().context("a password")?;
    let login = Login::basic("operator", "broker-password");
    let shown = format!(
        "{:?} {:?} {:?} {:?} {login:?}",
        it.broker,
        it.broker.bindings(),
        it.broker.calls(),
        FakeBroker::builder().login(login.clone())
    );
    for secret in [password, "secret-parameter", "broker-password"] {
        assert!(!shown.contains(secret), "`{secret}` is in {shown}");
    }
    Ok(())
}
