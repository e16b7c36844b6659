//! What a broker's status means: the spec's tables for bindings and for orphan mitigation.

use std::fmt;

use crate::backend::ErrorClass;

/// Which call of the API was made.
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
    /// The path of the call, without ids.
    pub(super) const fn route(self) -> &'static str {
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

    /// What is left of a call whose effect is unknown: only a bind can leave something behind that nobody wants.
    /// All others are made again until they are answered.
    pub(super) fn class_of_unknown(self) -> ErrorClass {
        match self {
            Self::Bind => ErrorClass::OrphanPossible,
            Self::Catalog | Self::Instance | Self::Fetch | Self::Unbind | Self::LastOperation => {
                ErrorClass::Transient
            }
        }
    }
}

/// The class of an answer that is not the success of its call. `code` is the `error` field of its body.
pub(super) fn class(call: BrokerCall, status: u16, code: Option<&str>) -> ErrorClass {
    match status {
        201..300 if call == BrokerCall::Bind => ErrorClass::OrphanPossible,
        // There are no other successes than those that the caller knows.
        200..300 => ErrorClass::Unexpected,
        401 | 403 => ErrorClass::Forbidden,
        // Every broker has a catalog.
        404 | 410 if call == BrokerCall::Catalog => ErrorClass::Unexpected,
        404 | 410 => ErrorClass::Gone,
        408 => ErrorClass::Transient,
        429 => ErrorClass::Throttled,
        409 if call == BrokerCall::Bind => ErrorClass::Conflict,
        422 if code == Some("ConcurrencyError") => ErrorClass::Transient,
        400..500 => ErrorClass::Rejected,
        _ => call.class_of_unknown(),
    }
}

/// What to do about such an answer; empty where it is simply tried again, or where the broker's own words must do.
pub(super) fn advice(call: BrokerCall, status: u16, code: Option<&str>) -> &'static str {
    match (status, code) {
        (202, _) if call == BrokerCall::Bind => {
            "it makes the key in the background although it can't show its credentials afterwards; ask the broker's \
             operator"
        }
        (401, _) => "check the login that the provider names",
        (403, _) => "the login may not do this; ask the broker's operator for the right to",
        (404 | 410, _) if call == BrokerCall::Catalog => "check that `url` is the broker's base address",
        (404 | 410, _) => "check `instance.id`",
        (409, _) if call == BrokerCall::Bind => "a key of this id exists, made with other parameters",
        (422, Some("AsyncRequired")) => {
            "it makes keys in the background only, and does not show their credentials afterwards; choose another plan"
        }
        (422, Some("ConcurrencyError")) => "another operation on the instance is under way",
        (422, Some("RequiresApp")) => {
            "keys of this plan are for applications only; choose another plan, or set `openServiceBroker.bindResource` of \
             the provider where the broker only demands to be told of an application or a client"
        }
        (422, Some("MaintenanceInfoConflict")) => "the instance needs an upgrade first",
        (429, _) => "it asks for fewer requests; lower `limits` if this lasts",
        _ => "",
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
        let calls = [BrokerCall::Catalog, BrokerCall::Bind, BrokerCall::Fetch, BrokerCall::Unbind];
        assert_eq!(calls.map(|call| class(call, status, code)), expected);
    }
}
