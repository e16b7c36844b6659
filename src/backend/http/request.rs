//! One request to a server.

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

/// Whether an answer proves that the server speaks the protocol of the provider.
pub(super) type Proof = Arc<dyn Fn(&Response) -> bool + Send + Sync>;

/// One request. `Debug` shows its URL without the query, and no headers or body.
#[derive(Clone)]
pub(in crate::backend) struct Request {
    pub(super) method: Method,
    /// The path without ids, for metrics.
    pub(super) route: &'static str,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    /// The body may contain parameters and logins, and is overwritten when it is dropped.
    pub(super) body: Option<Zeroizing<Vec<u8>>>,
    /// In bytes.
    pub(super) largest_answer: usize,
    /// Whether the answer is parsed into its own types, which leave out unknown members.
    pub(super) is_typed: bool,
    /// The memory for the answer, if it is not the provider's own.
    pub(super) share: Option<MemoryShare>,
    /// Whether a pause that the answer requires applies to the remote side.
    pub(super) to_the_remote_side: bool,
    /// For requests that may go to an unverified server.
    pub(super) proof: Option<Proof>,
}

impl Request {
    /// Creates a request. `route` is its path with placeholders for ids, such as `/v3/jobs/{job}`.
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

    /// Reads an answer of up to this many MiB, which is parsed into its own types.
    pub(in crate::backend) fn answered_in(mut self, mebibytes: usize) -> Self {
        self.largest_answer = mebibytes * MIB;
        self.is_typed = true;
        self
    }

    /// Reads an answer of up to this many bytes.
    pub(in crate::backend) fn answered_in_bytes(mut self, bytes: usize) -> Self {
        self.largest_answer = bytes;
        self
    }

    /// Counts the answer's memory in this share.
    pub(in crate::backend) fn held_by(mut self, share: MemoryShare) -> Self {
        self.share = Some(share);
        self
    }

    /// Goes to another server than the remote side. A pause that this server requires does not apply to the remote
    /// side.
    pub(in crate::backend) fn for_token_server(mut self) -> Self {
        self.to_the_remote_side = false;
        self
    }

    /// May go to an unverified private address, even if a tenant chose it. The caller gets the answer only if it is a
    /// proof: one that only the provider's protocol gives. The request must change nothing at the remote side.
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
        // With its full capacity: a growing vector leaves its old bytes in memory.
        let mut bytes = Zeroizing::new(Vec::with_capacity(length.0));
        serde_json::to_writer(&mut *bytes, body)?;
        self.body = Some(bytes);
        Ok(self.header(CONTENT_TYPE, HeaderValue::from_static("application/json")))
    }

    /// Sends the fields of a form as the body.
    pub(in crate::backend) fn form(mut self, fields: &[(&str, Zeroizing<String>)]) -> Self {
        // At most three characters for a byte, and two separators for a pair.
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

    /// A growing buffer leaves copies that are never overwritten.
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
