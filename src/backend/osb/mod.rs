//! Open Service Broker API 2.17: bind, fetch, unbind, the polls of brokers that take their time, and the catalog that
//! turns names of offerings and plans into ids.

mod broker;
mod call;
mod catalog;
mod classify;
mod config;
#[cfg(test)]
mod fake_broker;
mod instances;
mod login;
mod paths;
mod target;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod token_tests;
mod wire;

pub use broker::Broker;
pub use config::{ApiVersion, Auth, BindResourceObject, BrokerConfig};
