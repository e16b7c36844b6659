use proptest::prelude::*;
use rstest::rstest;

use super::*;

const LEASE: Duration = Duration::from_secs(15);

fn at(milliseconds: u64) -> Moment {
    let steady = Duration::from_millis(milliseconds);
    Moment { steady, wall: Timestamp::UNIX_EPOCH + steady }
}

fn candidate() -> Candidate {
    Candidate::new("me".to_owned(), Timing { lease: LEASE })
}

fn held_by(holder: &str, version: &str) -> SeenLease {
    SeenLease { version: version.to_owned(), holder: Some(holder.to_owned()), duration: Some(LEASE) }
}

/// A leader that sent its last renewal at this time.
fn leader(renewed: u64) -> Candidate {
    let mut candidate = candidate();
    candidate.record_read(None, at(renewed));
    candidate.claimed(held_by("me", "1"), at(renewed));
    candidate
}

#[test]
fn what_nobody_has_looked_at_is_looked_at_first() {
    assert_eq!(candidate().next(at(0)), ElectionStep::Read);
}

#[rstest]
#[case::none_there(None)]
#[case::resigned(Some(SeenLease { holder: None, ..held_by("", "1") }))]
#[case::ours_by_an_answer_that_was_lost(Some(held_by("me", "1")))]
fn a_free_lease_is_claimed_at_once(#[case] lease: Option<SeenLease>) {
    let mut candidate = candidate();
    candidate.record_read(lease, at(0));
    assert_eq!(candidate.next(at(0)), ElectionStep::Claim);
    assert!(!candidate.leads(at(0)), "before it is written");
}

#[test]
fn a_lease_is_respected_until_it_was_not_renewed_for_its_duration() {
    let mut candidate = candidate();
    candidate.record_read(Some(held_by("other", "1")), at(0));
    assert_eq!(candidate.next(at(0)), ElectionStep::Wait(Duration::from_secs(2)));
    assert_eq!(candidate.next(at(2_000)), ElectionStep::Read);
    candidate.record_read(Some(held_by("other", "2")), at(10_000));
    for now in [12_000, 14_000, 16_000, 24_500] {
        candidate.record_read(Some(held_by("other", "2")), at(now));
        assert!(matches!(candidate.next(at(now)), ElectionStep::Wait(_)), "{now}");
    }
    assert_eq!(
        candidate.next(at(24_500)),
        ElectionStep::Wait(Duration::from_millis(500)),
        "it waits longer than the Lease lasts"
    );
    candidate.record_read(Some(held_by("other", "2")), at(25_000));
    assert_eq!(candidate.next(at(25_000)), ElectionStep::Claim);
}

#[test]
fn the_holder_says_for_how_long_its_lease_is_good() {
    let mut candidate = candidate();
    let lease = SeenLease { duration: Some(Duration::from_secs(60)), ..held_by("other", "1") };
    candidate.record_read(Some(lease.clone()), at(0));
    candidate.record_read(Some(lease.clone()), at(59_000));
    assert!(matches!(candidate.next(at(59_000)), ElectionStep::Wait(_)));
    candidate.record_read(Some(lease), at(60_000));
    assert_eq!(candidate.next(at(60_000)), ElectionStep::Claim);
}

#[test]
fn a_leader_renews_in_time() {
    let leader = leader(0);
    assert_eq!(leader.next(at(500)), ElectionStep::Wait(Duration::from_millis(1_500)));
    assert_eq!(leader.next(at(2_000)), ElectionStep::Claim);
}

#[test]
fn a_leader_that_can_not_renew_tries_again_and_ends_before_others_begin() {
    let mut leader = leader(0);
    for second in [2, 4, 6, 8] {
        leader.failed(at(second * 1_000));
        assert!(matches!(leader.next(at(second * 1_000)), ElectionStep::Wait(_)));
        assert_eq!(
            leader.next(at(second * 1_000 + 2_000 - u64::from(second == 8))),
            match second {
                8 => ElectionStep::Wait(Duration::from_millis(1)),
                _ => ElectionStep::Read,
            }
        );
    }
    assert!(leader.leads(at(9_999)));
    assert_eq!(leader.next(at(10_000)), ElectionStep::End(Loss::Overdue(Duration::from_secs(10))));
    assert_eq!(leader.patience(at(9_000)), Duration::from_secs(1));
}

#[test]
fn time_that_a_suspended_machine_does_not_see_counts_against_a_leader() {
    let leader = leader(0);
    let woken = Moment { wall: Timestamp::UNIX_EPOCH + Duration::from_secs(3_600), ..at(100) };
    assert!(!leader.leads(woken));
    assert!(matches!(leader.next(woken), ElectionStep::End(Loss::Overdue(_))));
}

#[test]
fn a_clock_that_is_set_back_changes_nothing() {
    let mut leader = leader(0);
    leader.claimed(held_by("me", "2"), at(2_000));
    let back = Moment { wall: Timestamp::UNIX_EPOCH - Duration::from_secs(3_600), ..at(3_000) };
    assert_eq!(leader.next(back), ElectionStep::Wait(Duration::from_secs(1)));
}

#[test]
fn a_leader_whose_lease_was_touched_by_a_person_goes_on() {
    let mut leader = leader(0);
    leader.refused(at(2_000));
    assert_eq!(leader.next(at(2_000)), ElectionStep::Read);
    leader.record_read(Some(held_by("me", "2")), at(2_100));
    assert_eq!(leader.next(at(2_100)), ElectionStep::Claim);
}

#[test]
fn a_leader_whose_lease_was_deleted_makes_it_again() {
    let mut leader = leader(0);
    leader.refused(at(2_000));
    leader.record_read(None, at(2_100));
    assert_eq!(leader.next(at(2_100)), ElectionStep::Claim);
}

#[test]
fn a_leader_ends_where_another_one_holds_the_lease() {
    let mut leader = leader(0);
    leader.refused(at(2_000));
    leader.record_read(Some(held_by("other", "9")), at(2_100));
    assert_eq!(leader.next(at(2_100)), ElectionStep::End(Loss::Superseded("other".to_owned())));
}

/// The events of an election, in any order.
#[derive(Clone, Copy, Debug)]
enum Happening {
    /// Time passes, in milliseconds.
    Passes(u64),
    /// A candidate takes its next step. The request and the answer may be lost.
    Acts {
        who: usize,
        arrives: bool,
        answered: bool,
    },
    /// A candidate sends a request that arrives at the next `Arrives`, with or without an answer.
    Sends {
        who: usize,
        answered: bool,
    },
    Arrives {
        who: usize,
    },
    /// A candidate is killed, and a new one replaces it.
    Dies {
        who: usize,
    },
    /// A user edits the Lease.
    Touched,
    /// A user deletes the Lease.
    Deleted,
}

fn happening() -> impl Strategy<Value = Happening> {
    let who = 0..CANDIDATES;
    prop_oneof![
        4 => (1..4_000u64).prop_map(Happening::Passes),
        8 => (who.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(who, arrives, answered)| Happening::Acts { who, arrives: arrives || answered, answered }),
        8 => who.clone().prop_map(|who| Happening::Acts { who, arrives: true, answered: true }),
        2 => (who.clone(), any::<bool>()).prop_map(|(who, answered)| Happening::Sends { who, answered }),
        2 => who.clone().prop_map(|who| Happening::Arrives { who }),
        1 => who.prop_map(|who| Happening::Dies { who }),
        1 => Just(Happening::Touched),
        1 => Just(Happening::Deleted),
    ]
}

const CANDIDATES: usize = 3;

/// Candidates for one Lease, which is stored as the API server stores objects.
struct SimulatedElection {
    candidates: Vec<Candidate>,
    /// Requests in flight, by candidate: the version to replace, the time of sending, and whether the candidate still
    /// waits for the answer.
    under_way: Vec<Option<(Option<String>, Moment, bool)>>,
    lease: Option<SeenLease>,
    writes: u64,
    named: usize,
    now: u64,
}

impl SimulatedElection {
    fn new() -> Self {
        let mut election = Self {
            candidates: Vec::new(),
            under_way: vec![None; CANDIDATES],
            lease: None,
            writes: 0,
            named: 0,
            now: 1,
        };
        for _ in 0..CANDIDATES {
            let candidate = election.another();
            election.candidates.push(candidate);
        }
        election
    }

    fn another(&mut self) -> Candidate {
        self.named += 1;
        Candidate::new(format!("candidate-{}", self.named), Timing { lease: LEASE })
    }

    /// Writes the Lease with this candidate as holder, if the stored version is this one.
    fn write(&mut self, who: usize, version: Option<&str>) -> bool {
        let stands = self.lease.as_ref().map(|lease| lease.version.as_str()) == version;
        if stands {
            self.writes += 1;
            let holder = self.candidates[who].name().to_owned();
            self.lease = Some(held_by(&holder, &self.writes.to_string()));
        }
        stands
    }

    fn version_seen_by(&self, who: usize) -> Option<String> {
        self.candidates[who].seen.as_ref().map(|(lease, _)| lease.version.clone())
    }

    fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::Passes(time) => self.now += time,
            Happening::Acts { who, arrives, answered } => self.acts(who, arrives, answered),
            Happening::Sends { who, answered } => {
                let now = at(self.now);
                if self.under_way[who].is_none() && self.candidates[who].next(now) == ElectionStep::Claim {
                    self.under_way[who] = Some((self.version_seen_by(who), now, answered));
                    if !answered {
                        self.candidates[who].failed(now);
                    }
                }
            }
            Happening::Arrives { who } => self.arrives(who),
            Happening::Dies { who } => {
                self.candidates[who] = self.another();
                self.under_way[who] = None;
            }
            Happening::Touched => {
                self.writes += 1;
                if let Some(lease) = &mut self.lease {
                    lease.version = self.writes.to_string();
                }
            }
            Happening::Deleted => self.lease = None,
        }
    }

    fn acts(&mut self, who: usize, arrives: bool, answered: bool) {
        let now = at(self.now);
        if self.under_way[who].as_ref().is_some_and(|(_, _, awaited)| *awaited) {
            return;
        }
        match self.candidates[who].next(now) {
            ElectionStep::Read if answered => self.candidates[who].record_read(self.lease.clone(), now),
            ElectionStep::Claim => {
                let version = self.version_seen_by(who);
                let written = arrives && self.write(who, version.as_deref());
                self.answer(who, written, now, answered);
            }
            ElectionStep::Read => self.candidates[who].failed(now),
            ElectionStep::End(_) => self.happens(Happening::Dies { who }),
            ElectionStep::Wait(_) => {}
        }
    }

    fn arrives(&mut self, who: usize) {
        if let Some((version, asked, answered)) = self.under_way[who].take() {
            // A process ignores an answer that arrives after its time limit.
            let in_time = at(self.now).since(asked) <= LEASE / 3;
            let written = self.write(who, version.as_deref());
            if answered {
                self.answer(who, written, asked, in_time);
            }
        }
    }

    fn answer(&mut self, who: usize, written: bool, asked: Moment, answered: bool) {
        let (now, lease) = (at(self.now), self.lease.clone());
        let candidate = &mut self.candidates[who];
        match lease {
            _ if !answered => candidate.failed(now),
            Some(lease) if written => candidate.claimed(lease, asked),
            _ => candidate.refused(now),
        }
    }

    fn leaders(&self) -> usize {
        let now = at(self.now);
        self.candidates.iter().filter(|candidate| candidate.leads(now)).count()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// This holds for all events but one. A user who deletes the Lease gives it to the next candidate that reads it,
    /// while the leader notices only at its next renewal.
    #[test]
    fn there_is_never_more_than_one_leader(happenings in prop::collection::vec(happening(), 1..120)) {
        let mut election = SimulatedElection::new();
        for happening in happenings {
            if !matches!(happening, Happening::Deleted) {
                election.happens(happening);
            }
            prop_assert!(election.leaders() <= 1, "after {happening:?}");
        }
    }

    #[test]
    fn there_is_a_leader_soon_after_the_trouble_ends(happenings in prop::collection::vec(happening(), 1..60)) {
        let mut election = SimulatedElection::new();
        happenings.into_iter().for_each(|happening| election.happens(happening));
        (0..CANDIDATES).for_each(|who| election.arrives(who));
        // Candidates respect an edited Lease for its duration, and then have to read it once more.
        for _ in 0..200 {
            election.happens(Happening::Passes(100));
            for who in 0..CANDIDATES {
                election.acts(who, true, true);
                election.acts(who, true, true);
            }
        }
        prop_assert_eq!(election.leaders(), 1);
    }
}
