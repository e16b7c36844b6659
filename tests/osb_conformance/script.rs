//! The behaviour of a case's fake broker, in general and for the call under test.

use std::time::Duration;

use serde_json::json;
use testkit::broker::{
    Catalog, FakeBroker, Fault, Injection, Instance, Login, Offering, Pace, Plan, StatusCode,
};

use crate::case::{Body, Broker, Call, Case, Says};

pub const INSTANCE: &str = "training-app-db";
pub const OFFERING: &str = "postgresql";
pub const PLAN: &str = "small";

/// The plan's limit for background work in cases that exceed it. It is too short for the condition to show the work.
const SHORT: Duration = Duration::from_secs(4);

impl Broker {
    /// The duration of its work: none, or until the first poll.
    pub fn pace(self) -> Pace {
        match self {
            Self::Sync => Pace::at_once(),
            Self::Async => Pace::polls(0),
        }
    }
}

impl Case {
    /// A broker that does not inject the answer yet.
    pub async fn start_broker(self) -> FakeBroker {
        let maximum = (self.says == Says::NoEnd).then_some(SHORT.as_secs());
        let plan = Plan { maximum_polling_duration: maximum, ..Plan::new("plan-1c9d", PLAN) };
        let offering = Offering::new("offering-7b1f", OFFERING).plan(plan);
        let broker = FakeBroker::builder().login(Login::None).catalog(Catalog::new([offering]));
        let instance = Instance::new(INSTANCE, OFFERING, PLAN);
        broker.without_instances().instance(instance).start().await.unwrap()
    }

    /// The broker's work on the call under test, so that its answer is true.
    pub fn pace(self) -> Pace {
        match (self.call, self.says, self.body) {
            (Call::Bind | Call::Unbind, Says::Status(202), Body::WellFormed) => Broker::Async.pace(),
            (Call::Bind, Says::Status(200 | 201), Body::WellFormed) => Broker::Sync.pace(),
            _ => self.broker.pace(),
        }
    }

    /// The fault to inject.
    pub fn injection(self) -> Injection {
        let mut injection = self.fault().on(self.call.route());
        if self.says == Says::Status(307) {
            let elsewhere = "https://login.example.com/".parse().unwrap();
            injection = injection.header("location".parse().unwrap(), elsewhere);
        }
        if self.takes_effect() {
            injection = injection.after_effect();
        }
        if self.lasts() { injection.forever() } else { injection }
    }

    /// Whether the answer is repeated until the condition shows it: the condition does not show short work.
    pub fn lasts(self) -> bool {
        self.call.is_poll() && self.says != Says::State("failed")
    }

    /// Whether the call takes effect. It does for a success, and for an answer that may hide one. A refusal means that
    /// it does not.
    fn takes_effect(self) -> bool {
        match self.says {
            Says::Status(410) => matches!(self.call, Call::Unbind | Call::PollOfUnbind),
            Says::Status(status) => !(300..500).contains(&status),
            Says::State(state) => state != "in progress",
            Says::Code(_) | Says::NoEnd | Says::CutBefore => false,
            Says::CutAfter | Says::CutInBody | Says::Hangs => true,
        }
    }

    fn fault(self) -> Fault {
        let state =
            |state| Fault::Status(StatusCode::OK, json!({"state": state, "description": "the disk is full"}));
        match self.says {
            Says::Status(status) => self.answer(StatusCode::from_u16(status).unwrap()),
            Says::Code(code) => {
                let body = json!({"error": code, "description": "the disk is full"});
                Fault::Status(StatusCode::UNPROCESSABLE_ENTITY, body)
            }
            Says::State(told) => state(told),
            Says::NoEnd => state("in progress"),
            Says::CutBefore | Says::CutAfter => Fault::Cut,
            Says::CutInBody => Fault::CutInBody,
            Says::Hangs => Fault::Hang,
        }
    }

    fn answer(self, status: StatusCode) -> Fault {
        match self.body {
            Body::WellFormed if status.is_success() => Fault::Relabel(status),
            Body::WellFormed => Fault::Status(status, json!({"description": "the disk is full"})),
            Body::Bare => Fault::Status(status, json!({})),
            // Every field that any call reads has a wrong type.
            Body::Malformed => {
                Fault::Status(status, json!({"credentials": "none", "operation": 7, "state": 7, "error": 7}))
            }
            Body::Empty | Body::Absent => Fault::Empty(status),
            Body::Html => Fault::Html(status),
        }
    }
}
