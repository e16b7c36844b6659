//! Hosts that a flag adds to the cloud's own, for the operator's own credentials.

use std::{fmt, str::FromStr};

use url::{Host, Url};

/// A host, optionally with a port, as in `iam.test.cloud.example.com` or `127.0.0.1:8080`. Without one it is for the
/// scheme's default port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedHost {
    host: Host,
    port: Option<u16>,
}

impl NamedHost {
    pub(super) fn is_of(&self, url: &Url) -> bool {
        url.host().is_some_and(|host| host.to_owned() == self.host) && url.port() == self.port
    }
}

/// The text is not a valid [`NamedHost`].
#[derive(Debug, thiserror::Error)]
#[error("write a host such as `iam.example.com`, or a host with its port such as `iam.example.com:8443`")]
pub struct InvalidHost;

impl FromStr for NamedHost {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url: Url = format!("https://{text}").parse().map_err(|_| InvalidHost)?;
        let alone = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let host = url.host().filter(|_| alone && url.username().is_empty() && !text.ends_with('/'));
        Ok(Self { host: host.ok_or(InvalidHost)?.to_owned(), port: url.port() })
    }
}

impl fmt::Display for NamedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => write!(f, "{}", self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("iam.example.com", "https://iam.example.com/x", true)]
    #[case("IAM.example.com", "https://iam.example.com:443", true)]
    #[case("iam.example.com", "https://iam.example.com:8443", false)]
    #[case("iam.example.com:8443", "https://iam.example.com:8443", true)]
    #[case("127.0.0.1:8080", "http://127.0.0.1:8080/iam", true)]
    #[case("iam.example.com", "https://evil.iam.example.com", false)]
    fn names_a_host(#[case] text: &str, #[case] url: Url, #[case] expected: bool) {
        assert_eq!(text.parse::<NamedHost>().unwrap().is_of(&url), expected);
    }

    #[rstest]
    #[case("")]
    #[case("https://iam.example.com")]
    #[case("user@iam.example.com")]
    #[case("iam.example.com/path")]
    #[case("iam.example.com/")]
    #[case("iam.example.com?x")]
    fn what_is_no_host_is_refused(#[case] text: &str) {
        assert!(text.parse::<NamedHost>().is_err());
    }
}
