//! The methods of the handle that only an IBM Cloud has.

mod estate;
mod logins;

use super::{
    builder::{Builder, IbmSetup},
    route::Door,
    side::IbmCloud,
};
use crate::remote::Fake;

/// A running IBM Cloud.
pub type FakeIbmCloud = Fake<IbmCloud>;

impl FakeIbmCloud {
    /// An IBM Cloud on plain http, with
    ///
    /// - an account with the instance `training-app-db`;
    /// - the login `alice` (API key `ibm-api-key`) and the trusted profile `operator` (compute resource token
    ///   `service-account-token`), both with full access;
    /// - tokens that are valid for an hour;
    /// - [`CredentialsRecipe::postgresql`](super::CredentialsRecipe::postgresql);
    /// - no [quirks](super::Quirks), and no limit of service IDs.
    pub fn builder() -> Builder {
        Builder::new(IbmSetup::default())
    }

    /// The URL of IAM, without a path.
    #[must_use]
    pub fn iam_url(&self) -> String {
        self.url_of(Door::Iam)
    }
}
