//! Open Service Broker API 2.17.
//!
//! Modules import only modules that come earlier in this list:
//!
//! - `paths` builds paths, `target` reads the instance of a ServiceKey;
//! - `wire` reads and writes the API's JSON, `classify` interprets refusals;
//! - `catalog` resolves names of offerings and plans to ids, `session` has the login and the catalog of one broker;
//! - `instances` finds the plan of an instance, `answers` reads keys and progress;
//! - `client` creates, reads, revokes and polls keys.

mod answers;
mod catalog;
mod classify;
mod client;
mod config;
#[cfg(test)]
mod fake_broker;
mod instances;
mod paths;
mod session;
mod target;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod token_tests;
mod wire;

pub(crate) use client::Broker;
pub(crate) use config::{ApiVersion, Auth, BindResourceObject, BrokerConfig};
