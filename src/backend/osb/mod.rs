//! Open Service Broker API 2.17, for brokers that answer at once: bind, fetch, unbind, and the catalog that turns
//! names of offerings and plans into ids.

mod broker;
mod call;
mod catalog;
mod classify;
mod config;
#[cfg(test)]
mod fake_broker;
mod paths;
#[cfg(test)]
mod tests;
mod wire;

pub use broker::Broker;
pub use config::{Auth, BrokerConfig};
