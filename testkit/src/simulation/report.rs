//! What a run reports to the process that started it, and the sums over many runs.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Outcome, world::Happenings};

/// The outcome of one run, as one line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The rules that were broken: the name of each, and what happened.
    pub violations: Vec<(String, String)>,
    /// The events, by their numbers.
    pub events: Vec<(usize, String)>,
    /// The digest of everything that happened.
    pub digest: u64,
    /// The entries of the journal.
    pub entries: u64,
    /// The virtual time, in seconds.
    pub seconds: u64,
    /// What happened.
    pub happened: Happenings,
    /// The keys that were created.
    pub created: u64,
    /// The keys that the operator revoked.
    pub revoked: u64,
    /// The most that was spent of each [budget](super::budget::Budgets::most).
    pub most: [usize; 3],
    /// The last entries of the journal, if a rule was broken.
    pub journal: Vec<String>,
}

impl Report {
    /// The report of a run with this seed.
    #[must_use]
    pub fn new(seed: u64, outcome: Outcome) -> Self {
        let violations = outcome.violations.iter();
        let failed = !outcome.violations.is_empty();
        Self {
            seed,
            violations: violations
                .map(|broken| (format!("{:?}", broken.rule), broken.what.clone()))
                .collect(),
            events: outcome.events.iter().map(|(number, event)| (*number, event.to_string())).collect(),
            digest: outcome.digest.0,
            entries: outcome.digest.1,
            seconds: outcome.time.as_secs(),
            happened: outcome.happened,
            created: outcome.keys.0,
            revoked: outcome.keys.1,
            most: outcome.most,
            journal: if failed { outcome.journal } else { Vec::new() },
        }
    }

    /// The report of a run that did not end by itself.
    #[must_use]
    pub fn broken_off(seed: u64, why: &str) -> Self {
        Self {
            seed,
            violations: vec![("Ends".to_owned(), why.to_owned())],
            events: Vec::new(),
            digest: 0,
            entries: 0,
            seconds: 0,
            happened: Happenings::default(),
            created: 0,
            revoked: 0,
            most: [0; 3],
            journal: Vec::new(),
        }
    }

    /// The first rule that was broken.
    #[must_use]
    pub fn broken_rule(&self) -> Option<&str> {
        self.violations.first().map(|(rule, _)| rule.as_str())
    }
}

/// The sums over many runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// The runs.
    pub runs: u64,
    /// The runs that broke a rule.
    pub failures: u64,
    /// The virtual time.
    pub time: Duration,
    /// The events that the actors caused.
    pub events: u64,
    /// What happened.
    pub happened: Happenings,
    /// The keys that were created.
    pub created: u64,
    /// The keys that the operator revoked.
    pub revoked: u64,
    /// The most that a run spent of each [budget](super::budget::Budgets::most).
    pub most: [usize; 3],
}

impl Total {
    /// Adds a run.
    pub fn add(&mut self, report: &Report) {
        self.runs += 1;
        self.failures += u64::from(!report.violations.is_empty());
        self.time += Duration::from_secs(report.seconds);
        self.events += report.events.len() as u64;
        self.created += report.created;
        self.revoked += report.revoked;
        for (most, one) in self.most.iter_mut().zip(report.most) {
            *most = one.max(*most);
        }
        let (sum, one) = (&mut self.happened, report.happened);
        sum.remote_calls += one.remote_calls;
        sum.remote_changes += one.remote_changes;
        sum.cluster_changes += one.cluster_changes;
        sum.mishaps += one.mishaps;
        sum.crashes += one.crashes;
    }
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY: u64 = 24 * 3600;
        let Self { runs, failures, time, events, happened, created, revoked, most } = self;
        let Happenings { remote_calls, remote_changes: _, cluster_changes, mishaps, crashes } = happened;
        let (days, tenths) = (time.as_secs() / DAY, time.as_secs() % DAY * 10 / DAY);
        writeln!(f, "{runs} runs, {failures} of them broke a rule")?;
        writeln!(
            f,
            "{days}.{tenths} virtual days, {events} events, {crashes} crashes, {mishaps} mishaps of requests"
        )?;
        writeln!(
            f,
            "{created} keys created, {revoked} revoked, {remote_calls} remote calls, {cluster_changes} writes to the API \
             server"
        )?;
        let [calls_for, calls_to, writes] = most;
        write!(
            f,
            "at most {calls_for} calls for one ServiceKey, {calls_to} calls to one remote side for all its ServiceKeys, and \
             {writes} writes about one object within an hour, without those that changes and restarts justify"
        )
    }
}
