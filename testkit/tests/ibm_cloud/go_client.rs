//! The real Go client finds, creates, reads, lists and deletes a key as in the field.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use testkit::ibm_cloud::{
    FakeIbmCloud, Fault, GoClientError, Grant, Instance, Quirks, Redaction, Route, Rule, go_client,
};

use crate::client::{INSTANCE, MANAGER, start_with};

const KEY: &str = "monitoring-creds";

/// An order for a key of this IBM Cloud, with this login.
fn order(ibm: &FakeIbmCloud, login: Value) -> Value {
    let mut order = json!({
        "iam": ibm.iam_url(),
        "controller": ibm.url(),
        "account": ibm.account_id(),
        "instance": INSTANCE,
        "service": "cloudantnosqldb",
        "role": "Manager",
        "key": KEY,
        "page_size": 2,
    });
    if let (Some(order), Value::Object(login)) = (order.as_object_mut(), login) {
        order.extend(login);
    }
    order
}

/// An IBM Cloud with two more instances, and two keys and two service IDs that a user created by hand.
async fn busy() -> Result<FakeIbmCloud> {
    let builder = FakeIbmCloud::builder()
        .instance(Instance::new("other").custom_role("Lister"))
        .instance(Instance::auditing("audit"));
    let ibm = start_with(builder).await?.ibm;
    for name in ["a", "b"] {
        ibm.add_key(INSTANCE, name).context("an instance")?;
        let _ = ibm.add_service_id(name);
    }
    Ok(ibm)
}

fn alice() -> Value {
    json!({ "apikey": "ibm-api-key" })
}

#[tokio::test]
async fn a_key_is_made_with_an_api_key() -> Result<()> {
    let ibm = busy().await?;
    let seen = go_client().await?.run(&order(&ibm, alice())).await?;
    assert_eq!(seen["differences"], json!([]), "the client's types are those of the answers");

    assert_eq!(seen["instances"], json!([[INSTANCE, "other"], ["audit"]]));
    assert_eq!(seen["instance"]["guid"], json!(ibm.instance_guid(INSTANCE)));
    assert_eq!(seen["instance"]["state"], "active");
    assert_eq!(seen["role"]["crn"], MANAGER);

    let (service_id, policy, created) = (&seen["service_id"], &seen["policy"], &seen["created"]);
    assert_eq!((&service_id["name"], &service_id["account_id"]), (&json!(KEY), &json!(ibm.account_id())));
    assert_eq!(seen["service_ids"], json!(["a", "b", KEY]));
    assert_eq!(policy["subjects"][0]["attributes"][0]["value"], service_id["iam_id"]);
    assert_eq!(policy["roles"][0]["role_id"], MANAGER);
    assert_eq!(seen["policies"], json!([policy["id"]]));
    let conflict = &seen["duplicate_policy"];
    assert_eq!(
        (&conflict["status"], &conflict["body"]["errors"][0]["code"]),
        (&json!(409), &json!("policy_conflict_error"))
    );

    assert_eq!((&created["name"], &created["state"]), (&json!(KEY), &json!("active")));
    assert_eq!(created["source_crn"], json!(ibm.instance_crn(INSTANCE)));
    assert_eq!(created["credentials"]["iam_serviceid_crn"], service_id["crn"]);
    assert_eq!(created["credentials"]["port"], 5432, "what the client does not know is passed on");
    assert!(
        created["credentials"]["cos_hmac_keys"].is_object() && created["credentials"]["apikey"].is_string()
    );
    assert_eq!((&seen["by_guid"], &seen["by_crn"]), (created, created));
    assert_eq!(seen["renamed"]["name"], "monitoring-creds-renamed");
    assert_eq!(seen["by_name"], json!(["monitoring-creds-renamed"]));
    assert_eq!(seen["pages"], json!([["a", "b"], ["monitoring-creds-renamed"]]));

    assert_eq!((&seen["removed"]["state"], &seen["removed"]["guid"]), (&json!("removed"), &created["guid"]));
    assert_eq!(seen["deleted_again"]["status"], 410);
    let said = seen["deleted_again"]["message"].as_str().context("a message")?;
    assert!(said.contains("The resource key is removed"), "{said}");
    for gone in ["policy_gone", "service_id_gone"] {
        let said = seen[gone]["message"].as_str().context("a message")?;
        assert!(seen[gone]["status"] == 404 && said.contains("cannot be found"), "{}", seen[gone]);
    }

    assert_eq!((ibm.live_keys().len(), ibm.service_ids().len(), ibm.policies().len()), (2, 2, 0));
    assert_eq!((ibm.granted(Grant::ApiKey), ibm.count(Route::Unknown)), (1, 0));
    Ok(())
}

#[tokio::test]
async fn a_key_is_made_with_a_trusted_profile() -> Result<()> {
    let ibm = busy().await?;
    let token = tempfile::NamedTempFile::new()?;
    std::fs::write(token.path(), "service-account-token")?;
    let login = json!({ "cr_token_file": token.path(), "profile_name": "operator" });
    let seen = go_client().await?.run(&order(&ibm, login)).await?;
    assert_eq!((&seen["removed"]["state"], &seen["differences"]), (&json!("removed"), &json!([])));
    assert_eq!(ibm.granted(Grant::ComputeResource), 1);
    let made = ibm.calls().into_iter().find(|call| call.route == Route::CreateKey).context("a call")?;
    assert_eq!(made.login.as_deref(), Some("operator"));
    Ok(())
}

#[tokio::test]
async fn what_is_redacted_is_understood_as_such() -> Result<()> {
    let ibm = busy().await?;
    ibm.change_quirks(|quirks| {
        *quirks = Quirks { redaction: Some(Redaction::Explicit), ..Quirks::default() };
    });
    let seen = go_client().await?.run(&order(&ibm, alice())).await?;
    assert!(seen["created"]["credentials"]["apikey"].is_string());
    assert_eq!(seen["by_guid"]["credentials"], json!({ "REDACTED": "REDACTED_EXPLICIT" }));
    assert_eq!(seen["differences"], json!([]));
    Ok(())
}

#[tokio::test]
async fn what_the_client_does_not_know_or_misses_is_seen() -> Result<()> {
    let ibm = busy().await?;
    let odd = |page: &mut Value| {
        page["resources"][0]["colour"] = json!("blue");
        page["resources"][0]["last_operation"] = json!({});
    };
    // The client reads two pages of all instances before it looks for its own.
    let same = Fault::edit(|_| ()).on(Route::Instances).times(2);
    ibm.inject(same);
    ibm.inject(Fault::edit(odd).on(Route::Instances));
    let seen = go_client().await?.run(&order(&ibm, alice())).await?;
    let differences = seen["differences"].as_array().context("a list")?;
    assert!(differences.contains(&json!("instances.resources[] has colour")), "{differences:?}");
    assert!(
        differences.contains(&json!("instances.resources[].last_operation lacks state")),
        "{differences:?}"
    );
    Ok(())
}

#[tokio::test]
async fn errors_are_understood() -> Result<()> {
    let ibm = busy().await?;
    let go = go_client().await?;
    let refusal = async |order: &Value| match go.run(order).await {
        Err(GoClientError::Refused { output, .. }) => Ok(output),
        other => bail!("{other:?}"),
    };
    ibm.tolerate(Rule::Secret);
    let said = refusal(&order(&ibm, json!({ "apikey": "guess" }))).await?;
    assert!(said.contains("Provided API key could not be found."), "{said}");

    ibm.change_quirks(|quirks| quirks.looks_without_new_keys = 1);
    let said = refusal(&order(&ibm, alice())).await?;
    assert!(said.contains("read the key: The resource key cannot be found"), "{said}");

    ibm.change_service_id_limit(Some(3));
    let said = refusal(&order(&ibm, alice())).await?;
    assert!(said.contains("make the service ID: The maximum number of 3 service IDs"), "{said}");
    Ok(())
}
