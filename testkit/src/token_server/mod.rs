//! A strict OAuth 2.0 token endpoint (RFC 6749) for the grant `client_credentials`, which fails on request.
//!
//! A broker can accept its tokens: [`Login::oauth`](crate::broker::Login::oauth). Like all fakes it records every call
//! and every violation of the specification, holds calls at gates and spoils answers. It also revokes its tokens.
//!
//! `request` checks a request, `side` issues a token, and `tokens` knows the valid ones.

mod builder;
mod fake;
mod request;
mod side;
mod tokens;

pub use crate::remote::{Environment, Fault, ListenError as StartError, NoAnswer};
pub use builder::Builder;
pub use fake::TokenServer;
pub use request::GrantRule;
pub use side::Route;
pub use tokens::IssuedTokens;
