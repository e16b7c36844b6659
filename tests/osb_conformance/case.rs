//! What can go wrong, and what is seen of the operator's answer to it.

use std::fmt;

use servicekey_operator::api::Reason;
use testkit::broker::Route;

/// The call that goes wrong, and what it is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// A key is made.
    Bind,
    /// The operator asks how far the broker is with making a key.
    PollOfBind,
    /// The credentials of a key are read that was made in the background.
    FetchOfMade,
    /// The credentials of a key are read again, because its Secret is lost.
    FetchOfLost,
    /// A key is revoked.
    Unbind,
    /// The operator asks how far the broker is with revoking a key.
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

    /// How brokers work at which this call can go wrong: polls, and reading what was made in the background, are not
    /// for those that do everything at once.
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

/// How a broker works as long as nothing goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broker {
    /// It does everything at once.
    Sync,
    /// It makes and revokes keys in the background.
    Async,
}

/// What a broker says to the call that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// This status.
    Status(u16),
    /// 422 with this `error`.
    Code(&'static str),
    /// To a poll: 200 with this `state`.
    State(&'static str),
    /// To a poll: `in progress`, for longer than the plan's `maximum_polling_duration`.
    NoEnd,
    /// Nothing: the connection is closed, before anything was done.
    CutBefore,
    /// Nothing: the connection is closed, after everything was done.
    CutAfter,
    /// The true status, and half of the body.
    CutInBody,
    /// Nothing, although everything was done, until the operator's patience ends.
    Hangs,
}

/// The body of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// As the specification shapes it.
    WellFormed,
    /// An empty object, where there should be credentials.
    Bare,
    /// JSON of another shape.
    Malformed,
    /// Nothing.
    Empty,
    /// A page of HTML.
    Html,
    /// There is no answer that could have a body.
    Absent,
}

/// One thing that goes wrong, once.
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
        write!(f, "{call:?} at a {broker:?} broker that says {says:?} with a body that is {body:?}")
    }
}

/// All statuses that the specification and reality know.
const STATUSES: [u16; 19] =
    [200, 201, 202, 204, 307, 400, 401, 403, 404, 408, 409, 410, 412, 422, 429, 500, 501, 502, 503];
const CODES: [&str; 4] = ["AsyncRequired", "ConcurrencyError", "MaintenanceInfoConflict", "RequiresApp"];
const STATES: [&str; 3] = ["in progress", "succeeded", "failed"];

/// Everything that can go wrong with a call.
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
        // HTTP allows none.
        (_, 204) => &[Empty],
        // What is well-formed here are the states.
        (Call::PollOfBind | Call::PollOfUnbind, 200) => &[Malformed, Empty, Html],
        (Call::Bind, 200 | 201) | (Call::FetchOfMade | Call::FetchOfLost, 200) => {
            &[WellFormed, Bare, Malformed, Empty, Html]
        }
        _ => &[WellFormed, Malformed, Empty, Html],
    }
}

/// What was seen from outside, from when it went wrong until all was well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the condition `Ready` said while it was not true, in order.
    pub shown: Vec<Shown>,
    /// Whether the status told of an orphan that may exist, and the key was revoked before it was asked for again.
    pub mitigated: bool,
    /// What the broker was asked next.
    pub next: Vec<Ask>,
}

/// What people are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The reason of `Ready`.
    pub reason: Reason,
    /// Whether `Stalled` is true: tools stop waiting.
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
