//! The operator reports what IBM Cloud refuses, redacts or can't do, with the next step for the user.

use kube::api::{Patch, PatchParams};
use rstest::rstest;
use serde_json::{Value, json};
use servicekey_operator::api::Reason;
use testkit::ibm_cloud::{
    Access, FakeIbmCloud, Fault, Instance, InstanceState, Login, Quirks, Redaction, Removed, Route, Rule,
};

use crate::support::{
    conditions::Reports,
    ibm::{API_KEY, INSTANCE, IbmStage, KEY},
    stage::entries,
};

const AUDITING: &str = "audit-events";

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_api_key_is_told_without_showing_it() {
    let ibm = FakeIbmCloud::builder().tolerate(Rule::Secret).start().await.unwrap();
    ibm.change_secret("alice", "another-api-key");
    let stage = IbmStage::set_with(ibm).await;
    let _operator = stage.start_operator().await;
    let provider = stage.wait_ibm(false, Reason::Unauthorized).await;
    provider.says("BXNIM0415E: Provided API key could not be found");
    provider.says("check the entry `apikey`");
    assert!(!stage.everything_public().await.contains(API_KEY));
    stage.change_secret("ibm-login", json!({"apikey": "another-api-key"})).await;
    stage.wait_ibm(true, Reason::Available).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_dies_early_costs_no_key() {
    let stage = IbmStage::set().await;
    let _operator = stage.start_operator().await;
    stage.wait_for_provider("ibm").await;
    stage.ibm.revoke_tokens();
    stage.create_key(KEY).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    assert_eq!(stage.count(&[Route::Token]), 2);
    assert_eq!(stage.count(&[Route::CreateKey]), 1);
}

#[rstest]
#[case::unknown(json!({"name": "nowhere"}), Reason::InstanceNotFound, "the instance `nowhere` does not exist")]
#[case::twice(json!({"name": "twin"}), Reason::BindRejected, "name it by `crn` or `id`")]
#[case::being_made(json!({"name": "new"}), Reason::RemoteUnreachable, "is still being created")]
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_can_have_no_key_is_told(
    #[case] instance: Value,
    #[case] reason: Reason,
    #[case] words: &str,
) {
    let ibm = FakeIbmCloud::builder()
        .instance(Instance::new("twin"))
        .instance(Instance::new("twin"))
        .instance(Instance::new("new").state(InstanceState::Provisioning));
    let stage = IbmStage::set_with(ibm.start().await.unwrap()).await;
    let _operator = stage.start_operator().await;
    stage.create_key_with(KEY, json!({"instance": instance})).await;
    stage.wait_key(KEY, reason).await.says(words);
    assert_eq!(stage.count(&[Route::CreateKey]), 0);
    stage.delete_and_leave_no_key(KEY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_instances_of_one_name_than_a_page_holds_are_several() {
    let mut ibm = FakeIbmCloud::builder();
    for _ in 0..101 {
        ibm = ibm.instance(Instance::new("twin"));
    }
    let stage = IbmStage::set_with(ibm.start().await.unwrap()).await;
    let _operator = stage.start_operator().await;
    stage.wait_for_provider("ibm").await;
    let before = stage.count(&[Route::Instances]);
    stage.create_key_with(KEY, json!({"instance": {"name": "twin"}})).await;
    stage.wait_key(KEY, Reason::BindRejected).await.says("name it by `crn` or `id`");
    assert_eq!(
        stage.count(&[Route::Instances]) - before,
        1,
        "the first page already shows two such instances"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_the_service_does_not_have_is_told_with_those_that_it_has() {
    let stage = IbmStage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_key_with(KEY, json!({"ibmCloud": {"role": "Owner"}})).await;
    let key = stage.wait_key(KEY, Reason::BindRejected).await;
    key.says("has no role `Owner`");
    key.says("`Reader`");
    assert!(key.is_stalled());
    assert_eq!(stage.count(&[Route::CreateKey]), 0);
    stage.delete_and_leave_no_key(KEY).await;
}

#[rstest]
#[case::wrapped(Fault::wrapped_broker_error("the database is full"))]
#[case::flat(Fault::flat_broker_error("the database is full"))]
#[tokio::test(flavor = "multi_thread")]
async fn the_words_of_a_service_are_unwrapped(#[case] fault: Fault) {
    let stage = IbmStage::set().await;
    stage.ibm.inject(fault.on(Route::CreateKey));
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    let key = stage.wait_key(KEY, Reason::BindRejected).await;
    key.says("the database is full; this is the service's own message");
    stage.wait_ready_with_the_one_key(KEY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_keys_is_told_in_ibms_own_words() {
    let ibm = FakeIbmCloud::builder().without_instances().instance(Instance::new(INSTANCE).key_limit(1));
    let stage = IbmStage::set_with(ibm.start().await.unwrap()).await;
    let by_hand = stage.ibm.add_key(INSTANCE, "by-hand").unwrap();
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    let key = stage.wait_key(KEY, Reason::BindRejected).await;
    key.says("The maximum number of 1 service keys per instance is reached");
    assert!(key.is_stalled());
    stage.delete_key(KEY).await;
    stage.wait_gone(KEY).await;
    assert_eq!(stage.ibm.live_keys(), [by_hand]);
}

/// The operator sends the name of a base role without looking it up. Only the refusal shows that the service does not
/// have this role.
#[tokio::test(flavor = "multi_thread")]
async fn a_base_role_that_the_service_does_not_have_is_told_with_those_that_it_has() {
    let instance = Instance::new(INSTANCE).roles(["Reader"]);
    let ibm = FakeIbmCloud::builder().without_instances().instance(instance).start().await.unwrap();
    let stage = IbmStage::set_with(ibm).await;
    let _operator = stage.start_operator().await;
    stage.create_key_with(KEY, json!({"ibmCloud": {"role": "Manager"}})).await;
    let key = stage.wait_key(KEY, Reason::BindRejected).await;
    key.says(
        "the service `cloudantnosqldb` has no role `Manager`; create the ServiceKey again with one of these",
    );
    key.says("`NONE`, `Reader`");
    assert!(key.is_stalled());
    assert_eq!(stage.count(&[Route::CreateKey]), 1);
    stage.delete_and_leave_no_key(KEY).await;
}

/// The access of the operator's login decides, not the role of the key.
#[tokio::test(flavor = "multi_thread")]
async fn an_auditing_key_whose_service_key_the_login_may_not_see_is_told() {
    let editor = Login::api_key("editor", API_KEY).access(Access::Editor);
    let ibm = FakeIbmCloud::builder().without_logins().login(editor).instance(Instance::auditing(AUDITING));
    let stage = IbmStage::set_with(ibm.start().await.unwrap()).await;
    let _operator = stage.start_operator().await;
    let fields = json!({"instance": {"name": AUDITING}, "ibmCloud": {"role": "Manager"}});
    stage.create_key_with(KEY, fields).await;
    let key = stage.wait_key(KEY, Reason::CredentialsRedacted).await;
    key.says(
        "its credentials contain no `service_key`, which is shown only to a login with the service role Manager",
    );
    stage.ibm.change_access("editor", Access::Full);
    stage.wait_ready_with_the_one_key(KEY).await;
    assert_eq!(stage.count(&[Route::CreateKey]), 1, "the key stays");
    stage.delete_and_leave_no_key(KEY).await;
}

#[rstest]
#[case::lesser(Redaction::Redacted, "a role on the instance that is at least the key's own")]
#[case::explicit(
    Redaction::Explicit,
    "Administrator on the instance, which permits `resource-controller.credential.retrieve_all`"
)]
#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_redacted_at_their_creation_are_no_missing_key(
    #[case] redaction: Redaction,
    #[case] needs: &str,
) {
    let quirks = Quirks { redaction: Some(redaction), redacts_creations: true, ..Quirks::default() };
    let stage = IbmStage::set_with(FakeIbmCloud::builder().quirks(quirks).start().await.unwrap()).await;
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    let key = stage.wait_key(KEY, Reason::CredentialsRedacted).await;
    key.says("its credentials are not shown to this login");
    key.says(needs);
    stage.ibm.wait_for_calls(|calls| calls.iter().any(|call| call.route == Route::Key)).await.unwrap();
    assert_eq!(stage.count(&[Route::CreateKey, Route::DeleteKey]), 1, "the key stays");
    stage.ibm.change_quirks(|quirks| quirks.redaction = None);
    stage.wait_ready_with_the_one_key(KEY).await;
    assert_eq!(stage.count(&[Route::CreateKey]), 1);
    stage.delete_and_leave_no_key(KEY).await;
}

/// IBM Cloud shows these credentials once, and even then redacted. No lookup shows them again, so the user has to
/// request another key.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_shown_once_and_were_redacted_then_need_another_key() {
    let quirks =
        Quirks { redaction: Some(Redaction::Explicit), redacts_creations: true, ..Quirks::default() };
    let ibm = FakeIbmCloud::builder().without_instances().instance(Instance::new(INSTANCE).one_time());
    let stage = IbmStage::set_with(ibm.quirks(quirks).start().await.unwrap()).await;
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    let key = stage.wait_key(KEY, Reason::CredentialsRedacted).await;
    key.says("shown only in the answer to its creation");
    key.says("`servicekeys.dev/rotate`");
    stage.ibm.change_quirks(|quirks| quirks.redaction = None);
    let rotate = Patch::Merge(json!({"metadata": {"annotations": {"servicekeys.dev/rotate": "1"}}}));
    stage.keys().patch(KEY, &PatchParams::default(), &rotate).await.unwrap();
    stage.wait_ready_with_the_one_key(KEY).await;
    assert_eq!(stage.count(&[Route::CreateKey]), 2);
    stage.delete_and_leave_no_key(KEY).await;
}

/// If the Secret is deleted and the credentials can't be read again, the operator creates another key.
#[rstest]
#[case::shown_again(false, None, 1)]
#[case::shown_once(true, None, 2)]
#[case::shown_once_and_told_to_be_redacted(true, Some(Redaction::Explicit), 2)]
#[case::redacted(false, Some(Redaction::Redacted), 2)]
#[case::redacted_for_all_but_administrators(false, Some(Redaction::Explicit), 2)]
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_secret_is_repaired(
    #[case] one_time: bool,
    #[case] redaction: Option<Redaction>,
    #[case] sequence: u32,
) {
    let instance = if one_time { Instance::new(INSTANCE).one_time() } else { Instance::new(INSTANCE) };
    let quirks = Quirks { redaction, ..Quirks::default() };
    let ibm = FakeIbmCloud::builder().without_instances().instance(instance).quirks(quirks);
    let ibm = ibm.start().await.unwrap();
    let stage = IbmStage::set_with(ibm).await;
    let _operator = stage.start_operator().await;
    stage.create_key_with(KEY, json!({"rotation": {"overlap": "0s"}})).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    stage.secrets().delete(KEY, &Default::default()).await.unwrap();
    stage
        .wait(stage.secrets(), KEY, "there again", |secret| {
            secret.is_some_and(|secret| entries(secret).contains_key("apikey"))
        })
        .await;
    // A key that was replaced without the user's request stays for an hour.
    let keys = stage.ibm.wait_until(|keys| keys.len() == usize::try_from(sequence).unwrap()).await.unwrap();
    assert!(keys.iter().all(|key| !key.removed), "{keys:?}");
}

/// Changed templates and parameters do not wait for credentials that can't be read again.
#[rstest]
#[case::template(json!({"secret": {"template": {"data": {"key": "{{ apikey }}"}}}}), "key")]
#[case::parameters(json!({"parameters": {"HMAC": true}}), "cos_hmac_keys")]
#[tokio::test(flavor = "multi_thread")]
async fn redacted_credentials_hold_no_change_up(#[case] change: Value, #[case] entry: &str) {
    let quirks = Quirks { redaction: Some(Redaction::Explicit), ..Quirks::default() };
    let stage = IbmStage::set_with(FakeIbmCloud::builder().quirks(quirks).start().await.unwrap()).await;
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    stage.wait_ready(KEY).await;
    stage.secrets().delete(KEY, &Default::default()).await.unwrap();
    stage.change_key(KEY, change).await;
    stage
        .wait(stage.secrets(), KEY, "there with the change", |secret| {
            secret.is_some_and(|secret| entries(secret).contains_key(entry))
        })
        .await;
    let ready = stage.wait_ready(KEY).await;
    assert_eq!(ready.status.unwrap().key.unwrap().sequence, 2);
    assert_eq!(stage.count(&[Route::CreateKey]), 2);
    stage.delete_and_leave_no_key(KEY).await;
}

#[rstest]
#[case::shown(Removed::Shown, false)]
#[case::gone(Removed::Gone, false)]
#[case::not_found(Removed::NotFound, true)]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_deleted_is_gone_however_that_is_said(
    #[case] removed: Removed,
    #[case] forgets: bool,
) {
    let quirks = Quirks { removed, lists_show_removed: true, forgets_removed: forgets, ..Quirks::default() };
    let stage = IbmStage::set_with(FakeIbmCloud::builder().quirks(quirks).start().await.unwrap()).await;
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    let ready = stage.wait_ready_with_the_one_key(KEY).await;
    assert!(stage.ibm.forget(&ready.status.unwrap().key.unwrap().id));
    stage.delete_and_leave_no_key(KEY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_may_only_look_is_told() {
    let viewer = Login::api_key("viewer", API_KEY).access(Access::Viewer);
    let ibm = FakeIbmCloud::builder().without_logins().login(viewer).start().await.unwrap();
    let stage = IbmStage::set_with(ibm).await;
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    stage.wait_key(KEY, Reason::Unauthorized).await.says("the login needs the platform role Editor");
    assert_eq!(stage.ibm.live_keys(), []);
    stage.ibm.change_access("viewer", Access::Full);
    stage.wait_ready_with_the_one_key(KEY).await;
}
