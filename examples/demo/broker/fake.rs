//! The strict fake broker that the tests use.

use testkit::broker::{FakeBroker, Login, Route};

use super::{HeldKey, INSTANCE};
use crate::output::{self, Steps};

/// The fake broker. A violation of its rules panics at its end in tests, but must not panic in the demo.
pub struct EmbeddedBroker(FakeBroker);

impl EmbeddedBroker {
    pub async fn start(username: String, password: String, steps: &mut Steps) -> anyhow::Result<Self> {
        steps.begin("start an Open Service Broker");
        let broker = FakeBroker::builder().login(Login::basic(username, password)).start().await?;
        output::detail(format_args!("{} serves the instance `{INSTANCE}`", broker.url()));
        Ok(Self(broker))
    }

    pub fn url(&self) -> String {
        self.0.url()
    }

    pub fn keys(&self) -> Vec<HeldKey> {
        let held = self.0.bindings().into_iter().map(|binding| HeldKey {
            number: binding.number,
            binding: binding.id.to_string(),
            instance: binding.instance,
        });
        held.collect()
    }

    pub fn calls(&self, route: Route) -> usize {
        self.0.count(route)
    }

    pub fn violations(&self) -> Vec<String> {
        self.0.take_violations().iter().map(ToString::to_string).collect()
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        drop(self.0.take_violations());
    }
}
