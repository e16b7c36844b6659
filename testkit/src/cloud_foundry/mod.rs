//! A strict, stateful Cloud Foundry, as a client of service keys sees it: the Cloud Controller's API v3, and the UAA.
//!
//! The two listen on separate ports, as real ones have separate hosts; `GET /` links to both. The Cloud Controller's
//! answers follow its documentation and, if that is silent, its source. This includes statuses, codes, titles and words
//! of errors, the shapes of resources, taken names, and operations that block others. The fake is stricter: it refuses
//! undocumented, malformed or careless calls, and records them as violations. It also refuses features that it does not
//! have: other resources, bindings of apps, filters by time, plan, offering and app. The real client in [`go_client()`]
//! checks it.
//!
//! The fake has these habits of real ones that clients stumble over. The last column names the place in the source, in
//! `cloudfoundry/cloud_controller_ng` unless it names another repository:
//!
//! | habit | here | in the source |
//! |---|---|---|
//! | A broker that refuses an unbind with `ConcurrencyError` fails the job only. The key's `last_operation` stays | [`Builder::one_at_a_time`], [`FakeCloudFoundry::fail_job`] | `app/actions/v3/service_binding_delete.rb`, `app/jobs/v3/delete_binding_job.rb` |
//! | A broker that refuses a bind with `ConcurrencyError` fails the creation: job and `last_operation` | [`Builder::one_at_a_time`] | `app/actions/v3/service_binding_create.rb` |
//! | Old jobs are deleted | [`FakeCloudFoundry::lose_job`] | `app/jobs/runtime/pollable_job_cleanup.rb` |
//! | A Korifi accepts no `metadata` when it creates a key, and has no UAA | [`Builder::korifi`] | `cloudfoundry/korifi`: `api/payloads/service_binding.go`, `api/payloads/validation/validator.go`, `api/presenter/root.go` |
//! | The GUID of a Korifi's job contains that of the key | [`Builder::korifi`] | `cloudfoundry/korifi`: `api/presenter/job.go` |
//! | A Korifi frees the name of a key when its deletion begins, and accepts every deletion | [`Builder::korifi`] | `cloudfoundry/korifi`: `controllers/webhooks/services/bindings/validator.go`, `api/repositories/service_binding_repository.go` |
//! | The links of a Korifi name another host than the one that the client calls | [`Builder::named`] | `cloudfoundry/korifi`: `api/presenter/root.go`, `serverURL` |
//! | A UAA refuses a grant that the client may not use as `invalid_client` | a client that requests another grant | `cloudfoundry/uaa`: `oauth/provider/token/AbstractTokenGranter.java` |
//! | The router answers with a line of text and status 404 while the API or the UAA is down | [`Fault::unknown_route`] | `cloudfoundry/gorouter`: `handlers/lookup.go` |
//! | A Cloud Controller refuses lists of more than `renderer.max_total_results` resources | [`Builder::max_total_results`] | `app/messages/list_message.rb` |
//! | A UAA locks a user out for five minutes after five wrong passwords within 20 | [`FakeCloudFoundry::lock`], and wrong passwords | `cloudfoundry/uaa`: `PeriodLockoutPolicy`, with the defaults of `LockoutPolicy` |
//! | A job reports `PROCESSING` for hours after its worker died | [`FakeCloudFoundry::kill_worker`] | `app/jobs/timeout_job.rb` |
//!
//! `side` connects it with the common stages of a call: `route` reads the path, `admission` returns an `Operation` or a
//! refusal, with the session that `uaa` finds for its token, and `state` or `uaa` applies the operation. The fake
//! completes work at once, or as its `pace` says: then the test or a number of looks ends it, never a clock.

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
    remote::{
        Environment, Fault, GoClient, GoClientError, Injection, ListenError, NoAnswer, ReservedPort,
        TlsIdentity,
    },
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
