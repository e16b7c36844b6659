//! The fake broker and the token server next to it, driven by a plain HTTP client: they are right where the
//! specification is clear, strict where real ones are lax, and wrong exactly as told.

mod client;

mod asserting;
mod asynchronous;
mod bindings;
mod faults;
mod gates;
mod oauth;
mod strictness;
mod tls;
