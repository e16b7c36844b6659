//! The hosts of a fake in this process, its limit of requests, and its end.

use std::{num::NonZeroU32, time::Duration};

use anyhow::{Context, Result};
use http::{Request, Uri};
use hyper::body::Bytes;
use testkit::{
    broker::{FakeBroker, Fault, NoAnswer, Route},
    cloud_foundry::FakeCloudFoundry,
};
use uuid::Uuid;

use crate::client::{BrokerCalls, http_client, plain, simulate};

#[test]
fn the_uri_selects_the_host() -> Result<()> {
    simulate(async {
        let cf = FakeCloudFoundry::builder().in_process("cf.example")?;
        assert_eq!(cf.url(), "https://fake-cloud-controller.cf.example");
        assert_eq!(cf.uaa_url(), "https://fake-uaa.cf.example");
        let root = Uri::try_from(cf.url())?;
        assert!(cf.serves(&root));
        assert_eq!(cf.call(Request::get(root).body(Bytes::new())?).await?.status(), 200);

        for elsewhere in ["https://cf.example/", "http://fake-uaa.cf.example/", "/v3"] {
            let uri = Uri::from_static(elsewhere);
            assert!(!cf.serves(&uri));
            let refused = cf.call(Request::get(&uri).body(Bytes::new())?).await.err();
            assert_eq!(refused, Some(NoAnswer::UnknownHost(uri)));
        }
        assert_eq!(cf.calls().len(), 1);
        Ok(())
    })
}

#[test]
fn a_fake_without_faults_late_calls_and_violations_can_be_dropped() -> Result<()> {
    simulate(async {
        let (broker, client) = (FakeBroker::builder().in_process("broker.example")?, http_client()?);
        let calls = BrokerCalls { broker: &broker, client: &client };
        broker.inject(Fault::Late.on(Route::Bind));
        broker.inject(Fault::Hang.on(Route::Unbind));
        let late = broker.call(plain(calls.bind(Uuid::nil())?)?).await;
        assert_eq!(late.err(), Some(NoAnswer::Cut));
        let stranger = Request::get(broker.url()).body(Bytes::new())?;
        assert_eq!(broker.call(stranger).await?.status(), 401);

        broker.clear_faults();
        assert_eq!(broker.release_late(), 1);
        assert_eq!(broker.take_violations().len(), 1);
        drop(broker);
        Ok(())
    })
}

#[test]
fn a_limit_of_requests_follows_the_paused_clock() -> Result<()> {
    simulate(async {
        let limit = NonZeroU32::new(1).context("not zero")?;
        let broker = FakeBroker::builder().limit(limit).in_process("broker.example")?;
        let client = http_client()?;
        let calls = BrokerCalls { broker: &broker, client: &client };
        for (wait, status) in [(0, 201), (0, 429), (1, 201)] {
            tokio::time::sleep(Duration::from_secs(wait)).await;
            let bind = calls.bind(Uuid::from_u128(broker.calls().len() as u128))?;
            assert_eq!(broker.call(plain(bind)?).await?.status(), status);
        }
        assert_eq!(broker.take_violations().len(), 1);
        Ok(())
    })
}
