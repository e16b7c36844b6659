//! The methods of the handle that only a Cloud Foundry has.

mod keys;
mod logins;

use serde_json::Value;

use super::{
    builder::{Builder, FoundrySetup},
    limit::RateLimit,
    route::Door,
    side::CloudFoundry,
};
use crate::remote::Fake;

/// A running Cloud Foundry.
pub type FakeCloudFoundry = Fake<CloudFoundry>;

impl FakeCloudFoundry {
    /// A Cloud Foundry on plain http, with
    ///
    /// - the organization `acme`, its space `dev`, and the managed instance `training-app-db` in it;
    /// - the user `alice` (password `cf-password`) and the client `operator` (secret `client-secret`), both space
    ///   developers;
    /// - tokens that are valid for an hour, and refresh tokens that last;
    /// - [`CredentialsRecipe::postgresql`](super::CredentialsRecipe::postgresql);
    /// - a broker that does everything [at once](super::Pace::at_once), and pages of any size.
    pub fn builder() -> Builder {
        Builder::new(FoundrySetup::default())
    }

    /// The URL of the UAA, without a path.
    #[must_use]
    pub fn uaa_url(&self) -> String {
        self.url_of(Door::Uaa)
    }

    /// The answer to `GET /`; [`Fault::edit`](super::Fault::edit) changes it.
    #[must_use]
    pub fn root(&self) -> Value {
        self.read(|side| side.state.root())
    }

    /// Allows this many more look-ups of single keys and jobs, as [`Builder::look_ups`] does.
    pub fn allow_look_ups(&self, count: usize) {
        self.change(|side| side.look_ups = Some(count));
    }

    /// Limits the resources on a page, whatever a client requests; nothing removes the limit.
    pub fn change_page_limit(&self, resources: Option<usize>) {
        self.change(|side| side.state.page_limit = resources);
    }

    /// Answers 429 to requests over this limit; nothing removes the limit.
    pub fn limit_rate(&self, limit: Option<RateLimit>) {
        self.change(|side| side.meter.change(limit));
    }
}
