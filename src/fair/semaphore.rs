//! A semaphore that serves lanes in turns.

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

/// A number of slots that lanes take in turns.
///
/// # Guarantees
/// - There are never more permits than slots.
/// - Between two permits for one lane, every other waiting lane gets one (round robin). Within a lane, callers are
///   served in order of arrival.
/// - A new caller never overtakes a waiting one.
/// - A slot is never idle while a waiting caller may take it.
/// - Dropping an [`Acquire`] at any time loses no slot, and leaves nothing in the queue.
///
/// # Caveats
/// A semaphore from [`FairSemaphore::new`] gives all its slots to a lane that is alone. A newcomer then waits for as
/// long as that lane keeps them. This suits work whose duration no tenant can choose. Otherwise,
/// [`FairSemaphore::leaving_room`] keeps slots free for newcomers.
#[derive(Clone, Debug)]
pub(crate) struct FairSemaphore(Arc<SemaphoreShared>);

#[derive(Debug)]
struct SemaphoreShared {
    rule: AdmissionRule,
    state: Mutex<SemaphoreState>,
}

/// When a lane may take one more slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AdmissionRule {
    /// Whenever a slot is free.
    AnyFree,
    /// While the lane has fewer slots than are free.
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
    /// Slots in use by lane; lanes without any have no entry.
    held: HashMap<Lane, usize>,
}

/// The waiting callers of one lane.
#[derive(Debug)]
struct LaneQueue {
    turn: u64,
    callers: BTreeMap<u64, oneshot::Sender<FairPermit>>,
}

/// A slot. Dropping this releases it.
#[derive(Debug)]
#[must_use = "the place is free again as soon as the permit is dropped"]
pub(crate) struct FairPermit {
    semaphore: FairSemaphore,
    lane: Lane,
}

/// The reason for no permit from [`FairSemaphore::try_acquire`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPermit {
    /// The caller would have to wait.
    Busy,
    Closed,
}

impl FairSemaphore {
    /// A semaphore that gives all its slots to a lane that is alone.
    #[must_use]
    pub(crate) fn new(places: usize) -> Self {
        Self::with(places, AdmissionRule::AnyFree)
    }

    /// A semaphore that keeps slots for newcomers: a lane may have no more slots than remain free. One busy lane gets
    /// half of the slots, two get a third each, and so on. A newcomer gets a slot at once while there are fewer busy
    /// lanes than slots.
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

    /// Takes a slot if this lane may have one now.
    ///
    /// # Errors
    /// If the lane would have to wait, or the semaphore is closed.
    pub(crate) fn try_acquire(&self, lane: &Lane) -> Result<FairPermit, NoPermit> {
        let mut state = self.lock();
        if state.closed {
            return Err(NoPermit::Closed);
        }
        // No waiting lane is eligible now: otherwise its caller would have a permit already.
        if state.may_take(lane, self.0.rule) { Ok(self.grant(&mut state, lane)) } else { Err(NoPermit::Busy) }
    }

    /// Joins the queue now, and resolves to a permit, or to `None` once the semaphore is closed.
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

    /// Resolves every waiting [`Acquire`] to `None`, and refuses new ones. Granted permits stay valid.
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

    /// Releases a slot of this lane, and grants the free slots to the callers whose turn it is. Both happen under one
    /// lock, so that a new caller can't take the slot in between.
    fn release(&self, lane: &Lane) {
        let mut served = Vec::new();
        let mut state = self.lock();
        state.give_back(lane);
        while let Some((lane, caller)) = state.next_caller(self.0.rule) {
            served.push((caller, self.grant(&mut state, &lane)));
        }
        drop(state);
        for (caller, permit) in served {
            // A caller that is gone meanwhile returns the permit by dropping it, here or on its side.
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

    /// Removes the first caller of the first eligible lane from the queue. That lane's next turn is the last.
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

    /// Removes a canceled caller from the queue, if it is still there.
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

/// A caller that waits for a slot. It is in the queue from its creation, even before the first poll.
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
            // Dropping the receiver, after this, returns a permit that was sent meanwhile.
            drop(self.semaphore.lock().leave(&self.lane, number));
        }
    }
}
