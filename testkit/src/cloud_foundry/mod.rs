//! A strict, stateful Cloud Foundry, as a client of service keys sees it: the Cloud Controller's API v3, and the UAA.
//!
//! The two listen on ports of their own, as they are on hosts of their own in the field; `GET /` says where. What the
//! Cloud Controller answers follows its documentation and, where that is silent, its source: statuses, codes, titles
//! and words of errors, the shapes of resources, and when a name is taken or an operation in the way. It is stricter
//! in that it refuses, and holds against the client, whatever is undocumented, malformed or careless. What it does not
//! know it refuses too: other resources, bindings of apps, filters by time, plan, offering and app. [`go_client`] is the
//! real client that it is checked by.
//!
//! A call of either host goes through typed stages: `route` reads where it goes, `admission` turns it into an
//! `Operation` or a refusal, with the session that `uaa` finds for its token, `state` or `uaa` applies it, and `faults`
//! say whether and how its answer is spoiled. Work is done at once, or as the `pace` says: then it ends when the test
//! says so or after a number of looks, never by the clock.
//!
//! Habits that surprise, and where the real thing has them:
//! - the UAA locks a user out after five wrong passwords within 20 minutes, for five minutes
//!   (`PeriodLockoutPolicy`, and `LockoutPolicy` in `uaa.yml` of cloudfoundry/uaa).

mod admission;
mod answer;
mod builder;
mod estate;
mod fake;
mod faults;
mod go_client;
mod limit;
mod metadata;
mod operation;
mod pace;
mod query;
mod record;
mod route;
mod selector;
mod side;
mod state;
mod uaa;

pub use crate::{
    broker::{CredentialsRecipe, ReservedPort, TlsIdentity},
    gate::{Gate, Moment},
    remote::{Fault, GoClient, GoClientError, Injection},
    wait::WaitError,
};
pub use axum::http::StatusCode;
pub use builder::{Builder, StartError};
pub use estate::{Instance, InstanceOperation, OperationState, Organization, Space};
pub use fake::FakeCloudFoundry;
pub use go_client::go_client;
pub use limit::RateLimit;
pub use pace::{Pace, Work};
pub use record::{Call, Key, LastOperation, Rule, UnderWay, Violation};
pub use route::Route;
pub use uaa::{Grant, Login, RefreshTokens, Role};
