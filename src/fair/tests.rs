use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use futures::{FutureExt, executor::block_on};
use proptest::prelude::*;

use super::*;

fn lane(name: &str) -> Lane {
    Lane::of_namespace(name)
}

#[test]
fn a_burst_delays_another_lane_by_one_permit() {
    let semaphore = FairSemaphore::new(1);
    let held = semaphore.try_acquire(&lane("busy")).unwrap();
    let mut burst: Vec<_> = (0..1000).map(|_| semaphore.acquire(&lane("busy"))).collect();
    let mut honest = semaphore.acquire(&lane("honest"));
    drop(held);
    let first = burst.remove(0).now_or_never().flatten().expect("it waited for longest");
    assert!((&mut honest).now_or_never().is_none());
    drop(first);
    assert!((&mut honest).now_or_never().flatten().is_some(), "one permit of the burst was ahead of it");
}

#[test]
fn a_lane_leaves_room_for_others_where_it_should() {
    let semaphore = FairSemaphore::leaving_room(16);
    let take =
        |name: &str| std::iter::from_fn(|| semaphore.try_acquire(&lane(name)).ok()).collect::<Vec<_>>();
    let first = take("a");
    assert_eq!(first.len(), 8);
    let second = take("b");
    assert_eq!(second.len(), 4);
    let third = take("c");
    assert_eq!(third.len(), 2);
    let mut more = semaphore.acquire(&lane("a"));
    assert!((&mut more).now_or_never().is_none());
    drop(second);
    assert!((&mut more).now_or_never().is_none(), "six are free, and it holds eight");
    drop(third);
    assert!((&mut more).now_or_never().is_none(), "eight are free, and it holds eight");
    drop(first);
    assert!(more.now_or_never().flatten().is_some());
}

#[test]
fn who_waits_is_sent_away_when_it_closes() {
    let semaphore = FairSemaphore::new(1);
    let held = semaphore.try_acquire(&lane("a")).unwrap();
    let waiting = semaphore.acquire(&lane("a"));
    semaphore.close();
    assert!(waiting.now_or_never().expect("it is over").is_none());
    assert_eq!(semaphore.try_acquire(&lane("b")).unwrap_err(), NoPermit::Closed);
    assert!(semaphore.acquire(&lane("b")).now_or_never().expect("it is over").is_none());
    drop(held);
}

#[tokio::test]
async fn a_call_finds_its_lane() {
    assert_eq!(Lane::current(), Lane::of_cluster(""));
    let inner = async {
        tokio::task::yield_now().await;
        Lane::current()
    };
    assert_eq!(lane("a").scope(inner).await, lane("a"));
    let nested =
        lane("a").scope(async { (lane("b").scope(async { Lane::current() }).await, Lane::current()) });
    assert_eq!(nested.await, (lane("b"), lane("a")));
}

/// Every thread takes and releases slots, and sometimes stops waiting. No slot may be lost, and none granted twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_place_is_lost_between_threads() {
    const PLACES: usize = 4;
    const CALLERS: usize = 64;
    const TURNS: usize = 200;
    for semaphore in [FairSemaphore::new(PLACES), FairSemaphore::leaving_room(PLACES)] {
        let inside = Arc::new(AtomicUsize::new(0));
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (semaphore, inside) = (semaphore.clone(), Arc::clone(&inside));
                tokio::spawn(async move {
                    let mut served = 0;
                    let lane = lane(&(caller % 7).to_string());
                    for turn in 0..TURNS {
                        let waiting = semaphore.acquire(&lane);
                        let permit = if (caller + turn) % 3 == 0 {
                            tokio::time::timeout(Duration::from_micros(20), waiting).await.ok().flatten()
                        } else {
                            waiting.await
                        };
                        let Some(permit) = permit else { continue };
                        assert!(inside.fetch_add(1, Ordering::SeqCst) < PLACES);
                        tokio::task::yield_now().await;
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(permit);
                        served += 1;
                    }
                    served
                })
            })
            .collect();
        for caller in callers {
            assert!(caller.await.unwrap() >= TURNS / 2, "a caller that waits long enough is served");
        }
        let all: Vec<_> = (0..PLACES)
            .filter_map(|number| semaphore.try_acquire(&lane(&format!("l{number}"))).ok())
            .collect();
        assert_eq!(all.len(), PLACES, "all are free again");
    }
}

/// With one slot, only the current permit may come before a waiting caller.
#[test]
fn no_thread_overtakes_a_caller_that_waits() {
    const WAITS: usize = 20_000;
    let semaphore = FairSemaphore::new(1);
    let (granted, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    if let Ok(permit) = semaphore.try_acquire(&lane("busy")) {
                        granted.fetch_add(1, Ordering::SeqCst);
                        drop(permit);
                    }
                }
            });
        }
        let most = (0..WAITS).map(|_| {
            let waiting = semaphore.acquire(&lane("honest"));
            let before = granted.load(Ordering::SeqCst);
            let _permit = block_on(waiting);
            granted.load(Ordering::SeqCst) - before
        });
        // A permit that was granted earlier may be counted later.
        let most = most.max();
        done.store(true, Ordering::SeqCst);
        assert!(most <= Some(1), "{most:?} permits came first");
    });
}

/// One step of a history. Each step happens under one lock, so every interleaving of threads is such a history.
#[derive(Clone, Debug)]
enum Event {
    Acquire(u8),
    Try(u8),
    GiveUp(usize),
    Release(usize),
    /// A permit is sent to a caller that is dropped before it polls.
    GiveUpUnseen(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..4u8).prop_map(Event::Acquire),
        1 => (0..4u8).prop_map(Event::Try),
        1 => any::<usize>().prop_map(Event::GiveUp),
        4 => any::<usize>().prop_map(Event::Release),
        1 => any::<usize>().prop_map(Event::GiveUpUnseen),
    ]
}

/// The tests' own record of waiting callers and permits, independent of the semaphore.
struct History {
    semaphore: FairSemaphore,
    places: usize,
    leaves_room: bool,
    waiting: Vec<(u8, Acquire)>,
    held: Vec<(u8, FairPermit)>,
    /// Permits for the second lane while the first one could have had one, since that last got one.
    overtaken: HashMap<(u8, u8), usize>,
}

impl History {
    fn holds(&self, of: u8) -> usize {
        self.held.iter().filter(|(lane, _)| *lane == of).count()
    }

    fn may_take(&self, of: u8) -> bool {
        let free = self.places - self.held.len();
        free > if self.leaves_room { self.holds(of) } else { 0 }
    }

    fn waits(&self, of: u8) -> bool {
        self.waiting.iter().any(|(lane, _)| *lane == of)
    }

    /// Records the callers that got a permit.
    fn settle(&mut self) {
        let (mut number, mut served) = (0, Vec::new());
        while number < self.waiting.len() {
            let of = self.waiting[number].0;
            match (&mut self.waiting[number].1).now_or_never() {
                Some(permit) => {
                    let first = self.waiting.iter().position(|(lane, _)| *lane == of);
                    assert_eq!(first, Some(number), "within a lane, the first to come is served first");
                    drop(self.waiting.remove(number));
                    served.push((of, permit.expect("it is open")));
                }
                None => number += 1,
            }
        }
        // If one event admits several callers, the test can't see their order.
        let one_by_one = served.len() == 1;
        for (of, permit) in served {
            self.granted(of, permit, one_by_one);
        }
        let idle = self.waiting.iter().find(|(lane, _)| self.may_take(*lane));
        assert!(idle.is_none(), "a place is idle that {idle:?} may take");
        assert!(self.held.len() <= self.places);
    }

    fn granted(&mut self, to: u8, permit: FairPermit, one_by_one: bool) {
        for other in (0..4).filter(|other| *other != to) {
            if one_by_one && self.waits(other) && self.may_take(other) {
                let times = self.overtaken.entry((other, to)).or_default();
                *times += 1;
                assert!(*times <= 1, "{other} waits, and {to} got two places since {other} last got one");
            }
            self.overtaken.remove(&(to, other));
        }
        self.held.push((to, permit));
    }

    fn step(&mut self, event: &Event) {
        let lane_of = |number: u8| lane(&number.to_string());
        match event {
            Event::Acquire(of) => {
                if !self.waits(*of) {
                    self.overtaken.retain(|(waits, _), _| waits != of);
                }
                self.waiting.push((*of, self.semaphore.acquire(&lane_of(*of))));
            }
            Event::Try(of) => {
                let expected = self.may_take(*of);
                match self.semaphore.try_acquire(&lane_of(*of)) {
                    Ok(permit) => {
                        assert!(expected && !self.waits(*of));
                        self.granted(*of, permit, true);
                    }
                    Err(reason) => assert!(!expected && reason == NoPermit::Busy),
                }
            }
            Event::GiveUp(which) => {
                if !self.waiting.is_empty() {
                    drop(self.waiting.remove(which % self.waiting.len()));
                }
            }
            Event::Release(which) => {
                if !self.held.is_empty() {
                    drop(self.held.remove(which % self.held.len()));
                }
            }
            Event::GiveUpUnseen(which) => {
                if !self.held.is_empty() && !self.waiting.is_empty() {
                    drop(self.held.remove(which % self.held.len()));
                    drop(self.waiting.remove(which % self.waiting.len()));
                    // A served caller may be gone, and its slot passed to the next. The other events show the order.
                    self.overtaken.clear();
                }
            }
        }
        self.settle();
    }
}

proptest! {
    #[test]
    fn every_history_is_fair_and_loses_nothing(
        places in 1..6usize,
        leaves_room in any::<bool>(),
        events in prop::collection::vec(event(), 0..200),
    ) {
        let semaphore = if leaves_room { FairSemaphore::leaving_room(places) } else { FairSemaphore::new(places) };
        let mut history = History {
            semaphore: semaphore.clone(),
            places,
            leaves_room,
            waiting: Vec::new(),
            held: Vec::new(),
            overtaken: HashMap::new(),
        };
        for event in &events {
            history.step(event);
        }
        // Every waiting caller is served eventually.
        while !history.held.is_empty() {
            history.step(&Event::Release(0));
        }
        prop_assert!(history.waiting.is_empty());
        drop(history);
        let all: BTreeMap<_, _> = (0..places)
            .filter_map(|number| Some((number, semaphore.try_acquire(&lane(&format!("l{number}"))).ok()?)))
            .collect();
        prop_assert_eq!(all.len(), places, "all places are free again");
    }
}
