//! A deterministic simulation of the whole operator.
//!
//! The operator runs as it is shipped, on one thread and on virtual time. Around it is a [world](world::World): a model
//! of the API server in [`api_server`], the strict fakes of remote sides without sockets, and a network between them
//! that loses, delays and spoils requests. Actors with a will of their own apply, edit, attack, and break things. One
//! seed determines every choice, so a run can be repeated.
//!
//! The [`checks`] see each effect at once, whoever caused it. At the end the trouble stops. Then the world has to
//! settle, and to stay at rest.

pub mod actors;
pub mod api_server;
pub mod budget;
mod chance;
pub mod checks;
pub mod custody;
mod entropy;
pub mod hostile;
mod journal;
mod kubernetes;
pub mod logins;
mod memory;
mod network;
pub mod planted;
mod process;
mod report;
mod run;
mod runner;
pub mod script;
pub mod services;
pub mod sides;
mod trouble;
pub mod world;
pub mod year;

pub use chance::Chance;
pub use entropy::seed as seed_process;
pub use journal::Journal;
pub use process::Process;
pub use report::{Report, Total};
pub use run::{Outcome, Settings, run};
pub use runner::Runner;
pub use trouble::{Mishap, Requests, Trouble};
