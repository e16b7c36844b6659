//! A strict, stateful Cloud Foundry, as a client of service keys sees it: the Cloud Controller's API v3, and the UAA.
//!
//! The two listen on ports of their own, as they are on hosts of their own in the field; `GET /` says where. What the
//! Cloud Controller answers follows its documentation and, where that is silent, its source: statuses, codes, titles
//! and words of errors, the shapes of resources, and when a name is taken or an operation in the way. It is stricter
//! in that it refuses, and holds against the client, whatever is undocumented, malformed or careless. What it does not
//! know it refuses too: other resources, bindings of apps, filters by time, plan, offering and app. [`go_client`] is the
//! real client that it is checked by.
//!
//! Habits of the real one that a client trips over, each with the place in its source (`cloudfoundry/cloud_controller_ng`
//! where no other repository is named):
//!
//! | habit | here | in the source |
//! |---|---|---|
//! | A broker that refuses an unbind with `ConcurrencyError` fails the job only. The key's `last_operation` stays | [`Builder::one_at_a_time`], [`FakeCloudFoundry::fail_job`] | `app/actions/v3/service_binding_delete.rb`, `app/jobs/v3/delete_binding_job.rb` |
//! | A broker that refuses a bind with `ConcurrencyError` fails the creation: job and `last_operation` | [`Builder::one_at_a_time`] | `app/actions/v3/service_binding_create.rb` |
//! | Old jobs are deleted | [`FakeCloudFoundry::lose_job`] | `app/jobs/runtime/pollable_job_cleanup.rb` |
//! | A Korifi takes no `metadata` when it creates a key, and has no UAA | [`Builder::korifi`] | `cloudfoundry/korifi`: `api/payloads/service_binding.go`, `api/payloads/validation/validator.go`, `api/presenter/root.go` |
//! | The GUID of a Korifi's job holds that of the key | [`Builder::korifi`] | `cloudfoundry/korifi`: `api/presenter/job.go` |
//! | A Korifi frees the name of a key when its deletion begins, and takes every deletion | [`Builder::korifi`] | `cloudfoundry/korifi`: `controllers/webhooks/services/bindings/validator.go`, `api/repositories/service_binding_repository.go` |
//! | A Korifi names another host in its links than the one that is called | [`Builder::named`] | `cloudfoundry/korifi`: `api/presenter/root.go`, `serverURL` |
//! | A grant that a client may not have is refused as `invalid_client` | a client that asks for another grant | `cloudfoundry/uaa`: `oauth/provider/token/AbstractTokenGranter.java` |
//! | The router answers a line of text, with status 404, while the API or the UAA is down | [`Fault::unknown_route`] | `cloudfoundry/gorouter`: `handlers/lookup.go` |
//! | A list is refused whose pages hold more than `renderer.max_total_results` | [`Builder::max_total_results`] | `app/messages/list_message.rb` |
//! | A UAA locks a user out for five minutes after five wrong passwords within 20 | [`FakeCloudFoundry::lock`], and wrong passwords | `cloudfoundry/uaa`: `PeriodLockoutPolicy`, with the defaults of `LockoutPolicy` |
//! | A job whose worker dies says `PROCESSING` for hours | [`FakeCloudFoundry::kill_worker`] | `app/jobs/timeout_job.rb` |
//!
//! A call of either host goes through typed stages: `route` reads where it goes, `admission` turns it into an
//! `Operation` or a refusal, with the session that `uaa` finds for its token, `state` or `uaa` applies it, and `faults`
//! say whether and how its answer is spoiled. Work is done at once, or as the `pace` says: then it ends when the test
//! says so or after a number of looks, never by the clock.

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
    broker::CredentialsRecipe,
    gate::{Gate, Moment},
    remote::{Fault, GoClient, GoClientError, Injection, ListenError, ReservedPort, TlsIdentity},
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
