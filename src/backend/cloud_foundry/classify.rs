//! Classifies the answers of the Cloud Controller that are not the success of their call.

use std::fmt;

use reqwest::StatusCode;

use super::wire::{self, CloudFoundryError};
use crate::backend::{
    BackendError, BackendKind, ErrorClass,
    exchange::Dialect,
    http::{Redactor, Response},
};

/// A call of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloudFoundryCall {
    Discovery,
    Organization,
    Space,
    Instance,
    Bind,
    Key,
    Keys,
    Details,
    Unbind,
    Release,
    Adopt,
    Mark,
    Job,
}

impl fmt::Display for CloudFoundryCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discovery => "discovery",
            Self::Organization => "lookup of the organization",
            Self::Space => "lookup of the space",
            Self::Instance => "lookup of the instance",
            Self::Bind => "bind",
            Self::Key => "lookup of the key",
            Self::Keys => "list of keys",
            Self::Details => "fetch",
            Self::Unbind => "unbind",
            Self::Release => "release",
            Self::Adopt => "adoption",
            Self::Mark => "marking of the key",
            Self::Job => "lookup of the job",
        })
    }
}

impl CloudFoundryCall {
    /// Whether the requested resource exists in every Cloud Foundry.
    const fn is_always_there(self) -> bool {
        matches!(self, Self::Discovery | Self::Organization | Self::Space | Self::Keys)
    }
}

/// Error codes with advice of their own.
const INSUFFICIENT_SCOPE: u64 = 10007;
const ORGANIZATION_SUSPENDED: u64 = 10017;
const SPACE_SUSPENDED: u64 = 10019;
const BEING_DELETED: u64 = 10020;

impl Dialect for CloudFoundryCall {
    type Refusal = CloudFoundryError;

    const KIND: BackendKind = BackendKind::CloudFoundry;
    const REMEDY: &'static str = "ask the operator of the Cloud Foundry";

    fn route(self) -> &'static str {
        match self {
            Self::Discovery => "/",
            Self::Organization => "/v3/organizations",
            Self::Space => "/v3/spaces",
            Self::Instance => "/v3/service_instances",
            Self::Bind | Self::Keys => "/v3/service_credential_bindings",
            Self::Key | Self::Unbind | Self::Release | Self::Adopt | Self::Mark => {
                "/v3/service_credential_bindings/{key}"
            }
            Self::Details => "/v3/service_credential_bindings/{key}/details",
            Self::Job => "/v3/jobs/{job}",
        }
    }

    fn host(self) -> &'static str {
        "the API"
    }

    /// After a bind without an answer, the next attempt finds the key by its name.
    fn class_of_unknown(self) -> ErrorClass {
        match self {
            Self::Bind => ErrorClass::Unsure,
            _ => ErrorClass::Transient,
        }
    }

    fn shows_credentials(self) -> bool {
        matches!(self, Self::Details)
    }

    fn read_refusal(body: &[u8]) -> CloudFoundryError {
        CloudFoundryError::read(body)
    }

    fn error_text(refusal: &CloudFoundryError) -> Option<&str> {
        Some(refusal.detail.as_str()).filter(|text| !text.trim().is_empty())
    }

    fn class(self, status: u16, error: &CloudFoundryError) -> ErrorClass {
        match status {
            200..300 if self == Self::Bind => ErrorClass::Unsure,
            200..300 => ErrorClass::Unexpected,
            401 | 403 => ErrorClass::Forbidden,
            404 if self.is_always_there() => ErrorClass::Unexpected,
            404 => ErrorClass::Gone,
            408 => self.class_of_unknown(),
            422 if error.is_busy() => ErrorClass::Transient,
            // The Cloud Controller deletes the keys together with the space.
            422 if error.code == BEING_DELETED && self != Self::Bind => ErrorClass::Transient,
            422 if error.is_about_unknown_instance() => ErrorClass::Gone,
            429 => ErrorClass::Throttled,
            400..500 => ErrorClass::Rejected,
            // The API rejects bad requests before it calls a broker, so this is a CredHub that does not answer.
            503 if self == Self::Details => ErrorClass::Transient,
            _ => self.class_of_unknown(),
        }
    }

    fn advice(self, status: u16, error: &CloudFoundryError) -> &'static str {
        match status {
            400 if error.is_about_page_size() => {
                "the API does not list more keys than that; ask the operator of the Cloud Foundry to raise \
                 `renderer.max_total_results`"
            }
            403 if error.code == INSUFFICIENT_SCOPE => {
                "the login lacks the scope `cloud_controller.write`, or `cloud_controller.read`; ask the operator of \
                 its UAA"
            }
            403 if error.code == ORGANIZATION_SUSPENDED => {
                "ask an administrator of the Cloud Foundry to activate the organization again"
            }
            403 if error.code == SPACE_SUSPENDED => {
                "ask an administrator of the Cloud Foundry to activate the space again"
            }
            403 if matches!(
                self,
                Self::Bind | Self::Unbind | Self::Release | Self::Adopt | Self::Mark | Self::Details
            ) =>
            {
                "the login needs the role Space Developer in the instance's space, and the scope \
                 `cloud_controller.write`"
            }
            403 => {
                "the login may not do this; it needs the role Space Developer in the instance's space, and the scopes \
                 `cloud_controller.read` and `cloud_controller.write`"
            }
            404 if self == Self::Discovery => "check that `apiUrl` is the API's base address, without `/v3`",
            404 if self == Self::Bind => "check `instance`, and that the login may see it",
            422 if error.code == BEING_DELETED => "its instances and their keys are deleted with it",
            422 if error.says("unknown field \"metadata\"") => {
                "the API refuses labels like a Korifi, but its root document does not say that it is a Korifi; ask its \
                 administrator"
            }
            422 if error.is_busy() => "the operator retries, and succeeds once that operation has ended",
            422 if error.is_about_unknown_instance() => "check `instance`, and that the login may see it",
            422 if error.says("exceeded") => {
                "delete unused keys, or ask for a larger quota (`service-keys` of the space or organization)"
            }
            422 if error.says("does not allow bindings") => "choose an instance of another plan",
            429 => "rate limited by the API; lower `limits` if this lasts",
            503 if self == Self::Details => "the credentials can't be read there at the moment",
            _ => "",
        }
    }

    /// A router without a route to the API answers 404, and so does the API if a key is gone.
    fn check_answer(self, response: &Response) -> Result<(), BackendError> {
        let is_unknown = response.status == StatusCode::NOT_FOUND;
        if is_unknown && !response.body().is_ok_and(wire::is_json) {
            return Err(unreachable(self, response, &Redactor::default()));
        }
        Ok(())
    }
}

/// The error for an answer of the router in front of the API. The API did not get the request.
pub(super) fn unreachable(call: CloudFoundryCall, response: &Response, redactor: &Redactor) -> BackendError {
    let said = if response.is_of_a_router() {
        "it has no such route".to_owned()
    } else {
        redactor.quote(response.body().unwrap_or_default())
    };
    let message = format!(
        "{call} failed: Cloud Foundry is not reachable behind its router, which answers {}: {said}",
        response.status.as_u16()
    );
    BackendError::new(ErrorClass::Transient, message).retry_after(response.retry_after)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use ErrorClass::{Forbidden, Gone, Rejected, Throttled, Transient, Unexpected, Unsure};

    const BUSY: &str = "There is an operation in progress for the service instance.";
    const UNKNOWN: &str = "The service instance could not be found: 'x'";
    const QUOTA: &str = "You have exceeded your space's limit for service binding of type key.";

    #[rstest]
    //     status, detail    list        bind        details     unbind
    #[case(200, "",          [Unexpected, Unsure,     Unexpected, Unexpected])]
    #[case(201, "",          [Unexpected, Unsure,     Unexpected, Unexpected])]
    #[case(400, "",          [Rejected,   Rejected,   Rejected,   Rejected])]
    #[case(401, "",          [Forbidden,  Forbidden,  Forbidden,  Forbidden])]
    #[case(403, "",          [Forbidden,  Forbidden,  Forbidden,  Forbidden])]
    #[case(404, "",          [Unexpected, Gone,       Gone,       Gone])]
    #[case(408, "",          [Transient,  Unsure,     Transient,  Transient])]
    #[case(422, "",          [Rejected,   Rejected,   Rejected,   Rejected])]
    #[case(422, BUSY,        [Transient,  Transient,  Transient,  Transient])]
    #[case(422, UNKNOWN,     [Gone,       Gone,       Gone,       Gone])]
    #[case(422, QUOTA,       [Rejected,   Rejected,   Rejected,   Rejected])]
    #[case(429, "",          [Throttled,  Throttled,  Throttled,  Throttled])]
    #[case(500, "",          [Transient,  Unsure,     Transient,  Transient])]
    #[case(502, "",          [Transient,  Unsure,     Transient,  Transient])]
    #[case(503, "",          [Transient,  Unsure,     Transient,  Transient])]
    #[rustfmt::skip]
    fn classifies(#[case] status: u16, #[case] detail: &str, #[case] expected: [ErrorClass; 4]) {
        let error = CloudFoundryError { code: 10008, detail: detail.to_owned() };
        let calls = [CloudFoundryCall::Keys, CloudFoundryCall::Bind, CloudFoundryCall::Details, CloudFoundryCall::Unbind];
        assert_eq!(calls.map(|call| call.class(status, &error)), expected);
    }

    #[rstest]
    #[case(
        403,
        10003,
        "the role Space Developer in the instance's space, and the scope `cloud_controller.write`"
    )]
    #[case(403, 10007, "lacks the scope `cloud_controller.write`")]
    #[case(403, 10017, "activate the organization again")]
    #[case(403, 10019, "activate the space again")]
    #[case(422, 10020, "its instances and their keys are deleted with it")]
    fn some_codes_have_a_cause_of_their_own(#[case] status: u16, #[case] code: u64, #[case] words: &str) {
        let error = CloudFoundryError { code, detail: "The space is being deleted".to_owned() };
        let said = CloudFoundryCall::Bind.advice(status, &error);
        assert!(said.contains(words), "{said}");
    }

    #[test]
    fn a_space_that_is_being_deleted_takes_its_keys_with_it() {
        let error =
            CloudFoundryError { code: BEING_DELETED, detail: "The space is being deleted".to_owned() };
        assert_eq!(CloudFoundryCall::Bind.class(422, &error), Rejected);
        assert_eq!(CloudFoundryCall::Unbind.class(422, &error), Transient);
    }
}
