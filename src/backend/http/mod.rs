//! The HTTP client that all backends share: one per provider, with its TLS, its deadlines, its budget of requests,
//! its cap on answers and its policy on addresses. It retries nothing: the state machine decides what comes next.

mod address;
mod base_url;
mod budget;
mod client;
mod config;
mod failure;
mod observer;
mod path;
mod proxy;
mod redact;
mod request;
mod resolver;
mod response;
mod shares;
#[cfg(test)]
mod tests;
mod tls;
mod trace;
mod words;

pub use address::AddressPolicy;
pub use config::{ClientCertificate, HttpConfig, Limits};
pub use observer::{CallOutcome, ObservedCall, Observer};
pub use shares::RemoteShares;

pub(super) use base_url::base_url;
pub(super) use client::HttpClient;
pub(super) use failure::Failure;
pub(super) use path::{below, segment};
pub(super) use redact::{Redactor, has_words, one_line};
pub(super) use request::{Request, without_query};
pub(super) use response::Response;
pub(super) use trace::call_span;
