//! Budgets: how many requests may be sent within an hour for one ServiceKey, and to one remote side.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

/// The period of all budgets.
const HOUR: Duration = Duration::from_secs(3600);

/// Calls to a remote side for one ServiceKey. Each change by a user may replace the key: a request, its polls, and two
/// revocations with a lookup each. A new process repeats what failed at once, with the shortest waits. Otherwise the
/// waits between failed attempts grow to five minutes, which makes about 20 attempts in the first hour. An attempt takes
/// up to eight calls: a lookup, the creation, its polls, and a revocation with lookups.
const CALLS_FOR_A_KEY: Price = Price { base: 160, per_change: 8, per_start: 8, per_row: 0 };
/// Calls to a remote side for all its ServiceKeys: logins, checks, lists. Two tenants have a provider for it each, and a
/// check of each every ten minutes takes up to seven calls, which makes 84. Each failed attempt for one of several
/// ServiceKeys may look up the instance and log in again, and polls look into a list that several ServiceKeys share.
const CALLS_TO_A_SIDE: Price = Price { base: 240, per_change: 8, per_start: 8, per_row: 0 };
/// Writes to the API server about one ServiceKey with its Secret and its Events, or about one provider. A second writer
/// causes most of them: the operator repairs the Secret at most every five minutes in the end, but three times at once
/// after each calm of ten minutes, and each repair needs a Secret, two statuses and two Events.
///
/// A new process does not know the repairs before its start, so its waits begin again: it repairs the Secret three times
/// at once and then after 1, 2, 4 … 256 seconds. These are twelve repairs in less than ten minutes, where its predecessor
/// would have made two. The ten others take five writes each.
const WRITES: Price = Price { base: 250, per_change: 8, per_start: 8, per_row: 50 };

/// The most requests that one payer may cause within an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// Without any cause.
    pub base: usize,
    /// In addition for each change by a user.
    pub per_change: usize,
    /// In addition for each start of a process of the operator, which knows nothing of what failed before.
    pub per_start: usize,
    /// In addition for each of these starts, if another writer changes the Secret: a new row of repairs.
    pub per_row: usize,
}

/// The events of the last hour that justify requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Causes {
    /// The changes by users.
    pub changes: usize,
    /// The starts of processes, and the changes of the leader.
    pub starts: usize,
    /// Whether another writer changed the Secret.
    pub is_contested: bool,
}

/// Counts of requests, by their payer.
#[derive(Debug)]
pub struct Budget<P> {
    price: Price,
    sent: BTreeMap<P, VecDeque<Instant>>,
    /// The payers that have sent too many.
    over: BTreeSet<P>,
    /// The most requests of one payer within an hour, without those that a cause justifies.
    most: usize,
}

impl<P: Clone + Ord> Budget<P> {
    /// A budget of which nothing is spent.
    #[must_use]
    pub const fn new(price: Price) -> Self {
        Self { price, sent: BTreeMap::new(), over: BTreeSet::new(), most: 0 }
    }

    /// Counts a request. Returns how many were sent within an hour, if this is the first of its payer that is too many.
    pub fn spend(&mut self, payer: P, causes: Causes) -> Option<usize> {
        let Price { base, per_change, per_start, per_row } = self.price;
        let Causes { changes, starts, is_contested } = causes;
        let per_start = if is_contested { per_start + per_row } else { per_start };
        let count = count_within(self.sent.entry(payer.clone()).or_default(), HOUR);
        let unjustified = count.saturating_sub(per_change * changes + per_start * starts);
        self.most = self.most.max(unjustified);
        (unjustified > base && self.over.insert(payer)).then_some(count)
    }

    /// The most requests of one payer within an hour, without those that a cause justifies.
    #[must_use]
    pub const fn most(&self) -> usize {
        self.most
    }
}

/// When causes of each kind happened.
#[derive(Debug)]
pub struct History<P>(BTreeMap<P, VecDeque<Instant>>);

impl<P> Default for History<P> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<P: Ord> History<P> {
    /// Notes that something happened now.
    pub fn note(&mut self, of: P) {
        count_within(self.0.entry(of).or_default(), HOUR);
    }

    /// How often it happened within the last hour.
    #[must_use]
    pub fn lately(&self, of: &P) -> usize {
        self.0.get(of).map_or(0, |times| times.iter().filter(|at| at.elapsed() <= HOUR).count())
    }
}

/// The budgets of a run.
#[derive(Debug)]
pub struct Budgets {
    calls_for: Budget<Uuid>,
    calls_to: Budget<String>,
    writes: Budget<Place>,
    changes: History<Place>,
    changes_at: History<String>,
    starts: History<()>,
}

/// A namespace and a name.
type Place = (String, String);

impl Default for Budgets {
    fn default() -> Self {
        Self {
            calls_for: Budget::new(CALLS_FOR_A_KEY),
            calls_to: Budget::new(CALLS_TO_A_SIDE),
            writes: Budget::new(WRITES),
            changes: History::default(),
            changes_at: History::default(),
            starts: History::default(),
        }
    }
}

impl Budgets {
    /// A user changes the object at this place, which concerns this remote side.
    pub fn change(&mut self, place: Place, side: String) {
        self.changes.note(place);
        self.changes_at.note(side);
    }

    /// A process starts, or becomes the leader.
    pub fn start(&mut self) {
        self.starts.note(());
    }

    /// Counts a call for one ServiceKey. Returns how many there were within an hour, if that is too many.
    pub fn call_for(&mut self, owner: Uuid, place: &Place) -> Option<usize> {
        let changes = self.changes.lately(place);
        let causes = Causes { changes, starts: self.starts.lately(&()), is_contested: false };
        self.calls_for.spend(owner, causes)
    }

    /// The same for a call to a remote side that is not for one ServiceKey alone.
    pub fn call_to(&mut self, side: &str) -> Option<usize> {
        let side = side.to_owned();
        let changes = self.changes_at.lately(&side);
        let causes = Causes { changes, starts: self.starts.lately(&()), is_contested: false };
        self.calls_to.spend(side, causes)
    }

    /// The same for a write about the ServiceKey, the provider or the login Secret at this place. `is_contested`: another
    /// writer changed the Secret of the ServiceKey within the last hour.
    pub fn write_about(&mut self, place: Place, is_contested: bool) -> Option<usize> {
        let changes = self.changes.lately(&place);
        let causes = Causes { changes, starts: self.starts.lately(&()), is_contested };
        self.writes.spend(place, causes)
    }

    /// The most that was spent of each budget, without what a cause justifies.
    #[must_use]
    pub const fn most(&self) -> [usize; 3] {
        [self.calls_for.most(), self.calls_to.most(), self.writes.most()]
    }
}

/// The UUIDs in a text, in the order of their places.
pub fn uuids(text: &[u8]) -> impl Iterator<Item = Uuid> {
    const DASHES: [usize; 4] = [8, 13, 18, 23];
    text.windows(36)
        .filter(|window| DASHES.iter().all(|place| window[*place] == b'-'))
        .filter_map(|window| Uuid::try_parse_ascii(window).ok())
}

/// Adds now to these times, and counts those that are not older than `period`.
pub fn count_within(times: &mut VecDeque<Instant>, period: Duration) -> usize {
    times.push_back(Instant::now());
    forget_older(times, period);
    times.len()
}

/// Removes the times that are older than `period`.
pub fn forget_older(times: &mut VecDeque<Instant>, period: Duration) {
    while times.front().is_some_and(|at| at.elapsed() > period) {
        times.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_the_last_hour_counts() {
        let mut budget = Budget::new(Price { base: 2, per_change: 1, per_start: 1, per_row: 2 });
        let mut spend = |payer, causes| budget.spend(payer, causes);
        assert_eq!([(); 4].map(|()| spend("a", Causes::default())), [None, None, Some(3), None]);
        let causes = Causes { changes: 1, starts: 1, is_contested: false };
        assert_eq!([(); 5].map(|()| spend("b", causes)), [None, None, None, None, Some(5)]);
        let contested = Causes { is_contested: true, ..causes };
        assert_eq!([(); 7].map(|()| spend("c", contested)), [None, None, None, None, None, None, Some(7)]);
        assert_eq!([(); 4].map(|()| spend("d", causes)), [None; 4]);
        assert_eq!(spend("d", Causes::default()), Some(5), "the causes are more than an hour ago");
        advance(HOUR + Duration::from_secs(1)).await;
        assert_eq!(spend("e", Causes::default()), None);
        assert_eq!(budget.most(), 5);
    }

    #[test]
    fn a_uuid_is_found_within_a_name() {
        let uid = Uuid::from_u128(7);
        let text = format!("/v2/team-a-key-1-{uid}-2?x=%3A{uid}");
        assert_eq!(uuids(text.as_bytes()).collect::<Vec<_>>(), [uid, uid]);
    }
}
