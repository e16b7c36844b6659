//! A strict, stateful Open Service Broker (API 2.17 by default) that fails on request.
//!
//! It behaves like a real broker. Like all fakes it also records every call and every violation of the specification,
//! holds calls at gates, and spoils answers from a script.
//!
//! `side` connects it with the common stages of a call: `route` reads the path, `admission` returns an `Operation` or a
//! refusal, `state` checks and applies the operation. The broker completes an operation at once, or as its `pace` says:
//! then it becomes one of the `last_operation`s, which the test or a number of polls ends, never a clock.
//!
//! # Habits of real brokers
//!
//! | real brokers | in a test |
//! | --- | --- |
//! | rename a plan, withdraw it, or give it another id | [`FakeBroker::rename_plan`], [`withdraw_plan`](FakeBroker::withdraw_plan), [`change_plan_id`](FakeBroker::change_plan_id) |
//! | move an instance to another plan, and know its bindings by that plan | [`FakeBroker::move_instance`], [`go_by_instances`](FakeBroker::go_by_instances) |
//! | list an odd plan or offering | [`Fault::Body`] on [`Route::Catalog`] |
//! | show credentials once, also to the same bind | [`CredentialsRecipe::shown_once`] |
//! | return the same credentials for all bindings | [`CredentialsRecipe::new`] with a recipe that ignores the number |
//! | return no credentials, or a string, a list or a number | [`Fault::Body`], [`Fault::credentials`] on [`Route::Bind`] |
//! | send the zero time, or a time in the past | [`CredentialsRecipe::metadata`] |
//! | demand `bind_resource`, or a parameter | [`Builder::demand_bind_resource`], [`Builder::demand_parameter`] |
//! | forget bindings that they revoked in the background | [`Pace::forgetting_unbinds`] |
//! | fail after they accepted a request, and perhaps leave a binding | [`FakeBroker::fail`], [`fail_with_orphan`](FakeBroker::fail_with_orphan) |
//! | act on a request long after its client has gone | [`Fault::Late`] |
//! | send an odd `Retry-After` | [`Pace::retry_after`], [`Injection::header`] |
//! | are behind a gateway that answers with a page | [`Fault::Html`], [`Fault::Text`] |

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
    remote::{Environment, Fault, ListenError, NoAnswer, ReservedPort, TlsError, TlsIdentity},
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
