//! Parts of a deterministic simulation: no threads, no clock of their own, and no randomness without a seed.

pub mod api_server;
