//! The operator reports a refusal of Cloud Foundry in Cloud Foundry's own words, with the next step for the user, and
//! leaves nothing behind.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};
use servicekey_operator::api::Reason;
use testkit::{
    Moment::AfterEffect,
    cloud_foundry::{
        FakeCloudFoundry, Fault, Grant, Instance, InstanceOperation, Login, OperationState, Organization,
        RateLimit, RefreshTokens, Role, Route, Rule, Space, StatusCode,
    },
};

use crate::support::{
    conditions::Reports,
    foundry::{FoundryStage, INSTANCE, KEY, PASSWORD, by_password},
};

const ODD_NAME: &str = "j\u{fc}rgen+cf@example.com";
const ODD_SECRET: &str = "a:b%41+c &d=e/f?\u{e4}\u{20ac}\"\\";

/// An estate with one instance for each possible problem.
async fn estate() -> FakeCloudFoundry {
    let twin = Instance::managed("twin");
    let other = Space::new("other").instance(twin.clone());
    let dev = Space::new("dev")
        .instance(Instance::managed(INSTANCE))
        .instance(Instance::managed("twin"))
        .instance(Instance::user_provided("by-hand"))
        .instance(Instance::managed("unbindable").unbindable())
        .shared(&twin);
    let acme = Organization::new("acme").space(other).space(dev);
    let crowded = Space::new("crowded").key_limit(0).instance(Instance::managed("full"));
    let other = Organization::new("other").space(crowded);
    FakeCloudFoundry::builder()
        .without_organizations()
        .organization(acme)
        .organization(other)
        .start()
        .await
        .unwrap()
}

#[rstest]
#[case::unknown(json!({"name": "nowhere"}), Reason::InstanceNotFound, "the instance `nowhere` does not exist in the space `dev` of the organization `acme`")]
#[case::unknown_guid(json!({"id": "nothing"}), Reason::InstanceNotFound, "check `instance.id`")]
#[case::twin(json!({"name": "twin"}), Reason::BindRejected, "exists more than once in the space `dev` of the organization `acme`; name it by `id`")]
#[case::user_provided(json!({"name": "by-hand"}), Reason::BindRejected, "is user-provided, and has no keys")]
#[case::unbindable(json!({"name": "unbindable"}), Reason::BindRejected, "Service plan does not allow bindings; choose an instance of another plan")]
#[case::of_a_broker(json!({"id": "x", "plan": "small", "offering": "postgresql"}), Reason::BindRejected, "`instance.offering` does not apply to a Cloud Foundry; leave it out")]
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_has_no_keys(#[case] instance: Value, #[case] reason: Reason, #[case] words: &str) {
    let stage = FoundryStage::set_with(estate().await).await;
    let _operator = stage.start_operator().await;
    stage.create_key_of(KEY, instance).await;
    stage.wait_key(KEY, reason).await.says(words);
    stage.delete_and_leave_no_key(KEY).await;
    assert!(!stage.everything_public().await.contains("KeyRevoked"), "there was no key to revoke");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_is_used_up() {
    let stage = FoundryStage::set_with(estate().await).await;
    let anywhere = kube::api::Patch::Merge(json!({"spec": {"cloudFoundry": {"instancesById": "Anywhere"}}}));
    let providers = stage.api::<servicekey_operator::api::KeyProvider>();
    providers.patch("foundry", &kube::api::PatchParams::default(), &anywhere).await.unwrap();
    let _operator = stage.start_operator().await;
    stage.create_key_of(KEY, json!({"id": stage.foundry.instance_guid("full").unwrap()})).await;
    let key = stage.wait_key(KEY, Reason::BindRejected).await;
    key.says("You have exceeded your space's limit for service binding of type key; delete unused keys");
    stage.delete_and_leave_no_key(KEY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_still_being_created_is_waited_for() {
    let stage = FoundryStage::set().await;
    let creating = InstanceOperation { kind: "create", state: OperationState::InProgress };
    assert!(stage.foundry.set_operation(INSTANCE, creating));
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    let key = stage.wait_key(KEY, Reason::RemoteUnreachable).await;
    key.says("the instance `training-app-db` is still being created");
    assert!(!key.is_stalled());
    let created = InstanceOperation { kind: "create", state: OperationState::Succeeded };
    assert!(stage.foundry.set_operation(INSTANCE, created));
    stage.wait_ready_with_the_one_key(KEY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_on_the_instance_is_waited_for() {
    let stage = FoundryStage::set().await;
    assert!(stage.foundry.begin_operation(INSTANCE, "update"));
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    let key = stage.wait_key(KEY, Reason::RemoteUnreachable).await;
    key.says(
        "There is an operation in progress for the service instance; the operator retries, and succeeds once that operation has ended",
    );
    let updated = InstanceOperation { kind: "update", state: OperationState::Succeeded };
    assert!(stage.foundry.set_operation(INSTANCE, updated));
    stage.wait_ready_with_the_one_key(KEY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_stays_with_its_owner() {
    let stage = FoundryStage::set().await;
    let theirs = stage.foundry.add_key(INSTANCE, KEY).unwrap();
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    let key = stage.wait_key(KEY, Reason::KeyConflict).await;
    key.says("the instance already has a key `monitoring-creds`, which belongs to another owner; delete it there, or");
    assert!(key.is_stalled());
    stage.delete_key(KEY).await;
    stage.wait_gone(KEY).await;
    assert_eq!(stage.foundry.keys(), [theirs]);
    assert_eq!(stage.count(&[Route::Delete]), 0);
}

#[rstest]
#[case::organization(json!({"organization": "nobody"}), "there is no organization `nobody` that the login may see; check `organization`")]
#[case::space(json!({"space": "nowhere"}), "there is no space `nowhere` that the login may see; check `space`")]
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_wrong(#[case] change: Value, #[case] words: &str) {
    let stage = FoundryStage::set().await;
    let patch = kube::api::Patch::Merge(json!({"spec": {"cloudFoundry": change}}));
    let providers = stage.api::<servicekey_operator::api::KeyProvider>();
    providers.patch("foundry", &kube::api::PatchParams::default(), &patch).await.unwrap();
    let _operator = stage.start_operator().await;
    stage.wait_foundry(Reason::InvalidSpec).await.says(words);
}

#[tokio::test(flavor = "multi_thread")]
async fn links_to_elsewhere_are_not_followed() {
    let stage = FoundryStage::set().await;
    let away = Fault::edit(|root| root["links"]["uaa"]["href"] = json!("https://uaa.example.com"));
    stage.foundry.inject(away.on(Route::Root).forever());
    let _operator = stage.start_operator().await;
    let provider = stage.wait_foundry(Reason::InvalidSpec).await;
    provider.says("the API's link `uaa` leads to `https://uaa.example.com`, which does not belong to");
    assert_eq!(stage.count(&[Route::Token]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_uaa_elsewhere_is_asked_where_the_provider_names_it() {
    let stage = FoundryStage::set().await;
    let away = Fault::edit(|root| root["links"]["uaa"]["href"] = json!("https://uaa.example.com"));
    stage.foundry.inject(away.on(Route::Root).forever());
    let named = json!({"spec": {"cloudFoundry": {"uaaUrl": stage.foundry.uaa_url()}}});
    let providers = stage.api::<servicekey_operator::api::KeyProvider>();
    let patch = kube::api::Patch::Merge(named);
    providers.patch("foundry", &kube::api::PatchParams::default(), &patch).await.unwrap();
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    stage.wait_ready_with_the_one_key(KEY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_does_not_tell_where_to_log_in() {
    let stage = FoundryStage::set().await;
    let silent = Fault::edit(|root| {
        for link in ["uaa", "login"] {
            root["links"][link] = Value::Null;
        }
    });
    stage.foundry.inject(silent.on(Route::Root).forever());
    let _operator = stage.start_operator().await;
    let provider = stage.wait_foundry(Reason::UnexpectedAnswer).await;
    provider.says("does not name a login server (link `uaa` or `login`); check `apiUrl`");
    assert_eq!(stage.count(&[Route::Token]), 0);
}

/// Routers answer like this if the server behind them is down.
#[rstest]
#[case::api(Route::Root, StatusCode::BAD_GATEWAY, "discovery failed: the API answers 502: an HTML page")]
#[case::uaa(
    Route::Token,
    StatusCode::SERVICE_UNAVAILABLE,
    "/oauth/token` failed: the server answers 503: an HTML page"
)]
#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_knows_no_way_is_told_and_waited_out(
    #[case] route: Route,
    #[case] status: StatusCode,
    #[case] words: &str,
) {
    let stage = FoundryStage::set().await;
    let operator = stage.start_operator().await;
    for name in [KEY, "reporting-creds"] {
        stage.create_key(name).await;
        stage.wait_ready(name).await;
    }
    drop(operator);
    stage.foundry.inject(Fault::Html(status).on(route).forever());
    stage.delete_key("reporting-creds").await;
    let _operator = stage.start_operator().await;
    stage.wait_foundry(Reason::RemoteUnreachable).await.says(words);
    stage.create_key("billing-creds").await;
    stage.wait_key("billing-creds", Reason::RemoteUnreachable).await.says(words);
    stage.wait_ready(KEY).await;
    assert_eq!(stage.foundry.live_keys().len(), 2, "no key is lost and none is created");

    stage.foundry.clear_faults();
    stage.wait_gone("reporting-creds").await;
    stage.wait_ready("billing-creds").await;
    assert_eq!(stage.foundry.live_keys().len(), 2);
    assert_eq!(stage.count(&[Route::Create]), 3);
}

/// The router answers 404, the status with which the API reports a missing object.
#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_knows_no_route_is_not_taken_for_the_api() {
    const WORDS: &str =
        "Cloud Foundry is not reachable behind its router, which answers 404: it has no such route";
    let stage = FoundryStage::set().await;
    let _operator = stage.start_operator().await;
    stage.wait_for_provider("foundry").await;
    stage.foundry.inject(Fault::unknown_route().on(Route::Create).forever());
    stage.create_key(KEY).await;
    let waiting = stage.wait_key(KEY, Reason::RemoteUnreachable).await;
    waiting.says(WORDS);
    assert!(!waiting.is_stalled());
    stage.foundry.clear_faults();
    stage.wait_ready_with_the_one_key(KEY).await;

    stage.foundry.inject(Fault::unknown_route().on(Route::Delete).forever());
    stage.delete_key(KEY).await;
    stage.wait_key(KEY, Reason::RevokeFailed).await.says(WORDS);
    assert_eq!(stage.foundry.live_keys().len(), 1);
    stage.foundry.clear_faults();
    stage.wait_gone(KEY).await;
    assert_eq!(stage.foundry.keys(), []);
}

#[rstest]
#[case::scope(10007, "CF-InsufficientScope", "lacks the scope `cloud_controller.write`")]
#[case::organization(10017, "CF-OrgSuspended", "activate the organization again")]
#[case::space(10019, "CF-SpaceSuspended", "activate the space again")]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_for_a_cause_of_its_own(#[case] code: u32, #[case] title: &str, #[case] words: &str) {
    let stage = FoundryStage::set().await;
    let refused = Fault::error(StatusCode::FORBIDDEN, code, title, "it is refused");
    stage.foundry.inject(refused.on(Route::Create).forever());
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    let key = stage.wait_key(KEY, Reason::Unauthorized).await;
    key.says("it is refused");
    key.says(words);
    stage.foundry.clear_faults();
    stage.wait_ready_with_the_one_key(KEY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_and_a_right_one_taken_at_once() {
    let foundry = FakeCloudFoundry::builder().tolerate(Rule::Password).start().await.unwrap();
    let wrong = json!({"username": "alice", "password": "guessed-wrong"});
    let stage = FoundryStage::logged_in_by(foundry, wrong, by_password()).await;
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    let provider = stage.wait_foundry(Reason::Unauthorized).await;
    provider.says("unauthorized: Bad credentials; check the entries `username` and `password`");
    stage.change_secret("cf-login", json!({"password": PASSWORD})).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    assert!(!stage.everything_public().await.contains("guessed-wrong"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_without_the_role_is_told() {
    let stage = FoundryStage::set().await;
    stage.foundry.change_role("alice", Role::SpaceAuditor);
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    let key = stage.wait_key(KEY, Reason::Unauthorized).await;
    key.says("the login needs the role Space Developer in the instance's space");
    stage.foundry.change_role("alice", Role::SpaceDeveloper);
    stage.wait_ready_with_the_one_key(KEY).await;
}

/// An API that shows nothing of the key's space does not prove that the key is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_login_may_not_see_is_not_taken_to_be_gone() {
    let stage = FoundryStage::set().await;
    let operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    stage.wait_ready(KEY).await;
    drop(operator);
    stage.delete_key(KEY).await;
    stage.foundry.change_role("alice", Role::None);
    let _operator = stage.start_operator().await;
    stage.wait_foundry(Reason::InvalidSpec).await;
    assert_eq!(stage.foundry.live_keys().len(), 1);
    stage.foundry.change_role("alice", Role::SpaceDeveloper);
    stage.wait_gone(KEY).await;
    assert_eq!(stage.foundry.keys(), []);
}

/// The instance is named by its GUID, and can only be in the provider's space.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_goes_with_its_instance_and_not_with_the_sight_of_it() {
    let stage = FoundryStage::set().await;
    let _operator = stage.start_operator().await;
    let instance = json!({"id": stage.foundry.instance_guid(INSTANCE).unwrap()});
    for name in [KEY, "reporting-creds"] {
        stage.create_key_of(name, instance.clone()).await;
        stage.wait_ready(name).await;
    }
    stage.foundry.change_role("alice", Role::None);
    stage.delete_key("reporting-creds").await;
    stage.wait_key("reporting-creds", Reason::RevokeFailed).await.says("or the login may not see it");
    stage.foundry.change_role("alice", Role::SpaceDeveloper);
    stage.wait_gone("reporting-creds").await;
    assert_eq!(stage.foundry.keys().len(), 1);

    assert!(stage.foundry.forget_instance(INSTANCE));
    stage.delete_key(KEY).await;
    stage.wait_gone(KEY).await;
}

/// The status stores the space of an instance.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_may_be_anywhere_is_gone_if_its_space_is_known(
    #[values(false, true)] is_restarted: bool,
) {
    let stage = FoundryStage::set().await;
    let anywhere = kube::api::Patch::Merge(json!({"spec": {"cloudFoundry": {"instancesById": "Anywhere"}}}));
    let providers = stage.api::<servicekey_operator::api::KeyProvider>();
    providers.patch("foundry", &kube::api::PatchParams::default(), &anywhere).await.unwrap();
    let operator = stage.start_operator().await;
    stage.create_key_of(KEY, json!({"id": stage.foundry.instance_guid(INSTANCE).unwrap()})).await;
    stage.wait_ready(KEY).await;
    let _operator = if is_restarted {
        drop(operator);
        stage.start_operator().await
    } else {
        operator
    };
    assert!(stage.foundry.forget_instance(INSTANCE));
    stage.delete_key(KEY).await;
    stage.wait_gone(KEY).await;
}

/// The login gets its role back between the lookup of the key and that of its space.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_comes_into_sight_while_it_is_looked_for_is_revoked() {
    let stage = FoundryStage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    stage.wait_ready(KEY).await;
    stage.foundry.change_role("alice", Role::None);
    let look = stage.foundry.gate(Route::Keys, AfterEffect);
    stage.delete_key(KEY).await;
    look.wait_for_arrival().await.unwrap();
    stage.foundry.change_role("alice", Role::SpaceDeveloper);
    look.release();
    stage.wait_gone(KEY).await;
    assert_eq!(stage.foundry.keys(), []);
}

#[rstest]
#[case::client(json!({"clientId": "operator", "clientSecret": "client-secret"}), json!({"clientCredentials": {"secretRef": {"name": "cf-login"}}}))]
#[case::origin(json!({"username": "bob", "password": "bobs-password"}), json!({"password": {"secretRef": {"name": "cf-login"}, "origin": "sap.ids"}}))]
#[tokio::test(flavor = "multi_thread")]
async fn there_are_other_logins(#[case] entries: Value, #[case] auth: Value) {
    let bob = Login::user("bob", "bobs-password").origin("sap.ids");
    let foundry = FakeCloudFoundry::builder().login(bob).start().await.unwrap();
    let stage = FoundryStage::logged_in_by(foundry, entries, auth).await;
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    stage.delete_and_leave_no_key(KEY).await;
    assert_eq!(stage.count(&[Route::Token]), 1, "one token serves all");
}

/// Names, passwords and secrets with every character that is special in headers, forms and URLs.
#[rstest]
#[case::user(json!({"username": ODD_NAME, "password": ODD_SECRET}), by_password())]
#[case::client(json!({"clientId": "odd:c+l%i&nt", "clientSecret": ODD_SECRET}), json!({"clientCredentials": {"secretRef": {"name": "cf-login"}}}))]
#[tokio::test(flavor = "multi_thread")]
async fn logins_may_be_odd(#[case] entries: Value, #[case] auth: Value) {
    let foundry = FakeCloudFoundry::builder()
        .login(Login::user(ODD_NAME, ODD_SECRET))
        .login(Login::client("odd:c+l%i&nt", ODD_SECRET));
    let stage = FoundryStage::logged_in_by(foundry.start().await.unwrap(), entries, auth).await;
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    stage.wait_ready_with_the_one_key(KEY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_may_be_given_as_it_is() {
    let foundry = FakeCloudFoundry::builder().start().await.unwrap();
    let token = foundry.issue_token("alice");
    let auth = json!({"bearer": {"secretRef": {"name": "cf-login"}}});
    let stage = FoundryStage::logged_in_by(foundry, json!({"token": format!("bearer {token}")}), auth).await;
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    assert_eq!(stage.count(&[Route::Token]), 0);
    let warning = stage.wait_event("foundry", "LoginExpires").await;
    assert!(
        warning.contains("the operator can't renew it; log in with `password` or `clientCredentials`"),
        "{warning}"
    );
}

#[rstest]
#[case::lasting(RefreshTokens::Lasting)]
#[case::rotating(RefreshTokens::Rotating)]
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_dies_is_renewed_without_the_password(#[case] refresh_tokens: RefreshTokens) {
    let foundry = FakeCloudFoundry::builder().refresh_tokens(refresh_tokens).start().await.unwrap();
    let stage = FoundryStage::set_with(foundry).await;
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    stage.wait_ready(KEY).await;
    stage.foundry.revoke_tokens();
    stage.create_key("reporting-creds").await;
    stage.wait_ready("reporting-creds").await;
    assert_eq!(stage.foundry.granted(Grant::Password), 1);
    assert_eq!(stage.foundry.granted(Grant::RefreshToken), 1);
    let public = stage.everything_public().await;
    assert!(stage.foundry.tokens().iter().all(|token| !public.contains(token)));
}

/// Some UAAs answer 500 to a refresh token that is no longer valid.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_that_is_not_taken_any_more_costs_nothing(#[values(false, true)] fails: bool) {
    let stage = FoundryStage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    stage.wait_ready(KEY).await;
    stage.foundry.revoke_tokens();
    stage.foundry.revoke_refresh_tokens();
    if fails {
        let body = json!({"error": "server_error", "error_description": "Internal server error"});
        stage.foundry.inject(Fault::Status(StatusCode::INTERNAL_SERVER_ERROR, body).on(Route::Token));
    }
    stage.create_key("reporting-creds").await;
    stage.wait_ready("reporting-creds").await;
    assert_eq!(stage.foundry.granted(Grant::Password), 2);
}

/// The fake treats the use of an expired token as an error.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_renewed_before_its_end() {
    let foundry = FakeCloudFoundry::builder().token_lifetime(Duration::from_secs(10)).start().await.unwrap();
    let stage = FoundryStage::set_with(foundry).await;
    let _operator = stage.start_operator().await;
    for number in 0.. {
        let name = format!("key-{number}");
        stage.create_key(&name).await;
        stage.wait_ready(&name).await;
        if stage.foundry.granted(Grant::RefreshToken) >= 1 {
            break;
        }
    }
    assert_eq!(stage.foundry.granted(Grant::Password), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_is_waited_out() {
    let stage = FoundryStage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    stage.wait_ready(KEY).await;
    stage.foundry.limit_rate(Some(RateLimit { requests: 1, window: Duration::from_secs(2) }));
    stage.create_key("reporting-creds").await;
    let refused = |calls: &[testkit::cloud_foundry::Call]| calls.iter().any(|call| call.status == Some(429));
    stage.foundry.wait_for_calls(refused).await.unwrap();
    stage.foundry.limit_rate(None);
    stage.wait_ready("reporting-creds").await;
    assert_eq!(stage.foundry.live_keys().len(), 2);
    let refused = stage.foundry.calls().iter().filter(|call| call.status == Some(429)).count();
    assert!(refused <= 3, "the operator sent {refused} requests during the rate limit");
}

/// An earlier process of the operator read the credentials, and this process need not have read them at all.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_the_api_repeats_are_hidden() {
    let stage = FoundryStage::set().await;
    let operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    stage.wait_ready(KEY).await;
    drop(operator);
    let key = stage.foundry.key_named(INSTANCE, KEY).unwrap();
    let secret = key.credentials.unwrap()["password"].as_str().unwrap().to_owned();
    let detail = format!("can't take {secret} back");
    let refused = Fault::error(StatusCode::UNPROCESSABLE_ENTITY, 10008, "CF-UnprocessableEntity", &detail);
    stage.foundry.inject(refused.on(Route::Delete).forever());
    let _operator = stage.start_operator().await;

    stage.delete_key(KEY).await;
    stage.wait_key(KEY, Reason::RevokeFailed).await.says("can't take [redacted] back");
    assert!(!stage.everything_public().await.contains(&secret));
    stage.foundry.clear_faults();
    stage.wait_gone(KEY).await;
}
