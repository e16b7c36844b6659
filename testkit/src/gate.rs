//! Gates delay calls until the test has done something else. The fakes have them, and so has the gateway in front of
//! the API server.

use std::{fmt::Debug, sync::Arc};

use tokio::{sync::watch, time::timeout};

use crate::wait::{PATIENCE, WaitError};

/// Before or after a call takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nothing has happened yet.
    BeforeEffect,
    /// Everything has happened, except that the answer is not sent yet.
    AfterEffect,
}

/// Delays calls until the test releases, cuts or drops it.
#[derive(Debug)]
#[must_use = "a gate that is dropped lets every call through"]
pub struct Gate(Arc<Bar>);

impl Gate {
    /// The number of calls that have arrived at the gate.
    #[must_use]
    pub fn arrivals(&self) -> usize {
        *self.0.arrived.borrow()
    }

    /// Waits until a call has arrived at the gate.
    ///
    /// # Errors
    /// No call arrived within 30 seconds.
    pub async fn wait_for_arrival(&self) -> Result<(), WaitError> {
        self.wait_for_arrivals(1).await
    }

    /// Waits until this many calls have arrived at the gate.
    ///
    /// # Errors
    /// Fewer arrived within 30 seconds.
    pub async fn wait_for_arrivals(&self, count: usize) -> Result<(), WaitError> {
        let mut arrived = self.0.arrived.subscribe();
        let enough = timeout(PATIENCE, arrived.wait_for(|arrived| *arrived >= count)).await;
        match enough {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(self.0.nobody_came(count)),
        }
    }

    /// Lets the waiting calls and all later ones pass.
    pub fn release(self) {
        drop(self);
    }

    /// Closes the connections of the waiting calls, which do not continue. Lets all later calls pass.
    pub fn cut(self) {
        self.0.state.send_replace(State::Cut);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.state.send_if_modified(|state| {
            let closed = *state == State::Closed;
            if closed {
                *state = State::Open;
            }
            closed
        });
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open,
    Cut,
}

/// The side of a gate that calls see.
#[derive(Debug)]
pub(crate) struct Bar {
    /// The calls that it delays, in words.
    what: String,
    state: watch::Sender<State>,
    arrived: watch::Sender<usize>,
}

/// Closes the connection of a call, which does not continue.
#[derive(Debug, thiserror::Error)]
#[error("cut on purpose")]
pub(crate) struct Cut;

impl Bar {
    fn is_closed(&self) -> bool {
        *self.state.borrow() == State::Closed
    }

    pub(crate) async fn pass(&self) -> Result<(), Cut> {
        self.arrived.send_modify(|arrived| *arrived += 1);
        // An error would mean that the sender is dropped, but `self` owns it.
        match self.state.subscribe().wait_for(|state| *state != State::Closed).await.as_deref() {
            Ok(State::Cut) => Err(Cut),
            Ok(State::Open | State::Closed) | Err(_) => Ok(()),
        }
    }

    fn nobody_came(&self, wanted: usize) -> WaitError {
        WaitError::new(format!(
            "{} of {wanted} calls came to the gate of {}",
            *self.arrived.borrow(),
            self.what
        ))
    }
}

/// All gates of one server, each with the calls of kind `K` that it delays.
#[derive(Debug)]
pub(crate) struct Gates<K>(Vec<(K, Moment, Arc<Bar>)>);

impl<K: Debug> Gates<K> {
    pub(crate) const fn none() -> Self {
        Self(Vec::new())
    }

    /// Adds a gate.
    pub(crate) fn add(&mut self, kind: K, moment: Moment) -> Gate {
        let what = format!("{kind:?}, {moment:?}");
        let (state, arrived) = (watch::Sender::new(State::Closed), watch::Sender::new(0));
        let bar = Arc::new(Bar { what, state, arrived });
        self.0.push((kind, moment, Arc::clone(&bar)));
        Gate(bar)
    }

    /// The gates that a call has to pass; `holds` decides whether a gate's kind matches the call.
    pub(crate) fn on_the_way(&mut self, at: Moment, mut holds: impl FnMut(&mut K) -> bool) -> Vec<Arc<Bar>> {
        self.0.retain(|(.., bar)| bar.is_closed());
        let met = self.0.iter_mut().filter(|(_, moment, _)| *moment == at);
        met.filter_map(|(kind, _, bar)| holds(kind).then(|| Arc::clone(bar))).collect()
    }
}
