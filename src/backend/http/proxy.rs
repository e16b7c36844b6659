//! The proxy from the environment, for clusters without direct Internet access.
//!
//! `HTTPS_PROXY` and `NO_PROXY`, in upper or lower case, apply to https as usual in Kubernetes. The administrator of
//! the operator sets them. `HTTP_PROXY` and `ALL_PROXY` have no effect.
//!
//! The proxy resolves the names and connects, so it must refuse internal addresses itself. The operator checks literal
//! addresses anyway. It never uses a proxy for plain http, or for literal addresses that the policy admits: both are
//! nearby.

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::Proxy;
use url::Url;

use super::AddressPolicy;
use crate::backend::{BackendError, ErrorClass};

pub(super) struct EnvironmentProxy {
    address: String,
    matcher: Matcher,
}

impl EnvironmentProxy {
    /// The proxy that the variables name, if any.
    ///
    /// # Errors
    /// [`ErrorClass::Rejected`] if the proxy's address can't be used. The message does not quote it: it may contain a
    /// password.
    pub(super) fn from_environment(
        variable: impl Fn(&str) -> Option<String>,
        policy: &AddressPolicy,
    ) -> Result<Option<Self>, BackendError> {
        let lookup = |name: &str| {
            variable(name).or_else(|| variable(&name.to_lowercase())).filter(|value| !value.trim().is_empty())
        };
        let Some(address) = lookup("HTTPS_PROXY") else { return Ok(None) };
        let address = address.trim().to_owned();
        Self::proxy(&address)?;
        let mut direct: Vec<String> = policy.next_door().map(ToString::to_string).collect();
        direct.extend(lookup("NO_PROXY"));
        let matcher = Matcher::builder().https(address.clone()).no(direct.join(",")).build();
        Ok(Some(Self { address, matcher }))
    }

    /// Whether a request to this URL goes through the proxy.
    pub(super) fn is_on_the_way_to(&self, url: &Url) -> bool {
        url.as_str().parse().is_ok_and(|url| self.matcher.intercept(&url).is_some())
    }

    /// The proxy for a client that sends all requests through it.
    ///
    /// # Errors
    /// [`ErrorClass::Rejected`] if the address can't be used.
    pub(super) fn for_all(&self) -> Result<Proxy, BackendError> {
        Self::proxy(&self.address)
    }

    fn proxy(address: &str) -> Result<Proxy, BackendError> {
        Proxy::https(address).map_err(|_| {
            let message =
                "the operator's environment variable `HTTPS_PROXY` is not the address of a proxy: correct it";
            BackendError::new(ErrorClass::Rejected, message)
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn found(
        variables: &[(&str, &str)],
        policy: &AddressPolicy,
    ) -> Result<Option<EnvironmentProxy>, BackendError> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        EnvironmentProxy::from_environment(variable, policy)
    }

    #[rstest]
    #[case(&[], Ok(false))]
    #[case(&[("HTTPS_PROXY", "")], Ok(false))]
    #[case(&[("HTTP_PROXY", "http://proxy:3128")], Ok(false))]
    #[case(&[("ALL_PROXY", "http://proxy:3128")], Ok(false))]
    #[case(&[("HTTPS_PROXY", "http://proxy:3128")], Ok(true))]
    #[case(&[("https_proxy", "proxy:3128"), ("NO_PROXY", ".svc,10.0.0.0/8")], Ok(true))]
    #[case(&[("HTTPS_PROXY", "http://user:hunter2@:x")], Err(()))]
    fn reads_the_variables(#[case] variables: &[(&str, &str)], #[case] expected: Result<bool, ()>) {
        match found(variables, &AddressPolicy::default()) {
            Ok(proxy) => assert_eq!(Ok(proxy.is_some()), expected),
            Err(error) => {
                assert_eq!(Err(()), expected);
                assert!(!error.message.contains("hunter2"));
            }
        }
    }

    #[rstest]
    #[case("https://broker.example.com", true)]
    #[case("https://192.168.0.1", true)]
    #[case("https://10.1.2.3", false)]
    #[case("https://broker.billing.svc", false)]
    #[case("https://127.0.0.1:8443", false)]
    #[case("http://broker.example.com", false)]
    fn is_on_the_way(#[case] url: Url, #[case] expected: bool) {
        let variables = [("HTTPS_PROXY", "http://proxy:3128"), ("no_proxy", ".svc,10.0.0.0/8")];
        let policy = AddressPolicy::admitting(["127.0.0.0/8".parse().unwrap()]);
        let proxy = found(&variables, &policy).unwrap().unwrap();
        assert_eq!(proxy.is_on_the_way_to(&url), expected);
    }
}
