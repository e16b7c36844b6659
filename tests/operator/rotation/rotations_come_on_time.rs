//! Each rotation happens once and on time, despite restarts, pauses and changes of the clock.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use servicekey_operator::api::ServiceKey;
use testkit::broker::{BindingMetadata, Builder, CredentialsRecipe, FakeBroker, Route};

use crate::support::{
    conditions::Reports,
    process::Process,
    rotation::sequence,
    stage::{Stage, condition},
    time::Time,
};

const NAME: &str = "monitoring-creds";

fn next_rotation(key: &ServiceKey) -> Timestamp {
    key.status.as_ref().unwrap().next_rotation.as_ref().unwrap().0
}

fn created_at(key: &ServiceKey) -> Timestamp {
    key.status.as_ref().unwrap().key.as_ref().unwrap().created_at.0
}

impl Stage {
    /// The ServiceKey after the operator has reconciled it again, because of an edit without consequences.
    async fn look_again(&self) -> ServiceKey {
        let edit = Patch::Merge(
            json!({"spec": {"secret": {"labels": {"seen": Timestamp::now().as_second().to_string()}}}}),
        );
        let edited = self.keys().patch(NAME, &PatchParams::default(), &edit).await.unwrap();
        let seen = self.wait(self.keys(), NAME, "reconciled again", |key| {
            let status = key.and_then(|key| key.status.as_ref());
            status.and_then(|status| status.observed_generation) >= edited.metadata.generation
        });
        seen.await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_does_not_move_the_next_rotation() {
    let stage = Stage::set().await;
    let operator = stage.start_operator().await;
    let key = stage.create_rotating(json!({"every": "720h"})).await;
    let (due, age) = (next_rotation(&key), next_rotation(&key).duration_since(created_at(&key)));
    assert!(age <= SignedDuration::from_hours(720) && age >= SignedDuration::from_hours(696), "{age:?}");

    drop(operator);
    let _later = stage.start_operator_ahead(SignedDuration::from_hours(24)).await;
    let key = stage.look_again().await;
    assert_eq!((next_rotation(&key), stage.broker.count(Route::Bind)), (due, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_leaps_ahead_rotates_once_and_one_that_steps_back_not_at_all() {
    let stage = Stage::set().await;
    let time = Time::default();
    let _operator = stage.start_operator_by(time.clock()).await;
    stage.create_rotating(json!({"every": "12h", "overlap": "0s"})).await;
    time.leap(SignedDuration::from_hours(24));
    let due = next_rotation(&stage.wait_settled_with(2).await);

    time.leap(SignedDuration::from_hours(-1));
    let key = stage.look_again().await;
    assert_eq!((sequence(&key), next_rotation(&key)), (Some(2), due));
    assert_eq!(stage.binds_and_unbinds(), [Route::Bind, Route::Bind, Route::Unbind]);

    time.leap(SignedDuration::from_hours(13));
    stage.wait_settled_with(3).await;
    assert_eq!(stage.broker.count(Route::Bind), 3);
    stage.delete_and_leave_nothing(NAME).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_fell_due_while_no_operator_ran_is_made_up_for_once() {
    let stage = Stage::set().await;
    let long_ago = stage.start_operator_ahead(SignedDuration::from_hours(-2)).await;
    stage.create_rotating(json!({"every": "30m", "overlap": "0s"})).await;
    drop(long_ago);

    let operator = Process::start(&stage).await;
    let due = next_rotation(&stage.wait_settled_with(2).await);
    operator.kill().await;
    let _operator = Process::start(&stage).await;
    let key = stage.look_again().await;
    assert_eq!((sequence(&key), next_rotation(&key)), (Some(2), due));
    assert_eq!(stage.binds_and_unbinds(), [Route::Bind, Route::Bind, Route::Unbind]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_is_paused_over_a_rotation_makes_it_once_it_goes_on() {
    let stage = Stage::set().await;
    // The key was created half a minute ago, and is due in half a minute.
    let earlier = stage.start_operator_ahead(SignedDuration::from_secs(-30)).await;
    stage.create_rotating(json!({"every": "1m", "overlap": "0s"})).await;
    drop(earlier);
    let operator = Process::start(&stage).await;
    let key = stage.look_again().await;
    assert_eq!(sequence(&key), Some(1), "the machine is too slow for this test");
    operator.pause();

    // Wait until shortly after the rotation is due, to show that a paused operator does nothing.
    let due = Duration::try_from(next_rotation(&key).duration_since(Timestamp::now())).unwrap_or_default();
    tokio::time::sleep(due + Duration::from_secs(2)).await;
    assert_eq!(stage.broker.count(Route::Bind), 1);
    let goes_on = Timestamp::now();
    operator.go_on();
    let key = stage.wait_settled_with(2).await;
    assert!(created_at(&key) >= goes_on, "{key:#?}");
    assert_eq!(stage.binds_and_unbinds(), [Route::Bind, Route::Bind, Route::Unbind]);
}

const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

fn ending(metadata: impl Fn(u64) -> BindingMetadata + Send + Sync + 'static) -> Builder {
    FakeBroker::builder().credentials(CredentialsRecipe::postgresql().metadata(metadata))
}

/// Brokers send the zero value of their language if a key does not expire.
#[tokio::test(flavor = "multi_thread")]
async fn a_time_before_the_key_was_made_rotates_nothing_and_is_shown() {
    let zero = |_| BindingMetadata {
        expires_at: Some(ZERO_TIME.to_owned()),
        renew_before: Some(ZERO_TIME.to_owned()),
    };
    let stage = Stage::set_with(ending(zero).start().await.unwrap()).await;
    let time = Time::default();
    let _operator = stage.start_operator_by(time.clock()).await;
    let key = stage.create_rotating(json!({"overlap": "1h"})).await;
    for field in ["expiresAt", "renewBefore"] {
        key.says(&format!("the remote side's `{field}` {ZERO_TIME} is ignored"));
    }
    assert_eq!(key.status.as_ref().unwrap().next_rotation, None);

    time.leap(SignedDuration::from_hours(1));
    let key = stage.look_again().await;
    assert_eq!((sequence(&key), condition(&key, "Ready")), (Some(1), Some("True")));
    assert_eq!(stage.broker.count(Route::Bind), 1);
    stage.delete_and_leave_nothing(NAME).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_has_expired_is_not_ready_until_the_next_one_is_there() {
    // Only the first key expires.
    let tomorrow = Timestamp::now() + SignedDuration::from_hours(24);
    let ends = move |number| BindingMetadata {
        expires_at: (number == 1).then(|| tomorrow.to_string()),
        renew_before: None,
    };
    let stage = Stage::set_with(ending(ends).start().await.unwrap()).await;
    stage.outlive_the_first_key("key 1 expired at ").await;
}
