//! Lists of keys: filters, selectors, pages.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use testkit::cloud_foundry::{FakeCloudFoundry, Instance, Organization, Route, Space};

use crate::client::{Fixture, INSTANCE, KEYS, names, start, start_with};

/// Five keys of two instances, with labels.
async fn five() -> Result<Fixture> {
    let space = Space::new("test").instance(Instance::managed("other-db"));
    let it =
        start_with(FakeCloudFoundry::builder().organization(Organization::new("other").space(space))).await?;
    for (name, owner) in [("a", "me"), ("b", "me"), ("c", "you")] {
        it.cf
            .add_labelled_key(INSTANCE, name, [("example.com/owner", owner), (name, "")])
            .context("an instance")?;
    }
    for name in ["d", "e"] {
        it.cf.add_key("other-db", name).context("an instance")?;
    }
    Ok(it)
}

#[tokio::test]
async fn filters_narrow_a_list_and_all_have_to_match() -> Result<()> {
    let it = five().await?;
    let guid = |name| it.cf.key_named(INSTANCE, name).map(|key| key.guid).unwrap_or_default();
    let other = it.cf.instance_guid("other-db").unwrap_or_default();
    let filters = [
        (String::new(), vec!["a", "b", "c", "d", "e"]),
        ("names=b,e,x".into(), vec!["b", "e"]),
        (format!("guids={},{}", guid("a"), guid("c")), vec!["a", "c"]),
        (format!("service_instance_guids={other}"), vec!["d", "e"]),
        (format!("service_instance_names={INSTANCE}&names=a,d"), vec!["a"]),
        ("type=key&names=a".into(), vec!["a"]),
        ("type=app".into(), vec![]),
        ("order_by=-name&names=a,b".into(), vec!["b", "a"]),
        ("order_by=-created_at".into(), vec!["e", "d", "c", "b", "a"]),
    ];
    for (filter, found) in filters {
        assert_eq!(it.names(&format!("{KEYS}?{filter}")).await?, found, "{filter}");
    }
    Ok(())
}

#[tokio::test]
async fn labels_select() -> Result<()> {
    let it = five().await?;
    let selectors = [
        ("example.com/owner=me", vec!["a", "b"]),
        ("example.com/owner==me,!a", vec!["b"]),
        ("example.com/owner", vec!["a", "b", "c"]),
        ("!example.com/owner", vec!["d", "e"]),
        ("example.com/owner in (you,them)", vec!["c"]),
        ("example.com/owner notin (me)", vec!["c", "d", "e"]),
        ("example.com/owner!=me", vec!["c", "d", "e"]),
    ];
    for (selector, found) in selectors {
        let selector: String = form_urlencoded::byte_serialize(selector.as_bytes()).collect();
        assert_eq!(it.names(&format!("{KEYS}?label_selector={selector}")).await?, found, "{selector}");
    }
    Ok(())
}

#[tokio::test]
async fn pages_link_to_each_other() -> Result<()> {
    let it = five().await?;
    let (_, first) = it.get(&format!("{KEYS}?per_page=2&names=a,b,c,d,e")).await?;
    let pagination = &first["pagination"];
    assert_eq!((&pagination["total_results"], &pagination["total_pages"]), (&json!(5), &json!(3)));
    assert_eq!(pagination["previous"], Value::Null);
    assert!(pagination["last"]["href"].as_str().is_some_and(|href| href.contains("page=3&per_page=2")));

    let (mut found, mut next) = (names(&first)?, pagination["next"].clone());
    while let Some(href) = next["href"].as_str() {
        let (_, page) = it.get(href.strip_prefix(&it.cf.url()).context("a link to the same host")?).await?;
        found.extend(names(&page)?);
        assert!(page["pagination"]["previous"]["href"].is_string());
        next = page["pagination"]["next"].clone();
    }
    assert_eq!(found, ["a", "b", "c", "d", "e"]);
    assert_eq!(it.cf.count(Route::Keys), 3);
    assert_eq!(it.names(&format!("{KEYS}?per_page=2&page=9")).await?, [""; 0]);
    Ok(())
}

#[tokio::test]
async fn pages_can_be_smaller_than_a_client_wants_them() -> Result<()> {
    let it = five().await?;
    it.cf.change_page_limit(Some(2));
    let (_, page) = it.get(&format!("{KEYS}?per_page=5000")).await?;
    assert_eq!(names(&page)?, ["a", "b"]);
    let next = page["pagination"]["next"]["href"].as_str().context("more pages")?;
    assert!(next.contains("page=2&per_page=2"), "{next}");
    it.cf.change_page_limit(None);
    assert_eq!(it.names(&format!("{KEYS}?per_page=5000")).await?.len(), 5);
    Ok(())
}

#[tokio::test]
async fn a_list_has_50_resources_on_a_page_unless_asked_otherwise() -> Result<()> {
    let it = start().await?;
    for number in 0..51 {
        it.cf.add_key(INSTANCE, &format!("key-{number}"));
    }
    assert_eq!(it.names(KEYS).await?.len(), 50);
    assert_eq!(it.names(&format!("{KEYS}?per_page=5000")).await?.len(), 51);
    Ok(())
}

#[tokio::test]
async fn keys_come_with_their_instances_where_that_is_asked_for() -> Result<()> {
    let it = five().await?;
    let (_, list) = it.get(&format!("{KEYS}?include=service_instance")).await?;
    let included = list["included"]["service_instances"].as_array().context("instances")?;
    let included: Vec<_> = included.iter().map(|instance| &instance["name"]).collect();
    assert_eq!(included, [INSTANCE, "other-db"]);
    assert_eq!(it.get(KEYS).await?.1["included"], Value::Null);
    let guid = it.cf.key_named(INSTANCE, "a").map(|key| key.guid).unwrap_or_default();
    let (_, key) = it.get(&format!("{KEYS}/{guid}?include=service_instance")).await?;
    assert_eq!(key["included"]["service_instances"][0]["name"], INSTANCE);
    Ok(())
}
