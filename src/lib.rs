//! The ServiceKey operator keeps one working key at a remote side for each `ServiceKey`, and its credentials in one
//! Secret. When a user deletes the `ServiceKey`, the operator removes both.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod api;
#[warn(unreachable_pub)]
mod backend;
pub mod cli;
#[warn(unreachable_pub)]
mod clock;
#[warn(unreachable_pub)]
mod controller;
#[warn(unreachable_pub)]
mod fair;
#[warn(unreachable_pub)]
mod lifecycle;
#[warn(unreachable_pub)]
mod runtime;
#[warn(unreachable_pub)]
mod secret;
#[warn(unreachable_pub)]
mod verify;
#[warn(unreachable_pub)]
mod wipe;

/// The parts that the project's own tests, examples and benchmarks use without the command. They are not a stable API.
#[doc(hidden)]
pub mod testing {
    pub use crate::{
        backend::{
            AddressPolicy, AddressRules, ApiServer, IbmCloudConfig, Names, Network, Transport, Undelivered,
        },
        clock::Clock,
        controller::{Operator, Options, TableSizes},
        lifecycle::{DecisionList, Identity, Sequence, order_of_decisions},
        runtime::{
            Election, Health, HealthThresholds, HttpServer, Leadership, LogFormat, Loss, Metrics, client,
            client_over,
            metrics::{Exposed, Label, MetricEntry, Values},
            start_logging,
        },
        secret::{Entries, Layout, ParametersKey, Restrictions},
        verify::{Encryption, Probe, ProbeFailure, ProbeFailureClass, Prober},
    };
}
