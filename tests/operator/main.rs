//! The operator on a real API server, against a strict fake broker: one file per capability.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod a_foreign_secret_is_left_alone;
mod a_key_becomes_a_secret;
mod a_namespace_with_keys_can_be_deleted;
mod each_key_costs_little;
mod stage;
mod the_api_server_refuses_bad_manifests;
mod the_secret_is_repaired;
mod what_keys_need_is_held;
