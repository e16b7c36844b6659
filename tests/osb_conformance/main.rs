//! Compares the operator's action for every answer of an Open Service Broker with the specification, and writes the
//! results to `docs/osb-conformance.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod case;
mod page;
mod play;
mod script;
mod sight;
mod stage;
mod table;
mod witness;

use std::sync::Arc;

use case::{Call, Case, Outcome, universe};
use page::Page;
use stage::Stage;
use tokio::{sync::Semaphore, task::JoinSet};

/// Cases that run at the same time. Each has a broker with a thread of its own.
const AT_ONCE: usize = 96;

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_does_what_the_specification_demands() {
    let cases: Vec<Case> = Call::ALL.into_iter().flat_map(universe).collect();
    let outcomes = play_all(&cases).await;
    let wrong: Vec<_> =
        cases.iter().zip(&outcomes).filter_map(|(case, outcome)| complaint(case, outcome)).collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let seen: Vec<_> = cases.into_iter().zip(outcomes.into_iter().flatten()).collect();
    Page::of(&seen).check();
}

#[test]
fn every_case_is_in_the_table_once() {
    for case in Call::ALL.into_iter().flat_map(universe) {
        let rows = table::rows(case.call).iter().filter(|row| row.covers(&case)).count();
        assert_eq!(rows, 1, "rows for {case}");
    }
}

/// The outcomes in the order of the cases. `Err` contains the text of a panic.
async fn play_all(cases: &[Case]) -> Vec<Result<Outcome, String>> {
    let stage = Arc::new(Stage::set().await);
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut playing = JoinSet::new();
    for (number, case) in cases.iter().copied().enumerate() {
        let (stage, places) = (Arc::clone(&stage), Arc::clone(&places));
        playing.spawn(async move {
            let _place = places.acquire().await.unwrap();
            let play = async move { play::play(&stage, &format!("case-{number}"), case).await };
            (number, tokio::spawn(play).await.map_err(|failure| words(failure.into_panic())))
        });
    }
    let mut outcomes = playing.join_all().await;
    outcomes.sort_by_key(|(number, _)| *number);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

fn words(panic: Box<dyn std::any::Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(words) => *words,
        Err(panic) => panic.downcast_ref::<&str>().copied().unwrap_or("a panic without words").to_owned(),
    }
}

fn complaint(case: &Case, outcome: &Result<Outcome, String>) -> Option<String> {
    let row = table::rows(case.call).iter().find(|row| row.covers(case)).unwrap();
    match outcome {
        Ok(outcome) if *outcome == row.outcome() => None,
        Ok(outcome) => Some(format!("{case}:\n  {outcome:?}\n  instead of\n  {:?}", row.outcome())),
        Err(panic) => Some(format!("{case}:\n  {panic}")),
    }
}
