//! The login of callers.

use std::fmt;

use axum::http::{HeaderMap, header};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::token_server::{IssuedTokens, TokenServer};

/// The login that a caller must show. `Debug` leaves the secret out.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// HTTP basic authentication, the specification's default.
    Basic {
        /// The user's name.
        username: String,
        /// The user's password.
        password: String,
    },
    /// A bearer token.
    Bearer(String),
    /// Any token of a token server that is valid at the moment of the call.
    OAuth(IssuedTokens),
    /// All callers may call without a login.
    None,
}

impl Login {
    /// Basic authentication.
    #[must_use]
    pub fn basic(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self::Basic { username: username.into(), password: password.into() }
    }

    /// The present and future tokens of this server.
    #[must_use]
    pub fn oauth(server: &TokenServer) -> Self {
        Self::OAuth(server.issued())
    }

    pub(super) fn admits(&self, headers: &HeaderMap) -> bool {
        let shown = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '));
        match (self, shown) {
            (Self::None, _) => true,
            (Self::Basic { username, password }, Some((scheme, encoded))) => {
                scheme.eq_ignore_ascii_case("basic")
                    && STANDARD
                        .decode(encoded)
                        .is_ok_and(|bytes| bytes == format!("{username}:{password}").as_bytes())
            }
            (Self::Bearer(token), Some((scheme, sent))) => {
                scheme.eq_ignore_ascii_case("bearer") && sent == token
            }
            (Self::OAuth(issued), Some((scheme, sent))) => {
                scheme.eq_ignore_ascii_case("bearer") && issued.admit(sent)
            }
            (Self::Basic { .. } | Self::Bearer(_) | Self::OAuth(_), None) => false,
        }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { username, .. } => write!(f, "Basic({username})"),
            Self::Bearer(_) => f.write_str("Bearer"),
            Self::OAuth(_) => f.write_str("OAuth"),
            Self::None => f.write_str("None"),
        }
    }
}
