//! Limits the memory that answers of remote sides may use: one budget for the whole process, shared by name.
//!
//! # Guarantees
//! * The budget is never exceeded, and no share ever uses more than its part of it.
//! * If the budget is used up, [`AllocatedMemory::grow`] waits for [`PATIENCE`]. Then the largest share must release
//!   its largest allocation, unless the waiting share would become larger than it. [`AllocatedMemory::grow_now`] does
//!   not wait.
//! * If a holder does not release its allocation within [`PATIENCE`], the operator asks the holder of the next largest
//!   one. After [`LONGEST_WAIT`] the wait fails.
//! * So a share gets the budget divided by the number of shares in use, but at most its own limit, if larger shares
//!   release their memory in time. While it has less than that, another share is larger and must make room.
//!
//! Every allocation can be released. The operator then requests the answer again that it was reading or had kept, as
//! after a crash.

use std::{
    cmp::Reverse,
    collections::HashMap,
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, timeout, timeout_at},
};

const MIB: usize = 1 << 20;

/// Bytes for answers that are being read, with their connections.
const ANSWERS: usize = 64 * MIB;
const ANSWERS_PER_SHARE: usize = 16 * MIB + MIB / 2;

/// Bytes for the kept parts of answers: catalogs, and credentials that can't be stored yet.
const KEPT: usize = 32 * MIB;
const KEPT_PER_SHARE: usize = 8 * MIB;

/// How long an answer waits for others to end before one of them must release its memory. That one may take as long to
/// do so. Most answers end sooner.
const PATIENCE: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// A limit on the memory of all shares together.
#[derive(Clone, Debug)]
pub(crate) struct MemoryBudget(Arc<Pool>);

/// The part of one tenant in a budget.
#[derive(Clone)]
pub struct MemoryShare {
    pool: Arc<Pool>,
    name: Arc<str>,
}

pub(super) trait Weight {
    /// Bytes that the value uses on the heap, or more.
    fn weight(&self) -> usize;
}

impl Weight for String {
    fn weight(&self) -> usize {
        self.capacity()
    }
}

/// An allocation from the budget, until it is dropped.
pub(crate) struct AllocatedMemory {
    share: MemoryShare,
    id: u64,
}

/// A value that is kept while memory suffices. It may disappear at any time.
pub struct Kept<T>(Arc<Mutex<Option<(AllocatedMemory, T)>>>);

type GiveUp = Arc<dyn Fn() + Send + Sync>;

/// The reason for a refused allocation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutOfMemory {
    /// The share has reached its limit.
    #[error("{share} has used its limit of {} MiB for answers; retrying later", .limit / MIB)]
    Share {
        share: String,
        /// In bytes.
        limit: usize,
    },
    /// The budget is used up, and no larger share released memory in time.
    #[error("the operator has used its memory for answers and can't free any for {share}; retrying later")]
    Budget { share: String },
}

#[derive(Debug)]
struct Pool {
    total: usize,
    per_share: usize,
    held: Mutex<HeldTotals>,
    /// Notifies waiters of released memory.
    freed: Notify,
}

#[derive(Debug, Default)]
struct HeldTotals {
    total: usize,
    shares: HashMap<Arc<str>, usize>,
    holders: HashMap<u64, MemoryHolder>,
    next: u64,
}

struct MemoryHolder {
    share: Arc<str>,
    bytes: usize,
    give_up: GiveUp,
    /// When the holder was asked to release its memory, if it has not done so yet.
    asked: Option<Instant>,
}

impl fmt::Debug for MemoryHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { share, bytes, give_up: _, asked } = self;
        f.debug_struct("Holder")
            .field("share", share)
            .field("bytes", bytes)
            .field("asked", asked)
            .finish_non_exhaustive()
    }
}

enum MemoryGrant {
    Granted,
    Refused(OutOfMemory),
    /// Another holder must release its memory first.
    After(GiveUp),
    /// Another holder was asked already.
    Pending,
}

impl MemoryBudget {
    /// Creates a budget of `total` bytes, of which one share gets at most `per_share`.
    #[must_use]
    pub(crate) fn new(total: usize, per_share: usize) -> Self {
        let per_share = per_share.min(total);
        Self(Arc::new(Pool { total, per_share, held: Mutex::default(), freed: Notify::new() }))
    }

    /// The budget for answers that are being read.
    #[must_use]
    pub(crate) fn for_answers() -> Self {
        Self::new(ANSWERS, ANSWERS_PER_SHARE)
    }

    /// The budget for the parts of answers that the operator keeps.
    #[must_use]
    pub(crate) fn for_what_is_kept() -> Self {
        Self::new(KEPT, KEPT_PER_SHARE)
    }

    /// The share of this name. Messages show the name, such as "the namespace `training`".
    #[must_use]
    pub(crate) fn share(&self, name: &str) -> MemoryShare {
        MemoryShare { pool: Arc::clone(&self.0), name: name.into() }
    }

    /// Bytes in use now.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn held(&self) -> usize {
        self.0.held.lock().total
    }
}

impl MemoryShare {
    /// Whether both are the same share.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.pool, &other.pool) && self.name == other.name
    }

    /// Creates an empty allocation. `give_up` is called at most once, to have the allocation dropped.
    pub(super) fn hold(&self, give_up: impl Fn() + Send + Sync + 'static) -> AllocatedMemory {
        let mut held = self.pool.held.lock();
        let id = held.next;
        held.next += 1;
        let holder =
            MemoryHolder { share: Arc::clone(&self.name), bytes: 0, give_up: Arc::new(give_up), asked: None };
        held.holders.insert(id, holder);
        drop(held);
        AllocatedMemory { share: self.clone(), id }
    }

    /// Keeps a value of this many bytes while memory suffices.
    ///
    /// # Errors
    /// If there is not enough memory even after others have released what they keep.
    pub fn keep<T: Send + 'static>(&self, bytes: usize, thing: T) -> Result<Kept<T>, OutOfMemory> {
        let mut holding = self.hold(|| {});
        holding.grow_now(bytes)?;
        Ok(self.store(holding, thing))
    }

    /// Another share may need the memory before the value is stored. The value is then dropped at once.
    fn store<T: Send + 'static>(&self, holding: AllocatedMemory, thing: T) -> Kept<T> {
        let id = holding.id;
        let kept = Kept(Arc::new(Mutex::new(Some((holding, thing)))));
        let cell: Weak<Mutex<Option<(AllocatedMemory, T)>>> = Arc::downgrade(&kept.0);
        self.when_asked(id, move || {
            if let Some(cell) = cell.upgrade() {
                let given_up = cell.lock().take();
                drop(given_up);
            }
        });
        kept
    }

    /// Sets the callback that has this allocation dropped. It is called at once if the release was requested already.
    fn when_asked(&self, id: u64, give_up: impl Fn() + Send + Sync + 'static) {
        let give_up: GiveUp = Arc::new(give_up);
        let mut held = self.pool.held.lock();
        let asked = held.holders.get_mut(&id).is_some_and(|holder| {
            holder.give_up = Arc::clone(&give_up);
            holder.asked.is_some()
        });
        drop(held);
        if asked {
            give_up();
        }
    }
}

impl AllocatedMemory {
    /// Grows the allocation as soon as there is memory. After a while, holders in larger shares must release theirs.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub(super) async fn grow(&mut self, bytes: usize) -> Result<(), OutOfMemory> {
        let began = Instant::now();
        let patient_until = began + PATIENCE;
        loop {
            let freed = self.share.pool.freed.notified();
            let now = Instant::now();
            let is_patient = now < patient_until;
            match self.try_to_grow(bytes, is_patient) {
                MemoryGrant::Granted => return Ok(()),
                MemoryGrant::Refused(why) if !is_patient => return Err(why),
                MemoryGrant::Refused(_) | MemoryGrant::Pending | MemoryGrant::After(_)
                    if now >= began + LONGEST_WAIT =>
                {
                    return Err(self.no_room());
                }
                MemoryGrant::After(give_up) => give_up(),
                MemoryGrant::Refused(_) | MemoryGrant::Pending => {}
            }
            // The loop tries again after released memory and after a timeout.
            if is_patient {
                let _ = timeout_at(patient_until, freed).await;
            } else {
                let _ = timeout(PATIENCE, freed).await;
            }
        }
    }

    /// Like [`AllocatedMemory::grow`], but waits this long for memory of its own share. That wait delays no other
    /// share.
    ///
    /// # Errors
    /// As for [`AllocatedMemory::grow`].
    pub(super) async fn grow_within(&mut self, patience: Duration, bytes: usize) -> Result<(), OutOfMemory> {
        let until = Instant::now() + patience;
        loop {
            match self.grow(bytes).await {
                Err(OutOfMemory::Share { .. }) if Instant::now() < until => {}
                outcome => return outcome,
            }
        }
    }

    /// Like [`AllocatedMemory::grow`], without waiting, for budgets whose holders release memory at once.
    pub(super) fn grow_now(&mut self, bytes: usize) -> Result<(), OutOfMemory> {
        loop {
            match self.try_to_grow(bytes, false) {
                MemoryGrant::Granted => return Ok(()),
                MemoryGrant::Refused(why) => return Err(why),
                MemoryGrant::After(give_up) => give_up(),
                MemoryGrant::Pending => return Err(self.no_room()),
            }
        }
    }

    /// Shrinks the allocation to at most this many bytes.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        let MemoryShare { pool, name } = &self.share;
        let held = &mut *pool.held.lock();
        let Some(holder) = held.holders.get_mut(&self.id) else { return };
        let less = holder.bytes.saturating_sub(bytes);
        holder.bytes -= less;
        held.release(name, less);
        pool.freed.notify_waiters();
    }

    /// Sets the callback that has this allocation dropped. It is called at once if another share has requested the
    /// memory already. For values that can be found only after they are stored.
    pub(super) fn when_asked(&self, give_up: impl Fn() + Send + Sync + 'static) {
        self.share.when_asked(self.id, give_up);
    }

    fn no_room(&self) -> OutOfMemory {
        OutOfMemory::Budget { share: self.share.name.to_string() }
    }

    /// While `is_patient`, no other holder is asked to release memory.
    fn try_to_grow(&self, bytes: usize, is_patient: bool) -> MemoryGrant {
        let MemoryShare { pool, name } = &self.share;
        let held = &mut *pool.held.lock();
        let own = held.shares.get(name).copied().unwrap_or_default().saturating_add(bytes);
        if own > pool.per_share {
            return MemoryGrant::Refused(OutOfMemory::Share {
                share: name.to_string(),
                limit: pool.per_share,
            });
        }
        if held.total + bytes <= pool.total {
            held.total += bytes;
            *held.shares.entry(Arc::clone(name)).or_default() += bytes;
            if let Some(holder) = held.holders.get_mut(&self.id) {
                holder.bytes += bytes;
            }
            return MemoryGrant::Granted;
        }
        let mut larger: Vec<_> =
            held.shares.iter().filter(|(share, bytes)| *share != name && **bytes > own).collect();
        if larger.is_empty() {
            return MemoryGrant::Refused(self.no_room());
        }
        let now = Instant::now();
        let in_time = |holder: &&MemoryHolder| holder.asked.is_some_and(|asked| now < asked + PATIENCE);
        let pending: usize = held.holders.values().filter(in_time).map(|holder| holder.bytes).sum();
        if is_patient || held.total - pending + bytes <= pool.total {
            return MemoryGrant::Pending;
        }
        larger.sort_unstable_by_key(|(_, bytes)| Reverse(**bytes));
        for (share, _) in larger {
            let of_share =
                held.holders.values_mut().filter(|holder| holder.share == *share && holder.asked.is_none());
            if let Some(holder) = of_share.filter(|holder| holder.bytes > 0).max_by_key(|holder| holder.bytes)
            {
                holder.asked = Some(now);
                return MemoryGrant::After(Arc::clone(&holder.give_up));
            }
        }
        MemoryGrant::Pending
    }
}

impl HeldTotals {
    fn release(&mut self, share: &Arc<str>, bytes: usize) {
        self.total -= bytes;
        if let Some(held) = self.shares.get_mut(share) {
            *held -= bytes;
            if *held == 0 {
                self.shares.remove(share);
            }
        }
    }
}

impl Drop for AllocatedMemory {
    fn drop(&mut self) {
        let MemoryShare { pool, name } = &self.share;
        let held = &mut *pool.held.lock();
        let Some(holder) = held.holders.remove(&self.id) else { return };
        held.release(name, holder.bytes);
        pool.freed.notify_waiters();
    }
}

impl<T: Clone> Kept<T> {
    /// The value, unless it was dropped to free memory.
    #[must_use]
    pub fn get(&self) -> Option<T> {
        let kept = self.0.lock();
        kept.as_ref().map(|(_, thing)| thing.clone())
    }
}

impl Pool {}

impl fmt::Debug for MemoryShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryShare({})", self.name)
    }
}

impl fmt::Debug for AllocatedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holding").field("share", &self.share).finish_non_exhaustive()
    }
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Kept<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use proptest::prelude::*;
    use tokio_util::sync::CancellationToken;

    use super::*;

    const TOTAL: usize = 64;
    const PER_SHARE: usize = 32;

    fn budget() -> MemoryBudget {
        MemoryBudget::new(TOTAL, PER_SHARE)
    }

    fn kept(share: &MemoryShare, bytes: usize) -> Result<Kept<usize>, OutOfMemory> {
        share.keep(bytes, bytes)
    }

    #[test]
    fn a_share_has_a_limit_of_its_own() {
        let share = budget().share("a");
        let _first = kept(&share, 30).unwrap();
        let error = kept(&share, 3).unwrap_err();
        assert_eq!(error, OutOfMemory::Share { share: "a".to_owned(), limit: PER_SHARE });
        drop(kept(&share, 2).unwrap());
    }

    #[test]
    fn the_largest_holding_of_the_largest_share_makes_room() {
        let budget = budget();
        let (a, b, c) = (budget.share("a"), budget.share("b"), budget.share("c"));
        let of_a = [20, 12].map(|bytes| kept(&a, bytes).unwrap());
        let of_b = kept(&b, 30).unwrap();
        let of_c = kept(&c, 10).unwrap();
        assert_eq!(of_a.each_ref().map(Kept::get), [None, Some(12)]);
        assert_eq!((of_b.get(), of_c.get()), (Some(30), Some(10)));
        assert_eq!(budget.held(), 52);
        drop((of_a, of_b, of_c));
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn who_would_hold_the_most_gets_nothing() {
        let budget = MemoryBudget::new(TOTAL, TOTAL);
        let (a, b) = (budget.share("a"), budget.share("b"));
        let of_a = kept(&a, 32).unwrap();
        let of_b = kept(&b, 20).unwrap();
        assert_eq!(kept(&b, 14).unwrap_err(), OutOfMemory::Budget { share: "b".to_owned() });
        assert_eq!((of_a.get(), of_b.get()), (Some(32), Some(20)));
    }

    /// Simulates the time between the grant and the storing of the value.
    #[test]
    fn a_thing_that_is_asked_for_before_it_is_stored_goes_at_once() {
        let budget = budget();
        let (a, b, c) = (budget.share("a"), budget.share("b"), budget.share("c"));
        let mut holding = a.hold(|| {});
        holding.grow_now(32).unwrap();
        let _of_b = kept(&b, 30).unwrap();
        assert!(kept(&c, 10).is_err(), "there is nothing yet that could be given up");
        let of_a = a.store(holding, 32);
        assert_eq!((of_a.get(), budget.held()), (None, 30));
        assert_eq!(kept(&c, 10).unwrap().get(), Some(10));
    }

    #[test]
    fn a_share_may_hold_less_than_before() {
        let budget = budget();
        let mut holding = budget.share("a").hold(|| {});
        holding.grow_now(30).unwrap();
        holding.shrink_to(10);
        holding.shrink_to(20);
        assert_eq!(budget.held(), 10);
        drop(holding);
        assert_eq!(budget.held(), 0);
    }

    /// Three shares use the whole budget. The largest one does not release the memory when asked.
    #[tokio::test(start_paused = true)]
    async fn who_waits_does_not_wait_for_one_who_never_gives_up() {
        let budget = MemoryBudget::new(TOTAL, TOTAL);
        let (a, b, c) = (budget.share("a"), budget.share("b"), budget.share("c"));
        let mut stuck = a.hold(|| {});
        stuck.grow(34).await.unwrap();
        let of_b = kept(&b, 30).unwrap();
        let mut of_c = c.hold(|| {});
        timeout(PATIENCE * 3, of_c.grow(8)).await.unwrap().unwrap();
        assert_eq!((of_b.get(), budget.held()), (None, 42));
        let began = Instant::now();
        of_c.grow(25).await.unwrap_err();
        assert!(began.elapsed() <= LONGEST_WAIT + PATIENCE, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn who_may_waits_for_its_own_share() {
        let share = budget().share("a");
        let first = kept(&share, PER_SHARE).unwrap();
        let mut second = share.hold(|| {});
        assert!(second.grow_within(PATIENCE * 3, 1).await.is_err());
        let mut waiting = Box::pin(second.grow_within(PATIENCE * 3, 1));
        assert!(timeout(PATIENCE * 2, &mut waiting).await.is_err());
        drop(first);
        assert_eq!(waiting.await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_waits_until_others_have_let_go() {
        let budget = budget();
        let (a, b, c) = (budget.share("a"), budget.share("b"), budget.share("c"));
        let cancelled = CancellationToken::new();
        let cancel = cancelled.clone();
        let mut of_a = a.hold(move || cancel.cancel());
        of_a.grow(32).await.unwrap();
        let mut of_b = b.hold(|| {});
        of_b.grow(30).await.unwrap();
        let mut of_c = c.hold(|| {});
        {
            let mut growing = Box::pin(of_c.grow(8));
            assert!((&mut growing).now_or_never().is_none());
            assert!(!cancelled.is_cancelled(), "most end by themselves");
            assert!(timeout(PATIENCE * 2, &mut growing).await.is_err());
            assert!(cancelled.is_cancelled());
            drop(of_a);
            growing.await.unwrap();
        }
        assert_eq!(budget.held(), 38);
    }

    proptest! {
        /// A share gets an equal part, however much the others use, if they release it at once.
        #[test]
        fn every_share_gets_an_equal_part(wishes in proptest::collection::vec((0_usize..8, 1_usize..20), 1..60)) {
            let budget = budget();
            let mut all = Vec::new();
            for (name, bytes) in wishes {
                all.extend(kept(&budget.share(&name.to_string()), bytes));
                prop_assert!(budget.held() <= TOTAL);
            }
            // Eight shares, and this is the ninth.
            let late = budget.share("late");
            prop_assert!(kept(&late, TOTAL / 9).is_ok());
        }
    }
}
