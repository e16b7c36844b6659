//! The memory that answers of remote sides may take: one budget for the whole process, shared by name.
//!
//! # Guarantees
//! * The budget is never exceeded, and one share never holds more than its part of it.
//! * No share waits for another for longer than [`PATIENCE`]: where the budget is used up, the share that holds the most
//!   gives up its largest holding, unless the share that asks would hold more than that one.
//! * So a share always gets the budget divided by the number of shares that hold something.
//!
//! Everything that is held can be given up: an answer that is being read is asked for again, and what is kept is
//! looked up again, as after a crash.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

const MIB: usize = 1 << 20;

/// Bytes of answers that are being read, with their connections.
const ANSWERS: usize = 64 * MIB;
const ANSWERS_PER_SHARE: usize = 16 * MIB + MIB / 2;

/// Bytes of what is kept of answers: catalogs, and credentials that can't be stored yet.
const KEPT: usize = 32 * MIB;
const KEPT_PER_SHARE: usize = 8 * MIB;

/// How long an answer waits for others to end by themselves before one of them is given up. Most take less.
const PATIENCE: Duration = Duration::from_secs(1);

/// Bytes that all shares may hold together.
#[derive(Clone, Debug)]
pub struct MemoryBudget(Arc<Pool>);

/// The part of one tenant.
#[derive(Clone)]
pub struct MemoryShare {
    pool: Arc<Pool>,
    name: Arc<str>,
}

/// Bytes that are held for one thing, until this is dropped.
pub struct Holding {
    share: MemoryShare,
    id: u64,
}

/// A thing that is kept as long as there is room for it. It may be gone at any time.
pub struct Kept<T>(Arc<Mutex<Option<(Holding, T)>>>);

/// Why there is no room.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// The share is used up.
    #[error("{share} uses up its {} MiB of the operator's memory for answers", .limit / MIB)]
    Share {
        /// Its name.
        share: String,
        /// In bytes.
        limit: usize,
    },
    /// The budget is used up, and no other share holds more.
    #[error("the operator's memory for answers is used up, and {share} holds more of it than others")]
    Budget {
        /// The share's name.
        share: String,
    },
}

#[derive(Debug)]
struct Pool {
    total: usize,
    per_share: usize,
    held: Mutex<Held>,
    /// Tells that something was let go.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Held {
    total: usize,
    shares: HashMap<Arc<str>, usize>,
    holders: HashMap<u64, Holder>,
    next: u64,
}

struct Holder {
    share: Arc<str>,
    bytes: usize,
    give_up: Arc<dyn Fn() + Send + Sync>,
    /// Whether it was asked to give up, and has not done so yet.
    asked: bool,
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { share, bytes, give_up: _, asked } = self;
        f.debug_struct("Holder")
            .field("share", share)
            .field("bytes", bytes)
            .field("asked", asked)
            .finish_non_exhaustive()
    }
}

/// What came of a request for bytes.
enum Grant {
    Granted,
    Refused(NoRoom),
    /// Somebody who holds more is to give up first.
    After(Arc<dyn Fn() + Send + Sync>),
    /// Somebody was asked already.
    Pending,
}

impl MemoryBudget {
    /// A budget of so many bytes, of which one share gets at most so many.
    #[must_use]
    pub fn new(total: usize, per_share: usize) -> Self {
        let per_share = per_share.min(total);
        Self(Arc::new(Pool { total, per_share, held: Mutex::default(), freed: Notify::new() }))
    }

    /// The budget for answers that are being read.
    #[must_use]
    pub fn for_answers() -> Self {
        Self::new(ANSWERS, ANSWERS_PER_SHARE)
    }

    /// The budget for what is kept of them.
    #[must_use]
    pub fn for_what_is_kept() -> Self {
        Self::new(KEPT, KEPT_PER_SHARE)
    }

    /// The share of this name, which messages repeat: "the namespace `training`".
    #[must_use]
    pub fn share(&self, name: &str) -> MemoryShare {
        MemoryShare { pool: Arc::clone(&self.0), name: name.into() }
    }

    /// Bytes that are held now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.lock().total
    }
}

impl MemoryShare {
    /// Whether both are the same share.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.pool, &other.pool) && self.name == other.name
    }

    /// Holds nothing yet. `give_up` is called at most once, to have the holding dropped.
    pub(super) fn hold(&self, give_up: impl Fn() + Send + Sync + 'static) -> Holding {
        let mut held = self.pool.lock();
        let id = held.next;
        held.next += 1;
        let holder =
            Holder { share: Arc::clone(&self.name), bytes: 0, give_up: Arc::new(give_up), asked: false };
        held.holders.insert(id, holder);
        drop(held);
        Holding { share: self.clone(), id }
    }

    /// Keeps a thing of so many bytes while there is room.
    ///
    /// # Errors
    /// Where there is none even after others have given up what they keep.
    pub fn keep<T: Send + 'static>(&self, bytes: usize, thing: T) -> Result<Kept<T>, NoRoom> {
        let kept = Kept(Arc::new(Mutex::new(None)));
        let cell: Weak<Mutex<Option<(Holding, T)>>> = Arc::downgrade(&kept.0);
        let mut holding = self.hold(move || {
            if let Some(cell) = cell.upgrade() {
                let given_up = cell.lock().unwrap_or_else(PoisonError::into_inner).take();
                drop(given_up);
            }
        });
        holding.grow_now(bytes)?;
        *kept.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((holding, thing));
        Ok(kept)
    }
}

impl Holding {
    /// Holds more: as soon as there is room, or else, after a while, once those who hold more than this share have given
    /// up what is needed.
    ///
    /// # Errors
    /// Where there is no room.
    pub(super) async fn grow(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let patient_until = Instant::now() + PATIENCE;
        loop {
            let freed = self.share.pool.freed.notified();
            let is_patient = Instant::now() < patient_until;
            match self.try_to_grow(bytes, is_patient) {
                Grant::Granted => return Ok(()),
                Grant::Refused(why) if !is_patient => return Err(why),
                Grant::After(give_up) => give_up(),
                Grant::Refused(_) | Grant::Pending => {}
            }
            if is_patient {
                // Either way it is tried again.
                let _ = timeout_at(patient_until, freed).await;
            } else {
                freed.await;
            }
        }
    }

    /// The same, and waits so long for a share that is used up, which keeps nobody else waiting.
    ///
    /// # Errors
    /// As for [`Holding::grow`].
    pub(super) async fn grow_within(&mut self, patience: Duration, bytes: usize) -> Result<(), NoRoom> {
        let until = Instant::now() + patience;
        loop {
            match self.grow(bytes).await {
                Err(NoRoom::Share { .. }) if Instant::now() < until => {}
                outcome => return outcome,
            }
        }
    }

    /// The same at once, for what others give up at once.
    pub(super) fn grow_now(&mut self, bytes: usize) -> Result<(), NoRoom> {
        loop {
            match self.try_to_grow(bytes, false) {
                Grant::Granted => return Ok(()),
                Grant::Refused(why) => return Err(why),
                Grant::After(give_up) => give_up(),
                Grant::Pending => return Err(NoRoom::Budget { share: self.share.name.to_string() }),
            }
        }
    }

    /// One who is patient asks nobody to give up anything.
    fn try_to_grow(&self, bytes: usize, is_patient: bool) -> Grant {
        let MemoryShare { pool, name } = &self.share;
        let held = &mut *pool.lock();
        let own = held.shares.get(name).copied().unwrap_or_default().saturating_add(bytes);
        if own > pool.per_share {
            return Grant::Refused(NoRoom::Share { share: name.to_string(), limit: pool.per_share });
        }
        if held.total + bytes <= pool.total {
            held.total += bytes;
            *held.shares.entry(Arc::clone(name)).or_default() += bytes;
            if let Some(holder) = held.holders.get_mut(&self.id) {
                holder.bytes += bytes;
            }
            return Grant::Granted;
        }
        let most =
            held.shares.iter().max_by_key(|(_, bytes)| **bytes).map(|(share, bytes)| (share.clone(), *bytes));
        let Some((most, _)) = most.filter(|(share, bytes)| share != name && *bytes > own) else {
            return Grant::Refused(NoRoom::Budget { share: name.to_string() });
        };
        let pending: usize =
            held.holders.values().filter(|holder| holder.asked).map(|holder| holder.bytes).sum();
        if is_patient || held.total - pending + bytes <= pool.total {
            return Grant::Pending;
        }
        let of_most = held.holders.values_mut().filter(|holder| holder.share == most && !holder.asked);
        match of_most.filter(|holder| holder.bytes > 0).max_by_key(|holder| holder.bytes) {
            Some(holder) => {
                holder.asked = true;
                Grant::After(Arc::clone(&holder.give_up))
            }
            None => Grant::Pending,
        }
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let MemoryShare { pool, name } = &self.share;
        let held = &mut *pool.lock();
        let Some(holder) = held.holders.remove(&self.id) else { return };
        held.total -= holder.bytes;
        if let Some(bytes) = held.shares.get_mut(name) {
            *bytes -= holder.bytes;
            if *bytes == 0 {
                held.shares.remove(name);
            }
        }
        pool.freed.notify_waiters();
    }
}

impl<T: Clone> Kept<T> {
    /// The thing, unless it had to make room for others.
    #[must_use]
    pub fn get(&self) -> Option<T> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().map(|(_, thing)| thing.clone())
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryShare({})", self.name)
    }
}

impl fmt::Debug for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holding").field("share", &self.share).finish_non_exhaustive()
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

    fn kept(share: &MemoryShare, bytes: usize) -> Result<Kept<usize>, NoRoom> {
        share.keep(bytes, bytes)
    }

    #[test]
    fn a_share_has_a_limit_of_its_own() {
        let share = budget().share("a");
        let _first = kept(&share, 30).unwrap();
        let error = kept(&share, 3).unwrap_err();
        assert_eq!(error, NoRoom::Share { share: "a".to_owned(), limit: PER_SHARE });
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
        assert_eq!(kept(&b, 14).unwrap_err(), NoRoom::Budget { share: "b".to_owned() });
        assert_eq!((of_a.get(), of_b.get()), (Some(32), Some(20)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_may_waits_for_its_own_share() {
        let share = budget().share("a");
        let first = kept(&share, PER_SHARE).unwrap();
        let mut second = share.hold(|| {});
        assert!(second.grow_within(PATIENCE * 3, 1).await.is_err());
        let mut waiting = Box::pin(second.grow_within(PATIENCE * 3, 1));
        assert!(tokio::time::timeout(PATIENCE * 2, &mut waiting).await.is_err());
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
            assert!(tokio::time::timeout(PATIENCE * 2, &mut growing).await.is_err());
            assert!(cancelled.is_cancelled());
            drop(of_a);
            growing.await.unwrap();
        }
        assert_eq!(budget.held(), 38);
    }

    proptest! {
        /// Whatever others hold, a share gets an equal part.
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
