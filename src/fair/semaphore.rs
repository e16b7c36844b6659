//! The semaphore.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use super::Lane;

/// A number of places that lanes take in turns.
///
/// # Guarantees
/// - There are never more permits than places.
/// - Between two permits for one lane, every other lane that waits gets one (round robin). Within a lane, the first to
///   come is the first to be served.
/// - A new caller never overtakes one that waits.
/// - A place that a waiting caller may take is never idle.
/// - Dropping an [`Acquire`] at any time loses no place, and leaves nothing in the queue.
///
/// # Caveats
/// A semaphore with [`FairSemaphore::new`] serves a lane that is alone with all its places. How long a newcomer waits
/// then depends on how long that lane keeps them: it suits work whose length no tenant can choose. Where a tenant can,
/// [`FairSemaphore::leaving_room`] keeps places free for those who come later.
#[derive(Clone, Debug)]
pub(crate) struct FairSemaphore(Arc<SemaphoreShared>);

#[derive(Debug)]
struct SemaphoreShared {
    rule: AdmissionRule,
    state: Mutex<SemaphoreState>,
}

/// When a lane may take one more place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AdmissionRule {
    /// Whenever one is free.
    AnyFree,
    /// While it holds fewer places than are free.
    FewerThanFree,
}

#[derive(Debug)]
struct SemaphoreState {
    free: usize,
    closed: bool,
    /// The lanes with waiting callers, by their turn.
    turns: BTreeMap<u64, Lane>,
    /// The next turn, and the number of the next caller. It can't overflow within the life of a process.
    next: u64,
    waiting: HashMap<Lane, LaneQueue>,
    /// Places by the lane that holds them; no entry for lanes without any.
    held: HashMap<Lane, usize>,
}

/// The callers of one lane that wait.
#[derive(Debug)]
struct LaneQueue {
    turn: u64,
    callers: BTreeMap<u64, oneshot::Sender<FairPermit>>,
}

/// A place. It is free again when this is dropped.
#[derive(Debug)]
#[must_use = "the place is free again as soon as the permit is dropped"]
pub(crate) struct FairPermit {
    semaphore: FairSemaphore,
    lane: Lane,
}

/// Why [`FairSemaphore::try_acquire`] gave no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPermit {
    /// The caller would have to wait.
    Busy,
    Closed,
}

impl FairSemaphore {
    /// A semaphore whose places are all there for a lane that is alone.
    #[must_use]
    pub(crate) fn new(places: usize) -> Self {
        Self::with(places, AdmissionRule::AnyFree)
    }

    /// A semaphore that keeps room for lanes that come later: a lane may hold no more places than stay free. One busy
    /// lane gets half of the places, two get a third each, and so on; a newcomer finds a place at once as long as fewer
    /// lanes are busy than there are places.
    #[must_use]
    pub(crate) fn leaving_room(places: usize) -> Self {
        Self::with(places, AdmissionRule::FewerThanFree)
    }

    fn with(places: usize, rule: AdmissionRule) -> Self {
        let state = SemaphoreState {
            free: places,
            closed: false,
            turns: BTreeMap::new(),
            next: 0,
            waiting: HashMap::new(),
            held: HashMap::new(),
        };
        Self(Arc::new(SemaphoreShared { rule, state: Mutex::new(state) }))
    }

    /// Takes a place if this lane may have one now.
    ///
    /// # Errors
    /// When the lane would have to wait, or the semaphore is closed.
    pub(crate) fn try_acquire(&self, lane: &Lane) -> Result<FairPermit, NoPermit> {
        let mut state = self.lock();
        if state.closed {
            return Err(NoPermit::Closed);
        }
        // No lane that waits is eligible now: otherwise its caller would have been granted a permit already.
        if state.may_take(lane, self.0.rule) { Ok(self.grant(&mut state, lane)) } else { Err(NoPermit::Busy) }
    }

    /// Takes a place in the queue now, and resolves to a permit, or to `None` once the semaphore is closed.
    pub(crate) fn acquire(&self, lane: &Lane) -> Acquire {
        let (semaphore, lane) = (self.clone(), lane.clone());
        let mut state = self.lock();
        if state.closed {
            drop(state);
            return Acquire { semaphore, lane, progress: AcquireProgress::Closed };
        }
        if state.may_take(&lane, self.0.rule) {
            let permit = self.grant(&mut state, &lane);
            drop(state);
            return Acquire { semaphore, lane, progress: AcquireProgress::Granted(permit) };
        }
        let (sender, receiver) = oneshot::channel();
        let number = state.enqueue(&lane, sender);
        drop(state);
        Acquire { semaphore, lane, progress: AcquireProgress::Waiting { number, receiver } }
    }

    /// Resolves every waiting [`Acquire`] to `None`, and refuses new ones. Permits that were granted stay valid.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.turns.clear();
        let waiting = mem::take(&mut state.waiting);
        drop(state);
        // Wakes the callers, outside of the lock.
        drop(waiting);
    }

    fn grant(&self, state: &mut SemaphoreState, lane: &Lane) -> FairPermit {
        state.free -= 1;
        *state.held.entry(lane.clone()).or_default() += 1;
        FairPermit { semaphore: self.clone(), lane: lane.clone() }
    }

    /// Frees a place of this lane, and grants what is free to the callers whose turn it is. Both happen under one lock:
    /// a new caller can't take the place in between.
    fn release(&self, lane: &Lane) {
        let mut served = Vec::new();
        let mut state = self.lock();
        state.give_back(lane);
        while let Some((lane, caller)) = state.next_caller(self.0.rule) {
            served.push((caller, self.grant(&mut state, &lane)));
        }
        drop(state);
        for (caller, permit) in served {
            // A caller that went away meanwhile gives the permit back by dropping it, here or on its side.
            drop(caller.send(permit));
        }
    }

    fn lock(&self) -> MutexGuard<'_, SemaphoreState> {
        self.0.state.lock()
    }
}

impl SemaphoreState {
    fn may_take(&self, lane: &Lane, rule: AdmissionRule) -> bool {
        let needed = match rule {
            AdmissionRule::AnyFree => 0,
            AdmissionRule::FewerThanFree => self.held.get(lane).copied().unwrap_or_default(),
        };
        self.free > needed
    }

    fn enqueue(&mut self, lane: &Lane, sender: oneshot::Sender<FairPermit>) -> u64 {
        let number = self.next;
        self.next += 1;
        let line = self.waiting.entry(lane.clone()).or_insert_with(|| {
            self.turns.insert(number, lane.clone());
            LaneQueue { turn: number, callers: BTreeMap::new() }
        });
        line.callers.insert(number, sender);
        number
    }

    /// Takes the first caller of the first lane that may have a place out of the queue; that lane's next turn is the last.
    fn next_caller(&mut self, rule: AdmissionRule) -> Option<(Lane, oneshot::Sender<FairPermit>)> {
        if self.free == 0 {
            return None;
        }
        let lane = self.turns.values().find(|lane| self.may_take(lane, rule))?.clone();
        let line = self.waiting.get_mut(&lane)?;
        let (_, caller) = line.callers.pop_first()?;
        self.turns.remove(&line.turn);
        if line.callers.is_empty() {
            self.waiting.remove(&lane);
        } else {
            line.turn = self.next;
            self.turns.insert(self.next, lane.clone());
            self.next += 1;
        }
        Some((lane, caller))
    }

    /// Takes a caller that gave up out of the queue, if it is still there.
    fn leave(&mut self, lane: &Lane, number: u64) -> Option<oneshot::Sender<FairPermit>> {
        let line = self.waiting.get_mut(lane)?;
        let caller = line.callers.remove(&number);
        if line.callers.is_empty() {
            self.turns.remove(&line.turn);
            self.waiting.remove(lane);
        }
        caller
    }

    fn give_back(&mut self, lane: &Lane) {
        self.free += 1;
        if let Some(held) = self.held.get_mut(lane) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(lane);
            }
        }
    }
}

impl Drop for FairPermit {
    fn drop(&mut self) {
        self.semaphore.release(&self.lane);
    }
}

/// A caller that waits for a place. It is in the queue from when it was made, also before it is first polled.
#[derive(Debug)]
#[must_use = "a caller that is not awaited gives its place in the queue up"]
pub(crate) struct Acquire {
    semaphore: FairSemaphore,
    lane: Lane,
    progress: AcquireProgress,
}

#[derive(Debug)]
enum AcquireProgress {
    Granted(FairPermit),
    Waiting { number: u64, receiver: oneshot::Receiver<FairPermit> },
    Closed,
}

impl Future for Acquire {
    type Output = Option<FairPermit>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let came = match mem::replace(&mut self.progress, AcquireProgress::Closed) {
            AcquireProgress::Granted(permit) => Some(permit),
            AcquireProgress::Closed => None,
            AcquireProgress::Waiting { number, mut receiver } => {
                match Pin::new(&mut receiver).poll(context) {
                    Poll::Ready(came) => came.ok(),
                    Poll::Pending => {
                        self.progress = AcquireProgress::Waiting { number, receiver };
                        return Poll::Pending;
                    }
                }
            }
        };
        Poll::Ready(came)
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        if let AcquireProgress::Waiting { number, .. } = self.progress {
            // A permit that was sent meanwhile is given back when the receiver is dropped, after this.
            drop(self.semaphore.lock().leave(&self.lane, number));
        }
    }
}
