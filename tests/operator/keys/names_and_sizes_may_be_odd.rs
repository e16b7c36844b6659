//! Credentials with odd names and sizes, and instances with odd ids. The operator writes what fits into a Secret and
//! reports what does not. No name or id escapes into a path or another field.

use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use rstest::rstest;
use serde_json::{Map, Value, json};
use servicekey_operator::api::{Reason, ServiceKey};
use testkit::broker::{CredentialsRecipe, FakeBroker, Fault, Instance, Pace, Route, StatusCode};

use crate::support::{
    conditions::Reports,
    stage::{Running, Stage, entries},
};

const NAME: &str = "monitoring-creds";

fn credentials(entries: &[(&str, &str)]) -> Map<String, Value> {
    entries.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect()
}

async fn stage_of(credentials: Map<String, Value>) -> (Stage, Running) {
    let recipe = CredentialsRecipe::new(move |_, _| credentials.clone());
    let stage = Stage::set_with(FakeBroker::builder().credentials(recipe).start().await.unwrap()).await;
    let operator = stage.start_operator().await;
    (stage, operator)
}

#[rstest]
#[case::path("../x", "___x")]
#[case::absolute("/etc/passwd", "_etc_passwd")]
#[case::parent("..", "__")]
#[case::empty("", "_")]
#[case::unicode("schlüssel 🔑", "schl_ssel__")]
#[case::longest(&"n".repeat(253), &"n".repeat(253))]
#[tokio::test]
async fn a_credential_of_an_odd_name_becomes_an_entry(#[case] name: &str, #[case] entry: &str) {
    let (stage, _operator) = stage_of(credentials(&[(name, "s3cret")])).await;
    stage.create_key(NAME).await;
    stage.wait_ready(NAME).await;
    let secret = stage.secrets().get(NAME).await.unwrap();
    assert_eq!(entries(&secret), [(entry.to_owned(), "s3cret".to_owned())].into());
    stage.delete_and_leave_nothing(NAME).await;
}

/// The operator revokes the key whose Secret can't be written, and creates another one once the Secret can be written.
#[rstest]
#[case::too_long(&["password", &"n".repeat(300)], "has 300 bytes, but the name of an entry may have at most 253")]
#[case::alike(&["a/b", "a_b", "password"], "`a/b` and `a_b` would both become the entry `a_b`")]
#[case::all_but_alike(&["../x", "..\\x", "password"], "would both become the entry `___x`")]
#[tokio::test]
async fn credentials_that_make_no_entries_are_reported_and_a_template_helps(
    #[case] names: &[&str],
    #[case] words: &str,
) {
    let named: Vec<_> = names.iter().map(|name| (*name, "s3cret")).collect();
    let (stage, _operator) = stage_of(credentials(&named)).await;
    stage.create_key(NAME).await;
    let key = stage.wait_key(NAME, Reason::CredentialsUnusable).await;
    key.says(words);
    key.says("with `spec.secret.template.data`");
    assert!(key.is_stalled());
    assert!(stage.secrets().get_opt(NAME).await.unwrap().is_none());

    let template = json!({"spec": {"secret": {"template": {"data": {"only": "{{ password }}"}}}}});
    stage.keys().patch(NAME, &PatchParams::default(), &Patch::Merge(&template)).await.unwrap();
    stage.wait_ready(NAME).await;
    let secret = stage.secrets().get(NAME).await.unwrap();
    assert_eq!(entries(&secret), [("only".to_owned(), "s3cret".to_owned())].into());
    // Before the operator creates the key again, it makes sure once more that the first one is gone.
    assert_eq!((stage.broker.count(Route::Bind), stage.broker.count(Route::Unbind)), (2, 2));
    stage.delete_and_leave_nothing(NAME).await;
}

#[tokio::test]
async fn a_key_whose_credentials_make_no_entries_can_be_deleted() {
    let (stage, _operator) = stage_of(credentials(&[("a/b", "s3cret"), ("a_b", "s3cret")])).await;
    stage.create_key(NAME).await;
    stage.wait_key(NAME, Reason::CredentialsUnusable).await;
    stage.delete_and_leave_nothing(NAME).await;
}

/// The largest permitted answer is smaller than the largest permitted Secret.
#[tokio::test]
async fn credentials_of_almost_a_mebibyte_fit() {
    let large = "x".repeat(1024 * 1024 - 100);
    let (stage, _operator) = stage_of(credentials(&[("large", &large)])).await;
    stage.create_key(NAME).await;
    stage.wait_ready(NAME).await;
    let secret = stage.secrets().get(NAME).await.unwrap();
    assert!(entries(&secret)["large"] == large);
    stage.delete_and_leave_nothing(NAME).await;
}

/// Every call names this instance: the bind, its polls, the fetch, the fetch that repairs the Secret, and the unbind.
#[rstest]
#[case::slashes("/db/../../v2/catalog/")]
#[case::percent("100%2F%zz%")]
#[case::query("db?service_id=other&plan_id=other#fragment")]
#[case::unicode("größe 鍵🔑")]
#[case::dots("...")]
#[tokio::test]
async fn an_instance_of_an_odd_id_keeps_its_keys_to_itself(#[case] id: &str) {
    let instance = Instance::new(id, "postgresql", "small");
    let broker = FakeBroker::builder().without_instances().instance(instance.clone()).pace(Pace::polls(0));
    let stage = Stage::set_for(broker.start().await.unwrap(), instance).await;
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    let fetches = stage.broker.count(Route::Fetch);
    stage.secrets().delete(NAME, &DeleteParams::default()).await.unwrap();
    stage.wait(stage.secrets(), NAME, "restored", |secret| secret.is_some()).await;
    assert_eq!(stage.broker.count(Route::Fetch), fetches + 1);
    stage.delete_and_leave_nothing(NAME).await;

    let calls = stage.broker.calls();
    let of_keys: Vec<_> = calls.iter().filter(|call| call.route != Route::Catalog).collect();
    assert!(of_keys.iter().all(|call| call.instance.as_deref() == Some(id)), "{of_keys:#?}");
    for route in [Route::Bind, Route::LastOperation, Route::Unbind] {
        assert!(stage.broker.count(route) > 0, "{route:?}");
    }
}

/// Such an id can't be corrected, but there is also nothing to clean up yet.
#[rstest]
#[case::here(json!({"id": "."}), "`.` can't be the id of an instance; create the ServiceKey again with the right `instance.id`")]
#[case::parent(json!({"id": ".."}), "`..` can't be the id of an instance; create the ServiceKey again with the right `instance.id`")]
#[case::name(json!({"name": "db"}), "an Open Service Broker needs `instance.id`; create the ServiceKey again with the id of the service instance")]
#[tokio::test]
async fn an_instance_that_no_broker_can_know_is_refused_at_once(
    #[case] instance: Value,
    #[case] words: &str,
) {
    let (stage, _operator) = stage_of(credentials(&[("password", "s3cret")])).await;
    let mut key = stage.key_manifest(NAME);
    key["spec"]["instance"] = instance;
    stage.create::<ServiceKey>(key).await;
    let key = stage.wait_key(NAME, Reason::BindRejected).await;
    key.says(words);
    assert!(key.is_stalled());
    assert!(key.finalizers().is_empty());
    stage.delete_and_leave_nothing(NAME).await;
    assert!(stage.broker.calls().iter().all(|call| call.route == Route::Catalog));
}

/// An Event's name begins with the name of its object, and has the same length limit.
#[rstest]
#[case::letters(&"n".repeat(253))]
#[case::dots(&format!("{}aa", "a.".repeat(125)))]
#[tokio::test]
async fn a_service_key_of_the_longest_name_has_events(#[case] name: &str) {
    let (stage, _operator) = stage_of(credentials(&[("password", "s3cret")])).await;
    stage.broker.inject(Fault::Status(StatusCode::BAD_REQUEST, json!({})).on(Route::Bind).forever());
    stage.create_key(name).await;
    stage.wait_key(name, Reason::BindRejected).await;
    stage.wait_event(name, Reason::BindRejected.as_str()).await;
    stage.broker.clear_faults();
    stage.delete_and_leave_nothing(name).await;
}
