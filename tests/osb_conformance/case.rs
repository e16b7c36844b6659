//! The cases, and the observed reaction of the operator to one.

use std::fmt;

use servicekey_operator::api::Reason;
use testkit::broker::Route;

/// The call under test, and its purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Creates a key.
    Bind,
    /// Polls the creation of a key.
    PollOfBind,
    /// Reads the credentials of a key that was created in the background.
    FetchOfMade,
    /// Reads the credentials of a key again, because its Secret was deleted.
    FetchOfLost,
    /// Revokes a key.
    Unbind,
    /// Polls the revocation of a key.
    PollOfUnbind,
}

impl Call {
    pub const ALL: [Self; 6] = [
        Self::Bind,
        Self::PollOfBind,
        Self::FetchOfMade,
        Self::FetchOfLost,
        Self::Unbind,
        Self::PollOfUnbind,
    ];

    /// The brokers that get this call. A broker that works at once gets no polls, and no fetch of a key that was
    /// created in the background.
    pub const fn brokers(self) -> &'static [Broker] {
        match self {
            Self::Bind | Self::Unbind => &[Broker::Sync, Broker::Async],
            Self::FetchOfLost => &[Broker::Sync],
            Self::PollOfBind | Self::FetchOfMade | Self::PollOfUnbind => &[Broker::Async],
        }
    }

    pub const fn route(self) -> Route {
        match self {
            Self::Bind => Route::Bind,
            Self::PollOfBind | Self::PollOfUnbind => Route::LastOperation,
            Self::FetchOfMade | Self::FetchOfLost => Route::Fetch,
            Self::Unbind => Route::Unbind,
        }
    }

    pub const fn ask(self) -> Ask {
        match self {
            Self::Bind => Ask::Bind,
            Self::PollOfBind | Self::PollOfUnbind => Ask::Poll,
            Self::FetchOfMade | Self::FetchOfLost => Ask::Fetch,
            Self::Unbind => Ask::Unbind,
        }
    }

    pub const fn is_poll(self) -> bool {
        matches!(self, Self::PollOfBind | Self::PollOfUnbind)
    }
}

/// The work of a broker, apart from the answer under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broker {
    /// At once.
    Sync,
    /// In the background.
    Async,
}

/// The answer of the broker to the call under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    Status(u16),
    /// 422 with this `error`.
    Code(&'static str),
    /// For a poll: 200 with this `state`.
    State(&'static str),
    /// For a poll: `in progress`, for longer than the plan's `maximum_polling_duration`.
    NoEnd,
    /// None: the connection closes before the call takes effect.
    CutBefore,
    /// None: the connection closes after the call took effect.
    CutAfter,
    /// The correct status, and half of the body.
    CutInBody,
    /// None until the operator's deadline, although the call took effect.
    Hangs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// As the specification requires.
    WellFormed,
    /// An empty object instead of credentials.
    Bare,
    /// JSON of another shape.
    Malformed,
    Empty,
    Html,
    /// No answer could have a body.
    Absent,
}

/// One answer under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    pub call: Call,
    pub broker: Broker,
    pub says: Says,
    pub body: Body,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call, broker, says, body } = self;
        write!(f, "{call:?} at a {broker:?} broker that answers {says:?} with the body {body:?}")
    }
}

/// All statuses of the specification and of real brokers.
const STATUSES: [u16; 19] =
    [200, 201, 202, 204, 307, 400, 401, 403, 404, 408, 409, 410, 412, 422, 429, 500, 501, 502, 503];
const CODES: [&str; 4] = ["AsyncRequired", "ConcurrencyError", "MaintenanceInfoConflict", "RequiresApp"];
const STATES: [&str; 3] = ["in progress", "succeeded", "failed"];

/// All cases of a call.
pub fn universe(call: Call) -> Vec<Case> {
    let statuses = STATUSES
        .into_iter()
        .flat_map(|status| bodies(call, status).iter().map(move |body| (Says::Status(status), *body)));
    let codes = CODES.map(|code| (Says::Code(code), Body::WellFormed));
    let states = STATES.map(|state| (Says::State(state), Body::WellFormed));
    let states = states.into_iter().chain([(Says::NoEnd, Body::WellFormed)]).filter(|_| call.is_poll());
    let connections = [Says::CutBefore, Says::CutAfter, Says::CutInBody, Says::Hangs];
    let answers: Vec<_> =
        statuses.chain(codes).chain(states).chain(connections.map(|says| (says, Body::Absent))).collect();
    let at = |broker| answers.clone().into_iter().map(move |(says, body)| Case { call, broker, says, body });
    call.brokers().iter().flat_map(|broker| at(*broker)).collect()
}

fn bodies(call: Call, status: u16) -> &'static [Body] {
    use Body::{Bare, Empty, Html, Malformed, WellFormed};
    match (call, status) {
        // HTTP allows no body.
        (_, 204) => &[Empty],
        // The cases with a `state` are the well-formed ones.
        (Call::PollOfBind | Call::PollOfUnbind, 200) => &[Malformed, Empty, Html],
        (Call::Bind, 200 | 201) | (Call::FetchOfMade | Call::FetchOfLost, 200) => {
            &[WellFormed, Bare, Malformed, Empty, Html]
        }
        _ => &[WellFormed, Malformed, Empty, Html],
    }
}

/// The observations from the answer under test until the ServiceKey is ready, or gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The states of the condition `Ready` while it was not true, in order.
    pub shown: Vec<Shown>,
    /// Whether the status reported a possible orphan, and the operator revoked the key before it requested it again.
    pub mitigated: bool,
    /// The next calls to the broker.
    pub next: Vec<Ask>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    pub reason: Reason,
    /// Whether `Stalled` is true, so that tools stop waiting.
    pub stalled: bool,
}

/// A call to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Bind,
    /// A bind with the id of the next key.
    BindNext,
    Poll,
    Fetch,
    Unbind,
}
