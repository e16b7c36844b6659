//! Gates: calls that a test holds until it has done something else.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};

use super::{
    fake::{PATIENCE, WaitError},
    faults::Moment,
    route::Route,
};

/// Holds every call of a route until it is released or dropped.
///
/// A held call goes on when it is let through, also where its client is gone by then, as at a real broker.
#[derive(Debug)]
#[must_use = "a gate that is dropped lets every call through"]
pub struct Gate(Arc<Bar>);

#[derive(Debug)]
pub(super) struct Bar {
    route: Route,
    moment: Moment,
    open: watch::Sender<bool>,
    arrived: watch::Sender<usize>,
}

impl Gate {
    pub(super) fn new(route: Route, moment: Moment) -> (Self, Arc<Bar>) {
        let (open, arrived) = (watch::Sender::new(false), watch::Sender::new(0));
        let bar = Arc::new(Bar { route, moment, open, arrived });
        (Self(Arc::clone(&bar)), bar)
    }

    /// How many calls have come to the gate.
    #[must_use]
    pub fn arrivals(&self) -> usize {
        *self.0.arrived.borrow()
    }

    /// Waits until a call has come to the gate.
    ///
    /// # Errors
    /// None came within 30 seconds.
    pub async fn wait_for_arrival(&self) -> Result<(), WaitError> {
        self.wait_for_arrivals(1).await
    }

    /// Waits until this many calls have come to the gate.
    ///
    /// # Errors
    /// Fewer came within 30 seconds.
    pub async fn wait_for_arrivals(&self, count: usize) -> Result<(), WaitError> {
        let mut arrived = self.0.arrived.subscribe();
        let enough = timeout(PATIENCE, arrived.wait_for(|arrived| *arrived >= count)).await;
        match enough {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(self.0.nobody_came(count, PATIENCE)),
        }
    }

    /// Lets through what is held, and everything after it.
    pub fn release(self) {
        drop(self);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.open.send_replace(true);
    }
}

impl Bar {
    pub fn is_open(&self) -> bool {
        *self.open.borrow()
    }

    pub fn stands_before(&self, route: Route, moment: Moment) -> bool {
        self.route == route && self.moment == moment && !self.is_open()
    }

    pub async fn pass(&self) {
        self.arrived.send_modify(|arrived| *arrived += 1);
        // An error would mean that the sender is gone, and it lives in `self`.
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }

    fn nobody_came(&self, wanted: usize, waited: Duration) -> WaitError {
        let seen =
            format!("{} of {wanted} calls came to the gate of {:?}", *self.arrived.borrow(), self.route);
        WaitError::new(waited, seen)
    }
}
