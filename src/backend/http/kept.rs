//! Tells whether a request went out on a connection that was open before.
//!
//! A server may close a kept connection while the next request is on its way. The client can't see what became of that
//! request. On a new connection nothing but this request can be the cause.
//!
//! The connector runs within the task of the request that needs a connection. A request that never called it went out on a
//! kept connection. One that called it may have received another one that became free first; it counts as one on a new
//! connection, because nothing tells the two apart.

use std::{
    cell::Cell,
    task::{Context, Poll},
};

use tower::{Layer, Service};

tokio::task_local! {
    /// Whether the present request has begun to open a connection.
    static OPENS: Cell<bool>;
}

/// Sends a request by a client with the layer [`Noting`]; says whether it went out on a kept connection, if it went out.
pub(super) async fn watch<T>(request: impl Future<Output = T>) -> (T, bool) {
    let watched = async {
        let outcome = request.await;
        (outcome, !OPENS.with(Cell::get))
    };
    OPENS.scope(Cell::new(false), watched).await
}

/// Notes for the present request that it opens a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noting;

impl<S> Layer<S> for Noting {
    type Service = NotingConnector<S>;

    fn layer(&self, connector: S) -> NotingConnector<S> {
        NotingConnector(connector)
    }
}

/// A connector that notes its calls.
#[derive(Clone, Debug)]
pub(super) struct NotingConnector<S>(S);

impl<S: Service<R>, R> Service<R> for NotingConnector<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, target: R) -> S::Future {
        // A connection that no request waits for any more is of no interest.
        let _: Result<_, _> = OPENS.try_with(|opens| opens.set(true));
        self.0.call(target)
    }
}
