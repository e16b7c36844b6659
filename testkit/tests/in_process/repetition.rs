//! The same seed gives the same answers and the same record; another seed gives other ids.

use std::fmt::Debug;

use anyhow::Result;
use testkit::{
    broker::{FakeBroker, Pace},
    remote::Environment,
};
use uuid::Uuid;

use crate::client::{BrokerCalls, Transcript, environment, http_client, path, simulate};

/// Checks that a script repeats itself. It returns the answers, and the record of the fake.
fn repeats<R: Debug + PartialEq>(script: impl AsyncFn(Environment) -> Result<(Transcript, R)>) -> Result<()> {
    let run = |seed| simulate(async { script(environment(seed)).await });
    let ((first, record), (second, same_record), (other, _)) = (run(1)?, run(1)?, run(2)?);
    assert_eq!(first.0, second.0);
    assert_eq!(record, same_record);
    let same: Vec<_> = first.0.iter().zip(&other.0).filter(|(one, other)| one == other).collect();
    assert!(same.len() < first.0.len(), "the seed has no influence on {same:?}");
    Ok(())
}

#[test]
fn a_broker_repeats_itself() -> Result<()> {
    let client = http_client()?;
    repeats(async |environment| {
        let broker = FakeBroker::builder().environment(environment).in_process("broker.example")?;
        let calls = BrokerCalls { broker: &broker, client: &client };
        let mut answers = Transcript::default();
        answers.send(|call| broker.call(call), calls.call(reqwest::Method::GET, "/v2/catalog")).await?;
        for number in 0..3 {
            answers.send(|call| broker.call(call), calls.bind(Uuid::from_u128(number))?).await?;
        }
        broker.change_pace(Pace::polls(1));
        let slow = Uuid::from_u128(7);
        for request in [calls.bind(slow)?, calls.unbind(Uuid::nil())?] {
            answers.send(|call| broker.call(call), request).await?;
        }
        for open in broker.under_way() {
            let token = open.token.unwrap_or_default();
            for _ in 0..2 {
                answers.send(|call| broker.call(call), calls.poll(open.binding, &token)).await?;
            }
        }
        let fetch = calls.call(reqwest::Method::GET, &path(slow));
        answers.send(|call| broker.call(call), fetch).await?;
        Ok((answers, (broker.calls(), broker.bindings(), broker.violations())))
    })
}
