//! What is shown to a broker to be let in.

use reqwest::header::HeaderValue;

use crate::backend::token::Tokens;

/// The login, ready to be shown.
#[derive(Debug)]
pub(super) enum BrokerLogin {
    /// The broker asks for none, or for mutual TLS alone.
    None,
    /// The same header for every call.
    Header(HeaderValue),
    /// A token that lives for a while.
    Tokens(Box<Tokens>),
}
