//! The fakes without sockets answer as the fakes on sockets do, and repeat themselves with the same seed.

mod client;

mod faults;
mod gates;
mod hosts;
mod repetition;
