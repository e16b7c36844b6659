//! A plain HTTP client and the real Go client call the fake Cloud Foundry. It is correct if the documentation is clear,
//! strict if real ones are lax, and wrong exactly as tests demand.

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
