//! Gates delay calls until the test has done something else. The fakes have them, and so has the gateway in front of
//! the API server.

use std::{
    fmt::Debug,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use tokio::{sync::Notify, time::timeout};

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
        self.0.arrived.load(SeqCst)
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
        let enough = timeout(PATIENCE, async {
            loop {
                // An arrival after this line is noticed even if it comes before the look at the count.
                let arrival = self.0.arrival.notified();
                if self.arrivals() >= count {
                    return;
                }
                arrival.await;
            }
        });
        enough.await.map_err(|_| self.0.nobody_came(count))
    }

    /// Lets the waiting calls and all later ones pass.
    pub fn release(self) {
        drop(self);
    }

    /// Closes the connections of the waiting calls, which do not continue. Lets all later calls pass.
    pub fn cut(self) {
        self.0.decide(Fate::Cut);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.decide(Fate::Passes);
    }
}

/// The end of the calls that wait at a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Passes,
    Cut,
}

/// The side of a gate that calls see.
#[derive(Debug)]
pub(crate) struct Bar {
    /// The calls that it delays, in words.
    what: String,
    /// Empty while the gate is closed.
    fate: OnceLock<Fate>,
    /// Wakes the waiting calls, in the order of their arrival.
    decided: Notify,
    arrived: AtomicUsize,
    arrival: Notify,
}

/// Closes the connection of a call, which does not continue.
#[derive(Debug, thiserror::Error)]
#[error("cut on purpose")]
pub(crate) struct Cut;

impl Bar {
    fn is_closed(&self) -> bool {
        self.fate.get().is_none()
    }

    /// Ends the wait of all calls, unless it has ended already.
    fn decide(&self, fate: Fate) {
        if self.fate.set(fate).is_ok() {
            self.decided.notify_waiters();
        }
    }

    pub(crate) async fn pass(&self) -> Result<(), Cut> {
        self.arrived.fetch_add(1, SeqCst);
        self.arrival.notify_waiters();
        // A decision after this line is noticed even if it comes before the check.
        let decided = self.decided.notified();
        if self.is_closed() {
            decided.await;
        }
        match self.fate.get() {
            Some(Fate::Cut) => Err(Cut),
            Some(Fate::Passes) | None => Ok(()),
        }
    }

    fn nobody_came(&self, wanted: usize) -> WaitError {
        WaitError::new(format!(
            "{} of {wanted} calls came to the gate of {}",
            self.arrived.load(SeqCst),
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
        let bar = Arc::new(Bar {
            what,
            fate: OnceLock::new(),
            decided: Notify::new(),
            arrived: AtomicUsize::new(0),
            arrival: Notify::new(),
        });
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
