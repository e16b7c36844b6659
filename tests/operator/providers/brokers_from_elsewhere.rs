//! The operator works with brokers on libraries of third parties: openbrokerapi for Python and brokerapi for Go. Each
//! library reads the specification in its own way. `docs/brokers.md` lists the differences.

use jiff::SignedDuration;
use kube::{ResourceExt, api::DeleteParams};
use rstest::rstest;
use serde_json::json;
use servicekey_operator::{
    api::{KeyProvider, Reason},
    testing::{Identity, Sequence},
};
use testkit::{
    broker::Work,
    library_broker::{Kind, State},
};

use crate::support::{
    conditions::{Reports, wait_for},
    elsewhere::{BRIEF, Elsewhere, Plan, SMALL, WITHOUT_FETCH},
};

const NAME: &str = "monitoring-creds";

#[rstest]
#[case::python(Kind::Python)]
#[case::python_routed(Kind::PythonRouted)]
#[case::python_in_background(Kind::PythonInBackground)]
#[case::go(Kind::Go)]
#[case::go_in_background(Kind::GoInBackground)]
#[tokio::test(flavor = "multi_thread")]
async fn each_servicekey_has_credentials_of_its_own_and_leaves_nothing(#[case] kind: Kind) {
    let elsewhere = Elsewhere::with(kind).await;
    let _operator = elsewhere.stage.start_operator().await;
    elsewhere.create_key("one", SMALL, json!({})).await;
    elsewhere.create_key("two", SMALL, json!({})).await;
    elsewhere.stage.wait_all_ready(2).await;
    let (key, one) = elsewhere.wait_in_order("one").await;
    let (_, two) = elsewhere.wait_in_order("two").await;
    assert!(one.credentials["password"] != two.credentials["password"], "they share their credentials");
    assert_eq!(elsewhere.state().await.made, 2);
    // openbrokerapi has no field for the end of a binding.
    let says_when_it_ends = matches!(kind, Kind::Go | Kind::GoInBackground);
    assert_eq!(key.status.unwrap().key.unwrap().expires_at.is_some(), says_when_it_ends);

    elsewhere.stage.delete_key("one").await;
    elsewhere.stage.wait_gone("one").await;
    elsewhere.wait_in_order("two").await;
    elsewhere.delete_and_leave_nothing("two").await;
}

#[rstest]
#[case::python(Kind::Python)]
#[case::python_in_background(Kind::PythonInBackground)]
#[case::go(Kind::Go)]
#[case::go_in_background(Kind::GoInBackground)]
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_parameter_makes_a_new_key_and_the_old_one_goes_after_the_overlap(#[case] kind: Kind) {
    let elsewhere = Elsewhere::with(kind).await;
    let operator = elsewhere.stage.start_operator().await;
    let spec = json!({"parameters": {"role": "reader"}, "rotation": {"overlap": "1h"}});
    elsewhere.create_key(NAME, SMALL, spec).await;
    let (_, old) = elsewhere.wait_in_order(NAME).await;

    elsewhere.change_parameters(NAME, json!({"role": "writer"})).await;
    elsewhere.wait_for_key(NAME, 2, 1).await;
    let (_, new) = elsewhere.wait_in_order(NAME).await;
    assert!(new.credentials["password"] != old.credentials["password"], "the credentials are unchanged");
    assert_eq!(elsewhere.state().await.bindings.len(), 2, "the old key works during the overlap");

    drop(operator);
    let _later = elsewhere.stage.start_operator_ahead(SignedDuration::from_hours(2)).await;
    elsewhere.wait_for_key(NAME, 2, 0).await;
    elsewhere.wait_in_order(NAME).await;
    elsewhere.delete_and_leave_nothing(NAME).await;
}

#[rstest]
#[case::python(Kind::Python)]
#[case::python_in_background(Kind::PythonInBackground)]
#[case::go(Kind::Go)]
#[case::go_in_background(Kind::GoInBackground)]
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_secret_is_written_again_with_the_same_key(#[case] kind: Kind) {
    let elsewhere = Elsewhere::with(kind).await;
    let _operator = elsewhere.stage.start_operator().await;
    elsewhere.create_key(NAME, SMALL, json!({})).await;
    elsewhere.wait_in_order(NAME).await;

    delete_secret(&elsewhere).await;
    let (key, _) = elsewhere.wait_in_order(NAME).await;
    assert_eq!(key.status.unwrap().key.unwrap().sequence, 1);
    assert_eq!(elsewhere.state().await.binds, 1, "the operator fetched the existing binding");
    elsewhere.delete_and_leave_nothing(NAME).await;
}

/// openbrokerapi's router does not forward a fetch, whatever the catalog promises.
#[rstest]
#[case::python(Kind::Python, WITHOUT_FETCH)]
#[case::python_routed(Kind::PythonRouted, SMALL)]
#[case::go(Kind::Go, WITHOUT_FETCH)]
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_secret_is_restored_by_the_same_bind_where_there_is_no_fetch(
    #[case] kind: Kind,
    #[case] plan: Plan,
) {
    let elsewhere = Elsewhere::with(kind).await;
    let _operator = elsewhere.stage.start_operator().await;
    elsewhere.create_key(NAME, plan, json!({"rotation": {"overlap": "0s"}})).await;
    elsewhere.wait_in_order(NAME).await;

    delete_secret(&elsewhere).await;
    let (key, _) = elsewhere.wait_in_order(NAME).await;
    assert_eq!(key.status.unwrap().key.unwrap().sequence, 1);
    let state = elsewhere.state().await;
    assert_eq!((state.binds, state.made), (2, 1), "repeating the bind returned the same key");
    elsewhere.delete_and_leave_nothing(NAME).await;
}

/// Deletes the Secret, and waits until a new one exists.
async fn delete_secret(elsewhere: &Elsewhere) {
    let secrets = elsewhere.stage.secrets();
    let before = secrets.get(NAME).await.unwrap().uid();
    secrets.delete(NAME, &DeleteParams::default()).await.unwrap();
    elsewhere
        .stage
        .wait(secrets, NAME, "there again", |secret| secret.is_some_and(|secret| secret.uid() != before))
        .await;
}

/// Mistakes in the spec of a ServiceKey.
const NO_INSTANCE: &str = r#"{"instance": {"id": "nowhere", "offering": "database", "plan": "small"}}"#;
const NO_PLAN: &str = r#"{"instance": {"id": "training-app-db", "offering": "database", "plan": "huge"}}"#;
const BAD_ROLE: &str = r#"{"parameters": {"role": "king"}}"#;
const NOTHING: &str = "{}";

#[rstest]
// openbrokerapi answers 500 for its own exception; the next attempt follows the revocation.
#[case::no_instance_for_python(
    Kind::Python, SMALL, NO_INSTANCE, Reason::BindFailed,
    "the broker answers 500: Some error occurred, please contact your support or administrator",
)]
#[case::no_instance_for_go(
    Kind::Go, SMALL, NO_INSTANCE, Reason::InstanceNotFound,
    "the broker answers 404: instance does not exist; check `instance.id`",
)]
#[case::no_plan_for_python(
    Kind::Python, SMALL, NO_PLAN, Reason::InstanceNotFound,
    "the broker's offering `database` has no plan `huge`; create the ServiceKey again with another `instance.plan`: \
     one of `brief`, `small`",
)]
#[case::no_plan_for_go(
    Kind::Go, SMALL, NO_PLAN, Reason::InstanceNotFound,
    "the broker's offering `database` has no plan `huge`; create the ServiceKey again with another `instance.plan`: \
     one of `brief`, `small`",
)]
#[case::a_bad_parameter_for_python(
    Kind::Python, SMALL, BAD_ROLE, Reason::BindRejected,
    "the broker answers 400: `role` is neither reader nor writer",
)]
#[case::a_bad_parameter_for_go(
    Kind::Go, SMALL, BAD_ROLE, Reason::BindRejected,
    "the broker answers 400: `role` is neither reader nor writer",
)]
// The credentials could not be read afterwards, so the operator requests a synchronous bind, which the broker refuses.
#[case::only_in_background_and_shown_once_for_python(
    Kind::PythonInBackground, WITHOUT_FETCH, NOTHING, Reason::BindRejected,
    "the broker answers 422: This service plan requires client support for asynchronous service operations; the broker \
     creates keys of this plan only in the background, and does not show their credentials afterwards; choose another plan",
)]
#[case::only_in_background_and_shown_once_for_go(
    Kind::GoInBackground, WITHOUT_FETCH, NOTHING, Reason::BindRejected,
    "the broker answers 422: This service plan requires client support for asynchronous service operations; the broker \
     creates keys of this plan only in the background, and does not show their credentials afterwards; choose another plan",
)]
#[rustfmt::skip]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_in_the_brokers_words(
    #[case] kind: Kind,
    #[case] plan: Plan,
    #[case] mistake: &str,
    #[case] reason: Reason,
    #[case] words: &str,
) {
    let elsewhere = Elsewhere::with(kind).await;
    let _operator = elsewhere.stage.start_operator().await;
    elsewhere.create_key(NAME, plan, serde_json::from_str(mistake).unwrap()).await;
    elsewhere.stage.wait_key(NAME, reason).await.says(words);
    assert_eq!(elsewhere.state().await.made, 0);
    elsewhere.delete_and_leave_nothing(NAME).await;
}

#[rstest]
#[case::python(
    Kind::Python,
    "401: Could not verify your access level for that URL. You have to login with proper credentials; check the provider's login"
)]
// This broker's answer is plain text.
#[case::go(Kind::Go, "401: a body that is not JSON; check the provider's login")]
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_login_is_said_by_the_provider(#[case] kind: Kind, #[case] words: &str) {
    let elsewhere = Elsewhere::admitting(kind, ("operator", "another-password")).await;
    let _operator = elsewhere.stage.start_operator().await;
    let providers = elsewhere.stage.api::<KeyProvider>();
    wait_for(providers, "elsewhere", false, Reason::Unauthorized).await.says(words);
}

/// The binding has the id of the ServiceKey's first key, but other parameters, as if an answer had been lost before the
/// parameters were changed.
#[rstest]
#[case::python(Kind::Python)]
#[case::python_in_background(Kind::PythonInBackground)]
#[case::go(Kind::Go)]
#[case::go_in_background(Kind::GoInBackground)]
#[tokio::test(flavor = "multi_thread")]
async fn a_binding_that_is_in_the_way_is_replaced(#[case] kind: Kind) {
    let elsewhere = Elsewhere::with(kind).await;
    let key = elsewhere.create_key(NAME, SMALL, json!({"parameters": {"role": "writer"}})).await;
    let identity = Identity { owner: key.uid().unwrap().parse().unwrap(), sequence: Sequence::FIRST };
    let id = identity.binding_id().to_string();
    elsewhere.bind(&id, json!({"role": "reader"})).await;
    let before = elsewhere.state().await.bindings[&id].clone();

    let _operator = elsewhere.stage.start_operator().await;
    let (_, after) = elsewhere.wait_in_order(NAME).await;
    assert!(
        after.credentials["password"] != before.credentials["password"],
        "the binding is still the old one"
    );
    let state = elsewhere.state().await;
    assert_eq!((state.made, state.bindings.into_keys().collect()), (2, vec![id]));
    elsewhere.delete_and_leave_nothing(NAME).await;
}

/// The state of the broker's operation when the operator returns.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Meanwhile {
    StillAtWork,
    Done,
}

#[rstest]
#[case::python_still_at_work(Kind::PythonInBackground, Meanwhile::StillAtWork)]
#[case::python_done(Kind::PythonInBackground, Meanwhile::Done)]
#[case::go_still_at_work(Kind::GoInBackground, Meanwhile::StillAtWork)]
#[case::go_done(Kind::GoInBackground, Meanwhile::Done)]
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_was_away_carries_on_with_the_same_binding(
    #[case] kind: Kind,
    #[case] meanwhile: Meanwhile,
) {
    let elsewhere = Elsewhere::with(kind).await;
    elsewhere.broker.hold().await.unwrap();
    let first = elsewhere.stage.start_operator().await;
    elsewhere.create_key(NAME, SMALL, json!({})).await;
    let id = elsewhere.wait_for_work(Work::Bind).await;
    drop(first);
    if meanwhile == Meanwhile::Done {
        elsewhere.broker.release().await.unwrap();
    }

    let binds = elsewhere.state().await.binds;
    let _second = elsewhere.stage.start_operator().await;
    let asked_again = |state: &State| state.binds > binds;
    let state = elsewhere.broker.wait_until("called again", asked_again).await.unwrap();
    let work = (meanwhile == Meanwhile::StillAtWork).then_some(Work::Bind);
    assert_eq!(state.bindings[&id].work, work);
    elsewhere.broker.release().await.unwrap();
    let (key, _) = elsewhere.wait_in_order(NAME).await;
    assert_eq!(key.status.unwrap().key.unwrap().id, id);
    assert_eq!(elsewhere.state().await.made, 1);
    elsewhere.delete_and_leave_nothing(NAME).await;
}

/// These brokers allow one operation at a time.
#[rstest]
#[case::python(
    Kind::PythonInBackground,
    "422: The Service Broker does not support concurrent requests that mutate the same resource"
)]
#[case::go(Kind::GoInBackground, "422: instance is being updated and cannot be retrieved")]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_waits_until_the_broker_is_free(#[case] kind: Kind, #[case] words: &str) {
    let elsewhere = Elsewhere::with(kind).await;
    elsewhere.broker.hold().await.unwrap();
    let _operator = elsewhere.stage.start_operator().await;
    elsewhere.create_key("first", SMALL, json!({})).await;
    elsewhere.wait_for_work(Work::Bind).await;
    elsewhere.create_key("second", SMALL, json!({})).await;
    let key = elsewhere.stage.wait_key("second", Reason::RemoteUnreachable).await;
    key.says(words);
    key.says("another operation on the instance is in progress");

    elsewhere.broker.release().await.unwrap();
    elsewhere.stage.wait_all_ready(2).await;
    elsewhere.wait_in_order("first").await;
    elsewhere.wait_in_order("second").await;
    assert_eq!(elsewhere.state().await.made, 2, "no key was revoked because of the wait");
}

/// The broker refuses a revocation until it has created the key, and the operator that requested the key has ended.
#[rstest]
#[case::python(Kind::PythonInBackground)]
#[case::go(Kind::GoInBackground)]
#[tokio::test(flavor = "multi_thread")]
async fn a_servicekey_that_is_deleted_while_its_key_is_made_leaves_nothing(#[case] kind: Kind) {
    let elsewhere = Elsewhere::with(kind).await;
    elsewhere.broker.hold().await.unwrap();
    let first = elsewhere.stage.start_operator().await;
    elsewhere.create_key(NAME, SMALL, json!({})).await;
    elsewhere.wait_for_work(Work::Bind).await;
    drop(first);
    elsewhere.stage.delete_key(NAME).await;

    let _second = elsewhere.stage.start_operator().await;
    let key = elsewhere.stage.wait_key(NAME, Reason::RevokeFailed).await;
    key.says("another operation on the instance is in progress");
    elsewhere.broker.release().await.unwrap();
    elsewhere.leaves_nothing(NAME).await;
}

/// The broker has forgotten the binding by the time the operator polls. brokerapi then answers 410, which is a success.
/// openbrokerapi answers 500, so the operator revokes the key again after the plan's maximum polling duration.
#[rstest]
#[case::python(Kind::PythonInBackground)]
#[case::go(Kind::GoInBackground)]
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_forgets_what_it_revoked_is_believed(#[case] kind: Kind) {
    let elsewhere = Elsewhere::with(kind).await;
    let _operator = elsewhere.stage.start_operator().await;
    elsewhere.create_key(NAME, BRIEF, json!({})).await;
    elsewhere.wait_in_order(NAME).await;
    elsewhere.broker.hold().await.unwrap();
    elsewhere.stage.delete_key(NAME).await;
    elsewhere.wait_for_work(Work::Unbind).await;
    elsewhere.broker.release().await.unwrap();
    elsewhere.leaves_nothing(NAME).await;
}
