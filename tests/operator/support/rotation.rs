//! Rotations of one key: request them, and wait for their end.

use jiff::SignedDuration;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use servicekey_operator::api::{Reason, ServiceKey};
use testkit::broker::{Fault, Route, StatusCode};

use super::{
    conditions::Reports,
    stage::{Stage, condition, wait},
    time::Time,
};

const NAME: &str = "monitoring-creds";

pub fn sequence(key: &ServiceKey) -> Option<u32> {
    Some(key.status.as_ref()?.key.as_ref()?.sequence)
}

impl Stage {
    /// Merges this annotation into the ServiceKey; `null` removes it.
    pub async fn request_rotation(&self, value: Value) {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {"servicekeys.dev/rotate": value}}}));
        self.keys().patch(NAME, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Waits until the ServiceKey is ready with the key of this number, and has no other key.
    pub async fn wait_settled_with(&self, number: u32) -> ServiceKey {
        let settled = |key: &ServiceKey| {
            let status = key.status.as_ref().unwrap();
            sequence(key) == Some(number)
                && condition(key, "Ready") == Some("True")
                && status.previous_keys.is_empty()
                && status.operation.is_none()
        };
        wait(self.keys(), NAME, "settled with the key", |key| key.is_some_and(settled)).await.unwrap()
    }

    pub async fn create_rotating(&self, rotation: Value) -> ServiceKey {
        let mut manifest = self.key_manifest(NAME);
        manifest["spec"]["rotation"] = rotation;
        self.create::<ServiceKey>(manifest).await;
        self.wait_ready_with_the_only_key(NAME).await
    }

    /// Creates a ServiceKey whose first key expires within a day. A day later, the broker refuses two binds. Fails unless
    /// the ServiceKey is not ready until the next key is there, and `Ready` says `words`.
    pub async fn outlive_the_first_key(&self, words: &str) {
        let time = Time::default();
        let _operator = self.start_operator_by(time.clock()).await;
        self.create_rotating(json!({"overlap": "0s"})).await;

        self.broker.inject(
            Fault::Status(StatusCode::BAD_REQUEST, json!({"description": "later"})).on(Route::Bind).times(2),
        );
        time.leap(SignedDuration::from_hours(25));
        let key = self.wait_key(NAME, Reason::KeyExpired).await;
        key.says(words);
        assert_eq!(condition(&key, "Ready"), Some("False"));
        self.wait_settled_with(2).await;
        self.delete_and_leave_nothing(NAME).await;
    }

    pub fn binds_and_unbinds(&self) -> Vec<Route> {
        let calls = self.broker.calls().into_iter().map(|call| call.route);
        calls.filter(|route| [Route::Bind, Route::Unbind].contains(route)).collect()
    }
}
