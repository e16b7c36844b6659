//! The logins of remote sides, and the requests that contain them.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, header};

/// The passwords, API keys and tokens of all remote sides, each with the name of the side that it is for.
#[derive(Debug, Default)]
pub struct Logins(BTreeMap<String, String>);

impl Logins {
    /// Adds a text that only this side may see.
    pub fn add(&mut self, text: &str, side: &str) {
        self.0.insert(text.to_owned(), side.to_owned());
    }

    /// The side whose login is in this request, although it is not for it. `target`: the side that gets the request.
    #[must_use]
    pub fn leaked(&self, request: &Request<Bytes>, target: Option<&str>) -> Option<&str> {
        let readable = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut sent = vec![request.uri().to_string(), readable(request.body())];
        sent.extend(request.headers().values().map(|value| readable(value.as_bytes())));
        let basic = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let basic = basic.and_then(|value| STANDARD.decode(value.strip_prefix("Basic ")?).ok());
        sent.extend(basic.as_deref().map(readable));
        let mut others = self.0.iter().filter(|(_, side)| Some(side.as_str()) != target);
        let found = others.find(|(text, _)| sent.iter().any(|part| part.contains(text.as_str())));
        found.map(|(_, side)| side.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_found_wherever_it_is_sent() {
        let mut logins = Logins::default();
        logins.add("s3cret", "broker");
        let basic = format!("Basic {}", STANDARD.encode("operator:s3cret"));
        let by_header = Request::get("https://a.example/").header(header::AUTHORIZATION, basic);
        let by_header = by_header.body(Bytes::new()).unwrap();
        let by_body = Request::post("https://a.example/").body(Bytes::from("password=s3cret")).unwrap();
        let by_url = Request::get("https://a.example/?token=s3cret").body(Bytes::new()).unwrap();
        for request in [by_header, by_body, by_url] {
            assert_eq!(logins.leaked(&request, Some("broker")), None);
            assert_eq!(logins.leaked(&request, Some("foundry")), Some("broker"));
            assert_eq!(logins.leaked(&request, None), Some("broker"));
        }
    }
}
