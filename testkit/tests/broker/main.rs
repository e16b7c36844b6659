//! A plain HTTP client calls the fake broker and its token server. They are correct if the specification is clear,
//! strict if real ones are lax, and wrong exactly as tests demand.

mod client;

mod asserting;
mod asynchronous;
mod bindings;
mod faults;
mod gates;
mod oauth;
mod strictness;
mod tls;
