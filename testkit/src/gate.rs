//! Gates: calls that a test holds until it has done something else. The fake broker has them, and the gateway in
//! front of the API server.

use std::{fmt::Debug, sync::Arc};

use tokio::{sync::watch, time::timeout};

use crate::wait::{PATIENCE, WaitError};

/// Before or after a call takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nothing has happened yet.
    BeforeEffect,
    /// Everything has happened, and the answer is still to be sent.
    AfterEffect,
}

/// Holds calls until it is released, cut or dropped.
#[derive(Debug)]
#[must_use = "a gate that is dropped lets every call through"]
pub struct Gate(Arc<Bar>);

impl Gate {
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
            Ok(Err(_)) | Err(_) => Err(self.0.nobody_came(count)),
        }
    }

    /// Lets through what is held, and everything after it.
    pub fn release(self) {
        drop(self);
    }

    /// Closes the connection of each call that is held, which goes no further than it has come; lets through
    /// everything after it.
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

/// What calls come to at a gate.
#[derive(Debug)]
pub(crate) struct Bar {
    /// What it holds, in words.
    what: String,
    state: watch::Sender<State>,
    arrived: watch::Sender<usize>,
}

/// Closes the connection of a call, which goes no further.
#[derive(Debug, thiserror::Error)]
#[error("cut on purpose")]
pub(crate) struct Cut;

impl Bar {
    fn is_closed(&self) -> bool {
        *self.state.borrow() == State::Closed
    }

    pub(crate) async fn pass(&self) -> Result<(), Cut> {
        self.arrived.send_modify(|arrived| *arrived += 1);
        // An error would mean that the sender is gone, and it lives in `self`.
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

/// All gates of one place, each with the calls of kind `K` that it holds.
#[derive(Debug)]
pub(crate) struct Gates<K>(Vec<(K, Moment, Arc<Bar>)>);

impl<K: Debug> Gates<K> {
    pub(crate) const fn none() -> Self {
        Self(Vec::new())
    }

    /// Puts up one more.
    pub(crate) fn add(&mut self, kind: K, moment: Moment) -> Gate {
        let what = format!("{kind:?}, {moment:?}");
        let (state, arrived) = (watch::Sender::new(State::Closed), watch::Sender::new(0));
        let bar = Arc::new(Bar { what, state, arrived });
        self.0.push((kind, moment, Arc::clone(&bar)));
        Gate(bar)
    }

    /// What a call has to pass, where `holds` tells which kinds it is of.
    pub(crate) fn on_the_way(&mut self, at: Moment, mut holds: impl FnMut(&mut K) -> bool) -> Vec<Arc<Bar>> {
        self.0.retain(|(.., bar)| bar.is_closed());
        let met = self.0.iter_mut().filter(|(_, moment, _)| *moment == at);
        met.filter_map(|(kind, _, bar)| holds(kind).then(|| Arc::clone(bar))).collect()
    }
}
