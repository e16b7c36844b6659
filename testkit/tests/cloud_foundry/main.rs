//! The fake Cloud Foundry, driven by a plain HTTP client and by the real one for Go: it is right where the
//! documentation is clear, strict where real ones are lax, and wrong exactly as told.

mod client;

mod asserting;
mod asynchronous;
mod estate;
mod faults;
mod go_client;
mod keys;
mod korifi;
mod limits;
mod lists;
mod logins;
mod shapes;
mod strictness;
