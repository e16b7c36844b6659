//! A strict, stateful Open Service Broker (API 2.17, or another version that it is told to support) that misbehaves on request.
//!
//! It does for a test what a real broker does, and what a real broker can't: it records every call, names
//! every breach of the specification, holds calls at a gate, and spoils answers from a script. It lives on a
//! thread and runtime of its own, so that a test can drop or starve its own runtime and the broker stays.
//!
//! A `call` goes through typed stages: `route` reads where it goes, `admission` turns it into an `Operation` or
//! a refusal, `state` judges and applies that, `faults` says whether and how `spoiled` spoils the answer.
//! Work is done at once, or as the `pace` says: then it is one of the `last_operation`s, which ends when the test
//! says so or after a number of polls, never by the clock.
//!
//! # Habits of real brokers
//!
//! | what real brokers do | how a test gets it |
//! | --- | --- |
//! | rename a plan, withdraw it, or give it another id | [`FakeBroker::rename_plan`], [`withdraw_plan`](FakeBroker::withdraw_plan), [`change_plan_id`](FakeBroker::change_plan_id) |
//! | move an instance to another plan, and know its bindings by that plan | [`FakeBroker::move_instance`], [`go_by_instances`](FakeBroker::go_by_instances) |
//! | list an odd plan or offering | [`Fault::Body`] on [`Route::Catalog`] |
//! | show credentials once, also to the same bind | [`CredentialsRecipe::shown_once`] |
//! | give all bindings the same credentials | [`CredentialsRecipe::new`] with a recipe that ignores the number |
//! | give no credentials, or a text, a list or a number | [`Fault::Body`], [`Fault::credentials`] on [`Route::Bind`] |
//! | send the zero time, or a time that is over | [`CredentialsRecipe::metadata`] |
//! | demand `bind_resource`, or a parameter | [`Builder::demand_bind_resource`], [`Builder::demand_parameter`] |
//! | forget what they revoked in the background | [`Pace::forgetting_unbinds`] |
//! | fail what they accepted, and perhaps leave a binding | [`FakeBroker::fail`], [`fail_with_orphan`](FakeBroker::fail_with_orphan) |
//! | act on a request whose client has long gone | [`Fault::Late`] |
//! | say `Retry-After` in an odd form | [`Pace::retry_after`], [`Injection::header`] |
//! | stand behind a gateway that answers with a page | [`Fault::Html`], [`Fault::Text`] |

mod admission;
mod answer;
mod builder;
mod catalog;
mod credentials;
mod fake;
mod faults;
mod last_operation;
mod login;
mod operation;
mod pace;
mod record;
mod route;
mod side;
mod state;

pub use crate::{
    gate::{Gate, Moment},
    remote::{Fault, ListenError, ReservedPort, TlsError, TlsIdentity},
    wait::WaitError,
};
pub use axum::http::StatusCode;
pub use builder::{Builder, StartError};
pub use catalog::{Catalog, Instance, Offering, Plan};
pub use credentials::{BindingMetadata, CredentialsRecipe};
pub use fake::FakeBroker;
pub use faults::Injection;
pub use last_operation::UnderWay;
pub use login::Login;
pub use operation::OriginatingIdentity;
pub use pace::{Pace, Work};
pub use record::{Binding, Call, CallDetails, Rule, Violation};
pub use route::Route;
