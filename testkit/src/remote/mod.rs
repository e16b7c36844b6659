//! The parts that all fake remote sides share, whatever protocol they speak. They are the [`Builder`], the [`Fake`]
//! that a test keeps, the stages of a call, the record of calls and violations, faults and gates. The real Go clients
//! check the fakes.
//!
//! Each fake implements `Side`: its endpoints, its rules, and the state behind them.
//!
//! `call` takes a request through the stages. `Side::target` reads the path, and `Side::admit` checks everything that
//! needs no state. Then a gate may delay the call, and the script of `faults` may spoil it. `Side::carry_out` changes
//! the state.

mod answer;
mod builder;
mod call;
mod environment;
mod fake;
mod faults;
mod go_client;
mod port;
pub(crate) mod reading;
mod record;
mod shared;
mod side;
mod spoiled;
mod tls;
mod tokens;

pub(crate) use answer::{Answer, Header, Refusal};
pub use builder::{Builder, ListenError};
pub(crate) use builder::{Hosts, Setup};
pub use call::NoAnswer;
pub(crate) use call::{Request, Target};
pub use environment::Environment;
pub use fake::Fake;
pub use faults::{Fault, Injection};
pub(crate) use go_client::Sources;
pub use go_client::{GoClient, GoClientError};
pub use port::ReservedPort;
pub(crate) use record::FieldNames;
pub use record::{Call, Caller, Violation};
pub(crate) use side::{Admission, Side, numbered};
pub use tls::{TlsError, TlsIdentity};
pub(crate) use tokens::{Tokens, Worth};
