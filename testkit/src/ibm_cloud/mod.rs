//! A strict, stateful IBM Cloud, as a client of resource keys sees it: the Resource Controller's API v2, and of IAM
//! the tokens, the service IDs, the access policies and the roles.
//!
//! The two listen on ports of their own, as they are on hosts of their own in the field. Answers have the shapes of
//! IBM's own client, [`go_client`], by which it is checked, and of its documentation. It is stricter than real ones in that it refuses, and holds against the client,
//! whatever is undocumented, malformed or careless. What it does not know it refuses too: other resources, filters by
//! time, history and activity, API keys of service IDs, access groups. What real ones do only now and then is among the
//! [`Quirks`].
//!
//! Habits of the real one that a client trips over, each with where it is known from:
//!
//! | habit | here | known from |
//! |---|---|---|
//! | Cloud Databases have no service roles: a named role is refused | [`Instance::database`] | `IBM-Cloud/terraform-provider-ibm`, issues 1387 and 5391 |
//! | `Reader`, `Writer` and `Manager` go by name, all other roles by CRN; `NONE` means no role | every creation | `IBM/platform-services-go-sdk`: `resource_controller_v2.go`, `CreateResourceKeyOptions.Role`; `terraform-provider-ibm`: `ibm/flex/structures.go`, `FindRoleByName` |
//! | Credentials are `REDACTED` or `REDACTED_EXPLICIT`, also of keys that showed them at their creation | [`Quirks::redaction`], [`Instance::one_time`] | `platform-services-go-sdk`: `Credentials.Redacted`, `onetime_credentials`; IBM's page "Connecting services to apps" |
//! | A new key does not show for minutes | [`Quirks::looks_without_new_keys`] | `terraform-provider-ibm`: `resource_ibm_resource_key.go`, `resourceIBMResourceKeyRead` |
//! | An auditing instance has one `service_key`, whatever keys it has; it is shown to callers with the role Manager, and outlives the keys | [`Instance::auditing`] | IBM's page "Managing service keys" of Activity Tracker, `service_keys.md` |
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
    broker::CredentialsRecipe,
    gate::{Gate, Moment},
    remote::{Fault, GoClient, GoClientError, Injection, ListenError, ReservedPort, TlsIdentity},
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
