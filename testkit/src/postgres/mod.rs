//! A real PostgreSQL server on the loopback interface, with an empty cluster of its own in a temporary folder.
//!
//! Every login is over TCP and with a password, so the server really checks each one. The server ends when the value of
//! [`Postgres::start`] is dropped, or with this process, even if that is killed.
//!
//! The programs come from `$PG_BIN`, the Debian package `postgresql`, or the `PATH`. PostgreSQL refuses to run as root.
//! Tests of root run it as the user `postgres`, which the package creates.

mod account;
mod error;
mod programs;
mod server;

pub use error::Error;
pub use server::Postgres;
