//! Random sequences of requests.
