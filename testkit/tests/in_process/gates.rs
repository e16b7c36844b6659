//! Gates wake the calls that wait at them in the order of their arrival.

use std::sync::Arc;

use anyhow::Result;
use testkit::broker::{FakeBroker, Moment, Route};
use uuid::Uuid;

use crate::client::{BrokerCalls, environment, http_client, plain, simulate};

#[test]
fn a_gate_releases_calls_in_the_order_of_their_arrival() -> Result<()> {
    simulate(async {
        let builder = FakeBroker::builder().environment(environment(1));
        let (broker, client) = (Arc::new(builder.in_process("broker.example")?), http_client()?);
        let gate = broker.gate(Route::Bind, Moment::BeforeEffect);
        let ids: Vec<_> = (0..50).map(Uuid::from_u128).collect();
        let mut waiting = Vec::new();
        for id in &ids {
            let request = plain(BrokerCalls { broker: &broker, client: &client }.bind(*id)?)?;
            let broker = Arc::clone(&broker);
            waiting.push(tokio::spawn(async move { broker.call(request).await }));
            gate.wait_for_arrivals(waiting.len()).await?;
        }
        gate.release();
        for call in waiting {
            assert_eq!(call.await??.status(), 201);
        }
        let bound: Vec<_> = broker.bindings().iter().map(|binding| binding.id).collect();
        assert_eq!(bound, ids);
        Ok(())
    })
}

#[test]
fn a_call_takes_effect_although_its_caller_is_gone() -> Result<()> {
    simulate(async {
        let builder = FakeBroker::builder().environment(environment(1));
        let (broker, client) = (Arc::new(builder.in_process("broker.example")?), http_client()?);
        let gate = broker.gate(Route::Bind, Moment::BeforeEffect);
        let request = plain(BrokerCalls { broker: &broker, client: &client }.bind(Uuid::nil())?)?;
        let caller = tokio::spawn({
            let broker = Arc::clone(&broker);
            async move { broker.call(request).await }
        });
        gate.wait_for_arrival().await?;
        caller.abort();
        assert!(caller.await.is_err_and(|error| error.is_cancelled()));
        gate.release();
        broker.wait_until(|bindings| bindings.len() == 1).await?;
        assert_eq!(broker.calls()[0].status, None);
        Ok(())
    })
}
