//! The expected outcomes, written by hand.
//!
//! The decisions on orphan mitigation are the specification's own table (section "Orphan Mitigation"). Its text requires
//! that polls continue after any other answer, and that an unbind is repeated until 200 or 410. The reasons are those that
//! `src/api/condition.rs` documents. None of this is derived from the code under test.

use servicekey_operator::api::Reason::{
    self, BindFailed, BindRejected, Binding, CredentialsUnusable, Deleting, InstanceNotFound, RateLimited,
    RemoteUnreachable, RevokeFailed, Rotating, Unauthorized, UnexpectedAnswer,
};

use crate::case::{
    Ask, Body, Broker, Call, Case, Outcome,
    Says::{self, Code, CutAfter, CutBefore, CutInBody, Hangs, NoEnd, State, Status},
    Shown,
};
use Ask::{Bind, BindNext, Fetch, Poll, Unbind};
use Broker::{Async, Sync};
use Mitigation::{Needed, NotNeeded};
use Tells::{Nothing, Stalled, Waits};

/// The same outcome for all of these answers, with any of these bodies, at any of these brokers.
pub struct Row {
    pub says: &'static [Says],
    pub bodies: &'static [Body],
    pub brokers: &'static [Broker],
    outcome: (Tells, Mitigation, &'static [Ask]),
}

/// The condition that the ServiceKey must show.
#[derive(Clone, Copy)]
enum Tells {
    /// None: the call succeeds before the condition changes.
    Nothing,
    /// The operator waits or retries.
    Waits(Reason),
    /// The user has to act.
    Stalled(Reason),
}

#[derive(Clone, Copy, PartialEq)]
enum Mitigation {
    Needed,
    NotNeeded,
}

/// All bodies of an answer. A 204, and a 422 with an `error`, has only one.
const ANY: &[Body] = &[Body::WellFormed, Body::Malformed, Body::Empty, Body::Html];
const OBJECT: &[Body] = &[Body::WellFormed, Body::Malformed];
const NO_OBJECT: &[Body] = &[Body::Empty, Body::Html];
const UNREADABLE: &[Body] = &[Body::Malformed, Body::Empty, Body::Html];
const USELESS: &[Body] = &[Body::Bare, Body::Malformed, Body::Empty, Body::Html];
/// Objects without credentials.
const WITHOUT: &[Body] = &[Body::Bare, Body::Malformed];
const SHORT: &[Body] = &[Body::Malformed, Body::Empty];
const PAGE: &[Body] = &[Body::Html];
const BARE: &[Body] = &[Body::Bare];
const WELL: &[Body] = &[Body::WellFormed];
const NONE: &[Body] = &[Body::Absent];
const EITHER: &[Broker] = &[Sync, Async];
const SYNC: &[Broker] = &[Sync];
const ASYNC: &[Broker] = &[Async];

const fn row(
    says: &'static [Says],
    bodies: &'static [Body],
    brokers: &'static [Broker],
    tells: Tells,
    mitigation: Mitigation,
    next: &'static [Ask],
) -> Row {
    Row { says, bodies, brokers, outcome: (tells, mitigation, next) }
}

pub const fn rows(call: Call) -> &'static [Row] {
    match call {
        Call::Bind => BINDS,
        Call::PollOfBind => POLLS_OF_BINDS,
        Call::FetchOfMade => FETCHES_OF_WHAT_WAS_MADE,
        Call::FetchOfLost => FETCHES_OF_WHAT_WAS_LOST,
        Call::Unbind => UNBINDS,
        Call::PollOfUnbind => POLLS_OF_UNBINDS,
    }
}

#[rustfmt::skip]
const BINDS: &[Row] = &[
    row(&[Status(200), Status(201)],                 WELL,       EITHER, Nothing,                   NotNeeded, &[]),
    row(&[Status(202)],                              WELL,       EITHER, Nothing,                   NotNeeded, &[Poll, Fetch]),
    row(&[Status(200)],                              BARE,       EITHER, Nothing,                   NotNeeded, &[Unbind, Bind]),
    row(&[Status(200)],                              SHORT,      EITHER, Stalled(CredentialsUnusable), NotNeeded, &[Unbind, Bind]),
    // A broker answers 201 for a new key, so this answer is from a gateway.
    row(&[Status(200)],                              PAGE,       EITHER, Waits(UnexpectedAnswer),   NotNeeded, &[Bind]),
    row(&[Status(201)],                              USELESS,    EITHER, Stalled(CredentialsUnusable), NotNeeded, &[Unbind, Bind]),
    row(&[Status(202), Status(204)],                 UNREADABLE, EITHER, Waits(BindFailed),         Needed,    &[Unbind, Bind]),
    row(&[Status(307)],                              ANY,        EITHER, Waits(UnexpectedAnswer),   NotNeeded, &[Bind]),
    row(&[Status(400), Status(412), Status(422), Code("AsyncRequired"), Code("MaintenanceInfoConflict"),
          Code("RequiresApp")],                      ANY,        EITHER, Stalled(BindRejected),     NotNeeded, &[Bind]),
    row(&[Status(401), Status(403)],                 ANY,        EITHER, Stalled(Unauthorized),     NotNeeded, &[Bind]),
    row(&[Status(404)],                              OBJECT,     EITHER, Stalled(InstanceNotFound), NotNeeded, &[Bind]),
    row(&[Status(404)],                              NO_OBJECT,  EITHER, Waits(UnexpectedAnswer),   NotNeeded, &[Bind]),
    row(&[Status(410)],                              ANY,        EITHER, Stalled(InstanceNotFound), NotNeeded, &[Bind]),
    row(&[Status(409)],                              ANY,        EITHER, Nothing,                   NotNeeded, &[Unbind, Bind]),
    row(&[Status(408), Code("ConcurrencyError")],    ANY,        EITHER, Waits(RemoteUnreachable),  NotNeeded, &[Bind]),
    row(&[Status(429)],                              ANY,        EITHER, Waits(RateLimited),        NotNeeded, &[Bind]),
    row(&[Status(500), Status(501), Status(502), Status(503)],
                                                     ANY,        EITHER, Waits(BindFailed),         Needed,    &[Unbind, Bind]),
    row(&[CutBefore, CutAfter, CutInBody, Hangs],    NONE,       EITHER, Waits(BindFailed),         Needed,    &[Unbind, Bind]),
];

#[rustfmt::skip]
const POLLS_OF_BINDS: &[Row] = &[
    row(&[State("succeeded")],                       WELL,       ASYNC,  Nothing,                   NotNeeded, &[Fetch]),
    row(&[State("failed"), NoEnd],                   WELL,       ASYNC,  Waits(BindFailed),         Needed,    &[Unbind, Bind]),
    row(&[State("in progress")],                     WELL,       ASYNC,  Waits(Binding),            NotNeeded, &[Poll]),
    row(&[Status(200)],                              UNREADABLE, ASYNC,  Waits(Binding),            NotNeeded, &[Poll]),
    row(&[Status(201), Status(202), Status(204), Status(307), Status(400), Status(401), Status(403),
          Status(408), Status(409), Status(412), Status(422), Code("AsyncRequired"),
          Code("ConcurrencyError"), Code("MaintenanceInfoConflict"), Code("RequiresApp"), Status(429), Status(500),
          Status(501), Status(502), Status(503)],    ANY,        ASYNC,  Waits(Binding),            NotNeeded, &[Poll]),
    // The broker does not have the binding.
    row(&[Status(404)],                              OBJECT,     ASYNC,  Waits(BindFailed),         Needed,    &[Unbind, Bind]),
    row(&[Status(410)],                              ANY,        ASYNC,  Waits(BindFailed),         Needed,    &[Unbind, Bind]),
    row(&[Status(404)],                              NO_OBJECT,  ASYNC,  Waits(Binding),            NotNeeded, &[Poll]),
    row(&[CutBefore, CutAfter, CutInBody, Hangs],    NONE,       ASYNC,  Waits(Binding),            NotNeeded, &[Poll]),
];

#[rustfmt::skip]
const FETCHES_OF_WHAT_WAS_MADE: &[Row] = &[
    row(&[Status(200)],                              WELL,       ASYNC,  Nothing,                   NotNeeded, &[]),
    row(&[Status(200)],                              USELESS,    ASYNC,  Waits(UnexpectedAnswer),   NotNeeded, &[Bind]),
    row(&[Status(201), Status(202), Status(204), Status(307), Status(404), Status(410), Status(501)],
                                                     ANY,        ASYNC,  Waits(UnexpectedAnswer),   NotNeeded, &[Bind]),
    row(&[Status(400), Status(409), Status(412), Status(422), Code("AsyncRequired"),
          Code("MaintenanceInfoConflict"), Code("RequiresApp")],
                                                     ANY,        ASYNC,  Stalled(BindRejected),     NotNeeded, &[Bind]),
    row(&[Status(401), Status(403)],                 ANY,        ASYNC,  Stalled(Unauthorized),     NotNeeded, &[Bind]),
    row(&[Status(429)],                              ANY,        ASYNC,  Waits(RateLimited),        NotNeeded, &[Bind]),
    row(&[Status(408), Code("ConcurrencyError"), Status(500), Status(502), Status(503)],
                                                     ANY,        ASYNC,  Waits(RemoteUnreachable),  NotNeeded, &[Bind]),
    row(&[CutBefore, CutAfter, CutInBody, Hangs],    NONE,       ASYNC,  Waits(RemoteUnreachable),  NotNeeded, &[Bind]),
];

#[rustfmt::skip]
const FETCHES_OF_WHAT_WAS_LOST: &[Row] = &[
    row(&[Status(200)],                              WELL,       SYNC,   Nothing,                   NotNeeded, &[]),
    row(&[Status(404)],                              OBJECT,     SYNC,   Waits(Rotating),           NotNeeded, &[BindNext]),
    row(&[Status(410)],                              ANY,        SYNC,   Waits(Rotating),           NotNeeded, &[BindNext]),
    // The broker can't fetch, although its catalog says so. It shows the key in the answer to the same bind.
    row(&[Status(501)],                              ANY,        SYNC,   Nothing,                   NotNeeded, &[Bind]),
    row(&[Status(200)],                              WITHOUT,    SYNC,   Nothing,                   NotNeeded, &[Bind]),
    row(&[Status(200), Status(404)],                 NO_OBJECT,  SYNC,   Waits(UnexpectedAnswer),   NotNeeded, &[Fetch]),
    row(&[Status(201), Status(202), Status(204), Status(307)],
                                                     ANY,        SYNC,   Waits(UnexpectedAnswer),   NotNeeded, &[Fetch]),
    row(&[Status(400), Status(409), Status(412), Status(422), Code("AsyncRequired"),
          Code("MaintenanceInfoConflict"), Code("RequiresApp")],
                                                     ANY,        SYNC,   Stalled(BindRejected),     NotNeeded, &[Fetch]),
    row(&[Status(401), Status(403)],                 ANY,        SYNC,   Stalled(Unauthorized),     NotNeeded, &[Fetch]),
    row(&[Status(429)],                              ANY,        SYNC,   Waits(RateLimited),        NotNeeded, &[Fetch]),
    row(&[Status(408), Code("ConcurrencyError"), Status(500), Status(502), Status(503)],
                                                     ANY,        SYNC,   Waits(RemoteUnreachable),  NotNeeded, &[Fetch]),
    row(&[CutBefore, CutAfter, CutInBody, Hangs],    NONE,       SYNC,   Waits(RemoteUnreachable),  NotNeeded, &[Fetch]),
];

#[rustfmt::skip]
const UNBINDS: &[Row] = &[
    row(&[Status(200), Status(410)],                 ANY,        EITHER, Nothing,                   NotNeeded, &[]),
    row(&[Status(202)],                              WELL,       EITHER, Nothing,                   NotNeeded, &[Poll]),
    row(&[Status(202)],                              UNREADABLE, EITHER, Waits(RevokeFailed),       NotNeeded, &[Unbind]),
    row(&[Status(201), Status(204), Status(307), Status(400), Status(401), Status(403), Status(404), Status(408),
          Status(409), Status(412), Status(422), Code("AsyncRequired"), Code("ConcurrencyError"),
          Code("MaintenanceInfoConflict"), Code("RequiresApp"), Status(429), Status(500), Status(501), Status(502),
          Status(503)],
                                                     ANY,        EITHER, Waits(RevokeFailed),       NotNeeded, &[Unbind]),
    row(&[CutBefore, CutAfter, Hangs],               NONE,       EITHER, Waits(RevokeFailed),       NotNeeded, &[Unbind]),
    // The status 200 is enough. A 202 needs its body.
    row(&[CutInBody],                                NONE,       SYNC,   Nothing,                   NotNeeded, &[]),
    row(&[CutInBody],                                NONE,       ASYNC,  Waits(RevokeFailed),       NotNeeded, &[Unbind]),
];

#[rustfmt::skip]
const POLLS_OF_UNBINDS: &[Row] = &[
    row(&[State("succeeded")],                       WELL,       ASYNC,  Nothing,                   NotNeeded, &[]),
    row(&[Status(410)],                              ANY,        ASYNC,  Nothing,                   NotNeeded, &[]),
    row(&[State("failed")],                          WELL,       ASYNC,  Waits(RevokeFailed),       NotNeeded, &[Unbind]),
    row(&[NoEnd],                                    WELL,       ASYNC,  Nothing,                   NotNeeded, &[Unbind]),
    row(&[State("in progress")],                     WELL,       ASYNC,  Waits(Deleting),           NotNeeded, &[Poll]),
    row(&[Status(200)],                              UNREADABLE, ASYNC,  Waits(Deleting),           NotNeeded, &[Poll]),
    row(&[Status(201), Status(202), Status(204), Status(307), Status(400), Status(401), Status(403),
          Status(408), Status(409), Status(412), Status(422), Code("AsyncRequired"), Code("ConcurrencyError"),
          Code("MaintenanceInfoConflict"), Code("RequiresApp"), Status(429), Status(500), Status(501), Status(502),
          Status(503)],
                                                     ANY,        ASYNC,  Waits(Deleting),           NotNeeded, &[Poll]),
    row(&[Status(404)],                              OBJECT,     ASYNC,  Waits(RevokeFailed),       NotNeeded, &[Unbind]),
    row(&[Status(404)],                              NO_OBJECT,  ASYNC,  Waits(Deleting),           NotNeeded, &[Poll]),
    row(&[CutBefore, CutAfter, Hangs],               NONE,       ASYNC,  Waits(Deleting),           NotNeeded, &[Poll]),
    // The broker answers 410 to the second poll, which is enough.
    row(&[CutInBody],                                NONE,       ASYNC,  Nothing,                   NotNeeded, &[Poll]),
];

impl Row {
    pub fn covers(&self, case: &Case) -> bool {
        self.says.contains(&case.says)
            && self.bodies.contains(&case.body)
            && self.brokers.contains(&case.broker)
    }

    /// The expected outcome.
    pub fn outcome(&self) -> Outcome {
        let (tells, mitigation, next) = self.outcome;
        let shown = match tells {
            Nothing => Vec::new(),
            Waits(reason) => vec![Shown { reason, stalled: false }],
            Stalled(reason) => vec![Shown { reason, stalled: true }],
        };
        Outcome { shown, mitigated: mitigation == Needed, next: next.to_vec() }
    }
}
