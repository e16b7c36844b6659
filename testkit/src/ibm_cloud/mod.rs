//! A strict, stateful IBM Cloud, as a client of resource keys sees it: the Resource Controller's API v2, and of IAM
//! the tokens, the service IDs, the access policies and the roles.
//!
//! The two listen on ports of their own, as they are on hosts of their own in the field. Answers have the shapes of
//! IBM's own client, [`go_client`], by which it is checked, and of its documentation. It is stricter than real ones in that it refuses, and holds against the client,
//! whatever is undocumented, malformed or careless. What it does not know it refuses too: other resources, filters by
//! time, history and activity, API keys of service IDs, access groups. What real ones do only now and then is among the
//! [`Quirks`].
//!
//! Nobody documents the codes and words with which the limits of keys and service IDs are refused, nor those of a call
//! for a key that is gone; clients should go by the status and show the words as they are.
//!
//! A call of either host goes through typed stages: `route` reads where it goes, `admission` turns it into an
//! `Operation` or a refusal, with the session that `iam` finds for its token, `state` or `iam` applies it, and faults
//! say whether and how its answer is spoiled.

mod admission;
mod answer;
mod builder;
mod estate;
mod fake;
mod faults;
mod go_client;
mod iam;
mod operation;
mod quirks;
mod record;
mod route;
mod side;
mod state;

pub use crate::{
    broker::{CredentialsRecipe, ReservedPort, TlsIdentity},
    gate::{Gate, Moment},
    remote::{Fault, GoClient, GoClientError, Injection},
    wait::WaitError,
};
pub use axum::http::StatusCode;
pub use builder::{Builder, StartError};
pub use estate::{Instance, InstanceState};
pub use fake::FakeIbmCloud;
pub use go_client::go_client;
pub use iam::{Access, Grant, Login};
pub use quirks::{Quirks, Redaction, Removed};
pub use record::{Call, Key, Policy, Rule, ServiceId, Violation};
pub use route::Route;
