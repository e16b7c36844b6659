//! A clock that tests control.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use servicekey_operator::testing::Clock;

use crate::support::stage::Stage;

/// How far an operator's clock is ahead of the system clock, in seconds.
#[derive(Clone, Default)]
pub struct Time(Arc<AtomicI64>);

impl Time {
    /// The clock for the operator.
    pub fn clock(&self) -> Clock {
        let Self(ahead) = self.clone();
        Clock::new(move || Timestamp::now() + SignedDuration::from_secs(ahead.load(Ordering::SeqCst)))
    }

    /// Moves the clock forward or back. The operator gets no notification.
    pub fn leap(&self, by: SignedDuration) {
        self.0.fetch_add(by.as_secs(), Ordering::SeqCst);
    }

    /// Lets time pass, and makes the operator reconcile the ServiceKey: its timers run on the system clock. The operator
    /// reads this annotation, and acts only on the value `true`. A change of an annotation that it does not read would
    /// not make it reconcile.
    pub async fn pass(&self, time: Duration, stage: &Stage, key: &str) {
        let seconds = i64::try_from(time.as_secs()).unwrap();
        let ahead = self.0.fetch_add(seconds, Ordering::SeqCst) + seconds;
        let annotation = json!({"metadata": {"annotations": {"servicekeys.dev/abandon": ahead.to_string()}}});
        stage.keys().patch(key, &PatchParams::default(), &Patch::Merge(&annotation)).await.unwrap();
    }
}
