//! A broker and a token server repeat, in their error messages, secrets that they received or created. These secrets
//! appear neither in statuses and Events nor in the operator's log.

use std::{
    io,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;
use servicekey_operator::api::{Reason, ServiceKey};
use testkit::{
    broker::{CredentialsRecipe, FakeBroker, Fault, Pace, Route, StatusCode},
    token_server::{Route::Token, TokenServer},
};
use tracing::{
    Dispatch,
    subscriber::{DefaultGuard, NoSubscriber},
};

use crate::support::{conditions::Reports, oauth, stage::Stage};

const NAME: &str = "monitoring-creds";
const PASSWORD: &str = "broker-password";
const PARAMETER: &str = "tr0ub4dor-and-three";
const CREDENTIAL: &str = "correct-horse-battery-staple";

/// Everything that this thread logs. The operator runs only on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Collects the log until the guard is dropped.
    fn collect(&self) -> DefaultGuard {
        // With a single subscriber, a thread without one decides for all threads whether a line is logged.
        static ANOTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::default()));
        LazyLock::force(&ANOTHER);
        let writer = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

/// Short credentials, so that a shortened quote of the broker would still contain them.
fn credentials() -> CredentialsRecipe {
    CredentialsRecipe::new(|_, number| {
        let password = format!("{CREDENTIAL}-{number}");
        let uri = format!("amqp://me:{password}@db");
        let entries = [("password", json!(password)), ("uri", json!(uri))];
        entries.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
    })
}

fn repeat() -> Fault {
    Fault::RepeatSecrets(StatusCode::INTERNAL_SERVER_ERROR)
}

async fn stage() -> Stage {
    let stage =
        Stage::set_with(FakeBroker::builder().credentials(credentials()).start().await.unwrap()).await;
    let extra = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "extra"},
        "stringData": {"params.json": json!({"token": PARAMETER}).to_string()},
    });
    stage.create::<Secret>(extra).await;
    stage
}

#[tokio::test]
async fn whatever_a_broker_repeats_is_hidden() {
    let (log, stage) = (Log::default(), stage().await);
    let _logging = log.collect();
    let mut public = Vec::new();

    stage.broker.inject(repeat().on(Route::Catalog).times(2));
    stage.broker.inject(repeat().on(Route::Bind).after_effect().forever());
    let _operator = stage.start_operator().await;
    let mut key = stage.key_manifest(NAME);
    key["spec"]["parametersFrom"] = json!([{"secretKeyRef": {"name": "extra", "key": "params.json"}}]);
    stage.create::<ServiceKey>(key).await;
    stage.wait_provider(Reason::RemoteUnreachable).await;
    public.push(stage.everything_public().await);
    stage.wait_key(NAME, Reason::BindFailed).await;
    public.push(stage.wait_event(NAME, "BindFailed").await);
    public.push(stage.everything_public().await);

    stage.broker.clear_faults();
    stage.wait_ready_with_the_only_key(NAME).await;
    assert_eq!(stage.broker.bindings()[0].parameters["token"], PARAMETER);
    public.push(stage.everything_public().await);

    stage.broker.inject(repeat().on(Route::Unbind).forever());
    stage.delete_key(NAME).await;
    stage.wait_key(NAME, Reason::RevokeFailed).await;
    public.push(stage.wait_event(NAME, "RevokeFailed").await);
    public.push(stage.everything_public().await);
    stage.broker.clear_faults();
    stage.wait_gone(NAME).await;
    public.push(stage.everything_public().await);

    let (public, log) = (public.join("\n"), log.text());
    let login = BASE64_STANDARD.encode(format!("operator:{PASSWORD}"));
    for secret in [PASSWORD, &login, PARAMETER, CREDENTIAL] {
        assert!(!public.contains(secret), "`{secret}` is in {public}");
        assert!(!log.contains(secret), "`{secret}` is in the log");
    }
    assert!(
        public.contains("the broker answers 500: login Some(\\\"[redacted]\\\") failed to save"),
        "{public}"
    );
    assert!(log.contains("carrying out"), "the log was not collected");
}

/// A broker may repeat parameters and credentials of a bind in much later answers.
#[tokio::test]
async fn what_a_broker_repeats_of_earlier_calls_is_hidden() {
    let (log, stage) = (Log::default(), stage().await);
    let _logging = log.collect();
    let mut public = Vec::new();
    let tells = |status, words: &str| {
        let description = format!("login {PASSWORD}, token {PARAMETER}{words}");
        Fault::Status(status, json!({"state": "in progress", "description": description}))
    };
    let credential = format!(" and {CREDENTIAL}-1 again");

    stage.broker.change_pace(Pace::polls(0));
    stage.broker.inject(tells(StatusCode::OK, "").on(Route::LastOperation).forever());
    let _operator = stage.start_operator().await;
    let mut key = stage.key_manifest(NAME);
    key["spec"]["parametersFrom"] = json!([{"secretKeyRef": {"name": "extra", "key": "params.json"}}]);
    stage.create::<ServiceKey>(key).await;
    stage.wait_key(NAME, Reason::Binding).await.says(": login [redacted], token [redacted]");
    public.push(stage.everything_public().await);
    stage.broker.clear_faults();
    stage.wait_ready_with_the_only_key(NAME).await;

    stage.broker.inject(tells(StatusCode::BAD_REQUEST, &credential).on(Route::Unbind).forever());
    stage.delete_key(NAME).await;
    let words = "login [redacted], token [redacted] and [redacted] again";
    stage.wait_key(NAME, Reason::RevokeFailed).await.says(words);
    public.push(stage.wait_event(NAME, "RevokeFailed").await);
    public.push(stage.everything_public().await);
    stage.broker.clear_faults();
    stage.broker.inject(tells(StatusCode::OK, &credential).on(Route::LastOperation).forever());
    stage.wait_key(NAME, Reason::Deleting).await.says(words);
    public.push(stage.everything_public().await);
    stage.broker.clear_faults();
    stage.wait_gone(NAME).await;

    let (public, log) = (public.join("\n"), log.text());
    for secret in [PASSWORD, PARAMETER, CREDENTIAL] {
        assert!(!public.contains(secret), "`{secret}` is in {public}");
        assert!(!log.contains(secret), "`{secret}` is in the log");
    }
    assert!(log.contains("carrying out"), "the log was not collected");
}

/// The operator has never seen this password; it recognizes it by the word before it.
#[tokio::test]
async fn a_password_that_was_just_made_is_hidden() {
    let (log, stage) = (Log::default(), stage().await);
    let _logging = log.collect();
    let said = json!({"description": format!("can't save password: {CREDENTIAL}-1 of user me")});
    let fault = Fault::Status(StatusCode::INTERNAL_SERVER_ERROR, said);
    stage.broker.inject(fault.on(Route::Bind).after_effect());
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    stage.wait_key(NAME, Reason::BindFailed).await.says("can't save password: [redacted] of user me");
    stage.wait_event(NAME, "BindFailed").await;
    stage.wait_ready_with_the_only_key(NAME).await;
    let public = stage.everything_public().await;
    assert!(!public.contains(CREDENTIAL), "it is in {public}");
    assert!(!log.text().contains(CREDENTIAL), "it is in the log");
    assert!(log.text().contains("carrying out"), "the log was not collected");
}

#[tokio::test]
async fn tokens_and_what_they_are_got_with_are_hidden() {
    let tokens = TokenServer::builder().start().await.unwrap();
    let (log, stage) = (Log::default(), oauth::stage(&tokens).await);
    let _logging = log.collect();
    let login = BASE64_STANDARD.encode("operator:client-secret");
    let mut public = Vec::new();

    let said = format!("login Basic {login} with client-secret is wrong");
    let body = json!({"error": "client-secret", "error_description": said});
    tokens.inject(Fault::Status(StatusCode::UNAUTHORIZED, body).on(Token).forever());
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    stage.wait_provider(Reason::Unauthorized).await;
    stage.wait_key(NAME, Reason::Unauthorized).await;
    public.push(stage.everything_public().await);

    stage.broker.inject(repeat().on(Route::Bind).after_effect().forever());
    tokens.clear_faults();
    stage.wait_key(NAME, Reason::BindFailed).await;
    public.push(stage.wait_event(NAME, "BindFailed").await);
    public.push(stage.everything_public().await);
    stage.broker.clear_faults();
    stage.wait_ready_with_the_only_key(NAME).await;
    public.push(stage.everything_public().await);

    let (public, log) = (public.join("\n"), log.text());
    for secret in tokens.tokens().into_iter().chain(["client-secret".to_owned(), login]) {
        assert!(!public.contains(&secret), "`{secret}` is in {public}");
        assert!(!log.contains(&secret), "`{secret}` is in the log");
    }
    assert_eq!(tokens.grants(), 1);
    for words in [
        "the server answers 401: [redacted]: login Basic [redacted] with [redacted] is wrong",
        "the broker answers 500: login Some(\\\"[redacted]\\\") failed to save",
    ] {
        assert!(public.contains(words), "`{words}` is not in {public}");
    }
    assert!(log.contains("carrying out"), "the log was not collected");
}
