//! A real PostgreSQL server on the loopback interface, with an empty cluster of its own in a temporary folder.
//!
//! Everybody logs in over TCP and with a password, so that a login that is refused here is refused in earnest. The
//! server ends with the value that [`Postgres::start`] returns, or with this process, however that one ends.
//!
//! The programs are those of the Debian package `postgresql`, of `$PG_BIN`, or of the `PATH`. PostgreSQL refuses to run
//! as root; root's tests run it as the user `postgres`, which the package makes.

mod account;
mod error;
mod programs;
mod server;

pub use error::Error;
pub use server::Postgres;
