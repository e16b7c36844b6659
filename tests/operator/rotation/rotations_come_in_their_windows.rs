//! Scheduled rotations begin in the windows of the spec, and others at once.

use jiff::{SignedDuration, Timestamp, ToSpan, Unit, Zoned, tz::TimeZone};
use serde_json::json;
use servicekey_operator::api::Reason;
use testkit::broker::{CredentialsRecipe, FakeBroker, Route};

use crate::support::{
    conditions::Reports,
    rotation::sequence,
    stage::{Stage, condition, wait},
    time::Time,
};

const NAME: &str = "monitoring-creds";
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Two o'clock in New York, at least this many days from now.
fn two_in_the_morning(days: i64) -> Zoned {
    let zone = TimeZone::get("America/New_York").unwrap();
    let later = Timestamp::now().to_zoned(zone) + days.days();
    later.start_of_day().unwrap() + 1.day() + 2.hours()
}

/// A window of an hour on the day of that time, once a year.
fn window(opens: &Zoned) -> serde_json::Value {
    let schedule = format!("{} {} {} {} *", opens.minute(), opens.hour(), opens.day(), opens.month());
    json!({"schedule": schedule, "duration": "1h", "timeZone": "America/New_York"})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_rotation_waits_for_its_window_and_a_requested_one_does_not() {
    let opens = two_in_the_morning(3);
    let stage = Stage::set().await;
    let time = Time::default();
    let _operator = stage.start_operator_by(time.clock()).await;
    let rotation = json!({"every": "24h", "overlap": "0s", "windows": [window(&opens)]});
    let key = stage.create_rotating(rotation).await;
    let next = key.status.as_ref().unwrap().next_rotation.as_ref().unwrap().0;
    assert_eq!(next, opens.timestamp());

    stage.request_rotation(json!("now")).await;
    stage.wait_settled_with(2).await;

    // The age limit is long over, and the window has not opened.
    let until_opening = opens.timestamp().duration_since(Timestamp::now());
    time.leap(until_opening - SignedDuration::from_mins(5));
    let edit = json!({"spec": {"secret": {"labels": {"seen": "yes"}}}});
    let edit = kube::api::Patch::Merge(edit);
    stage.keys().patch(NAME, &kube::api::PatchParams::default(), &edit).await.unwrap();
    let labelled = wait(stage.secrets(), NAME, "labelled", |secret| {
        secret
            .and_then(|secret| secret.metadata.labels.as_ref())
            .is_some_and(|labels| labels.contains_key("seen"))
    });
    labelled.await;
    assert_eq!(stage.broker.count(Route::Bind), 2);

    time.leap(SignedDuration::from_mins(6));
    stage.wait_settled_with(3).await;
    stage.delete_and_leave_nothing(NAME).await;
}

/// The certificates of the broker end after ten days, and the window opens once a year.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_expires_does_not_wait_for_a_window() {
    let opens = two_in_the_morning(100);
    let life = std::time::Duration::from_secs(10 * 24 * 3600);
    let recipe = CredentialsRecipe::postgresql().with_certificate(move |_| life);
    let stage = Stage::set_with(FakeBroker::builder().credentials(recipe).start().await.unwrap()).await;
    let time = Time::default();
    let _operator = stage.start_operator_by(time.clock()).await;
    let key = stage.create_rotating(json!({"overlap": "1h", "windows": [window(&opens)]})).await;
    let status = key.status.as_ref().unwrap();
    let next = status.next_rotation.as_ref().unwrap().0;
    let age = next.duration_since(status.key.as_ref().unwrap().created_at.0).round(Unit::Hour).unwrap();
    assert_eq!(age, 9 * DAY, "a day before the end");

    time.leap(9 * DAY + SignedDuration::from_hours(1));
    let replaced = wait(stage.keys(), NAME, "replaced", |key| {
        key.is_some_and(|key| sequence(key) == Some(2) && condition(key, "Ready") == Some("True"))
    });
    replaced.await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_never_opens_is_reported_before_a_key_exists() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    for (name, window, words) in [
        ("no-date", json!({"schedule": "0 0 30 2 *", "duration": "1h"}), "names no date that exists"),
        (
            "no-hour",
            json!({"schedule": "0 24 * * *", "duration": "1h"}),
            "`spec.rotation.windows[0]`: `schedule`",
        ),
        (
            "no-zone",
            json!({"schedule": "0 2 * * *", "duration": "1h", "timeZone": "Europe/Atlantis"}),
            "the operator knows no time zone `Europe/Atlantis`",
        ),
    ] {
        let mut manifest = stage.key_manifest(name);
        manifest["spec"]["rotation"] = json!({"windows": [window]});
        stage.create::<servicekey_operator::api::ServiceKey>(manifest).await;
        let key = stage.wait_key(name, Reason::InvalidSpec).await;
        key.says(words);
    }
    assert_eq!(stage.broker.count(Route::Bind), 0);
}
