//! The way out of clusters that have only one: a proxy named by the environment.
//!
//! `HTTPS_PROXY` and `NO_PROXY` are honoured for https, as everywhere in the Kubernetes world; whoever sets them
//! runs the operator. The proxy resolves the names then, so keeping it from addresses that nobody should reach is
//! its own task; hosts written as addresses stay under the address policy. Plain http never takes a proxy, and
//! neither do hosts written as addresses that `--allow-cidr` admits: both are next door by nature.

use reqwest::{NoProxy, Proxy};

use super::AddressPolicy;
use crate::backend::{BackendError, ErrorClass};

/// The proxy that the variables name, where they name one.
///
/// # Errors
/// [`ErrorClass::Rejected`], where the proxy's address can't be used. It is not quoted: it may hold a password.
pub(super) fn from_environment(
    variable: impl Fn(&str) -> Option<String>,
    policy: &AddressPolicy,
) -> Result<Option<Proxy>, BackendError> {
    let lookup = |name: &str| {
        variable(name).or_else(|| variable(&name.to_lowercase())).filter(|value| !value.trim().is_empty())
    };
    let Some(address) = lookup("HTTPS_PROXY") else { return Ok(None) };
    let proxy = Proxy::https(address.trim()).map_err(|_| {
        let message =
            "the operator's environment variable `HTTPS_PROXY` is no address of a proxy: correct it";
        BackendError::new(ErrorClass::Rejected, message)
    })?;
    let mut direct: Vec<String> = policy.admitted().iter().map(ToString::to_string).collect();
    direct.extend(lookup("NO_PROXY"));
    Ok(Some(proxy.no_proxy(NoProxy::from_string(&direct.join(",")))))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(&[], Ok(false))]
    #[case(&[("HTTPS_PROXY", "")], Ok(false))]
    #[case(&[("HTTP_PROXY", "http://proxy:3128")], Ok(false))]
    #[case(&[("HTTPS_PROXY", "http://proxy:3128")], Ok(true))]
    #[case(&[("https_proxy", "proxy:3128"), ("NO_PROXY", ".svc,10.0.0.0/8")], Ok(true))]
    #[case(&[("HTTPS_PROXY", "http://user:hunter2@:x")], Err(()))]
    fn reads_the_variables(#[case] variables: &[(&str, &str)], #[case] expected: Result<bool, ()>) {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let found = from_environment(variable, &AddressPolicy::default());
        match found {
            Ok(proxy) => assert_eq!(Ok(proxy.is_some()), expected),
            Err(error) => {
                assert_eq!(Err(()), expected);
                assert!(!error.message.contains("hunter2"));
            }
        }
    }
}
