//! The fake IBM Cloud, driven by a plain HTTP client and by the real one for Go: it is right where the documentation is
//! clear, strict where real ones are lax, and wrong exactly as told.

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
