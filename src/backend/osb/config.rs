//! The address and the login of a broker, as the provider specifies them.

use std::{fmt, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use url::Url;
use zeroize::Zeroizing;

use crate::backend::{
    BackendError, ClientCredentials, ErrorClass, HttpConfig,
    exchange::Authorization,
    http::{HttpClient, Redactor, without_query},
    token::Tokens,
};

#[derive(Clone)]
pub(crate) struct BrokerConfig {
    /// The base of `/v2/catalog` and all other paths.
    pub url: Url,
    /// The version of the API that each call announces.
    pub api_version: ApiVersion,
    /// Part of each bind. It is `None` for brokers that do not require it.
    pub bind_resource: Option<BindResourceObject>,
    /// The login. It is `None` for a broker without authentication, or with mutual TLS alone.
    pub auth: Option<Auth>,
    pub http: HttpConfig,
}

impl fmt::Debug for BrokerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerConfig")
            .field("url", &without_query(&self.url))
            .field("api_version", &self.api_version)
            .field("bind_resource", &self.bind_resource)
            .field("auth", &self.auth)
            .field("http", &self.http)
            .finish()
    }
}

/// A version of the Open Service Broker API, such as `2.17`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiVersion(String);

impl ApiVersion {
    /// The value of `X-Broker-API-Version`.
    ///
    /// # Errors
    /// [`ErrorClass::Rejected`] if the version can't be sent in a header.
    pub(super) fn header(&self) -> Result<HeaderValue, BackendError> {
        HeaderValue::from_str(&self.0).map_err(|_| {
            rejected("`openServiceBroker.apiVersion` is not a version such as `2.13`; correct it")
        })
    }
}

impl From<String> for ApiVersion {
    fn from(version: String) -> Self {
        Self(version)
    }
}

impl Default for ApiVersion {
    fn default() -> Self {
        Self("2.17".to_owned())
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The application or client that uses a key (spec: "Bind Resource Object").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct BindResourceObject {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_guid: Option<String>,
    /// The id of a UAA client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential_client_id: Option<String>,
}

/// The login at a broker.
#[derive(Clone, Debug)]
pub(crate) enum Auth {
    Basic {
        /// The user. It must not contain a colon, because HTTP Basic authentication can't send one.
        username: String,
        password: SecretString,
    },
    /// A token that is sent unchanged.
    Bearer { token: SecretString },
    /// Tokens that the operator requests as an OAuth 2.0 client.
    ClientCredentials(ClientCredentials),
}

impl Auth {
    /// The login in the form that is sent to the broker, and a redactor that hides it in the broker's messages.
    ///
    /// # Errors
    /// [`ErrorClass::Rejected`] if the login can't be sent in a header, or if the address of the token server can't be
    /// used.
    pub(super) fn login(&self, http: &HttpClient) -> Result<(Authorization, Redactor), BackendError> {
        match self {
            Self::Basic { username, .. } if username.contains(':') => Err(rejected(
                "the broker's `username` contains a colon, which HTTP Basic authentication can't send; correct it",
            )),
            Self::Basic { username, password } => {
                let login = basic(username, password);
                let header = header("Basic", &login, "the broker's login")?;
                Ok((Authorization::Header(header), Redactor::hiding([password.clone(), login])))
            }
            Self::Bearer { token } => {
                let header = header("Bearer", token, "the broker's `token`")?;
                Ok((Authorization::Header(header), Redactor::hiding([token.clone()])))
            }
            Self::ClientCredentials(client) => {
                let tokens = Tokens::of_client(client, http)?;
                let redactor = tokens.redactor();
                Ok((Authorization::Tokens(Arc::new(tokens)), redactor))
            }
        }
    }
}

/// The value of the header `Authorization`, marked as sensitive.
fn header(scheme: &str, login: &SecretString, what: &str) -> Result<HeaderValue, BackendError> {
    let value = Zeroizing::new(format!("{scheme} {}", login.expose_secret()));
    let mut value = HeaderValue::from_str(&value).map_err(|_| {
        rejected(format!(
            "{what} contains a line break or another character that can't be sent in a header; correct it"
        ))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn basic(username: &str, password: &SecretString) -> SecretString {
    let login = Zeroizing::new(format!("{username}:{}", password.expose_secret()));
    BASE64_STANDARD.encode(&*login).into()
}

fn rejected(message: impl Into<String>) -> BackendError {
    BackendError::new(ErrorClass::Rejected, message)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn basic_auth(username: &str, password: &str) -> Auth {
        Auth::Basic { username: username.to_owned(), password: password.into() }
    }

    fn login(auth: &Auth) -> Result<Authorization, BackendError> {
        auth.login(&HttpClient::new(&HttpConfig::default()).unwrap()).map(|(login, _)| login)
    }

    #[rstest]
    #[case(basic_auth("admin", "hunter2"), "Basic YWRtaW46aHVudGVyMg==")]
    #[case(basic_auth("admin", "p\u{e4}ss:w\n"), "Basic YWRtaW46cMOkc3M6dwo=")]
    #[case(Auth::Bearer { token: "abc.def".into() }, "Bearer abc.def")]
    fn makes_the_header(#[case] auth: Auth, #[case] expected: &str) {
        let Authorization::Header(header) = login(&auth).unwrap() else { panic!("it is a header") };
        assert_eq!(header.to_str().unwrap(), expected);
        assert_eq!(format!("{header:?}"), "Sensitive");
    }

    #[rstest]
    #[case(basic_auth("ad:min", "hunter2"), "`username` contains a colon")]
    #[case(Auth::Bearer { token: "hunter2\n".into() }, "`token` contains a line break")]
    fn refuses_logins_that_no_header_can_hold(#[case] auth: Auth, #[case] words: &str) {
        let error = login(&auth).unwrap_err();
        assert_eq!(error.class, ErrorClass::Rejected);
        assert!(error.message.contains(words) && !error.message.contains("hunter2"), "{error}");
    }

    #[test]
    fn debug_shows_no_secret() {
        let config = BrokerConfig {
            url: "https://user:hunter2@broker/prefix?hunter2".parse().unwrap(),
            api_version: ApiVersion::default(),
            bind_resource: None,
            auth: Some(basic_auth("admin", "hunter2")),
            http: HttpConfig::default(),
        };
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("https://broker/prefix"), "{shown}");
    }
}
