//! What an answer of IBM Cloud means that is not the success of its call.

use std::fmt;

use super::wire::ApiError;
use crate::backend::ErrorClass;

/// Which call was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Instances,
    Instance,
    Roles,
    Keys,
    Key,
    Create,
    Delete,
    Rename,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Instances => "list of instances",
            Self::Instance => "look-up of the instance",
            Self::Roles => "list of roles",
            Self::Keys => "list of keys",
            Self::Key => "fetch",
            Self::Create => "bind",
            Self::Delete => "unbind",
            Self::Rename => "release",
        })
    }
}

impl Call {
    /// Who is called, in words.
    pub(super) const fn host(self) -> &'static str {
        match self {
            Self::Roles => "IAM",
            _ => "the Resource Controller",
        }
    }

    /// What is left of a call whose effect is unknown: a key that was made is found again by its name.
    pub(super) const fn class_of_unknown(self) -> ErrorClass {
        match self {
            Self::Create => ErrorClass::Unsure,
            _ => ErrorClass::Transient,
        }
    }

    /// Whether it asks for what is always there.
    const fn is_always_there(self) -> bool {
        matches!(self, Self::Instances | Self::Roles | Self::Keys)
    }
}

/// The class of an answer that is not the success of its call.
pub(super) fn class(call: Call, status: u16) -> ErrorClass {
    match status {
        200..300 if call == Call::Create => ErrorClass::Unsure,
        200..300 => ErrorClass::Unexpected,
        401 | 403 => ErrorClass::Forbidden,
        404 if call.is_always_there() => ErrorClass::Unexpected,
        404 | 410 => ErrorClass::Gone,
        408 => call.class_of_unknown(),
        // Something else is being done to the instance.
        409 | 423 => ErrorClass::Transient,
        429 => ErrorClass::Throttled,
        400..500 => ErrorClass::Rejected,
        _ => call.class_of_unknown(),
    }
}

/// What to do about such an answer; empty where it is simply tried again, or where IBM's own words must do.
pub(super) fn advice(call: Call, status: u16, error: &ApiError) -> &'static str {
    match (call, status) {
        (_, 401) => {
            "it accepts no token of this IAM; check that `iamUrl` and `resourceControllerUrl` belong to the same cloud"
        }
        (Call::Create, 403) => {
            "the login needs the platform role Editor on the instance, and at least the role that the key is to have"
        }
        (Call::Delete | Call::Rename, 403) => "the login needs the platform role Editor on the instance",
        (_, 403) => "the login needs the platform role Viewer on the instance",
        (Call::Instances | Call::Keys, 404) => {
            "check that `resourceControllerUrl` is the base address of the Resource Controller, without `/v2`"
        }
        (Call::Roles, 404) => "check that `iamUrl` is the base address of IAM",
        (Call::Create, 404) => "check `instance`, and that the login may see it",
        (_, 409 | 423) => "it is tried again when that is over",
        (_, 422) if error.is_of_the_service(status) => "these are the words of the service itself",
        (_, 429) => "it asks for fewer requests; lower `limits` if this lasts",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use ErrorClass::{Forbidden, Gone, Rejected, Throttled, Transient, Unexpected, Unsure};

    #[rstest]
    //     status  list        create      fetch       delete
    #[case(200,   [Unexpected, Unsure,     Unexpected, Unexpected])]
    #[case(202,   [Unexpected, Unsure,     Unexpected, Unexpected])]
    #[case(400,   [Rejected,   Rejected,   Rejected,   Rejected])]
    #[case(401,   [Forbidden,  Forbidden,  Forbidden,  Forbidden])]
    #[case(403,   [Forbidden,  Forbidden,  Forbidden,  Forbidden])]
    #[case(404,   [Unexpected, Gone,       Gone,       Gone])]
    #[case(408,   [Transient,  Unsure,     Transient,  Transient])]
    #[case(409,   [Transient,  Transient,  Transient,  Transient])]
    #[case(410,   [Gone,       Gone,       Gone,       Gone])]
    #[case(422,   [Rejected,   Rejected,   Rejected,   Rejected])]
    #[case(429,   [Throttled,  Throttled,  Throttled,  Throttled])]
    #[case(500,   [Transient,  Unsure,     Transient,  Transient])]
    #[case(503,   [Transient,  Unsure,     Transient,  Transient])]
    #[rustfmt::skip]
    fn classifies(#[case] status: u16, #[case] expected: [ErrorClass; 4]) {
        let calls = [Call::Keys, Call::Create, Call::Key, Call::Delete];
        assert_eq!(calls.map(|call| class(call, status)), expected);
    }
}
