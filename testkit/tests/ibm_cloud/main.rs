//! A plain HTTP client and the real Go client call the fake IBM Cloud. It is correct if the documentation is clear,
//! strict if real ones are lax, and wrong exactly as tests demand.

mod client;

mod asserting;
mod faults;
mod go_client;
mod keys;
mod lists;
mod quirks;
mod service_ids;
mod strictness;
mod tokens;
