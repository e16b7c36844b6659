//! Delivers requests. The operator uses HTTP clients; a simulation replaces them by a [`Transport`] of its own, below the
//! budget, the deadlines and the limits on answers. The addresses of names are then not resolved, so only the policy's
//! rules about URLs apply.

use std::fmt::Debug;

use bytes::Bytes;
use futures::future::BoxFuture;

/// Delivers requests to remote sides instead of the operator's HTTP clients.
pub trait Transport: Debug + Send + Sync {
    /// Sends the request and returns the head of the answer, with the stream of its body.
    fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'static, Result<http::Response<reqwest::Body>, Undelivered>>;
}

/// Why no answer arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undelivered {
    /// There was no connection, so the request was not sent.
    NotConnected,
    /// The connection was closed before the answer. The request may have an effect.
    Cut,
    /// A connection that was open before the request was closed before the answer. The request may have an effect.
    Severed,
}
