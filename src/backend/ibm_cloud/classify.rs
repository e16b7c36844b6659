//! Classifies the answers of IBM Cloud that are not the success of their call.

use std::fmt;

use super::wire::IbmCloudError;
use crate::backend::{BackendKind, ErrorClass, exchange::Dialect};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IbmCloudCall {
    Instances,
    Instance,
    Roles,
    ServiceIds,
    CreateServiceId,
    DeleteServiceId,
    Policies,
    CreatePolicy,
    DeletePolicy,
    Keys,
    KeysOfInstance,
    Key,
    Create,
    Delete,
    Rename,
    Adopt,
}

impl fmt::Display for IbmCloudCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Instances => "list of instances",
            Self::Instance => "lookup of the instance",
            Self::Roles => "list of roles",
            Self::ServiceIds => "list of service IDs",
            Self::CreateServiceId => "creation of the service ID",
            Self::DeleteServiceId => "deletion of the service ID",
            Self::Policies => "list of access policies",
            Self::CreatePolicy => "creation of the access policy",
            Self::DeletePolicy => "deletion of the access policy",
            Self::Keys => "list of keys",
            Self::KeysOfInstance => "list of the instance's keys",
            Self::Key => "fetch",
            Self::Create => "bind",
            Self::Delete => "unbind",
            Self::Rename => "release",
            Self::Adopt => "adoption",
        })
    }
}

impl IbmCloudCall {
    /// Whether the call goes to IAM, and not to the Resource Controller.
    pub(super) const fn is_at_iam(self) -> bool {
        match self {
            Self::Roles
            | Self::ServiceIds
            | Self::CreateServiceId
            | Self::DeleteServiceId
            | Self::Policies
            | Self::CreatePolicy
            | Self::DeletePolicy => true,
            Self::Instances
            | Self::Instance
            | Self::Keys
            | Self::KeysOfInstance
            | Self::Key
            | Self::Create
            | Self::Delete
            | Self::Rename
            | Self::Adopt => false,
        }
    }

    /// Whether the call creates something, or adopts a key.
    const fn is_creation(self) -> bool {
        matches!(self, Self::Create | Self::Adopt | Self::CreateServiceId | Self::CreatePolicy)
    }

    /// Whether the requested resource exists in every account.
    const fn is_always_there(self) -> bool {
        matches!(self, Self::Instances | Self::Roles | Self::ServiceIds | Self::Policies | Self::Keys)
    }
}

impl Dialect for IbmCloudCall {
    type Refusal = IbmCloudError;

    const KIND: BackendKind = BackendKind::IbmCloud;
    const REMEDY: &'static str = "check `iamUrl` and `resourceControllerUrl`";

    fn route(self) -> &'static str {
        match self {
            Self::Instances => "/v2/resource_instances",
            Self::Instance => "/v2/resource_instances/{instance}",
            Self::Roles => "/v2/roles",
            Self::ServiceIds | Self::CreateServiceId => "/v1/serviceids",
            Self::DeleteServiceId => "/v1/serviceids/{service_id}",
            Self::Policies | Self::CreatePolicy => "/v1/policies",
            Self::DeletePolicy => "/v1/policies/{policy}",
            Self::Keys | Self::Create => "/v2/resource_keys",
            Self::KeysOfInstance => "/v2/resource_instances/{instance}/resource_keys",
            Self::Key | Self::Delete | Self::Rename | Self::Adopt => "/v2/resource_keys/{key}",
        }
    }

    fn host(self) -> &'static str {
        if self.is_at_iam() { "IAM" } else { "the Resource Controller" }
    }

    /// If no answer arrived, the next attempt finds the key or the service ID by its name.
    fn class_of_unknown(self) -> ErrorClass {
        if self.is_creation() { ErrorClass::Unsure } else { ErrorClass::Transient }
    }

    fn shows_credentials(self) -> bool {
        matches!(self, Self::Create | Self::Key)
    }

    fn read_refusal(body: &[u8]) -> IbmCloudError {
        IbmCloudError::read(body)
    }

    fn error_text(refusal: &IbmCloudError) -> Option<&str> {
        Some(refusal.message.as_str()).filter(|text| !text.is_empty())
    }

    fn class(self, status: u16, _error: &IbmCloudError) -> ErrorClass {
        match status {
            200..300 if self.is_creation() => ErrorClass::Unsure,
            200..300 => ErrorClass::Unexpected,
            401 | 403 => ErrorClass::Forbidden,
            404 if self.is_always_there() => ErrorClass::Unexpected,
            // IAM may not know a service ID yet that it has just created.
            404 if self == Self::CreatePolicy => ErrorClass::Transient,
            404 | 410 => ErrorClass::Gone,
            408 => self.class_of_unknown(),
            // Another operation on the instance is in progress.
            409 | 423 => ErrorClass::Transient,
            429 => ErrorClass::Throttled,
            400..500 => ErrorClass::Rejected,
            _ => self.class_of_unknown(),
        }
    }

    fn advice(self, status: u16, error: &IbmCloudError) -> &'static str {
        match (self, status) {
            (_, 401) => {
                "tokens of this IAM are not accepted there; check that `iamUrl` and `resourceControllerUrl` belong to \
                 the same cloud"
            }
            (Self::Create, 403) => {
                "the login needs the platform role Editor on the instance, and at least the role of the key"
            }
            (Self::Delete | Self::Rename | Self::Adopt, 403) => {
                "the login needs the platform role Editor on the instance"
            }
            (Self::ServiceIds | Self::CreateServiceId | Self::DeleteServiceId, 403) => {
                "the login needs the platform role Editor on the IAM Identity service to create service IDs for keys"
            }
            (Self::Policies | Self::CreatePolicy | Self::DeletePolicy, 403) => {
                "the login needs the platform role Administrator on the instance to give service IDs access to it"
            }
            (_, 403) => "the login needs the platform role Viewer on the instance",
            (Self::Instances | Self::Keys, 404) => {
                "check that `resourceControllerUrl` is the base address of the Resource Controller, without `/v2`"
            }
            (Self::Roles | Self::ServiceIds | Self::Policies, 404) => {
                "check that `iamUrl` is the base address of IAM"
            }
            (Self::Create | Self::KeysOfInstance, 404) => "check `instance`, and that the login may see it",
            (_, 409 | 423) => "the operator retries, and succeeds once the other operation has ended",
            (_, 422) if error.is_of_the_service(status) => "this is the service's own message",
            (_, 429) => "rate limited by IBM Cloud; lower `limits` if this lasts",
            _ => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use ErrorClass::{Forbidden, Gone, Rejected, Throttled, Transient, Unexpected, Unsure};

    #[rstest]
    //     status  list        create      fetch       delete      policy
    #[case(200,   [Unexpected, Unsure,     Unexpected, Unexpected, Unsure])]
    #[case(202,   [Unexpected, Unsure,     Unexpected, Unexpected, Unsure])]
    #[case(400,   [Rejected,   Rejected,   Rejected,   Rejected,   Rejected])]
    #[case(401,   [Forbidden,  Forbidden,  Forbidden,  Forbidden,  Forbidden])]
    #[case(403,   [Forbidden,  Forbidden,  Forbidden,  Forbidden,  Forbidden])]
    #[case(404,   [Unexpected, Gone,       Gone,       Gone,       Transient])]
    #[case(408,   [Transient,  Unsure,     Transient,  Transient,  Unsure])]
    #[case(409,   [Transient,  Transient,  Transient,  Transient,  Transient])]
    #[case(410,   [Gone,       Gone,       Gone,       Gone,       Gone])]
    #[case(422,   [Rejected,   Rejected,   Rejected,   Rejected,   Rejected])]
    #[case(429,   [Throttled,  Throttled,  Throttled,  Throttled,  Throttled])]
    #[case(500,   [Transient,  Unsure,     Transient,  Transient,  Unsure])]
    #[case(503,   [Transient,  Unsure,     Transient,  Transient,  Unsure])]
    #[rustfmt::skip]
    fn classifies(#[case] status: u16, #[case] expected: [ErrorClass; 5]) {
        let calls = [IbmCloudCall::Keys, IbmCloudCall::Create, IbmCloudCall::Key, IbmCloudCall::Delete, IbmCloudCall::CreatePolicy];
        assert_eq!(calls.map(|call| call.class(status, &IbmCloudError::default())), expected);
    }
}
