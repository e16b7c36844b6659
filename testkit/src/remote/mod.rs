//! What fake remote sides have in common, whatever they speak: the way of a call through its stages, the record of
//! what happened, the faults and gates that a test sets up, and the real clients for Go that they are checked by.
//!
//! What is particular to one of them is its [`Side`].

mod answer;
mod call;
mod faults;
mod go_client;
pub(crate) mod reading;
mod record;
mod shared;
mod tokens;

pub(crate) use answer::{Answer, Header, Refusal};
pub(crate) use call::{Host, Request, Target};
pub use faults::{Fault, Injection};
pub(crate) use go_client::Sources;
pub use go_client::{GoClient, GoClientError};
pub(crate) use record::{Call, Violation};
pub(crate) use shared::{Admission, Inner, Shared, Side};
pub(crate) use tokens::{Tokens, Worth};
