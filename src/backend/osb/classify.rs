//! Classifies the statuses of a broker. The spec has a table for bindings, and one for orphan mitigation.

use std::fmt;

use super::wire::BrokerRefusal;
use crate::backend::{BackendKind, ErrorClass, exchange::Dialect};

/// A call of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BrokerCall {
    Catalog,
    Instance,
    Bind,
    Fetch,
    Unbind,
    LastOperation,
}

impl fmt::Display for BrokerCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Catalog => "catalog",
            Self::Instance => "instance",
            Self::Bind => "bind",
            Self::Fetch => "fetch",
            Self::Unbind => "unbind",
            Self::LastOperation => "last operation",
        })
    }
}

impl BrokerCall {
    /// Whether a gateway in front of the broker gave this 404.
    fn is_foreign(self, status: u16, refusal: &BrokerRefusal) -> bool {
        status == 404 && self != Self::Catalog && refusal.is_foreign
    }
}

impl Dialect for BrokerCall {
    type Refusal = BrokerRefusal;

    const KIND: BackendKind = BackendKind::OpenServiceBroker;
    const REMEDY: &'static str = "ask the administrator of the broker";

    fn route(self) -> &'static str {
        match self {
            Self::Catalog => "/v2/catalog",
            Self::Instance => "/v2/service_instances/{instance}",
            Self::Bind | Self::Fetch | Self::Unbind => {
                "/v2/service_instances/{instance}/service_bindings/{binding}"
            }
            Self::LastOperation => {
                "/v2/service_instances/{instance}/service_bindings/{binding}/last_operation"
            }
        }
    }

    fn host(self) -> &'static str {
        "the broker"
    }

    /// Only a bind can leave a key behind. All other calls are repeated until the broker answers.
    fn class_of_unknown(self) -> ErrorClass {
        match self {
            Self::Bind => ErrorClass::OrphanPossible,
            Self::Catalog | Self::Instance | Self::Fetch | Self::Unbind | Self::LastOperation => {
                ErrorClass::Transient
            }
        }
    }

    fn shows_credentials(self) -> bool {
        matches!(self, Self::Bind | Self::Fetch)
    }

    fn read_refusal(body: &[u8]) -> BrokerRefusal {
        BrokerRefusal::read(body)
    }

    fn error_text(_refusal: &BrokerRefusal) -> Option<&str> {
        None
    }

    fn class(self, status: u16, refusal: &BrokerRefusal) -> ErrorClass {
        match status {
            201..300 if self == Self::Bind => ErrorClass::OrphanPossible,
            // The caller has handled every success that the spec allows.
            200..300 => ErrorClass::Unexpected,
            401 | 403 => ErrorClass::Forbidden,
            // Every broker has a catalog.
            404 | 410 if self == Self::Catalog => ErrorClass::Unexpected,
            404 if refusal.is_foreign => ErrorClass::Unexpected,
            404 | 410 => ErrorClass::Gone,
            408 => ErrorClass::Transient,
            429 => ErrorClass::Throttled,
            409 if self == Self::Bind => ErrorClass::Conflict,
            422 if refusal.code.as_deref() == Some("ConcurrencyError") => ErrorClass::Transient,
            400..500 => ErrorClass::Rejected,
            _ => self.class_of_unknown(),
        }
    }

    fn advice(self, status: u16, refusal: &BrokerRefusal) -> &'static str {
        match (status, refusal.code.as_deref()) {
            (404, _) if self.is_foreign(status, refusal) => {
                "check `url`, and the gateway in front of the broker"
            }
            (202, _) if self == Self::Bind => {
                "the broker creates the key in the background, although it can't show the credentials afterwards; ask \
                 the administrator of the broker"
            }
            (401, _) => "check the provider's login",
            (403, _) => "the login may not do this; ask the administrator of the broker for permission",
            (404 | 410, _) if self == Self::Catalog => "check that `url` is the broker's base address",
            (404 | 410, _) => "check `instance.id`",
            (409, _) if self == Self::Bind => "a key with this id exists, created with other parameters",
            (422, Some("AsyncRequired")) => {
                "the broker creates keys of this plan only in the background, and does not show their credentials \
                 afterwards; choose another plan"
            }
            (422, Some("ConcurrencyError")) => "another operation on the instance is in progress",
            (422, Some("RequiresApp")) => {
                "keys of this plan are for applications only; choose another plan, or set \
                 `openServiceBroker.bindResource` of the provider if the broker only requires the id of an application \
                 or a client"
            }
            (422, Some("MaintenanceInfoConflict")) => "the instance needs an upgrade first",
            (429, _) => "rate limited by the broker; lower `limits` if this lasts",
            _ => "",
        }
    }

    fn describe_answer(self, status: u16, refusal: &BrokerRefusal) -> String {
        if self.is_foreign(status, refusal) {
            return format!("the answer {status} does not have the form of a broker's");
        }
        format!("{} answers {status}", self.host())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use ErrorClass::{Conflict, Forbidden, Gone, OrphanPossible, Rejected, Throttled, Transient, Unexpected};

    #[rstest]
    //     status, code                     catalog     bind            fetch       unbind
    #[case(200, None,                      [Unexpected, Unexpected,     Unexpected, Unexpected])]
    #[case(201, None,                      [Unexpected, OrphanPossible, Unexpected, Unexpected])]
    #[case(202, None,                      [Unexpected, OrphanPossible, Unexpected, Unexpected])]
    #[case(204, None,                      [Unexpected, OrphanPossible, Unexpected, Unexpected])]
    #[case(226, None,                      [Unexpected, OrphanPossible, Unexpected, Unexpected])]
    #[case(400, None,                      [Rejected,   Rejected,       Rejected,   Rejected])]
    #[case(401, None,                      [Forbidden,  Forbidden,      Forbidden,  Forbidden])]
    #[case(403, None,                      [Forbidden,  Forbidden,      Forbidden,  Forbidden])]
    #[case(404, None,                      [Unexpected, Gone,           Gone,       Gone])]
    #[case(410, None,                      [Unexpected, Gone,           Gone,       Gone])]
    #[case(408, None,                      [Transient,  Transient,      Transient,  Transient])]
    #[case(409, None,                      [Rejected,   Conflict,       Rejected,   Rejected])]
    #[case(412, None,                      [Rejected,   Rejected,       Rejected,   Rejected])]
    #[case(418, None,                      [Rejected,   Rejected,       Rejected,   Rejected])]
    #[case(422, None,                      [Rejected,   Rejected,       Rejected,   Rejected])]
    #[case(422, Some("AsyncRequired"),     [Rejected,   Rejected,       Rejected,   Rejected])]
    #[case(422, Some("ConcurrencyError"),  [Transient,  Transient,      Transient,  Transient])]
    #[case(429, None,                      [Throttled,  Throttled,      Throttled,  Throttled])]
    #[case(500, None,                      [Transient,  OrphanPossible, Transient,  Transient])]
    #[case(503, None,                      [Transient,  OrphanPossible, Transient,  Transient])]
    #[case(599, None,                      [Transient,  OrphanPossible, Transient,  Transient])]
    #[case(999, None,                      [Transient,  OrphanPossible, Transient,  Transient])]
    #[rustfmt::skip]
    fn classifies(#[case] status: u16, #[case] code: Option<&str>, #[case] expected: [ErrorClass; 4]) {
        let refusal = BrokerRefusal { code: code.map(str::to_owned), is_foreign: false };
        let calls = [BrokerCall::Catalog, BrokerCall::Bind, BrokerCall::Fetch, BrokerCall::Unbind];
        assert_eq!(calls.map(|call| call.class(status, &refusal)), expected);
    }
}
