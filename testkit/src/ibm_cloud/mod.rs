//! A strict, stateful IBM Cloud, as a client of resource keys sees it: the Resource Controller's API v2, and of IAM
//! the tokens, the service IDs, the access policies and the roles.
//!
//! The two listen on separate ports, as real ones have separate hosts. Answers have the shapes of IBM's documentation
//! and of IBM's own client in [`go_client()`], which checks the fake. The fake is stricter than a real IBM Cloud: it
//! refuses undocumented, malformed or careless calls, and records them as violations. It also refuses features that it
//! does not have: other resources, filters by time, history and activity, API keys of service IDs, access groups.
//! Occasional behaviour of real ones is in [`Quirks`].
//!
//! The fake has these habits of real ones that clients stumble over:
//!
//! | habit | here | source |
//! |---|---|---|
//! | Cloud Databases have no service roles: a named role is refused | [`Instance::database`] | `IBM-Cloud/terraform-provider-ibm`, issues 1387 and 5391 |
//! | A request names `Reader`, `Writer` and `Manager` by name, all other roles by CRN; `NONE` means no role | every creation | `IBM/platform-services-go-sdk`: `resource_controller_v2.go`, `CreateResourceKeyOptions.Role`; `terraform-provider-ibm`: `ibm/flex/structures.go`, `FindRoleByName` |
//! | Credentials are `REDACTED` or `REDACTED_EXPLICIT`, also of keys that showed them at their creation | [`Quirks::redaction`], [`Instance::one_time`] | `platform-services-go-sdk`: `Credentials.Redacted`, `onetime_credentials`; IBM's page "Connecting services to apps" |
//! | Look-ups do not find a new key for minutes | [`Quirks::looks_without_new_keys`] | `terraform-provider-ibm`: `resource_ibm_resource_key.go`, `resourceIBMResourceKeyRead` |
//! | All keys of an auditing instance share one `service_key`. Only callers with the role Manager see it, and it outlives the keys | [`Instance::auditing`] | IBM's page "Managing service keys" of Activity Tracker, `service_keys.md` |
//!
//! IBM does not document the error codes for exceeded limits of keys and service IDs, nor those for deleted keys.
//! Clients should use the status, and show the message as it is.
//!
//! `side` connects it with the common stages of a call: `route` reads the path, `admission` returns an `Operation` or a
//! refusal, with the session that `iam` finds for its token, and `state` or `iam` applies the operation.

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
    remote::{
        Environment, Fault, GoClient, GoClientError, Injection, ListenError, NoAnswer, ReservedPort,
        TlsIdentity,
    },
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
