//! The fake broker, driven by a plain HTTP client: it is right where the specification is clear, strict where
//! brokers are lax, and wrong exactly as told.

mod client;

mod asserting;
mod asynchronous;
mod bindings;
mod faults;
mod gates;
mod strictness;
mod tls;
