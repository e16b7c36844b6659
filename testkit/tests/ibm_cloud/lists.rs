//! Lists, page by page.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use testkit::ibm_cloud::{FakeIbmCloud, Instance, InstanceState, Rule};

use crate::client::{Fixture, INSTANCE, INSTANCES, KEYS, SERVICE_IDS, names, start, start_with};

impl Fixture {
    /// The names on each page of a list of the Resource Controller.
    async fn pages(&self, first: &str) -> Result<Vec<Vec<String>>> {
        let mut pages = Vec::new();
        let mut next = Some(first.to_owned());
        while let Some(path) = next {
            let (status, page) = self.get(&path).await?;
            assert_eq!(status, 200, "{page}");
            let on_it = names(&page)?;
            assert_eq!(page["rows_count"], json!(on_it.len()));
            pages.push(on_it);
            next = page["next_url"].as_str().map(str::to_owned);
        }
        Ok(pages)
    }
}

#[tokio::test]
async fn keys_come_in_pages() -> Result<()> {
    let it = start_with(FakeIbmCloud::builder().instance(Instance::new("other"))).await?;
    for name in ["a", "b", "c", "d", "e"] {
        it.ibm.add_key(INSTANCE, name).context("a key")?;
    }
    it.ibm.add_key("other", "c").context("a key")?;
    assert_eq!(it.pages(&format!("{KEYS}?limit=4")).await?, [vec!["a", "b", "c", "d"], vec!["e", "c"]]);
    assert_eq!(it.pages(&format!("{KEYS}?name=c&limit=1")).await?, [["c"], ["c"]]);
    let guid = it.ibm.instance_guid(INSTANCE).context("an instance")?;
    let of_instance = format!("{INSTANCES}/{guid}/resource_keys?limit=5");
    assert_eq!(it.pages(&of_instance).await?, [["a", "b", "c", "d", "e"]]);
    Ok(())
}

#[tokio::test]
async fn a_page_that_nobody_sizes_is_small() -> Result<()> {
    let mut builder = FakeIbmCloud::builder();
    for number in 0..11 {
        builder = builder.instance(Instance::new(format!("i{number}")));
    }
    let it = start_with(builder).await?;
    let pages = it.pages(INSTANCES).await?;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [10, 2]);
    Ok(())
}

#[tokio::test]
async fn all_but_the_token_of_a_page_is_ignored() -> Result<()> {
    let it = start().await?;
    for name in ["a", "b", "a", "a"] {
        it.ibm.add_key(INSTANCE, name).context("a key")?;
    }
    let (_, first) = it.get(&format!("{KEYS}?name=a&limit=1")).await?;
    let next = first["next_url"].as_str().context("another page")?;
    assert!(next.starts_with("/v2/resource_keys?start="), "{next}");
    let (start, _) = next.split_once('&').context("a limit")?;
    assert_eq!(it.pages(&format!("{start}&name=b&limit=100")).await?, [["a"], ["a"]]);
    it.ibm.tolerate(Rule::Page);
    let token = start.split_once('=').context("a token")?.1;
    assert_eq!(it.get(&format!("{INSTANCES}?start={token}")).await?.0, 400, "it is that of another list");
    Ok(())
}

#[tokio::test]
async fn a_page_holds_what_is_made_and_deleted_meanwhile_at_most_once() -> Result<()> {
    let it = start().await?;
    for name in ["a", "b", "c"] {
        it.ibm.add_key(INSTANCE, name).context("a key")?;
    }
    let (_, first) = it.get(&format!("{KEYS}?limit=2")).await?;
    assert!(it.ibm.forget(&it.ibm.keys()[1].guid));
    it.ibm.add_key(INSTANCE, "d").context("a key")?;
    let rest = it.pages(first["next_url"].as_str().context("another page")?).await?;
    assert_eq!(rest, [["c", "d"]]);
    Ok(())
}

#[tokio::test]
async fn instances_are_found_by_what_they_are() -> Result<()> {
    let it = start_with(
        FakeIbmCloud::builder()
            .instance(Instance::new(INSTANCE).service("cloud-object-storage"))
            .instance(Instance::new("gone").state(InstanceState::Removed))
            .instance(Instance::new("new").state(InstanceState::Provisioning)),
    )
    .await?;
    let find = async |query: &str| names(&it.get(&format!("{INSTANCES}?{query}")).await?.1);
    assert_eq!(find("type=service_instance").await?, [INSTANCE, INSTANCE, "new"]);
    assert_eq!(find(&format!("name={INSTANCE}")).await?.len(), 2, "names are not unique");
    let by_both = format!("name={INSTANCE}&resource_id=cloud-object-storage-catalog-id");
    assert_eq!(find(&by_both).await?, [INSTANCE]);
    let guid = it.ibm.instance_guid("new").context("an instance")?;
    assert_eq!(find(&format!("guid={guid}")).await?, ["new"]);
    assert_eq!(find("state=removed").await?, ["gone"]);
    assert_eq!(find("type=other").await?, [""; 0]);
    Ok(())
}

#[tokio::test]
async fn service_ids_come_in_pages() -> Result<()> {
    let it = start().await?;
    for name in ["a", "b", "a"] {
        let _ = it.ibm.add_service_id(name);
    }
    let account = it.ibm.account_id();
    let named = |page: &Value| -> Vec<String> {
        let found = page["serviceids"].as_array().into_iter().flatten();
        found.filter_map(|one| one["name"].as_str().map(str::to_owned)).collect()
    };
    let (_, first) = it.get(&format!("{SERVICE_IDS}?account_id={account}&pagesize=2")).await?;
    assert_eq!(named(&first), ["a", "b"]);
    let next = first["next"].as_str().context("another page")?;
    let (_, token) = next.split_once('?').context("a query")?;
    let (_, last) = it.get(&format!("{SERVICE_IDS}?{token}")).await?;
    assert_eq!((named(&last), &last["next"]), (vec!["a".to_owned()], &Value::Null));
    let (_, named_a) = it.get(&format!("{SERVICE_IDS}?account_id={account}&name=a")).await?;
    assert_eq!(named(&named_a), ["a", "a"]);
    Ok(())
}
