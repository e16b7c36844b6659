//! The parts that all fake remote sides share, whatever protocol they speak. They are the [`Builder`], the [`Fake`]
//! that a test keeps, the stages of a call, the record of calls and violations, faults and gates. The real Go clients
//! check the fakes.
//!
//! Each fake implements `Side`: its endpoints, its rules, and the state behind them.
//!
//! `call` takes a request through the stages. `Side::target` reads the path, and `Side::admit` checks everything that
//! needs no state. Then a gate may delay the call, and the script of `faults` may spoil it. `Side::carry_out` changes
//! the state.
//!
//! # Simulations
//!
//! A fake runs on sockets after [`Builder::start`], or without them after [`Builder::in_process`]. Both have the same
//! handle. Without sockets a fake has no threads, and it follows the clock of the caller's runtime. With a seeded
//! [`Environment`] it repeats itself: the same calls get the same answers.
//!
//! ```
//! use axum::{body::Bytes, http::{Request, StatusCode}};
//! use testkit::{broker::{FakeBroker, Fault, Login, NoAnswer, Route}, remote::Environment};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let environment = Environment::seeded(7, "2026-01-01T12:00:00Z".parse()?);
//! let broker = FakeBroker::builder().login(Login::None).environment(environment).in_process("broker-1.example")?;
//! broker.inject(Fault::Cut.on(Route::Catalog));
//!
//! let catalog = || {
//!     let request = Request::get(format!("{}/v2/catalog", broker.url()));
//!     let identity = "9f0c6f0e-0000-4000-8000-000000000001";
//!     let request = request.header("x-broker-api-request-identity", identity);
//!     request.header("x-broker-api-version", "2.17").body(Bytes::new())
//! };
//! assert_eq!(broker.call(catalog()?).await.err(), Some(NoAnswer::Cut));
//! # Ok(())
//! # }
//! ```

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
