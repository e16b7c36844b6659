//! Checks the URLs of a provider before the operator sends anything to them.

use url::Url;

use super::HttpClient;
use crate::backend::{BackendError, ErrorClass};

/// Checks the URL in the provider's `field`: a plain address that the operator may call.
///
/// # Errors
/// [`ErrorClass::Rejected`], with a valid alternative.
pub(in crate::backend) fn base_url(http: &HttpClient, field: &str, url: &Url) -> Result<Url, BackendError> {
    let checked = base_url_with_query(http, field, url, &[])?;
    if url.query().is_some() {
        return Err(rejected(format!("`{field}` contains a query or a fragment; write only the address")));
    }
    Ok(checked)
}

/// Like [`base_url`], for a URL that may have a query, which becomes part of each call. The query must not contain the
/// operator's own parameters.
///
/// # Errors
/// As for [`base_url`].
pub(in crate::backend) fn base_url_with_query(
    http: &HttpClient,
    field: &str,
    url: &Url,
    parameters: &[&str],
) -> Result<Url, BackendError> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err(rejected(format!(
            "`{field}` contains a user or a password; move them to a Secret and name it in `auth`"
        )));
    }
    if url.fragment().is_some() {
        return Err(rejected(format!("`{field}` contains a fragment; write the URL without it")));
    }
    if let Some(name) = parameters.iter().find(|name| url.query_pairs().any(|(sent, _)| sent == **name)) {
        return Err(rejected(format!(
            "the query of `{field}` contains `{name}`, which the operator sends itself; remove it"
        )));
    }
    http.check(url).map_err(|failure| rejected(format!("`{field}`: {failure}")))?;
    let mut url = url.clone();
    if url.query() == Some("") {
        url.set_query(None);
    }
    Ok(url)
}

fn rejected(message: String) -> BackendError {
    BackendError::new(ErrorClass::Rejected, message)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::backend::HttpConfig;

    #[rstest]
    #[case("https://user:hunter2@broker", "`url` contains a user or a password")]
    #[case("https://hunter2@broker", "`url` contains a user or a password")]
    #[case("https://broker?key=hunter2", "`url` contains a query or a fragment")]
    #[case("https://broker#hunter2", "`url` contains a fragment")]
    #[case("https://169.254.169.254", "`url`: `169.254.169.254` is a cloud's metadata address")]
    #[case("http://broker", "`url`: plain http to `broker` is refused")]
    fn refuses_what_is_no_address_to_call(#[case] url: Url, #[case] words: &str) {
        let http = HttpClient::in_environment(&HttpConfig::default(), |_| None).unwrap();
        let error = base_url(&http, "url", &url).unwrap_err();
        assert_eq!(error.class, ErrorClass::Rejected);
        assert!(error.message.contains(words) && !error.message.contains("hunter2"), "{error}");
    }
}
