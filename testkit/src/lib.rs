//! Test kit.

pub mod broker;
