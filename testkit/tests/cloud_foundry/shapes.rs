//! Resources have the shapes that the authors of the Go client recorded: the same fields, of the same types.

use anyhow::Result;
use serde_json::Value;
use testkit::cloud_foundry::{FakeCloudFoundry, Instance, Organization, Pace, Space};

use crate::client::{Fixture, INSTANCE, KEYS, path, start_with};

/// Objects whose content depends on the key: any names, with strings or numbers.
const OPAQUE: [&str; 3] = [".metadata.labels", ".metadata.annotations", ".credentials"];

async fn start() -> Result<Fixture> {
    let space = Space::new("other").instance(Instance::user_provided("mail"));
    let organization = Organization::new("other").space(space);
    start_with(FakeCloudFoundry::builder().organization(organization).pace(Pace::until_told())).await
}

/// The fields in which two shapes differ: `-` if the fake lacks one, `+` if it has one too many, `!` if the types
/// differ.
fn differences(recorded: &str, shown: &Value) -> Result<Vec<String>> {
    let mut found = Vec::new();
    compare(&serde_json::from_str(recorded)?, shown, "", &mut found);
    Ok(found)
}

fn compare(recorded: &Value, shown: &Value, path: &str, found: &mut Vec<String>) {
    match (recorded, shown) {
        (Value::Object(_), Value::Object(_)) if OPAQUE.contains(&path) => {}
        (Value::Object(recorded), Value::Object(shown)) => {
            for (name, value) in recorded {
                match shown.get(name) {
                    Some(other) => compare(value, other, &format!("{path}.{name}"), found),
                    None => found.push(format!("-{path}.{name}")),
                }
            }
            let more = shown.keys().filter(|name| !recorded.contains_key(*name));
            found.extend(more.map(|name| format!("+{path}.{name}")));
        }
        (Value::Array(recorded), Value::Array(shown)) => {
            if let (Some(recorded), Some(shown)) = (recorded.first(), shown.first()) {
                compare(recorded, shown, &format!("{path}[]"), found);
            }
        }
        // The recording does not show the type of the value if there is one.
        (Value::Null, _) => {}
        (recorded, shown) if std::mem::discriminant(recorded) == std::mem::discriminant(shown) => {}
        _ => found.push(format!("!{path}")),
    }
}

#[tokio::test]
async fn organizations_spaces_and_instances_have_the_recorded_shapes() -> Result<()> {
    let it = start().await?;
    let recorded = [
        ("/v3/organizations".to_owned(), include_str!("recorded/org.json")),
        ("/v3/spaces".to_owned(), include_str!("recorded/space.json")),
        (format!("/v3/service_instances?names={INSTANCE}"), include_str!("recorded/service_instance.json")),
        (
            "/v3/service_instances?names=mail".to_owned(),
            include_str!("recorded/service_instance_user_provided.json"),
        ),
    ];
    for (list, recorded) in recorded {
        let (_, shown) = it.get(&list).await?;
        assert_eq!(differences(recorded, &shown["resources"][0])?, [""; 0], "{list}");
    }
    Ok(())
}

#[tokio::test]
async fn keys_and_their_details_have_the_recorded_shapes() -> Result<()> {
    let it = start().await?;
    let (key, _) = it.ask_for("a").await?;
    assert!(it.cf.finish(&key.guid));
    let (_, list) = it.get(KEYS).await?;
    // The recordings are a binding of an app, and one whose broker returned no description. The documentation has the
    // description.
    let known = ["-.links.app", "-.relationships.app", "+.last_operation.description"];
    let mut found =
        differences(include_str!("recorded/service_credential_binding.json"), &list["resources"][0])?;
    found.sort_by_key(|difference| known.iter().position(|known| known == difference));
    assert_eq!(found, known);

    let (_, details) = it.get(&format!("{}/details", path(&key))).await?;
    let recorded = include_str!("recorded/service_credential_binding_detail.json");
    // Only bindings of apps have this field.
    assert_eq!(differences(recorded, &details)?, ["-.syslog_drain_url", "-.volume_mounts"]);
    Ok(())
}

#[tokio::test]
async fn jobs_have_the_recorded_shapes() -> Result<()> {
    let it = start().await?;
    let (made, job) = it.ask_for("a").await?;
    assert!(it.cf.finish(&made.guid));
    let (_, complete) = it.get(&job).await?;
    // The recorded binding had lost its app.
    let link = "+.links.service_credential_binding";
    assert_eq!(differences(include_str!("recorded/job.json"), &complete)?, [link]);

    let (failed, job) = it.ask_for("b").await?;
    assert!(it.cf.fail(&failed.guid, "the disk is full"));
    let (_, failed) = it.get(&job).await?;
    assert_eq!(differences(include_str!("recorded/job_failed.json"), &failed)?, [link]);
    Ok(())
}

#[test]
fn a_difference_is_found() -> Result<()> {
    let shown = serde_json::json!({ "a": 1, "b": { "d": "", "e": [{ "g": 1 }] }, "metadata": { "labels": { "x": "" } } });
    let recorded = r#"{"a":"","b":{"c":1,"d":null,"e":[{"f":1}]},"metadata":{"labels":{}}}"#;
    assert_eq!(differences(recorded, &shown)?, ["!.a", "-.b.c", "-.b.e[].f", "+.b.e[].g"]);
    Ok(())
}
