//! The operator on a real API server, against strict fakes of the remote sides and brokers built on common libraries.
//! Each folder is a topic. Each file tests one capability and is named for what a user would notice. `support` contains
//! what the tests share.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod cloud_foundry;
mod deletion;
mod faults;
mod ibm_cloud;
mod keys;
mod operations;
mod providers;
mod rotation;
mod secrets;
mod support;
mod tenants;
