//! One request, as backends write it.

use std::{fmt, io, sync::Arc};

use reqwest::{
    Method,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde::Serialize;
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use super::{
    Response,
    path::without_query,
    response::{LARGEST_BODY, MIB},
};
use crate::backend::memory::MemoryShare;

/// Whether an answer shows that the place speaks the protocol of the provider.
pub(super) type Proof = Arc<dyn Fn(&Response) -> bool + Send + Sync>;

/// One request. `Debug` shows where it goes, without the query, and nothing of headers and body.
#[derive(Clone)]
pub(in crate::backend) struct Request {
    pub(super) method: Method,
    /// The path without ids, for those who count calls.
    pub(super) route: &'static str,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    /// It may hold parameters and logins, and is overwritten when it is dropped.
    pub(super) body: Option<Zeroizing<Vec<u8>>>,
    /// In bytes.
    pub(super) largest_answer: usize,
    /// Whether the answer is read into types of its own, which leave out what they don't know.
    pub(super) is_typed: bool,
    /// Where the answer is held, unless it is the provider's own.
    pub(super) share: Option<MemoryShare>,
    /// Whether the answer speaks for the remote side, where it asks to be left alone.
    pub(super) to_the_remote_side: bool,
    /// For requests that may go to places of which nothing is known yet.
    pub(super) proof: Option<Proof>,
}

impl Request {
    /// A request. Of its path, `route` has what does not change: `/v3/jobs/{job}`, for example.
    pub(in crate::backend) fn new(method: Method, route: &'static str, url: Url) -> Self {
        Self {
            method,
            route,
            url,
            headers: HeaderMap::new(),
            body: None,
            largest_answer: LARGEST_BODY,
            is_typed: false,
            share: None,
            to_the_remote_side: true,
            proof: None,
        }
    }

    pub(in crate::backend) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Reads an answer of up to so many MiB, of which types of its own keep what they know.
    pub(in crate::backend) fn answered_in(mut self, mebibytes: usize) -> Self {
        self.largest_answer = mebibytes * MIB;
        self.is_typed = true;
        self
    }

    /// Reads an answer of up to so many bytes.
    pub(in crate::backend) fn answered_in_bytes(mut self, bytes: usize) -> Self {
        self.largest_answer = bytes;
        self
    }

    /// Holds the answer in this share.
    pub(in crate::backend) fn held_by(mut self, share: MemoryShare) -> Self {
        self.share = Some(share);
        self
    }

    /// Goes to another server than the remote side, which is not left alone because that one wants to be.
    pub(in crate::backend) fn elsewhere(mut self) -> Self {
        self.to_the_remote_side = false;
        self
    }

    /// May go to a private address of which nothing is known yet, also where a tenant chose it. What is answered comes
    /// back only where it is a proof: an answer that the protocol of the provider alone gives. The request must change
    /// nothing at the remote side.
    pub(in crate::backend) fn proving(
        mut self,
        proof: impl Fn(&Response) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.proof = Some(Arc::new(proof));
        self
    }

    /// # Errors
    /// Those of the body's own `Serialize`.
    pub(in crate::backend) fn json(mut self, body: &impl Serialize) -> Result<Self, serde_json::Error> {
        let mut length = Length(0);
        serde_json::to_writer(&mut length, body)?;
        // All at once: a vector that grows leaves its old bytes in memory.
        let mut bytes = Zeroizing::new(Vec::with_capacity(length.0));
        serde_json::to_writer(&mut *bytes, body)?;
        self.body = Some(bytes);
        Ok(self.header(CONTENT_TYPE, HeaderValue::from_static("application/json")))
    }

    /// The fields of a form as the body.
    pub(in crate::backend) fn form(mut self, fields: &[(&str, Zeroizing<String>)]) -> Self {
        // A byte takes three at most, and a pair two signs.
        let longest = fields.iter().map(|(name, value)| 3 * (name.len() + value.len()) + 2).sum();
        let mut body = form_urlencoded::Serializer::new(String::with_capacity(longest));
        for (name, value) in fields {
            body.append_pair(name, value);
        }
        self.body = Some(body.finish().into_bytes().into());
        self.header(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))
    }

    #[cfg(test)]
    pub(in crate::backend) fn header_value(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.headers.get(name)
    }
}

/// Counts what is written to it.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({} {})", self.method, without_query(&self.url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new() -> Request {
        Request::new(Method::PUT, "/v2/x", Url::parse("https://broker").unwrap())
    }

    /// What is moved while it grows leaves a copy that nobody overwrites.
    #[test]
    fn a_body_is_written_where_it_stays() {
        let json = new().json(&vec!["hunter2"; 1000]).unwrap().body.unwrap();
        assert_eq!(json.capacity(), json.len());
        let fields = [("a b", "é".repeat(1000).into()), ("c", String::new().into())];
        let longest =
            fields.iter().map(|(name, value): &(&str, Zeroizing<String>)| 3 * (name.len() + value.len()) + 2);
        let form = new().form(&fields).body.unwrap();
        assert_eq!(form.capacity(), longest.sum::<usize>());
        assert!(form.starts_with(b"a+b=%C3%A9%C3%A9") && form.ends_with(b"&c="));
    }

    #[test]
    fn debug_shows_no_secret() {
        let url = Url::parse("https://user:hunter2@broker:8443/v2/x/?token=hunter2#hunter2").unwrap();
        let request = Request::new(Method::PUT, "/v2/x", url)
            .header(reqwest::header::AUTHORIZATION, HeaderValue::from_static("Bearer hunter2"))
            .json(&["hunter2"])
            .unwrap();
        assert_eq!(format!("{request:?}"), "Request(PUT https://broker:8443/v2/x)");
    }
}
