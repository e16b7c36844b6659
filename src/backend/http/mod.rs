//! The HTTP client of all backends: one per provider, with its TLS, deadlines, request budget, limits on answers and
//! address policy. Apart from a repeat on a broken reused connection it retries nothing: the state machine decides the
//! next step.

mod address;
mod api_server;
mod base_url;
mod budget;
mod client;
mod config;
mod connection_reuse;
mod encoding;
mod error_text;
mod failure;
mod named_host;
mod names;
mod network;
mod observer;
mod path;
mod possible_addresses;
mod proofs;
mod provider_clients;
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
mod transport;
mod values;

pub use address::{AddressPolicy, AddressRules};
pub use api_server::ApiServer;
pub(crate) use config::{ClientCertificate, HttpConfig, RequestLimits};
pub(crate) use error_text::find as find_source;
pub(crate) use named_host::NamedHost;
pub use names::Names;
pub(crate) use network::Author;
pub use network::Network;
pub(crate) use observer::{CallOutcome, ObservedCall, Observer};
pub(crate) use redact::without_secrets;
pub(crate) use shares::RemoteShares;
pub(crate) use tls::{certificates, system_roots};
pub use transport::{Transport, Undelivered};
pub(crate) use values::count_values;

pub(super) use base_url::{base_url, base_url_with_query};
pub(super) use client::HttpClient;
pub(super) use failure::{HttpFailure, HttpFailureKind};
pub(super) use path::{below, segment, without_query};
pub(super) use redact::{Redactor, has_words, is_web_page, one_line};
pub(super) use request::Request;
pub(super) use response::Response;
pub(super) use trace::call_span;
