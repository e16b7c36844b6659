//! The fake Cloud Foundry, driven by a plain HTTP client: it is right where the
//! documentation is clear, strict where real ones are lax, and wrong exactly as told.

mod client;

mod asynchronous;
mod estate;
mod keys;
mod lists;
mod logins;
