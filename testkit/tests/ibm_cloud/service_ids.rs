//! Service IDs, their policies, and the keys that are bound to them.

use anyhow::{Context, Result};
use reqwest::Method;
use serde_json::json;
use testkit::ibm_cloud::{FakeIbmCloud, Rule};

use crate::client::{KEYS, MANAGER, POLICIES, SERVICE_IDS, answer, path, start, start_with};

#[tokio::test]
async fn a_key_is_bound_to_a_service_id_with_a_policy() -> Result<()> {
    let it = start().await?;
    let (status, service_id) = answer(it.create_service_id("for a").send().await?).await?;
    assert_eq!(status, 201, "{service_id}");
    let iam_id = service_id["iam_id"].as_str().context("an iam_id")?;
    assert_eq!(iam_id, format!("iam-{}", service_id["id"].as_str().context("an id")?));
    let (status, policy) = answer(it.create_policy(&it.policy(iam_id)?).send().await?).await?;
    assert_eq!((status, &policy["state"]), (201, &json!("active")), "{policy}");
    assert_eq!(policy["roles"][0]["display_name"], "Manager");

    let mut body = it.body("a")?;
    body["parameters"] = json!({ "serviceid_crn": service_id["crn"] });
    let (status, key) = answer(it.call(Method::POST, KEYS).json(&body).send().await?).await?;
    assert_eq!((status, &key["credentials"]["iam_serviceid_crn"]), (201, &service_id["crn"]));
    let [made] = it.ibm.live_keys().try_into().ok().context("one key")?;
    assert_eq!(json!(made.service_id()), service_id["crn"]);
    let [known] = it.ibm.policies().try_into().ok().context("one policy")?;
    assert_eq!(
        (known.roles.as_slice(), known.attribute("serviceInstance")),
        (&[MANAGER.to_owned()][..], Some(made.instance.as_str()))
    );

    let account = it.ibm.account_id();
    let (_, listed) = it.get(&format!("{POLICIES}?account_id={account}&iam_id={iam_id}")).await?;
    assert_eq!(listed["policies"], json!([policy]));
    let (_, none) = it.get(&format!("{POLICIES}?account_id={account}&iam_id=iam-other")).await?;
    assert_eq!(none["policies"], json!([]));
    let policy_path = format!("{POLICIES}/{}", known.id);
    let service_id_path = format!("{SERVICE_IDS}/{}", it.ibm.service_ids()[0].id);
    assert_eq!(it.get(&policy_path).await?, (200, policy));
    assert_eq!(it.get(&service_id_path).await?, (200, service_id));

    for path in [path(&key)?, policy_path.clone(), service_id_path.clone()] {
        assert_eq!(it.delete(&path).await?, 204);
    }
    for path in [policy_path, service_id_path] {
        assert_eq!(it.delete(&path).await?, 404);
        assert_eq!(it.get(&path).await?.1["errors"][0]["code"], "not_found");
    }
    assert_eq!((it.ibm.service_ids(), it.ibm.policies()), (vec![], vec![]));
    Ok(())
}

#[tokio::test]
async fn a_service_id_outlives_its_keys() -> Result<()> {
    let it = start().await?;
    let service_id = it.ibm.add_service_id("for a");
    let mut body = it.body("a")?;
    body["parameters"] = json!({ "serviceid_crn": service_id.crn });
    assert_eq!(it.call(Method::POST, KEYS).json(&body).send().await?.status(), 201);
    let path = format!("{SERVICE_IDS}/{}", service_id.id);
    assert_eq!(it.delete(&path).await?, 204, "IAM does not mind");
    assert_eq!(it.ibm.take_violations()[0].rule, Rule::SafeOrder);
    assert_eq!((it.ibm.service_ids(), it.ibm.live_keys().len()), (vec![], 1));

    let again = it.ibm.add_service_id("for a");
    assert!(it.ibm.forget_service_id(&again.id), "this breaks no rule");
    Ok(())
}

#[tokio::test]
async fn policies_are_left_behind_unless_they_are_not() -> Result<()> {
    let it = start().await?;
    for goes in [false, true] {
        it.ibm.change_quirks(|quirks| quirks.policies_go_with_service_ids = goes);
        let service_id = it.ibm.add_service_id("for a");
        let policy = it.policy(&service_id.iam_id)?;
        assert_eq!(it.create_policy(&policy).send().await?.status(), 201);
        assert_eq!(it.delete(&format!("{SERVICE_IDS}/{}", service_id.id)).await?, 204);
        let left = it.ibm.policies();
        assert_eq!(left.len(), usize::from(!goes));
        assert!(left.iter().all(|policy| it.ibm.forget_policy(&policy.id)));
    }
    Ok(())
}

#[tokio::test]
async fn a_policy_that_is_there_already_is_named() -> Result<()> {
    let it = start().await?;
    let service_id = it.ibm.add_service_id("for a");
    let policy = it.policy(&service_id.iam_id)?;
    let (_, first) = answer(it.create_policy(&policy).send().await?).await?;
    let (status, refused) = answer(it.create_policy(&policy).send().await?).await?;
    assert_eq!((status, &refused["errors"][0]["code"]), (409, &json!("policy_conflict_error")));
    assert_eq!(refused["errors"][0]["details"]["conflicts_with"]["policy"], first["id"]);
    assert_eq!(it.ibm.policies().len(), 1);
    Ok(())
}

#[tokio::test]
async fn an_account_has_room_for_so_many_service_ids() -> Result<()> {
    let it = start_with(FakeIbmCloud::builder().service_id_limit(1)).await?;
    assert_eq!(it.create_service_id("a").send().await?.status(), 201);
    let (status, refused) = answer(it.create_service_id("b").send().await?).await?;
    assert_eq!((status, &refused["status_code"]), (400, &json!(400)));
    let message = refused["errors"][0]["message"].as_str().context("a message")?;
    assert_eq!(message, "The maximum number of 1 service IDs per account is reached.");
    it.ibm.change_service_id_limit(None);
    assert_eq!(it.create_service_id("b").send().await?.status(), 201);
    Ok(())
}
