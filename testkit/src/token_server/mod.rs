//! A strict OAuth 2.0 token endpoint (RFC 6749) for the grant `client_credentials`, which misbehaves on request.
//!
//! A broker lets in who shows one of its tokens: [`Login::oauth`](crate::broker::Login::oauth). It counts requests
//! and grants, names every breach of the specification, holds requests at a gate, and revokes what it handed out.
//!
//! A request goes through `request`, which reads it and finds what is wrong with it; `desk` answers it, spoiled as
//! the script of `faults` says; `tokens` knows which ones are valid now.

mod builder;
mod desk;
mod fake;
mod faults;
mod request;
mod tokens;

pub use builder::{Builder, StartError};
pub use fake::TokenServer;
pub use faults::TokenFault;
pub use request::{GrantRule, GrantViolation};
pub use tokens::IssuedTokens;
